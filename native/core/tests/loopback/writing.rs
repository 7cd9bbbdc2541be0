//! Sending: what a slow reader does to those who send, `sendfile`, and closing our side.

use crate::common::*;
use megaphone_core::{Conn, Error, Opt, Shutdown};
use std::fs::File;
use std::io::{Read, Seek, Write};

const HIGH: usize = 8 * 1024;
const LOW: usize = 4 * 1024;

#[test]
fn writers_wait_at_the_high_mark_and_go_on_at_the_low_one() {
    let node = Node::new();
    let (owner, other) = (node.spawn(), node.spawn());
    let (conn, mut client) = node.raw(&owner);
    narrow(&node, conn, &client);
    let (mut sent, first) = node.fill(conn, &owner);
    let second = node.try_send(conn, &other, b"x").unwrap().expect("a wait");
    let queued = node.info(conn).outbound;
    assert!((HIGH..HIGH + 1000).contains(&queued), "{queued} bytes queued");
    assert!(first.is_pending() && second.is_pending());
    let mut got = Vec::new();
    let mut piece = [0; 512];
    while node.info(conn).outbound > LOW {
        let n = client.read(&mut piece).unwrap();
        got.extend(&piece[..n]);
    }
    first.woken();
    second.woken();
    while sent.len() < 2_000_000 {
        let reader = client.try_clone().unwrap();
        let (more, wait) = fill_from(&node, conn, &owner, sent.len());
        sent.extend(more);
        assert!(node.info(conn).outbound < HIGH + 1000);
        got.extend(read_exactly(reader, sent.len() - got.len()));
        wait.woken();
    }
    assert!(got == sent);
    assert_eq!(node.info(conn).traffic.sent, sent.len() as u64);
    assert_eq!(node.info(conn).outbound, 0);
}

fn fill_from(node: &Node, conn: Conn, process: &Process, from: usize) -> (Vec<u8>, Wait) {
    let mut taken = Vec::new();
    loop {
        let next = pattern(from + taken.len(), 1000);
        if let Some(wait) = node.try_send(conn, process, &next).unwrap() {
            return (taken, wait);
        }
        taken.extend(next);
    }
}

#[test]
fn one_send_is_taken_whole() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client) = node.raw(&owner);
    let bytes = pattern(0, 10_000_000);
    node.send(conn, &owner, &bytes).unwrap();
    assert!(node.info(conn).outbound > 0);
    assert!(read_exactly(&client, bytes.len()) == bytes);
    eventually("nothing queued", || node.info(conn).outbound == 0);
}

#[test]
fn a_reset_wakes_those_who_wait_to_send() {
    if crate::IS_BRIDGED {
        // The wake-up may be for room, which bytes that are on their way to the client still make.
        return;
    }
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client) = node.raw(&owner);
    narrow(&node, conn, &client);
    let (_, wait) = node.fill(conn, &owner);
    reset(client);
    wait.woken();
    assert_eq!(node.send(conn, &owner, b"x"), Err(Error::Closed));
    assert_eq!(node.info(conn).outbound, 0);
}

#[test]
fn a_wait_to_send_can_be_given_up() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, _client) = node.raw(&owner);
    node.send(conn, &owner, &pattern(0, 20_000_000)).unwrap();
    let wait = node.try_send(conn, &owner, b"x").unwrap().expect("a wait");
    node.system.cancel_wait(conn, owner.pid, &mut node.sink()).unwrap();
    assert!(wait.is_dropped());
}

#[test]
fn closing_our_side_comes_after_what_is_queued() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, mut client) = node.raw(&owner);
    narrow(&node, conn, &client);
    let (sent, _wait) = node.fill(conn, &owner);
    node.system.shutdown(conn, Shutdown::Write, &mut node.sink()).unwrap();
    assert_eq!(node.try_send(conn, &owner, b"x").err(), Some(Error::Closed));
    assert!(read_to_end(&client) == sent);
    client.write_all(b"answer").unwrap();
    assert_eq!(node.recv(conn, &owner, 0).unwrap(), b"answer", "the other side is open");
}

