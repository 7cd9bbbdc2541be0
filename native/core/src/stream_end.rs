//! A stream of a link as its connection has it: what the kernel's buffers are to a socket.
//!
//! The connection's side is called on any thread, the link's side on the link's reactor alone. Each call locks for as long as it
//! takes to copy some bytes, so that the reactor may wait for it. Nothing is allocated while no bytes are there.

use crate::mailbox::{Mail, Mailbox};
use megaphone_proto::link::Reason;
use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;
use rustix::net::Shutdown;
use std::sync::Arc;

/// Bytes that may wait for their turn on the link; then the writer does.
pub(crate) const SEND_BUFFER: usize = 16 * 1024;

/// What the streams of one link leave to its reactor.
pub(crate) struct Desk {
    mailbox: Arc<Mailbox>,
    /// The credit of a new stream. It is granted again by halves.
    window: u32,
    todo: Mutex<Todo>,
}

#[derive(Default)]
struct Todo {
    /// Streams with something to do, each once.
    numbers: Vec<u32>,
    /// The reactor looks before it sleeps: nobody has to wake it.
    is_attended: bool,
}

impl Desk {
    pub(crate) fn new(mailbox: Arc<Mailbox>, window: u32) -> Arc<Self> {
        Arc::new(Self { mailbox, window, todo: Mutex::default() })
    }

    fn push(&self, number: u32) {
        let was_attended = {
            let mut todo = self.todo.lock();
            todo.numbers.push(number);
            std::mem::replace(&mut todo.is_attended, true)
        };
        if !was_attended {
            self.mailbox.post(Mail::Links);
        }
    }

    /// The reactor's: what there is to do.
    pub(crate) fn take(&self) -> Vec<u32> {
        std::mem::take(&mut self.todo.lock().numbers)
    }

    /// The reactor's: it is awake, and looks before it sleeps.
    pub(crate) fn attend(&self) {
        self.todo.lock().is_attended = true;
    }

    /// The reactor's: whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.todo.lock().numbers.is_empty()
    }

    /// The reactor's: it would sleep. False when there is something to do.
    pub(crate) fn leave(&self) -> bool {
        let mut todo = self.todo.lock();
        todo.is_attended = !todo.numbers.is_empty();
        !todo.is_attended
    }
}

/// Claims about a stream.
mod flag {
    /// It is on the desk.
    pub(super) const POSTED: u16 = 1;
    /// It waits for its turn on the link.
    pub(super) const OFFERED: u16 = 2;
    /// A writer found no room.
    pub(super) const WANTS_ROOM: u16 = 4;
    /// Our side was closed, behind what waits.
    pub(super) const WRITE_SHUT: u16 = 8;
    /// And the peer was told.
    pub(super) const EOF_SAID: u16 = 16;
    /// Our side takes no more.
    pub(super) const READ_SHUT: u16 = 32;
    /// The connection has let go of it.
    pub(super) const CLOSED: u16 = 64;
    /// And its reactor knows that it still has output.
    pub(super) const ORPHANED: u16 = 128;
    /// The peer's client has to learn that it was not heard to the end.
    pub(super) const BREAKS: u16 = 256;
    /// A close throws away what waits, and resets.
    pub(super) const NO_LINGER: u16 = 512;
    /// The peer has sent all.
    pub(super) const PEER_EOF: u16 = 1024;
    /// The link has nothing more to do with it.
    pub(super) const DETACHED: u16 = 2048;
    /// The peer's client is gone, or the link.
    pub(super) const RESET: u16 = 4096;
}

struct State {
    number: u32,
    flags: u16,
    inbound: Vec<u8>,
    /// So many bytes of it were read.
    read: u32,
    /// Bytes that were read and not granted again.
    ungranted: u32,
    outbound: Vec<u8>,
}

impl State {
    fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    fn set(&mut self, flag: u16) {
        self.flags |= flag;
    }

    fn take_flag(&mut self, flag: u16) -> bool {
        let was = self.is(flag);
        self.flags &= !flag;
        was
    }

    fn unread(&self) -> &[u8] {
        self.inbound.get(self.read as usize..).unwrap_or_default()
    }

    /// What a reader is told when there are no bytes.
    fn end(&self) -> Result<usize, Errno> {
        if self.is(flag::RESET) {
            Err(Errno::CONNRESET)
        } else if self.is(flag::PEER_EOF | flag::READ_SHUT | flag::DETACHED) {
            Ok(0)
        } else {
            Err(Errno::AGAIN)
        }
    }

    fn is_grant_due(&self, window: u32) -> bool {
        !self.is(flag::PEER_EOF) && self.ungranted >= (window / 2).max(1)
    }
}

