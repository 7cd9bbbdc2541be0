//! Work is bounded: of one hold of a connection's lock, and of one visit before others have theirs.

use crate::common::*;
use crate::websockets::upgraded;
use crate::xmpp_client::*;
use megaphone_core::packet::Mode as Framing;
use megaphone_core::{Active, Event, ListenerConfig, Opt, Owned, Packets, Sink};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Counts what a call emits.
struct Counting {
    sink: TestSink,
    bytes: usize,
}

impl Sink<TestHost> for Counting {
    fn emit(&mut self, event: Event<'_, TestHost>) {
        if let Event::Data { packet: megaphone_core::packet::Packet::Line(bytes), .. } = &event {
            self.bytes += bytes.len();
        }
        self.sink.emit(event);
    }

    fn watch(&mut self, process: Pid, owned: Owned) -> bool {
        self.sink.watch(process, owned)
    }

    fn unwatch(&mut self, process: Pid, owned: Owned) {
        self.sink.unwatch(process, owned);
    }
}

#[test]
fn one_call_emits_no_more_than_64_kb_of_what_was_read_ahead() {
    const LINES: usize = 60_000;
    let node = Node::new();
    let owner = node.spawn();
    let mut config = ListenerConfig::default();
    config.options.recv_high_watermark = 1024 * 1024;
    let (conn, mut client) = node.raw_with(&owner, config);
    client.write_all(&b"line\n".repeat(LINES)).unwrap();
    eventually("all is read ahead", || node.info(conn).inbound == 5 * LINES);
    node.set(conn, Opt::Packets(Packets { mode: Framing::Line, is_bin: true }));
    let mut sink = Counting { sink: node.sink(), bytes: 0 };
    node.system.set(conn, Opt::Active(Active::On), &mut sink).unwrap();
    assert!((1..=64 * 1024 + 5).contains(&sink.bytes), "{} bytes", sink.bytes);
    for _ in 0..LINES {
        assert!(matches!(owner.next(), Message::Data { bytes, .. } if bytes == b"line\n"));
    }
}

#[test]
fn a_read_of_64_mb_is_served() {
    const LEN: usize = 64 * 1024 * 1024;
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client) = node.raw(&owner);
    let writer = write_in_background(&client, pattern(0, LEN));
    assert!(node.recv(conn, &owner, LEN).unwrap() == pattern(0, LEN));
    writer.join().unwrap();
    assert_eq!(node.info(conn).inbound, 0);
    assert!(node.info(conn).traffic.largest_read <= 16 * 1024, "a measure at a time");
}

#[test]
fn a_send_of_64_mb_arrives() {
    const LEN: usize = 64 * 1024 * 1024;
    let node = Node::new();
    let owner = node.spawn();
    let (conn, mut client) = node.raw(&owner);
    let sent = pattern(0, LEN);
    node.send(conn, &owner, &sent).unwrap();
    let mut got = vec![0; LEN];
    client.read_exact(&mut got).unwrap();
    assert!(got == sent);
}

#[test]
fn websockets_that_send_empty_pongs_do_not_hold_up_another_connection() {
    const FLOODERS: usize = 40;
    let node = Node::with(config(1, 100));
    let (starters, flooders): (Vec<_>, Vec<_>) = (0..FLOODERS).map(|_| upgraded(&node)).unzip();
    let flooding: Vec<_> = node.system.connections();
    let owner = node.spawn();
    let (conn, mut client) = node.raw(&owner);
    let pongs = masked(10, b"").repeat(20_000);
    let is_over = AtomicBool::new(false);
    let received = || flooding.iter().map(|conn| node.info(*conn).traffic.received).sum::<u64>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for client in &flooders {
                client.set_nonblocking(true).unwrap();
            }
            // What was taken of a frame is not sent again.
            let mut at = [0; FLOODERS];
            while !is_over.load(Ordering::Relaxed) {
                for (mut flooder, at) in flooders.iter().zip(&mut at) {
                    *at += flooder.write(&pongs[*at % 6..]).unwrap_or(0);
                }
            }
        });
        eventually("they flood", || received() > 1_000_000);
        for round in 0..20 {
            let before = received();
            client.write_all(&[round]).unwrap();
            assert_eq!(node.recv(conn, &owner, 1).unwrap(), [round]);
            node.send(conn, &owner, &[round]).unwrap();
            assert_eq!(read_exactly(&client, 1), [round]);
            eventually("and still flood", || received() > before);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(starters.iter().all(Process::is_quiet));
    for conn in flooding {
        assert!(node.info(conn).traffic.largest_read <= 16 * 1024, "a measure at a visit");
    }
}
