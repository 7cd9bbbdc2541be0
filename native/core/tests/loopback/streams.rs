//! XMPP streams over TCP.

use crate::common::*;
use crate::xmpp_client::*;
use megaphone_core::{Error, ListenerConfig, Mode, Outgoing, Rate, XmppId, stream};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const AUTH: &str = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>x</auth>";

fn xmpp() -> ListenerConfig {
    ListenerConfig { mode: Mode::Xmpp, ..ListenerConfig::default() }
}

/// A client that has sent `bytes`, and the starter of its listener.
fn client(node: &Node, bytes: &[u8]) -> (Process, TcpStream) {
    client_with(node, xmpp(), bytes)
}

fn client_with(node: &Node, config: ListenerConfig, bytes: &[u8]) -> (Process, TcpStream) {
    let starter = node.spawn();
    let mut client = node.listen(config, Some(&starter)).connect();
    client.write_all(bytes).unwrap();
    (starter, client)
}

/// An open stream, its owner, who has taken the header, and its client.
pub(crate) fn session(node: &Node) -> (XmppId, Process, TcpStream) {
    session_with(node, xmpp())
}

fn session_with(node: &Node, config: ListenerConfig) -> (XmppId, Process, TcpStream) {
    let (starter, client) = client_with(node, config, HEADER);
    let (id, owner) = (starter.started_xmpp(), node.spawn());
    node.own(id, &owner);
    assert_eq!(owner.event(), "start stream:stream");
    node.xmpp_flush(id, &owner);
    (id, owner, client)
}

#[test]
fn an_owner_starts_when_the_header_is_whole_and_gets_all_from_there_on() {
    let node = Node::new();
    let (starter, mut client) = client(&node, &HEADER[..HEADER.len() - 1]);
    eventually("all but the last byte", || {
        node.system
            .connections()
            .iter()
            .any(|conn| node.info(*conn).traffic.received as usize == HEADER.len() - 1)
    });
    assert!(starter.is_quiet());
    client.write_all(b"><presence/> <iq id='1'/>").unwrap();
    let id = starter.started_xmpp();
    let owner = node.spawn();
    node.own(id, &owner);
    assert_eq!(owner.event(), "start stream:stream");
    assert_eq!(owner.event(), "<presence/>");
    assert_eq!(owner.event(), "<iq id='1'/>");
}

#[test]
fn a_header_that_is_a_whole_element_is_followed_by_its_end() {
    let node = Node::new();
    let whole = [&HEADER[..HEADER.len() - 1], b"/>"].concat();
    let (starter, _client) = client(&node, &whole);
    let (id, owner) = (starter.started_xmpp(), node.spawn());
    node.own(id, &owner);
    assert_eq!(owner.event(), "start stream:stream");
    assert_eq!(owner.event(), "end stream:stream");
}

#[test]
fn events_behind_those_that_were_taken_come_without_another_word() {
    let node = Node::new();
    let (_id, owner, mut client) = session(&node);
    let all: String = (0..100).map(|n| format!("<iq id='{n}'/>")).collect();
    client.write_all(format!("{all}</stream:stream>").as_bytes()).unwrap();
    for n in 0..100 {
        assert_eq!(owner.event(), format!("<iq id='{n}'/>"));
    }
    assert_eq!(owner.event(), "end stream:stream");
}

#[test]
fn what_is_no_stream_is_refused_with_a_whole_stream_and_nobody_starts() {
    let node = Node::new();
    for (bytes, condition) in [
        (&b"GET / HTTP/1.1\r\n"[..], "not-well-formed"),
        (b"<stream:stream><!-- x -->", "not-well-formed"),
        (b"<?xml version='1.0'?><!DOCTYPE x><a/>", "restricted-xml"),
        (b"\xff\xfe<\0", "unsupported-encoding"),
    ] {
        let (starter, client) = client(&node, bytes);
        let answer = String::from_utf8(read_to_end(&client)).unwrap();
        assert!(answer.starts_with("<?xml version='1.0'?><stream:stream id='"), "{answer}");
        assert!(answer.contains(&format!("<stream:error><{condition} xmlns=")), "{bytes:?}: {answer}");
        assert!(answer.ends_with("</stream:error></stream:stream>"), "{answer}");
        assert!(starter.is_quiet());
    }
    node.emptied();
}

