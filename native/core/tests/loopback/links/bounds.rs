//! Slow ones, greedy ones, and those who break the rules.

use super::*;
use megaphone_core::link::{Cause, End, PeerError};
use megaphone_core::{Notice, Opt};

#[test]
fn what_nobody_reads_is_bounded_and_stops_nobody_else() {
    let (node, starter, mut ecm) = linked();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    let (other, quick) = connected(&node, &starter, &mut ecm);
    node.set(conn, Opt::RecvHighWatermark(1000));
    ecm.send(number, &pattern(0, 200_000));
    ecm.until("all credit used", |ecm| ecm.link.credit(number) == Some(0));
    ecm.send(quick, b"still moving");
    let reader = node.spawn();
    assert_eq!(node.recv(other, &reader, 0), Ok(b"still moving".to_vec()));
    // A read of the reactor's may go up to 16 KB beyond the watermark: as much as was granted, once and again by half.
    let unsent = ecm.unsent(number);
    assert!(unsent >= 200_000 - 3 * 8192, "{unsent} bytes wait where they are the client's");
    let info = node.info(conn);
    assert!(info.inbound <= 2 * 8192 && info.bytes <= 10_000, "{info:?}");
    let mut all = 0;
    while all < 200_000 {
        ecm.turn();
        while let Ok(Ok(more)) = node.try_read(conn, &starter, 0) {
            assert!(more == pattern(all, more.len()));
            all += more.len();
        }
        node.system.cancel_wait(conn, starter.pid, &mut node.sink()).unwrap();
    }
}

#[test]
fn a_client_that_takes_nothing_stops_its_writer_and_nobody_else() {
    let (node, starter, mut ecm) = linked();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    let (other, quick) = connected(&node, &starter, &mut ecm);
    ecm.reads = false;
    let (mut taken, _) = node.fill(conn, &starter);
    // What there was credit for has left, and made room.
    assert_eq!(ecm.received(number, 8192).len(), 8192, "no more than it has granted");
    let mut wait = None;
    while wait.is_none() {
        let next = pattern(taken.len(), 1000);
        wait = node.try_send(conn, &starter, &next).unwrap();
        taken.extend(if wait.is_none() { next } else { Vec::new() });
    }
    // The first credit, the stream's buffer, and what may be queued.
    assert!(taken.len() <= 8192 + 16_384 + 8192 + 1000, "{} bytes", taken.len());
    node.send(other, &starter, b"still moving").unwrap();
    assert_eq!(ecm.received(quick, 12), b"still moving");
    assert_eq!(ecm.client(number).received.len(), 8192);
    ecm.reads = true;
    ecm.grant(number, 8192);
    assert!(ecm.received(number, taken.len()) == taken);
    wait.unwrap().woken();
}

#[test]
fn a_peer_that_breaks_the_rules_loses_its_link_and_no_other() {
    let node = Node::new();
    let starter = node.spawn();
    node.listen(named("raw", Mode::Raw), Some(&starter));
    let port = node.listen_links(node_config());
    let mut good = Ecm::dial(port);
    let (kept, number) = connected(&node, &starter, &mut good);
    // Data for a stream that is not there, and on one more than was granted, by frames of our own.
    let unknown = [&[2, 0, 1, 0, 0, 0, 9][..], b"x"].concat();
    let greedy: Vec<u8> = (0..9).flat_map(|_| [&[2, 4, 0, 0, 0, 0, 0][..], &[0; 1024]].concat()).collect();
    let credit = [4, 0, 4, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff].to_vec();
    let cases = [
        (unknown, PeerError::UnknownStream(9)),
        (greedy, PeerError::CreditExceeded(0)),
        (credit, PeerError::BadCredit(0)),
        (vec![99], PeerError::UnknownFrame(99)),
    ];
    assert!(matches!(node.notice(), Notice::LinkUp { .. }));
    for (at, (bytes, error)) in cases.into_iter().enumerate() {
        let mut bad = Ecm::dial(port);
        let (conn, _) = connected(&node, &starter, &mut bad);
        bad.write_raw(&bytes);
        bad.until("the end", |ecm| ecm.lost.is_some());
        assert_eq!(bad.lost, Some(Cause::EndedByPeer(End::Protocol)));
        eventually("its connection's end", || {
            node.system.info(conn).is_err() || {
                let _ = node.try_read(conn, &starter, 0);
                false
            }
        });
        if at == 0 {
            let Notice::LinkLost { cause, streams, ecm, .. } = node.notice() else { panic!("what of it?") };
            assert_eq!((cause, streams, &*ecm), (Cause::Peer(error), 1, "ecm"));
        }
    }
    good.send(number, b"as before");
    assert_eq!(node.recv(kept, &starter, 0), Ok(b"as before".to_vec()));
    assert_eq!(node.notices(), [], "once a minute");
}

