//! The PROXY protocol, versions 1 and 2, as a receiver: the header in which a proxy says whose connection it passes on
//! (HAProxy's `proxy-protocol.txt`, of which the sections are cited).
//!
//! [`parse`] looks at what has come so far and keeps nothing: the header is so short that it may be looked at anew
//! with each piece. An error shows as soon as the byte that makes it one; no later byte mends it.
//!
//! The crate `ppp` (2.3) was the alternative. It takes ports such as `+80`, its verdict on a line of version 1 that is
//! not ASCII depends on where the input was split, and it leaves the bound on version 2 to its caller.

mod v1;
mod v2;

use std::net::SocketAddr;

/// Bytes of the longest header of version 1 (section 2.1), with its line end.
pub const MAX_V1: usize = 107;

/// Bytes of the longest header of version 2 that is taken: some four times what a sender may use (section 2.2 wants it to
/// fit into one segment of 536 bytes), for proxies that add certificates.
pub const MAX_V2: usize = 16 + 2048;

/// A whole header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes that it takes; those behind it are the client's.
    pub len: usize,
    /// The ends of the client's connection to the proxy. None: those of the proxy's own connection hold, for it says that
    /// the connection is its own (LOCAL, a health check) or that it does not know them (UNKNOWN, UNSPEC).
    pub addresses: Option<Addresses>,
}

/// The ends of the connection that is passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client's end.
    pub source: Address,
    /// The end that the client has connected to.
    pub destination: Address,
}

/// One end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Internet protocol.
    Ip(SocketAddr),
    /// A unix socket's path, at most 108 bytes; empty when it has none.
    Unix(Vec<u8>),
}

/// Why what came is no header. The connection has to be closed: nothing can be said of the bytes behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It begins with the signature of neither version.
    Signature,
    /// No line end, or a length, within the bounds.
    TooLong,
    /// A line of version 1 that is not as section 2.1 has it.
    Line,
    /// Another version than 2 in the binary format, or a command that it does not have.
    Command,
    /// A family of addresses, or a transport, that version 2 does not have.
    Family,
    /// The addresses do not fit into the length that is said.
    Length,
}

impl Error {
    /// One word for a log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signature => "no_proxy_header",
            Self::TooLong => "too_long",
            Self::Line => "bad_line",
            Self::Command => "bad_command",
            Self::Family => "bad_family",
            Self::Length => "bad_length",
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for Error {}

/// The header at the front of the connection's first bytes. `Ok(None)`: more are needed, of which there are at most
/// [`MAX_V1`] or [`MAX_V2`] in all.
pub fn parse(input: &[u8]) -> Result<Option<Header>, Error> {
    match input.first() {
        None => Ok(None),
        Some(first) if *first == v1::SIGNATURE[0] => v1::parse(input),
        Some(_) => v2::parse(input),
    }
}

/// Whether the signature is there, as far as it has come.
fn has_signature(input: &[u8], signature: &[u8]) -> Result<bool, Error> {
    let n = input.len().min(signature.len());
    if input[..n] != signature[..n] {
        return Err(Error::Signature);
    }
    Ok(n == signature.len())
}
