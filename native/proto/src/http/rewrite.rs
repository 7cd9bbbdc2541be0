//! Turns the head of a chunked request into one with Content-Length, once the body is decoded.

use bytes::{Buf, BytesMut};

/// Fields that described the coding which is no longer there. An expectation has been met by now.
const REMOVED: [&str; 3] = ["transfer-encoding", "expect", "trailer"];

/// The largest decoded body, in bytes: with it, the line that is added is as long as the shortest
/// Transfer-Encoding line that is removed, so a head never grows.
pub(super) const MAX_BODY: usize = 99_999_999;

/// Rewrites the head in `buf[..head]` for a body of `body` bytes (at most [`MAX_BODY`]), taking bytes off
/// the front of `buf`. Returns the length of the new head.
///
/// The head must have been parsed and have a Transfer-Encoding field of `chunked`.
pub(super) fn chunked_to_length(buf: &mut BytesMut, head: usize, body: usize) -> usize {
    let mut rewritten = Vec::with_capacity(head);
    for line in buf[..head].split_inclusive(|byte| *byte == b'\n') {
        if matches!(line, b"\n" | b"\r\n") {
            rewritten.extend_from_slice(format!("Content-Length: {body}\r\n").as_bytes());
        }
        if !is_removed(line) {
            rewritten.extend_from_slice(line);
        }
    }
    buf.advance(head - rewritten.len());
    buf[..rewritten.len()].copy_from_slice(&rewritten);
    rewritten.len()
}

fn is_removed(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    REMOVED.iter().any(|removed| name.eq_ignore_ascii_case(removed.as_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn rewrite(head: &str, body: usize) -> String {
        let mut buf = BytesMut::from(head);
        buf.extend_from_slice(b"rest");
        let length = chunked_to_length(&mut buf, head.len(), body);
        assert_eq!(&buf[length..], b"rest");
        String::from_utf8(buf[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_coding_fields_give_way_to_a_length() {
        assert_eq!(
            rewrite(
                "POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-Encoding: chunked\r\nExpect: 100-continue\r\nTrailer: X\r\n\
                 Trailers: no\r\n\r\n",
                7
            ),
            "POST / HTTP/1.1\r\nHost: a\r\nTrailers: no\r\nContent-Length: 7\r\n\r\n"
        );
    }

    #[test]
    fn the_shortest_head_still_has_room_for_the_largest_body() {
        assert_eq!(
            rewrite("P / HTTP/1.1\nTransfer-Encoding:chunked\n\n", MAX_BODY),
            "P / HTTP/1.1\nContent-Length: 99999999\r\n\n"
        );
    }
}
