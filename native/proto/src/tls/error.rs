//! Why a connection ends before its time, and whose fault that is.

use super::alert::Alert;
use std::fmt;

/// Why nothing more is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The peer broke the protocol, or somebody on the way changed its bytes.
    Peer(PeerError),
    /// The peer has given up, and says why.
    Alert(Alert),
    /// The cipher could not be set up, or a key has no sequence numbers left.
    Internal,
}

/// What a peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// A record that it did not seal, or not as the next: bits changed, a record left out, repeated or moved.
    BadRecordMac,
    /// A record beyond the bound.
    RecordTooLong,
    /// A record of another version.
    WrongVersion,
    /// A record or message that does not belong here.
    Unexpected,
    /// A message that cannot be read.
    Malformed,
    /// A field with a value that is not allowed.
    IllegalValue,
    /// More records in a row without data than anybody needs.
    TooManyWithoutData,
    /// It asked for another handshake, was refused, and asked again.
    Renegotiation,
}

impl PeerError {
    /// What the peer is told.
    pub(super) fn alert(self) -> Alert {
        match self {
            Self::BadRecordMac => Alert::BAD_RECORD_MAC,
            Self::RecordTooLong => Alert::RECORD_OVERFLOW,
            Self::WrongVersion => Alert::PROTOCOL_VERSION,
            Self::Unexpected | Self::TooManyWithoutData | Self::Renegotiation => Alert::UNEXPECTED_MESSAGE,
            Self::Malformed => Alert::DECODE_ERROR,
            Self::IllegalValue => Alert::ILLEGAL_PARAMETER,
        }
    }
}

impl Error {
    /// What the peer is told; nothing when it was it who ended the connection.
    pub(super) fn alert(self) -> Option<Alert> {
        match self {
            Self::Peer(error) => Some(error.alert()),
            Self::Alert(_) => None,
            Self::Internal => Some(Alert::INTERNAL_ERROR),
        }
    }
}

impl From<PeerError> for Error {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(error) => error.fmt(f),
            Self::Alert(alert) => write!(f, "the peer sent the alert {}", alert.name()),
            Self::Internal => f.write_str("internal error of the TLS records"),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRecordMac => "a TLS record was not sealed by the peer, or not in this order",
            Self::RecordTooLong => "a TLS record is too long",
            Self::WrongVersion => "a TLS record is of another version",
            Self::Unexpected => "a TLS message does not belong here",
            Self::Malformed => "a TLS message cannot be read",
            Self::IllegalValue => "a TLS message has a value that is not allowed",
            Self::TooManyWithoutData => "too many TLS records in a row carry no data",
            Self::Renegotiation => "the peer insists on renegotiation",
        })
    }
}

/// The connection ended without close_notify: what came may not be all that was sent (RFC 8446 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection ended without close_notify")
    }
}

impl std::error::Error for Truncated {}

/// Why data cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The connection was closed, or has failed.
    Closed,
    /// The key has sealed as much as it may, and TLS 1.2 has no way to another. The connection is closed.
    KeyExhausted,
    /// The cipher could not be set up. The connection has failed.
    Internal,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the TLS connection is closed for sending",
            Self::KeyExhausted => "the TLS connection's key is used up",
            Self::Internal => "internal error of the TLS records",
        })
    }
}

impl std::error::Error for SendError {}
