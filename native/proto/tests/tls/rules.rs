//! KeyUpdate, alerts, the end of a connection, and records that somebody on the way has touched.

use crate::ends::{Pair, SIDES, pair, read, receive, sealed, suites, tls12, tls13, transmitted, written};
use megaphone_proto::tls::{Records, SendError, Side, Truncated};
use std::io::Write;

/// A record of rustls' with this data.
fn theirs(pair: &mut Pair, data: &[u8]) -> Vec<u8> {
    pair.theirs.writer().write_all(data).unwrap();
    written(&mut pair.theirs)
}

fn failure(records: &mut Records, bytes: &[u8]) -> String {
    let (data, last) = receive(records, bytes, usize::MAX);
    assert_eq!(data, b"");
    last.expect("a failure")
}

/// The alert that rustls reads from our bytes.
fn alert(pair: &mut Pair) -> String {
    let bytes = transmitted(&mut pair.ours);
    format!("{:?}", read(&mut pair.theirs, &bytes).unwrap_err())
}

/// Data both ways still arrive.
fn talk(pair: &mut Pair) {
    let bytes = theirs(pair, b"ping");
    assert_eq!(receive(&mut pair.ours, &bytes, usize::MAX), (b"ping".to_vec(), None));
    let mut bytes = transmitted(&mut pair.ours);
    bytes.extend(sealed(&mut pair.ours, b"pong"));
    assert_eq!(read(&mut pair.theirs, &bytes).unwrap(), b"pong");
    // What rustls may have answered to a KeyUpdate.
    let bytes = written(&mut pair.theirs);
    assert_eq!(receive(&mut pair.ours, &bytes, usize::MAX), (vec![], None));
}

#[test]
fn keys_are_updated_on_either_ends_wish() {
    for suite in tls13() {
        for side in SIDES {
            let mut pair = pair(side, suite);
            for round in 0..20 {
                match round % 4 {
                    0 => assert!(pair.ours.update_keys(false)),
                    1 => assert!(pair.ours.update_keys(true)),
                    2 => pair.theirs.refresh_traffic_keys().unwrap(),
                    _ => pair.ours.rest(),
                }
                talk(&mut pair);
                talk(&mut pair);
            }
        }
    }
}

#[test]
fn updates_that_cross_are_both_done() {
    for suite in tls13() {
        let mut pair = pair(Side::Server, suite);
        for _ in 0..3 {
            pair.theirs.refresh_traffic_keys().unwrap();
            let from_theirs = theirs(&mut pair, b"a");
            pair.ours.update_keys(true);
            let from_ours = sealed(&mut pair.ours, b"b");
            assert_eq!(receive(&mut pair.ours, &from_theirs, 1), (b"a".to_vec(), None));
            assert_eq!(read(&mut pair.theirs, &from_ours).unwrap(), b"b");
            talk(&mut pair);
            talk(&mut pair);
        }
    }
}

#[test]
fn many_requests_get_one_answer_where_none_was_written() {
    let suite = tls13().next().unwrap();
    let mut pair = pair(Side::Server, suite);
    for _ in 0..10 {
        pair.theirs.refresh_traffic_keys().unwrap();
        let bytes = written(&mut pair.theirs);
        assert_eq!(receive(&mut pair.ours, &bytes, usize::MAX), (vec![], None));
    }
    assert!(pair.ours.wants_to_transmit());
    let answer = transmitted(&mut pair.ours);
    assert_eq!(answer.len(), 5 + 5 + 1 + 16);
    assert!(!pair.ours.wants_to_transmit());
    read(&mut pair.theirs, &answer).unwrap();
    talk(&mut pair);
}

#[test]
fn tls12_has_no_key_update() {
    for suite in tls12() {
        assert!(!pair(Side::Server, suite).ours.update_keys(true));
    }
}

#[test]
fn closing_is_told_both_ways_and_half_closed_connections_go_on() {
    for &suite in suites() {
        for side in SIDES {
            let mut pair = pair(side, suite);
            pair.theirs.send_close_notify();
            let mut bytes = written(&mut pair.theirs);
            bytes.extend_from_slice(b"whatever follows is ignored");
            assert_eq!(receive(&mut pair.ours, &bytes, 3), (vec![], Some("Closed".into())));
            assert_eq!(pair.ours.handle_eof(), Ok(()));
            let mut bytes = sealed(&mut pair.ours, b"farewell");
            pair.ours.close();
            assert!(!pair.ours.may_send());
            assert_eq!(pair.ours.send(b"more", &mut bytes), Err(SendError::Closed));
            bytes.extend(transmitted(&mut pair.ours));
            assert_eq!(read(&mut pair.theirs, &bytes).unwrap(), b"farewell");
            assert!(pair.theirs.process_new_packets().unwrap().peer_has_closed());
            assert_eq!(transmitted(&mut pair.ours), b"");
        }
    }
}

