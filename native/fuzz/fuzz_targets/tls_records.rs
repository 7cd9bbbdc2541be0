//! Records that a TLS peer sends who has the keys and keeps no rules, sealed by a sealer of its own.
//!
//! Held to be true: cut anyhow, the same events; all is taken; what is delivered are the data of records that were sealed in order, and
//! all of them up to the first that breaks a rule, by a second reading of the RFCs; heap memory is bounded; behind a failure comes one
//! alert, or none where the peer sent its own.
#![no_main]

use arbitrary::Arbitrary;
use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use aws_lc_rs::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::within_heap;
use megaphone_proto::tls::{Aead, Error, Event, MAX_PLAINTEXT, Records, Side, Suite, Version};

const MOST_HEAP: usize = 8 << 20;

/// Records of an input that count: what they hold is in memory several times here.
const MOST_RECORDS: usize = 40;

#[derive(Arbitrary, Debug)]
struct Input {
    suite: u8,
    is_client: bool,
    cut: u8,
    records: Vec<Record>,
}

#[derive(Arbitrary, Debug)]
enum Record {
    Data(u16),
    /// Any type, with this text and so many zeros behind it (TLS 1.3).
    Sealed(u8, Vec<u8>, u16),
    Alert(u8, u8),
    KeyUpdate(bool),
    /// A KeyUpdate in two records.
    Halves(bool, u8),
    Bytes(Vec<u8>),
}

/// Seals as RFC 8446 and RFC 5246 say, with arithmetic of its own.
struct Sealer {
    is_tls13: bool,
    algorithm: &'static Algorithm,
    secret: Vec<u8>,
    key: Vec<u8>,
    iv: Vec<u8>,
    number: u64,
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

fuzz_target!(|input: Input| {
    within_heap(MOST_HEAP, || {
        let (bytes, expected, is_all) = wire(&input);
        let whole = receive(&input, &bytes, usize::MAX);
        let parts = receive(&input, &bytes, usize::from(input.cut) + 1);
        assert_eq!(whole, parts);
        assert!(expected.starts_with(&whole.0), "only what was sealed");
        if is_all {
            assert_eq!((whole.0.len(), &whole.1), (expected.len(), &None));
        }
    });
});

fn suite(number: u8) -> (Suite, &'static Algorithm, usize) {
    let (aead, algorithm) = [
        (Aead::Aes128Gcm, &AES_128_GCM),
        (Aead::Aes256Gcm, &AES_256_GCM),
        (Aead::Chacha20Poly1305, &CHACHA20_POLY1305),
    ][usize::from(number % 3)];
    let version = if number & 0x80 == 0 { Version::Tls13 } else { Version::Tls12 };
    let len = match (version, aead) {
        (Version::Tls13, Aead::Aes256Gcm) => 48,
        (Version::Tls13, _) => 32,
        (Version::Tls12, _) => algorithm.key_len() + 12,
    };
    (Suite { version, aead }, algorithm, len)
}

/// All bytes, the data in them, and whether nothing among them breaks a rule or ends the connection.
fn wire(input: &Input) -> (Vec<u8>, Vec<u8>, bool) {
    let mut sealer = Sealer::new(input.suite);
    let (mut bytes, mut data, mut is_all, mut without_data) = (Vec::new(), Vec::new(), true, 0);
    for record in input.records.iter().take(MOST_RECORDS) {
        without_data += 1;
        match record {
            Record::Data(len) => {
                let text: Vec<_> = (0..len % (MAX_PLAINTEXT as u16 + 1)).map(|at| at as u8).collect();
                bytes.extend(sealer.seal(23, &text, 0));
                without_data = if text.is_empty() { without_data } else { 0 };
                data.extend(text);
            }
            Record::Sealed(kind, text, zeros) => {
                let text = &text[..text.len().min(MAX_PLAINTEXT)];
                bytes.extend(sealer.seal(*kind, text, usize::from(*zeros)));
                if sealer.is_tls13 && *kind == 0 {
                    is_all = false; // Its type is the last byte of the text, or there is none.
                    if let Some(end) = text.iter().rposition(|byte| *byte != 0).filter(|at| text[*at] == 23) {
                        data.extend(&text[..end]);
                    }
                } else if *kind == 23 {
                    data.extend(text);
                    is_all &= text.len() + usize::from(*zeros) <= MAX_PLAINTEXT;
                    without_data = if text.is_empty() { without_data } else { 0 };
                } else {
                    is_all = false;
                }
            }
            Record::Alert(level, description) => {
                bytes.extend(sealer.seal(21, &[*level, *description], 0));
                is_all &= *description == 90 && (sealer.is_tls13 || *level == 1);
            }
            Record::KeyUpdate(answer) => {
                bytes.extend(sealer.seal(22, &[24, 0, 0, 1, u8::from(*answer)], 0));
                sealer.update();
                is_all &= sealer.is_tls13;
            }
            Record::Halves(answer, at) => {
                let message = [24, 0, 0, 1, u8::from(*answer)];
                let (first, second) = message.split_at(1 + usize::from(at % 4));
                bytes.extend(sealer.seal(22, first, 0));
                bytes.extend(sealer.seal(22, second, 0));
                sealer.update();
                is_all &= sealer.is_tls13;
                without_data += 1;
            }
            Record::Bytes(raw) => {
                bytes.extend(raw);
                is_all &= raw.is_empty();
            }
        }
        is_all &= without_data <= 32;
    }
    (bytes, data, is_all)
}

fn receive(input: &Input, bytes: &[u8], piece: usize) -> (Vec<u8>, Option<String>) {
    let (suite, _, len) = suite(input.suite);
    let side = if input.is_client { Side::Client } else { Side::Server };
    let secret = vec![1; len];
    let mut records =
        Records::from_secrets(suite, side, (&secret, 0), (&secret, 0)).expect("the suite's lengths");
    let (mut data, mut last) = (Vec::new(), None);
    for piece in bytes.to_vec().chunks_mut(piece) {
        let mut rest = &mut *piece;
        while let Some(event) = records.handle_input(&mut rest) {
            assert!(last.is_none(), "an event behind the last");
            match event {
                Event::Data(part) => data.extend_from_slice(part),
                Event::Closed => last = Some("closed".to_owned()),
                Event::Failed(error) => {
                    assert_ne!(error, Error::Internal);
                    last = Some(format!("{error:?}"));
                    check_alert(&mut records, error);
                }
            }
        }
        assert!(rest.is_empty());
        assert!(records.heap_bytes() <= 100 + 2 * 640 + MAX_PLAINTEXT + 300);
    }
    (data, last)
}

fn check_alert(records: &mut Records, error: Error) {
    let mut out = Vec::new();
    assert_eq!(records.poll_transmit(&mut out), !matches!(error, Error::Alert(_)));
    // A warning of TLS 1.2 may come before.
    assert!(out.len() <= 2 * (5 + 8 + 2 + 16));
    assert!(!records.may_send());
}

impl Sealer {
    fn new(number: u8) -> Self {
        let (suite, algorithm, len) = suite(number);
        let secret = vec![1; len];
        let is_tls13 = suite.version == Version::Tls13;
        let (key, iv) = secret.split_at(if is_tls13 { 0 } else { algorithm.key_len() });
        let mut sealer = Self {
            is_tls13,
            algorithm,
            key: key.to_vec(),
            iv: iv.to_vec(),
            secret: secret.clone(),
            number: 0,
        };
        sealer.derive();
        sealer
    }

