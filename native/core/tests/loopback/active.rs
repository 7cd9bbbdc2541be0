//! Active modes: data come as messages, and how many of them.

use crate::common::*;
use megaphone_core::packet::Mode as Cut;
use megaphone_core::{
    Active, Errno, Error, Event, ListenerConfig, Mode, Opt, Owned, Packets, Sink, SocketOptions,
};
use std::io::Write;
use std::net::Shutdown;

/// As lines, so that the number of packets is the sender's.
#[track_caller]
fn lines(node: &Node, owner: &Process, bytes: &[u8]) -> (megaphone_core::Conn, std::net::TcpStream) {
    let (conn, mut client) = node.raw(owner);
    node.set(conn, Opt::Packets(Packets { mode: Cut::Line, is_bin: true }));
    client.write_all(bytes).unwrap();
    eventually("all received", || node.info(conn).inbound == bytes.len());
    (conn, client)
}

#[track_caller]
fn line(owner: &Process, expected: &[u8]) {
    match owner.next() {
        Message::Data { bytes, .. } => assert_eq!(bytes, expected),
        other => panic!("{other:?}"),
    }
}

/// Counts what it is asked to send, and sends nothing.
#[derive(Default)]
struct Counting(usize);

impl Sink<TestHost> for Counting {
    fn emit(&mut self, _: Event<'_, TestHost>) {
        self.0 += 1;
    }

    fn watch(&mut self, _: Pid, _: Owned) -> bool {
        true
    }

    fn unwatch(&mut self, _: Pid, _: Owned) {}
}

#[test]
fn who_asks_for_many_packets_sends_some_and_the_reactor_the_rest() {
    const LINES: usize = 20_000;
    let node = Node::new();
    let owner = node.spawn();
    let (conn, _client) = lines(&node, &owner, &b"x\n".repeat(LINES));
    let mut some = Counting::default();
    node.system.set(conn, Opt::Active(Active::On), &mut some).unwrap();
    assert!((1..=64).contains(&some.0), "{} messages in one call", some.0);
    for _ in some.0..LINES {
        line(&owner, b"x\n");
    }
    assert!(owner.is_quiet());
}

#[test]
fn what_takes_long_to_make_a_term_of_is_left_to_the_reactor() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, mut client) = node.raw(&owner);
    client.write_all(&pattern(0, 5000)).unwrap();
    eventually("all received", || node.info(conn).inbound == 5000);
    node.set(conn, Opt::AsList(true));
    let mut none = Counting::default();
    node.system.set(conn, Opt::Active(Active::Once), &mut none).unwrap();
    assert_eq!(none.0, 0);
    assert_eq!(owner.next(), Message::Data { conn, bytes: pattern(0, 5000) });
}

#[test]
fn once_is_one_packet() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, _client) = lines(&node, &owner, b"1\n2\n");
    for expected in [b"1\n", b"2\n"] {
        node.set(conn, Opt::Active(Active::Once));
        line(&owner, expected);
        assert!(owner.is_quiet());
        assert_eq!(node.system.get(conn, Opt::Active(Active::Off)), Ok(Opt::Active(Active::Off)));
    }
}

#[test]
fn a_count_is_so_many_packets_and_then_word_of_it() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, mut client) = lines(&node, &owner, b"1\n2\n3\n4\n");
    node.set(conn, Opt::Active(Active::Count(3)));
    for expected in [b"1\n", b"2\n", b"3\n"] {
        line(&owner, expected);
    }
    assert_eq!(owner.next(), Message::Passive { conn });
    node.set(conn, Opt::ActiveAdd(2));
    line(&owner, b"4\n");
    node.set(conn, Opt::ActiveAdd(5));
    assert_eq!(node.system.get(conn, Opt::Active(Active::Off)), Ok(Opt::Active(Active::Count(6))));
    let over = node.system.set(conn, Opt::ActiveAdd(i16::MAX), &mut node.sink());
    assert_eq!(over, Err(Error::Invalid));
    node.set(conn, Opt::ActiveAdd(-6));
    assert_eq!(owner.next(), Message::Passive { conn });
    client.write_all(b"5\n").unwrap();
    assert_eq!(node.recv(conn, &owner, 0).unwrap(), b"5\n");
    assert!(owner.is_quiet());
}

