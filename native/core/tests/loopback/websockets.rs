//! XMPP over WebSocket, where an HTTP listener has a route for it.

use crate::common::*;
use crate::xmpp_client::*;
use megaphone_core::stream;
use megaphone_core::{
    ListenerConfig, Mode, Outgoing, Path, RequestFacts, Route, Service, XmppConfig, XmppId,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const OPEN: &str = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>";

fn http() -> ListenerConfig {
    let routes = vec![Route { path: Path::parse(b"/ws"), service: Service::WebSocket }];
    ListenerConfig { mode: Mode::Http, zero_ends_request: true, routes, ..ListenerConfig::default() }
}

fn upgrade(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

fn served(node: &Node) -> (Process, TcpStream) {
    let starter = node.spawn();
    let client = node.listen(http(), Some(&starter)).connect();
    (starter, client)
}

/// What an HTTP server answers, head only.
fn read_head(mut client: &TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A client whose upgrade was accepted, and the starter of its listener.
pub(crate) fn upgraded(node: &Node) -> (Process, TcpStream) {
    let (starter, mut client) = served(node);
    client.write_all(upgrade("/ws", "").as_bytes()).unwrap();
    assert!(read_head(&client).starts_with("HTTP/1.1 101 "));
    (starter, client)
}

/// A session that waits for its owner.
pub(crate) fn opened(node: &Node) -> (XmppId, TcpStream) {
    let (starter, mut client) = served(node);
    client.write_all(upgrade("/ws", "Sec-WebSocket-Protocol: chat, xmpp\r\n").as_bytes()).unwrap();
    let head = read_head(&client);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    assert!(head.contains("Sec-WebSocket-Protocol: xmpp\r\n"), "{head}");
    client.write_all(&text(OPEN)).unwrap();
    (starter.started_xmpp(), client)
}

fn session(node: &Node) -> (XmppId, Process, TcpStream) {
    let (id, client) = opened(node);
    let owner = node.spawn();
    node.own(id, &owner);
    assert_eq!(owner.event(), "start stream:stream");
    node.xmpp_flush(id, &owner);
    (id, owner, client)
}

/// The owner of the only session was told of so many bytes behind the first message, asked, and got no event.
fn read_by(node: &Node, owner: &Process, bytes: u64) {
    let conn = node.system.connections()[0];
    let traffic = node.info(conn).traffic;
    let until = bytes
        + upgrade("/ws", "Sec-WebSocket-Protocol: chat, xmpp\r\n").len() as u64
        + text(OPEN).len() as u64;
    assert!(traffic.received <= until);
    eventually("it was told and asked", || {
        assert!(owner.is_quiet());
        node.info(conn).traffic.received >= until
    });
}

#[test]
fn a_session_from_its_open_to_its_close() {
    let node = Node::new();
    let (id, owner, mut client) = session(&node);
    let header = header();
    assert!(node.xmpp_send(id, &owner, Outgoing::Header(&header)).is_none());
    node.say(id, &owner, "<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>");
    assert_eq!(read_text(&client), "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' id='7'/>");
    assert!(read_text(&client).starts_with("<stream:features xmlns:stream="));
    client.write_all(&text("<iq id='1'/>")).unwrap();
    assert_eq!(owner.event(), "<iq id='1'/>");
    node.say(id, &owner, "<iq id='1'/>");
    assert_eq!(read_text(&client), "<iq xmlns='jabber:client' id='1'/>");
    client.write_all(&text("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")).unwrap();
    assert_eq!(owner.event(), "end stream:stream");
    assert!(node.xmpp_send(id, &owner, Outgoing::End(b"stream:stream")).is_none());
    node.xmpp_close(id, &owner);
    assert_eq!(read_text(&client), "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>");
    assert_eq!(read_frame(&client), (8, 1000_u16.to_be_bytes().to_vec()));
    drop(client);
    node.emptied();
}

#[test]
fn a_server_that_just_closes_says_so_in_both_ways() {
    let node = Node::new();
    let (id, owner, client) = session(&node);
    assert!(node.xmpp_send(id, &owner, Outgoing::Header(&header())).is_none());
    node.xmpp_close(id, &owner);
    assert!(read_text(&client).starts_with("<open"));
    assert!(read_text(&client).starts_with("<close"));
    assert_eq!(read_frame(&client).0, 8);
}

#[test]
fn the_first_message_may_come_with_the_upgrade() {
    let node = Node::new();
    let (starter, mut client) = served(&node);
    let forwarded = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 198.51.100.7\r\n";
    let mut bytes = upgrade("/ws?x=1", forwarded).into_bytes();
    bytes.extend(text(OPEN));
    client.write_all(&bytes).unwrap();
    let id = starter.started_xmpp();
    assert!(matches!(id, XmppId::WebSocket(_)));
    let facts = node.system.xmpp_facts(id).unwrap();
    let forwarded_for = (*b"198.51.100.7").into();
    let expected = RequestFacts { host: (*b"chat.example").into(), path: (*b"/ws").into(), forwarded_for };
    assert_eq!(facts.request, Some(expected));
    assert_eq!(facts.peer, megaphone_core::Address::Ip(client.local_addr().unwrap()));
}

#[test]
fn other_requests_go_to_their_handler() {
    let node = Node::new();
    let http_1_0 = upgrade("/ws", "").replace("HTTP/1.1", "HTTP/1.0");
    for request in
        [http_1_0, upgrade("/other", ""), "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n".into(), upgrade("/ws/x", "")]
    {
        let (starter, mut client) = served(&node);
        client.write_all(request.as_bytes()).unwrap();
        starter.started();
    }
}

#[test]
fn an_upgrade_after_an_answered_request_needs_no_handler_either() {
    let node = Node::new();
    let (starter, mut client) = served(&node);
    client.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let conn = starter.started();
    let handler = node.spawn();
    node.recv(conn, &handler, 0).unwrap();
    let wait = node.wait_read(conn, &handler, 0);
    client.write_all(upgrade("/ws", "").as_bytes()).unwrap();
    wait.woken();
    assert!(node.try_read(conn, &handler, 0).is_err(), "it is the handler's no longer");
    assert!(read_head(&client).starts_with("HTTP/1.1 101 "));
}

#[test]
fn refusals_say_why() {
    let node = Node::new();
    let origins = vec![String::from("https://good.example")];
    node.system.set_xmpp_config(XmppConfig { origins, ..XmppConfig::default() });
    for (request, status) in [
        (upgrade("/ws", "Origin: https://evil.example\r\n"), "403"),
        (upgrade("/ws", "").replace("Version: 13", "Version: 8"), "426"),
        (upgrade("/ws", "").replace("dGhl", ""), "400"),
    ] {
        let (_starter, mut client) = served(&node);
        client.write_all(request.as_bytes()).unwrap();
        let head = read_head(&client);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let says_what_to_upgrade_to =
            head.contains("\r\nUpgrade: websocket\r\n") && head.contains("\r\nSec-WebSocket-Version: 13\r\n");
        assert_eq!(says_what_to_upgrade_to, status == "426", "{head}");
    }
    let (_starter, mut client) = served(&node);
    client.write_all(upgrade("/ws", "Origin: https://GOOD.example\r\n").as_bytes()).unwrap();
    assert!(read_head(&client).starts_with("HTTP/1.1 101 "));
}

#[test]
fn what_is_no_stream_is_refused_in_messages() {
    let node = Node::new();
    for (message, condition) in [("<iq/>", "invalid-xml"), ("<open", "not-well-formed")] {
        let (starter, mut client) = served(&node);
        client.write_all(upgrade("/ws", "").as_bytes()).unwrap();
        read_head(&client);
        client.write_all(&text(message)).unwrap();
        assert!(read_text(&client).starts_with("<open "));
        let error = read_text(&client);
        assert!(error.contains(&format!("<{condition} xmlns=")), "{error}");
        assert!(read_text(&client).starts_with("<close "));
        assert_eq!(read_frame(&client).0, 8);
        assert!(starter.is_quiet());
    }
    node.emptied();
}

#[test]
fn a_message_longer_than_a_stanza_may_be_is_a_stream_error() {
    let node = Node::new();
    node.set_streams(stream::Config { max_stanza: 1000, ..stream::Config::default() });
    let (_id, owner, mut client) = session(&node);
    client.write_all(&text(&format!("<a>{}</a>", "x".repeat(993)))).unwrap();
    assert_eq!(owner.event(), "error policy-violation: XML stanza is too big");
}

#[test]
fn a_broken_frame_ends_the_session_with_its_close_code() {
    let node = Node::new();
    let (_id, owner, mut client) = session(&node);
    client.write_all(b"\x81\x01x").unwrap();
    assert_eq!(owner.event(), "gone");
    assert_eq!(read_frame(&client), (8, 1002_u16.to_be_bytes().to_vec()));
    drop(client);
    node.emptied();
}

#[test]
fn a_client_that_closes_gets_its_code_back() {
    let node = Node::new();
    let (_id, owner, mut client) = session(&node);
    client.write_all(&masked(8, &1001_u16.to_be_bytes())).unwrap();
    assert_eq!(owner.event(), "gone");
    assert_eq!(read_frame(&client), (8, 1001_u16.to_be_bytes().to_vec()));
}

#[test]
fn pings_are_answered_when_the_owner_asks_and_are_nothing_to_it() {
    let node = Node::new();
    let (_id, owner, mut client) = session(&node);
    client.write_all(&masked(9, b"are you there")).unwrap();
    read_by(&node, &owner, 19);
    assert_eq!(read_frame(&client), (10, b"are you there".to_vec()));
}

#[test]
fn a_client_that_reads_no_pongs_cannot_have_them_piled_up() {
    const PINGS: usize = 40_000;
    let node = Node::new();
    let (_id, owner, client) = session(&node);
    let conn = node.system.connections()[0];
    narrow(&node, conn, &client);
    let pings = [masked(9, &[b'x'; 125]).repeat(PINGS), masked(9, b"last")].concat();
    let writer = write_in_background(&client, pings);
    eventually("pongs wait, or all is taken", || {
        assert!(owner.is_quiet());
        writer.is_finished() || node.info(conn).outbound >= 64 * 1024
    });
    let reader = std::thread::spawn(move || {
        // Of several that come together the last is answered (RFC 6455 section 5.5.3).
        loop {
            let (opcode, payload) = read_frame(&client);
            assert_eq!(opcode, 10);
            if payload == b"last" {
                return client;
            }
        }
    });
    eventually("all are answered", || {
        assert!(owner.is_quiet());
        let outbound = node.info(conn).outbound;
        assert!(outbound < 256 * 1024, "{outbound}");
        reader.is_finished()
    });
    let _client = reader.join().unwrap();
    writer.join().unwrap();
    assert!(owner.is_quiet());
}

#[test]
fn a_silent_client_is_pinged_and_then_given_up() {
    let node = Node::new();
    let ping_interval = Some(Duration::from_millis(200));
    node.set_streams(stream::Config { ping_interval, ..stream::Config::default() });
    let (_id, owner, mut client) = session(&node);
    assert_eq!(read_frame(&client), (9, Vec::new()));
    client.write_all(&masked(10, b"")).unwrap();
    read_by(&node, &owner, 6);
    assert_eq!(read_frame(&client), (9, Vec::new()), "a pong has it wait for another interval");
    assert_eq!(owner.event(), "gone", "no pong, no session");
    assert_eq!(read_frame(&client).0, 8);
}

#[test]
fn a_client_is_not_silent_while_its_owner_is_behind() {
    let node = Node::new();
    let ping_interval = Some(Duration::from_millis(200));
    node.set_streams(stream::Config { ping_interval, ..stream::Config::default() });
    let (id, owner, mut client) = session(&node);
    client.write_all(&text("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")).unwrap();
    assert!(owner.event().starts_with("<auth "));
    let (_id, other, _client) = session(&node);
    assert_eq!(other.event(), "gone", "so much time is over");
    client.write_all(&text("<iq/>")).unwrap();
    node.xmpp_flush(id, &owner);
    assert_eq!(owner.event(), "<iq/>");
}

#[test]
fn silence_ends_a_session_that_is_not_pinged() {
    let node = Node::new();
    let websocket_timeout = Duration::from_millis(200);
    let config = stream::Config { ping_interval: None, websocket_timeout, ..stream::Config::default() };
    node.set_streams(config);
    let (_id, owner, _client) = session(&node);
    assert_eq!(owner.event(), "gone");
}

#[test]
fn a_path_is_the_one_that_ejabberd_http_takes_it_for() {
    let node = Node::new();
    for path in ["/ws/", "//ws", "/%77s", "/x/../ws", "http://chat.example/ws"] {
        let (_starter, mut client) = served(&node);
        client.write_all(upgrade(path, "").as_bytes()).unwrap();
        let head = read_head(&client);
        assert!(head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
    }
}

#[test]
fn a_client_from_before_rfc_7395_has_a_stream_as_over_tcp() {
    let node = Node::new();
    let (starter, mut client) = upgraded(&node);
    client.write_all(&masked(1, HEADER)).unwrap();
    let (id, owner) = (starter.started_xmpp(), node.spawn());
    node.own(id, &owner);
    assert_eq!(owner.event(), "start stream:stream");
    assert!(node.xmpp_send(id, &owner, Outgoing::Header(&header())).is_none());
    node.say(id, &owner, "<iq id='1'/>");
    let mut all = String::new();
    while !all.ends_with("<iq id='1'/>") {
        all.push_str(&read_text(&client));
    }
    assert!(all.contains("<stream:stream id='7'>"), "{all}");
    client.write_all(&text("<presence/>")).unwrap();
    assert_eq!(owner.event(), "<presence/>");
    client.write_all(&text("</stream:stream>")).unwrap();
    assert_eq!(owner.event(), "end stream:stream");
    node.xmpp_close(id, &owner);
    while read_frame(&client).0 != 8 {}
}
