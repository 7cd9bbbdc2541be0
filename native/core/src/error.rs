//! Why an operation failed, as its caller is told.

use rustix::io::Errno;

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
