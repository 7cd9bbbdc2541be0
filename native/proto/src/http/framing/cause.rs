//! Words for what the parser of heads refused.

use crate::http::RequestError;

/// Why `head`, which was refused with `error`, was.
pub(super) fn cause(head: &[u8], error: httparse::Error) -> RequestError {
    if head.contains(&0) {
        return RequestError::Nul;
    }
    if memchr::memchr_iter(b'\r', head).any(|at| head.get(at + 1) != Some(&b'\n')) {
        return RequestError::BareCr;
    }
    let mut lines = head.split(|byte| *byte == b'\n');
    let request_line = lines.next().unwrap_or_default();
    let request_line = request_line.strip_suffix(b"\r").unwrap_or(request_line);
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