    fn expand(&self, label: &str, len: usize) -> Vec<u8> {
        let hash = if self.secret.len() == 48 { HKDF_SHA384 } else { HKDF_SHA256 };
        let label = format!("tls13 {label}");
        let info = [&[0, len as u8, label.len() as u8][..], label.as_bytes(), &[0]];
        let mut out = vec![0; len];
        let secret = Prk::new_less_safe(hash, &self.secret);
        secret.expand(&info, Len(len)).and_then(|okm| okm.fill(&mut out)).expect("short enough");
        out
    }

    fn derive(&mut self) {
        if self.is_tls13 {
            self.key = self.expand("key", self.algorithm.key_len());
            self.iv = self.expand("iv", 12);
            self.number = 0;
        }
    }

    fn update(&mut self) {
        self.secret = self.expand("traffic upd", self.secret.len());
        self.derive();
    }

    fn seal(&mut self, kind: u8, text: &[u8], zeros: usize) -> Vec<u8> {
        let key = LessSafeKey::new(UnboundKey::new(self.algorithm, &self.key).expect("a key"));
        let is_explicit = !self.is_tls13 && *self.algorithm != CHACHA20_POLY1305;
        let explicit = if is_explicit { self.number.wrapping_mul(3).to_be_bytes().to_vec() } else { vec![] };
        let mut nonce: [u8; 12] = self.iv[..].try_into().expect("a nonce");
        if is_explicit {
            nonce[4..].copy_from_slice(&explicit);
        } else {
            (0..8).for_each(|at| nonce[4 + at] ^= self.number.to_be_bytes()[at]);
        }
        let mut inner = text.to_vec();
        let mut outer = kind;
        if self.is_tls13 {
            inner.push(kind);
            inner.resize(inner.len() + zeros.min(MAX_PLAINTEXT + 200 - text.len()), 0);
            outer = 23;
        }
        let len = |len: usize| (len as u16).to_be_bytes();
        let head = [outer, 3, 3];
        let sealed = [&head[..], &len(explicit.len() + inner.len() + 16)].concat();
        let aad = match self.is_tls13 {
            true => sealed.clone(),
            false => [&self.number.to_be_bytes()[..], &head, &len(inner.len())].concat(),
        };
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut inner).expect("sealed");
        self.number += 1;
        [sealed, explicit, inner].concat()
    }
}
