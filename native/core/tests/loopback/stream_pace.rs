//! Nothing waits for ever: whatever the pieces that a client sends in, the pace of its owner, throttles that come and go,
//! and a client that reads late, all that is sent on a stream arrives, in order.

use crate::bosh_client::*;
use crate::common::*;
use crate::xmpp_client::*;
use megaphone_core::bosh::Config;
use megaphone_core::{Conn, ListenerConfig, Mode, Outgoing, Rate, XmppId};
use std::io::{Read, Write};
use std::net::TcpStream;

const STANZAS: usize = 400;
const AUTH: &str = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
/// What an owner may have queued and not flushed.
const BEHIND: u32 = 16;

#[test]
fn a_stream_carries_all_at_any_pace() {
    let listener = ListenerConfig { mode: Mode::Xmpp, ..ListenerConfig::default() };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let listener = listener.clone();
            scope.spawn(move || {
                let node = Node::new();
                let starter = node.spawn();
                let client = node.listen(listener, Some(&starter)).connect();
                (&client).write_all(HEADER).unwrap();
                let id = starter.started_xmpp();
                let XmppId::Tcp(conn) = id else { panic!("{id:?}") };
                let mut session = Session::new(&node, id, conn, &client, seed);
                let writer = session.writer(&client, |stanza| stanza.as_bytes().to_vec(), b"  ");
                let reader = std::thread::spawn(move || {
                    let mut all = String::new();
                    (&client).read_to_string(&mut all).unwrap();
                    let echoes = all.split_inclusive("</iq>").filter(|echo| echo.ends_with("</iq>"));
                    echoes.map(str::to_owned).collect()
                });
                session.run(reader);
                writer.join().unwrap();
            });
        }
    });
}

#[test]
fn a_websocket_carries_all_at_any_pace() {
    std::thread::scope(|scope| {
        for seed in 4..8 {
            scope.spawn(move || {
                let node = Node::new();
                let (id, client) = crate::websockets::opened(&node);
                let XmppId::WebSocket(conn) = id else { panic!("{id:?}") };
                let mut session = Session::new(&node, id, conn, &client, seed);
                let writer = session.writer(&client, text, &masked(9, b"ping"));
                let reader = std::thread::spawn(move || {
                    let mut echoes = Vec::new();
                    loop {
                        match read_frame(&client) {
                            (1, message) => echoes.push(String::from_utf8(message).unwrap()),
                            (8, _) => return echoes,
                            (opcode, _) => assert_eq!(opcode, 10),
                        }
                    }
                });
                session.run(reader);
                writer.join().unwrap();
            });
        }
    });
}

#[test]
fn a_bosh_session_carries_all_at_any_pace() {
    const REQUESTS: u64 = 60;
    let both = Both::new(Config::default());
    let mut random = Random(8);
    let mut sent = 0;
    let mut requests = Vec::new();
    for rid in 101..101 + REQUESTS {
        let stanzas = sent..sent + random.below(50);
        sent = stanzas.end;
        let payload: String = stanzas.map(|n| format!("<presence id='{n}'/>")).collect();
        requests.push(both.request(rid, "", &payload));
    }
    // Polls, until everything is back.
    requests.extend((101 + REQUESTS..1000).map(|rid| both.request(rid, "", "")));
    let connections = [both.port.connect(), both.port.connect()];
    let client = std::thread::spawn(move || {
        let mut echoes = Vec::new();
        for (at, request) in requests.iter().enumerate() {
            (&connections[at % 2]).write_all(request).unwrap();
            if at > 0 {
                let body = read_answer(&connections[(at - 1) % 2]).body;
                let ids = body.split(" id='").skip(1).filter_map(|rest| rest.split('\'').next());
                echoes.extend(ids.map(|id| id.parse::<usize>().unwrap()));
            }
            if echoes.len() == sent {
                break;
            }
        }
        echoes
    });
    let mut untaken = 0;
    for n in 0..sent {
        let event = both.owner.event();
        assert!(event.contains(&format!(" id='{n}'")), "{n}: {event}");
        assert!(both.node.xmpp_send(both.id, &both.owner, Outgoing::Element(&element(&event))).is_none());
        untaken += 1;
        if untaken == BEHIND || random.below(4) == 0 || n + 1 == sent {
            both.node.xmpp_flush(both.id, &both.owner);
            untaken = 0;
        }
        if random.below(100) == 0 {
            let rate = Rate { bytes_per_second: 20_000, burst: 1 };
            let rate = (random.below(2) == 0).then_some(rate);
            let sink = &mut both.node.sink();
            both.node.system.xmpp_shaper(both.id, both.owner.pid, rate, sink).unwrap();
        }
    }
    let echoes: Vec<usize> = client.join().unwrap();
    assert!(echoes.iter().copied().eq(0..sent), "{echoes:?}");
}

