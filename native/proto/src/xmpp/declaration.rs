//! The XML declaration (XML section 2.8).

use super::error::{Condition, StreamError};

/// Checks an XML declaration from the `?` at its start to the `>` at its end.
///
/// Any encoding may be declared where something outside of the document says that it is UTF-8 (`is_utf8_anyway`),
/// as for a WebSocket message; a stream's has to be that (RFC 6120 section 11.6).
pub(super) fn check(bytes: &[u8], is_utf8_anyway: bool) -> Result<(), StreamError> {
    let rest = match bytes.strip_prefix(b"xml") {
        Some(rest @ [b' ' | b'\t' | b'\r' | b'\n' | b'?', ..]) => rest,
        _ => return Err(StreamError::restricted("processing instruction")),
    };
    let Some(mut rest) = rest.strip_suffix(b"?>") else { return Err(MALFORMED) };
    let version = take(&mut rest, b"version")?.ok_or(MALFORMED)?;
    let encoding = take(&mut rest, b"encoding")?;
    let standalone = take(&mut rest, b"standalone")?;
    let is_named = encoding.is_none_or(|name| name.first().is_some_and(u8::is_ascii_alphabetic));
    if !super::trim_space_start(rest).is_empty() || !is_named {
        return Err(MALFORMED);
    }
    if !matches!(standalone, None | Some(b"yes" | b"no")) {
        return Err(MALFORMED);
    }
    if version != b"1.0" {
        return Err(StreamError::restricted("XML of another version than 1.0"));
    }
    if !is_utf8_anyway && encoding.is_some_and(|name| !name.eq_ignore_ascii_case(b"utf-8")) {
        return Err(StreamError { condition: Condition::UnsupportedEncoding, text: "only UTF-8 is allowed" });
    }
    Ok(())
}

const MALFORMED: StreamError = StreamError::not_well_formed("malformed XML declaration");

/// Takes ` name='value'` off the front, if it is that.
fn take<'a>(rest: &mut &'a [u8], name: &[u8]) -> Result<Option<&'a [u8]>, StreamError> {
    let spaced = super::trim_space_start(rest);
    let is_spaced = spaced.len() < rest.len();
    let Some(behind) = spaced.strip_prefix(name).filter(|_| is_spaced) else { return Ok(None) };
    let value = super::trim_space_start(behind).strip_prefix(b"=").ok_or(MALFORMED)?;
    let (quote, value) = super::trim_space_start(value).split_first().ok_or(MALFORMED)?;
    if !matches!(quote, b'\'' | b'"') {
        return Err(MALFORMED);
    }
    let length = value.iter().position(|byte| byte == quote).ok_or(MALFORMED)?;
    let (value, behind) = value.split_at(length);
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !value.iter().all(is_plain) {
        return Err(MALFORMED);
    }
    *rest = &behind[1..];
    Ok(Some(value))
}
