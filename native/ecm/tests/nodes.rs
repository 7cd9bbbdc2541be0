//! Several nodes, and which of them has a client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::ecm::{Ecm, Plan, connect, echo, free_address, rest, wait_until};
use common::node::TestNode;
use megaphone_proto::link::GoAway;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

fn two(root: &str) -> (TestNode, TestNode, Ecm, SocketAddr, Plan) {
    let (a, b, listen) = (TestNode::start("ejabberd@a"), TestNode::start("ejabberd@b"), free_address());
    let plan = Plan::default().root(root).listener(listen, "echo", "").node(&a, "").node(&b, "");
    let ecm = Ecm::start(&plan);
    ecm.wait_for("link made", 2);
    (a, b, ecm, listen, plan)
}

/// Clients that are there, each of which has had an answer.
fn clients(listen: SocketAddr, number: usize) -> Vec<TcpStream> {
    let mut clients: Vec<_> = (0..number).map(|_| connect(listen)).collect();
    clients.iter_mut().for_each(|client| echo(client, b"hello"));
    clients
}

#[test]
fn a_clients_connections_meet_on_one_node() {
    let (a, b, _ecm, listen, _) = two("");
    let _clients = clients(listen, 20);
    let mut streams = [a.streams(), b.streams()];
    streams.sort_unstable();
    assert_eq!(streams, [0, 20]);
}

#[test]
fn the_node_with_the_fewest_clients_gets_the_next() {
    let (a, b, _ecm, listen, _) = two("balance = \"least\"");
    let _clients = clients(listen, 20);
    assert_eq!((a.streams(), b.streams()), (10, 10));
}

#[test]
fn links_of_a_node_share_its_clients() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let ecm = Ecm::start(&Plan::default().listener(listen, "echo", "").node(&node, "links = 3"));
    ecm.wait_for("link made", 3);
    let _clients = clients(listen, 30);
    assert_eq!((node.links(), node.streams()), (3, 30));
}

#[test]
fn a_node_that_is_down_is_left_out_and_taken_back() {
    let (a, b, ecm, listen, _) = two("");
    let first = clients(listen, 1);
    let (owner, other) = if a.streams() == 1 { (&a, &b) } else { (&b, &a) };
    drop(first);
    owner.set_deaf(true);
    owner.forget();
    // Until then it may be a blink, and clients wait for it.
    ecm.wait_for("no link to a node", 1);
    let elsewhere = clients(listen, 5);
    assert_eq!(other.streams(), 5);
    owner.set_deaf(false);
    ecm.wait_for("link made", 3);
    let _back = clients(listen, 5);
    assert_eq!((owner.streams(), other.streams()), (5, 5));
    drop(elsewhere);
}

#[test]
fn clients_of_a_node_that_drains_are_spread() {
    let (a, b, _ecm, listen, _) = two("");
    let mut first = clients(listen, 20);
    let (owner, other) = if a.streams() > 0 { (&a, &b) } else { (&b, &a) };
    owner.go_away(GoAway::Draining);
    for client in &mut first {
        assert_eq!(rest(client), (Vec::new(), false));
    }
    let _again = clients(listen, 20);
    assert_eq!((owner.streams(), other.streams()), (0, 20));
}

/// It has something to tell them, which takes a node with many users a while.
#[test]
fn clients_of_a_node_that_stops_are_its_own_for_a_while() {
    let (a, b, ecm, listen, _) = two("");
    let mut first = clients(listen, 20);
    let owner = if a.streams() > 0 { &a } else { &b };
    owner.go_away(GoAway::Stopping);
    ecm.wait_for("node takes no new clients", 1);
    for _ in 0..25 {
        std::thread::sleep(Duration::from_millis(20));
        first.iter_mut().for_each(|client| echo(client, b"still here"));
    }
    assert_eq!(owner.streams(), 20);
}

#[test]
fn who_was_answered_moves_to_another_node_and_stays_connected() {
    let (a, b, listen) = (TestNode::start("ejabberd@a"), TestNode::start("ejabberd@b"), free_address());
    let plan = Plan::default().listener(listen, "echo", "keep = true").node(&a, "").node(&b, "");
    let ecm = Ecm::start(&plan);
    ecm.wait_for("link made", 2);
    let mut clients = clients(listen, 20);
    let (owner, other) = if a.streams() > 0 { (&a, &b) } else { (&b, &a) };
    owner.go_away(GoAway::Draining);
    wait_until("all have left", || owner.streams() == 0);
    clients.iter_mut().for_each(|client| echo(client, b"again"));
    assert_eq!(other.streams(), 20);
}

#[test]
fn with_one_node_clients_stay_when_it_says_that_it_stops() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let ecm = Ecm::start(&Plan::default().listener(listen, "echo", "").node(&node, ""));
    let mut first = clients(listen, 5);
    node.go_away(GoAway::Stopping);
    ecm.wait_for("node takes no new clients", 1);
    first.iter_mut().for_each(|client| echo(client, b"still here"));
    // A new one waits, and is told.
    assert_eq!(rest(&mut connect(listen)), (Vec::new(), true));
    first.iter_mut().for_each(|client| echo(client, b"and again"));
}

#[test]
fn a_name_is_resolved_for_each_attempt() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let plan = Plan::default().listener(listen, "echo", "").node(&node, "");
    let named = Plan { root: plan.root, tables: plan.tables.replace("\"127.0.0.1\"", "\"localhost\"") };
    let _ecm = Ecm::start(&named);
    echo(&mut connect(listen), b"hello");
    node.cut();
    echo(&mut connect(listen), b"again");
}

#[test]
fn nodes_come_and_go_with_the_file() {
    let (a, b, ecm, listen, _) = two("balance = \"least\"");
    let mut first = clients(listen, 10);
    let only_b = Plan::default().listener(listen, "echo", "").node(&b, "");
    ecm.reload(&only_b);
    ecm.wait_for("configuration read anew", 1);
    wait_until("a has no clients", || a.streams() == 0 && a.links() == 0);
    assert_eq!(b.streams(), 5);
    assert_eq!(
        first
            .iter_mut()
            .filter(|client| client.set_nonblocking(true).is_ok() && client.peek(&mut [0]).is_ok())
            .count(),
        5
    );
    ecm.reload(&only_b.node(&a, ""));
    ecm.wait_for("link made", 3);
    wait_until("a has a link", || a.links() == 1);
}

#[test]
fn a_node_that_comes_back_to_the_file_gets_clients_while_it_has_old_ones() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let dead = "[[nodes]]\nname = \"ejabberd@c\"\naddress = \"127.0.0.1\"\nport = 1";
    let both = Plan::default().listener(listen, "echo", "").node(&node, "").tables(dead);
    let ecm = Ecm::start(&both);
    ecm.wait_for("link made", 1);
    let mut old = clients(listen, 3);
    ecm.reload(&Plan::default().listener(listen, "echo", "").tables(dead));
    ecm.wait_for("configuration read anew", 1);
    // There is no other for them.
    old.iter_mut().for_each(|client| echo(client, b"still here"));
    ecm.reload(&both);
    ecm.wait_for("link made", 2);
    let _new = clients(listen, 3);
    old.iter_mut().for_each(|client| echo(client, b"and still"));
    assert_eq!(node.streams(), 6);
}
