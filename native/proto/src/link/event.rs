//! What a link's owner is told, and why it is refused something.

use super::frame::{GoAway, Reason};
use super::{Cause, Open};

/// Which end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Opens streams.
    Ecm,
    /// Has them opened.
    Node,
}

/// What a link's owner is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The ECM has a client. Only at the node.
    Opened(u32, Box<Open>),
    /// The client, or for it the node, has sent this; it follows what came before. The bytes are a part of the input.
    Data(u32, &'a [u8]),
    /// The peer has sent all, and still reads.
    Eof(u32),
    /// The peer has taken leave of the stream, and why. The owner closes it too; its number is not free before.
    Closed(u32, Reason),
    /// The peer wants, or will open, no new streams.
    GoAway(GoAway),
    /// The connection is lost, or was given up and is to be closed. The link waits for another.
    Suspended,
    /// The link has a new connection, and goes on where it was.
    Resumed,
    /// The link is over. What there is to write is written, and the connection closed; the streams that end with it come
    /// from [`Link::poll_lost`](super::Link::poll_lost).
    Lost(Cause),
}

/// Why a stream was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// There are as many as may be.
    TooMany,
    /// Too much waits for an acknowledgement. When input has come there may be room.
    Full,
    /// One end has said that no new ones are wanted, the link is over, or this is the node.
    MayNot,
    /// The description is too long, or names no listener.
    Invalid,
}

/// Why data was not taken. None of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The stream is not there, or one end has said that nothing more will be sent on it.
    Closed,
    /// More than the peer has granted, or than a frame may carry, or none.
    BeyondQuantum,
    /// Too much waits to be sent or acknowledged.
    Full,
}

/// Why a connection does not resume a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeError {
    /// A later connection has resumed it; the link stays as it is.
    Stale,
    /// The peer has received what was never sent, or lacks what is no longer kept. The link is over.
    CannotResume,
    /// The link was over.
    Over,
}