/// A stream's two buffers, and what is known of its ends.
pub(crate) struct StreamEnd {
    desk: Arc<Desk>,
    state: Mutex<State>,
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

impl StreamEnd {
    /// Bytes in memory, beside what its buffers hold.
    pub(crate) const BYTES: usize = size_of::<Self>() + 2 * size_of::<usize>();

    pub(crate) fn new(desk: Arc<Desk>, number: u32) -> Arc<Self> {
        let state =
            State { number, flags: 0, inbound: Vec::new(), read: 0, ungranted: 0, outbound: Vec::new() };
        Arc::new(Self { desk, state: Mutex::new(state) })
    }

    // --- the connection's side, as system calls

    /// `Errno::AGAIN` when nothing is there, 0 bytes at the end. What was received before a reset can be read.
    pub(crate) fn read(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        let n = copy(state.unread(), buf);
        if n == 0 {
            return if buf.is_empty() { Err(Errno::AGAIN) } else { state.end() };
        }
        state.read += n as u32;
        state.ungranted += n as u32;
        if state.read as usize == state.inbound.len() {
            (state.inbound, state.read) = (Vec::new(), 0);
        }
        if state.is_grant_due(self.desk.window) {
            self.post(state);
        }
        Ok(n)
    }

    /// As `read`, but the bytes stay.
    pub(crate) fn peek(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        let state = self.state.lock();
        match copy(state.unread(), buf) {
            0 => state.end(),
            n => Ok(n),
        }
    }

    /// `Errno::AGAIN` when nothing can be taken; then the connection is marked writable when there is room.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut state = self.state.lock();
        if state.is(flag::RESET) {
            return Err(Errno::CONNRESET);
        }
        if state.is(flag::WRITE_SHUT | flag::DETACHED) {
            return Err(Errno::PIPE);
        }
        let n = bytes.len().min(SEND_BUFFER.saturating_sub(state.outbound.len()));
        if n == 0 && !bytes.is_empty() {
            state.set(flag::WANTS_ROOM);
            return Err(Errno::AGAIN);
        }
        state.outbound.extend_from_slice(&bytes[..n]);
        if !state.is(flag::OFFERED) {
            self.post(state);
        }
        Ok(n)
    }

    /// Whether a write would take something, or fail.
    pub(crate) fn is_writable(&self) -> bool {
        let state = self.state.lock();
        state.outbound.len() < SEND_BUFFER || state.is(flag::RESET | flag::WRITE_SHUT | flag::DETACHED)
    }

    /// How much a write would take.
    pub(crate) fn room(&self) -> usize {
        SEND_BUFFER.saturating_sub(self.state.lock().outbound.len())
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.is(flag::RESET) {
            return Err(Errno::NOTCONN);
        }
        if how != Shutdown::Write {
            state.set(flag::READ_SHUT);
            state.ungranted += state.unread().len() as u32;
            (state.inbound, state.read) = (Vec::new(), 0);
        }
        if how != Shutdown::Read {
            state.set(flag::WRITE_SHUT);
        }
        self.post(state);
        Ok(())
    }

    /// A linger time of nothing has a close reset the connection, as with TCP. Any other is as good as none: a close does not
    /// wait.
    pub(crate) fn set_lingers(&self, lingers: bool) {
        let mut state = self.state.lock();
        state.flags = if lingers { state.flags & !flag::NO_LINGER } else { state.flags | flag::NO_LINGER };
    }

    pub(crate) fn lingers(&self) -> bool {
        !self.state.lock().is(flag::NO_LINGER)
    }

    /// The connection lets go of it. What waits still leaves; with input that nobody has read it is a reset, as with TCP.
    fn close(&self) {
        let mut state = self.state.lock();
        if !state.unread().is_empty() || state.is(flag::NO_LINGER) {
            state.set(flag::BREAKS);
        }
        if state.is(flag::NO_LINGER) {
            state.outbound = Vec::new();
        }
        (state.inbound, state.read) = (Vec::new(), 0);
        state.set(flag::CLOSED | flag::WRITE_SHUT);
        self.post(state);
    }

    /// The most that is kept of what the peer has sent.
    pub(crate) fn window(&self) -> usize {
        self.desk.window as usize
    }

    /// Bytes that its buffers hold.
    pub(crate) fn buffered(&self) -> usize {
        let state = self.state.lock();
        state.inbound.capacity() + state.outbound.capacity()
    }

