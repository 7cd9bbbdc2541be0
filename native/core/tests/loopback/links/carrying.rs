//! What streams carry: roles cannot tell them from sockets.

use super::*;
use crate::xmpp_client::*;
use megaphone_core::{Active, Address, Error, Opt, Outgoing};
use std::io::{Seek, Write};
use std::time::Duration;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// The first of the two sequences that the project began with: data come, and nobody has asked for them. They are kept by
/// their connection ID, a handler is started, and its read gives them at once.
#[test]
fn data_that_come_before_anybody_asks_are_kept_by_their_connection_id() {
    let (node, starter, mut ecm) = linked();
    let (first, second) = (ecm.open("raw"), ecm.open("raw"));
    ecm.send(second, b"of the second");
    ecm.send(first, b"of the first");
    let conns = [starter.started(), starter.started()];
    eventually("all is there", || conns.iter().all(|conn| node.info(*conn).inbound > 0));
    let (reader, other) = (node.spawn(), node.spawn());
    assert_eq!(node.try_read(conns[0], &reader, 0).unwrap().ok(), Some(b"of the first".to_vec()));
    assert_eq!(node.try_read(conns[1], &other, 0).unwrap().ok(), Some(b"of the second".to_vec()));
}

/// The second: one asks, and nothing is there. It waits, and is told when data come.
#[test]
fn one_who_asks_first_waits_and_is_woken_when_data_come() {
    let (node, starter, mut ecm) = linked();
    let ((conn, number), (other, _)) =
        (connected(&node, &starter, &mut ecm), connected(&node, &starter, &mut ecm));
    let wait = node.wait_read(conn, &starter, 0);
    let bystander = node.spawn();
    let never = node.wait_read(other, &bystander, 0);
    ecm.send(number, b"here");
    wait.woken();
    assert_eq!(node.try_read(conn, &starter, 0).unwrap().ok(), Some(b"here".to_vec()));
    assert!(never.is_pending(), "it was another's");
}

#[test]
fn the_ends_are_those_that_the_connection_manager_says() {
    let (node, starter, mut ecm) = linked();
    let (conn, _) = connected(&node, &starter, &mut ecm);
    assert_eq!(node.system.peer(conn), Ok(Address::Ip(CLIENT.parse().unwrap())));
    assert_eq!(node.system.local(conn), Ok(Address::Ip(LOCAL.parse().unwrap())));
}

#[test]
fn bytes_arrive_both_ways_whole_and_in_order_however_many_there_are() {
    let (node, starter, mut ecm) = linked();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    let bytes = pattern(0, 1_000_000);
    ecm.send(number, &bytes);
    let mut received = Vec::new();
    while received.len() < bytes.len() {
        ecm.turn();
        while let Ok(Ok(more)) = node.try_read(conn, &starter, 0) {
            received.extend(more);
        }
        node.system.cancel_wait(conn, starter.pid, &mut node.sink()).unwrap();
    }
    assert!(received == bytes);
    let mut sent = 0;
    while sent < bytes.len() {
        let piece = &bytes[sent..bytes.len().min(sent + 10_000)];
        match node.try_send(conn, &starter, piece).unwrap() {
            None => sent += piece.len(),
            Some(_) => ecm.turn(),
        }
    }
    assert!(ecm.received(number, bytes.len()) == bytes);
    assert_eq!(node.info(conn).traffic.sent, 1_000_000);
}