#[test]
fn a_stream_without_a_header_in_time_is_told_so() {
    let node = Node::new();
    let header_timeout = Duration::from_millis(100);
    node.set_streams(stream::Config { header_timeout, ..stream::Config::default() });
    let (_starter, client) = client(&node, b"<?xml version='1.0'?>");
    let answer = String::from_utf8(read_to_end(&client)).unwrap();
    assert!(answer.contains("<connection-timeout xmlns="), "{answer}");
    node.emptied();
}

#[test]
fn half_a_stanza_ends_the_session_when_the_rest_does_not_come() {
    let node = Node::new();
    let stanza_timeout = Duration::from_millis(100);
    node.set_streams(stream::Config { stanza_timeout, ..stream::Config::default() });
    let (_id, owner, mut client) = session(&node);
    client.write_all(b"<message>").unwrap();
    assert_eq!(owner.event(), "gone");
    assert_eq!(read_to_end(&client), b"");
    node.emptied();
}

#[test]
fn what_is_sent_between_two_flushes_goes_out_together() {
    let node = Node::new();
    let (id, owner, mut client) = session(&node);
    let conn = node.system.connections()[0];
    let header = header();
    assert!(node.xmpp_send(id, &owner, Outgoing::Header(&header)).is_none());
    assert!(node.xmpp_send(id, &owner, Outgoing::Element(&element("<a>&lt;</a>"))).is_none());
    assert!(node.xmpp_send(id, &owner, Outgoing::Raw(b"\r\n")).is_none());
    assert_eq!(node.info(conn).traffic.sent, 0);
    node.xmpp_flush(id, &owner);
    let expected = b"<?xml version='1.0'?><stream:stream id='7'><a>&lt;</a>\r\n";
    assert_eq!(read_exactly(&client, expected.len()), expected);
    assert!(node.xmpp_send(id, &owner, Outgoing::End(b"stream:stream")).is_none());
    node.xmpp_close(id, &owner);
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "</stream:stream>", "a close flushes");
}

#[test]
fn an_owner_gets_a_measure_at_a_time() {
    if crate::IS_BRIDGED {
        // What was written may wait for credit.
        return;
    }
    let node = Node::new();
    let (id, owner, client) = session(&node);
    let conn = node.system.connections()[0];
    let all: String = (0..10_000).map(|n| format!("<iq id='{n}'/>")).collect();
    let bytes = all.len();
    let writer = write_in_background(&client, all.into_bytes());
    assert_eq!(owner.event(), "<iq id='0'/>");
    let mut taken = 1;
    let mut before = node.info(conn).traffic.received;
    while taken < 10_000 {
        while owner.has_events() {
            assert_eq!(owner.event(), format!("<iq id='{taken}'/>"));
            taken += 1;
        }
        let more = owner.ask(id);
        let received = node.info(conn).traffic.received;
        assert!(received - before <= 2 * 4096, "{} bytes at once", received - before);
        assert!(owner.events() <= 32, "{} events at once", owner.events());
        before = received;
        assert!(more || owner.has_events() || taken == 10_000 || !writer.is_finished());
    }
    writer.join().unwrap();
    assert_eq!(before as usize, HEADER.len() + bytes);
}

