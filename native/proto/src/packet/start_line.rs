//! Request lines and status lines.

use std::borrow::Cow;

use super::{Method, Packet, Scheme, Target, is_space, skip_spaces, spaces, token};

/// The methods that Erlang shows as atoms.
const KNOWN_METHODS: [&str; 7] = ["OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE"];

/// Parses a line without its end; `None` when it is neither.
pub(super) fn parse(line: &[u8]) -> Option<Packet<'_>> {
    if line.starts_with(b"HTTP/") { status_line(line) } else { request_line(line) }
}

fn status_line(line: &[u8]) -> Option<Packet<'_>> {
    let (version, rest) = version(line)?;
    let (digits, rest) = digits(spaces(rest)?);
    let status = if digits.is_empty() { 0 } else { number(digits)? };
    let phrase = if rest.is_empty() { rest } else { spaces(rest)? };
    Some(Packet::Response { version, status, phrase })
}

/// What follows the version is ignored, as Erlang does.
fn request_line(line: &[u8]) -> Option<Packet<'_>> {
    let (method, rest) = token(line);
    if method.is_empty() {
        return None;
    }
    let rest = spaces(rest)?;
    let (word, rest) = rest.split_at(rest.iter().position(|byte| is_space(*byte)).unwrap_or(rest.len()));
    if word.is_empty() {
        return None;
    }
    let rest = skip_spaces(rest);
    let version = if rest.is_empty() { (0, 9) } else { version(rest)?.0 };
    let known = KNOWN_METHODS.into_iter().find(|known| known.as_bytes() == method);
    let method = known.map_or(Method::Other(method), Method::Known);
    Some(Packet::Request { method, target: target(word)?, version })
}

/// `HTTP/` digits `.` digits, and what is after it.
fn version(bytes: &[u8]) -> Option<((u32, u32), &[u8])> {
    let (major, rest) = digits(bytes.strip_prefix(b"HTTP/")?);
    let (minor, rest) = digits(rest.strip_prefix(b".")?);
    Some(((number(major)?, number(minor)?), rest))
}

fn digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len()))
}

/// The value of at least one digit; `None` where Erlang's signed 32 bits would wrap around.
fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|number| *number <= i32::MAX as u32)
}

fn target(word: &[u8]) -> Option<Target<'_>> {
    match word {
        b"*" => return Some(Target::Star),
        [_] | [b'/', ..] => return Some(Target::AbsPath(word)),
        _ => {}
    }
    for (prefix, scheme) in [(&b"http://"[..], Scheme::Http), (b"https://", Scheme::Https)] {
        if let Some((start, rest)) = word.split_at_checked(prefix.len())
            && start.eq_ignore_ascii_case(prefix)
        {
            return absolute(scheme, rest);
        }
    }
    Some(match word.iter().position(|byte| *byte == b':') {
        Some(colon) => Target::Scheme(&word[..colon], &word[colon + 1..]),
        None => Target::Other(word),
    })
}

fn absolute(scheme: Scheme, rest: &[u8]) -> Option<Target<'_>> {
    let (authority, path) = match rest.iter().position(|byte| *byte == b'/') {
        Some(slash) => (&rest[..slash], &rest[slash..]),
        None => (rest, &b"/"[..]),
    };
    let (host, port) = match authority.iter().position(|byte| *byte == b':') {
        Some(colon) => (&authority[..colon], port(&authority[colon + 1..])?),
        None => (authority, None),
    };
    Some(Target::AbsoluteUri { scheme, host, port, path: Cow::Borrowed(path) })
}

/// `Some(None)` for 0 and for what is not a number; `None` for a number that is no port.
fn port(bytes: &[u8]) -> Option<Option<u16>> {
    let (number, rest) = digits(bytes);
    if number.is_empty() || !rest.is_empty() {
        return Some(None);
    }
    let port: u16 = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some((port != 0).then_some(port))
}
