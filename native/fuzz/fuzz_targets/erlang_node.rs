//! Bytes that an Erlang node sends, behind its handshake or in place of it.
//!
//! Held to be true: cut anyhow, the same events, the same answers but for ticks, and the same failure; heap memory is bounded; nobody
//! gets in without the cookie; what is said is whole messages.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::{pieces, within_heap};
use megaphone_proto::dist::{Event, Failure, Local, Peer};
use megaphone_proto::time::Time;

/// Two answers' worth of output, and twice the input.
const MOST_HEAP: usize = 1 << 20;

const CHALLENGE: u32 = 0x0102_0304;

/// A name with the flags of OTP 25, and the proof of the cookie for that challenge.
const HANDSHAKE: &[u8] =
    b"\x00\x12N\x00\x00\x00\x0d\x07\xdf\x7f\xbd\x00\x00\x00\x09\x00\x03a@b\x00\x15r\x00\x00\x00\x05\
    \xb4\xae\x69\x78\x05\x3f\x30\x42\xdd\x26\xb0\x37\xa0\x85\x1b\xa4";

fuzz_target!(|input: (bool, [u8; 4], &[u8])| {
    let (is_connected, sizes, bytes) = input;
    within_heap(MOST_HEAP, || {
        let whole = Told::of(is_connected, std::iter::once(bytes));
        assert_eq!(Told::of(is_connected, pieces(bytes, sizes)), whole);
        assert!(is_connected || !whole.events.iter().any(|event| event == "Connected"));
    });
});

#[derive(Debug, Default, PartialEq)]
struct Told {
    events: Vec<String>,
    said: Vec<u8>,
    failure: Option<Failure>,
}

impl Told {
    fn of<'a>(is_connected: bool, pieces: impl Iterator<Item = &'a [u8]>) -> Self {
        let (name, cookie) = ("ecm@127.0.0.1".into(), "monster".into());
        let local = Arc::new(Local { name, cookie, creation: 7, process: "ecm" });
        // Nothing that is in the corpus proves the cookie for the other.
        let challenge = if is_connected { CHALLENGE } else { !CHALLENGE };
        let mut peer = Peer::new(local, challenge, Time::START);
        let mut told = Self::default();
        if is_connected {
            assert!(told.take(&mut peer, HANDSHAKE).is_empty() && peer.is_connected());
            told = Self::default();
        }
        let mut kept = Vec::new();
        for piece in pieces {
            kept.extend_from_slice(piece);
            kept = told.take(&mut peer, &kept).to_vec();
            if told.failure.is_some() {
                break;
            }
        }
        told
    }

    /// Says what is left.
    fn take<'a>(&mut self, peer: &mut Peer, mut input: &'a [u8]) -> &'a [u8] {
        loop {
            let before = input.len();
            let event = peer.handle_input(&mut input);
            match event {
                Ok(Some(event)) => {
                    self.events.push(format!("{event:?}"));
                    answer(peer, event);
                }
                Ok(None) => {}
                Err(failure) => self.failure = Some(failure),
            }
            self.hear(peer);
            if event.is_err() || (event == Ok(None) && input.len() == before) {
                return input;
            }
        }
    }

    /// Ticks depend on what waits to be written.
    fn hear(&mut self, peer: &mut Peer) {
        let mut said = peer.poll_transmit();
        if peer.is_connected() && !self.is_in_handshake() {
            while let Some((length, rest)) = said.split_first_chunk() {
                let (message, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
                self.said.extend_from_slice(message);
                said = rest;
            }
            assert!(said.is_empty());
        }
        let written = peer.poll_transmit().len();
        peer.written(written, Time::START);
    }

    /// Its last answer waits to be written.
    fn is_in_handshake(&self) -> bool {
        self.events.last().is_some_and(|event| event == "Connected")
    }
}

fn answer(peer: &mut Peer, event: Event<'_>) {
    match event {
        Event::Introduced(name) => peer.admit(name.len().is_multiple_of(2)),
        Event::Connected => {}
        Event::Call { caller, request } => peer.reply(caller, |writer| {
            writer.term(request);
        }),
    }
}
