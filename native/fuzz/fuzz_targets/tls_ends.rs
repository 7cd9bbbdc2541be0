//! Both ends of a TLS connection and their owners, doing what they may do in any order.
//!
//! Held to be true: neither end ever accuses the other; data arrive once and in order, whatever was cut and however often keys change;
//! an end hears of a close if and only if there was one, behind all data; no heap memory is held at rest. And where one byte is changed
//! on the way, nothing is delivered that was not sent, and the end that notices says so.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::within_heap;
use megaphone_proto::tls::{Aead, Error, Event, MAX_PLAINTEXT, Records, SendError, Side, Suite, Version};

const MOST_HEAP: usize = 8 << 20;

/// What may be under way to one end.
const MOST_UNDER_WAY: usize = 1 << 20;

/// KeyUpdates that an end may send without data before the other ends the connection.
const UPDATES: u8 = 32;

#[derive(Arbitrary, Debug)]
struct Input {
    suite: u8,
    /// How far below the limit of a key the connection begins.
    near_limit: Option<u8>,
    operations: Vec<Operation>,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Send(bool, u16),
    Update(bool, bool),
    Transmit(bool),
    /// So much of what was written arrives.
    Arrive(bool, u16),
    Rest(bool),
    Close(bool),
    /// Changes a bit of what is under way.
    Change(bool, u16, u8),
}

struct End {
    records: Records,
    /// What was written to it and has not arrived.
    under_way: Vec<u8>,
    sent: usize,
    got: usize,
    updates: u8,
    has_closed: bool,
    has_heard_close: bool,
    failed: Option<Error>,
}

struct World {
    ends: [End; 2],
    is_changed: bool,
    is_tls13: bool,
}

fuzz_target!(|input: Input| {
    within_heap(MOST_HEAP, || {
        let mut world = World::new(&input);
        for operation in &input.operations {
            world.perform(operation);
        }
        world.settle();
    });
});

fn byte(at: usize) -> u8 {
    (at.wrapping_mul(7) + at / 251) as u8
}

fn suite(number: u8) -> (Suite, usize) {
    let aead = [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::Chacha20Poly1305][usize::from(number % 3)];
    let version = if number & 0x80 == 0 { Version::Tls13 } else { Version::Tls12 };
    let len = match (version, aead) {
        (Version::Tls13, Aead::Aes256Gcm) => 48,
        (Version::Tls13, _) => 32,
        (Version::Tls12, Aead::Aes128Gcm) => 28,
        (Version::Tls12, _) => 44,
    };
    (Suite { version, aead }, len)
}

impl World {
    fn new(input: &Input) -> Self {
        let (suite, len) = suite(input.suite);
        let limit = if suite.aead == Aead::Chacha20Poly1305 { u64::MAX - 1 } else { 1 << 24 };
        let number = input.near_limit.map_or(0, |below| limit - u64::from(below));
        let end = |side| End {
            records: Records::from_secrets(suite, side, (&vec![1; len], number), (&vec![2; len], number))
                .expect("the suite's lengths"),
            under_way: Vec::new(),
            sent: 0,
            got: 0,
            updates: 0,
            has_closed: false,
            has_heard_close: false,
            failed: None,
        };
        let ends = [end(Side::Client), end(Side::Server)];
        Self { ends, is_changed: false, is_tls13: suite.version == Version::Tls13 }
    }

    fn end(&mut self, at: bool) -> &mut End {
        &mut self.ends[usize::from(at)]
    }

    fn perform(&mut self, operation: &Operation) {
        match *operation {
            Operation::Send(at, _) if self.end(!at).under_way.len() > MOST_UNDER_WAY => {}
            Operation::Send(at, len) => self.send(at, len.into()),
            Operation::Update(at, both) => self.update(at, both),
            Operation::Transmit(at) => self.transmit(at),
            Operation::Arrive(at, count) => self.arrive(at, count.into()),
            Operation::Rest(at) => self.end(at).rest(),
            Operation::Close(at) => {
                let end = self.end(at);
                end.has_closed |= end.records.may_send();
                end.records.close();
                assert!(!end.records.may_send());
            }
            Operation::Change(at, place, bit) => self.change(at, place.into(), bit),
        }
    }

