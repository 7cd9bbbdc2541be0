//! Frames: header, types, and what the small ones carry.

use std::fmt;

/// Bytes of a frame's header: type (1), length of what follows (2), stream (4), each with the highest byte first.
pub const HEADER: usize = 7;

/// The most that may be granted and not used on a stream.
pub(super) const MAX_CREDIT: u32 = i32::MAX as u32;

/// A frame's type. Those from 0x10 on are about the connection, not about the link: they have no place in the sequence, and
/// are never sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Open,
    Data,
    Close,
    Credit,
    GoAway,
    Ack,
    Ping,
    Pong,
    End,
}

impl Kind {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Data => 2,
            Self::Close => 3,
            Self::Credit => 4,
            Self::GoAway => 5,
            Self::Ack => 0x11,
            Self::Ping => 0x12,
            Self::Pong => 0x13,
            Self::End => 0x14,
        }
    }

    pub(super) const fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Open,
            2 => Self::Data,
            3 => Self::Close,
            4 => Self::Credit,
            5 => Self::GoAway,
            0x11 => Self::Ack,
            0x12 => Self::Ping,
            0x13 => Self::Pong,
            0x14 => Self::End,
            _ => return None,
        })
    }

    /// Whether its bytes count in the sequence: they are kept until acknowledged, and sent again on a new connection.
    pub(super) const fn is_sequenced(self) -> bool {
        matches!(self, Self::Open | Self::Data | Self::Close | Self::Credit | Self::GoAway)
    }

    /// Whether it is about one stream.
    pub(super) const fn has_stream(self) -> bool {
        matches!(self, Self::Open | Self::Data | Self::Close | Self::Credit)
    }

    /// Whether so many bytes may follow its header.
    pub(super) fn may_have(self, length: u16, max_payload: u16) -> bool {
        match self {
            Self::Open => usize::from(length) <= super::MAX_OPEN,
            Self::Data => (1..=max_payload).contains(&length),
            Self::Close | Self::GoAway | Self::End => length == 1,
            Self::Credit => length == 4,
            Self::Ack => length == 8,
            Self::Ping | Self::Pong => length == 0,
        }
    }
}

/// A header as it goes out.
pub(super) fn header(kind: Kind, stream: u32, length: u16) -> [u8; HEADER] {
    let [a, b] = length.to_be_bytes();
    let [c, d, e, f] = stream.to_be_bytes();
    [kind.code(), a, b, c, d, e, f]
}

/// Why an end sends no more on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It has sent all, and still reads: the half of a stream that TCP closes with FIN. The only one that is not the last
    /// frame of its stream.
    Eof,
    /// It has sent all, and reads no more.
    Closed,
    /// What it sent may be incomplete: the client's connection broke.
    Reset,
    /// The stream is not wanted: there is no such listener, or it takes no more connections.
    Refused,
    /// The client broke a rule.
    Policy,
    /// There is no room for the stream now.
    Overload,
}

impl Reason {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Eof => 0,
            Self::Closed => 1,
            Self::Reset => 2,
            Self::Refused => 3,
            Self::Policy => 4,
            Self::Overload => 5,
        }
    }

    pub(super) const fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Eof,
            1 => Self::Closed,
            2 => Self::Reset,
            3 => Self::Refused,
            4 => Self::Policy,
            5 => Self::Overload,
            _ => return None,
        })
    }
}

/// Why no new streams are wanted, or will be opened, on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoAway {
    /// The end that says so is about to stop: streams had better be elsewhere soon.
    Stopping,
    /// Streams may stay until they end.
    Draining,
}

impl GoAway {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Stopping => 1,
            Self::Draining => 2,
        }
    }

    pub(super) const fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Stopping,
            2 => Self::Draining,
            _ => return None,
        })
    }
}

/// Why an end ends the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is no longer needed.
    Done,
    /// The other end broke a rule.
    Protocol,
    /// There is no room for it.
    Overload,
    /// Something went wrong at the end that says so.
    Internal,
}

impl End {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Protocol => 1,
            Self::Overload => 2,
            Self::Internal => 3,
        }
    }

    pub(super) const fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Done,
            1 => Self::Protocol,
            2 => Self::Overload,
            3 => Self::Internal,
            _ => return None,
        })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Protocol => "protocol error",
            Self::Overload => "overload",
            Self::Internal => "internal error",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back() {
        for code in 0..=u8::MAX {
            assert!(Kind::of_code(code).is_none_or(|kind| kind.code() == code));
            assert!(Reason::of_code(code).is_none_or(|reason| reason.code() == code));
            assert!(GoAway::of_code(code).is_none_or(|reason| reason.code() == code));
            assert!(End::of_code(code).is_none_or(|end| end.code() == code));
        }
    }

    #[test]
    fn what_is_not_sent_again_has_types_from_16_on() {
        for kind in (0..=u8::MAX).filter_map(Kind::of_code) {
            assert_eq!(kind.is_sequenced(), kind.code() < 0x10);
        }
    }
}