#[test]
fn requests_of_a_kept_connection_are_answered_over_a_stream() {
    let node = Node::new();
    let starter = node.spawn();
    node.listen(ListenerConfig { zero_ends_request: true, ..named("http", Mode::Http) }, Some(&starter));
    let mut ecm = Ecm::dial(node.listen_links(node_config()));
    let number = ecm.open("http");
    for answer in 1..=2 {
        ecm.send(number, GET);
        let conn = starter.started();
        let handler = node.spawn();
        node.system.handler_started(conn, handler.pid, &mut node.sink()).unwrap();
        assert_eq!(node.recv(conn, &handler, 0), Ok(GET.to_vec()));
        node.send(conn, &handler, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        ecm.received(number, answer * 38);
        assert!(node.waits_for_next(conn, &handler));
        assert_eq!(node.system.park(conn, handler.pid, &mut node.sink()), Ok(true));
    }
    let idle = node.info(node.system.connections()[0]);
    assert_eq!(idle.phase, "parked");
    println!(
        "{} bytes of an idle HTTP stream, {} of its slot",
        idle.bytes,
        node.system.stats().bytes_per_slot
    );
    assert!(idle.bytes <= 500, "{} bytes", idle.bytes);
}

#[test]
fn an_xmpp_stream_begins_speaks_and_ends_over_a_link() {
    let node = Node::new();
    let starter = node.spawn();
    node.listen(named("c2s", Mode::Xmpp), Some(&starter));
    let mut ecm = Ecm::dial(node.listen_links(node_config()));
    let number = ecm.open("c2s");
    ecm.send(number, HEADER);
    let (id, owner) = (starter.started_xmpp(), node.spawn());
    node.own(id, &owner);
    assert_eq!(owner.event(), "start stream:stream");
    node.xmpp_flush(id, &owner);
    ecm.send(number, b"<iq id='1'/>");
    assert_eq!(owner.event(), "<iq id='1'/>");
    assert!(node.xmpp_send(id, &owner, Outgoing::Header(&header())).is_none());
    node.say(id, &owner, "<presence/>");
    assert!(owner.is_quiet());
    ecm.until("a stanza", |ecm| ecm.client(number).received.ends_with(b"<presence/>"));
    let bytes = node.info(node.system.connections()[0]).bytes;
    println!("{bytes} bytes of an idle XMPP stream");
    assert!(bytes <= 600, "{bytes} bytes");
    ecm.send(number, b"</stream:stream>");
    assert_eq!(owner.event(), "end stream:stream");
    assert!(node.xmpp_send(id, &owner, Outgoing::End(b"stream:stream")).is_none());
    node.xmpp_close(id, &owner);
    ecm.until("its end", |ecm| ecm.client(number).received.ends_with(b"</stream:stream>"));
    ecm.until("the half-close", |ecm| ecm.client(number).is_ended);
    ecm.close(number, Reason::Closed);
    ecm.until("the leave", |ecm| ecm.link.streams() == 0);
    node.emptied();
}

#[test]
fn an_owner_in_active_mode_is_sent_what_comes() {
    let (node, starter, mut ecm) = linked();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    node.set(conn, Opt::Active(Active::On));
    ecm.send(number, b"to you");
    assert_eq!(starter.next(), Message::Data { conn, bytes: b"to you".to_vec() });
    ecm.close(number, Reason::Eof);
    assert_eq!(starter.next(), Message::Closed { conn, error: None });
}

#[test]
fn one_who_accepts_gets_streams_too() {
    let node = Node::new();
    let port = node.listen(named("accept", Mode::Accept), None);
    let mut ecm = Ecm::dial(node.listen_links(node_config()));
    let process = node.spawn();
    let (waiter, wait) = waiter();
    let none = node.system.accept(port.id, process.pid, || waiter, &mut node.sink());
    assert_eq!(none, Ok(None));
    let number = ecm.open("accept");
    wait.woken();
    let (unused, _) = crate::common::waiter();
    let conn = node.system.accept(port.id, process.pid, || unused, &mut node.sink()).unwrap().unwrap();
    node.send(conn, &process, b"hello").unwrap();
    assert_eq!(ecm.received(number, 5), b"hello");
}

#[test]
fn options_of_a_socket_can_be_set_and_mean_nothing() {
    let (node, starter, mut ecm) = linked();
    let (conn, _) = connected(&node, &starter, &mut ecm);
    for option in
        [Opt::NoDelay(true), Opt::KeepAlive(true), Opt::RecvBuffer(1), Opt::SendBuffer(1), Opt::Tos(8)]
    {
        node.set(conn, option);
    }
    let get = |like| node.system.get(conn, like);
    assert_eq!(get(Opt::NoDelay(false)), Ok(Opt::NoDelay(true)));
    assert_eq!(get(Opt::SendBuffer(0)), Ok(Opt::SendBuffer(16_384)));
    assert_eq!(get(Opt::RecvBuffer(0)), Ok(Opt::RecvBuffer(8_192)));
    node.set(conn, Opt::Linger(Some(Duration::from_secs(5))));
    assert_eq!(get(Opt::Linger(None)), Ok(Opt::Linger(None)));
    node.set(conn, Opt::Linger(Some(Duration::ZERO)));
    assert_eq!(get(Opt::Linger(None)), Ok(Opt::Linger(Some(Duration::ZERO))));
}

#[test]
fn a_file_is_sent_over_a_stream() {
    let (node, starter, mut ecm) = linked();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    let content = pattern(0, 3_000_001);
    let mut file = tempfile();
    file.write_all(&content).unwrap();
    file.rewind().unwrap();
    let mut at = 0;
    loop {
        let (waiter, wait) = waiter();
        let waiter = std::cell::Cell::new(Some(waiter));
        let make = || waiter.take().unwrap_or_else(|| crate::common::waiter().0);
        let piece = (&file, at as u64, content.len());
        match node.system.sendfile(conn, starter.pid, piece, &mut node.sink(), make).unwrap() {
            Some(0) => break,
            Some(n) => at += n,
            None => {
                // The connection manager makes the room that the wake-up is for.
                ecm.until("room", |_| !wait.is_pending());
            }
        }
    }
    assert_eq!(at, content.len());
    assert!(ecm.received(number, content.len()) == content);
    ecm.close(number, Reason::Reset);
    eventually("the reset", || {
        let sent = node.system.sendfile(conn, starter.pid, (&file, 0, 10), &mut node.sink(), || waiter().0);
        sent == Err(Error::Closed)
    });
}

/// A file without a name.
fn tempfile() -> std::fs::File {
    let path = std::env::temp_dir().join(format!("megaphone-sendfile-{}", std::process::id()));
    let file = std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}
