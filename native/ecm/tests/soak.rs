//! Clients that do whatever clients do, while links are cut: nothing is mixed up, and nothing is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::ecm::{Ecm, Plan, connect, free_address, rest, wait_until};
use common::node::TestNode;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const THREADS: usize = 8;
const CLIENTS: usize = 600;

/// Numbers that look like chance, and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// One client's life. What comes back has to be what went.
fn live(listen: SocketAddr, dice: &mut Dice) {
    let mut client = connect(listen);
    let mut due: Vec<u8> = Vec::new();
    for step in 0..dice.roll(8) {
        let piece = vec![(step + dice.roll(200)) as u8; 1 + dice.roll(20_000) as usize];
        client.write_all(&piece).unwrap();
        due.extend_from_slice(&piece);
        let mut back = vec![0; dice.roll(due.len() as u64 + 1) as usize];
        client.read_exact(&mut back).unwrap();
        assert!(back == due[..back.len()]);
        due.drain(..back.len());
    }
    match dice.roll(3) {
        0 => {
            client.shutdown(Shutdown::Write).unwrap();
            assert!(rest(&mut client) == (due, false));
        }
        1 => drop(client),
        _ => reset(client),
    }
}

fn reset(client: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
}

#[test]
fn nothing_is_mixed_up_or_left_behind() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let plan = Plan::default().root("workers = 2").listener(listen, "echo", "");
    let mut ecm = Ecm::start(&plan.node(&node, "links = 2"));
    let left = AtomicUsize::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let left = &left;
            scope.spawn(move || {
                let mut dice = Dice(thread as u64);
                (0..CLIENTS).for_each(|_| live(listen, &mut dice));
                left.fetch_sub(1, Ordering::Relaxed);
            });
        }
        while left.load(Ordering::Relaxed) > 0 {
            // One that does not last a second is not made again at once.
            std::thread::sleep(Duration::from_millis(1050));
            node.cut();
        }
    });
    // Some have gone before anybody has seen them.
    let opened = node.opened();
    assert!((THREADS * CLIENTS * 3 / 4..=THREADS * CLIENTS).contains(&opened), "{opened}");
    assert!(node.resumed() > 0);
    wait_until("no stream is left", || node.streams() == 0);
    // Nobody is waited for.
    ecm.signal(rustix::process::Signal::TERM);
    assert_eq!(ecm.exit_code(), Some(0));
    assert_eq!((ecm.count("lost with its clients"), ecm.count("panicked")), (0, 0));
}
