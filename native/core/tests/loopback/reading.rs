//! `recv`: data there, data later, several who want them, back-pressure, and how input ends.

use crate::common::*;
use megaphone_core::packet::Mode as Cut;
use megaphone_core::{
    Active, Address, Effort, Errno, Error, ListenerConfig, Mode, Opt, Packets, ReadOutcome, Received,
    SocketOptions,
};
use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};

/// The reactor's read buffer: what one read may go over a mark.
const ONE_READ: usize = 64 * 1024;

#[test]
fn data_that_are_there_are_given_at_once() {
    let node = Node::new();
    let reader = node.spawn();
    let (conn, mut client) = node.raw(&reader);
    client.write_all(b"here already").unwrap();
    eventually("12 bytes received", || node.info(conn).inbound == 12);
    assert_eq!(node.try_read(conn, &reader, 4).unwrap().ok().unwrap(), b"here");
    assert_eq!(node.try_read(conn, &reader, 0).unwrap().ok().unwrap(), b" already");
}

#[test]
fn a_reader_is_woken_when_data_come() {
    let node = Node::new();
    let reader = node.spawn();
    let (conn, mut client) = node.raw(&reader);
    let wait = node.wait_read(conn, &reader, 0);
    client.write_all(b"later").unwrap();
    wait.woken();
    assert_eq!(node.try_read(conn, &reader, 0).unwrap().ok().unwrap(), b"later");
}

#[test]
fn a_reader_of_a_length_is_woken_when_all_of_it_is_there() {
    let node = Node::new();
    let reader = node.spawn();
    let (conn, mut client) = node.raw(&reader);
    let wait = node.wait_read(conn, &reader, 6);
    client.write_all(b"abc").unwrap();
    eventually("half of it received", || node.info(conn).inbound == 3);
    assert!(wait.is_pending());
    client.write_all(b"defg").unwrap();
    wait.woken();
    assert_eq!(node.recv(conn, &reader, 6).unwrap(), b"abcdef");
    assert_eq!(node.recv(conn, &reader, 0).unwrap(), b"g");
}

#[test]
fn a_second_reader_is_told_that_there_is_one() {
    let node = Node::new();
    let (first, second) = (node.spawn(), node.spawn());
    let (conn, mut client) = node.raw(&first);
    let wait = node.wait_read(conn, &first, 0);
    assert_eq!(node.try_read(conn, &second, 0).err(), Some(Error::Already));
    client.write_all(b"x").unwrap();
    wait.woken();
    assert_eq!(node.recv(conn, &second, 0).unwrap(), b"x", "whoever asks first has them");
}

#[test]
fn a_reader_who_died_makes_room_for_another() {
    let node = Node::new();
    let (owner, first, second) = (node.spawn(), node.spawn(), node.spawn());
    let (conn, mut client) = node.raw(&owner);
    let lost = node.wait_read(conn, &first, 0);
    node.kill(&first);
    let wait = node.wait_read(conn, &second, 0);
    assert!(lost.is_dropped());
    client.write_all(b"x").unwrap();
    wait.woken();
    assert_eq!(node.recv(conn, &second, 0).unwrap(), b"x");
}

#[test]
fn a_read_that_was_given_up_loses_nothing() {
    let node = Node::new();
    let (owner, other) = (node.spawn(), node.spawn());
    let (conn, mut client) = node.raw(&owner);
    let wait = node.wait_read(conn, &owner, 0);
    node.system.cancel_wait(conn, other.pid, &mut node.sink()).unwrap();
    assert!(wait.is_pending(), "another's cancelling changes nothing");
    node.system.cancel_wait(conn, owner.pid, &mut node.sink()).unwrap();
    assert!(wait.is_dropped());
    client.write_all(b"kept").unwrap();
    assert_eq!(node.recv(conn, &other, 0).unwrap(), b"kept");
}

#[test]
fn twenty_megabytes_come_in_one_read() {
    let node = Node::new();
    let reader = node.spawn();
    let (conn, client) = node.raw(&reader);
    let sent = pattern(0, 20 * 1024 * 1024);
    let writer = write_in_background(&client, sent.clone());
    assert!(node.recv(conn, &reader, sent.len()).unwrap() == sent);
    writer.join().unwrap();
    assert_eq!(node.info(conn).inbound, 0);
    assert_eq!(node.info(conn).traffic.received, sent.len() as u64);
    assert_eq!(node.try_read(conn, &reader, 64 * 1024 * 1024 + 1).err(), Some(Error::TooLarge));
}

