//! Data both ways, whatever the suite, the side and the cut.

use crate::ends::{
    SIDES, client_config, connect, pair, read, receive, sealed, server_config, suites, transmitted, written,
};
use megaphone_proto::tls::{Side, Version};
use std::io::Write;

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Bytes that a rustls end writes for this data.
fn theirs(pair: &mut crate::ends::Pair, data: &[u8]) -> Vec<u8> {
    pair.theirs.writer().write_all(data).unwrap();
    written(&mut pair.theirs)
}

#[test]
fn data_of_any_length_arrive_both_ways() {
    for &suite in suites() {
        for side in SIDES {
            let mut pair = pair(side, suite);
            pair.theirs.set_buffer_limit(None);
            for len in [1, 15, 16, 17, 100, 1400, 16383, 16384, 16385, 32768, 100_000] {
                let data = text(len);
                let bytes = theirs(&mut pair, &data);
                assert_eq!(
                    receive(&mut pair.ours, &bytes, usize::MAX),
                    (data.clone(), None),
                    "{suite:?} {len}"
                );
                let bytes = sealed(&mut pair.ours, &data);
                assert_eq!(bytes.len(), pair.ours.sealed_len(len));
                assert_eq!(read(&mut pair.theirs, &bytes).unwrap(), data, "{suite:?} {len}");
                if len % 2 == 0 {
                    pair.ours.rest();
                    assert_eq!(pair.ours.heap_bytes(), 0);
                }
            }
        }
    }
}

#[test]
fn the_cut_of_the_input_makes_no_difference() {
    for &suite in suites() {
        let mut pair = pair(Side::Server, suite);
        for piece in (1..=150).chain([1000, 16_000]) {
            let data = text(if piece > 150 { 40_000 } else { 120 });
            let bytes = theirs(&mut pair, &data);
            assert_eq!(receive(&mut pair.ours, &bytes, piece), (data, None), "{suite:?} {piece}");
        }
        // Every place where one record can be cut in two, and the next follows at once.
        let data = text(120);
        for cut in 1..pair.ours.sealed_len(120) {
            let mut bytes = theirs(&mut pair, &data);
            bytes.extend(theirs(&mut pair, b"next"));
            let (first, second) = bytes.split_at(cut);
            assert_eq!(receive(&mut pair.ours, first, usize::MAX), (vec![], None));
            assert!(!pair.ours.is_between_records());
            let (got, last) = receive(&mut pair.ours, second, usize::MAX);
            assert_eq!((&got[..120], &got[120..], last), (&data[..], &b"next"[..], None));
            assert!(pair.ours.is_between_records());
        }
    }
}

#[test]
fn what_is_sent_behind_the_handshake_is_left_for_the_records() {
    for &suite in suites() {
        for side in SIDES {
            for piece in [1, 7, 600, usize::MAX] {
                let (mut pair, left) =
                    connect(side, server_config(suite), client_config(suite), b"<stream>", piece);
                assert_eq!(receive(&mut pair.ours, &left, piece), (b"<stream>".to_vec(), None), "{suite:?}");
                let bytes = sealed(&mut pair.ours, b"<features>");
                assert_eq!(read(&mut pair.theirs, &bytes).unwrap(), b"<features>");
            }
        }
    }
}

#[test]
fn memory_follows_what_arrives_and_is_given_back() {
    for &suite in suites() {
        let mut pair = pair(Side::Server, suite);
        assert_eq!(pair.ours.heap_bytes(), 0, "{suite:?}");
        let bytes = theirs(&mut pair, &text(16_384));
        receive(&mut pair.ours, &bytes[..6], usize::MAX);
        assert!(pair.ours.heap_bytes() < 200, "a header promises 16 KB");
        receive(&mut pair.ours, &bytes[6..16_000], 1400);
        assert!(pair.ours.heap_bytes() <= bytes.len() + 200);
        pair.ours.rest();
        let (data, last) = receive(&mut pair.ours, &bytes[16_000..], usize::MAX);
        assert_eq!((data, last), (text(16_384), None));
        assert!(pair.ours.heap_bytes() < 1000, "a cipher context");
        pair.ours.rest();
        assert_eq!(pair.ours.heap_bytes(), 0);
    }
}

#[test]
fn both_ends_agree_on_what_a_handshake_said() {
    for &suite in suites() {
        for side in SIDES {
            let pair = pair(side, suite);
            let facts = &pair.established;
            assert_eq!(facts.alpn.as_deref(), Some(&b"xmpp-client"[..]));
            assert!(!facts.is_resumed);
            assert_eq!(facts.server_name.as_deref(), (side == Side::Server).then_some("localhost"));
            let is_tls13 = pair.ours.suite().version == Version::Tls13;
            assert_eq!(is_tls13, suite.tls13().is_some());
        }
    }
}

#[test]
fn nothing_is_written_unasked() {
    for &suite in suites() {
        let mut pair = pair(Side::Server, suite);
        assert!(!pair.ours.wants_to_transmit());
        assert_eq!(transmitted(&mut pair.ours), b"");
        assert_eq!(sealed(&mut pair.ours, b""), b"");
    }
}