    fn send(&mut self, at: bool, len: usize) {
        let end = self.end(at);
        let data: Vec<_> = (end.sent..end.sent + len).map(byte).collect();
        let mut out = Vec::new();
        let (may_send, wants, most) =
            (end.records.may_send(), end.records.wants_to_transmit(), end.records.sealed_len(len));
        match end.records.send(&data, &mut out) {
            Ok(()) => {
                assert!(may_send && (wants || out.len() >= most));
                end.sent += len;
                if len > 0 {
                    end.updates = 0;
                }
            }
            Err(SendError::Closed) => assert!(!may_send && out.is_empty()),
            Err(SendError::KeyExhausted) => {
                // Whole records of it went out.
                end.sent += (out.len() / MAX_PLAINTEXT) * MAX_PLAINTEXT;
                end.has_closed = true;
                assert!(!end.records.may_send() && !self.is_tls13);
            }
            Err(SendError::Internal) => panic!("no cipher"),
        }
        self.end(!at).under_way.extend(out);
    }

    fn update(&mut self, at: bool, both: bool) {
        let is_tls13 = self.is_tls13;
        let end = self.end(at);
        if end.updates < UPDATES - 2 {
            let may_send = end.records.may_send();
            assert_eq!(end.records.update_keys(both), may_send && is_tls13);
            end.updates += 1;
        }
    }

    fn transmit(&mut self, at: bool) {
        let mut out = Vec::new();
        let records = &mut self.end(at).records;
        assert_eq!(records.wants_to_transmit(), records.poll_transmit(&mut out));
        assert!(!records.wants_to_transmit());
        self.end(!at).under_way.extend(out);
    }

    fn arrive(&mut self, at: bool, count: usize) {
        let (is_changed, sent) = (self.is_changed, self.end(!at).sent);
        let end = self.end(at);
        let count = count.min(end.under_way.len());
        let mut bytes: Vec<_> = end.under_way.drain(..count).collect();
        let mut input = &mut bytes[..];
        while let Some(event) = end.records.handle_input(&mut input) {
            assert!(!end.has_heard_close && end.failed.is_none(), "an event behind the last");
            match event {
                Event::Data(data) => {
                    assert!(!data.is_empty() && data.len() <= MAX_PLAINTEXT);
                    for have in data {
                        assert_eq!(*have, byte(end.got));
                        end.got += 1;
                    }
                    assert!(end.got <= sent);
                }
                Event::Closed => end.has_heard_close = true,
                Event::Failed(error) => {
                    assert!(is_changed, "{error:?}");
                    end.failed = Some(error);
                }
            }
        }
        assert!(input.is_empty());
        assert!(end.records.heap_bytes() <= 100 + 2 * 640 + MAX_PLAINTEXT + 300);
    }

    fn change(&mut self, at: bool, place: usize, bit: u8) {
        let bytes = &mut self.end(at).under_way;
        if !bytes.is_empty() {
            let place = place % bytes.len();
            bytes[place] ^= 1 << (bit % 8);
            self.is_changed = true;
        }
    }

    /// All that was written arrives.
    fn settle(&mut self) {
        for _ in 0..4 {
            for at in [false, true] {
                self.transmit(at);
                self.arrive(!at, usize::MAX);
            }
        }
        for at in [false, true] {
            let (sent, has_closed) = (self.end(!at).sent, self.end(!at).has_closed);
            let (is_changed, end) = (self.is_changed, self.end(at));
            let ending = end.records.handle_eof();
            assert_eq!(ending.is_ok(), end.has_heard_close || end.failed.is_some());
            assert!(is_changed || (end.got, end.has_heard_close) == (sent, has_closed));
            assert!(end.records.handle_eof().is_ok(), "told once");
            end.rest();
            assert_eq!(end.records.heap_bytes(), 0);
        }
    }
}

impl End {
    fn rest(&mut self) {
        let is_between = self.records.is_between_records();
        self.records.rest();
        assert_eq!(self.records.is_between_records(), is_between);
        assert!(!is_between || self.records.heap_bytes() == 0);
    }
}
