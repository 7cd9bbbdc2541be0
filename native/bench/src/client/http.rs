//! The client's side of HTTP/1.1 keep-alive, as far as a load generator needs it: response heads with a
//! Content-Length (RFC 9112). No chunked coding: ejabberd's handlers that are measured do not use it.

use crate::client::Failure;

/// Where the parts of a response are in the bytes given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// Length of the head, its empty line included.
    pub(crate) head: usize,
    /// Length of the body that follows the head.
    pub(crate) body: usize,
}

impl Response {
    /// Length of the whole response.
    pub(crate) fn length(&self) -> usize {
        self.head + self.body
    }
}

/// A body longer than this is an error rather than an allocation.
const LONGEST_BODY: usize = 16 * 1024 * 1024;
const MOST_HEADERS: usize = 32;

/// Reads one response from the start of `bytes`; `None` until all of it, its body included, is there.
///
/// # Errors
/// [`Failure::Malformed`] for what is no response or has no usable length.
pub(crate) fn response(bytes: &[u8]) -> Result<Option<Response>, Failure> {
    let found = head(bytes)?;
    Ok(found.filter(|response| response.length() <= bytes.len()))
}

/// Reads one response head from the start of `bytes`; `None` until it is complete. A 101 has no body.
///
/// # Errors
/// As [`response`].
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Response>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let status = parsed.parse(bytes).map_err(|_| Failure::Malformed("HTTP head"))?;
    let httparse::Status::Complete(head) = status else { return Ok(None) };
    let status = parsed.code.ok_or(Failure::Malformed("HTTP status"))?;
    let body = match status {
        100..200 | 204 | 304 => 0,
        _ => content_length(parsed.headers)?,
    };
    Ok(Some(Response { status, head, body }))
}

/// The value of the header `name` in a complete head.
pub(crate) fn header<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    parsed.parse(bytes).ok()?;
    parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

fn content_length(headers: &[httparse::Header<'_>]) -> Result<usize, Failure> {
    headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok())
        .filter(|length| *length <= LONGEST_BODY)
        .ok_or(Failure::Malformed("HTTP length"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

    #[test]
    fn a_response_is_complete_with_its_last_byte_of_body() {
        for end in 0..OK.len() {
            assert_eq!(response(&OK[..end]).unwrap(), None, "at {end}");
        }
        let whole = Response { status: 200, head: 38, body: 5 };
        assert_eq!(response(OK).unwrap(), Some(whole));
    }

    #[test]
    fn a_response_of_unknown_length_is_refused() {
        assert_eq!(response(b"HTTP/1.1 200 OK\r\n\r\n"), Err(Failure::Malformed("HTTP length")));
        assert_eq!(
            response(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
            Err(Failure::Malformed("HTTP length"))
        );
    }

    #[test]
    fn an_upgrade_has_a_head_only() {
        let bytes = b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: abc\r\n\r\nrest";
        assert_eq!(response(bytes).unwrap().unwrap().body, 0);
        assert_eq!(header(bytes, "sec-websocket-accept"), Some(&b"abc"[..]));
    }

    #[test]
    fn what_is_no_http_is_refused() {
        assert_eq!(response(b"SSH-2.0\r\n\r\n"), Err(Failure::Malformed("HTTP head")));
    }
}
