//! Threads that hold a connection's lock all the time do not stop its reactor, and nothing is lost.

use crate::common::*;
use crate::xmpp_client::*;
use megaphone_core::{Effort, ListenerConfig, Mode, Outgoing, XmppId};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

const STREAMS: usize = 4;
const STANZAS: usize = 1500;

#[test]
fn streams_under_traffic_lose_nothing_while_others_have_their_locks() {
    let node = Node::with(config(1, 100));
    let xmpp = ListenerConfig { mode: Mode::Xmpp, ..ListenerConfig::default() };
    let port = node.listen(xmpp, Some(&node.spawn()));
    let starter = node.spawn();
    node.system.set_starter(port.id, starter.pid, &mut node.sink()).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for _ in 0..STREAMS {
            let mut client = port.connect();
            client.write_all(HEADER).unwrap();
            let (id, owner) = (starter.started_xmpp(), node.spawn());
            node.own(id, &owner);
            let (pid, node) = (owner.pid, &node);
            running.push(scope.spawn(move || serve(node, id, &owner)));
            let mut writer = client.try_clone().unwrap();
            running.push(scope.spawn(move || {
                for n in 0..STANZAS {
                    writer.write_all(format!("<iq id='{n}'/>").as_bytes()).unwrap();
                }
            }));
            running.push(scope.spawn(move || {
                let expected: String = (0..STANZAS).map(|n| format!("<iq id='{n}'/>")).collect();
                let mut all = vec![0; expected.len()];
                client.read_exact(&mut all).unwrap();
                assert!(all == expected.as_bytes());
            }));
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = node.system.xmpp_flush(id, pid, &mut node.sink());
                    let _ = node.system.xmpp_facts(id);
                }
            });
        }
        running.into_iter().for_each(|thread| thread.join().expect("all of it"));
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_reactor_goes_on_while_another_thread_has_a_connection_and_comes_back_to_it() {
    let node = Node::with(config(1, 100));
    let owner = node.spawn();
    let (held, mut client) = node.raw(&owner);
    let (other, mut others_client) = node.raw(&owner);
    let ((entered, is_entered), (release, is_released)) = (channel(), channel());
    let (waiter, wait) = waiter();
    std::thread::scope(|scope| {
        let (node, pid) = (&node, owner.pid);
        scope.spawn(move || {
            // It is called with the connection locked.
            let slow = move || {
                entered.send(()).unwrap();
                is_released.recv_timeout(PATIENCE).unwrap();
                waiter
            };
            let sink = &mut node.sink();
            node.system
                .read(held, pid, (0, Effort::Normal), sink, Some(slow), |_, _| panic!("nothing was there"))
                .unwrap();
        });
        is_entered.recv_timeout(PATIENCE).unwrap();
        client.write_all(b"for the one that is held").unwrap();
        for round in 0..10 {
            others_client.write_all(&[round]).unwrap();
            assert_eq!(node.recv(other, &owner, 1).unwrap(), [round]);
        }
        assert!(wait.is_pending());
        release.send(()).unwrap();
    });
    wait.woken();
    assert_eq!(node.recv(held, &owner, 0).unwrap(), b"for the one that is held");
}

/// Echoes.
fn serve(node: &Node, id: XmppId, owner: &Process) {
    assert_eq!(owner.event(), "start stream:stream");
    for n in 0..STANZAS {
        let event = owner.event();
        assert_eq!(event, format!("<iq id='{n}'/>"));
        while let Some(wait) = node.xmpp_send(id, owner, Outgoing::Element(&element(&event))) {
            wait.woken();
        }
        if !owner.has_events() {
            node.xmpp_flush(id, owner);
        }
    }
}
