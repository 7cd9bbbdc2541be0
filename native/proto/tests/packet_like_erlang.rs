//! `packet::decode` against `erlang:decode_packet/3` itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod oracle;

use std::cell::RefCell;

use megaphone_proto::packet::{Buffer, Decoded, Mode, Options, Packet, decode};
use oracle::{Oracle, in_words, packet_in_words};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const MODES: [(Mode, &str); 4] =
    [(Mode::Raw, "raw"), (Mode::Line, "line"), (Mode::Http, "http_bin"), (Mode::HttpHeader, "httph_bin")];

fn compare(
    erlang: &mut Oracle,
    (mode, name): (Mode, &str),
    options: Options,
    bytes: &[u8],
) -> Result<(), String> {
    let ours = in_words(&decode(mode, bytes, &options));
    let theirs = erlang.packet(name, options.packet_size, options.line_length, window(mode, options, bytes));
    if ours == theirs {
        return Ok(());
    }
    Err(format!("{name} {options:?} \"{}\"\n ours: {ours}\ntheirs: {theirs}", bytes.escape_ascii()))
}

/// What of `bytes` a socket's buffer would hold. In the HTTP modes a longer packet is an error anyway.
fn window(mode: Mode, options: Options, bytes: &[u8]) -> &[u8] {
    match mode {
        Mode::Line if options.line_length > 0 => &bytes[..bytes.len().min(options.line_length)],
        _ => bytes,
    }
}

#[test]
fn a_corpus_of_lines_is_decoded_as_erlang_does() {
    let mut erlang = Oracle::start();
    let corpus = include_str!("oracle/corpus.txt");
    let lines = corpus.lines().filter(|line| !line.is_empty() && !line.starts_with("# "));
    let mut compared = 0;
    for line in lines {
        let bytes = unescape(line);
        for mode in MODES {
            for limit in [0, 1, 2, bytes.len().saturating_sub(1), bytes.len(), bytes.len() + 1] {
                for options in [
                    Options { packet_size: limit, line_length: 0 },
                    Options { packet_size: 0, line_length: limit },
                    Options { packet_size: limit, line_length: 3 },
                    Options { packet_size: 3, line_length: limit },
                ] {
                    compare(&mut erlang, mode, options, &bytes).unwrap();
                    compared += 1;
                }
            }
            // What is there of a packet, and what begins after it, decide too.
            for cut in 0..=bytes.len() {
                compare(&mut erlang, mode, Options::default(), &bytes[..cut]).unwrap();
            }
            for next in [b'x', b' ', b'\t', b'\n', b'\r'] {
                let longer = [&bytes[..], &[next]].concat();
                compare(&mut erlang, mode, Options::default(), &longer).unwrap();
            }
        }
    }
    assert!(compared > 10_000, "the corpus is gone");
}

#[test]
fn every_byte_is_treated_as_erlang_does_wherever_it_stands() {
    let mut erlang = Oracle::start();
    for byte in 0..=255u8 {
        for (before, after) in [
            (&b"A"[..], &b"B / HTTP/1.1\r\nx"[..]),
            (b"", b"B / HTTP/1.1\r\nx"),
            (b"GET", b"/ HTTP/1.1\r\nx"),
            (b"GET ", b" HTTP/1.1\r\nx"),
            (b"GET /", b" HTTP/1.1\r\nx"),
            (b"GET a", b"b HTTP/1.1\r\nx"),
            (b"GET http://a", b"8/b HTTP/1.1\r\nx"),
            (b"GET http://a:8", b"/b HTTP/1.1\r\nx"),
            (b"GET http", b"//a/b HTTP/1.1\r\nx"),
            (b"GET /", b"HTTP/1.1\r\nx"),
            (b"GET / HTTP", b"1.1\r\nx"),
            (b"GET / HTTP/1", b"1\r\nx"),
            (b"GET / HTTP/1.1", b"\r\nx"),
            (b"HTTP/1.1", b"200 OK\r\nx"),
            (b"HTTP/1.1 200", b"OK\r\nx"),
            (b"HTTP/1.1 ", b"\r\nx"),
            (b"a-", b"c-D: x\r\nx"),
            (b"", b"A: x\r\nx"),
            (b"A", b" x\r\nx"),
            (b"A:", b"x\r\nx"),
            (b"A: x", b"\r\nx"),
            (b"A: x\r", b"x\nx"),
            (b"A: x\r\n", b"x\r\nx"),
        ] {
            let bytes = [before, &[byte], after].concat();
            for mode in MODES {
                compare(&mut erlang, mode, Options::default(), &bytes).unwrap();
            }
        }
    }
}

