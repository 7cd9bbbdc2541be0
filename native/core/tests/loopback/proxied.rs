//! Listeners behind a proxy: connections that begin with a PROXY header.

use crate::common::*;
use crate::xmpp_client::HEADER;
use megaphone_core::{
    Address, Conn, Error, ListenerConfig, Mode, Network, Notice, ProxyProtocol, ProxyRefusal, XmppId,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 5222\r\n";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// IPv6 in the binary form, with something behind the addresses.
fn binary() -> Vec<u8> {
    let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x27";
    let source = "2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
    [&fixed[..], &source, &[1; 16], b"\xdc\x04\x14\x66", b"\xea\0\0"].concat()
}

fn behind_proxy(mode: Mode) -> ListenerConfig {
    ListenerConfig { mode, proxy_protocol: Some(ProxyProtocol::default()), ..ListenerConfig::default() }
}

fn trusting(networks: &[(&str, u32)]) -> ListenerConfig {
    let network = |(ip, len): &(&str, u32)| Network::new(ip.parse().unwrap(), *len).unwrap();
    let trusted = Some(networks.iter().map(network).collect());
    let proxy_protocol = Some(ProxyProtocol { trusted, ..ProxyProtocol::default() });
    ListenerConfig { proxy_protocol, ..ListenerConfig::default() }
}

fn ip(text: &str) -> Address {
    Address::Ip(text.parse::<SocketAddr>().unwrap())
}

/// A connection whose client has sent this.
fn connected(node: &Node, config: ListenerConfig, bytes: &[u8]) -> (Process, TcpStream) {
    let starter = node.spawn();
    let mut client = node.listen(config, Some(&starter)).connect();
    client.write_all(bytes).unwrap();
    (starter, client)
}

#[track_caller]
fn ends(node: &Node, conn: Conn) -> (Address, Address) {
    (node.system.peer(conn).expect("peer"), node.system.local(conn).expect("local"))
}

/// Until the connection is closed. It may be by a reset, since bytes were not read.
#[track_caller]
fn refused(mut client: &TcpStream) {
    let mut byte = [0];
    let end = client.read(&mut byte);
    assert!(
        end.as_ref().map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |n| *n == 0)
    );
}

