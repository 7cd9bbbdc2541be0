//! What is known of a stream, and what follows from it.

use megaphone_proto::link::Reason;
use rustix::io::Errno;

/// Claims about a stream.
pub(super) mod flag {
    /// It is on the desk.
    pub(in super::super) const POSTED: u16 = 1;
    /// It waits for its turn on the link.
    pub(in super::super) const OFFERED: u16 = 2;
    /// A writer found no room.
    pub(in super::super) const WANTS_ROOM: u16 = 4;
    /// Our side was closed, behind what waits.
    pub(in super::super) const WRITE_SHUT: u16 = 8;
    /// And the peer was told.
    pub(in super::super) const EOF_SAID: u16 = 16;
    /// Our side takes no more.
    pub(in super::super) const READ_SHUT: u16 = 32;
    /// The connection has let go of it.
    pub(in super::super) const CLOSED: u16 = 64;
    /// And its reactor knows that it still has output.
    pub(in super::super) const ORPHANED: u16 = 128;
    /// The peer's client has to learn that it was not heard to the end.
    pub(in super::super) const BREAKS: u16 = 256;
    /// A close throws away what waits, and resets.
    pub(in super::super) const NO_LINGER: u16 = 512;
    /// The peer has sent all.
    pub(in super::super) const PEER_EOF: u16 = 1024;
    /// The link has nothing more to do with it.
    pub(in super::super) const DETACHED: u16 = 2048;
    /// The peer's client is gone, or the link.
    pub(in super::super) const RESET: u16 = 4096;
}

pub(super) struct State {
    pub(super) number: u32,
    pub(super) flags: u16,
    pub(super) inbound: Vec<u8>,
    /// So many bytes of it were read.
    pub(super) read: u32,
    /// Bytes that were read and not granted again.
    pub(super) ungranted: u32,
    pub(super) outbound: Vec<u8>,
}

impl State {
    pub(super) fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn set(&mut self, flag: u16) {
        self.flags |= flag;
    }

    pub(super) fn take_flag(&mut self, flag: u16) -> bool {
        let was = self.is(flag);
        self.flags &= !flag;
        was
    }

    pub(super) fn unread(&self) -> &[u8] {
        self.inbound.get(self.read as usize..).unwrap_or_default()
    }

    /// What a reader is told when there are no bytes.
    pub(super) fn end(&self) -> Result<usize, Errno> {
        if self.is(flag::RESET) {
            Err(Errno::CONNRESET)
        } else if self.is(flag::PEER_EOF | flag::READ_SHUT | flag::DETACHED) {
            Ok(0)
        } else {
            Err(Errno::AGAIN)
        }
    }

    pub(super) fn is_grant_due(&self, window: u32) -> bool {
        !self.is(flag::PEER_EOF) && self.ungranted >= (window / 2).max(1)
    }
}

/// What a stream's turn, or a look at it, leaves to be said on the link.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Credit.
    pub(crate) grant: u32,
    /// It wants a turn.
    pub(crate) wants_to_send: bool,
    /// Our side has sent all, or takes leave.
    pub(crate) close: Option<Reason>,
    /// Nobody has it any more, and it has output.
    pub(crate) is_orphan: bool,
    /// A writer may go on.
    pub(crate) has_room: bool,
}

/// What is to be said behind the last of the output.
pub(super) fn finish(state: &mut State, due: &mut Due) {
    let is_sent = state.outbound.is_empty();
    if state.is(flag::CLOSED) {
        if is_sent {
            due.close = Some(if state.is(flag::BREAKS) { Reason::Reset } else { Reason::Closed });
            state.set(flag::DETACHED);
        } else if !state.is(flag::ORPHANED) {
            state.set(flag::ORPHANED);
            due.is_orphan = true;
        }
    } else if is_sent && state.is(flag::WRITE_SHUT) && !state.is(flag::EOF_SAID) {
        state.set(flag::EOF_SAID);
        due.close = Some(Reason::Eof);
    }
}
