//! Who is let in.

use super::*;
use std::time::Duration;

#[test]
fn a_node_with_the_cookie_is_connected_and_told_the_proof() {
    let mut peer = peer();
    let hello = name(OTP_25, "a@b");
    assert_eq!(peer.handle_input(&mut hello.as_slice()), Ok(Some(Event::Introduced("a@b"))));
    peer.admit(false);
    let said = transmitted(&mut peer);
    let (status, challenge) = said.split_at(5);
    assert_eq!(status, short(b"sok"));
    assert_eq!(challenge[2], b'N');
    assert_eq!(challenge[11..], [&[1, 2, 3, 4, 0, 0, 0, 7, 0, 13], &b"ecm@127.0.0.1"[..]].concat());
    assert_eq!(peer.handle_input(&mut proof().as_slice()), Ok(Some(Event::Connected)));
    // md5("monster5").
    let answer = b"a\xbf\x7e\x68\x4c\xc1\x67\xb5\x78\x60\xeb\x3c\x79\xcc\x6f\xfd\x60";
    assert_eq!(transmitted(&mut peer), short(answer));
}

#[test]
fn what_is_announced_is_what_is_done() {
    let mut peer = peer();
    peer.handle_input(&mut name(OTP_25, "a@b").as_slice()).unwrap();
    peer.admit(false);
    let said = transmitted(&mut peer);
    let flags = u64::from_be_bytes(said[8..16].try_into().unwrap());
    let (published, atom_cache, fragments, spawn, mandatory_26) =
        (0x1, 0x2000, 0x80_0000, 1 << 32, 1 << 34 | 1 << 25);
    assert_eq!(flags & (published | atom_cache | fragments | spawn), 0);
    assert_eq!(flags & mandatory_26, mandatory_26);
    // All of OTP 25's, one by one, since older nodes do not know the digest.
    assert_eq!(flags & 0x107_0f94, 0x107_0f94);
}

#[test]
fn another_cookie_gets_nothing() {
    let mut peer = peer();
    peer.handle_input(&mut name(OTP_25, "a@b").as_slice()).unwrap();
    peer.admit(false);
    transmitted(&mut peer);
    let foreign = short(&[b"r\x00\x00\x00\x05", &[0; 16][..]].concat());
    assert_eq!(peer.handle_input(&mut foreign.as_slice()), Err(Failure::WrongCookie));
    assert!(peer.poll_transmit().is_empty());
    assert!(!peer.is_connected());
}

#[test]
fn a_node_that_is_connected_is_asked_whether_that_connection_is_stale() {
    for (choice, result) in [(&b"strue"[..], Ok(None)), (b"sfalse", Err(Failure::Declined))] {
        let mut peer = peer();
        peer.handle_input(&mut name(OTP_25, "a@b").as_slice()).unwrap();
        peer.admit(true);
        assert_eq!(transmitted(&mut peer), short(b"salive"));
        assert_eq!(peer.handle_input(&mut short(choice).as_slice()), result);
        if result.is_ok() {
            assert_eq!(transmitted(&mut peer)[2], b'N');
            assert_eq!(peer.handle_input(&mut proof().as_slice()), Ok(Some(Event::Connected)));
        }
    }
}

#[test]
fn old_nodes_and_those_without_a_name_are_refused() {
    let refused = (Failure::Unsupported, short(b"snot_allowed"));
    let name_me = 1 << 33;
    assert_eq!(failure(&name(0, "a@b")), refused);
    assert_eq!(failure(&name(OTP_25 | name_me, "b")), refused);
    // Before OTP 23.
    assert!(matches!(failure(&short(b"n\x00\x05\x00\x00\x00\x00a@b")).0, Failure::Malformed(_)));
    // The digest of what OTP 25 needs stands for each of it.
    let digest = 1 << 36;
    assert!(peer().handle_input(&mut name(digest, "a@b").as_slice()).is_ok());
}

#[test]
fn what_is_no_handshake_is_refused() {
    let long_name = format!("a@{}", "b".repeat(254));
    for hello in [
        &short(b"")[..],
        b"\xff\xff",
        b"GET / HTTP/1.1\r\n",
        &name(OTP_25, "ab"),
        &name(OTP_25, "a@\n"),
        &name(OTP_25, &long_name),
    ] {
        assert!(matches!(failure(hello).0, Failure::Malformed(_)), "{hello:?}");
    }
}

#[test]
fn no_byte_restarts_the_deadline() {
    let mut peer = peer();
    let due = peer.poll_timeout();
    assert!(due.since(Time::START) <= Duration::from_millis(5100));
    peer.handle_input(&mut name(OTP_25, "a@b").as_slice()).unwrap();
    peer.admit(false);
    peer.written(1, Time::from_ticks(40));
    assert_eq!(peer.poll_timeout(), due);
    assert_eq!(peer.handle_timeout(Time::from_ticks(due.ticks() - 1)), Ok(()));
    assert_eq!(peer.handle_timeout(due), Err(Failure::TooLate));
}

#[test]
fn a_handshake_may_come_in_any_pieces() {
    let stream = [name(OTP_25, "a@b"), proof(), vec![0; 4]].concat();
    let mut peer = peer();
    let (mut kept, mut events) = (Vec::new(), 0);
    for byte in stream {
        kept.push(byte);
        let mut input = kept.as_slice();
        while let Some(event) = peer.handle_input(&mut input).unwrap() {
            events += 1;
            if event == Event::Introduced("a@b") {
                peer.admit(false);
            }
        }
        kept = input.to_vec();
    }
    assert_eq!(events, 2);
    assert!(kept.is_empty() && peer.is_connected());
}
