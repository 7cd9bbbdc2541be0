//! How a connection ends: its owner's doing, somebody else's, or the owner's death.

use crate::common::*;
use megaphone_core::{Active, Conn, Error, Event, ListenerConfig, Mode, Opt, Owned, Sink};
use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A connection with output that waits for a slow client.
#[track_caller]
fn with_output(node: &Node, owner: &Process) -> (Conn, TcpStream, Vec<u8>, Wait) {
    let (conn, client) = node.raw(owner);
    // More than the kernel takes, so that some is here until the client reads.
    let sent = pattern(0, 20_000_000);
    node.send(conn, owner, &sent).unwrap();
    let wait = node.try_send(conn, owner, b"more").unwrap().expect("a wait");
    (conn, client, sent, wait)
}

#[test]
fn what_is_queued_leaves_before_the_end() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client, sent, wait) = with_output(&node, &owner);
    let reading = node.wait_read(conn, &owner, 0);
    node.system.close(conn, &mut node.sink()).unwrap();
    wait.woken();
    reading.woken();
    assert_eq!(node.try_send(conn, &owner, b"x").err(), Some(Error::Closed));
    assert_eq!(node.system.close(conn, &mut node.sink()), Err(Error::Closed));
    assert_eq!(node.watches(), 0);
    assert!(read_to_end(&client) == sent);
    node.emptied();
}

#[test]
fn what_is_queued_leaves_though_its_owner_died() {
    let node = Node::new();
    let owner = node.spawn();
    let (_, client, sent, _) = with_output(&node, &owner);
    node.kill(&owner);
    assert!(read_to_end(&client) == sent);
    node.emptied();
}

#[test]
fn what_a_dead_process_had_is_closed_by_the_threads_of_the_shards() {
    if crate::IS_BRIDGED {
        // All streams of a link are one shard's.
        return;
    }
    const CONNECTIONS: usize = 1000;
    let node = Node::new();
    let owner = node.spawn();
    let port = node.listen(ListenerConfig { mode: Mode::Raw, ..ListenerConfig::default() }, Some(&owner));
    let clients: Vec<TcpStream> = (0..CONNECTIONS).map(|_| port.connect()).collect();
    for _ in &clients {
        node.system.handler_started(owner.started(), owner.pid, &mut node.sink()).unwrap();
    }
    assert_eq!(node.watches(), CONNECTIONS);
    node.kill(&owner);
    assert!(
        clients.iter().all(|client| read_to_end(client).is_empty()),
        "each client sees an end in good order"
    );
    node.emptied();
    assert_eq!(node.unwatchers(), ["megaphone_tcp/0", "megaphone_tcp/1"]);
}

#[test]
fn the_port_of_a_dead_process_is_free_at_once_and_who_waits_there_is_told() {
    if crate::IS_BRIDGED {
        // The port that is looked at is the connection manager's.
        return;
    }
    let node = Node::with(config(1, 100));
    let (owner, acceptor) = (node.spawn(), node.spawn());
    let listening = ListenerConfig { mode: Mode::Accept, ..ListenerConfig::default() };
    let port = node.listen(listening, None);
    let (waiter, wait) = waiter();
    let accepted = node.system.accept(port.id, acceptor.pid, || waiter, &mut node.sink());
    assert_eq!(accepted, Ok(None));
    node.system.process_ended(owner.pid, vec![Owned::Listener(port.id)], &[port.id]);
    std::net::TcpListener::bind(port.address).expect("a free port");
    wait.woken();
    eventually("it is forgotten", || node.system.listener_info(port.id).is_err());
}

#[test]
fn another_descriptor_of_the_socket_listens_on_unless_it_is_shut_with_its_owner() {
    for shut_with_owner in [false, true] {
        let node = Node::with(config(1, 100));
        let owner = node.spawn();
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let listening = ListenerConfig { shut_with_owner, ..ListenerConfig::default() };
        let id = node.system.listen(other.try_clone().unwrap().into(), listening, None).unwrap();
        node.system.process_ended(owner.pid, vec![Owned::Listener(id)], &[id]);
        assert_eq!(std::net::TcpListener::bind(address).is_ok(), shut_with_owner);
        assert_eq!(TcpStream::connect(address).is_err(), shut_with_owner);
    }
}

/// Tells when it has been asked with a connection locked, and keeps the lock until it is told to go on.
struct Holding(Sender<()>, Receiver<()>);

