//! The host that a request is for (RFC 9112, 3.2).

use crate::http::RequestError;
use crate::http::target::{absolute, split_authority};

/// Checks the Host fields of a request for `target`, and the host that an absolute target names.
pub(super) fn check<'a>(
    mut hosts: impl Iterator<Item = &'a [u8]>,
    target: &[u8],
    is_http_11: bool,
) -> Result<(), RequestError> {
    match hosts.next() {
        None if is_http_11 => return Err(RequestError::HostMissing),
        Some(host) if !is_authority(host) => return Err(RequestError::Host),
        _ => {}
    }
    if hosts.next().is_some() {
        return Err(RequestError::HostRepeated);
    }
    // An `http` target must name a host (RFC 9110, 4.2.1), a Host field may be empty.
    match absolute(target) {
        Some((authority, _)) if split_authority(authority).0.is_empty() || !is_authority(authority) => {
            Err(RequestError::Host)
        }
        _ => Ok(()),
    }
}

/// True for `host [":" port]` of RFC 3986, 3.2. Bytes beyond ASCII count as letters, as ejabberd counts them.
fn is_authority(bytes: &[u8]) -> bool {
    let (host, port) = split_authority(bytes);
    let is_host = match host {
        [b'[', literal @ .., b']'] => !literal.is_empty() && literal.iter().all(is_literal),
        name => is_name(name),
    };
    is_host && is_port(port)
}

/// Nothing, a colon, or a colon and a number that a port may have.
fn is_port(port: &[u8]) -> bool {
    match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u16>().ok());
            digits.iter().all(u8::is_ascii_digit) && number.is_some()
        }
        _ => false,
    }
}

fn is_literal(byte: &u8) -> bool {
    is_plain(byte) || matches!(byte, b':' | b'%')
}

fn is_name(mut name: &[u8]) -> bool {
    while let [first, rest @ ..] = name {
        name = match rest {
            [high, low, rest @ ..]
                if *first == b'%' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest
            }
            rest if is_plain(first) || !first.is_ascii() => rest,
            _ => return false,
        };
    }
    true
}

/// The unreserved characters and the delimiters that a name may have (RFC 3986, 2.2 and 2.3).
fn is_plain(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b',' | b';' | b'=')
}