#[track_caller]
fn refusal(node: &Node) -> ProxyRefusal {
    match node.notice() {
        Notice::ProxyRefused { why, peer: Some(peer), .. } if peer.ip().is_loopback() => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_raw_connection_has_the_headers_addresses_and_the_bytes_behind_it() {
    let node = Node::new();
    for (header, source, destination) in [
        (LINE.to_vec(), "192.0.2.7:56324", "198.51.100.1:5222"),
        (binary(), "[2001:db8::7]:56324", "[101:101:101:101:101:101:101:101]:5222"),
    ] {
        let (starter, _client) = connected(&node, behind_proxy(Mode::Raw), &[&header, GET].concat());
        let conn = starter.started();
        assert_eq!(ends(&node, conn), (ip(source), ip(destination)));
        node.system.handler_started(conn, starter.pid, &mut node.sink()).unwrap();
        assert_eq!(node.recv(conn, &starter, GET.len()), Ok(GET.to_vec()));
        assert_eq!(ends(&node, conn), (ip(source), ip(destination)), "for its life");
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let node = Node::new();
    let (starter, mut client) = connected(&node, behind_proxy(Mode::Http), b"");
    for byte in [&binary(), GET].concat() {
        assert!(starter.is_quiet());
        client.write_all(&[byte]).unwrap();
    }
    assert_eq!(ends(&node, starter.started()).0, ip("[2001:db8::7]:56324"));
}

#[test]
fn a_request_and_those_that_follow_have_the_headers_address() {
    let node = Node::new();
    let (starter, mut client) = connected(&node, behind_proxy(Mode::Http), &[LINE, GET].concat());
    let conn = starter.started();
    node.system.handler_started(conn, starter.pid, &mut node.sink()).unwrap();
    assert_eq!(node.recv(conn, &starter, 0).map(|head| head.len()), Ok(GET.len()));
    let _ = node.wait_read(conn, &starter, 0);
    assert!(node.system.park(conn, starter.pid, &mut node.sink()).unwrap());
    client.write_all(GET).unwrap();
    assert_eq!(ends(&node, starter.started()).0, ip("192.0.2.7:56324"), "without a header of its own");
}

#[test]
fn a_stream_has_the_headers_addresses() {
    let node = Node::new();
    let (starter, _client) = connected(&node, behind_proxy(Mode::Xmpp), &[LINE, HEADER].concat());
    let id = starter.started_xmpp();
    let facts = node.system.xmpp_facts(id).unwrap();
    assert_eq!((facts.peer, facts.local), (ip("192.0.2.7:56324"), ip("198.51.100.1:5222")));
    let owner = node.spawn();
    node.own(id, &owner);
    assert_eq!(owner.event(), "start stream:stream");
    let XmppId::Tcp(conn) = id else { panic!("{id:?}") };
    assert_eq!(ends(&node, conn).0, ip("192.0.2.7:56324"));
}

#[test]
fn a_connection_of_the_proxys_own_has_the_sockets_addresses() {
    let node = Node::new();
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let (starter, client) = connected(&node, behind_proxy(Mode::Raw), header);
        let (peer, local) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        assert_eq!(ends(&node, starter.started()), (Address::Ip(peer), Address::Ip(local)));
    }
}

#[test]
fn health_checks_leave_no_trace() {
    let node = Node::new();
    for mode in [Mode::Http, Mode::Xmpp] {
        for check in [&b""[..], LOCAL, &LOCAL[..3], b"PROXY UNKNOWN\r\n", b"PRO"] {
            let (starter, client) = connected(&node, behind_proxy(mode), check);
            eventually("it has come", || node.system.stats().connections == 1);
            drop(client);
            node.emptied();
            assert!(starter.is_quiet());
        }
    }
    assert_eq!(node.notices(), []);
}

fn awaiting_input() -> ListenerConfig {
    ListenerConfig { local_awaits_input: true, ..behind_proxy(Mode::Raw) }
}

#[test]
fn a_check_starts_no_handler_where_its_first_byte_is_awaited() {
    let node = Node::new();
    for check in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let (starter, client) = connected(&node, awaiting_input(), check);
        eventually("it has come", || node.system.stats().connections == 1);
        drop(client);
        node.emptied();
        assert!(starter.is_quiet());
    }
    assert_eq!(node.notices(), []);
}

#[test]
fn what_speaks_is_served_where_a_checks_first_byte_is_awaited() {
    let node = Node::new();
    let (starter, client) = connected(&node, awaiting_input(), LOCAL);
    (&client).write_all(b"x").unwrap();
    assert_eq!(ends(&node, starter.started()).0, Address::Ip(client.local_addr().unwrap()));
    let (starter, _client) = connected(&node, awaiting_input(), LINE);
    assert_eq!(ends(&node, starter.started()).0, ip("192.0.2.7:56324"), "a client need not speak");
}

#[test]
fn a_silent_check_is_closed_in_time_without_a_word() {
    let node = Node::new();
    let short = ProxyProtocol { header_timeout: Duration::from_millis(50), ..ProxyProtocol::default() };
    let config = ListenerConfig { proxy_protocol: Some(short), ..awaiting_input() };
    let (starter, client) = connected(&node, config, LOCAL);
    refused(&client);
    assert!(starter.is_quiet());
    assert_eq!(node.notices(), []);
}

#[test]
fn what_is_no_header_is_refused_and_told_once() {
    let node = Node::new();
    for bytes in [GET, HEADER, b"\x16\x03\x01", b"PROXY TCP4 1.2.3.4\r\n"] {
        for mode in [Mode::Raw, Mode::Http, Mode::Xmpp] {
            let (starter, client) = connected(&node, behind_proxy(mode), bytes);
            refused(&client);
            node.emptied();
            assert!(starter.is_quiet());
        }
    }
    assert_eq!(refusal(&node), ProxyRefusal::Header(megaphone_core::proxy_header::Error::Signature));
    assert_eq!(node.notices(), [], "once a minute");
}

#[test]
fn a_peer_that_is_not_trusted_is_refused_whatever_it_sends() {
    let node = Node::new();
    for bytes in [&b""[..], GET, LINE, LOCAL] {
        let (starter, client) = connected(&node, trusting(&[("10.0.0.0", 8), ("::1", 128)]), b"");
        // It may be closed already.
        let _ = (&client).write_all(bytes);
        refused(&client);
        node.emptied();
        assert!(starter.is_quiet());
    }
    assert_eq!(refusal(&node), ProxyRefusal::Untrusted);
    assert_eq!(node.notices(), []);
    let (starter, _client) = connected(&node, trusting(&[("10.0.0.0", 8), ("127.0.0.0", 8)]), LINE);
    assert_eq!(ends(&node, starter.started()).0, ip("192.0.2.7:56324"), "one of the others is");
}

/// As many bytes as the header may have would take minutes.
#[test]
fn a_header_that_is_late_is_refused_however_steadily_it_comes() {
    let node = Node::new();
    let proxy_protocol =
        Some(ProxyProtocol { header_timeout: Duration::from_millis(200), ..ProxyProtocol::default() });
    let config = ListenerConfig { proxy_protocol, ..ListenerConfig::default() };
    let (starter, mut client) = connected(&node, config, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x08\0");
    while client.write_all(b"x").is_ok() {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    node.emptied();
    assert!(starter.is_quiet());
    assert_eq!(refusal(&node), ProxyRefusal::Timeout);
}

#[test]
fn who_waits_for_its_header_is_nobodys_and_holds_what_it_has_sent() {
    let node = Node::new();
    let (starter, client) = connected(&node, behind_proxy(Mode::Raw), &LINE[..20]);
    eventually("20 bytes", || node.system.connections().iter().any(|conn| node.info(*conn).inbound == 20));
    let conn = node.system.connections()[0];
    let info = node.info(conn);
    assert_eq!((info.phase, info.owner, info.bytes), ("proxy", None, node.system.stats().bytes_per_slot));
    let process = node.spawn();
    assert_eq!(node.try_read(conn, &process, 0).map(|_| ()), Err(Error::Closed));
    assert_eq!(node.send(conn, &process, b"x"), Err(Error::Closed));
    node.system.abort(conn, &mut node.sink()).unwrap();
    refused(&client);
    assert!(starter.is_quiet());
}

#[test]
fn addresses_cost_only_who_has_them() {
    let node = Node::new();
    let of = |config, bytes: &[u8]| {
        let (starter, client) = connected(&node, config, bytes);
        let bytes = node.info(starter.started()).bytes;
        drop(client);
        bytes
    };
    let direct = of(ListenerConfig::default(), b"");
    assert_eq!(of(behind_proxy(Mode::Raw), LOCAL), direct);
    let proxied = of(behind_proxy(Mode::Raw), LINE);
    assert!(proxied > direct && proxied <= direct + 96, "{direct} and {proxied} bytes");
}

#[test]
fn who_accepts_gets_no_connection_that_nobody_knows() {
    let node = Node::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let listening = node.system.listen(socket.into(), behind_proxy(Mode::Accept), None);
    assert_eq!(listening, Err(Error::Invalid));
}