#[test]
fn truncation_is_not_a_close() {
    for &suite in suites() {
        let mut whole = pair(Side::Server, suite);
        talk(&mut whole);
        assert_eq!(whole.ours.handle_eof(), Err(Truncated));
        // Once is enough, and nothing that still comes is looked at.
        assert_eq!(whole.ours.handle_eof(), Ok(()));
        let bytes = theirs(&mut whole, b"late");
        assert_eq!(receive(&mut whole.ours, &bytes, usize::MAX), (vec![], None));
        let mut partial = pair(Side::Server, suite);
        let bytes = theirs(&mut partial, b"half");
        assert_eq!(receive(&mut partial.ours, &bytes[..bytes.len() - 1], usize::MAX), (vec![], None));
        assert_eq!(partial.ours.handle_eof(), Err(Truncated));
        assert!(partial.ours.heap_bytes() < 200);
    }
}

#[test]
fn a_changed_bit_anywhere_ends_the_connection() {
    for &suite in suites() {
        let mut sample = pair(Side::Server, suite);
        let len = theirs(&mut sample, b"hello").len();
        for at in 0..len {
            let mut pair = pair(Side::Server, suite);
            let mut bytes = theirs(&mut pair, b"hello");
            bytes[at] ^= 1 << (at % 8);
            bytes.resize(len + 3000, 0); // A length that has grown still gets its bytes.
            let failure = failure(&mut pair.ours, &bytes);
            let told = alert(&mut pair);
            let is_body = at >= 5 || at == 4;
            assert!(
                !is_body || failure.contains("BadRecordMac") && told.contains("BadRecordMac"),
                "{at} {told}"
            );
            let mut out = Vec::new();
            assert_eq!(pair.ours.send(b"more", &mut out), Err(SendError::Closed));
            assert_eq!((out.len(), pair.ours.heap_bytes() < 200), (0, true));
        }
    }
}

#[test]
fn a_record_again_or_out_of_order_ends_the_connection() {
    for &suite in suites() {
        for order in [&[0, 0][..], &[1, 0], &[0, 2], &[0, 1, 0]] {
            let mut pair = pair(Side::Server, suite);
            let records: Vec<_> = (0..3).map(|at| theirs(&mut pair, &[at])).collect();
            let (last, before) = order.split_last().unwrap();
            let mut failed = None;
            for at in before {
                failed = failed.or(receive(&mut pair.ours, &records[*at], usize::MAX).1);
            }
            let (data, last) = receive(&mut pair.ours, &records[*last], usize::MAX);
            assert_eq!(data, b"", "{suite:?} {order:?}");
            assert!(failed.or(last).unwrap().contains("BadRecordMac"));
            assert!(alert(&mut pair).contains("BadRecordMac"));
        }
    }
}

#[test]
fn records_do_not_cross_directions_or_connections() {
    for &suite in suites() {
        let mut first = pair(Side::Server, suite);
        let mut second = pair(Side::Server, suite);
        let reflected = sealed(&mut first.ours, b"hello");
        assert!(failure(&mut first.ours, &reflected).contains("BadRecordMac"));
        let bytes = theirs(&mut first, b"hello");
        assert!(failure(&mut second.ours, &bytes).contains("BadRecordMac"));
    }
}

#[test]
fn a_peers_alert_ends_the_connection_without_an_answer() {
    for &suite in suites() {
        let mut pair = pair(Side::Server, suite);
        let mut bytes = sealed(&mut pair.ours, b"hello");
        *bytes.last_mut().unwrap() ^= 1;
        read(&mut pair.theirs, &bytes).unwrap_err();
        let bytes = written(&mut pair.theirs);
        assert_eq!(failure(&mut pair.ours, &bytes), "Failed(Alert(Alert(20, bad_record_mac)))");
        assert!(!pair.ours.may_send() && !pair.ours.wants_to_transmit());
        assert_eq!(pair.ours.handle_eof(), Ok(()));
        assert!(pair.ours.heap_bytes() < 200);
    }
}
