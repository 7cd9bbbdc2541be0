//! Finds the end of a request head and reads from it how the body is delimited (RFC 9112, 6.3).

use std::mem::MaybeUninit;

use super::cause::cause;
use super::host;
use crate::http::RequestError;

/// What a head says about the bytes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Framing {
    pub(in crate::http) body: Body,
    /// The client waits for a 100 before it sends the body (RFC 9110, 10.1.1).
    pub(in crate::http) expects_continue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Body {
    /// This many bytes; none when the head gives no length.
    Length(u64),
    Chunked,
}

/// Browsers send 10 to 30 fields; more than this costs an allocation.
const USUAL_FIELDS: usize = 64;

/// Length of the head at the front of `buf` with its blank line, when that is there. The first `scanned`
/// bytes were looked at by an earlier call. A line ends with LF or CR LF.
pub(in crate::http) fn find_end(buf: &[u8], scanned: usize) -> Option<usize> {
    let fresh = buf.get(scanned..)?;
    memchr::memchr_iter(b'\n', fresh)
        .map(|at| scanned + at)
        .find(|&at| matches!(buf[..at], [.., b'\n'] | [.., b'\n', b'\r']))
        .map(|at| at + 1)
}

/// Reads a whole head, blank line included and without empty lines before it.
pub(in crate::http) fn parse(head: &[u8]) -> Result<Framing, RequestError> {
    let mut fields = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut fields) {
        Err(httparse::Error::TooManyHeaders) => parse_many(head),
        parsed => finish(head, parsed, &request),
    }
}

/// A head with many fields: there can't be more of them than lines.
fn parse_many(head: &[u8]) -> Result<Framing, RequestError> {
    let lines = memchr::memchr_iter(b'\n', head).count();
    let mut fields = vec![httparse::EMPTY_HEADER; lines];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(head);
    finish(head, parsed, &request)
}

fn finish(
    head: &[u8],
    parsed: httparse::Result<usize>,
    request: &httparse::Request<'_, '_>,
) -> Result<Framing, RequestError> {
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == head.len() => framing(request),
        // Two readings of where the head ends are what smuggling is made of.
        Ok(_) => Err(RequestError::RequestLine),
        Err(error) => Err(cause(head, error)),
    }
}

fn framing(request: &httparse::Request<'_, '_>) -> Result<Framing, RequestError> {
    let is_http_11 = request.version == Some(1);
    let delimiters = delimiters(request.headers)?;
    let body = match (delimiters.is_chunked, delimiters.length) {
        (None, length) => Body::Length(length.unwrap_or(0)),
        (Some(_), Some(_)) => return Err(RequestError::LengthAndEncoding),
        (Some(_), None) if !is_http_11 => return Err(RequestError::EncodingInHttp10),
        (Some(false), None) => return Err(RequestError::TransferEncoding),
        (Some(true), None) => Body::Chunked,
    };
    let hosts = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    let target = request.path.unwrap_or_default();
    host::check(hosts.map(|field| field.value), target.as_bytes(), is_http_11)?;
    Ok(Framing { body, expects_continue: delimiters.expects_continue && is_http_11 })
}

/// What the fields say about the body.
#[derive(Default)]
struct Delimiters {
    length: Option<u64>,
    /// False for a coding other than `chunked`.
    is_chunked: Option<bool>,
    expects_continue: bool,
}

fn delimiters(fields: &[httparse::Header<'_>]) -> Result<Delimiters, RequestError> {
    let mut found = Delimiters::default();
    for field in fields {
        if field.name.eq_ignore_ascii_case("content-length") {
            let value = content_length(field.value)?;
            if found.length.replace(value).is_some_and(|earlier| earlier != value) {
                return Err(RequestError::ContentLengthsDiffer);
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            // Two of them are a list of two codings.
            let chunked = found.is_chunked.is_none() && field.value.eq_ignore_ascii_case(b"chunked");
            found.is_chunked = Some(chunked);
        } else if field.name.eq_ignore_ascii_case("expect") {
            found.expects_continue |= field.value.eq_ignore_ascii_case(b"100-continue");
        }
    }
    Ok(found)
}

/// Reads a Content-Length. The parser has taken off the white space around it.
fn content_length(value: &[u8]) -> Result<u64, RequestError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(RequestError::ContentLength);
    }
    value
        .iter()
        .try_fold(0i64, |sum, digit| sum.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
        .map(i64::cast_unsigned)
        .ok_or(RequestError::ContentLengthOverflow)
}
