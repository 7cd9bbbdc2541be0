//! What the streams of a link have to send, many in one write.

use super::{Member, QUIET};
use crate::host::Host;
use crate::links::streams::Entry;
use crate::links::turn::Turn;
use crate::store::Pending;
use crate::stream_end::Due;
use megaphone_proto::link::{End, Reason};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that a visit writes; then others have their turn.
const BYTES_A_VISIT: usize = 512 * 1024;
/// Streams that a visit looks at: some 100 microseconds.
const LOOKS_A_VISIT: usize = 1024;
/// Streams that a visit ends when a link is over.
const LOST_A_VISIT: usize = 256;
/// How long a stream that nobody has any more may wait for credit, as the kernel gives up a closed socket.
const ORPHAN: Duration = Duration::from_secs(60);

impl<H: Host> Member<H> {
    /// Writes what its streams have, many in one go, as far as the socket takes it and a visit allows. False when the link is
    /// over and nothing is left of it.
    pub(crate) fn send(&mut self, turn: &mut Turn<'_, H>, scratch: &mut Vec<u8>) -> bool {
        self.look_at_desk(turn);
        self.give_up_orphans(turn);
        let mut left = BYTES_A_VISIT;
        let is_unfinished = loop {
            self.fill(turn, scratch);
            match self.write(turn) {
                None => break false,
                Some(written) => left = left.saturating_sub(written),
            }
            if let Some((_, quiet)) = &mut self.ending {
                *quiet = turn.now.after(QUIET);
            }
            if left == 0 {
                break true;
            }
        };
        self.is_dirty = is_unfinished || !self.todo.is_empty();
        self.end_if_due(turn);
        let is_left = !self.machine.is_over() || self.bury(turn);
        self.publish();
        is_left
    }

    /// A listener that closes its connections may have left all of them there.
    fn look_at_desk(&mut self, turn: &mut Turn<'_, H>) {
        self.todo.extend(self.desk.take());
        for _ in 0..LOOKS_A_VISIT {
            let Some(number) = self.todo.pop_front() else { break };
            self.look(number, turn);
        }
        if self.todo.is_empty() {
            self.todo = VecDeque::new();
        }
    }

    /// A stream has left something on the desk. Its number may be another's by now, who is none the wiser.
    fn look(&mut self, number: u32, turn: &mut Turn<'_, H>) {
        if let Some(entry) = self.streams.get(number).cloned() {
            let due = entry.end.look();
            self.carry_out(number, entry, due, turn);
        }
    }

    fn carry_out(&mut self, number: u32, entry: Entry, due: Due, turn: &mut Turn<'_, H>) {
        if due.grant > 0 {
            self.machine.grant(number, due.grant);
        }
        if due.wants_to_send {
            self.machine.want_to_send(number);
        }
        if due.has_room {
            turn.mark(entry.slot, Pending::WRITABLE);
        }
        if let Some(reason) = due.close {
            self.machine.close(number, reason);
            if reason != Reason::Eof {
                self.streams.remove(number);
            }
        } else if due.is_orphan {
            self.orphans.push_back((entry.end, turn.now.after(ORPHAN)));
        }
    }

    /// Streams give what they have, one after the other, while the link has room.
    fn fill(&mut self, turn: &mut Turn<'_, H>, scratch: &mut Vec<u8>) {
        while let Some((number, most)) = self.machine.poll_ready() {
            let Some(entry) = self.streams.get(number).cloned() else { continue };
            scratch.clear();
            let due = entry.end.take(most, scratch);
            if !scratch.is_empty() {
                // Within what its turn allows; a stream that has ended meanwhile loses it, as a socket does.
                let _ = self.machine.send_data(number, scratch);
            }
            self.carry_out(number, entry, due, turn);
        }
    }

    /// Writes once. How much; none when there is nothing to write or nobody takes it.
    fn write(&mut self, turn: &mut Turn<'_, H>) -> Option<usize> {
        let connection = self.connection.as_mut().filter(|connection| connection.is_writable)?;
        let [control, first, second] = self.machine.poll_transmit();
        let slices = [&connection.opening, control, first, second].map(IoSlice::new);
        if slices.iter().all(|slice| slice.is_empty()) {
            return None;
        }
        let mut ancillary = SendAncillaryBuffer::default();
        match rustix::net::sendmsg(&connection.socket, &slices, &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(written) => {
                let opening = written.min(connection.opening.len());
                connection.opening.drain(..opening);
                self.machine.written(written - opening);
                self.sent += (written - opening) as u64;
                Some(written)
            }
            Err(Errno::INTR) => Some(0),
            Err(Errno::AGAIN) => {
                connection.is_writable = false;
                None
            }
            Err(_) => {
                self.cut(turn);
                None
            }
        }
    }

    fn give_up_orphans(&mut self, turn: &Turn<'_, H>) {
        while self.orphans.front().is_some_and(|(_, at)| *at <= turn.now) {
            let Some((end, _)) = self.orphans.pop_front() else { return };
            let number = end.number();
            if self.streams.get(number).is_some_and(|entry| Arc::ptr_eq(&entry.end, &end)) {
                self.streams.remove(number);
                end.detach(true);
                self.machine.close(number, Reason::Reset);
            }
        }
    }

    fn end_if_due(&mut self, turn: &mut Turn<'_, H>) {
        let is_due = self.ending.is_some_and(|(by, quiet)| by.min(quiet) <= turn.now);
        if is_due && !self.machine.is_over() {
            self.ending = None;
            self.machine.end(End::Done);
            self.handle_news(turn);
        }
    }

    /// The link is over: says so, and ends its streams, some at a visit. Whether there are more.
    fn bury(&mut self, turn: &mut Turn<'_, H>) -> bool {
        // The peer need not take it: whoever asks for this link again is told that it is gone.
        while self.write(turn).is_some() {}
        self.disconnect(turn);
        self.is_dirty = true;
        for _ in 0..LOST_A_VISIT {
            let Some(number) = self.machine.poll_lost() else { return false };
            self.detach(number, true, turn);
        }
        true
    }
}
