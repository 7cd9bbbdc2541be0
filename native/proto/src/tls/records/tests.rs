//! What no honest peer sends, sealed with an honest peer's keys; and keys near their end.

#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::tls::header::ContentType;
use crate::tls::message::key_update;
use crate::tls::suite::{Aead, Version};
use crate::tls::{PeerError, SendError};

const AEADS: [Aead; 3] = [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::Chacha20Poly1305];
const TLS13: Suite = Suite { version: Version::Tls13, aead: Aead::Aes128Gcm };
const TLS12: Suite = Suite { version: Version::Tls12, aead: Aead::Aes128Gcm };

fn bare(suite: Suite, seed: u8) -> Vec<u8> {
    let len = if suite.is_tls13() { suite.hash_len() } else { suite.aead.key_len() + 12 };
    vec![seed; len]
}

fn keys(suite: Suite, seed: u8, sequence: u64) -> Keys {
    Keys::from_bare(suite, &bare(suite, seed)).unwrap().renumbered(sequence)
}

/// A client and a server, at these records of both directions.
fn pair(suite: Suite, sequence: u64) -> (Records, Records) {
    let (client, server) = (bare(suite, 2), bare(suite, 1));
    let end = |side| Records::from_secrets(suite, side, (&client, sequence), (&server, sequence)).unwrap();
    (end(Side::Client), end(Side::Server))
}

/// What a client seals that keeps no rules.
struct Raw {
    suite: Suite,
    keys: Keys,
    cipher: Option<Cipher>,
}

impl Raw {
    fn new(suite: Suite) -> (Self, Records) {
        let server = pair(suite, 0).1;
        (Self { suite, keys: keys(suite, 2, 0), cipher: None }, server)
    }

    fn record(&mut self, kind: ContentType, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        seal::seal(self.suite, &mut self.keys, &mut self.cipher, kind, text, &mut out).unwrap();
        out
    }

    fn update(&mut self) {
        self.keys.update(self.suite);
        self.cipher = None;
    }
}

fn receive(records: &mut Records, mut bytes: Vec<u8>) -> (Vec<u8>, Option<Result<(), Error>>) {
    let mut input = &mut bytes[..];
    let mut data = Vec::new();
    while let Some(event) = records.handle_input(&mut input) {
        match event {
            Event::Data(part) => data.extend_from_slice(part),
            Event::Closed => return (data, Some(Ok(()))),
            Event::Failed(error) => return (data, Some(Err(error))),
        }
    }
    (data, None)
}

fn error(records: &mut Records, bytes: Vec<u8>) -> Option<Error> {
    let (data, last) = receive(records, bytes);
    assert_eq!(data, b"");
    last.and_then(Result::err)
}

/// What a server makes of these payloads in one record each.
fn refusal(suite: Suite, records: &[(ContentType, &[u8])]) -> Option<PeerError> {
    let (mut raw, mut server) = Raw::new(suite);
    let bytes = records.iter().flat_map(|(kind, text)| raw.record(*kind, text)).collect();
    match error(&mut server, bytes)? {
        Error::Peer(error) => Some(error),
        other => unreachable!("{other:?}"),
    }
}

use ContentType::{Alert as ALERT, ApplicationData as DATA, ChangeCipherSpec as CCS, Handshake as HANDSHAKE};

#[test]
fn an_established_connection_is_small() {
    assert!(size_of::<Records>() <= 280, "{}", size_of::<Records>());
    assert!(size_of::<Work>() <= 80, "{}", size_of::<Work>());
}

