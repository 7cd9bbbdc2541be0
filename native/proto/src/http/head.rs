//! Finds the end of a request head and reads from it how the body is delimited (RFC 9112, 6.3).

use std::mem::MaybeUninit;

use super::error::RequestError;
use crate::packet;

/// What a head says about the bytes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) body: Body,
    /// The client waits for a 100 before it sends the body (RFC 9110, 10.1.1).
    pub(super) expects_continue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// This many bytes; none when the head gives no length.
    Length(u64),
    Chunked,
}

/// Browsers send 10 to 30 fields; more than this costs an allocation.
const USUAL_FIELDS: usize = 64;

/// Length of the head at the front of `buf` with its blank line, when that is there. The first `scanned`
/// bytes were looked at by an earlier call. A line ends with LF or CR LF.
pub(super) fn find_end(buf: &[u8], scanned: usize) -> Option<usize> {
    let fresh = buf.get(scanned..)?;
    memchr::memchr_iter(b'\n', fresh)
        .map(|at| scanned + at)
        .find(|&at| matches!(buf[..at], [.., b'\n'] | [.., b'\n', b'\r']))
        .map(|at| at + 1)
}

/// Reads a whole head, blank line included and without empty lines before it.
pub(super) fn parse(head: &[u8]) -> Result<Framing, RequestError> {
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
        Ok(httparse::Status::Complete(length)) if length == head.len() => framing(head, request),
        // Two readings of where the head ends are what smuggling is made of.
        Ok(_) => Err(RequestError::RequestLine),
        Err(error) => Err(cause(head, error)),
    }
}

fn framing(head: &[u8], request: &httparse::Request<'_, '_>) -> Result<Framing, RequestError> {
    if !request.path.is_some_and(|target| target.starts_with('/')) && !is_request_line(head) {
        return Err(RequestError::RequestLine);
    }
    let is_http_11 = request.version == Some(1);
    let mut length = None;
    let mut encoding = None;
    let mut expects_continue = false;
    for field in request.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            let value = content_length(head, field.value)?;
            if length.replace(value).is_some_and(|earlier| earlier != value) {
                return Err(RequestError::ContentLengthsDiffer);
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            // Two of them are a list of two codings.
            let chunked = encoding.is_none() && field.value.eq_ignore_ascii_case(b"chunked");
            encoding = Some(chunked);
        } else if field.name.eq_ignore_ascii_case("expect") {
            expects_continue |= is_http_11 && field.value.eq_ignore_ascii_case(b"100-continue");
        }
    }
    let body = match (encoding, length) {
        (None, length) => Body::Length(length.unwrap_or(0)),
        (Some(_), Some(_)) => return Err(RequestError::LengthAndEncoding),
        (Some(_), None) if !is_http_11 => return Err(RequestError::EncodingInHttp10),
        (Some(false), None) => return Err(RequestError::TransferEncoding),
        (Some(true), None) => Body::Chunked,
    };
    Ok(Framing { body, expects_continue })
}

/// True when the packet mode that a handler may read with takes the first line for a request, too. Of what got
/// here, it doesn't when an absolute target has an impossible port.
fn is_request_line(head: &[u8]) -> bool {
    let decoded = packet::decode(packet::Mode::Http, head, &packet::Options::default());
    matches!(decoded, packet::Decoded::Packet { packet: packet::Packet::Request { .. }, .. })
}

/// Reads a Content-Length, a slice of `head`. `decode_packet` keeps white space after a value, and then
/// `binary_to_integer` fails where we would have read a number: such a value is refused.
fn content_length(head: &[u8], value: &[u8]) -> Result<u64, RequestError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(RequestError::ContentLength);
    }
    let end = value.as_ptr() as usize + value.len() - head.as_ptr() as usize;
    if !matches!(head.get(end), Some(b'\r' | b'\n')) {
        return Err(RequestError::ContentLength);
    }
    value
        .iter()
        .try_fold(0i64, |sum, digit| sum.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
        .map(i64::cast_unsigned)
        .ok_or(RequestError::ContentLengthOverflow)
}

/// Finds the words for what the parser refused.
fn cause(head: &[u8], error: httparse::Error) -> RequestError {
    if head.contains(&0) {
        return RequestError::Nul;
    }
    if memchr::memchr_iter(b'\r', head).any(|at| head.get(at + 1) != Some(&b'\n')) {
        return RequestError::BareCr;
    }
    let mut lines = head.split(|byte| *byte == b'\n');
    let request_line = lines.next().unwrap_or_default().trim_ascii_end();
    match error {
        httparse::Error::Version if has_other_version(request_line) => RequestError::Version,
        httparse::Error::HeaderName
            if lines.clone().any(|line| line.starts_with(b" ") || line.starts_with(b"\t")) =>
        {
            RequestError::FoldedField
        }
        httparse::Error::HeaderName if lines.any(has_space_before_colon) => RequestError::SpaceBeforeColon,
        httparse::Error::HeaderName => RequestError::FieldName,
        httparse::Error::HeaderValue => RequestError::FieldValue,
        _ => RequestError::RequestLine,
    }
}

/// True when the third word is a version by its form, `HTTP/` digit `.` digit.
fn has_other_version(request_line: &[u8]) -> bool {
    let mut words = request_line.split(|byte| *byte == b' ').skip(2);
    let version = words.next().and_then(|word| word.strip_prefix(b"HTTP/"));
    words.next().is_none() && matches!(version, Some([b'0'..=b'9', b'.', b'0'..=b'9']))
}

fn has_space_before_colon(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    name.len() < line.len() && name.trim_ascii_end().len() < name.len()
}

/// A byte of a token (RFC 9110, 5.6.2): of a method or a field name.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}
