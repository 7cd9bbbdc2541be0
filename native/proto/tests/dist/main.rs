//! The accepting end of Erlang's distribution protocol, against bytes as nodes send them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod connected;
mod epmd;
mod handshake;
mod terms;

use megaphone_proto::dist::{Event, Failure, Local, Peer};
use megaphone_proto::time::Time;
use std::sync::Arc;

const CHALLENGE: u32 = 0x0102_0304;

fn local() -> Arc<Local> {
    let (name, cookie) = ("ecm@127.0.0.1".into(), "monster".into());
    Arc::new(Local { name, cookie, creation: 7, process: "ecm" })
}

fn peer() -> Peer {
    Peer::new(local(), CHALLENGE, Time::START)
}

/// Flags of OTP 25.
const OTP_25: u64 = 0xd_07df_7fbd;

fn name(flags: u64, name: &str) -> Vec<u8> {
    let length = u16::try_from(name.len()).unwrap().to_be_bytes();
    short(&[b"N", &flags.to_be_bytes()[..], &[0, 0, 0, 9], &length, name.as_bytes()].concat())
}

/// With the length that messages of a handshake have.
fn short(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// With the length and mark that others have.
fn long(message: &[u8]) -> Vec<u8> {
    [&u32::try_from(message.len() + 1).unwrap().to_be_bytes(), &[112][..], message].concat()
}

/// Taken from the machine.
fn transmitted(peer: &mut Peer) -> Vec<u8> {
    let bytes = peer.poll_transmit().to_vec();
    peer.written(bytes.len(), Time::START);
    bytes
}

/// md5("monster16909060"), the cookie and the challenge, as `erlang:md5/1` says.
const PROOF: [u8; 16] = *b"\xb4\xae\x69\x78\x05\x3f\x30\x42\xdd\x26\xb0\x37\xa0\x85\x1b\xa4";

fn proof() -> Vec<u8> {
    short(&[b"r\x00\x00\x00\x05", &PROOF[..]].concat())
}

/// After its handshake.
fn connected() -> Peer {
    let mut peer = peer();
    let hello = name(OTP_25, "a@b");
    assert_eq!(peer.handle_input(&mut hello.as_slice()), Ok(Some(Event::Introduced("a@b"))));
    peer.admit(false);
    assert_eq!(peer.handle_input(&mut proof().as_slice()), Ok(Some(Event::Connected)));
    transmitted(&mut peer);
    peer
}

/// The end of a peer that says this at first.
fn failure(input: &[u8]) -> (Failure, Vec<u8>) {
    let mut peer = peer();
    let failure = peer.handle_input(&mut { input }).unwrap_err();
    (failure, transmitted(&mut peer))
}
