//! How streams end, by either side, as sockets do.

use super::*;
use megaphone_core::{Error, Opt, Shutdown};

#[test]
fn a_close_leaves_behind_what_was_written() {
    let (node, starter, mut ecm) = linked();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    let bytes = pattern(0, 100_000);
    let mut sent = 0;
    while sent < bytes.len() {
        match node.try_send(conn, &starter, &bytes[sent..sent + 10_000]).unwrap() {
            None => sent += 10_000,
            Some(_) => ecm.turn(),
        }
    }
    node.system.close(conn, &mut node.sink()).unwrap();
    assert_eq!(ecm.left(number), Reason::Closed);
    assert!(ecm.client(number).received == bytes);
    assert_eq!(ecm.link.streams(), 0);
    node.emptied();
}

#[test]
fn a_close_with_unread_input_resets() {
    let (node, starter, mut ecm) = linked();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    node.set(conn, Opt::RecvHighWatermark(1));
    ecm.send(number, b"read ahead");
    eventually("it is the connection's", || node.info(conn).inbound > 0);
    let before = node.info(conn).bytes;
    ecm.send(number, b"left where it is");
    eventually("it is the stream's", || node.info(conn).bytes > before);
    node.system.abort(conn, &mut node.sink()).unwrap();
    assert_eq!(ecm.left(number), Reason::Reset);
    let (conn, number) = connected(&node, &starter, &mut ecm);
    node.set(conn, Opt::Linger(Some(std::time::Duration::ZERO)));
    node.system.abort(conn, &mut node.sink()).unwrap();
    assert_eq!(ecm.left(number), Reason::Reset);
}

#[test]
fn either_side_half_closes_and_goes_on_reading() {
    let (node, starter, mut ecm) = linked();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    node.set(conn, Opt::ExitOnClose(false));
    ecm.send(number, b"a question");
    ecm.close(number, Reason::Eof);
    assert_eq!(node.recv(conn, &starter, 10), Ok(b"a question".to_vec()));
    assert_eq!(node.recv(conn, &starter, 0), Err(Error::Closed));
    node.send(conn, &starter, b"an answer").unwrap();
    node.system.shutdown(conn, Shutdown::Write, &mut node.sink()).unwrap();
    assert_eq!(ecm.received(number, 9), b"an answer");
    ecm.until("the end", |ecm| ecm.client(number).is_ended);
    assert_eq!(ecm.client(number).left, None);
    assert_eq!(node.send(conn, &starter, b"x"), Err(Error::Closed));
    ecm.close(number, Reason::Closed);
    node.system.close(conn, &mut node.sink()).unwrap();
    ecm.until("both have left", |ecm| ecm.link.streams() == 0);
    node.emptied();
}

#[test]
fn a_client_that_closes_ends_a_reader_and_one_that_breaks_tells_it_so() {
    let (node, starter, mut ecm) = linked();
    for (reason, error) in [
        (Reason::Eof, Error::Closed),
        (Reason::Closed, Error::Closed),
        (Reason::Reset, Error::Os(megaphone_core::Errno::CONNRESET)),
    ] {
        let (conn, number) = connected(&node, &starter, &mut ecm);
        node.set(conn, Opt::ShowEconnreset(true));
        let wait = node.wait_read(conn, &starter, 0);
        ecm.close(number, reason);
        wait.woken();
        assert_eq!(node.recv(conn, &starter, 0), Err(error), "{reason:?}");
        ecm.until("its leave", |ecm| ecm.client(number).left.is_some() || ecm.link.streams() == 0);
    }
    ecm.until("all have left", |ecm| ecm.link.streams() == 0);
    node.emptied();
}

#[test]
fn a_writer_that_waits_hears_of_its_clients_end() {
    let (node, starter, mut ecm) = linked();
    ecm.reads = false;
    for reason in [Reason::Closed, Reason::Reset] {
        let (conn, number) = connected(&node, &starter, &mut ecm);
        let (_, wait) = node.fill(conn, &starter);
        ecm.close(number, reason);
        wait.woken();
        assert_eq!(node.send(conn, &starter, b"x"), Err(Error::Closed));
    }
}

#[test]
fn output_that_is_left_leaves_although_its_connection_is_gone() {
    let (node, starter, mut ecm) = linked();
    ecm.reads = false;
    let (conn, number) = connected(&node, &starter, &mut ecm);
    let bytes = pattern(0, 20_000);
    node.send(conn, &starter, &bytes).unwrap();
    ecm.received(number, 8192);
    node.system.close(conn, &mut node.sink()).unwrap();
    node.emptied();
    ecm.reads = true;
    ecm.grant(number, 8192);
    assert_eq!(ecm.left(number), Reason::Closed);
    assert!(ecm.client(number).received == bytes);
}

#[test]
fn a_reader_hears_of_a_shutdown_of_its_side() {
    let (node, starter, mut ecm) = linked();
    let (conn, number) = connected(&node, &starter, &mut ecm);
    node.set(conn, Opt::ExitOnClose(false));
    let wait = node.wait_read(conn, &starter, 0);
    node.system.shutdown(conn, Shutdown::Read, &mut node.sink()).unwrap();
    wait.woken();
    assert_eq!(node.recv(conn, &starter, 0), Err(Error::Closed));
    // What comes now is thrown away, and may go on for as long as the client likes.
    ecm.send(number, &[b'x'; 100_000]);
    ecm.until("all is sent", |ecm| ecm.unsent(number) == 0);
    node.send(conn, &starter, b"still talking").unwrap();
    assert_eq!(ecm.received(number, 13), b"still talking");
}
