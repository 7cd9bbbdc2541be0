//! The connection store of Megaphone and the threads that serve it.
//!
//! A [`System`] has some *shards*. Each is one slab of connections and one *reactor* thread, which accepts,
//! reads, keeps deadlines and flushes what could not be written at once. BOSH sessions have a slab of their own
//! beside it, since their connections come and go. Any other thread may call the
//! methods of `System` on a connection or session: each locks that one and nothing else, and none waits for
//! a socket.
//!
//! The crate knows no Erlang. Who owns a connection, who waits for it, and how they are told is the
//! [`Host`]'s; what happened is an [`Event`]; which protocol is spoken is `megaphone-proto`'s.
#![forbid(unsafe_code)]

mod clock;
mod connection;
mod credit;
mod effect;
mod host;
mod id;
mod link;
mod listener;
mod options;
mod outbound;
mod reactor;
mod session;
mod slab;
mod source;
mod stats;
mod system;
mod throttle;
mod wheel;
mod xmpp;

pub use connection::{PollOutcome, ReadOutcome, Received, SendfileOutcome, WriteOutcome};
pub use host::{Event, Host, Notice, Owned, Sink};
pub use id::{Conn, ListenerId};
pub use listener::{ListenerConfig, ListenerInfo, Mode};
pub use megaphone_proto::{bosh, http::Limits, packet, xmpp as stream};
pub use options::{Active, Delivery, Opt, Packets, SocketOptions};
pub use source::{Address, Shutdown};
pub use stats::{ConnectionInfo, SessionInfo, SystemStats, Traffic};
pub use system::{Config, System};
pub use xmpp::{Facts, Outgoing, Rate, RequestFacts, Route, Service, XmppConfig, XmppEvent, XmppId};

pub use rustix::io::Errno;

/// Why an operation on a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The connection is gone, was never there, is the peer's no longer, or is no longer the caller's.
    Closed,
    /// Another process waits for the same thing already.
    Already,
    /// The caller does not own the connection.
    NotOwner,
    /// The argument or option can't be had here.
    Invalid,
    /// More bytes were asked for at once than one call may give.
    TooLarge,
    /// A packet is longer than the socket's options allow.
    MessageSize,
    /// The operating system's answer.
    Os(Errno),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("connection closed"),
            Self::Already => f.write_str("another process waits already"),
            Self::NotOwner => f.write_str("not the owner"),
            Self::Invalid => f.write_str("invalid argument"),
            Self::TooLarge => f.write_str("more bytes than one call may give"),
            Self::MessageSize => f.write_str("packet too long"),
            Self::Os(errno) => write!(f, "{errno}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::Os(errno)
    }
}