#[test]
fn what_nobody_reads_stays_with_its_sender() {
    let node = Node::new();
    let reader = node.spawn();
    let (conn, mut client) = node.raw(&reader);
    node.set(conn, Opt::RecvBuffer(16 * 1024));
    let watermark = 100_000;
    node.set(conn, Opt::RecvHighWatermark(watermark));
    client.set_nonblocking(true).unwrap();
    let sent = pattern(0, 64 * 1024 * 1024);
    let mut taken = 0;
    // The kernel takes no more, and neither do we.
    loop {
        match client.write(&sent[taken..]) {
            Ok(n) => taken += n,
            Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
            Err(_) if node.info(conn).inbound >= watermark => break,
            Err(_) => std::thread::yield_now(),
        }
        assert!(taken < sent.len(), "all of it was taken");
    }
    assert!(node.info(conn).inbound < watermark + ONE_READ);
    client.set_nonblocking(false).unwrap();
    let rest = write_in_background(&client, sent[taken..taken + 1_000_000].to_vec());
    let mut got = 0;
    while got < taken + 1_000_000 {
        assert!(node.info(conn).inbound < watermark + ONE_READ);
        let data = node.recv(conn, &reader, 0).unwrap();
        assert!(data == sent[got..got + data.len()]);
        got += data.len();
    }
    rest.join().unwrap();
}

#[test]
fn the_end_comes_after_the_data_before_it() {
    let node = Node::new();
    let reader = node.spawn();
    let (conn, mut client) = node.raw(&reader);
    client.write_all(b"last").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(node.recv(conn, &reader, 0).unwrap(), b"last");
    assert_eq!(node.recv(conn, &reader, 0), Err(Error::Closed));
    assert_eq!(read_to_end(&client), b"", "our side closed, too");
    node.emptied();
    assert_eq!(node.watches(), 0);
}

#[test]
fn a_reader_who_waits_learns_of_the_end() {
    let node = Node::new();
    let reader = node.spawn();
    let (conn, client) = node.raw(&reader);
    let wait = node.wait_read(conn, &reader, 0);
    drop(client);
    wait.woken();
    assert_eq!(node.recv(conn, &reader, 0), Err(Error::Closed));
}

#[test]
fn an_end_of_input_can_leave_output_open() {
    let node = Node::new();
    let reader = node.spawn();
    let (conn, mut client) = node.raw(&reader);
    node.set(conn, Opt::ExitOnClose(false));
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(node.recv(conn, &reader, 0).unwrap(), b"question");
    assert_eq!(node.recv(conn, &reader, 0), Err(Error::Closed));
    node.send(conn, &reader, b"answer").unwrap();
    assert_eq!(read_exactly(&client, 6), b"answer");
    node.system.close(conn, &mut node.sink()).unwrap();
    assert_eq!(read_to_end(&client), b"");
}

#[test]
fn a_reset_can_be_told_from_an_end() {
    let node = Node::new();
    let reader = node.spawn();
    for show in [true, false] {
        let (conn, client) = node.raw(&reader);
        node.set(conn, Opt::ShowEconnreset(show));
        let wait = node.wait_read(conn, &reader, 0);
        reset(client);
        wait.woken();
        let expected = if show { Error::Os(Errno::CONNRESET) } else { Error::Closed };
        assert_eq!(node.recv(conn, &reader, 0), Err(expected));
    }
    node.emptied();
}

#[test]
fn a_reset_wakes_a_reader_whose_connection_has_queued_output() {
    let node = Node::new();
    let (reader, writer) = (node.spawn(), node.spawn());
    let (conn, client) = node.raw(&reader);
    narrow(&node, conn, &client);
    let reading = node.wait_read(conn, &reader, 0);
    let (_, writing) = node.fill(conn, &writer);
    reset(client);
    writing.woken();
    reading.woken();
    assert_eq!(node.recv(conn, &reader, 0), Err(Error::Closed));
}

#[test]
fn what_is_more_than_the_effort_stays_for_a_larger_one() {
    let node = Node::new();
    let reader = node.spawn();
    let (conn, mut client) = node.raw(&reader);
    client.write_all(&pattern(0, 5000)).unwrap();
    eventually("all received", || node.info(conn).inbound == 5000);
    node.set(conn, Opt::AsList(true));
    let read = |wants, effort| {
        let take =
            |received: Received<'_>, _| matches!(received, Received::Bytes(bytes) if bytes.len() == wants);
        node.system.read(conn, reader.pid, (wants, effort), &mut node.sink(), None::<fn() -> Waiter>, take)
    };
    assert!(matches!(read(5000, Effort::Normal), Ok(ReadOutcome::Large)), "as a list");
    assert!(matches!(read(10, Effort::Normal), Ok(ReadOutcome::Data(true))));
    assert!(matches!(read(4990, Effort::Large), Ok(ReadOutcome::Data(true))));
    let many = vec![b'x'; 200_000];
    assert_eq!(node.system.unread(conn, &many, Effort::Large), Ok(true));
    assert_eq!(node.system.unread(conn, b"y", Effort::Normal), Ok(false), "it would move many");
    assert_eq!(node.info(conn).inbound, many.len());
}

