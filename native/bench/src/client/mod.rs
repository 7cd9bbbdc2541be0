//! XMPP and HTTP clients as state machines without sockets or clocks: bytes in, bytes and news out.

pub(crate) mod http;

use std::fmt;
use std::io::ErrorKind;

use crate::generator::io::Gone;

/// Why a user was given up. Users that failed are counted by this and never tried again.
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
    /// The server refused, with this condition of XMPP, SASL or BOSH.
    Rejected(String),
    /// An HTTP status that is no success.
    Status(u16),
    /// The server sent what the protocol does not allow, or what the generator does not understand.
    Malformed(&'static str),
}

impl From<Gone> for Failure {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Dial(kind) => Self::Dial(kind),
            Gone::ByPeer => Self::Closed,
            Gone::Broken(kind) => Self::Broken(kind),
        }
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
            Self::Rejected(condition) => write!(f, "refused ({condition})"),
            Self::Status(code) => write!(f, "HTTP status {code}"),
            Self::Malformed(what) => write!(f, "malformed {what}"),
        }
    }
}
