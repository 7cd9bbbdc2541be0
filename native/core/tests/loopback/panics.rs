//! A bug in a reactor ends one connection.

use crate::bosh_client::*;
use crate::common::*;
use megaphone_core::{Error, Notice, Owned, bosh};
use std::io::Write;

#[test]
fn a_panic_ends_its_connection_and_no_other() {
    let node = Node::with(config(1, 10));
    let owner = node.spawn();
    let (victim, victims_client) = node.raw(&owner);
    let (other, mut client) = node.raw(&owner);
    let wait = node.wait_read(victim, &owner, 0);
    node.system.inject_panic(Owned::Connection(victim), 1);
    wait.woken();
    assert_eq!(node.notice(), Notice::Panicked { conn: Some(victim) });
    assert_eq!(node.recv(victim, &owner, 0), Err(Error::Closed));
    assert_eq!(read_to_end(&victims_client), b"");
    client.write_all(b"alive").unwrap();
    assert_eq!(node.recv(other, &owner, 0).unwrap(), b"alive");
    assert_eq!(node.system.stats().connections, 1);
    assert_eq!(node.watches(), 1);
    let (third, mut client) = node.raw(&owner);
    client.write_all(b"new").unwrap();
    assert_eq!(node.recv(third, &owner, 0).unwrap(), b"new");
}

#[test]
fn a_panic_ends_its_session_and_no_other() {
    let both = Both::new(bosh::Config::default());
    let other = both.port.connect();
    let (id, owner, sid) = log_in(&both.node, &both.starter, &other);
    let poll = both.poll(101);
    both.holds(1);
    both.node.system.inject_panic(Owned::Session(both.conn()), 1);
    let second = both.poll(102);
    assert_eq!(both.node.notice(), Notice::Panicked { conn: None });
    assert_eq!(both.owner.event(), "gone");
    read_answer(&poll).terminates_with("internal-server-error");
    read_answer(&second).terminates_with("internal-server-error");
    (&other).write_all(&post(&body(&format!("rid='101' sid='{sid}'"), ""))).unwrap();
    both.node.say(id, &owner, MESSAGE);
    assert!(read_answer(&other).body.contains(MESSAGE));
    assert_eq!(both.node.system.sessions(), [session_of(id)]);
}

#[test]
fn a_second_panic_for_one_connection_loses_nothing_of_others() {
    const OTHERS: usize = 50;
    let node = Node::with(config(1, 100));
    let owner = node.spawn();
    let (victim, _client) = node.raw(&owner);
    let mut others: Vec<_> = (0..OTHERS).map(|_| node.raw(&owner)).collect();
    let wait = node.wait_read(victim, &owner, 0);
    let waits: Vec<_> = others.iter().map(|(conn, _)| node.wait_read(*conn, &owner, 0)).collect();
    for (_, client) in &mut others[..OTHERS / 2] {
        client.write_all(b"x").unwrap();
    }
    node.system.inject_panic(Owned::Connection(victim), 2);
    for (_, client) in &mut others[OTHERS / 2..] {
        client.write_all(b"x").unwrap();
    }
    wait.woken();
    waits.iter().for_each(Wait::woken);
    for (conn, _) in &others {
        assert_eq!(node.recv(*conn, &owner, 0).unwrap(), b"x");
    }
    assert_eq!(node.recv(victim, &owner, 0), Err(Error::Closed));
    assert_eq!((node.system.stats().connections, node.watches()), (OTHERS, OTHERS));
}