#[test]
fn closing_our_side_at_once_when_nothing_is_queued() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client) = node.raw(&owner);
    node.send(conn, &owner, b"all").unwrap();
    node.system.shutdown(conn, Shutdown::Write, &mut node.sink()).unwrap();
    assert_eq!(read_to_end(&client), b"all");
}

#[test]
fn closing_the_input_ends_a_wait_for_it() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, _client) = node.raw(&owner);
    let wait = node.wait_read(conn, &owner, 0);
    node.system.shutdown(conn, Shutdown::Read, &mut node.sink()).unwrap();
    wait.woken();
    assert_eq!(node.recv(conn, &owner, 0), Err(Error::Closed));
}

/// A file without a name, of so many bytes.
fn file(bytes: &[u8]) -> File {
    let path = std::env::temp_dir().join(format!("megaphone-core-{}-{}", std::process::id(), bytes.len()));
    let mut file = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// Sends the rest of a file as `file:sendfile` does; how often it had to wait.
fn send_file(node: &Node, conn: Conn, process: &Process, file: &File, from: usize) -> usize {
    let (mut offset, mut waits) = (from as u64, 0);
    loop {
        // Two may be made: one that is registered and one that is woken at once.
        let made = std::cell::RefCell::new(Vec::new());
        let make = || {
            let (waiter, wait) = waiter();
            made.borrow_mut().push(wait);
            waiter
        };
        let sent = node
            .system
            .sendfile(conn, process.pid, (file, offset, 1 << 30), &mut node.sink(), make)
            .expect("sendfile");
        match sent {
            Some(0) => return waits,
            Some(n) => offset += n as u64,
            None => {
                made.borrow().last().expect("a waiter").woken();
                waits += 1;
            }
        }
    }
}

#[test]
fn a_file_goes_to_a_slow_reader() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client) = node.raw(&owner);
    node.set(conn, Opt::SendBuffer(64 * 1024));
    let bytes = pattern(0, 10 * 1024 * 1024);
    let file = file(&bytes);
    // After output that is queued, not into it.
    let (mut expected, _wait) = node.fill(conn, &owner);
    expected.extend(&bytes[7..]);
    let reader = std::thread::spawn({
        let client = client.try_clone().unwrap();
        let len = expected.len();
        move || read_exactly(client, len)
    });
    let waits = send_file(&node, conn, &owner, &file, 7);
    assert!(waits > 0, "it never had to wait");
    assert!(reader.join().unwrap() == expected);
    assert_eq!(node.info(conn).traffic.sent, expected.len() as u64);
}

#[test]
fn a_reset_ends_a_wait_to_send_a_file() {
    if crate::IS_BRIDGED {
        // As above: the wake-up may be for room.
        return;
    }
    let node = Node::new();
    let owner = node.spawn();
    let (conn, client) = node.raw(&owner);
    narrow(&node, conn, &client);
    let file = file(&pattern(0, 5_000_000));
    let (waiter, wait) = waiter();
    let waiter = std::cell::RefCell::new(Some(waiter));
    let mut offset = 0;
    while let Some(n) = node
        .system
        .sendfile(conn, owner.pid, (&file, offset, 1 << 30), &mut node.sink(), || {
            waiter.borrow_mut().take().expect("one wait")
        })
        .unwrap()
    {
        offset += n as u64;
        assert!(n > 0, "the whole file fits");
    }
    reset(client);
    wait.woken();
    let again = node.system.sendfile(conn, owner.pid, (&file, offset, 1 << 30), &mut node.sink(), || {
        panic!("a wait for a connection that is gone")
    });
    assert_eq!(again, Err(Error::Closed));
}

#[test]
fn an_end_that_a_send_found_is_told_to_a_reader() {
    let node = Node::new();
    let (owner, other) = (node.spawn(), node.spawn());
    let (conn, client) = node.raw(&owner);
    // Reading is paused, so that only sending can meet the reset.
    node.set(conn, Opt::RecvHighWatermark(0));
    let reading = node.wait_read(conn, &owner, 0);
    reset(client);
    eventually("a send fails", || node.try_send(conn, &other, b"x").is_err());
    reading.woken();
    assert_eq!(node.recv(conn, &owner, 0), Err(Error::Closed));
}
