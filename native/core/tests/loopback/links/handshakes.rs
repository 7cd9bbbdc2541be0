//! Who reaches the port and is no connection manager of ours.

use super::*;
use megaphone_core::link::{Failure, Refusal};
use megaphone_core::{LinkListenerConfig, Notice};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

fn refusal(node: &Node) -> Failure {
    match node.notice() {
        Notice::LinkRefused { why, peer, .. } => {
            assert!(peer.is_some_and(|peer| peer.ip().is_loopback()));
            why
        }
        other => panic!("instead of a refusal: {other:?}"),
    }
}

#[test]
fn one_who_does_not_know_the_secret_is_refused_and_told_of_once() {
    let node = Node::new();
    let port = node.listen_links(node_config());
    for _ in 0..3 {
        let refused = Ecm::try_dial(port, settings("ecm", &[8; 32])).err();
        assert_eq!(refused, Some(Failure::NotBelieved));
    }
    assert_eq!(refusal(&node), Failure::NotAuthenticated);
    assert_eq!(node.notices(), []);
    assert_eq!(node.system.links(), []);
}

#[test]
fn one_who_speaks_another_protocol_is_closed() {
    let node = Node::new();
    let port = node.listen_links(node_config());
    let mut client = port.connect();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    // It may be a reset, as not all was read.
    assert!(client.read(&mut [0]).is_ok_and(|n| n == 0) || client.read(&mut [0]).is_err());
    assert_eq!(refusal(&node), Failure::NotALink);
    drop(port.connect());
    Ecm::dial(port);
    assert!(matches!(node.notice(), Notice::LinkUp { .. }), "a probe is no news");
}

#[test]
fn one_who_says_nothing_costs_a_descriptor_until_the_deadline() {
    let node = Node::new();
    let mut link = settings("node@test", &SECRET);
    link.handshake_timeout = Duration::from_millis(200);
    let port = node.listen_links(LinkListenerConfig::new(Arc::new(link)));
    let (mut silent, mut slow) = (port.connect(), port.connect());
    slow.write_all(b"MGPHLINK").unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert_eq!(slow.read(&mut [0]).unwrap(), 0);
    assert_eq!(refusal(&node), Failure::Timeout);
}

#[test]
fn however_many_say_nothing_they_keep_no_manager_out() {
    let node = Node::new();
    let port = node.listen_links(LinkListenerConfig { max_handshakes: 2, ..node_config() });
    let mut silent: Vec<_> = (0..10).map(|_| port.connect()).collect();
    Ecm::dial(port);
    for client in &mut silent[..8] {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the oldest have given way");
    }
    assert_eq!(refusal(&node), Failure::Timeout);
}

#[test]
fn links_are_bounded_and_have_one_id_each() {
    let node = Node::new();
    let port = node.listen_links(LinkListenerConfig { max_links: 2, ..node_config() });
    let (_first, mut second) = (Ecm::dial(port), Ecm::dial(port));
    let third = Ecm::try_dial(port, settings("ecm", &SECRET)).err();
    assert_eq!(third, Some(Failure::Refused(Refusal::Overload)));
    assert_eq!(node.system.links().len(), 2);
    let again = second.resume_as(port, 0, &Arc::new(settings("ecm", &SECRET))).err();
    assert_eq!(again, Some(Failure::Refused(Refusal::InUse)));
    second.end(megaphone_core::link::End::Done);
    eventually("one has ended", || node.system.links().len() == 1);
    Ecm::dial(port);
}

#[test]
fn settings_that_no_link_could_work_with_are_refused() {
    let node = Node::new();
    let listen = |link| {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        node.system.listen_links(socket.into(), LinkListenerConfig::new(Arc::new(link)))
    };
    let mut link = settings("node@test", &SECRET);
    link.initial_credit = 0;
    assert_eq!(listen(link), Err(megaphone_core::Error::Invalid));
    assert_eq!(listen(settings("", &SECRET)), Err(megaphone_core::Error::Invalid));
}
