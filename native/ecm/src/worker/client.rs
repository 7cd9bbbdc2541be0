//! One client's connection.

use crate::net;
use megaphone_proto::proxy::Addresses;
use megaphone_proto::time::Time;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// No stream.
pub(super) const NO_STREAM: u32 = u32::MAX;

/// What a client is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A PROXY header has to come first.
    Header,
    /// No node has it yet. It is not read.
    Waiting,
    /// A stream carries it.
    Carried,
    /// Its link was lost between two requests; the next byte gets it a stream.
    Kept,
    /// The node has taken leave, or we have: what is kept is written, then what still comes is read until its end.
    Leaving,
}

/// Claims about a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    /// The kernel may have bytes: told by an edge, true until a read says otherwise.
    pub(super) const READABLE: Self = Self(1);
    /// A short read is not the last one: the end follows.
    pub(super) const HUNG_UP: Self = Self(2);
    /// The client sends no more.
    pub(super) const CLIENT_EOF: Self = Self(4);
    /// The node sends no more.
    pub(super) const NODE_EOF: Self = Self(8);
    /// The client was told so.
    pub(super) const SHUT: Self = Self(16);
    /// The node has had bytes, and has said nothing since.
    pub(super) const UNANSWERED: Self = Self(32);
    /// The node was told that nothing more comes, so that it takes leave.
    pub(super) const ASKED_TO_GO: Self = Self(64);
}

/// A client's connection: what it costs beside the kernel's, the link's stream, and the place where the stream finds it.
pub(super) struct Client {
    pub(super) socket: OwnedFd,
    pub(super) stream: u32,
    pub(super) link: u16,
    pub(super) listener: u16,
    /// Bytes that have left for the client and are not granted again yet.
    pub(super) ungranted: u32,
    pub(super) phase: Phase,
    flags: Flags,
    pub(super) received: u64,
    pub(super) sent: u64,
    /// When its timer is over; others that were set before mean nothing.
    pub(super) due: Option<Time>,
    /// What a proxy has said.
    pub(super) ends: Option<Box<Addresses>>,
    /// What the client's socket did not take. At most what the node may send.
    kept: Option<Box<Kept>>,
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Where what is still to be written begins.
    at: usize,
}

impl Client {
    pub(super) fn new(socket: OwnedFd, listener: u16, phase: Phase) -> Self {
        Self {
            socket,
            stream: NO_STREAM,
            link: 0,
            listener,
            ungranted: 0,
            phase,
            flags: Flags::default(),
            received: 0,
            sent: 0,
            due: None,
            ends: None,
            kept: None,
        }
    }

    pub(super) fn is(&self, flag: Flags) -> bool {
        self.flags.0 & flag.0 != 0
    }

    pub(super) fn set(&mut self, flag: Flags, is: bool) {
        self.flags.0 = if is { self.flags.0 | flag.0 } else { self.flags.0 & !flag.0 };
    }

    /// Nothing waits for the client to take it.
    pub(super) fn is_flushed(&self) -> bool {
        self.kept.is_none()
    }

    /// Both sides have sent all, and the client has it.
    pub(super) fn is_done(&self) -> bool {
        self.is(Flags::CLIENT_EOF) && self.is(Flags::NODE_EOF) && self.is_flushed()
    }

    /// Writes what the socket takes, and keeps the rest. How much was written.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let written = if self.is_flushed() { self.write(bytes)? } else { 0 };
        if written < bytes.len() {
            let kept = self.kept.get_or_insert_default();
            // What was written makes room before more is taken.
            if kept.at > kept.bytes.len() / 2 {
                kept.bytes.drain(..kept.at);
                kept.at = 0;
            }
            kept.bytes.extend_from_slice(&bytes[written..]);
        }
        Ok(written)
    }

    /// Writes what was kept, as far as the socket takes it. How much was written.
    pub(super) fn flush(&mut self) -> Result<usize, Errno> {
        let Some(mut kept) = self.kept.take() else { return Ok(0) };
        let mut total = 0;
        while kept.at < kept.bytes.len() {
            let written = self.write(&kept.bytes[kept.at..])?;
            if written == 0 {
                self.kept = Some(kept);
                return Ok(total);
            }
            kept.at += written;
            total += written;
        }
        Ok(total)
    }

    /// 0 when the socket takes nothing now.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        match net::write(&self.socket, bytes) {
            Ok(written) => {
                self.sent += written as u64;
                Ok(written)
            }
            Err(Errno::AGAIN) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Tells the client, once, when it has everything, that nothing more comes.
    pub(super) fn shut_if_flushed(&mut self) {
        let is_due = self.is(Flags::NODE_EOF) || self.phase == Phase::Leaving;
        if is_due && self.is_flushed() && !self.is(Flags::SHUT) {
            self.set(Flags::SHUT, true);
            net::shut_write(&self.socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::slab::Slab;
    use super::*;

    /// The bound is 256. The link has 24 for the stream, and 4 say which client has it; of these a `Vec` may
    /// have twice as many as it needs.
    #[test]
    fn an_idle_client_takes_little() {
        let each = Slab::<Client>::slot_bytes() + 24 + 2 * size_of::<u32>();
        assert_eq!((Slab::<Client>::slot_bytes(), each), (64, 96));
    }
}
