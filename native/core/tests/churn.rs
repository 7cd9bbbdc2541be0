//! Connections opened, used and closed at random, by several threads at once, with no regard for whose they
//! are: in the end nothing is left of them.
//!
//! A binary of its own, since it counts the descriptors of its process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

/// Clients have sockets.
pub(crate) const IS_BRIDGED: bool = false;

use common::*;
use megaphone_core::{Active, Conn, Effort, ListenerConfig, Mode, Opt, Shutdown};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

const THREADS: usize = 4;
const CONNECTIONS: usize = 5000;
/// Clients of one thread at a time.
const CLIENTS: usize = 40;

#[test]
fn nothing_is_left_of_connections_that_came_and_went() {
    let node = Node::new();
    let starter = node.spawn();
    let descriptors = open_descriptors();
    let ports =
        [Mode::Raw, Mode::Http, Mode::Accept].map(|mode| node.listen(impatient(mode), Some(&starter)));
    let workers: Vec<Worker<'_>> = std::thread::scope(|scope| {
        let run = |seed| {
            let (node, ports) = (&node, &ports);
            scope.spawn(move || Worker::new(node, ports, seed as u64).run())
        };
        let threads: Vec<_> = (0..THREADS).map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker")).collect()
    });
    for process in workers.iter().flat_map(|worker| &worker.processes) {
        node.kill(process);
    }
    for port in ports {
        assert!(node.system.listener_info(port.id).unwrap().accepted > CONNECTIONS as u64 / 10);
        node.system.close_listener(port.id, &mut node.sink()).unwrap();
    }
    // The last to be accepted may come after their listener's end.
    eventually("nothing left", || {
        let is_empty = node.system.stats().connections == 0 && node.system.connections().is_empty();
        is_empty && node.watches() == 0 && open_descriptors() == descriptors
    });
    let stuck = workers.iter().flat_map(|worker| &worker.waits).filter(|wait| wait.is_pending()).count();
    assert_eq!(stuck, 0, "waits that nothing ended");
}

/// With deadlines that end what nobody takes.
fn impatient(mode: Mode) -> ListenerConfig {
    let soon = Duration::from_millis(300);
    ListenerConfig {
        mode,
        head_timeout: soon,
        body_timeout: soon,
        idle_timeout: soon,
        start_timeout: soon,
        ..ListenerConfig::default()
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

struct Worker<'a> {
    node: &'a Node,
    ports: &'a [Port; 3],
    random: Random,
    processes: Vec<Process>,
    waits: Vec<Wait>,
    clients: Vec<TcpStream>,
}

impl<'a> Worker<'a> {
    fn new(node: &'a Node, ports: &'a [Port; 3], seed: u64) -> Self {
        let processes = (0..8).map(|_| node.spawn()).collect();
        Self { node, ports, random: Random(seed), processes, waits: Vec::new(), clients: Vec::new() }
    }

    fn run(mut self) -> Self {
        let mut opened = 0;
        while opened < CONNECTIONS / THREADS {
            if self.clients.len() < CLIENTS {
                let port = self.ports[self.random.below(self.ports.len())];
                self.clients.push(port.connect());
                opened += 1;
            }
            self.use_client();
            self.accept();
            let conns = self.node.system.connections();
            for _ in 0..4 {
                if !conns.is_empty() {
                    let conn = conns[self.random.below(conns.len())];
                    self.use_connection(conn);
                }
            }
        }
        self.clients.clear();
        self
    }

    /// What a client does; the other side may have closed, so that any of it may fail.
    fn use_client(&mut self) {
        let at = self.random.below(self.clients.len());
        let client = &mut self.clients[at];
        client.set_nonblocking(true).unwrap();
        let _may_fail = match self.random.below(8) {
            0 => client.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            1 => client.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nbody"),
            2 => client.write(&pattern(0, 100_000)),
            3 => client.shutdown(std::net::Shutdown::Write).map(|()| 0),
            4 => {
                reset(self.clients.swap_remove(at));
                Ok(0)
            }
            5 | 6 => {
                self.clients.swap_remove(at);
                Ok(0)
            }
            _ => std::io::Read::read(client, &mut [0; 50_000]),
        };
    }

    fn accept(&mut self) {
        let process = &self.processes[self.random.below(8)];
        let id = self.ports[2].id;
        match self.random.below(3) {
            0 => drop(self.node.system.cancel_accept(id, process.pid)),
            _ => {
                let (waiter, wait) = waiter();
                let accepted = self.node.system.accept(id, process.pid, || waiter, &mut self.node.sink());
                accepted.expect("the listener is open");
                self.waits.push(wait);
            }
        }
    }

    /// What some process does with some connection; mostly it is told that it can't.
    fn use_connection(&mut self, conn: Conn) {
        let Self { node, random, processes, waits, .. } = self;
        let (at, other) = (random.below(8), random.below(8));
        let process = &processes[at];
        let (pid, other) = (process.pid, processes[other].pid);
        let sink = &mut node.sink();
        let _may_fail = match random.below(16) {
            0..=2 => match node.try_read(conn, process, [0, 1, 2000][random.below(3)]) {
                Ok(Err((wait, _))) => {
                    waits.push(wait);
                    Ok(())
                }
                other => other.map(drop),
            },
            3 | 4 => {
                let sent = node.try_send(conn, process, &pattern(0, random.below(30_000)));
                sent.map(|wait| waits.extend(wait))
            }
            5 => node.system.cancel_wait(conn, pid, sink).map(drop),
            6 => node.system.park(conn, pid, sink).map(drop),
            7 => node.system.close(conn, sink),
            8 => node.system.abort(conn, sink),
            9 => {
                let active = [Active::On, Active::Once, Active::Count(3), Active::Off][random.below(4)];
                node.system.set(conn, Opt::Active(active), sink)
            }
            10 => node.system.give(conn, pid, other, sink),
            11 => {
                let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][random.below(3)];
                node.system.shutdown(conn, how, sink)
            }
            12 => {
                let (waiter, wait) = waiter();
                waits.push(wait);
                node.system.monitor(conn, pid, random.next().into(), waiter)
            }
            13 => node.system.unread(conn, b"again", Effort::Normal).map(drop),
            14 => node.system.handler_started(conn, pid, sink),
            _ => {
                node.kill(process);
                processes[at] = node.spawn();
                Ok(())
            }
        };
    }
}