#[test]
fn on_is_everything_and_then_the_end() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client) = node.raw(&owner);
    node.set(conn, Opt::Active(Active::On));
    let sent = pattern(0, 3_000_000);
    let writer = write_in_background(&client, sent.clone());
    let mut got = Vec::new();
    while got.len() < sent.len() {
        match owner.next() {
            Message::Data { bytes, .. } => got.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    assert!(got == sent);
    writer.join().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(owner.next(), Message::Closed { conn, error: None });
    node.emptied();
    assert!(owner.is_quiet());
}

#[test]
fn once_leaves_the_flood_with_its_sender() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client) = node.raw(&owner);
    let sent = pattern(0, 10_000_000);
    let writer = write_in_background(&client, sent.clone());
    let mut got = 0;
    while got < sent.len() {
        assert!(node.info(conn).inbound < 128 * 1024);
        node.set(conn, Opt::Active(Active::Once));
        match owner.next() {
            Message::Data { bytes, .. } => {
                assert!(bytes == sent[got..got + bytes.len()]);
                got += bytes.len();
            }
            other => panic!("{other:?}"),
        }
        assert!(owner.is_quiet());
    }
    writer.join().unwrap();
}

#[test]
fn a_reset_is_told_when_it_is_to_be_shown() {
    let node = Node::new();
    let owner = node.spawn();
    for (show, error) in [(true, Some(Errno::CONNRESET)), (false, None)] {
        let (conn, client) = node.raw(&owner);
        node.set(conn, Opt::ShowEconnreset(show));
        node.set(conn, Opt::Active(Active::Once));
        reset(client);
        assert_eq!(owner.next(), Message::Closed { conn, error });
    }
    node.emptied();
}

#[test]
fn a_reset_is_told_though_output_is_queued() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client) = node.raw(&owner);
    narrow(&node, conn, &client);
    node.set(conn, Opt::Active(Active::On));
    let (_, writing) = node.fill(conn, &owner);
    reset(client);
    assert_eq!(owner.next(), Message::Closed { conn, error: None });
    writing.woken();
    node.emptied();
}

#[test]
fn an_end_is_told_and_output_left_open_when_wanted() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client) = node.raw(&owner);
    node.set(conn, Opt::ExitOnClose(false));
    node.set(conn, Opt::Active(Active::On));
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(owner.next(), Message::Closed { conn, error: None });
    node.send(conn, &owner, b"still here").unwrap();
    assert_eq!(read_exactly(&client, 10), b"still here");
}

#[test]
fn a_packet_over_its_limit_ends_the_connection() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, _client) = lines(&node, &owner, b"far too long\n");
    node.set(conn, Opt::PacketSize(5));
    node.set(conn, Opt::Active(Active::Once));
    assert_eq!(owner.next(), Message::Closed { conn, error: Some(Errno::MSGSIZE) });
    node.emptied();
}

#[test]
fn request_lines_and_fields_are_packets() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, mut client) = node.raw(&owner);
    node.set(conn, Opt::Packets(Packets { mode: Cut::Http, is_bin: true }));
    node.set(conn, Opt::Active(Active::Count(3)));
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbody").unwrap();
    for expected in ["Request", "Header", "EndOfHeader"] {
        match owner.next() {
            Message::Packet { packet, .. } => assert!(packet.starts_with(expected), "{packet}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(owner.next(), Message::Passive { conn });
    node.set(conn, Opt::Packets(Packets { mode: Cut::Raw, is_bin: true }));
    assert_eq!(node.recv(conn, &owner, 4).unwrap(), b"body");
}

/// As with `gen_tcp:listen(Port, [{active, true}])`.
fn born_active(mode: Mode) -> ListenerConfig {
    let options = SocketOptions { active: Active::On, ..SocketOptions::default() };
    ListenerConfig { mode, options, ..ListenerConfig::default() }
}

#[test]
fn data_that_came_before_the_accept_are_told_after_it() {
    let node = Node::new();
    let owner = node.spawn();
    let port = node.listen(born_active(Mode::Accept), None);
    let mut client = port.connect();
    client.write_all(b"early").unwrap();
    eventually("5 bytes received", || {
        node.system.connections().iter().any(|conn| node.info(*conn).inbound == 5)
    });
    let conn = node.system.accept(port.id, owner.pid, || waiter().0, &mut node.sink()).unwrap().unwrap();
    assert_eq!(owner.next(), Message::Data { conn, bytes: b"early".to_vec() });
}

#[test]
fn data_that_came_before_the_handler_are_told_to_it() {
    let node = Node::new();
    let starter = node.spawn();
    let mut client = node.listen(born_active(Mode::Raw), Some(&starter)).connect();
    client.write_all(b"early").unwrap();
    let conn = starter.started();
    eventually("5 bytes received", || node.info(conn).inbound == 5);
    let owner = node.spawn();
    node.system.handler_started(conn, owner.pid, &mut node.sink()).unwrap();
    assert_eq!(owner.next(), Message::Data { conn, bytes: b"early".to_vec() });
}
