//! A stream of a link as its connection has it: what the kernel's buffers are to a socket.
//!
//! The connection's side is called on any thread, the link's side on the link's reactor alone. Each call locks for as long as it
//! takes to copy some bytes, so that the reactor may wait for it. Nothing is allocated while no bytes are there.

mod state;

use crate::desk::Desk;
use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;
use rustix::net::Shutdown;
use state::{State, finish, flag};
use std::sync::Arc;

pub(crate) use state::Due;

/// Bytes that may wait for their turn on the link; then the writer does.
pub(crate) const SEND_BUFFER: usize = 16 * 1024;

/// A stream's two buffers, and what is known of its ends.
pub(crate) struct StreamEnd {
    desk: Arc<Desk>,
    state: Mutex<State>,
}

const _: () = assert!(StreamEnd::BYTES <= 100);

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
    use crate::mailbox::Mailbox;
    use megaphone_proto::link::Reason;

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
    fn what_has_left_holds_nothing() {
        let (_poll, _desk, end) = stream();
        end.receive(b"1234");
        end.write(b"x").unwrap();
        read(&end, 10).unwrap();
        end.take(10, &mut Vec::new());
        assert_eq!(end.buffered(), 0);
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
}
