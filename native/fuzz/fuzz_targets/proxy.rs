//! The first bytes behind a proxy, and how they arrive.
//!
//! Held to be true: a verdict on a part is the verdict on the whole; a header lies within the input and within its bound,
//! beyond which nothing is waited for; bytes behind it change nothing; no more heap memory is used than two paths take.
#![no_main]

use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::{pieces, within_heap};
use megaphone_proto::proxy::{Error, Header, MAX_V1, MAX_V2, parse};

/// Fields of a line, and two paths.
const MOST_HEAP: usize = 1024;

fuzz_target!(|input: ([u8; 4], &[u8])| {
    let (sizes, bytes) = input;
    let whole = within_heap(MOST_HEAP, || parse(bytes));
    check(bytes, &whole);
    let mut come = 0;
    for piece in pieces(bytes, sizes) {
        come += piece.len();
        match parse(&bytes[..come]) {
            Ok(None) => {}
            verdict => return assert_eq!(verdict, whole),
        }
    }
    assert_eq!(whole, Ok(None));
});

fn check(bytes: &[u8], whole: &Result<Option<Header>, Error>) {
    let bound = if bytes.first() == Some(&b'P') { MAX_V1 } else { MAX_V2 };
    match whole {
        Ok(None) => assert!(bytes.len() < bound),
        Ok(Some(header)) => {
            assert!((1..=bytes.len().min(bound)).contains(&header.len));
            assert_eq!(parse(&bytes[..header.len]), *whole);
            assert_eq!(parse(&[&bytes[..header.len], b"\r\nPROXY "].concat()), *whole);
        }
        Err(_) => {}
    }
}