#[test]
fn what_does_not_belong_behind_a_handshake_is_refused() {
    for (suite, kind, text, error) in [
        (TLS13, CCS, &[1][..], PeerError::Unexpected),
        (TLS12, CCS, &[1], PeerError::Unexpected),
        (TLS13, HANDSHAKE, &[], PeerError::Unexpected),
        (TLS12, HANDSHAKE, &[], PeerError::Unexpected),
        (TLS13, HANDSHAKE, &[1, 0, 0, 0], PeerError::Unexpected),
        (TLS13, HANDSHAKE, &[4, 0, 0, 0], PeerError::Unexpected),
        (TLS12, HANDSHAKE, &[0, 0, 0, 0], PeerError::Unexpected),
        (TLS12, HANDSHAKE, &[24, 0, 0, 1, 0], PeerError::Unexpected),
        (TLS13, HANDSHAKE, &[24, 0, 0, 1, 2], PeerError::IllegalValue),
        (TLS13, HANDSHAKE, &[24, 0, 0, 2, 0, 0], PeerError::Malformed),
        (TLS13, HANDSHAKE, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], PeerError::Unexpected),
        (TLS13, HANDSHAKE, &[24, 0, 0, 1, 0, 24], PeerError::Unexpected),
        (TLS13, ALERT, &[], PeerError::Malformed),
        (TLS13, ALERT, &[1], PeerError::Malformed),
        (TLS13, ALERT, &[1, 0, 1, 0], PeerError::Malformed),
        (TLS12, ALERT, &[3, 10], PeerError::IllegalValue),
    ] {
        assert_eq!(refusal(suite, &[(kind, text)]), Some(error), "{suite:?} {kind:?} {text:?}");
    }
}

#[test]
fn nothing_comes_between_the_parts_of_a_message() {
    for (kind, text) in [(DATA, &b"x"[..]), (DATA, b""), (ALERT, &[1, 0]), (ALERT, &[2, 10]), (CCS, &[1])] {
        let records = [(HANDSHAKE, &[24, 0, 0][..]), (kind, text)];
        assert_eq!(refusal(TLS13, &records), Some(PeerError::Unexpected));
    }
}

#[test]
fn a_key_update_may_come_in_parts() {
    for answer in [false, true] {
        let (mut raw, mut server) = Raw::new(TLS13);
        let parts: Vec<u8> =
            key_update(answer).iter().flat_map(|byte| raw.record(HANDSHAKE, &[*byte])).collect();
        raw.update();
        assert_eq!(receive(&mut server, [parts, raw.record(DATA, b"hi")].concat()), (b"hi".to_vec(), None));
        assert_eq!(server.wants_to_transmit(), answer);
    }
}

#[test]
fn the_length_of_a_record_is_bounded() {
    for version in [Version::Tls12, Version::Tls13] {
        for aead in AEADS {
            let suite = Suite { version, aead };
            let (mut raw, mut server) = Raw::new(suite);
            let longest = vec![7; MAX_PLAINTEXT];
            assert_eq!(receive(&mut server, raw.record(DATA, &longest)), (longest, None));
            let beyond = raw.record(DATA, &vec![7; MAX_PLAINTEXT + 1]);
            let head = beyond[..5].to_vec();
            assert_eq!(error(&mut server, beyond), Some(PeerError::RecordTooLong.into()));
            if version == Version::Tls12 {
                let (_, mut server) = Raw::new(suite);
                assert_eq!(error(&mut server, head), Some(PeerError::RecordTooLong.into()), "at its header");
            }
            let (_, mut server) = Raw::new(suite);
            let [high, low] = (suite.max_payload() as u16 + 1).to_be_bytes();
            assert_eq!(error(&mut server, vec![23, 3, 3, high, low]), Some(PeerError::RecordTooLong.into()));
        }
    }
}

#[test]
fn a_record_too_short_for_its_tag_is_refused() {
    for version in [Version::Tls12, Version::Tls13] {
        for aead in AEADS {
            for len in 0..=24 {
                let (_, mut server) = Raw::new(Suite { version, aead });
                let mut bytes = vec![23, 3, 3, 0, len];
                bytes.resize(5 + usize::from(len), 0);
                assert_eq!(error(&mut server, bytes), Some(PeerError::BadRecordMac.into()));
            }
        }
    }
}