#[test]
fn generated_packets_are_decoded_as_erlang_does() {
    let erlang = RefCell::new(Oracle::start());
    let sizes = prop_oneof![3 => Just(0usize), 1 => 0usize..60];
    let cases = (0usize..MODES.len(), sizes.clone(), sizes, packet_like());
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6_000) })
        .run(&cases, |(mode, packet_size, line_length, bytes)| {
            let options = Options { packet_size, line_length };
            compare(&mut erlang.borrow_mut(), MODES[mode], options, &bytes).map_err(TestCaseError::fail)
        })
        .unwrap();
}

/// All packets in pieces that come one after the other, in the oracle's words.
fn packets(mode: Mode, options: Options, pieces: &[&[u8]]) -> String {
    let (mut buf, mut in_headers) = (Vec::new(), false);
    let mut words = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match decode(mode.of_next(in_headers), &buf, &options) {
                Decoded::Packet { packet, len } => {
                    words.push(packet_in_words(&packet));
                    in_headers = mode.in_headers_after(&packet, in_headers);
                    buf.drain(..len);
                }
                Decoded::Invalid => {
                    words.push("emsgsize".to_owned());
                    return words.join(" ");
                }
                Decoded::More(_) => break,
            }
        }
    }
    words.push("closed".to_owned());
    words.join(" ")
}

/// As a socket does, however the bytes are cut.
#[test]
fn sequences_of_packets_are_those_of_a_socket() {
    let mut erlang = Oracle::start();
    let line = |length: usize| format!("{}\n", "a".repeat(length - 1));
    let mut cases = Vec::new();
    for (packet_size, buffer) in [(0, 10), (10, 10), (15, 10), (5, 10), (0, 1460), (25, 1460)] {
        for lengths in [vec![10], vec![11, 9], vec![12], vec![3, 14, 2], vec![16], vec![30, 4], vec![5, 6]] {
            let lines: String = lengths.into_iter().map(line).collect();
            cases.push((MODES[1], packet_size, buffer, lines));
        }
    }
    for stream in [
        "GET / HTTP/1.1\r\nHost: a\r\nbad line\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n\r\nbad\r\n",
        "bad line\r\nGET / HTTP/1.1\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad\r\nbad\r\n\r\nHTTP/1.1 bad\r\nA: b\r\n",
        "A: b\r\nbad\r\nC: d\r\n\r\nE: f\r\n\r\n",
    ] {
        for (packet_size, buffer) in [(0, 1460), (20, 1460), (0, 20), (40, 20)] {
            cases.push((MODES[2], packet_size, buffer, stream.to_owned()));
            cases.push((MODES[3], packet_size, buffer, stream.to_owned()));
        }
    }
    for ((mode, name), packet_size, line_length, stream) in cases {
        let bytes = stream.as_bytes();
        let at_once = [bytes];
        let halves = [&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]];
        let by_seven: Vec<&[u8]> = bytes.chunks(7).collect();
        for pieces in [&at_once[..], &halves[..], &by_seven[..]] {
            let ours = packets(mode, Options { packet_size, line_length }, pieces);
            let theirs = erlang.socket(name, packet_size, line_length, pieces);
            assert_eq!(ours, theirs, "{name} {packet_size} {line_length} {stream:?} in {}", pieces.len());
        }
    }
}

