//! Who has a connection: it is handed over, and nobody gets it by using it.

use crate::common::*;
use megaphone_core::{Active, Conn, Error, ListenerConfig, Mode, Notice, Opt, Shutdown};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A connection of which the starter has been told, and its client.
fn starting(node: &Node, starter: &Process, config: ListenerConfig) -> (Conn, TcpStream) {
    let is_http = config.mode == Mode::Http;
    let mut client = node.listen(config, Some(starter)).connect();
    if is_http {
        client.write_all(REQUEST).unwrap();
    }
    (starter.started(), client)
}

fn mode(mode: Mode) -> ListenerConfig {
    ListenerConfig { mode, ..ListenerConfig::default() }
}

#[test]
fn using_a_connection_makes_nobody_its_owner() {
    let node = Node::new();
    let starter = node.spawn();
    for kind in [Mode::Raw, Mode::Http] {
        let (conn, client) = starting(&node, &starter, mode(kind));
        let is_free = |what: &str| {
            assert_eq!(node.system.owner(conn), Ok(None), "after {what}");
            assert_eq!(node.info(conn).phase, "starting", "after {what}");
        };
        node.system.monitor(conn, starter.pid, 1, waiter().0).unwrap();
        is_free("monitor");
        node.set(conn, Opt::NoDelay(true));
        node.set(conn, Opt::SendTimeout(None));
        is_free("setopts");
        let _ = node.try_read(conn, &starter, 0).unwrap();
        node.system.cancel_wait(conn, starter.pid, &mut node.sink()).unwrap();
        is_free("recv");
        node.send(conn, &starter, b"hello").unwrap();
        is_free("send");
        node.system.shutdown(conn, Shutdown::Write, &mut node.sink()).unwrap();
        is_free("shutdown");
        assert_eq!(read_to_end(&client), b"hello");
    }
    assert_eq!(node.watches(), 0);
}

#[test]
fn what_a_starter_used_closes_with_the_process_it_has_started() {
    let node = Node::new();
    let starter = node.spawn();
    for kind in [Mode::Raw, Mode::Http] {
        let (conn, client) = starting(&node, &starter, mode(kind));
        node.set(conn, Opt::NoDelay(true));
        let handler = node.spawn();
        node.system.handler_started(conn, handler.pid, &mut node.sink()).unwrap();
        assert_eq!(node.system.owner(conn), Ok(Some(handler.pid)));
        assert_eq!(node.info(conn).phase, "running");
        node.kill(&handler);
        assert!(read_to_end(&client).is_empty());
        node.emptied();
    }
}

#[test]
fn what_nobody_was_handed_closes_in_time_though_it_is_used() {
    let node = Node::new();
    let starter = node.spawn();
    for kind in [Mode::Raw, Mode::Http] {
        let start_timeout = Duration::from_millis(20);
        let (conn, _client) = starting(&node, &starter, ListenerConfig { start_timeout, ..mode(kind) });
        // It may be over by now.
        let _ = node.system.set(conn, Opt::NoDelay(true), &mut node.sink());
        let _ = node.try_send(conn, &starter, b"x");
        node.emptied();
    }
    assert!(matches!(node.notice(), Notice::StartTimeout { .. }));
}

#[test]
fn a_connection_closes_in_time_when_its_mode_was_changed_before_it_was_handed_over() {
    let node = Node::new();
    let starter = node.spawn();
    let start_timeout = Duration::from_millis(20);
    let config = ListenerConfig { start_timeout, ..mode(Mode::Http) };
    let (conn, _client) = starting(&node, &starter, config);
    let _ = node.system.set(conn, Opt::Active(Active::On), &mut node.sink());
    node.emptied();
    assert!(starter.is_quiet(), "it was nobody's data");
}

#[test]
fn a_hand_over_ends_the_time_for_it() {
    let node = Node::new();
    let starter = node.spawn();
    let start_timeout = Duration::from_millis(200);
    let config = |kind| ListenerConfig { start_timeout, ..mode(kind) };
    let kept: Vec<_> = [Mode::Raw, Mode::Http]
        .map(|kind| {
            let (conn, client) = starting(&node, &starter, config(kind));
            let handler = node.spawn();
            node.system.handler_started(conn, handler.pid, &mut node.sink()).unwrap();
            (conn, client, handler)
        })
        .into();
    // Set later, and over: so is what was set before.
    let (_conn, _client) = starting(&node, &starter, config(Mode::Raw));
    assert!(matches!(node.notice(), Notice::StartTimeout { .. }));
    for (conn, client, handler) in &kept {
        node.send(*conn, handler, b"here").unwrap();
        assert_eq!(read_exactly(client, 4), b"here");
    }
}

#[test]
fn active_data_wait_for_the_owner() {
    let node = Node::new();
    let starter = node.spawn();
    let (conn, mut client) = starting(&node, &starter, mode(Mode::Raw));
    node.set(conn, Opt::Active(Active::On));
    client.write_all(b"early").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    eventually("the bytes", || node.info(conn).inbound == 5);
    assert!(starter.is_quiet());
    let handler = node.spawn();
    node.system.handler_started(conn, handler.pid, &mut node.sink()).unwrap();
    assert_eq!(handler.next(), Message::Data { conn, bytes: b"early".to_vec() });
    assert_eq!(handler.next(), Message::Closed { conn, error: None });
    node.emptied();
}

#[test]
fn whoever_was_told_of_a_connection_may_hand_it_over() {
    let node = Node::new();
    let (starter, handler, other) = (node.spawn(), node.spawn(), node.spawn());
    let (conn, client) = starting(&node, &starter, mode(Mode::Http));
    let give = |from: &Process, to: &Process| node.system.give(conn, from.pid, to.pid, &mut node.sink());
    let dead = node.spawn();
    node.kill(&dead);
    assert_eq!(give(&starter, &dead), Err(Error::Invalid));
    assert_eq!(node.system.owner(conn), Ok(None), "and it waits on");
    assert_eq!(give(&starter, &handler), Ok(()));
    assert_eq!(node.system.owner(conn), Ok(Some(handler.pid)));
    assert_eq!(give(&starter, &other), Err(Error::NotOwner));
    assert_eq!(
        node.system.handler_started(conn, other.pid, &mut node.sink()),
        Err(Error::NotOwner),
        "the starter's word came later"
    );
    node.kill(&starter);
    node.send(conn, &handler, b"alive").unwrap();
    assert_eq!(read_exactly(&client, 5), b"alive");
    node.kill(&handler);
    node.emptied();
    assert_eq!(node.watches(), 0);
}

#[test]
fn an_answer_is_not_lost_when_its_process_ends_before_it_is_named() {
    let node = Node::new();
    let starter = node.spawn();
    let (conn, mut client) = starting(&node, &starter, mode(Mode::Http));
    let handler = node.spawn();
    node.recv(conn, &handler, 0).unwrap();
    node.send(conn, &handler, b"answer").unwrap();
    client.write_all(b"more that nobody reads").unwrap();
    eventually("unread bytes", || node.info(conn).inbound > 0);
    node.kill(&handler);
    assert_eq!(node.system.handler_started(conn, handler.pid, &mut node.sink()), Err(Error::Closed));
    assert_eq!(read_to_end(&client), b"answer");
}
