//! XMPP and HTTP clients as state machines without sockets or clocks: bytes in, bytes and news out.

pub(crate) mod bosh;
pub(crate) mod http;
pub(crate) mod sasl;
pub(crate) mod scan;
pub(crate) mod session;
pub(crate) mod tcp;
pub(crate) mod user;
pub(crate) mod ws;

use std::fmt;
use std::io::ErrorKind;

/// Why a user was given up, or has to try again where an order allows that ([`Failure::is_passing`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The connection could not be made.
    Dial(ErrorKind),
    /// The server closed the connection.
    Closed,
    /// Reading from or writing to the connection failed.
    Broken(ErrorKind),
    /// Nothing came in time.
    TimedOut,
    /// It was due, and no connection was free until the end.
    NoConnection,
    /// Its turn had not come when the run was given up.
    NotBegun,
    /// It came more than once.
    Repeated,
    /// The server closed the WebSocket with this code (RFC 6455, section 7.4) before it offered anything.
    TurnedAway(u16),
    /// The server refused, with this condition of XMPP, SASL or BOSH.
    Rejected(String),
    /// An HTTP status that is no success.
    Status(u16),
    /// The server sent what the protocol does not allow, or what the generator does not understand.
    Malformed(&'static str),
}

impl Failure {
    /// Whether the same user may find the server willing a moment later: it was busy, and asked nothing yet.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::TurnedAway(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(kind) => write!(f, "connect failed ({kind})"),
            Self::Closed => f.write_str("closed by the server"),
            Self::Broken(kind) => write!(f, "connection broke ({kind})"),
            Self::TimedOut => f.write_str("timed out"),
            Self::NoConnection => f.write_str("no connection free to send it"),
            Self::NotBegun => f.write_str("not begun in time"),
            Self::Repeated => f.write_str("came more than once"),
            Self::TurnedAway(code) => write!(f, "turned away (WebSocket close {code})"),
            Self::Rejected(condition) => write!(f, "refused ({condition})"),
            Self::Status(code) => write!(f, "HTTP status {code}"),
            Self::Malformed(what) => write!(f, "malformed {what}"),
        }
    }
}

/// What a client has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// The user is logged in and its presence known.
    Online,
    /// The user has logged out.
    LoggedOut,
    /// A message came with this stamp.
    Message(u64),
    /// The answer to the ping with this stamp.
    Pong(u64),
    /// A message or ping was answered by an error with this condition.
    Refused(String),
}

/// Random numbers for nonces and masks that need to differ, not to be secret (xorshift64*).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Numbers that depend on `seed` alone.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
