//! The plain form of a head.

use bytes::{Buf, BytesMut};

use crate::http::target;

/// Fields that described the coding which is no longer there. An expectation has been met by now.
const REMOVED: [&str; 3] = ["transfer-encoding", "expect", "trailer"];

/// The largest decoded body, in bytes: with it, the line that is added is as long as the shortest
/// Transfer-Encoding line that is removed, so a head never grows.
pub(in crate::http) const MAX_BODY: usize = 99_999_999;

/// Makes a higher minor version of HTTP/1 in the first line of `head` 1.1, as which it is to be processed
/// (RFC 9110, 2.5). To be done before the head is parsed: the parser knows no other.
pub(in crate::http) fn plain_version(head: &mut [u8]) {
    let Some(lf) = memchr::memchr(b'\n', head) else { return };
    let end = lf - usize::from(lf > 0 && head[lf - 1] == b'\r');
    if let [.., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'2'..=b'9'] = &mut head[..end] {
        *minor = b'1';
    }
}

/// Rewrites the head in `buf[..head]`, which must have been parsed, taking bytes off the front of `buf`.
/// Returns its new length.
///
/// - White space at the end of a field value goes (RFC 9112, 5.1): `decode_packet` would keep it, and then
///   `binary_to_integer` fails for a Content-Length.
/// - An absolute `http` or `https` target becomes the path and query, and the Host field names the target's
///   host (RFC 9112, 3.2.2).
pub(in crate::http) fn plain_head(buf: &mut BytesMut, head: usize) -> usize {
    let bytes = &buf[..head];
    let authority = target::absolute(target::of(bytes)).map(|(authority, _)| authority);
    if authority.is_none() && !has_trailing_space(bytes) {
        return head;
    }
    let mut plain = Vec::with_capacity(head);
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    request_line(lines.next().unwrap_or_default(), &mut plain);
    let mut missing_host = authority;
    for line in lines {
        let end = line_end(line);
        let text = line[..line.len() - end.len()].trim_ascii_end();
        if let (true, Some(host)) = (text.is_empty(), missing_host) {
            // HTTP/1.0 needs no Host. What the target has lost has room for such a line.
            plain.extend([b"Host:", host, b"\n"].concat());
        }
        match authority {
            Some(host) if is_field(text, "host") => {
                missing_host = None;
                plain.extend([b"Host:", host].concat());
            }
            _ => plain.extend_from_slice(text),
        }
        plain.extend_from_slice(end);
    }
    replace(buf, head, &plain)
}

fn request_line(line: &[u8], plain: &mut Vec<u8>) {
    let Some((_, rest)) = target::absolute(target::of(line)) else { return plain.extend_from_slice(line) };
    let after_rest = rest.as_ptr() as usize + rest.len() - line.as_ptr() as usize;
    plain.extend(line.split_inclusive(|byte| *byte == b' ').next().unwrap_or_default());
    if !rest.starts_with(b"/") {
        plain.push(b'/');
    }
    plain.extend_from_slice(rest);
    plain.extend_from_slice(&line[after_rest..]);
}

fn has_trailing_space(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head)
        .any(|at| matches!(head[..at], [.., b' ' | b'\t'] | [.., b' ' | b'\t', b'\r']))
}

/// LF or CR LF.
fn line_end(line: &[u8]) -> &[u8] {
    &line[line.len() - if line.ends_with(b"\r\n") { 2 } else { 1 }..]
}

fn is_field(line: &[u8], name: &str) -> bool {
    let found = line.split(|byte| *byte == b':').next().unwrap_or_default();
    found.eq_ignore_ascii_case(name.as_bytes())
}

/// Rewrites the head in `buf[..head]` for a body of `body` bytes (at most [`MAX_BODY`]), taking bytes off
/// the front of `buf`. Returns the length of the new head.
///
/// The head must have been parsed and have a Transfer-Encoding field of `chunked`.
pub(in crate::http) fn chunked_to_length(buf: &mut BytesMut, head: usize, body: usize) -> usize {
    let mut rewritten = Vec::with_capacity(head);
    for line in buf[..head].split_inclusive(|byte| *byte == b'\n') {
        if matches!(line, b"\n" | b"\r\n") {
            rewritten.extend_from_slice(format!("Content-Length: {body}\r\n").as_bytes());
        }
        if !REMOVED.iter().any(|name| is_field(line, name)) {
            rewritten.extend_from_slice(line);
        }
    }
    replace(buf, head, &rewritten)
}

/// Puts a head that is no longer in the place of the one in `buf[..head]`. Returns its length.
fn replace(buf: &mut BytesMut, head: usize, rewritten: &[u8]) -> usize {
    buf.advance(head - rewritten.len());
    buf[..rewritten.len()].copy_from_slice(rewritten);
    rewritten.len()
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

    fn plain(head: &str) -> String {
        let mut buf = BytesMut::from(head);
        buf.extend_from_slice(b"rest");
        let length = plain_head(&mut buf, head.len());
        assert_eq!(&buf[length..], b"rest");
        String::from_utf8(buf[..length].to_vec()).unwrap()
    }

    #[test]
    fn values_lose_the_white_space_at_their_end() {
        assert_eq!(
            plain("GET / HTTP/1.1\r\nA: b c \t\r\nB:\t \nContent-Length: 3 \n\r\n"),
            "GET / HTTP/1.1\r\nA: b c\r\nB:\nContent-Length: 3\n\r\n"
        );
    }

    #[test]
    fn the_host_of_an_absolute_target_moves_to_the_host_field() {
        for (head, expected) in [
            (
                "GET HTTP://b:8/c?d HTTP/1.1\r\nhost: a\r\nE: f \r\n\r\n",
                "GET /c?d HTTP/1.1\r\nHost:b:8\r\nE: f\r\n\r\n",
            ),
            ("GET https://b HTTP/1.1\nHost:\n\n", "GET / HTTP/1.1\nHost:b\n\n"),
            ("GET http://b?c/d HTTP/1.1\r\nHost: b\r\n\r\n", "GET /?c/d HTTP/1.1\r\nHost:b\r\n\r\n"),
            ("GET http://b HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nHost:b\n\r\n"),
            ("GET http://b HTTP/1.0\n\n", "GET / HTTP/1.0\nHost:b\n\n"),
            ("GET ftp://b/c HTTP/1.1\r\nHost: a\r\n\r\n", "GET ftp://b/c HTTP/1.1\r\nHost: a\r\n\r\n"),
        ] {
            assert_eq!(plain(head), expected);
        }
    }

    #[test]
    fn higher_minor_versions_become_1_1() {
        for (line, expected) in [
            ("GET / HTTP/1.2\r\n", "GET / HTTP/1.1\r\n"),
            ("GET / HTTP/1.9\n", "GET / HTTP/1.1\n"),
            ("GET / HTTP/1.0\r\n", "GET / HTTP/1.0\r\n"),
            ("GET / HTTP/2.2\r\n", "GET / HTTP/2.2\r\n"),
            ("GET / HTTP/1.10\r\n", "GET / HTTP/1.10\r\n"),
            ("GET /HTTP/1.2\r\n", "GET /HTTP/1.2\r\n"),
            ("\n", "\n"),
        ] {
            let mut head = line.as_bytes().to_vec();
            plain_version(&mut head);
            assert_eq!(head, expected.as_bytes());
        }
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
