//! What may be wrong with a handshake or a link, and whose fault it is.

use super::frame::End;
use std::fmt;

/// Who is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody: the link has done its work.
    Nobody,
    /// The peer, whose implementation or settings are to be looked at.
    Peer,
    /// This end.
    Ours,
    /// Whatever lies between the two.
    Network,
}

/// A rule that the peer broke on an established link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// No version that was agreed on has such a frame.
    UnknownFrame(u8),
    /// The frame's length is not one that its type may have.
    BadLength,
    /// A frame about the link names a stream, or what it carries means nothing.
    BadFrame,
    /// The stream is not there: it was never opened, or both ends have taken leave of it.
    UnknownStream(u32),
    /// A stream of that number is there.
    StreamInUse(u32),
    /// The number is beyond those that were allowed.
    TooManyStreams(u32),
    /// Only an ECM opens streams, and only while it has not said that it will open no more.
    MayNotOpen,
    /// The peer had said that it will send nothing more of that kind on the stream.
    AfterClose(u32),
    /// More data than it was granted.
    CreditExceeded(u32),
    /// It has granted nothing, or more than 2,147,483,647 bytes.
    BadCredit(u32),
    /// What was never sent, or was acknowledged before, can't be acknowledged.
    BadAck,
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFrame(kind) => write!(f, "frame of unknown type {kind}"),
            Self::BadLength => f.write_str("frame of wrong length"),
            Self::BadFrame => f.write_str("frame that means nothing"),
            Self::UnknownStream(stream) => write!(f, "frame for stream {stream}, which is not open"),
            Self::StreamInUse(stream) => write!(f, "stream {stream} opened twice"),
            Self::TooManyStreams(stream) => write!(f, "stream {stream} is beyond the bound"),
            Self::MayNotOpen => f.write_str("stream opened by an end that may not"),
            Self::AfterClose(stream) => write!(f, "frame for stream {stream} after its close"),
            Self::CreditExceeded(stream) => write!(f, "more data than granted on stream {stream}"),
            Self::BadCredit(stream) => write!(f, "credit of 0 or too much on stream {stream}"),
            Self::BadAck => f.write_str("acknowledgement of what was not sent"),
        }
    }
}

impl std::error::Error for PeerError {}

/// Why a link is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The owner has ended it.
    Ended(End),
    /// The peer has ended it, and says why.
    EndedByPeer(End),
    /// The peer broke a rule, and was told.
    Peer(PeerError),
    /// No connection came in time.
    NotResumed,
    /// One end has received what the other did not send, or lacks what it no longer has: nothing can follow.
    CannotResume,
}

impl Cause {
    /// Who is to blame.
    pub fn fault(self) -> Fault {
        match self {
            Self::Ended(End::Done) | Self::EndedByPeer(End::Done | End::Overload) => Fault::Nobody,
            Self::Ended(_) | Self::EndedByPeer(End::Protocol) => Fault::Ours,
            Self::EndedByPeer(End::Internal) | Self::Peer(_) | Self::CannotResume => Fault::Peer,
            Self::NotResumed => Fault::Network,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(end) => write!(f, "ended here: {end}"),
            Self::EndedByPeer(end) => write!(f, "ended by the peer: {end}"),
            Self::Peer(error) => write!(f, "the peer broke the protocol: {error}"),
            Self::NotResumed => f.write_str("not resumed in time"),
            Self::CannotResume => f.write_str("the two ends do not agree on what was received"),
        }
    }
}

impl std::error::Error for Cause {}

/// What a node says to an ECM that it knows and does not want on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The link to be resumed is not there, or no longer can be. The ECM ends its streams.
    Gone,
    /// A later connection of the link is there. Nothing is lost.
    Stale,
    /// The node has another name than the one that was asked for.
    WrongNode,
    /// A new link has the id of another.
    InUse,
    /// The node has as many links as it may.
    Overload,
    /// The node is stopping.
    Stopping,
}

impl Refusal {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Gone => 2,
            Self::Stale => 3,
            Self::WrongNode => 4,
            Self::InUse => 5,
            Self::Overload => 6,
            Self::Stopping => 7,
        }
    }

    pub(super) const fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            2 => Self::Gone,
            3 => Self::Stale,
            4 => Self::WrongNode,
            5 => Self::InUse,
            6 => Self::Overload,
            7 => Self::Stopping,
            _ => return None,
        })
    }
}

/// Why a handshake came to nothing. The connection is to be closed, after what there is to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The bytes are not those of a link's handshake.
    NotALink,
    /// There is no version that both ends have; the peer has these, from and to.
    Version(u16, u16),
    /// The peer does not know the secret, or what one end sent is not what the other received.
    NotAuthenticated,
    /// The node has not taken our word for it that we know the secret. Anybody may have said so.
    NotBelieved,
    /// The peer's settings are none that a link can work with.
    BadParams,
    /// It took too long.
    Timeout,
    /// The node is the right one, and does not want this connection.
    Refused(Refusal),
}

impl Failure {
    /// Who is to blame.
    pub fn fault(self) -> Fault {
        match self {
            Self::NotALink | Self::Version(..) | Self::NotAuthenticated | Self::BadParams => Fault::Peer,
            Self::NotBelieved | Self::Refused(Refusal::WrongNode | Refusal::InUse) => Fault::Ours,
            Self::Timeout | Self::Refused(Refusal::Gone | Refusal::Stale) => Fault::Network,
            Self::Refused(Refusal::Overload | Refusal::Stopping) => Fault::Nobody,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotALink => f.write_str("not the handshake of a link"),
            Self::Version(from, to) => write!(f, "no common version: the peer has {from} to {to}"),
            Self::NotAuthenticated => f.write_str("the peer does not know the secret"),
            Self::NotBelieved => f.write_str("the node does not accept our secret"),
            Self::BadParams => f.write_str("the peer's settings are out of bounds"),
            Self::Timeout => f.write_str("no handshake in time"),
            Self::Refused(refusal) => write!(f, "refused by the node: {refusal}"),
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the link is gone",
            Self::Stale => "a later connection is there",
            Self::WrongNode => "it has another name",
            Self::InUse => "the link's id is in use",
            Self::Overload => "too many links",
            Self::Stopping => "it is stopping",
        })
    }
}