struct Session<'a> {
    node: &'a Node,
    id: XmppId,
    owner: Process,
    random: Random,
    /// Events since it flushed.
    untaken: u32,
}

impl<'a> Session<'a> {
    fn new(node: &'a Node, id: XmppId, conn: Conn, client: &TcpStream, seed: u64) -> Self {
        let owner = node.spawn();
        node.own(id, &owner);
        assert_eq!(owner.event(), "start stream:stream");
        narrow(node, conn, client);
        Self { node, id, owner, random: Random(seed), untaken: 1 }
    }

    /// A client that sends its stanzas in pieces of any size, with something between them that is no event.
    fn writer(
        &mut self,
        client: &TcpStream,
        framed: impl Fn(&str) -> Vec<u8>,
        between: &[u8],
    ) -> std::thread::JoinHandle<()> {
        let mut bytes = Vec::new();
        for n in 0..STANZAS {
            bytes.extend(framed(&stanza(n)));
            if self.random.below(3) == 0 {
                bytes.extend_from_slice(between);
            }
            if self.random.below(20) == 0 {
                bytes.extend(framed(AUTH));
            }
        }
        let (mut client, mut random) = (client.try_clone().unwrap(), Random(self.random.next()));
        std::thread::spawn(move || {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(1 + random.below(20_000)));
                client.write_all(piece).unwrap();
                rest = behind;
            }
        })
    }

    /// Echoes every stanza; the reader has to have got all of them.
    fn run(mut self, reader: std::thread::JoinHandle<Vec<String>>) {
        let mut echoed = 0;
        while echoed < STANZAS {
            let event = self.owner.event();
            self.untaken += 1;
            if event == AUTH {
                self.flush();
                continue;
            }
            assert_eq!(event, stanza(echoed));
            echoed += 1;
            self.send(&event);
            if self.untaken >= BEHIND || self.random.below(4) == 0 {
                self.flush();
            }
            if self.random.below(40) == 0 {
                let rate = Rate { bytes_per_second: 1_000_000, burst: 10_000 };
                let rate = (self.random.below(2) == 0).then_some(rate);
                let sink = &mut self.node.sink();
                self.node.system.xmpp_shaper(self.id, self.owner.pid, rate, sink).unwrap();
            }
        }
        self.node.xmpp_close(self.id, &self.owner);
        let echoes: Vec<String> = reader.join().unwrap();
        assert_eq!(echoes.len(), STANZAS);
        for (n, echo) in echoes.iter().enumerate() {
            assert!(echo.contains(&format!(" id='{n}'>")), "{n}: {echo}");
        }
    }

    fn send(&mut self, xml: &str) {
        let stanza = element(xml);
        while let Some(wait) = self.node.xmpp_send(self.id, &self.owner, Outgoing::Element(&stanza)) {
            wait.woken();
        }
    }

    fn flush(&mut self) {
        self.untaken = 0;
        self.node.xmpp_flush(self.id, &self.owner);
    }
}

fn stanza(n: usize) -> String {
    format!("<iq id='{n}'>{}</iq>", "x".repeat(1 + n * 37 % 3000))
}