    /// Leaves the rest to the link's reactor.
    fn post(&self, mut state: MutexGuard<'_, State>) {
        if state.is(flag::POSTED | flag::DETACHED) {
            return;
        }
        state.set(flag::POSTED);
        let number = state.number;
        drop(state);
        self.desk.push(number);
    }

    // --- the link's side

    pub(crate) fn number(&self) -> u32 {
        self.state.lock().number
    }

    /// The peer has sent this. It was within its credit, which bounds what is kept.
    pub(crate) fn receive(&self, bytes: &[u8]) {
        let mut state = self.state.lock();
        if state.is(flag::CLOSED) {
            state.set(flag::BREAKS);
        } else if state.is(flag::READ_SHUT) {
            state.ungranted += bytes.len() as u32;
            if state.is_grant_due(self.desk.window) {
                self.post(state);
            }
        } else {
            if state.read > 0 {
                let read = std::mem::take(&mut state.read) as usize;
                state.inbound.drain(..read);
            }
            state.inbound.extend_from_slice(bytes);
        }
    }

    /// The peer has sent all.
    pub(crate) fn receive_end(&self) {
        self.state.lock().set(flag::PEER_EOF);
    }

    /// The link has nothing more to do with it. `is_reset`: what the peer has sent may be incomplete.
    pub(crate) fn detach(&self, is_reset: bool) {
        let mut state = self.state.lock();
        state.set(flag::DETACHED | flag::PEER_EOF);
        // What is not sent will not be: whoever writes learns of it.
        let is_cut_short = !state.outbound.is_empty();
        state.outbound = Vec::new();
        if is_reset || is_cut_short {
            state.set(flag::RESET);
        }
    }

    /// It was on the desk: what there is to do.
    pub(crate) fn look(&self) -> Due {
        let mut state = self.state.lock();
        state.take_flag(flag::POSTED);
        let mut due = Due::default();
        if state.is_grant_due(self.desk.window) {
            due.grant = std::mem::take(&mut state.ungranted);
        }
        if !state.outbound.is_empty() && !state.is(flag::OFFERED) {
            state.set(flag::OFFERED);
            due.wants_to_send = true;
        }
        finish(&mut state, &mut due);
        due
    }

    /// Its turn: gives up to `most` bytes to `into`, and says what follows.
    pub(crate) fn take(&self, most: usize, into: &mut Vec<u8>) -> Due {
        let mut state = self.state.lock();
        let n = most.min(state.outbound.len());
        into.extend_from_slice(&state.outbound[..n]);
        if n == state.outbound.len() {
            state.outbound = Vec::new();
        } else {
            state.outbound.drain(..n);
        }
        let mut due = Due { wants_to_send: !state.outbound.is_empty(), ..Due::default() };
        if !due.wants_to_send {
            state.take_flag(flag::OFFERED);
        }
        due.has_room = state.outbound.len() <= SEND_BUFFER / 2 && state.take_flag(flag::WANTS_ROOM);
        finish(&mut state, &mut due);
        due
    }
}

/// What is to be said behind the last of the output.
fn finish(state: &mut State, due: &mut Due) {
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

fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let n = from.len().min(to.len());
    to[..n].copy_from_slice(&from[..n]);
    n
}

/// The connection's hold on a stream: what a descriptor is to a socket. To drop it is to close the stream.
pub(crate) struct StreamFd(Arc<StreamEnd>);

impl StreamFd {
    pub(crate) fn new(end: Arc<StreamEnd>) -> Self {
        Self(end)
    }

    /// The stream, for one who does not keep it open.
    pub(crate) fn end(&self) -> &Arc<StreamEnd> {
        &self.0
    }
}

impl Drop for StreamFd {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stream() -> (mio::Poll, Arc<Desk>, Arc<StreamEnd>) {
        let poll = mio::Poll::new().unwrap();
        let desk = Desk::new(Arc::new(Mailbox::new(poll.registry()).unwrap()), 8);
        let end = StreamEnd::new(Arc::clone(&desk), 7);
        (poll, desk, end)
    }

