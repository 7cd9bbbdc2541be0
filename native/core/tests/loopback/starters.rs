//! Starters that are replaced while connections and sessions wait for their process.

use crate::bosh_client::*;
use crate::common::*;
use crate::xmpp_client::*;
use megaphone_core::bosh::Config;
use megaphone_core::{Active, Conn, Error, ListenerConfig, Mode, Opt, XmppId};
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
    let again = next.started();
    let handler = node.spawn();
    let started = |conn| node.system.handler_started(conn, handler.pid, &mut node.sink());
    assert_eq!(started(conn), Err(Error::Closed), "a start by the former starter comes too late");
    assert_eq!(started(again), Ok(()));
    // What has its process is nobody's business any more.
    assert!(replace(&node, port, &next).is_quiet());
    assert_eq!(node.system.owner(again), Ok(Some(handler.pid)));
}

#[test]
fn a_new_starter_is_told_of_a_request_that_waits() {
    let node = Node::new();
    let starter = node.spawn();
    let port = node.listen(mode(Mode::Http), Some(&starter));
    let _silent = port.connect();
    let mut client = port.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    starter.started();
    let next = replace(&node, port, &starter);
    let again = next.started();
    assert!(next.is_quiet());
    assert_eq!(node.recv(again, &node.spawn(), 0).unwrap(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
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
fn a_process_of_a_former_starter_loses_the_connection_to_that_of_the_next() {
    let node = Node::new();
    let starter = node.spawn();
    let port = node.listen(mode(Mode::Raw), Some(&starter));
    let mut client = port.connect();
    let conn = starter.started();
    let first = node.spawn();
    node.set(conn, Opt::Active(Active::On));
    node.set(conn, Opt::Active(Active::Off));
    let wait = node.wait_read(conn, &first, 0);
    let (told, monitor) = waiter();
    node.system.monitor(conn, first.pid, 1, told).unwrap();
    let again = replace(&node, port, &starter).started();
    wait.woken();
    monitor.woken();
    assert_eq!(node.recv(conn, &first, 0), Err(Error::Closed));
    let second = node.spawn();
    node.system.handler_started(again, second.pid, &mut node.sink()).unwrap();
    client.write_all(b"for the second").unwrap();
    assert_eq!(node.recv(again, &second, 14).unwrap(), b"for the second");
}

#[test]
fn a_connection_that_was_used_ends_with_its_starter() {
    let node = Node::new();
    for is_answered in [true, false] {
        let starter = node.spawn();
        let port = node.listen(mode(Mode::Http), Some(&starter));
        let mut client = port.connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let conn = starter.started();
        if is_answered {
            node.send(conn, &starter, b"half an answer").unwrap();
        } else {
            node.recv(conn, &starter, 0).unwrap();
        }
        assert!(replace(&node, port, &starter).is_quiet(), "nobody else can begin from the beginning");
        assert_eq!(read_to_end(&client), if is_answered { &b"half an answer"[..] } else { b"" });
        drop(client);
        node.emptied();
    }
    assert_eq!(node.watches(), 0);
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
