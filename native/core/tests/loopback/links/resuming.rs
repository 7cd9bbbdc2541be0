//! Links that lose their connection.

use super::*;
use megaphone_core::link::{Cause, End, Failure, Refusal};
use megaphone_core::{Error, LinkListenerConfig, Notice, Opt};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn a_cut_link_goes_on_with_nothing_lost_or_repeated() {
    let node = Node::new();
    let starter = node.spawn();
    node.listen(named("raw", Mode::Raw), Some(&starter));
    let port = node.listen_links(node_config());
    let mut ecm = Ecm::dial(port);
    let (conn, number) = connected(&node, &starter, &mut ecm);
    let (mut up, mut down, mut received) = (0, 0, 0);
    let mut random = Random(7);
    for round in 0..20 {
        let piece = pattern(up, 20_000);
        up += piece.len();
        ecm.send(number, &piece);
        for _ in 0..random.below(40) {
            let next = pattern(down, 1000);
            if node.try_send(conn, &starter, &next).unwrap().is_none() {
                down += next.len();
            }
            if random.below(4) == 0 {
                ecm.turn();
            }
            while let Ok(Ok(more)) = node.try_read(conn, &starter, 0) {
                assert!(more == pattern(received, more.len()), "round {round}");
                received += more.len();
            }
            node.system.cancel_wait(conn, starter.pid, &mut node.sink()).unwrap();
        }
        ecm.cut();
        node.send_if_room(conn, &starter, &mut down);
        ecm.resume(port).expect("resumed");
    }
    while received < up {
        ecm.turn();
        while let Ok(Ok(more)) = node.try_read(conn, &starter, 0) {
            assert!(more == pattern(received, more.len()));
            received += more.len();
        }
        node.system.cancel_wait(conn, starter.pid, &mut node.sink()).unwrap();
    }
    let all = ecm.received(number, down);
    assert!(all == pattern(0, down), "{} bytes", all.len());
    assert_eq!(node.system.links()[0].resumed, 20);
    let kinds: Vec<Notice> = std::iter::from_fn(|| Some(node.notice())).take(3).collect();
    assert!(matches!(kinds[0], Notice::LinkUp { .. }));
    assert!(kinds.iter().any(|notice| matches!(notice, Notice::LinkResumed { .. })));
}

impl Node {
    /// While the link is suspended writers fill their buffers.
    fn send_if_room(&self, conn: megaphone_core::Conn, process: &Process, down: &mut usize) {
        let next = pattern(*down, 500);
        if self.try_send(conn, process, &next).unwrap().is_none() {
            *down += next.len();
        }
    }
}

#[test]
fn a_link_may_come_back_to_another_listener_of_the_same_secret() {
    let (node, starter, mut ecm) = linked();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    let first = node.system.links()[0].listener;
    let second = node.listen_links(node_config());
    node.system.close_listener(first, &mut node.sink()).unwrap();
    ecm.cut();
    ecm.resume(second).expect("resumed");
    ecm.send(number, b"as before");
    assert_eq!(node.recv(conn, &starter, 0), Ok(b"as before".to_vec()));
    eventually("it belongs to the new one", || node.system.links()[0].listener == second.id);
    assert_eq!(node.system.listener_info(first).map(|_| ()), Err(Error::Closed), "the first is forgotten");
}

#[test]
fn nobody_resumes_a_link_with_another_secret_or_name_or_late() {
    let (node, _starter, mut ecm) = linked();
    ecm.open("raw");
    let link = Arc::new(settings("node@test", &[9; 32]));
    let other = node.listen_links(LinkListenerConfig::new(link));
    let port = node.listen_links(node_config());
    let try_as = |ecm: &mut Ecm, port, attempt, name, secret: &[u8]| {
        ecm.resume_as(port, attempt, &Arc::new(settings(name, secret))).err()
    };
    let gone = Some(Failure::Refused(Refusal::Gone));
    assert_eq!(try_as(&mut ecm, other, 1, "ecm", &[9; 32]), gone);
    assert_eq!(try_as(&mut ecm, port, 1, "another", &SECRET), gone);
    assert_eq!(try_as(&mut ecm, port, 5, "ecm", &SECRET), None);
    let stale = Some(Failure::Refused(Refusal::Stale));
    assert_eq!(try_as(&mut ecm, port, 5, "ecm", &SECRET), stale);
    assert!(node.system.links()[0].is_connected);
}

