//! A BOSH client: bodies, the requests that carry them, and their answers.

use crate::common::*;
use crate::xmpp_client::*;
use megaphone_core::{
    Conn, ListenerConfig, Mode, Outgoing, Path, Route, Service, SessionInfo, XmppConfig, XmppId, bosh,
};
use std::io::{Read, Write};
use std::net::TcpStream;

pub(crate) const FEATURES: &str = "<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>";
pub(crate) const MESSAGE: &str = "<message xmlns='jabber:client'><body>x</body></message>";
pub(crate) const EMPTY: &str = "<body xmlns='http://jabber.org/protocol/httpbind'/>";

pub(crate) fn bosh_listener() -> ListenerConfig {
    let routes = vec![Route { path: Path::parse(b"/bosh"), service: Service::Bosh }];
    ListenerConfig { mode: Mode::Http, zero_ends_request: true, routes, ..ListenerConfig::default() }
}

/// A node whose host `localhost` has BOSH sessions.
pub(crate) fn bosh_node(config: bosh::Config) -> Node {
    let node = Node::new();
    let bosh_hosts = [("localhost".into(), config)].into();
    node.system.set_xmpp_config(XmppConfig { bosh_hosts, ..XmppConfig::default() });
    node
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn terminates_with(&self, condition: &str) {
        let expected = format!("type='terminate' condition='{condition}'");
        assert!(self.body.contains(&expected), "instead of {condition}: {self:?}");
    }
}

#[track_caller]
pub(crate) fn read_answer(mut client: &TcpStream) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    let body = String::from_utf8(read_exactly(client, length.parse().unwrap())).unwrap();
    Answer { head, body }
}

/// A request with this body.
pub(crate) fn post(body: &str) -> Vec<u8> {
    post_with("HTTP/1.1", "Content-Type: text/xml\r\n", body)
}

pub(crate) fn post_with(version: &str, more: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /bosh {version}\r\nHost: chat.example\r\nContent-Length: {length}\r\n{more}\r\n{body}")
        .into_bytes()
}

pub(crate) fn body(attrs: &str, payload: &str) -> String {
    format!("<body xmlns='http://jabber.org/protocol/httpbind' {attrs}>{payload}</body>")
}

pub(crate) fn creation(to: &str) -> String {
    body(
        &format!("rid='100' to='{to}' wait='60' hold='1' xmlns:xmpp='urn:xmpp:xbosh' xmpp:version='1.0'"),
        "",
    )
}

/// A session with an owner, and what its client knows.
pub(crate) struct Both {
    pub(crate) node: Node,
    pub(crate) port: Port,
    pub(crate) starter: Process,
    pub(crate) id: XmppId,
    pub(crate) owner: Process,
    pub(crate) sid: String,
    /// The connection that it began on.
    pub(crate) client: TcpStream,
}

impl Both {
    /// Its request with the id 100 is answered.
    #[track_caller]
    pub(crate) fn new(config: bosh::Config) -> Self {
        Self::on(bosh_node(config))
    }

    #[track_caller]
    pub(crate) fn on(node: Node) -> Self {
        let starter = node.spawn();
        let port = node.listen(bosh_listener(), Some(&starter));
        let client = port.connect();
        let (id, owner, sid) = log_in(&node, &starter, &client);
        Self { node, port, starter, id, owner, sid, client }
    }

    /// A request of this session.
    pub(crate) fn request(&self, rid: u64, attrs: &str, payload: &str) -> Vec<u8> {
        post(&body(&format!("rid='{rid}' sid='{}' {attrs}", self.sid), payload))
    }

    pub(crate) fn send(&self, mut client: &TcpStream, rid: u64, payload: &str) {
        client.write_all(&self.request(rid, "", payload)).unwrap();
    }

    /// A connection that holds an empty request.
    pub(crate) fn poll(&self, rid: u64) -> TcpStream {
        let client = self.port.connect();
        self.send(&client, rid, "");
        client
    }

    #[track_caller]
    pub(crate) fn say(&self, xml: &str) {
        self.node.say(self.id, &self.owner, xml);
    }

    /// So many connections have handed their requests to the session.
    #[track_caller]
    pub(crate) fn holds(&self, requests: usize) {
        let phase = |conn: &Conn| self.node.system.info(*conn).map(|info| info.phase);
        eventually("requests are held", || {
            self.node.system.connections().iter().filter(|conn| phase(conn) == Ok("held")).count() == requests
        });
    }

    pub(crate) fn conn(&self) -> Conn {
        session_of(self.id)
    }

    pub(crate) fn info(&self) -> SessionInfo<Pid> {
        self.node.system.session_info(self.conn()).unwrap()
    }

    /// The session is over and has left nothing.
    #[track_caller]
    pub(crate) fn forgotten(&self) {
        eventually("the session is gone", || self.node.system.stats().sessions == 0);
        assert_eq!(self.node.system.sessions(), []);
        assert_eq!(self.node.watches(), 0);
    }
}

pub(crate) fn session_of(id: XmppId) -> Conn {
    match id {
        XmppId::Bosh(session) => session,
        other => panic!("instead of a BOSH session: {other:?}"),
    }
}

/// Creates a session on this connection, and gives it an owner: its name, the owner, and the client's name for it.
#[track_caller]
pub(crate) fn log_in(node: &Node, starter: &Process, mut client: &TcpStream) -> (XmppId, Process, String) {
    client.write_all(&post(&creation("localhost"))).unwrap();
    let (id, owner) = (starter.started_xmpp(), node.spawn());
    node.own(id, &owner);
    assert_eq!(owner.event(), "start stream:stream");
    assert!(node.xmpp_send(id, &owner, Outgoing::Header(&header())).is_none());
    assert!(node.xmpp_send(id, &owner, Outgoing::Element(&element(FEATURES))).is_none());
    node.xmpp_flush(id, &owner);
    let answer = read_answer(client).body;
    let sid = answer.split(" sid='").nth(1).and_then(|rest| rest.split('\'').next()).expect("a sid");
    (id, owner, sid.to_owned())
}