#[test]
fn a_header_is_refused_before_its_record() {
    for (suite, bytes, expected) in [
        (TLS13, &[20][..], PeerError::Unexpected),
        (TLS13, &[21], PeerError::Unexpected),
        (TLS13, &[22], PeerError::Unexpected),
        (TLS12, &[24], PeerError::Unexpected),
        (TLS12, b"G", PeerError::Unexpected),
        (TLS12, &[23, 3, 4, 0, 30], PeerError::WrongVersion),
        (TLS12, &[23, 3, 1, 0, 30], PeerError::WrongVersion),
    ] {
        let mut server = Raw::new(suite).1;
        assert_eq!(error(&mut server, bytes.to_vec()), Some(expected.into()), "{bytes:?}");
    }
}

/// Appends what TLS 1.3 has behind the data of a record: the type, and zeros.
fn padded(raw: &mut Raw, kind: ContentType, text: &[u8], zeros: usize) -> Vec<u8> {
    // The sealer's own type byte, where it is 0, is one more zero.
    let mut inner = [text, &[kind as u8]].concat();
    inner.resize(inner.len() + zeros, 0);
    let header = crate::tls::header::write(DATA, inner.len() + 16);
    let cipher = Cipher::new(raw.suite.aead, raw.keys.key(raw.suite)).unwrap();
    let tag = cipher.seal(raw.keys.nonce(), &header, &mut inner).unwrap();
    raw.keys.advance().unwrap();
    [&header[..], &inner, &tag].concat()
}

#[test]
fn padding_is_taken_off() {
    let (mut raw, mut server) = Raw::new(TLS13);
    for zeros in [0, 1, 255, 16_000] {
        let bytes = padded(&mut raw, DATA, b"data\0\0", zeros);
        assert_eq!(receive(&mut server, bytes), (b"data\0\0".to_vec(), None));
    }
    // 2^14 bytes of data, and as much padding as a record can have.
    let (mut raw, mut server) = Raw::new(TLS13);
    let bytes = padded(&mut raw, DATA, &vec![1; MAX_PLAINTEXT], 1);
    assert_eq!(error(&mut server, bytes), Some(PeerError::RecordTooLong.into()));
}

#[test]
fn a_record_of_zeros_has_no_type() {
    let (mut raw, mut server) = Raw::new(TLS13);
    let mut inner = vec![0; 40];
    let header = crate::tls::header::write(DATA, inner.len() + 16);
    let cipher = Cipher::new(TLS13.aead, raw.keys.key(TLS13)).unwrap();
    let tag = cipher.seal(raw.keys.nonce(), &header, &mut inner).unwrap();
    raw.keys.advance().unwrap();
    let bytes = [&header[..], &inner, &tag].concat();
    assert_eq!(error(&mut server, bytes), Some(PeerError::Unexpected.into()));
}

#[test]
fn records_without_data_are_counted() {
    for suite in [TLS12, TLS13] {
        for (kind, text) in [(DATA, &[][..]), (ALERT, &[1, 90])] {
            let (mut raw, mut server) = Raw::new(suite);
            for _ in 0..3 {
                for _ in 0..32 {
                    assert_eq!(receive(&mut server, raw.record(kind, text)), (vec![], None));
                }
                assert_eq!(receive(&mut server, raw.record(DATA, b"x")).0, b"x");
            }
            let flood = (0..33).flat_map(|_| raw.record(kind, text)).collect();
            assert_eq!(error(&mut server, flood), Some(PeerError::TooManyWithoutData.into()));
        }
    }
    let (mut raw, mut server) = Raw::new(TLS13);
    let mut flood = Vec::new();
    for _ in 0..33 {
        flood.extend(raw.record(HANDSHAKE, &key_update(true)));
        raw.update();
    }
    assert_eq!(error(&mut server, flood), Some(PeerError::TooManyWithoutData.into()));
    let mut out = Vec::new();
    assert!(server.poll_transmit(&mut out));
    assert_eq!(out.len(), 5 + 2 + 1 + 16, "an alert, and no update before it");
}

