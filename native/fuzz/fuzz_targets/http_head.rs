//! Any bytes on a connection whose handlers read all they get.
//!
//! Held to be true: whole or byte by byte, the same requests are served and the same error ends them; and
//! what a handler gets reads in Erlang's packet modes as one request of version 1.0 or 1.1, with no absolute
//! `http` target, at most one Host, no value with white space at its end, and a last Content-Length that is
//! the length of the body.
#![no_main]

use bytes::{Buf, BytesMut};
use libfuzzer_sys::fuzz_target;
use megaphone_proto::http::{Limits, Progress, RequestError, Requests};
use megaphone_proto::packet::{Decoded, Mode, Options, Packet, Target, decode};

const LIMITS: Limits =
    Limits { max_head: 300, max_buffered_body: 100, max_chunked_body: 100, max_skipped_body: 0 };

#[derive(Default, PartialEq, Eq, Debug)]
struct Events {
    served: Vec<Vec<u8>>,
    refused: Option<RequestError>,
}

fuzz_target!(|bytes: &[u8]| {
    let at_once = serve([bytes].into_iter());
    let split = serve(bytes.chunks(1));
    assert_eq!(at_once, split);
    for request in &at_once.served {
        check(request);
    }
});

fn serve<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Events {
    let mut requests = Requests::new();
    let mut buf = BytesMut::new();
    let mut events = Events::default();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match requests.advance(&mut buf, &LIMITS) {
                Progress::Ready if requests.remaining() <= buf.len() as u64 => {
                    let n = requests.available(buf.len());
                    events.served.push(buf[..n].to_vec());
                    buf.advance(n);
                    requests.consumed(n);
                    requests.next_request();
                }
                Progress::Refused(error) => {
                    events.refused = Some(error);
                    return events;
                }
                _ => break,
            }
        }
    }
    events
}

fn check(request: &[u8]) {
    let mut mode = Mode::Http;
    let mut rest = request;
    let mut body = 0;
    let mut hosts = 0;
    let mut needs_host = true;
    loop {
        let Decoded::Packet { packet, len } = decode(mode, rest, &Options::default()) else {
            panic!("no packet in \"{}\"", rest.escape_ascii());
        };
        rest = &rest[len..];
        match packet {
            Packet::Request { target, version: (1, minor), .. } if mode == Mode::Http => {
                assert!(minor <= 1 && !matches!(target, Target::AbsoluteUri { .. }));
                needs_host = minor == 1;
                mode = Mode::HttpHeader;
            }
            Packet::Header { known, value, .. } => {
                assert!(!value.ends_with(b" ") && !value.ends_with(b"\t"));
                match known {
                    Some("Content-Length") => body = std::str::from_utf8(value).unwrap().parse().unwrap(),
                    Some("Host") => hosts += 1,
                    _ => {}
                }
            }
            Packet::EndOfHeader => break,
            other => panic!("{other:?} in \"{}\"", request.escape_ascii()),
        }
    }
    assert_eq!(rest.len(), body);
    assert!(hosts == 1 || !needs_host && hosts == 0);
}
