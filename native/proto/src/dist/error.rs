//! Why a peer's connection ends.

use std::fmt;

/// Why a peer's connection has to be closed. What the peer is told before is in [`Peer::poll_transmit`](super::Peer::poll_transmit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The handshake took too long.
    TooLate,
    /// It has another cookie.
    WrongCookie,
    /// It lacks what OTP 23 and later have, or wants to be given a name.
    Unsupported,
    /// It is connected already, and keeps that connection.
    Declined,
    /// It does not speak the protocol; what it was that nobody says.
    Malformed(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLate => f.write_str("its handshake took too long"),
            Self::WrongCookie => f.write_str("it has another cookie"),
            Self::Unsupported => f.write_str("it is older than OTP 23, or has no name of its own"),
            Self::Declined => f.write_str("it keeps its earlier connection"),
            Self::Malformed(what) => write!(f, "it sent {what}"),
        }
    }
}

impl std::error::Error for Failure {}
