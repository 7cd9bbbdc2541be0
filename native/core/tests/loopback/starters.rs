//! Starters that are replaced while connections and sessions wait for their process.

use crate::bosh_client::*;
use crate::common::*;
use crate::xmpp_client::*;
use megaphone_core::bosh::Config;
use megaphone_core::{Conn, Error, ListenerConfig, Mode, XmppId};
use std::io::Write;

fn mode(mode: Mode) -> ListenerConfig {
    ListenerConfig { mode, ..ListenerConfig::default() }
}

/// Names a new starter, after the death of the one before.
fn replace(node: &Node, port: Port, old: &Process) -> Process {
    node.kill(old);
    let next = node.spawn();
    node.system.set_starter(port.id, next.pid, &mut node.sink()).unwrap();
    next
}

#[test]
fn a_new_starter_is_told_of_a_connection_that_waits() {
    let node = Node::new();
    let starter = node.spawn();
    let port = node.listen(mode(Mode::Raw), Some(&starter));
    let _client = port.connect();
    let conn = starter.started();
    let next = replace(&node, port, &starter);
    assert_eq!(next.started(), conn);
    let handler = node.spawn();
    node.system.handler_started(conn, handler.pid, &mut node.sink()).unwrap();
    // What has its process is nobody's business any more.
    assert!(replace(&node, port, &next).is_quiet());
    assert_eq!(node.system.owner(conn), Ok(Some(handler.pid)));
}

#[test]
fn a_new_starter_is_told_of_a_request_that_waits() {
    let node = Node::new();
    let starter = node.spawn();
    let port = node.listen(mode(Mode::Http), Some(&starter));
    let _silent = port.connect();
    let mut client = port.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let conn = starter.started();
    let next = replace(&node, port, &starter);
    assert_eq!(next.started(), conn);
    assert!(next.is_quiet());
}

#[test]
fn a_new_starter_is_told_of_streams_that_wait() {
    let node = Node::new();
    let starter = node.spawn();
    let port = node.listen(mode(Mode::Xmpp), Some(&starter));
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(port.connect());
    }
    clients.iter_mut().for_each(|client| client.write_all(HEADER).unwrap());
    let waiting: Vec<XmppId> = clients.iter().map(|_| starter.started_xmpp()).collect();
    let next = replace(&node, port, &starter);
    let mut told: Vec<XmppId> = clients.iter().map(|_| next.started_xmpp()).collect();
    assert!(waiting.iter().all(|id| told.contains(id)));
    told.drain(..).for_each(|id| node.own(id, &node.spawn()));
}

#[test]
fn a_new_starter_is_told_of_a_bosh_session_that_waits() {
    let node = bosh_node(Config::default());
    let starter = node.spawn();
    let port = node.listen(bosh_listener(), Some(&starter));
    let mut client = port.connect();
    client.write_all(&post_with("HTTP/1.1", "", &creation("localhost"))).unwrap();
    let id = starter.started_xmpp();
    let next = replace(&node, port, &starter);
    assert_eq!(next.started_xmpp(), id);
    node.own(id, &node.spawn());
    assert!(replace(&node, port, &next).is_quiet());
}

#[test]
fn a_starter_that_comes_later_is_told_of_all() {
    let node = Node::new();
    let port = node.listen(mode(Mode::Raw), None);
    let _clients = [port.connect(), port.connect()];
    eventually("both are accepted", || node.system.stats().connections == 2);
    let starter = node.spawn();
    node.system.set_starter(port.id, starter.pid, &mut node.sink()).unwrap();
    let told: [Conn; 2] = [starter.started(), starter.started()];
    assert_ne!(told[0], told[1]);
    let other = node.listen(mode(Mode::Raw), None);
    node.system.set_starter(other.id, starter.pid, &mut node.sink()).unwrap();
    assert!(starter.is_quiet(), "connections of another listener");
}

#[test]
fn a_second_start_is_refused() {
    let node = Node::new();
    let (starter, first, second) = (node.spawn(), node.spawn(), node.spawn());
    let port = node.listen(mode(Mode::Raw), Some(&starter));
    let _client = port.connect();
    let conn = starter.started();
    let started = |process: &Process| node.system.handler_started(conn, process.pid, &mut node.sink());
    assert_eq!(started(&first), Ok(()));
    assert_eq!(started(&second), Err(Error::NotOwner));
    assert_eq!(started(&first), Ok(()), "it has it already");
    assert_eq!(node.system.owner(conn), Ok(Some(first.pid)));
}

#[test]
fn connections_of_one_listener_close_at_once() {
    let node = Node::new();
    let starter = node.spawn();
    let (ours, others) =
        (node.listen(mode(Mode::Raw), Some(&starter)), node.listen(mode(Mode::Raw), Some(&starter)));
    let (client, _client) = (ours.connect(), others.connect());
    starter.started();
    starter.started();
    node.system.close_connections(ours.id, &mut node.sink());
    assert!(read_to_end(&client).is_empty());
    assert_eq!(node.system.stats().connections, 1);
}