#[test]
fn a_buffer_is_as_large_as_that_of_a_socket() {
    let mut erlang = Oracle::start();
    for settings in [
        &[][..],
        &[("recbuf", 20_000)],
        &[("recbuf", 500)],
        &[("recbuf", 20_000), ("recbuf", 3_000)],
        &[("recbuf", 3_000), ("recbuf", 20_000)],
        &[("recbuf", 20_000), ("buffer", 100)],
        &[("buffer", 100), ("recbuf", 20_000)],
        &[("buffer", 1_460), ("recbuf", 20_000)],
        &[("buffer", 0)],
        &[("sndbuf", 20_000)],
        &[("packet_size", 20_000)],
    ] {
        let mut buffer = Buffer::default();
        for (name, size) in settings {
            match *name {
                "buffer" => buffer.set(*size),
                "recbuf" => buffer.recbuf_is_set(*size),
                _ => {}
            }
        }
        assert_eq!(buffer.size().to_string(), erlang.buffer(settings), "{settings:?}");
    }
}

/// Where OTP lets a number wrap around, this refuses the line.
#[test]
fn numbers_that_do_not_fit_are_errors() {
    for line in [
        "GET / HTTP/2147483648.1\r\n",
        "GET / HTTP/1.99999999999\r\n",
        "HTTP/1.1 99999999999 OK\r\n",
        "GET http://a:65536/ HTTP/1.1\r\n",
        "GET http://a:99999999999999999999/ HTTP/1.1\r\n",
    ] {
        let expected = Decoded::Packet { packet: Packet::HttpError(line.as_bytes()), len: line.len() };
        assert_eq!(decode(Mode::Http, line.as_bytes(), &Options::default()), expected);
    }
}

/// Pieces that mean something, in any order, and any byte among them. No digits that could add up to a
/// number that OTP wraps around: those differ on purpose.
fn packet_like() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&str] = &[
        "GET",
        "OPTIONS",
        "get",
        "X",
        " ",
        "  ",
        "\t",
        "/",
        "/a?b=c",
        "*",
        "http://",
        "HTTPS://",
        "a.b",
        ":",
        ":80",
        ":0",
        "[::1]",
        "HTTP/",
        "HTTP/1.1",
        "HTTP/1.0",
        "1",
        ".",
        "200",
        "OK",
        "\r",
        "\n",
        "\r\n",
        "\r\n",
        "\r\n\r\n",
        "\r\n ",
        "\n\t",
        "Content-Length",
        "cOOKIE",
        "x-y--z",
        "-",
        "_",
        ": ",
        ": \t v ",
        "\0",
        "\u{7f}",
        "(",
        "abcdefghij-abcdefghij-abcdefghij-abcdefghij-",
        "GET / HTTP/1.1\r\n",
        "Host: a\r\n",
        "A: b\r\n c\r\n",
    ];
    let piece = prop_oneof![
        12 => proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => any::<u8>().prop_filter("digits could add up", |byte| !byte.is_ascii_digit()).prop_map(|byte| vec![byte]),
    ];
    proptest::collection::vec(piece, 0..12)
        .prop_map(|pieces| pieces.concat())
        .prop_filter("ports that do not fit", |bytes| {
            !bytes.windows(5).any(|run| run.iter().all(u8::is_ascii_digit))
        })
}

/// Reads `\r`, `\n`, `\t`, `\\` and `\xHH`.
fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, taken) = match (first, after) {
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'\\', ..]) => (b'\\', 2),
            (b'\\', [b'x', ..]) => {
                (u8::from_str_radix(&line[line.len() - rest.len() + 2..][..2], 16).unwrap(), 4)
            }
            (byte, _) => (*byte, 1),
        };
        bytes.push(byte);
        rest = &rest[taken..];
    }
    bytes
}
