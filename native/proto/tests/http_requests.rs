//! Sequences of requests on one connection against a model of what a handler must get.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod driver;

use driver::{Sent, Server, cut, sent};
use megaphone_proto::http::{Limits, Progress, RequestError};
use proptest::prelude::*;

/// Small, so that generated bodies are on both sides of each.
const LIMITS: Limits =
    Limits { max_head: 400, max_buffered_body: 40, max_chunked_body: 60, max_skipped_body: 50 };

/// What each handler must have read, and how it ends.
fn model(sent: &[Sent], reads: &[u64]) -> (Vec<Vec<u8>>, Progress) {
    let mut served = Vec::new();
    for (request, read) in sent.iter().zip(reads.iter().cycle()) {
        if request.is_chunked() && request.body_len() > LIMITS.max_chunked_body {
            return (served, Progress::Refused(RequestError::BodyTooLarge));
        }
        let (head, body) = request.delivered();
        let whole = [head, body.clone()].concat();
        let read = usize::try_from(*read).unwrap_or(usize::MAX).min(whole.len());
        served.push(whole[..read].to_vec());
        if (whole.len() - read).min(body.len()) > LIMITS.max_skipped_body {
            return (served, Progress::Refused(RequestError::UnreadBody));
        }
    }
    (served, Progress::Idle)
}

fn reads() -> impl Strategy<Value = Vec<u64>> {
    let read = prop_oneof![2 => Just(u64::MAX), 1 => Just(0), 2 => 0..300u64];
    proptest::collection::vec(read, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn handlers_get_the_requests_that_were_sent(
        sent in proptest::collection::vec(sent(), 1..6),
        reads in reads(),
        cuts in proptest::collection::vec(any::<u16>(), 0..12),
        asks_too_early in any::<bool>(),
    ) {
        let wire: Vec<u8> = sent.iter().flat_map(Sent::on_the_wire).collect();
        let mut server = Server::new(LIMITS, reads.clone());
        for piece in cut(&wire, &cuts) {
            server.receive(piece);
            if asks_too_early {
                server.ask_too_early();
            }
        }
        let (served, progress) = model(&sent, &reads);
        let got: Vec<Vec<u8>> = server.all_served().into_iter().map(|served| served.bytes).collect();
        prop_assert_eq!(got, served);
        prop_assert_eq!(server.progress, progress);
    }

    #[test]
    fn the_split_of_the_input_changes_nothing(
        sent in proptest::collection::vec(sent(), 1..4),
        damage in damage(),
        reads in reads(),
        cuts in proptest::collection::vec(any::<u16>(), 1..12),
    ) {
        let wire = damage.apply(sent.iter().flat_map(Sent::on_the_wire).collect());
        let mut at_once = Server::new(LIMITS, reads.clone());
        at_once.receive(&wire);
        let pieces = cut(&wire, &cuts);
        let bytes: Vec<&[u8]> = wire.chunks(1).collect();
        for split in [pieces, bytes] {
            let mut server = Server::new(LIMITS, reads.clone());
            split.into_iter().for_each(|piece| server.receive(piece));
            prop_assert_eq!(server.all_served(), at_once.all_served());
            // Whether a 100 is still due depends on what came with the head; nothing else does.
            match (server.progress, at_once.progress) {
                (Progress::Body { .. }, Progress::Body { .. }) => {}
                (one, other) => prop_assert_eq!(one, other),
            }
        }
    }

    #[test]
    fn random_bytes_stay_within_the_limits(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 0..5),
        start in proptest::sample::select(vec![
            "", "\r\n", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nA:", "P / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "P / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "P / HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n",
        ]),
    ) {
        // The server checks after every step.
        let mut server = Server::greedy(LIMITS);
        server.receive(start.as_bytes());
        for piece in pieces {
            server.receive(&piece);
        }
    }
}

/// Bytes changed, put in or taken out at some places.
#[derive(Clone, Debug)]
struct Damage(Vec<(u16, Option<u8>, bool)>);

impl Damage {
    fn apply(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for (place, byte, replaces) in &self.0 {
            let at = usize::from(*place) * bytes.len() / (1 << 16);
            if at < bytes.len() {
                bytes.splice(at..at + usize::from(*replaces), byte.iter().copied());
            }
        }
        bytes
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte = proptest::option::of(proptest::sample::select(b"\r\n\t :;0aA,\0\xff".to_vec()));
    proptest::collection::vec((any::<u16>(), byte, any::<bool>()), 0..3).prop_map(Damage)
}

fn send(request: &[u8], limits: Limits) -> Server {
    let mut server = Server::greedy(limits);
    server.receive(request);
    server
}

#[test]
fn a_body_over_the_buffer_is_left_to_the_handler() {
    let mut server = Server::greedy(LIMITS);
    server.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\nabc");
    let running = server.all_served();
    assert_eq!(server.progress, Progress::Ready);
    assert_eq!(running[0].total, running[0].head as u64 + 10_000_000_000);
    assert!(running[0].bytes.ends_with(b"\r\n\r\nabc"));
}

#[test]
fn a_handler_answers_the_expectation_of_a_body_with_a_length() {
    let server =
        send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", LIMITS);
    assert_eq!(server.progress, Progress::Ready);
    assert_eq!(server.continues, 0);
}

#[test]
fn a_chunked_body_is_asked_for_once() {
    let mut server = Server::greedy(LIMITS);
    for byte in b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n5\r\nabcde\r\n0\r\n\r\n" {
        server.receive(&[*byte]);
    }
    assert_eq!(server.continues, 1);
    assert_eq!(server.served[0].bytes, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde");
}

#[test]
fn an_expectation_in_http_10_is_ignored() {
    let server = send(b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", LIMITS);
    assert_eq!(server.progress, Progress::Body { send_continue: false });
}

#[test]
fn a_head_may_be_as_long_as_its_limit_and_no_longer() {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(100));
    let limits = |max_head| Limits { max_head, ..LIMITS };
    assert_eq!(send(head.as_bytes(), limits(head.len())).served.len(), 1);
    assert_eq!(send(head.as_bytes(), limits(head.len() - 1)).refusal(), Some(RequestError::HeadTooLarge));
    let incomplete = &head.as_bytes()[..head.len() - 1];
    assert_eq!(send(incomplete, limits(head.len())).progress, Progress::Head);
    assert_eq!(send(incomplete, limits(head.len() - 1)).refusal(), Some(RequestError::HeadTooLarge));
}

#[test]
fn a_head_may_have_any_number_of_fields() {
    let head = format!("GET / HTTP/1.1\nHost: a\n{}Content-Length: 3\n\n", "a:\n".repeat(20_000));
    let server = send(format!("{head}abcGET").as_bytes(), Limits::default());
    assert_eq!(server.served[0].bytes, format!("{head}abc").as_bytes());
    assert_eq!(server.progress, Progress::Head);
}

#[test]
fn a_refusal_is_final() {
    let mut server = send(b"GET / HTTP/3.0\r\n\r\n", LIMITS);
    server.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(server.refusal(), Some(RequestError::Version));
    assert!(server.served.is_empty());
}