#[test]
fn a_peer_of_an_owner_that_does_not_ask_is_held_up_by_the_kernel() {
    let node = Node::new();
    let (id, owner, mut client) = session(&node);
    let conn = node.system.connections()[0];
    rustix::net::sockopt::set_socket_send_buffer_size(&client, 64 * 1024).unwrap();
    let stanza = format!("<a>{}</a>", "x".repeat(10_000));
    client.set_nonblocking(true).unwrap();
    let all = stanza.repeat(3000).into_bytes();
    let mut sent = 0;
    // Until the kernel has taken nothing for a while: it may grow its buffers first.
    let mut quiet = 0;
    while quiet < 100 {
        match client.write(&all[sent..]) {
            Ok(n) => (sent, quiet) = (sent + n, 0),
            Err(_) => {
                quiet += 1;
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        assert!(sent < all.len(), "nothing holds it up");
    }
    let info = node.info(conn);
    assert_eq!((info.traffic.received as usize, info.inbound), (HEADER.len(), 0));
    client.set_nonblocking(false).unwrap();
    let writer = write_in_background(&client, all[sent..].to_vec());
    for _ in 0..3000 {
        assert_eq!(owner.event().len(), stanza.len());
    }
    writer.join().unwrap();
    assert!(!owner.ask(id));
    assert_eq!(node.info(conn).inbound, 0);
}

#[test]
fn the_next_stream_is_not_taken_for_part_of_this_one() {
    let node = Node::new();
    let (id, owner, mut client) = session(&node);
    client.write_all(AUTH.as_bytes()).unwrap();
    client.write_all(HEADER).unwrap();
    assert_eq!(owner.event(), AUTH);
    assert!(owner.is_told_nothing());
    node.system.xmpp_reset(id, owner.pid).unwrap();
    assert_eq!(owner.event(), "start stream:stream");
}

#[test]
fn an_error_is_the_last_that_an_owner_hears_of_the_input() {
    let node = Node::new();
    let (id, owner, mut client) = session(&node);
    client.write_all(b"<a></b><c/>").unwrap();
    assert_eq!(owner.event(), "error not-well-formed: mismatched tag");
    client.write_all(b"<d/>").unwrap();
    node.say(id, &owner, "<stream:error xmlns:stream='s'/>");
    node.xmpp_close(id, &owner);
    assert_eq!(read_to_end(&client), b"<stream:error xmlns:stream='s'/>");
    assert!(owner.is_quiet());
}

#[test]
fn a_stanza_too_big_is_an_error_however_it_comes() {
    let node = Node::new();
    let (_id, owner, mut client) = session_with(&node, ListenerConfig { max_stanza: 1000, ..xmpp() });
    client.write_all(format!("<a>{}</a>", "x".repeat(991)).as_bytes()).unwrap();
    assert!(owner.event().starts_with("<a>x"));
    client.write_all(format!("<a>{}", "x".repeat(997)).as_bytes()).unwrap();
    assert_eq!(owner.event(), "error policy-violation: XML stanza is too big");
}

#[test]
fn the_end_of_a_stream_can_be_answered_after_the_client_has_closed_its_side() {
    let node = Node::new();
    let (id, owner, mut client) = session(&node);
    client.write_all(b"<presence/></stream:stream>").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(owner.event(), "<presence/>");
    assert_eq!(owner.event(), "end stream:stream");
    assert!(node.xmpp_send(id, &owner, Outgoing::End(b"stream:stream")).is_none());
    node.xmpp_close(id, &owner);
    assert_eq!(read_to_end(&client), b"</stream:stream>");
    assert!(owner.is_quiet());
    node.emptied();
}

#[test]
fn a_lost_connection_is_told_after_all_that_came_before() {
    let node = Node::new();
    let (id, owner, mut client) = session(&node);
    let all: String = (0..40).map(|n| format!("<iq id='{n}'/>")).collect();
    client.write_all(all.as_bytes()).unwrap();
    drop(client);
    for n in 0..40 {
        assert_eq!(owner.event(), format!("<iq id='{n}'/>"));
    }
    assert_eq!(owner.event(), "gone");
    node.emptied();
    let (waiter, _wait) = waiter();
    let late = node.system.xmpp_send(id, owner.pid, Outgoing::Raw(b" "), &mut node.sink(), || waiter);
    assert!(late.is_err());
}

#[test]
fn a_client_that_reads_nothing_makes_its_owner_wait() {
    let node = Node::new();
    let (id, owner, mut client) = session(&node);
    let stanza = element(&format!("<a>{}</a>", "x".repeat(5000)));
    let mut sent = 0;
    let wait = loop {
        match node.xmpp_send(id, &owner, Outgoing::Element(&stanza)) {
            None => sent += 5007,
            Some(wait) => break wait,
        }
    };
    assert!(wait.is_pending());
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; sent];
        client.read_exact(&mut all).unwrap();
        client
    });
    wait.woken();
    node.xmpp_flush(id, &owner);
    drop(reader.join().unwrap());
}