#[test]
fn a_link_that_does_not_come_back_ends_its_connections() {
    let node = Node::new();
    let starter = node.spawn();
    node.listen(named("raw", Mode::Raw), Some(&starter));
    let mut link = settings("node@test", &SECRET);
    link.resume_timeout = Duration::from_millis(500);
    let port = node.listen_links(LinkListenerConfig::new(Arc::new(link)));
    let mut ecm = Ecm::dial(port);
    // More than end at a visit.
    let all: Vec<_> = (0..1000).map(|_| connected(&node, &starter, &mut ecm).0).collect();
    node.set(all[999], Opt::ShowEconnreset(true));
    let wait = node.wait_read(all[999], &starter, 0);
    ecm.cut();
    wait.woken();
    assert_eq!(node.recv(all[999], &starter, 0), Err(Error::Os(megaphone_core::Errno::CONNRESET)));
    for conn in &all[..999] {
        assert_eq!(node.recv(*conn, &starter, 0), Err(Error::Closed));
    }
    node.emptied();
    assert_eq!(ecm.resume(port).err(), Some(Failure::Refused(Refusal::Gone)));
    let notices: Vec<Notice> = std::iter::from_fn(|| Some(node.notice())).take(4).collect();
    assert!(matches!(notices[1], Notice::LinkCut { streams: 1000, .. }), "{notices:?}");
    assert!(
        matches!(notices[2], Notice::LinkLost { streams: 1000, cause: Cause::NotResumed, .. }),
        "{notices:?}"
    );
}

#[test]
fn a_manager_that_ends_its_link_ends_its_connections() {
    let (node, starter, mut ecm) = linked();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    ecm.send(number, b"last words");
    ecm.end(End::Done);
    assert_eq!(node.recv(conn, &starter, 10), Ok(b"last words".to_vec()));
    assert_eq!(node.recv(conn, &starter, 0), Err(Error::Closed));
    node.emptied();
    eventually("no link is left", || node.system.links().is_empty());
}

/// Many threads, whose streams share a link that is cut again and again.
#[test]
fn echoes_are_whole_however_often_the_link_is_cut() {
    const STREAMS: usize = 8;
    const BYTES: usize = 300_000;
    let node = Node::new();
    let starter = node.spawn();
    node.listen(named("raw", Mode::Raw), Some(&starter));
    let port = node.listen_links(node_config());
    let mut ecm = Ecm::dial(port);
    let all: Vec<_> = (0..STREAMS).map(|_| connected(&node, &starter, &mut ecm)).collect();
    let echoers: Vec<Process> = all.iter().map(|_| node.spawn()).collect();
    std::thread::scope(|scope| {
        for ((conn, _), process) in all.iter().zip(echoers) {
            let node = &node;
            scope.spawn(move || {
                while let Ok(bytes) = node.recv(*conn, &process, 0) {
                    if node.send(*conn, &process, &bytes).is_err() {
                        return;
                    }
                }
            });
        }
        for (_, number) in &all {
            ecm.send(*number, &pattern(*number as usize, BYTES));
        }
        let mut random = Random(11);
        let is_done = |ecm: &Ecm| all.iter().all(|(_, number)| ecm.client(*number).received.len() == BYTES);
        while !is_done(&ecm) {
            for _ in 0..random.below(30) {
                ecm.turn();
            }
            ecm.cut();
            ecm.resume(port).expect("resumed");
        }
        for (_, number) in &all {
            assert!(ecm.client(*number).received == pattern(*number as usize, BYTES));
            ecm.close(*number, Reason::Eof);
        }
        ecm.until("all have left", |ecm| all.iter().all(|(_, number)| ecm.client(*number).left.is_some()));
    });
    ecm.until("all are gone", |ecm| ecm.link.streams() == 0);
    node.emptied();
}