#[test]
fn lines_and_bytes_put_back() {
    let node = Node::new();
    let reader = node.spawn();
    let (conn, mut client) = node.raw(&reader);
    client.write_all(b"one\ntwo\nthr").unwrap();
    eventually("all received", || node.info(conn).inbound == 11);
    node.set(conn, Opt::Packets(Packets { mode: Cut::Line, is_bin: true }));
    assert_eq!(node.recv(conn, &reader, 0).unwrap(), b"one\n");
    node.system.unread(conn, b"zero\n", Effort::Normal).unwrap();
    assert_eq!(node.recv(conn, &reader, 0).unwrap(), b"zero\n");
    assert_eq!(node.recv(conn, &reader, 0).unwrap(), b"two\n");
    assert_eq!(node.try_read(conn, &reader, 3).err(), Some(Error::Invalid), "a line has no length");
    let wait = node.wait_read(conn, &reader, 0);
    client.write_all(b"ee\n").unwrap();
    wait.woken();
    assert_eq!(node.recv(conn, &reader, 0).unwrap(), b"three\n");
}

#[test]
fn a_unix_socket_is_read_and_written_as_any() {
    let node = Node::new();
    let reader = node.spawn();
    let path = std::env::temp_dir().join(format!("megaphone-core-{}.sock", std::process::id()));
    let _left_by_one_that_was_killed = std::fs::remove_file(&path);
    let socket = UnixListener::bind(&path).unwrap();
    let config = ListenerConfig { mode: Mode::Raw, ..ListenerConfig::default() };
    node.system.listen(socket.into(), config, Some(reader.pid)).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let conn = reader.started();
    client.write_all(b"ping").unwrap();
    assert_eq!(node.recv(conn, &reader, 0).unwrap(), b"ping");
    node.set(conn, Opt::NoDelay(true));
    assert_eq!(node.system.peer(conn), Ok(Address::Local(Vec::new())));
    node.send(conn, &reader, b"pong").unwrap();
    node.system.close(conn, &mut node.sink()).unwrap();
    assert_eq!(read_to_end(&client), b"pong");
    node.emptied();
}

#[test]
fn a_passive_read_is_refused_in_active_mode() {
    let node = Node::new();
    let reader = node.spawn();
    let options = SocketOptions { active: Active::On, ..SocketOptions::default() };
    let (conn, _client) = node.raw_with(&reader, ListenerConfig { options, ..ListenerConfig::default() });
    assert_eq!(node.try_read(conn, &reader, 0).err(), Some(Error::Invalid));
}

#[test]
fn a_packet_may_be_longer_than_the_mark() {
    let node = Node::new();
    let reader = node.spawn();
    let (conn, client) = node.raw(&reader);
    node.set(conn, Opt::LineLength(300_000));
    node.set(conn, Opt::Packets(Packets { mode: Cut::Line, is_bin: false }));
    let mut line = vec![b'x'; 200_000];
    line.push(b'\n');
    let wait = node.wait_read(conn, &reader, 0);
    let writer = write_in_background(&client, line.clone());
    wait.woken();
    assert!(node.recv(conn, &reader, 0).unwrap() == line);
    writer.join().unwrap();
}

#[test]
fn a_read_that_stops_at_urgent_data_is_not_taken_for_the_last() {
    let node = Node::new();
    let owner = node.spawn();
    let (conn, mut client) = node.raw(&owner);
    for _ in 0..50 {
        client.write_all(b"abc").unwrap();
        rustix::net::send(&client, b"!", rustix::net::SendFlags::OOB).unwrap();
        client.write_all(b"def").unwrap();
        assert_eq!(node.recv(conn, &owner, 6).unwrap(), b"abcdef");
    }
}

#[test]
fn a_read_that_stops_at_a_descriptor_is_not_taken_for_the_last() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let node = Node::new();
    let owner = node.spawn();
    let path = std::env::temp_dir().join(format!("megaphone-core-{}", std::process::id()));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    node.system.listen(listener.into(), ListenerConfig::default(), Some(owner.pid)).unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let conn = owner.started();
    for _ in 0..50 {
        let descriptors = [rustix::fd::AsFd::as_fd(&client)];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let bytes = [std::io::IoSlice::new(b"abc")];
        sendmsg(&client, &bytes, &mut ancillary, SendFlags::empty()).unwrap();
        client.write_all(b"def").unwrap();
        assert_eq!(node.recv(conn, &owner, 6).unwrap(), b"abcdef");
    }
}
