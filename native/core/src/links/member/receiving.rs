//! What a link brings, and whose it is.

use super::Member;
use crate::host::Host;
use crate::links::streams::Entry;
use crate::links::turn::Turn;
use crate::store::Pending;
use crate::stream_end::{StreamEnd, StreamFd};
use megaphone_proto::link::{Event, Open, Reason};
use rustix::io::Errno;
use std::sync::Arc;

/// Events between two looks at the clock.
const EVENTS_A_LOOK: usize = 32;

/// Megaphone parses out the connection ID: each message of a link that is about a client's connection has its number, the
/// *stream* of the protocol. The data are kept by it, whether somebody waits for them or nobody yet; whoever wants them is
/// started or woken. None: it is about the link itself.
fn parse_connection_id(message: &Event<'_>) -> Option<u32> {
    match message {
        Event::Opened(id, _) | Event::Data(id, _) | Event::Eof(id) | Event::Closed(id, _) => Some(*id),
        Event::GoAway(_) | Event::Suspended | Event::Resumed | Event::Lost(_) => None,
    }
}

impl<H: Host> Member<H> {
    /// Reads once, and keeps what came for whom it is. `buffer` is lent.
    pub(crate) fn receive(&mut self, turn: &mut Turn<'_, H>, buffer: &mut [u8]) {
        let Some(connection) = &mut self.connection else { return };
        self.is_dirty = true;
        if !connection.rest.is_empty() {
            let rest = std::mem::take(&mut connection.rest);
            return self.take_input(&rest, turn);
        }
        match rustix::io::read(&connection.socket, &mut *buffer) {
            Ok(0) => self.cut(turn),
            Ok(n) => {
                connection.is_readable = n == buffer.len() || connection.is_hung_up;
                self.received += n as u64;
                self.take_input(&buffer[..n], turn);
            }
            Err(Errno::AGAIN) => connection.is_readable = false,
            Err(Errno::INTR) => {}
            Err(_) => self.cut(turn),
        }
    }

    pub(super) fn cut(&mut self, turn: &mut Turn<'_, H>) {
        self.machine.handle_disconnect(turn.now);
        self.disconnect(turn);
        self.handle_news(turn);
    }

    /// What there is no time for waits. Of a link that is cut it comes again.
    fn take_input(&mut self, mut input: &[u8], turn: &mut Turn<'_, H>) {
        let mut events = 0;
        while let Some(event) = self.machine.handle_input(&mut input, turn.now) {
            self.handle_message(event, turn);
            events += 1;
            if events % EVENTS_A_LOOK == 0
                && turn.is_over()
                && let Some(connection) = &mut self.connection
            {
                connection.rest = input.to_vec();
                return;
            }
        }
    }

    fn handle_message(&mut self, message: Event<'_>, turn: &mut Turn<'_, H>) {
        let Some(id) = parse_connection_id(&message) else { return self.handle_event(message, turn) };
        match message {
            Event::Opened(_, open) => self.start(id, *open, turn),
            Event::Data(_, bytes) => self.keep(id, bytes, turn),
            Event::Eof(_) => self.keep_end(id, turn),
            Event::Closed(_, reason) => self.keep_leave(id, reason, turn),
            Event::GoAway(_) | Event::Suspended | Event::Resumed | Event::Lost(_) => {}
        }
    }

    /// A client has connected: it is a connection of the listener that it asks for, or hears why not.
    fn start(&mut self, id: u32, open: Open, turn: &mut Turn<'_, H>) {
        let listener = match turn.engine.listener_of_stream(&open.listener) {
            Ok(listener) => listener,
            Err(reason) => return self.machine.close(id, reason),
        };
        let end = StreamEnd::new(Arc::clone(&self.desk), id);
        let stream = StreamFd::new(Arc::clone(&end));
        match turn.engine.adopt_stream(turn.index, listener, (stream, open), turn.sink) {
            Some(slot) => self.streams.insert(id, Entry { end, slot }),
            None => self.machine.close(id, Reason::Overload),
        }
    }

    /// Data of a connection, which are kept for it. Whoever reads is woken.
    fn keep(&self, id: u32, bytes: &[u8], turn: &mut Turn<'_, H>) {
        if let Some(entry) = self.streams.get(id) {
            entry.end.receive(bytes);
            turn.mark(entry.slot, Pending::READABLE);
        }
    }

    fn keep_end(&self, id: u32, turn: &mut Turn<'_, H>) {
        if let Some(entry) = self.streams.get(id) {
            entry.end.receive_end();
            turn.mark(entry.slot, Pending::READABLE.with(Pending::HUNG_UP));
        }
    }

    /// The client is gone. What it has sent can still be read; the stream's number is free.
    fn keep_leave(&mut self, id: u32, reason: Reason, turn: &mut Turn<'_, H>) {
        self.machine.close(id, Reason::Closed);
        self.detach(id, reason != Reason::Closed, turn);
    }

    pub(super) fn detach(&mut self, id: u32, is_reset: bool, turn: &mut Turn<'_, H>) {
        if let Some(entry) = self.streams.remove(id) {
            entry.end.detach(is_reset);
            turn.mark(entry.slot, Pending::READABLE.with(Pending::WRITABLE).with(Pending::HUNG_UP));
        }
    }
}