    fn read(end: &StreamEnd, most: usize) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![0; most];
        end.read(&mut buffer).map(|n| buffer[..n].to_vec())
    }

    #[test]
    fn an_idle_stream_is_within_its_budget() {
        assert!(StreamEnd::BYTES <= 100, "{} bytes", StreamEnd::BYTES);
        let (_poll, _desk, end) = stream();
        end.receive(b"1234");
        end.write(b"x").unwrap();
        read(&end, 10).unwrap();
        end.take(10, &mut Vec::new());
        assert_eq!(end.buffered(), 0, "what has left holds nothing");
    }

    #[test]
    fn credit_is_granted_by_halves_and_only_for_what_was_read() {
        let (_poll, desk, end) = stream();
        end.receive(b"12345678");
        assert_eq!(end.look().grant, 0, "never on arrival");
        assert_eq!(read(&end, 3), Ok(b"123".to_vec()));
        assert_eq!(desk.take(), [], "less than a half");
        assert_eq!(read(&end, 1), Ok(b"4".to_vec()));
        assert_eq!(desk.take(), [7]);
        assert_eq!(end.look().grant, 4);
        end.receive(b"9");
        assert_eq!(read(&end, 10), Ok(b"56789".to_vec()), "in order");
        assert_eq!(read(&end, 10), Err(Errno::AGAIN));
        end.receive_end();
        assert_eq!(read(&end, 10), Ok(Vec::new()));
        assert_eq!(end.look().grant, 0, "nothing more comes");
    }

    #[test]
    fn a_writer_waits_for_room_and_hears_of_it_once() {
        let (_poll, desk, end) = stream();
        assert_eq!(end.write(&vec![b'x'; SEND_BUFFER + 1]), Ok(SEND_BUFFER));
        assert_eq!(end.write(b"x"), Err(Errno::AGAIN));
        assert!(!end.is_writable());
        assert_eq!(desk.take(), [7], "once");
        assert!(end.look().wants_to_send);
        assert!(!end.look().wants_to_send, "it waits for its turn");
        let mut sent = Vec::new();
        let due = end.take(10, &mut sent);
        assert!(due.wants_to_send && !due.has_room, "a little is not worth a wake-up");
        let due = end.take(SEND_BUFFER, &mut sent);
        assert!(!due.wants_to_send && due.has_room);
        assert_eq!(sent.len(), SEND_BUFFER);
        assert!(!end.take(1, &mut sent).has_room);
    }

    #[test]
    fn what_was_written_before_a_close_leaves_before_it() {
        let (_poll, desk, end) = stream();
        let fd = StreamFd::new(Arc::clone(&end));
        end.write(b"last").unwrap();
        drop(fd);
        assert_eq!(desk.take(), [7]);
        let due = end.look();
        assert!(due.wants_to_send && due.is_orphan && due.close.is_none());
        assert_eq!(end.take(4, &mut Vec::new()).close, Some(Reason::Closed));
    }

    #[test]
    fn a_close_with_unread_input_is_a_reset() {
        let (_poll, _desk, end) = stream();
        end.receive(b"unread");
        drop(StreamFd::new(Arc::clone(&end)));
        assert_eq!(end.look().close, Some(Reason::Reset));
        let (_poll, _desk, end) = stream();
        end.set_lingers(false);
        end.write(b"never").unwrap();
        drop(StreamFd::new(Arc::clone(&end)));
        assert_eq!(end.look().close, Some(Reason::Reset), "and with no time to linger");
    }

    #[test]
    fn a_half_closed_stream_says_so_once_behind_its_output() {
        let (_poll, _desk, end) = stream();
        end.write(b"all").unwrap();
        end.shutdown(Shutdown::Write).unwrap();
        assert_eq!(end.write(b"x"), Err(Errno::PIPE));
        assert_eq!(end.look().close, None);
        assert_eq!(end.take(10, &mut Vec::new()).close, Some(Reason::Eof));
        assert_eq!(end.look().close, None);
        drop(StreamFd::new(Arc::clone(&end)));
        assert_eq!(end.look().close, Some(Reason::Closed));
    }

    #[test]
    fn a_broken_stream_gives_what_it_had_and_then_says_so() {
        let (_poll, desk, end) = stream();
        end.receive(b"some");
        end.detach(true);
        assert_eq!(read(&end, 10), Ok(b"some".to_vec()));
        assert_eq!(read(&end, 10), Err(Errno::CONNRESET));
        assert_eq!(end.write(b"x"), Err(Errno::CONNRESET));
        assert_eq!(desk.take(), [], "the link hears no more of it");
    }

    #[test]
    fn nobody_wakes_a_reactor_that_looks_before_it_sleeps() {
        let (_poll, desk, end) = stream();
        end.write(b"x").unwrap();
        assert_eq!(desk.mailbox.take().len(), 1);
        assert!(!desk.leave(), "there is something to do");
        assert_eq!(desk.take(), [7]);
        end.look();
        end.shutdown(Shutdown::Write).unwrap();
        assert!(desk.mailbox.take().is_empty());
        desk.take();
        assert!(desk.leave());
        end.look();
        end.shutdown(Shutdown::Write).unwrap();
        assert_eq!(desk.mailbox.take().len(), 1, "it sleeps");
    }
}
