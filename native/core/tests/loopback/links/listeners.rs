//! Listeners of links, and those that streams ask for.

use super::*;
use megaphone_core::link::{Cause, End, Failure, GoAway, Refusal};
use megaphone_core::{Error, Owned};

#[test]
fn the_newest_open_listener_has_the_name_and_leaves_it_to_the_next() {
    let (node, first, mut ecm) = linked();
    let second = node.spawn();
    let port = node.listen(named("raw", Mode::Raw), Some(&second));
    ecm.open("raw");
    second.started();
    assert!(first.is_quiet());
    // It goes back when that one closes.
    node.system.close_listener(port.id, &mut node.sink()).unwrap();
    ecm.open("raw");
    first.started();
    assert!(second.is_quiet());
}

#[test]
fn a_closed_link_listener_keeps_its_links_until_they_are_closed() {
    let node = Node::new();
    let starter = node.spawn();
    node.listen(named("raw", Mode::Raw), Some(&starter));
    let port = node.listen_links(node_config());
    let mut ecm = Ecm::dial(port);
    node.system.close_listener(port.id, &mut node.sink()).unwrap();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    let info = node.system.listener_info(port.id).unwrap();
    assert_eq!((info.accepted, info.connections, info.is_open), (1, 1, false));
    node.system.links_go_away(port.id).unwrap();
    ecm.until("the word", |ecm| ecm.goes_away == Some(GoAway::Stopping));
    ecm.send(number, b"still here");
    assert_eq!(node.recv(conn, &starter, 10), Ok(b"still here".to_vec()));
    node.send(conn, &starter, b"goodbye").unwrap();
    node.system.close_links(port.id).unwrap();
    ecm.until("the end", |ecm| ecm.lost.is_some());
    assert_eq!(ecm.lost, Some(Cause::EndedByPeer(End::Done)));
    assert_eq!(ecm.client(number).received, b"goodbye");
    assert_eq!(node.recv(conn, &starter, 0), Err(Error::Closed));
    node.emptied();
    eventually("the listener is forgotten", || node.system.close_links(port.id) == Err(Error::Closed));
    assert_eq!(node.system.links(), []);
}

#[test]
fn an_open_link_listener_that_stops_refuses_new_links() {
    let node = Node::new();
    let port = node.listen_links(node_config());
    node.system.close_links(port.id).unwrap();
    let refused = Ecm::try_dial(port, settings("ecm", &SECRET)).err();
    assert_eq!(refused, Some(Failure::Refused(Refusal::Stopping)));
    let other = node.listen(named("raw", Mode::Raw), None);
    assert_eq!(node.system.close_links(other.id), Err(Error::Closed), "it has no links");
}

#[test]
fn the_end_of_its_owner_closes_a_link_listener() {
    let (node, starter, mut ecm) = linked();
    let port = node.listen_links(node_config());
    let mut second = Ecm::dial(port);
    let owner = node.spawn();
    node.system.process_ended(owner.pid, [Owned::Listener(port.id)].into_iter().collect(), &[port.id]);
    assert!(std::net::TcpStream::connect(port.address).is_err(), "the port is free");
    for ecm in [&mut ecm, &mut second] {
        let (conn, number) = connected(&node, &starter, ecm);
        ecm.send(number, b"as before");
        assert_eq!(node.recv(conn, &starter, 0), Ok(b"as before".to_vec()));
    }
}

#[test]
fn when_all_is_closed_managers_hear_of_it() {
    let (node, starter, mut ecm) = linked();
    let (_conn, number) = connected(&node, &starter, &mut ecm);
    node.system.close_all(&mut node.sink());
    ecm.until("the end", |ecm| ecm.lost.is_some());
    assert_eq!(ecm.goes_away, Some(GoAway::Stopping));
    assert_eq!(ecm.client(number).left, Some(Reason::Closed));
    node.emptied();
}

#[test]
fn figures_of_a_link_can_be_asked_for() {
    let (node, starter, mut ecm) = linked();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    node.send(conn, &starter, &[b'x'; 1000]).unwrap();
    ecm.received(number, 1000);
    eventually("figures", || node.system.links()[0].sent > 1000);
    let info = node.system.links().remove(0);
    assert_eq!((&*info.ecm, info.streams, info.is_connected, info.resumed), ("ecm", 1, true, 0));
    assert!(info.received > 20 && info.peer.is_some());
    ecm.cut();
    eventually("the cut shows", || !node.system.links()[0].is_connected);
}