#[test]
fn updates_that_were_asked_for_are_not_counted() {
    let (mut client, mut server) = pair(TLS13, 0);
    for _ in 0..100 {
        let mut out = Vec::new();
        server.update_keys(true);
        server.send(b"x", &mut out).unwrap();
        assert_eq!(receive(&mut client, out), (b"x".to_vec(), None));
        let mut out = Vec::new();
        assert!(client.poll_transmit(&mut out));
        assert_eq!(receive(&mut server, out), (vec![], None));
    }
}

#[test]
fn one_request_has_one_answer() {
    let (mut raw, mut server) = Raw::new(TLS13);
    server.update_keys(true);
    assert!(server.poll_transmit(&mut Vec::new()));
    for at in 0..34 {
        let record = raw.record(HANDSHAKE, &key_update(false));
        raw.update();
        let expected = (at == 33).then(|| PeerError::TooManyWithoutData.into());
        assert_eq!(error(&mut server, record), expected, "{at}");
    }
}

#[test]
fn contexts_are_dropped_while_a_record_is_half_received() {
    let (mut raw, mut server) = Raw::new(TLS13);
    receive(&mut server, raw.record(DATA, b"whole"));
    server.send(b"answer", &mut Vec::new()).unwrap();
    let record = raw.record(DATA, b"half");
    receive(&mut server, record[..9].to_vec());
    assert!(server.heap_bytes() > 2 * cipher::HEAP);
    server.rest();
    assert!(server.heap_bytes() < 150 && !server.is_between_records());
    assert_eq!(receive(&mut server, record[9..].to_vec()), (b"half".to_vec(), None));
}

#[test]
fn secrets_of_another_length_are_no_suites() {
    for suite in [TLS12, TLS13] {
        let right = bare(suite, 1);
        let wrong = [&right[1..], &[&right[..], &[1]].concat()]
            .map(|secret| Records::from_secrets(suite, Side::Server, (secret, 0), (&right, 0)).is_none());
        assert_eq!(wrong, [true, true]);
    }
}

#[test]
fn renegotiation_is_refused_with_a_warning_and_then_with_an_end() {
    let mut hello = vec![1, 0, 2, 0];
    hello.resize(4 + 512, 7);
    let (mut raw, mut server) = Raw::new(TLS12);
    let mut client = pair(TLS12, 0).0;
    // In parts, as a long one may come.
    let bytes = [raw.record(HANDSHAKE, &hello[..3]), raw.record(HANDSHAKE, &hello[3..])].concat();
    assert_eq!(receive(&mut server, bytes), (vec![], None));
    let mut out = Vec::new();
    server.send(b"after", &mut out).unwrap();
    assert_eq!(receive(&mut client, out), (b"after".to_vec(), None), "a warning, which changes nothing");
    assert_eq!(error(&mut server, raw.record(HANDSHAKE, &hello)), Some(PeerError::Renegotiation.into()));
    let mut out = Vec::new();
    server.poll_transmit(&mut out);
    assert_eq!(receive(&mut client, out).1, Some(Err(Error::Alert(Alert::UNEXPECTED_MESSAGE))));
}

#[test]
fn alerts_mean_what_their_version_says() {
    let end = |suite, text: &[u8]| {
        let (mut raw, mut server) = Raw::new(suite);
        receive(&mut server, raw.record(ALERT, text)).1
    };
    for suite in [TLS12, TLS13] {
        assert_eq!(end(suite, &[1, 0]), Some(Ok(())));
        assert_eq!(end(suite, &[2, 0]), Some(Ok(())), "whatever its level");
        assert_eq!(end(suite, &[1, 90]), None);
        assert_eq!(end(suite, &[2, 40]), Some(Err(Error::Alert(Alert(40)))));
    }
    assert_eq!(end(TLS12, &[1, 112]), None, "a warning");
    assert_eq!(end(TLS13, &[1, 112]), Some(Err(Error::Alert(Alert(112)))));
    assert_eq!(end(TLS13, &[7, 255]), Some(Err(Error::Alert(Alert(255)))));
}

