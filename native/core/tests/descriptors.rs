//! Out of descriptors: accepting pauses, what is open is served, and closing makes room.
//!
//! A binary of its own, since it lowers the limit of its process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

/// Clients have sockets.
pub(crate) const IS_BRIDGED: bool = false;

use common::*;
use megaphone_core::{Errno, ListenerConfig, Mode, Notice};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

const CLIENTS: usize = 60;
const ROOM: usize = 20;

/// Tests that lower the limit of their process take turns.
static LIMIT: Mutex<()> = Mutex::new(());

#[test]
fn without_descriptors_accepting_pauses_until_some_are_closed() {
    let _turn = LIMIT.lock().unwrap();
    let node = Node::with(config(1, 1000));
    let starter = node.spawn();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // The kernel holds them until the node begins to accept.
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit_that_leaves(ROOM));
    setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum }).unwrap();

    let config = ListenerConfig { mode: Mode::Raw, ..ListenerConfig::default() };
    let id = node.system.listen(socket.into(), config, Some(starter.pid)).unwrap();
    let Notice::AcceptPaused { listener, connections, error } = node.notice() else { panic!("paused") };
    assert_eq!((listener, error), (id, Some(Errno::MFILE)));
    assert!((ROOM..=ROOM + 1).contains(&connections), "{connections} accepted");

    // Every client has its turn when those before it are done, and whoever is in is served meanwhile.
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"ping").unwrap();
        let conn = starter.started();
        assert_eq!(node.recv(conn, &starter, 4).unwrap(), b"ping");
        node.send(conn, &starter, b"pong").unwrap();
        node.system.close(conn, &mut node.sink()).unwrap();
        assert_eq!(read_to_end(&*client), b"pong");
    }
    assert_eq!(node.system.listener_info(id).unwrap().accepted, CLIENTS as u64);
    let paused = node.notices().iter().filter(|told| matches!(told, Notice::AcceptPaused { .. })).count();
    assert_eq!(paused, 0, "told once is enough");
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[test]
fn arrivals_at_one_listener_do_not_put_off_another() {
    const ARRIVALS: usize = 200;
    let _turn = LIMIT.lock().unwrap();
    let node = Node::with(config(1, 1000));
    let (busy_starter, starter) = (node.spawn(), node.spawn());
    let [busy, quiet] = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let (busy_address, address) = (busy.local_addr().unwrap(), quiet.local_addr().unwrap());
    let _first = [busy_address, address].map(|address| TcpStream::connect(address).unwrap());
    let clients: Vec<_> = (0..ARRIVALS).map(|_| client_to_be()).collect();
    let spare: Vec<_> = (0..ARRIVALS + 20).map(|_| client_to_be()).collect();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit_that_leaves(0)), maximum: limit.maximum })
        .unwrap();
    let config = ListenerConfig { mode: Mode::Raw, ..ListenerConfig::default() };
    let ids = [(busy, &busy_starter), (quiet, &starter)].map(|(socket, starter)| {
        node.system.listen(socket.into(), config.clone(), Some(starter.pid)).unwrap()
    });
    for id in ids {
        eventually("paused", || node.system.listener_info(id).unwrap().is_paused);
    }
    // There is room again, which only a look tells.
    drop(spare);
    let mut arrived = 0;
    while starter.is_quiet() {
        assert!(arrived < ARRIVALS, "put off for as long as others arrive");
        rustix::net::connect(&clients[arrived], &busy_address).unwrap();
        arrived += 1;
        std::thread::park_timeout(Duration::from_millis(20));
    }
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[test]
fn above_a_descriptor_number_none_is_accepted_until_one_closes() {
    const ROOM: usize = 10;
    let _turn = LIMIT.lock().unwrap();
    let raw = ListenerConfig { mode: Mode::Raw, ..ListenerConfig::default() };
    let node = Node::with(config(1, 1000));
    let starter = node.spawn();
    let port = node.listen(raw, Some(&starter));
    let mut clients: Vec<_> = (0..40).map(|_| port.connect()).collect();
    let mut open: Vec<_> = (0..40).map(|_| starter.started()).collect();
    // The clients have the lowest numbers: what the node is given next is the lowest free one.
    let highest = 3 + std::fs::read_dir("/proc/self/fd").unwrap().count();
    node.system.set_bounds(1000, highest);
    clients.extend((0..ROOM * 4).map(|_| port.connect()));
    let info = || node.system.listener_info(port.id).unwrap();
    eventually("paused", || info().is_paused);
    assert!(info().connections <= 40 + ROOM, "{} connections", info().connections);
    assert!(matches!(node.notice(), Notice::AcceptPaused { error: Some(_), .. }));
    // All have their turn when others go.
    let mut turns = 40;
    while turns < 40 + ROOM * 4 {
        if let Some(conn) = open.pop() {
            node.system.abort(conn, &mut node.sink()).unwrap();
            drop(clients.remove(0));
        }
        while !starter.is_quiet() {
            open.push(starter.started());
            turns += 1;
        }
    }
    assert_eq!(info().accepted as usize, turns);
}

fn client_to_be() -> rustix::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketType, socket};
    socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
}

/// Descriptors get the lowest free numbers, and the limit is on numbers; what the test inherited may leave gaps.
/// One more is left when the directory's own descriptor was below the limit.
fn limit_that_leaves(room: usize) -> u64 {
    let used: Vec<u64> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    (0..).filter(|number| !used.contains(number)).nth(room).unwrap()
}
