//! Requests that two parsers could read in two ways, and what becomes of each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod driver;

use driver::Server;
use megaphone_proto::http::RequestError::*;
use megaphone_proto::http::{Limits, Progress, RequestError};

/// What a stream of bytes comes to.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// So many requests are served, and then the connection is refused.
    Refused(usize, RequestError),
    /// So many requests are served, and there is no more.
    Served(usize),
    /// So many requests are served, and the next lacks something.
    Waits(usize),
}
use Outcome::*;

/// After each, this request is sent; it must be served only where a body says so.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

const LENGTHS: &[(&str, Outcome)] = &[
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", Served(2)),
    ("POST / HTTP/1.1\r\nHost: a\r\nCONTENT-length:3\r\n\r\nabc", Served(2)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \t 003\r\n\r\nabc", Served(2)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", Served(2)),
    ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", Served(2)),
    ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", Served(2)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 3\r\n\r\n", Served(2)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 33\r\n\r\nabc", Waits(0)),
    (
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        Refused(0, ContentLengthsDiffer),
    ),
    (
        "POST / HTTP/1.1\r\ncontent-length: 0\r\nContent-Length: 3\r\n\r\nabc",
        Refused(0, ContentLengthsDiffer),
    ),
    ("POST / HTTP/1.1\r\nContent-Length: 3, 4\r\n\r\nabc", Refused(0, ContentLength)),
    ("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc", Refused(0, ContentLength)),
    ("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc", Refused(0, ContentLength)),
    ("POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\nabc", Refused(0, ContentLength)),
    ("POST / HTTP/1.1\r\nContent-Length: 0x3\r\n\r\nabc", Refused(0, ContentLength)),
    ("POST / HTTP/1.1\r\nContent-Length: 3.0\r\n\r\nabc", Refused(0, ContentLength)),
    ("POST / HTTP/1.1\r\nContent-Length: 1 1\r\n\r\nabc", Refused(0, ContentLength)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 \r\n\r\nabc", Served(2)),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\t \n\r\nabc", Served(2)),
    ("POST / HTTP/1.1\r\nContent-Length: 3\u{b}\r\n\r\nabc", Refused(0, FieldValue)),
    ("POST / HTTP/1.1\r\nContent-Length: \t \r\n\r\nabc", Refused(0, ContentLength)),
    ("POST / HTTP/1.1\r\nContent-Length: \u{663}\r\n\r\nabc", Refused(0, ContentLength)),
    ("POST / HTTP/1.1\r\nContent-Length:\r\n\r\nabc", Refused(0, ContentLength)),
    ("POST / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n\r\nabc", Refused(0, ContentLengthOverflow)),
    ("POST / HTTP/1.1\r\nContent-Length: 18446744073709551619\r\n\r\nabc", Refused(0, ContentLengthOverflow)),
    ("POST / HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc", Refused(0, SpaceBeforeColon)),
    ("POST / HTTP/1.1\r\nContent-Length\t: 3\r\n\r\nabc", Refused(0, SpaceBeforeColon)),
    ("POST / HTTP/1.1\r\n Content-Length: 3\r\n\r\nabc", Refused(0, FoldedField)),
    ("POST / HTTP/1.1\r\nContent-Length:\r\n 3\r\n\r\nabc", Refused(0, FoldedField)),
    ("POST / HTTP/1.1\r\nContent-Length\0: 3\r\n\r\nabc", Refused(0, Nul)),
    ("POST / HTTP/1.1\r\n\u{b}Content-Length: 3\r\n\r\nabc", Refused(0, FieldName)),
];

