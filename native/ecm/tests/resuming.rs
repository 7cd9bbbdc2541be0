//! Links that are cut, resumed and lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::ecm::{Ecm, Plan, connect, echo, free_address, rest, wait_until};
use common::node::TestNode;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

fn numbers(from: u32, to: u32) -> Vec<u8> {
    (from..to).flat_map(u32::to_be_bytes).collect()
}

#[test]
fn nothing_is_lost_or_repeated_when_a_link_is_cut_again_and_again() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let _ecm = Ecm::start(&Plan::default().listener(listen, "echo", "").node(&node, ""));
    node.cut_every(Some(30_000));
    let mut clients: Vec<_> = (0..10).map(|_| connect(listen)).collect();
    for round in 0..10 {
        let (from, to) = (round * 500, (round + 1) * 500);
        clients.iter_mut().for_each(|client| client.write_all(&numbers(from, to)).unwrap());
        for client in &mut clients {
            let mut back = vec![0; 2000];
            client.read_exact(&mut back).unwrap();
            assert!(back == numbers(from, to), "round {round}");
        }
    }
    assert!(node.resumed() >= 3, "{}", node.resumed());
    wait_until("the link is there", || node.links() == 1);
    assert_eq!(node.opened(), 10);
}

#[test]
fn a_link_waits_for_its_node() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let ecm = Ecm::start(&Plan::default().listener(listen, "echo", "").node(&node, ""));
    let mut client = connect(listen);
    echo(&mut client, b"before");
    node.set_deaf(true);
    node.cut();
    ecm.wait_for("connection of a link lost", 1);
    client.write_all(b"in between").unwrap();
    // One that comes meanwhile is carried when the link is there again.
    let mut late = connect(listen);
    late.write_all(b"late").unwrap();
    ecm.wait_for("no link to a node", 1);
    node.set_deaf(false);
    let mut back = [0; 10];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"in between");
    late.read_exact(&mut back[..4]).unwrap();
    assert_eq!(&back[..4], b"late");
}

#[test]
fn a_link_that_is_not_resumed_in_time_ends_its_clients() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let plan = Plan::default().listener(listen, "echo", "").node(&node, "");
    let ecm = Ecm::start(&plan.tables("[link]\nresume_timeout = \"1 s\""));
    let mut client = connect(listen);
    echo(&mut client, b"before");
    node.set_deaf(true);
    node.cut();
    assert_eq!(rest(&mut client).0, b"");
    ecm.wait_for("link lost with its clients", 1);
    node.set_deaf(false);
    node.forget();
    echo(&mut connect(listen), b"after");
}

#[test]
fn a_node_that_was_started_anew_has_the_clients_come_again() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let ecm = Ecm::start(&Plan::default().listener(listen, "echo", "").node(&node, ""));
    let mut clients: Vec<_> = (0..50).map(|_| connect(listen)).collect();
    clients.iter_mut().for_each(|client| echo(client, b"before"));
    node.forget();
    for client in &mut clients {
        assert_eq!(rest(client).0, b"");
    }
    echo(&mut connect(listen), b"after");
    ecm.wait_for("link lost with its clients", 1);
    wait_until("one stream is left", || node.streams() <= 1);
}

#[test]
fn who_was_answered_keeps_the_connection_where_the_protocol_allows_it() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let silent = free_address();
    let plan =
        Plan::default().listener(listen, "echo", "keep = true").listener(silent, "sink", "keep = true");
    let ecm = Ecm::start(&plan.node(&node, ""));
    let mut clients: Vec<_> = (0..5).map(|_| connect(listen)).collect();
    clients.iter_mut().for_each(|client| echo(client, b"before"));
    let mut unanswered = connect(silent);
    unanswered.write_all(b"a request").unwrap();
    wait_until("it is there", || node.received("sink") == 9);
    node.forget();
    assert_eq!(rest(&mut unanswered).0, b"");
    ecm.wait_for("link made", 2);
    clients.iter_mut().for_each(|client| echo(client, b"after"));
    clients.pop();
    wait_until("one is gone", || node.streams() == 4);
    // One that says nothing while there is no node, and goes.
    node.forget();
    ecm.wait_for("link made", 3);
    drop(clients);
    wait_until("all are gone", || node.streams() == 0);
}

#[test]
fn a_wrong_secret_is_logged_once_and_tried_again() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let plan = Plan::default().listener(listen, "echo", "").node(&node, "");
    let ecm = Ecm::with_secret(&plan, "another secret, and a long one, too");
    wait_until("it was tried again", || node.failures().len() >= 3);
    assert!(node.failures().iter().all(|failure| failure == "the peer does not know the secret"));
    assert_eq!(ecm.count("no link to a node"), 1);
    ecm.wait_for("the node does not accept our secret", 1);
    // Nobody takes the client.
    assert_eq!(rest(&mut connect(listen)), (Vec::new(), true));
    ecm.wait_for("no node takes clients", 1);
}