#[test]
fn a_stream_for_a_listener_that_is_not_there_is_refused_and_one_without_a_process_has_no_room() {
    let (node, starter, mut ecm) = linked();
    let number = ecm.open("nobody");
    assert_eq!(ecm.left(number), Reason::Refused);
    node.system.set_process_room(0);
    let number = ecm.open("raw");
    assert_eq!(ecm.left(number), Reason::Overload, "no process could have it");
    node.system.set_process_room(1);
    connected(&node, &starter, &mut ecm);
    assert!(starter.is_quiet());
}

/// These are bounded for their descriptors' sake.
#[test]
fn streams_take_no_socket_s_place() {
    let node = Node::with(config_of(1));
    let starter = node.spawn();
    node.listen(named("raw", Mode::Raw), Some(&starter));
    let direct = node.listen(ListenerConfig { mode: Mode::Raw, ..ListenerConfig::default() }, Some(&starter));
    let mut ecm = Ecm::dial(node.listen_links(node_config()));
    for _ in 0..3 {
        connected(&node, &starter, &mut ecm);
    }
    assert!(matches!(node.notice(), Notice::LinkUp { .. }));
    let _client = direct.connect();
    starter.started();
    let _waits = direct.connect();
    assert!(matches!(node.notice(), Notice::AcceptPaused { connections: 4, .. }));
    connected(&node, &starter, &mut ecm);
    assert!(starter.is_quiet());
}

fn config_of(max_connections: usize) -> megaphone_core::Config {
    crate::common::config(2, max_connections)
}

/// A panic ends one connection of a link.
#[cfg(feature = "fault-injection")]
#[test]
fn a_panic_ends_one_stream_and_not_its_link() {
    let (node, starter, mut ecm) = linked();
    let ((conn, number), (other, quick)) =
        (connected(&node, &starter, &mut ecm), connected(&node, &starter, &mut ecm));
    node.system.inject_panic(megaphone_core::Owned::Connection(conn), 1);
    ecm.left(number);
    ecm.send(quick, b"as before");
    assert_eq!(node.recv(other, &starter, 0), Ok(b"as before".to_vec()));
}

#[test]
fn streams_by_the_thousand_take_turns_and_their_numbers_come_again() {
    let (node, starter, mut ecm) = linked();
    for round in 0..3 {
        let all: Vec<(megaphone_core::Conn, u32)> =
            (0..2000).map(|_| connected(&node, &starter, &mut ecm)).collect();
        for (conn, number) in &all {
            node.send(*conn, &starter, format!("{round} {number}").as_bytes()).unwrap();
        }
        for (_, number) in &all {
            let expected = format!("{round} {number}");
            assert_eq!(ecm.received(*number, expected.len()), expected.as_bytes());
            assert!((*number as usize) < 2000);
        }
        for (_, number) in &all {
            ecm.close(*number, Reason::Reset);
        }
        for (conn, _) in &all {
            assert!(node.recv(*conn, &starter, 0).is_err());
        }
        ecm.until("all gone", |ecm| ecm.link.streams() == 0);
    }
    node.emptied();
}

#[test]
fn a_link_that_never_stops_leaves_direct_connections_their_turns() {
    let node = Node::with(crate::common::config(1, 1000));
    let (starter, owner) = (node.spawn(), node.spawn());
    let port = node.listen(named("raw", Mode::Raw), Some(&starter));
    let mut ecm = Ecm::dial(node.listen_links(node_config()));
    let (flooded, number) = connected(&node, &starter, &mut ecm);
    node.system.give(flooded, starter.pid, owner.pid, &mut node.sink()).unwrap();
    node.set(flooded, Opt::Active(megaphone_core::Active::On));
    let client = port.connect();
    let conn = starter.started();
    node.system.handler_started(conn, starter.pid, &mut node.sink()).unwrap();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let is_over = &is_done;
        scope.spawn(move || {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                if ecm.unsent(number) < 8192 {
                    ecm.send(number, &[b'x'; 65536]);
                }
                ecm.turn();
                owner.drain();
            }
        });
        for round in 0..200 {
            let line = format!("{round:>10}");
            std::io::Write::write_all(&mut &client, line.as_bytes()).unwrap();
            assert_eq!(node.recv(conn, &starter, 10), Ok(line.clone().into_bytes()));
            node.send(conn, &starter, line.as_bytes()).unwrap();
            assert_eq!(read_exactly(&client, 10), line.as_bytes());
        }
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
