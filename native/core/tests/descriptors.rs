//! Out of descriptors: accepting pauses, what is open is served, and closing makes room.
//!
//! A binary of its own, since it lowers the limit of its process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::*;
use megaphone_core::{Errno, ListenerConfig, Mode, Notice};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use std::net::{TcpListener, TcpStream};

const CLIENTS: usize = 60;
const ROOM: usize = 20;

#[test]
fn without_descriptors_accepting_pauses_until_some_are_closed() {
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

/// Descriptors get the lowest free numbers, and the limit is on numbers; what the test inherited may leave gaps.
/// One more is left when the directory's own descriptor was below the limit.
fn limit_that_leaves(room: usize) -> u64 {
    let used: Vec<u64> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    (0..).filter(|number| !used.contains(number)).nth(room).unwrap()
}
