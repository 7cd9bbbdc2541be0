//! Listeners: who accepts, bounds on what waits and on what is open, and a listener's end.

use crate::common::*;
use megaphone_core::{Conn, Error, ListenerConfig, Mode, Notice};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

fn accepting() -> ListenerConfig {
    ListenerConfig { mode: Mode::Accept, ..ListenerConfig::default() }
}

/// One `accept`; its connection, or the wait for one.
fn try_accept(node: &Node, port: Port, process: &Process) -> Result<Result<Conn, Wait>, Error> {
    let (waiter, wait) = waiter();
    let accepted = node.system.accept(port.id, process.pid, || waiter, &mut node.sink())?;
    Ok(accepted.ok_or(wait))
}

#[track_caller]
fn wait_accept(node: &Node, port: Port, process: &Process) -> Wait {
    try_accept(node, port, process).unwrap().expect_err("nothing to accept")
}

#[track_caller]
fn accept(node: &Node, port: Port, process: &Process) -> Conn {
    loop {
        match try_accept(node, port, process).expect("accept") {
            Ok(conn) => return conn,
            Err(wait) => wait.woken(),
        }
    }
}

#[test]
fn an_acceptor_waits_for_a_connection() {
    let node = Node::new();
    let acceptor = node.spawn();
    let port = node.listen(accepting(), None);
    let wait = wait_accept(&node, port, &acceptor);
    let mut client = port.connect();
    wait.woken();
    let conn = accept(&node, port, &acceptor);
    client.write_all(b"hello").unwrap();
    assert_eq!(node.recv(conn, &acceptor, 0).unwrap(), b"hello");
    assert_eq!(node.system.owner(conn), Ok(Some(acceptor.pid)));
}

#[test]
fn an_acceptor_who_died_is_passed_over() {
    let node = Node::new();
    let (first, second) = (node.spawn(), node.spawn());
    let port = node.listen(accepting(), None);
    let _lost = wait_accept(&node, port, &first);
    let wait = wait_accept(&node, port, &second);
    node.kill(&first);
    let _client = port.connect();
    wait.woken();
    accept(&node, port, &second);
}

#[test]
fn an_acceptor_who_gives_up_too_late_leaves_the_connection_to_the_next() {
    let node = Node::new();
    let (first, second) = (node.spawn(), node.spawn());
    let port = node.listen(accepting(), None);
    let wait = wait_accept(&node, port, &first);
    let next = wait_accept(&node, port, &second);
    let _client = port.connect();
    // Its time is over at the moment when it is woken.
    wait.woken();
    node.system.cancel_accept(port.id, first.pid);
    next.woken();
    accept(&node, port, &second);
}

#[test]
fn an_acceptor_who_is_dead_takes_nothing() {
    let node = Node::new();
    let (first, second) = (node.spawn(), node.spawn());
    let port = node.listen(accepting(), None);
    let _client = port.connect();
    eventually("a queued connection", || node.system.stats().connections == 1);
    node.kill(&first);
    eventually("it is queued", || try_accept(&node, port, &first).is_err());
    accept(&node, port, &second);
}

#[test]
fn the_kernel_holds_what_nobody_accepts() {
    let node = Node::new();
    let acceptor = node.spawn();
    let port = node.listen(accepting(), None);
    let clients: Vec<_> = (0..300).map(|_| port.connect()).collect();
    let info = || node.system.listener_info(port.id).unwrap();
    eventually("paused", || info().is_paused);
    assert_eq!(info().connections, 128);
    let mut conns = Vec::new();
    for _ in &clients {
        conns.push(accept(&node, port, &acceptor));
        assert!(info().connections <= 128 + conns.len());
    }
    conns.sort();
    conns.dedup();
    assert_eq!(conns.len(), clients.len());
    eventually("resumed", || !info().is_paused);
    assert_eq!(node.notices(), [], "nothing that an operator could do anything about");
}

#[test]
fn a_listeners_end_wakes_acceptors_and_closes_what_nobody_accepted() {
    let node = Node::new();
    let acceptor = node.spawn();
    let port = node.listen(accepting(), None);
    let wait = wait_accept(&node, port, &acceptor);
    node.system.close_listener(port.id, &mut node.sink()).unwrap();
    wait.woken();
    assert_eq!(try_accept(&node, port, &acceptor).err(), Some(Error::Closed));
    assert_eq!(node.system.close_listener(port.id, &mut node.sink()), Err(Error::Closed));
    assert_eq!(node.system.stats().listeners, 0);
    assert!(std::net::TcpStream::connect(port.address).is_err(), "the port is free");

    let port = node.listen(accepting(), None);
    let client = port.connect();
    eventually("a queued connection", || node.system.stats().connections == 1);
    node.system.close_listener(port.id, &mut node.sink()).unwrap();
    assert_eq!(read_to_end(&client), b"");
    node.emptied();
}