#[test]
fn a_dead_owner_ends_the_session_and_what_it_sent_goes_out() {
    let node = Node::new();
    let (id, owner, client) = session(&node);
    assert!(node.xmpp_send(id, &owner, Outgoing::Element(&element("<last/>"))).is_none());
    node.kill(&owner);
    assert_eq!(read_to_end(&client), b"<last/>");
    node.emptied();
    assert_eq!(node.watches(), 0);
}

#[test]
fn a_throttled_client_is_read_in_pieces() {
    let node = Node::new();
    let (id, owner, mut client) = session(&node);
    let conn = node.system.connections()[0];
    let rate = Rate { bytes_per_second: 2000, burst: 500 };
    node.system.xmpp_shaper(id, owner.pid, Some(rate), &mut node.sink()).unwrap();
    client.write_all(format!("<a>{}</a>", "x".repeat(10_000)).as_bytes()).unwrap();
    eventually("the first piece", || {
        assert!(owner.is_quiet());
        node.info(conn).traffic.received as usize >= HEADER.len() + 500
    });
    assert!((node.info(conn).traffic.received as usize) < HEADER.len() + 10_000, "the rest waits");
    node.system.xmpp_shaper(id, owner.pid, None, &mut node.sink()).unwrap();
    assert!(owner.event().starts_with("<a>x"), "without a bound all of it comes");
}

#[test]
fn a_throttle_is_not_the_clients_delay() {
    let node = Node::new();
    let stanza_timeout = Duration::from_millis(100);
    node.set_streams(stream::Config { stanza_timeout, ..stream::Config::default() });
    let (id, owner, mut client) = session(&node);
    let rate = Rate { bytes_per_second: 1000, burst: 1 };
    node.system.xmpp_shaper(id, owner.pid, Some(rate), &mut node.sink()).unwrap();
    client.write_all(format!("<a>{}</a>", "x".repeat(1500)).as_bytes()).unwrap();
    assert!(owner.event().starts_with("<a>x"));
}

#[test]
fn others_can_do_nothing_with_a_session() {
    let node = Node::new();
    let (id, _owner, _client) = session(&node);
    let other = node.spawn();
    let conn = node.system.connections()[0];
    assert!(node.system.xmpp_flush(id, other.pid, &mut node.sink()).is_err());
    assert!(node.system.xmpp_close(id, other.pid, &mut node.sink()).is_err());
    assert!(node.system.xmpp_reset(id, other.pid).is_err());
    assert!(node.try_read(conn, &other, 0).is_err());
    node.system.xmpp_abort(id, &mut node.sink()).unwrap();
    node.emptied();
}

#[test]
fn closing_all_tells_the_owners() {
    let node = Node::new();
    let (_id, owner, _client) = session(&node);
    node.system.close_all(&mut node.sink());
    assert_eq!(owner.event(), "gone");
}

#[test]
fn a_reset_right_behind_the_header_is_an_end_like_any_other() {
    if crate::IS_BRIDGED {
        // It is not the kernel that knows of the reset.
        return;
    }
    let node = Node::new();
    for _ in 0..20 {
        let (starter, client) = client(&node, HEADER);
        let id = starter.started_xmpp();
        reset(client);
        eventually("the kernel knows", || match node.system.xmpp_facts(id) {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error, Error::Closed);
                true
            }
        });
        let owner = node.spawn();
        if node.system.xmpp_started(id, owner.pid, &mut node.sink()).is_ok() {
            // The header was read before.
            assert_eq!(owner.event(), "start stream:stream");
            assert_eq!(owner.event(), "gone");
        }
    }
    node.emptied();
    assert_eq!(node.watches(), 0);
}
