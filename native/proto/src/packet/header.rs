//! Header fields, as Erlang shows them.

use std::borrow::Cow;

use super::{Packet, skip_spaces, token};

/// The names that Erlang shows as atoms, in the order of its numbers, which begin with 1.
const KNOWN: [&str; 52] = [
    "Cache-Control",
    "Connection",
    "Date",
    "Pragma",
    "Transfer-Encoding",
    "Upgrade",
    "Via",
    "Accept",
    "Accept-Charset",
    "Accept-Encoding",
    "Accept-Language",
    "Authorization",
    "From",
    "Host",
    "If-Modified-Since",
    "If-Match",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Max-Forwards",
    "Proxy-Authorization",
    "Range",
    "Referer",
    "User-Agent",
    "Age",
    "Location",
    "Proxy-Authenticate",
    "Public",
    "Retry-After",
    "Server",
    "Vary",
    "Warning",
    "Www-Authenticate",
    "Allow",
    "Content-Base",
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-Location",
    "Content-Md5",
    "Content-Range",
    "Content-Type",
    "Etag",
    "Expires",
    "Last-Modified",
    "Accept-Ranges",
    "Set-Cookie",
    "Set-Cookie2",
    "X-Forwarded-For",
    "Cookie",
    "Keep-Alive",
    "Proxy-Connection",
];

/// Longer names are shown as they came.
const MAX_FORMATTED: usize = 50;

/// Parses a field line without its end; `None` when it is not one.
pub(super) fn parse(line: &[u8]) -> Option<Packet<'_>> {
    if line.is_empty() {
        return Some(Packet::EndOfHeader);
    }
    let (raw_name, rest) = token(line);
    let value = skip_spaces(rest.strip_prefix(b":")?);
    let known = (1..).zip(KNOWN).find(|(_, name)| raw_name.eq_ignore_ascii_case(name.as_bytes()));
    Some(match known {
        Some((bit, name)) => {
            let formatted = Cow::Borrowed(name.as_bytes());
            Packet::Header { bit, known: Some(name), name: formatted, raw_name, value }
        }
        None => Packet::Header { bit: 0, known: None, name: format_name(raw_name), raw_name, value },
    })
}

/// Capital at the front and after a hyphen, small elsewhere. A hyphen where a capital would stand takes its
/// place, so the letter after two of them is small.
fn format_name(raw: &[u8]) -> Cow<'_, [u8]> {
    if raw.len() > MAX_FORMATTED {
        return Cow::Borrowed(raw);
    }
    let mut is_capital_next = true;
    let mut formatted = raw.to_vec();
    for byte in &mut formatted {
        if is_capital_next {
            byte.make_ascii_uppercase();
            is_capital_next = false;
        } else {
            byte.make_ascii_lowercase();
            is_capital_next = *byte == b'-';
        }
    }
    if formatted == raw { Cow::Borrowed(raw) } else { Cow::Owned(formatted) }
}