#[test]
fn a_connection_that_is_accepted_while_its_listener_closes_is_not_forgotten() {
    let node = Node::new();
    for _ in 0..200 {
        let port = node.listen(accepting(), None);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let Ok(_client) = std::net::TcpStream::connect(port.address) else { break };
                }
            });
            eventually("some are accepted", || node.system.stats().connections > 0);
            node.system.close_listener(port.id, &mut node.sink()).unwrap();
            is_over.store(true, Ordering::Relaxed);
        });
        node.emptied();
    }
}

#[test]
fn connections_outlive_their_listener() {
    let node = Node::new();
    let acceptor = node.spawn();
    let port = node.listen(accepting(), None);
    let mut client = port.connect();
    let conn = accept(&node, port, &acceptor);
    node.system.close_listener(port.id, &mut node.sink()).unwrap();
    let info = node.system.listener_info(port.id).unwrap();
    assert!(!info.is_open && info.connections == 1);
    client.write_all(b"still").unwrap();
    assert_eq!(node.recv(conn, &acceptor, 0).unwrap(), b"still");
    node.system.close(conn, &mut node.sink()).unwrap();
    node.emptied();
    eventually("forgotten", || node.system.listener_info(port.id) == Err(Error::Closed));
}

#[test]
fn above_the_bound_none_is_accepted_until_one_closes() {
    let node = Node::with(config(1, 3));
    let starter = node.spawn();
    let port = node.listen(ListenerConfig { mode: Mode::Raw, ..ListenerConfig::default() }, Some(&starter));
    let clients: Vec<_> = (0..6).map(|_| port.connect()).collect();
    let mut open: Vec<_> = (0..3).map(|_| starter.started()).collect();
    let paused = Notice::AcceptPaused { listener: port.id, connections: 3, error: None };
    assert_eq!(node.notice(), paused);
    for _ in 0..3 {
        assert_eq!(node.system.stats().connections, 3);
        assert!(starter.is_quiet());
        let conn = open.remove(0);
        node.system.abort(conn, &mut node.sink()).unwrap();
        open.push(starter.started());
    }
    let told = node.notices();
    assert!(!told.contains(&paused), "told twice: {told:?}");
    drop(clients);
    node.system.set_bounds(10, usize::MAX);
    let _client = port.connect();
    starter.started();
}

#[test]
fn connections_wait_in_the_backlog_while_the_host_has_no_room_for_processes() {
    let node = Node::new();
    let starter = node.spawn();
    let raw = ListenerConfig { mode: Mode::Raw, ..ListenerConfig::default() };
    let port = node.listen(raw, Some(&starter));
    let info = || node.system.listener_info(port.id).unwrap();
    node.system.set_process_room(0);
    let clients: Vec<_> = (0..10).map(|_| port.connect()).collect();
    for room in [3, 2, 5] {
        eventually("paused", || info().is_paused);
        assert!(starter.is_quiet());
        node.system.set_process_room(room);
        for _ in 0..room {
            starter.started();
        }
    }
    assert_eq!((info().accepted, node.system.stats().connections), (10, clients.len()));
    assert_eq!(node.notices(), [], "the host tells the log");
}

#[test]
fn a_listener_that_closes_while_it_is_paused_leaves_nothing_behind() {
    let node = Node::with(config(1, 0));
    let starter = node.spawn();
    let raw = ListenerConfig { mode: Mode::Raw, ..ListenerConfig::default() };
    let port = node.listen(raw.clone(), Some(&starter));
    let _client = port.connect();
    assert!(matches!(node.notice(), Notice::AcceptPaused { .. }));
    node.system.close_listener(port.id, &mut node.sink()).unwrap();
    node.system.set_bounds(1, usize::MAX);
    let other = node.listen(raw, Some(&starter));
    let _client = other.connect();
    starter.started();
}

#[test]
fn an_acceptor_who_was_woken_and_died_leaves_the_connection_to_the_next() {
    let node = Node::new();
    let (first, second) = (node.spawn(), node.spawn());
    let port = node.listen(accepting(), None);
    let wait = wait_accept(&node, port, &first);
    let next = wait_accept(&node, port, &second);
    let _client = port.connect();
    wait.woken();
    node.kill(&first);
    next.woken();
    accept(&node, port, &second);
}