const ENCODINGS: &[(&str, Outcome)] = &[
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Served(2)),
    ("POST / HTTP/1.1\nHost: a\ntransfer-ENCODING:Chunked \n\n3\r\nabc\r\n0\r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Served(2)),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n",
        Served(2),
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n", Served(2)),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        Refused(0, LengthAndEncoding),
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(0, LengthAndEncoding),
    ),
    (
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: x\r\n\r\nabc",
        Refused(0, LengthAndEncoding),
    ),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused(0, EncodingInHttp10)),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Refused(0, TransferEncoding)),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        Refused(0, TransferEncoding),
    ),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", Refused(0, TransferEncoding)),
    (
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(0, TransferEncoding),
    ),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", Refused(0, TransferEncoding)),
    ("POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n", Refused(0, TransferEncoding)),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Refused(0, TransferEncoding)),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Refused(0, TransferEncoding)),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", Refused(0, TransferEncoding)),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n", Refused(0, FieldValue)),
    ("POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", Refused(0, SpaceBeforeColon)),
    ("POST / HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Refused(0, FoldedField)),
    ("POST / HTTP/1.1\r\nA: b\rTransfer-Encoding: chunked\r\n\r\n", Refused(0, BareCr)),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        Refused(0, ChunkSize),
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 3 \t\r\nabc\r\n0 \r\n\r\n", Served(2)),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 ; a = b \r\nabc\r\n0\r\n\r\n",
        Served(2),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 3\r\nabc\r\n0\r\n\r\n",
        Refused(0, ChunkSize),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3 \nabc\r\n0\r\n\r\n",
        Refused(0, ChunkSize),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n \r\n3\r\nabc\r\n0\r\n\r\n",
        Refused(0, ChunkSize),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        Refused(0, ChunkSize),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
        Refused(0, ChunkSize),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
        Refused(0, ChunkSize),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n",
        Refused(0, BodyTooLarge),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;\nx\r\nabc\r\n0\r\n\r\n",
        Refused(0, ChunkExtension),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        Refused(0, ChunkEnd),
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n",
        Refused(0, ChunkEnd),
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", Refused(0, Trailer)),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\n", Refused(0, Trailer)),
];

