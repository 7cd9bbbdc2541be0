//! Clients that are carried to a node and back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::ecm::{Ecm, Plan, connect, echo, free_address, rest, wait_until};
use common::node::TestNode;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};

/// One listener for a service of one node.
fn with(service: &str, more: &str) -> (TestNode, Ecm, SocketAddr) {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let ecm = Ecm::start(&Plan::default().listener(listen, service, more).node(&node, ""));
    (node, ecm, listen)
}

#[test]
fn bytes_go_to_the_node_and_back() {
    let (_node, _ecm, listen) = with("echo", "");
    let mut client = connect(listen);
    echo(&mut client, b"hello");
    echo(&mut client, &[7; 100_000]);
}

#[test]
fn many_clients_share_a_link() {
    let (node, _ecm, listen) = with("echo", "");
    let mut clients: Vec<_> = (0..300).map(|_| connect(listen)).collect();
    for round in 0..5 {
        for (at, client) in clients.iter_mut().enumerate() {
            echo(client, format!("{round} {at}").as_bytes());
        }
    }
    assert_eq!((node.links(), node.streams()), (1, 300));
    drop(clients);
    wait_until("no stream is left", || node.streams() == 0);
}

#[test]
fn an_end_is_carried_both_ways() {
    let (node, _ecm, listen) = with("echo", "");
    let mut client = connect(listen);
    client.write_all(&[1; 50_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut client), (vec![1; 50_000], false));
    wait_until("no stream is left", || node.streams() == 0);
}

#[test]
fn what_the_node_sends_before_it_takes_leave_arrives() {
    let (_node, _ecm, listen) = with("source-3000000", "");
    let (bytes, is_reset) = rest(&mut connect(listen));
    assert!(!is_reset);
    assert_eq!(bytes.len(), 3_000_000);
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
}

#[test]
fn a_reset_is_carried_both_ways() {
    let (node, _ecm, listen) = with("reset", "");
    let mut client = connect(listen);
    client.write_all(b"x").unwrap();
    assert_eq!(rest(&mut client), (Vec::new(), true));
    let client = connect(listen);
    wait_until("the stream is there", || node.streams() == 1);
    rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
    drop(client);
    wait_until("no stream is left", || node.streams() == 0);
}

#[test]
fn a_refused_stream_is_a_reset() {
    let (_node, _ecm, listen) = with("refuse", "");
    assert_eq!(rest(&mut connect(listen)), (Vec::new(), true));
}

#[test]
fn the_node_is_told_who_the_client_is() {
    let (_node, _ecm, listen) = with("describe", "");
    let mut client = connect(listen);
    let expected = format!("{} {listen} -\n", client.local_addr().unwrap());
    assert_eq!(rest(&mut client), (expected.into_bytes(), false));
}

#[test]
fn both_families_may_have_one_port() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let other = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, listen.port()));
    let plan = Plan::default().listener(listen, "describe", "").listener(other, "describe", "");
    let _ecm = Ecm::start(&plan.node(&node, ""));
    for address in [listen, other] {
        let mut client = connect(address);
        let expected = format!("{} {address} -\n", client.local_addr().unwrap());
        assert_eq!(rest(&mut client), (expected.into_bytes(), false));
    }
}

#[test]
fn a_client_that_never_reads_stops_nobody_and_takes_no_memory() {
    let (node, listen, other) = (TestNode::start("ejabberd@a"), free_address(), free_address());
    let plan = Plan::default().listener(listen, "source-50000000", "").listener(other, "echo", "");
    let ecm = Ecm::start(&plan.node(&node, ""));
    let mut client = connect(other);
    echo(&mut client, b"first");
    let before = ecm.resident();
    let _slow: Vec<_> = (0..8).map(|_| connect(listen)).collect();
    for round in 0..200 {
        echo(&mut client, format!("round {round}").as_bytes());
    }
    assert!(ecm.resident() < before + 4096, "{} {before}", ecm.resident());
}

#[test]
fn a_node_that_does_not_read_holds_the_client_back() {
    let (node, ecm, listen) = with("hold", "");
    let mut client = connect(listen);
    client.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let before = ecm.resident();
    // Until the sockets' buffers are full.
    while client.write_all(&[0; 1 << 20]).is_ok() {}
    assert!(ecm.resident() < before + 2048);
    // The initial credit.
    assert_eq!(node.received("hold"), 8192);
}

#[test]
fn a_slow_client_gets_all_of_it() {
    let (_node, _ecm, listen) = with("source-2000000", "");
    let mut client = connect(listen);
    let (mut all, mut piece) = (Vec::new(), [0; 1500]);
    loop {
        let read = client.read(&mut piece).unwrap();
        if read == 0 {
            break;
        }
        all.extend_from_slice(&piece[..read]);
    }
    assert_eq!(all.len(), 2_000_000);
}
