//! Where a request's head ends, what delimits its body, and what is refused (RFC 9112, 2.2, 3 and 6).
//!
//! Reads and never writes: what a handler behind us is shown is `rewrite`'s. What could be read in two ways
//! is refused; what all readers agree on is taken, be it careless.

mod cause;
pub(super) mod chunked;
mod head;
mod host;

pub(super) use head::{Body, find_end, parse};

/// A byte of a token (RFC 9110, 5.6.2): of a method or a field name.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}