const HEADS: &[(&str, Outcome)] = &[
    ("", Served(1)),
    ("\r\n\n\r\n\n", Served(1)),
    ("\r\n\r\n\r\n\r\n\r\n", Refused(0, EmptyLines)),
    ("GET / HTTP/1.1\nHost: a\n\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", Served(2)),
    ("GET / HTTP/1.1\nHost: a\nA: b\n\r\n", Served(2)),
    ("GET / HTTP/1.0\r\n\r\n", Served(2)),
    ("get / HTTP/1.1\r\nHost: a\r\n\r\n", Served(2)),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Served(2)),
    ("GET http://a:8/c HTTP/1.1\r\nHost: a\r\n\r\n", Served(2)),
    ("GET /\u{e9}\" HTTP/1.1\r\nHost: a\r\nA: \u{e9}\r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: a\r\nA:\r\nB: \t \r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n", Waits(0)),
    ("GET / HTTP/1.1\r\r\n\r\n", Refused(0, BareCr)),
    ("GET / HTTP/1.1\r\n\r\r\n\r\n", Refused(0, BareCr)),
    ("GET / HTTP/1.1\r\nA: b\r\r\n\r\n", Refused(0, BareCr)),
    ("\rGET / HTTP/1.1\r\n\r\n", Refused(0, BareCr)),
    ("GET /\0 HTTP/1.1\r\n\r\n", Refused(0, Nul)),
    ("GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", Refused(0, Nul)),
    ("GET / HTTP/1.1\r\nA: b\u{7f}c\r\n\r\n", Refused(0, FieldValue)),
    ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Refused(0, FoldedField)),
    ("GET / HTTP/1.1\r\n A: b\r\n\r\n", Refused(0, FoldedField)),
    ("GET / HTTP/1.1\r\nA: b\r\n \r\n\r\n", Refused(0, FoldedField)),
    ("GET / HTTP/1.1\r\nA\r\n\r\n", Refused(0, FieldName)),
    ("GET / HTTP/1.1\r\n: b\r\n\r\n", Refused(0, FieldName)),
    ("GET / HTTP/1.1\r\nA(: b\r\n\r\n", Refused(0, FieldName)),
    ("GET / HTTP/1.1\r\n\u{e9}: b\r\n\r\n", Refused(0, FieldName)),
    ("GET / HTTP/1.1\r\nA\u{7f}: b\r\n\r\n", Refused(0, FieldName)),
    ("GET /a b HTTP/1.1\r\n\r\n", Refused(0, RequestLine)),
    ("GET  / HTTP/1.1\r\n\r\n", Refused(0, RequestLine)),
    ("GET http://a?b:65536/ HTTP/1.1\r\nHost: a\r\n\r\n", Served(2)),
    ("GET /http://a:65536/ HTTP/1.1\r\nHost: a\r\n\r\n", Served(2)),
    ("GET /  HTTP/1.1\r\n\r\n", Refused(0, RequestLine)),
    ("GET / HTTP/1.1 \r\n\r\n", Refused(0, RequestLine)),
    ("GET\t/ HTTP/1.1\r\n\r\n", Refused(0, RequestLine)),
    ("G\u{7f}T / HTTP/1.1\r\n\r\n", Refused(0, RequestLine)),
    ("GET /\r\n\r\n", Refused(0, RequestLine)),
    ("GET\r\n\r\n", Refused(0, RequestLine)),
    ("GET / http/1.1\r\n\r\n", Refused(0, RequestLine)),
    ("GET / HTTP/1.10\r\n\r\n", Refused(0, RequestLine)),
    ("GET / HTTP/1\r\n\r\n", Refused(0, RequestLine)),
    ("HTTP/1.1 200 OK\r\n\r\n", Refused(0, RequestLine)),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Served(2)),
    ("GET / HTTP/1.9\nHost: a\n\n", Served(2)),
    ("GET / HTTP/1.2\r\n\r\n", Refused(0, HostMissing)),
    ("GET / HTTP/1.2 \r\n\r\n", Refused(0, RequestLine)),
    ("GET / HTTP/3.0\r\n\r\n", Refused(0, Version)),
    ("GET / HTTP/0.9\r\n\r\n", Refused(0, Version)),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused(0, Version)),
    (" GET / HTTP/1.1\r\n\r\n", Refused(0, NotHttp)),
    ("\u{16}\u{3}\u{1}", Refused(0, NotHttp)),
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\n(", Refused(1, NotHttp)),
];