impl Sink<TestHost> for Holding {
    fn emit(&mut self, _: Event<'_, TestHost>) {}

    fn watch(&mut self, _: Pid, _: Owned) -> bool {
        self.0.send(()).unwrap();
        self.1.recv().unwrap();
        false
    }

    fn unwatch(&mut self, _: Pid, _: Owned) {}
}

#[test]
fn what_another_thread_has_locked_when_its_owner_dies_is_closed_afterwards() {
    let node = Node::with(config(1, 100));
    let (owner, other) = (node.spawn(), node.spawn());
    let (conn, client) = node.raw(&owner);
    let (_, next) = node.raw(&owner);
    let (quiet, mut talker) = node.raw(&other);
    let ((has_locked, locked), (go_on, told)) = (channel(), channel());
    std::thread::scope(|scope| {
        let give = || node.system.give(conn, owner.pid, other.pid, &mut Holding(has_locked, told));
        let giver = scope.spawn(give);
        locked.recv_timeout(PATIENCE).unwrap();
        node.kill(&owner);
        // The one thread that closes does not wait for that lock.
        for _ in 0..3 {
            talker.write_all(b"hello").unwrap();
            assert_eq!(node.recv(quiet, &other, 5), Ok(b"hello".to_vec()));
        }
        go_on.send(()).unwrap();
        assert_eq!(giver.join().unwrap(), Err(Error::Invalid));
    });
    assert_eq!((read_to_end(&client), read_to_end(&next)), (Vec::new(), Vec::new()));
}

#[test]
fn what_comes_in_while_output_leaves_does_not_destroy_it() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, mut client, sent, _) = with_output(&node, &owner);
    node.system.close(conn, &mut node.sink()).unwrap();
    client.write_all(b"nobody reads this").unwrap();
    assert!(read_to_end(&client) == sent);
    drop(client);
    node.emptied();
}

#[test]
fn what_nobody_read_does_not_destroy_output() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client) = node.raw(&owner);
    let flood = write_in_background(&client, pattern(0, 500_000));
    eventually("input up to the mark", || node.info(conn).inbound >= 64 * 1024);
    node.send(conn, &owner, b"too much").unwrap();
    node.system.close(conn, &mut node.sink()).unwrap();
    assert_eq!(read_to_end(&client), b"too much");
    flood.join().unwrap();
    drop(client);
    node.emptied();
}

#[test]
fn a_reset_ends_the_flushing() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client, _, _) = with_output(&node, &owner);
    node.system.close(conn, &mut node.sink()).unwrap();
    reset(client);
    node.emptied();
}

#[test]
fn another_owner_keeps_it_open() {
    let node = Node::with(config(1, 100));
    let (first, second, stranger) = (node.spawn(), node.spawn(), node.spawn());
    let (conn, client) = node.raw(&first);
    let sink = &mut node.sink();
    assert_eq!(node.system.give(conn, stranger.pid, second.pid, sink), Err(Error::NotOwner));
    node.system.give(conn, first.pid, second.pid, sink).unwrap();
    node.system.give(conn, second.pid, second.pid, sink).unwrap();
    node.kill(&first);
    // A monitor that fired before the connection changed hands. The one behind shows when it has been looked at.
    let (behind, gone) = node.raw(&stranger);
    node.system.process_ended(first.pid, vec![Owned::Connection(conn), Owned::Connection(behind)], &[]);
    node.system.process_ended(stranger.pid, vec![Owned::Connection(behind)], &[]);
    assert_eq!(read_to_end(&gone), b"");
    node.send(conn, &second, b"alive").unwrap();
    assert_eq!(read_exactly(&client, 5), b"alive");
    assert_eq!(node.system.give(conn, second.pid, first.pid, sink), Err(Error::Invalid), "it is dead");
    node.kill(&second);
    assert_eq!(read_to_end(&client), b"");
    node.emptied();
    assert_eq!(node.watches(), 0);
}

#[test]
fn abort_is_at_once_and_tells_everybody() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client, sent, wait) = with_output(&node, &owner);
    node.set(conn, Opt::Active(Active::On));
    node.system.abort(conn, &mut node.sink()).unwrap();
    wait.woken();
    assert_eq!(owner.next(), Message::Closed { conn, error: None });
    assert_eq!(node.system.stats().connections, 0);
    assert_eq!(node.system.abort(conn, &mut node.sink()), Err(Error::Closed));
    assert!(read_to_end(&client).len() < sent.len());
}