#[test]
fn a_key_is_changed_before_it_has_sealed_too_much() {
    for aead in [Aead::Aes128Gcm, Aead::Aes256Gcm] {
        let limit = aead.record_limit();
        let suite = Suite { version: Version::Tls13, aead };
        let (mut client, mut server) = pair(suite, limit - 2);
        for at in 0..5 {
            let mut out = Vec::new();
            server.send(&[at], &mut out).unwrap();
            let has_update = at == 2;
            assert_eq!(out.len(), server.sealed_len(1) + if has_update { 27 } else { 0 });
            assert_eq!(receive(&mut client, out), (vec![at], None));
        }
        assert_eq!((server.tx.sequence(), client.rx.sequence()), (3, 3));
        // In the middle of a long text.
        let (mut client, mut server) = pair(suite, limit - 1);
        let text = vec![5; 3 * MAX_PLAINTEXT];
        let mut out = Vec::new();
        server.send(&text, &mut out).unwrap();
        assert_eq!(receive(&mut client, out), (text, None));
    }
}

#[test]
fn a_connection_of_tls12_ends_with_its_key() {
    let (mut client, mut server) = pair(TLS12, TLS12.aead.record_limit() - 1);
    let mut out = Vec::new();
    server.send(b"last", &mut out).unwrap();
    assert_eq!(server.send(b"more", &mut out), Err(SendError::KeyExhausted));
    assert_eq!(server.send(b"more", &mut out), Err(SendError::Closed));
    assert_eq!(receive(&mut client, out), (b"last".to_vec(), Some(Ok(()))));
}

#[test]
fn no_sequence_number_comes_twice() {
    let chacha = Suite { version: Version::Tls12, aead: Aead::Chacha20Poly1305 };
    let (mut client, mut server) = pair(chacha, u64::MAX - 2);
    let mut out = Vec::new();
    server.send(b"last", &mut out).unwrap();
    assert_eq!(server.send(b"more", &mut out), Err(SendError::KeyExhausted));
    assert_eq!(
        receive(&mut client, out),
        (b"last".to_vec(), Some(Ok(()))),
        "the last number was the alert's"
    );
    // A peer that keeps no such limit.
    let (mut raw, mut server) = Raw::new(chacha);
    (raw.keys, server.rx) = (keys(chacha, 2, u64::MAX - 1), keys(chacha, 2, u64::MAX - 1));
    assert_eq!(receive(&mut server, raw.record(DATA, b"x")), (b"x".to_vec(), None));
    raw.keys = keys(chacha, 2, u64::MAX);
    let mut out = Vec::new();
    let sealed = seal::seal(chacha, &mut raw.keys, &mut raw.cipher, DATA, b"y", &mut out);
    assert!(sealed.is_err(), "no number follows");
    assert_eq!(error(&mut server, out), Some(Error::Internal));
}

#[test]
fn keys_are_cleared_when_a_direction_ends() {
    let (mut client, mut server) = pair(TLS13, 0);
    let nothing = Keys::new(&[], &[], &[0; 12], 0).unwrap();
    assert!(!server.tx.is_like(&nothing) && !server.rx.is_like(&nothing));
    client.close();
    let mut out = Vec::new();
    client.poll_transmit(&mut out);
    assert!(client.tx.is_like(&nothing) && !client.rx.is_like(&nothing));
    assert_eq!(receive(&mut server, out).1, Some(Ok(())));
    assert!(server.rx.is_like(&nothing) && !server.tx.is_like(&nothing));
}

/// RFC 8448 section 3: the server's application traffic secret, and its keys.
#[test]
fn keys_are_those_of_the_rfcs_example() {
    let secret = hex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
    let keys = Keys::from_secret(TLS13, &secret).unwrap();
    let expected =
        Keys::new(&secret, &hex("9f02283b6c9c07efc26bb9f2ac92e356"), &hex("cf782b88dd83549aadf1e984"), 0);
    assert!(keys.is_like(&expected.unwrap()));
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