#[test]
fn a_node_of_another_name_is_none() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let plan = Plan::default().listener(listen, "echo", "").node(&node, "");
    let other = Plan { root: plan.root, tables: plan.tables.replace("ejabberd@a", "ejabberd@b") };
    let ecm = Ecm::start(&other);
    ecm.wait_for("it has another name", 1);
    assert_eq!(node.links(), 0);
}

#[test]
fn a_client_that_ends_while_the_link_is_cut_is_gone_at_the_node_afterwards() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let ecm = Ecm::start(&Plan::default().listener(listen, "sink", "").node(&node, ""));
    let client = connect(listen);
    wait_until("it is there", || node.streams() == 1);
    node.set_deaf(true);
    node.cut();
    ecm.wait_for("connection of a link lost", 1);
    drop(client);
    node.set_deaf(false);
    wait_until("it is gone", || node.streams() == 0 && node.resumed() == 1);
}

// --- peers that are no nodes, or bad ones

/// A node of that address which is none.
fn with_node_at(address: SocketAddr, listen: SocketAddr) -> Ecm {
    let place = format!("address = \"{}\"\nport = {}", address.ip(), address.port());
    let node = format!("[[nodes]]\nname = \"ejabberd@a\"\n{place}");
    let plan = Plan::default().listener(listen, "echo", "").tables(&node);
    Ecm::start(&plan.tables("[link]\nhandshake_timeout = \"1 s\""))
}

#[test]
fn who_speaks_another_protocol_is_no_node() {
    let (listen, peer) = (free_address(), TcpListener::bind("127.0.0.1:0").unwrap());
    let ecm = with_node_at(peer.local_addr().unwrap(), listen);
    for _ in 0..2 {
        let (mut socket, _) = peer.accept().unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // The manager closes it.
        rest(&mut socket);
    }
    ecm.wait_for("not the handshake of a link", 1);
    assert_eq!(ecm.count("no link to a node"), 1);
}

#[test]
fn who_says_nothing_is_no_node() {
    let (listen, peer) = (free_address(), TcpListener::bind("127.0.0.1:0").unwrap());
    let ecm = with_node_at(peer.local_addr().unwrap(), listen);
    let (mut first, _) = peer.accept().unwrap();
    let (_second, _) = peer.accept().unwrap();
    assert!(rest(&mut first).0.starts_with(b"MGPHLINK"));
    ecm.wait_for("no handshake in time", 1);
}

#[test]
fn a_node_that_breaks_the_protocol_loses_its_link_and_gets_another() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let ecm = Ecm::start(&Plan::default().listener(listen, "echo", "").node(&node, ""));
    for (round, wrong) in
        [&b"\x42\0\0\0\0\0\0"[..], b"\x02\0\x01\0\0\x30\x39x", b"\x11\0\x08\0\0\0\0\x7f\0\0\0\0\0\0\0"]
            .into_iter()
            .enumerate()
    {
        ecm.wait_for("link made", round + 1);
        let mut client = connect(listen);
        echo(&mut client, b"before");
        node.inject(wrong);
        assert_eq!(rest(&mut client).0, b"");
    }
    ecm.wait_for("the peer broke the protocol: frame of unknown type 66", 1);
    ecm.wait_for("link made", 4);
    echo(&mut connect(listen), b"after");
}

#[test]
fn credit_that_a_node_does_not_have_ends_the_link() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let ecm = Ecm::start(&Plan::default().listener(listen, "hold", "").node(&node, ""));
    let mut client = connect(listen);
    wait_until("it is there", || node.streams() == 1);
    // A frame on stream 0 of 16,384 bytes, where 8,192 are granted.
    node.inject(&[&[2, 0x40, 0, 0, 0, 0, 0][..], &[b'x'; 16_384]].concat());
    assert_eq!(rest(&mut client).0, b"");
    ecm.wait_for("more data than granted on stream 0", 1);
}

#[test]
fn who_waits_again_has_all_of_the_time_again() {
    let (node, listen, clock) = (TestNode::start("ejabberd@a"), free_address(), free_address());
    node.set_deaf(true);
    let timed = "proxy_protocol_from = [\"127.0.0.1\"]\nproxy_header_timeout = \"2 s\"";
    let plan = Plan::default().listener(listen, "echo", "keep = true").listener(clock, "echo", timed);
    let ecm = Ecm::start(&plan.node(&node, "").tables("[link]\nresume_timeout = \"3 s\""));
    ecm.wait_for("no link to a node", 1);
    // It waits for 5 s at most, and is carried before.
    let mut client = connect(listen);
    client.write_all(b"hello").unwrap();
    node.set_deaf(false);
    let mut back = [0; 5];
    client.read_exact(&mut back).unwrap();
    // The node is gone for good, after 3 s, and then the client waits for 5 s more: of the first wait there is 1 left.
    node.set_deaf(true);
    node.forget();
    ecm.wait_for("link lost with its clients", 1);
    client.write_all(b"again").unwrap();
    rest(&mut connect(clock));
    node.set_deaf(false);
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"again");
}
