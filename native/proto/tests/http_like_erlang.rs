//! What `Requests` delivers, read again by Erlang: as many requests, the same fields, the same bodies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod driver;
mod oracle;

use std::cell::RefCell;

use driver::{Sent, Served, Server, sent};
use megaphone_proto::http::Limits;
use oracle::{Oracle, hex};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Sends a stream, and compares all requests that were served with what Erlang sees in their bytes.
/// Returns how many there were.
fn compare(erlang: &mut Oracle, stream: &[u8]) -> usize {
    let mut server = Server::greedy(Limits::default());
    server.receive(stream);
    let whole: Vec<u8> = server.served.iter().flat_map(|served| served.bytes.clone()).collect();
    let answer = erlang.requests(&whole);
    let expected: String = server.served.iter().map(in_words).collect();
    assert_eq!(without_shown_names(&answer), format!("{expected}end"), "\"{}\"", stream.escape_ascii());
    server.served.len()
}

/// A request in the oracle's words, without its start line and as `httparse` reads it.
fn in_words(served: &Served) -> String {
    let (head, body) = served.bytes.split_at(served.head);
    assert_eq!(served.total, served.bytes.len() as u64);
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(head).unwrap().unwrap(), head.len());
    let fields = request.headers.iter();
    let fields = fields.map(|field| format!("{} {} ", hex(field.name.as_bytes()), hex(field.value)));
    format!("request {}body {} ", fields.collect::<String>(), hex(body))
}

/// Leaves out of the oracle's answer what `httparse` doesn't tell: the start line, how Erlang shows a name,
/// and white space at the end of a value.
fn without_shown_names(answer: &str) -> String {
    let mut words = answer.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "header" => {
                let [_bit, _shown, raw_name, value] = [(); 4].map(|()| words.next().unwrap());
                kept.extend([raw_name.to_owned(), trim_end(value).to_owned()]);
            }
            "request" | "end" | "more" | "error" => kept.push(word.to_owned()),
            "body" => kept.extend([word.to_owned(), words.next().unwrap().to_owned()]),
            _ => {}
        }
    }
    kept.join(" ")
}

fn trim_end(mut hex: &str) -> &str {
    while let Some(shorter) = hex.strip_suffix("20").or(hex.strip_suffix("09")) {
        hex = shorter;
    }
    hex
}

#[test]
fn erlang_sees_the_requests_that_are_served() {
    let erlang = RefCell::new(Oracle::start());
    let streams = proptest::collection::vec(sent(), 1..5);
    let counts = RefCell::new((0, 0));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) };
    TestRunner::new(config)
        .run(&streams, |sent| {
            let stream: Vec<u8> = sent.iter().flat_map(Sent::on_the_wire).collect();
            let served = compare(&mut erlang.borrow_mut(), &stream);
            let mut counts = counts.borrow_mut();
            *counts = (counts.0 + sent.len(), counts.1 + served);
            Ok(())
        })
        .unwrap();
    let (sent, served) = counts.into_inner();
    assert_eq!(sent, served);
}

#[test]
fn erlang_sees_no_other_requests_when_bytes_are_damaged() {
    let erlang = RefCell::new(Oracle::start());
    let byte =
        prop_oneof![3 => proptest::sample::select(b"\r\n\t :;0aA,\0\xff\x7f".to_vec()), 1 => any::<u8>()];
    let piece = prop_oneof![
        3 => byte.prop_map(|byte| vec![byte]),
        1 => proptest::sample::select(vec![
            "\r\n", "\r\n\r\n", "\n\n", "\r\n ", "Content-Length: 5\r\n", "\r\nContent-Length: 1", " \r\n", "\r\r\n",
            "Transfer-Encoding: chunked\r\n", "GET / HTTP/1.1\r\n\r\n",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
    ];
    let damage = proptest::collection::vec((any::<u16>(), 0..3usize, piece), 1..4);
    let cases = (proptest::collection::vec(sent(), 1..4), damage);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) };
    TestRunner::new(config)
        .run(&cases, |(sent, damage)| {
            let mut stream: Vec<u8> = sent.iter().flat_map(Sent::on_the_wire).collect();
            for (place, removed, piece) in damage {
                let at = usize::from(place) * stream.len() / (1 << 16);
                let to = (at + removed).min(stream.len());
                stream.splice(at..to, piece);
            }
            compare(&mut erlang.borrow_mut(), &stream);
            Ok(())
        })
        .unwrap();
}

/// One byte anywhere in a head that decides a length: either refused, or read by Erlang as by us.
#[test]
fn erlang_agrees_on_every_byte_at_every_place() {
    let mut erlang = Oracle::start();
    let request = b"PUT /a HTTP/1.1\r\nHost: b\r\nContent-Length: 31\r\n\r\n";
    let body = b"GET / HTTP/1.1\r\nHost: c\r\nD: e\r\n\r\n";
    let mut served = 0;
    for at in 0..request.len() {
        for byte in 0..=255 {
            let mut replaced = request.to_vec();
            replaced[at] = byte;
            let mut inserted = request.to_vec();
            inserted.insert(at, byte);
            for head in [replaced, inserted] {
                served += compare(&mut erlang, &[&head[..], body].concat());
            }
        }
    }
    assert!(served > 1_000, "nearly all is refused: {served}");
}