#[test]
fn a_monitor_tells_once_unless_it_was_taken_back() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, _client) = node.raw(&owner);
    let (kept, kept_wait) = waiter();
    let (taken, taken_wait) = waiter();
    node.system.monitor(conn, owner.pid, 1, kept).unwrap();
    node.system.monitor(conn, owner.pid, 2, taken).unwrap();
    assert!(node.system.demonitor(conn, 2));
    assert!(!node.system.demonitor(conn, 2));
    assert!(taken_wait.is_dropped());
    assert!(kept_wait.is_pending());
    node.system.close(conn, &mut node.sink()).unwrap();
    kept_wait.woken();
    assert!(!node.system.demonitor(conn, 1));
    assert_eq!(node.system.monitor(conn, owner.pid, 3, waiter().0), Err(Error::Closed));
}

#[test]
fn monitors_of_dead_processes_do_not_gather() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, _client) = node.raw(&owner);
    let monitor = |process: &Process, key| {
        let (told, wait) = waiter();
        node.system.monitor(conn, process.pid, key, told).unwrap();
        wait
    };
    let lives = monitor(&owner, 0);
    let waits: Vec<_> = (1..=1_000)
        .map(|key| {
            let process = node.spawn();
            let wait = monitor(&process, key);
            node.kill(&process);
            wait
        })
        .collect();
    let kept = waits.iter().filter(|wait| !wait.is_dropped()).count();
    assert!(kept < 20, "{kept} of a thousand");
    assert!(lives.is_pending());
}

#[test]
fn a_handler_can_close_before_it_does_anything_else() {
    let node = Node::new();
    let starter = node.spawn();
    let config = ListenerConfig { mode: Mode::Raw, ..ListenerConfig::default() };
    let client = node.listen(config, Some(&starter)).connect();
    let conn = starter.started();
    node.system.close(conn, &mut node.sink()).unwrap();
    assert_eq!(read_to_end(&client), b"");
    node.emptied();
}

#[test]
fn a_name_of_another_time_reaches_nobody() {
    let node = Node::new();
    let owner = node.spawn();
    let (old, client) = node.raw(&owner);
    drop(client);
    assert_eq!(node.recv(old, &owner, 0), Err(Error::Closed));
    node.emptied();
    // One of these has the old one's slot.
    let all: Vec<_> = (0..4).map(|_| node.raw(&owner)).collect();
    let slot = |conn: Conn| conn.as_u64() >> 31;
    assert!(all.iter().any(|(conn, _)| slot(*conn) == slot(old)));
    assert_eq!(node.try_read(old, &owner, 0).err(), Some(Error::Closed));
    assert_eq!(node.system.abort(old, &mut node.sink()), Err(Error::Closed));
    assert_eq!(node.system.peer(old), Err(Error::Closed));
    assert_eq!(node.system.stats().connections, 4);
    assert_eq!(Conn::from_u64(old.as_u64()), Some(old));
}

#[test]
fn an_inherited_linger_time_does_not_hold_up_who_closes() {
    let linger = std::time::Duration::from_secs(600);
    let node = Node::with(config(1, 10));
    let owner = node.spawn();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_linger(&socket, Some(linger)).unwrap();
    let address = socket.local_addr().unwrap();
    let id = node.system.listen(socket.into(), ListenerConfig::default(), Some(owner.pid)).unwrap();
    let port = Port { id, address };
    let client = port.connect();
    let conn = owner.started();
    assert_eq!(node.system.get(conn, Opt::Linger(None)), Ok(Opt::Linger(Some(linger))));
    let _unread = node.fill(conn, &owner);
    node.system.abort(conn, &mut node.sink()).unwrap();
    node.emptied();
    drop(client);
    let _client = port.connect();
    owner.started();
}

#[test]
fn a_linger_time_bounds_how_long_output_may_take() {
    if crate::IS_BRIDGED {
        // A linger time is the socket's.
        return;
    }
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client, _sent, _wait) = with_output(&node, &owner);
    node.set(conn, Opt::Linger(Some(std::time::Duration::from_secs(1))));
    let began = std::time::Instant::now();
    node.system.close(conn, &mut node.sink()).unwrap();
    assert_eq!(node.info(node.system.connections()[0]).phase, "draining");
    node.emptied();
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
    drop(client);
}