/// Which host a request is for must be as plain as where it ends.
const HOSTS: &[(&str, Outcome)] = &[
    ("GET / HTTP/1.0\r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\n\r\n", Refused(0, HostMissing)),
    ("GET http://a/ HTTP/1.1\r\n\r\n", Refused(0, HostMissing)),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Refused(0, HostRepeated)),
    ("GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n", Refused(0, HostRepeated)),
    ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Refused(0, HostRepeated)),
    ("GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Refused(0, HostRepeated)),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: a.b:80 \r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: a_b-c~,(x)%20\r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: 127.0.0.1:5280\r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: [::1]:5280\r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: a?b\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: a#b\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: a:+8\r\n\r\n", Refused(0, Host)),
    ("GET http://a:65536/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(0, Host)),
    ("GET http://a:00080/ HTTP/1.1\r\nHost: a\r\n\r\n", Served(2)),
    ("GET / HTTP/1.1\r\nHost: a:8:9\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: a:8, b\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: a%2\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: []\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.1\r\nHost: [::1]8\r\n\r\n", Refused(0, Host)),
    ("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", Refused(0, Host)),
    ("GET http://b:80/c HTTP/1.1\r\nHost: a\r\n\r\n", Served(2)),
    ("GET http://b:80/c HTTP/1.1\r\nHost: a b\r\n\r\n", Refused(0, Host)),
    ("GET http://b c/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(0, RequestLine)),
    ("GET http://b:c/ HTTP/1.1\r\nHost: a\r\n\r\n", Refused(0, Host)),
    ("GET http://b@c/ HTTP/1.1\r\nHost: c\r\n\r\n", Refused(0, Host)),
    ("GET http:///c HTTP/1.1\r\nHost: a\r\n\r\n", Refused(0, Host)),
    ("GET http://:80/c HTTP/1.1\r\nHost: a\r\n\r\n", Refused(0, Host)),
    ("GET HTTPS://b#c HTTP/1.1\r\nHost: a\r\n\r\n", Refused(0, Host)),
];

#[test]
fn nothing_is_read_in_two_ways() {
    for (bytes, expected) in [LENGTHS, ENCODINGS, HEADS, HOSTS].concat() {
        let stream = [bytes, NEXT].concat();
        // A trailer takes the next request line for a malformed field; an incomplete head takes it in.
        let stream = if matches!(expected, Waits(_)) { bytes } else { &stream };
        let mut server = Server::greedy(Limits::default());
        server.receive(stream.as_bytes());
        let served = server.served.len();
        match expected {
            Refused(count, error) => {
                assert_eq!((server.refusal(), served), (Some(error), count), "{bytes:?}");
            }
            Served(count) => assert_eq!((server.progress, served), (Progress::Idle, count), "{bytes:?}"),
            Waits(count) => {
                let waits = matches!(server.progress, Progress::Head | Progress::Body { .. });
                assert!(waits && served == count, "{bytes:?}: {:?} after {served}", server.progress);
            }
        }
    }
}

/// What a handler is shown where its own parser would read something else, or nothing.
#[test]
fn a_handler_is_shown_a_plain_form() {
    for (sent, shown) in [
        (
            "POST / HTTP/1.1\r\nHost: a \r\nContent-Length: 3 \t\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        ),
        ("GET / HTTP/1.7\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("GET http://b:8?c/d HTTP/1.2\r\nHost: a\r\n\r\n", "GET /?c/d HTTP/1.1\r\nHost:b:8\r\n\r\n"),
        ("GET http://b/c HTTP/1.0\r\n\r\n", "GET /c HTTP/1.0\r\nHost:b\n\r\n"),
        (
            "POST http://b HTTP/1.1\nHost:\nTransfer-Encoding:chunked \n\n 3 ;x\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\nHost:b\nContent-Length: 3\r\n\nabc",
        ),
        ("GET ftp://b/c HTTP/1.1\r\nHost: a\r\n\r\n", "GET ftp://b/c HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        let mut server = Server::greedy(Limits::default());
        server.receive([sent, NEXT].concat().as_bytes());
        let served: Vec<&[u8]> = server.served.iter().map(|served| &served.bytes[..]).collect();
        assert_eq!(served, [shown.as_bytes(), NEXT.as_bytes()], "{sent:?}");
    }
}

#[test]
fn an_expectation_in_a_higher_minor_version_counts() {
    let mut server = Server::greedy(Limits::default());
    server
        .receive(b"POST / HTTP/1.2\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(server.continues, 1);
}

#[test]
fn each_refusal_has_the_status_that_the_field_expects() {
    for (status, errors) in [
        (
            400,
            &[LengthAndEncoding, ContentLengthsDiffer, ContentLength, ContentLengthOverflow, BareCr, Nul][..],
        ),
        (400, &[SpaceBeforeColon, FoldedField, FieldName, FieldValue, RequestLine, NotHttp, EmptyLines]),
        (400, &[HostMissing, HostRepeated, Host]),
        (400, &[EncodingInHttp10, ChunkSize, ChunkExtension, ChunkEnd, Trailer]),
        (408, &[HeadTimeout, BodyTimeout]),
        (413, &[BodyTooLarge, ChunkExtensionsTooLarge]),
        (431, &[HeadTooLarge, TrailersTooLarge]),
        (501, &[TransferEncoding]),
        (505, &[Version]),
    ] {
        for error in errors {
            assert_eq!(error.status(), Some(status), "{error:?}");
        }
    }
    assert_eq!(UnreadBody.status(), None);
}
