//! One link: its machine, its connection, and which connection of the node each of its streams is.
//!
//! Confined to its reactor's thread. What streams leave to it lies on its desk, from whichever thread.

use super::streams::{Entry, Streams};
use super::turn::{LINKS, Turn};
use crate::handshake::Arrival;
use crate::host::{Host, Notice};
use crate::link_registry::{LinkRecord, Stage};
use crate::listener::Listener;
use crate::store::Pending;
use crate::stream_end::{Desk, Due, StreamEnd, StreamFd};
use megaphone_proto::link::{End, Event, GoAway, Link, Open, Reason, Refusal, ResumeError, Side};
use megaphone_proto::time::Time;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes that a visit writes; then others have their turn.
const BYTES_A_VISIT: usize = 512 * 1024;
/// Events between two looks at the clock.
const EVENTS_A_LOOK: usize = 32;
/// Streams that a visit ends when a link is over.
const LOST_A_VISIT: usize = 256;
/// How long a stream that nobody has any more may wait for credit, as the kernel gives up a closed socket.
const ORPHAN: Duration = Duration::from_secs(60);
/// How long a link that ends may take for what there is to send.
const ENDING: Duration = Duration::from_secs(2);
/// A link that ends and has had nothing to send for so long has sent all.
const QUIET: Duration = Duration::from_millis(200);

pub(crate) struct Member<H: Host> {
    /// Its place among the reactor's links.
    place: usize,
    machine: Link,
    record: Arc<LinkRecord>,
    listener: Arc<Listener<H>>,
    desk: Arc<Desk>,
    streams: Streams,
    connection: Option<Connection>,
    has_gone_away: bool,
    /// It ends: by then, or when it has been quiet until then.
    ending: Option<(Time, Time)>,
    /// Streams that nobody has any more and that have output, and when they are given up.
    orphans: VecDeque<(Arc<StreamEnd>, Time)>,
    /// There may be something to send.
    is_dirty: bool,
    received: u64,
    sent: u64,
    resumed: u64,
}

/// What carries a link for now.
struct Connection {
    socket: OwnedFd,
    peer: Option<SocketAddr>,
    /// The handshake's last bytes, before those of the link.
    opening: Vec<u8>,
    /// What was read and not looked at.
    rest: Vec<u8>,
    is_readable: bool,
    /// A short read is not the last one.
    is_hung_up: bool,
    is_writable: bool,
}

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
    /// A new link, whose ECM is welcome.
    pub(crate) fn new(
        place: usize,
        record: Arc<LinkRecord>,
        arrival: Arrival<H>,
        turn: &mut Turn<'_, H>,
    ) -> Option<Self> {
        let listener = Arc::clone(&arrival.handshake.listener);
        let config = Arc::clone(&listener.gate.as_ref()?.config.link);
        let desk = Desk::new(Arc::clone(&turn.shard().mailbox), config.initial_credit);
        let mut member = Self {
            place,
            machine: Link::new(config, Side::Node, arrival.request.peer.params, turn.now),
            record,
            listener,
            desk,
            streams: Streams::default(),
            connection: None,
            has_gone_away: false,
            ending: None,
            orphans: VecDeque::new(),
            is_dirty: true,
            received: 0,
            sent: 0,
            resumed: 0,
        };
        member.listener.connections.fetch_add(1, Ordering::Relaxed);
        member.listener.accepted.fetch_add(1, Ordering::Relaxed);
        let peer = arrival.handshake.peer;
        member.connect(arrival, None, turn);
        let (listener, ecm) = (member.listener.id, Arc::clone(&member.record.ecm));
        turn.engine.shared.notices.link(turn.sink, Notice::LinkUp { listener, ecm, peer });
        Some(member)
    }

    pub(crate) fn record(&self) -> &Arc<LinkRecord> {
        &self.record
    }

    /// A later connection of its ECM.
    pub(crate) fn resume(&mut self, arrival: Arrival<H>, turn: &mut Turn<'_, H>) -> Result<(), Refusal> {
        let request = &arrival.request;
        let resumed = self.machine.resume(request.attempt, request.received, turn.now);
        let outcome = match resumed {
            Ok(()) => {
                self.disconnect(turn);
                self.resumed += 1;
                self.move_to(&arrival.handshake.listener, turn);
                self.connect(arrival, Some(self.machine.received()), turn);
                Ok(())
            }
            Err(ResumeError::Stale) => arrival.refuse(Refusal::Stale),
            Err(ResumeError::CannotResume | ResumeError::Over) => arrival.refuse(Refusal::Gone),
        };
        self.handle_news(turn);
        outcome
    }

    /// It belongs to the listener that its last connection came to: an earlier one may be closed.
    fn move_to(&mut self, listener: &Arc<Listener<H>>, turn: &Turn<'_, H>) {
        if listener.id != self.listener.id {
            listener.connections.fetch_add(1, Ordering::Relaxed);
            let former = std::mem::replace(&mut self.listener, Arc::clone(listener));
            leave(&former, turn);
        }
    }

    fn connect(&mut self, arrival: Arrival<H>, received: Option<u64>, turn: &mut Turn<'_, H>) {
        let Arrival { handshake, rest, .. } = arrival;
        let peer = handshake.peer;
        let (socket, opening) = handshake.welcome(received);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(LINKS + self.place);
        let registered = turn.shard().registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest);
        self.is_dirty = true;
        if let Err(error) = registered {
            let error = error.raw_os_error().map_or(Errno::NOMEM, Errno::from_raw_os_error);
            turn.engine.shared.notices.register_failed(turn.sink, self.listener.id, error);
            self.machine.handle_disconnect(turn.now);
            return self.handle_news(turn);
        }
        self.connection = Some(Connection {
            socket,
            peer,
            opening,
            rest,
            is_readable: true,
            is_hung_up: false,
            is_writable: true,
        });
    }

    fn disconnect(&mut self, turn: &Turn<'_, H>) {
        if let Some(connection) = self.connection.take() {
            let fd = connection.socket.as_raw_fd();
            let _gone_with_the_descriptor = turn.shard().registry.deregister(&mut SourceFd(&fd));
        }
    }

    // --- when it is to be visited

    pub(crate) fn note(&mut self, is_readable: bool, is_writable: bool, is_hung_up: bool) {
        if let Some(connection) = &mut self.connection {
            connection.is_readable |= is_readable;
            connection.is_writable |= is_writable;
            connection.is_hung_up |= is_hung_up;
            self.is_dirty |= is_writable;
        }
    }

    pub(crate) fn has_input(&self) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| connection.is_readable || !connection.rest.is_empty())
    }

    pub(crate) fn has_output(&self) -> bool {
        self.is_dirty || !self.desk.is_empty()
    }

    /// Its reactor is awake: streams need not wake it.
    pub(crate) fn attend(&self) {
        self.desk.attend();
    }

    /// Its reactor would sleep. False when there is something to do.
    pub(crate) fn may_sleep(&self) -> bool {
        self.desk.leave() && !self.is_dirty && !self.has_input()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let ending = self.ending.map(|(by, quiet)| by.min(quiet));
        let orphan = self.orphans.front().map(|(_, at)| *at);
        [self.machine.poll_timeout(), ending, orphan].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, turn: &mut Turn<'_, H>) {
        if self.deadline().is_some_and(|at| at <= turn.now) {
            self.machine.handle_timeout(turn.now);
            self.handle_news(turn);
            self.is_dirty = true;
        }
    }

    /// What its listener wants of it.
    pub(crate) fn look_at_gate(&mut self, turn: &Turn<'_, H>) {
        let stage = self.listener.gate.as_ref().map_or(Stage::Open, |gate| gate.stage());
        if stage >= Stage::GoingAway && !self.has_gone_away {
            self.has_gone_away = true;
            self.machine.go_away(GoAway::Stopping);
            self.is_dirty = true;
        }
        if stage == Stage::Ending && self.ending.is_none() {
            self.ending = Some((turn.now.after(ENDING), turn.now.after(QUIET)));
        }
    }

    // --- input

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

    fn cut(&mut self, turn: &mut Turn<'_, H>) {
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

    fn detach(&mut self, id: u32, is_reset: bool, turn: &mut Turn<'_, H>) {
        if let Some(entry) = self.streams.remove(id) {
            entry.end.detach(is_reset);
            turn.mark(entry.slot, Pending::READABLE.with(Pending::WRITABLE).with(Pending::HUNG_UP));
        }
    }

    // --- the link itself

    fn handle_news(&mut self, turn: &mut Turn<'_, H>) {
        while let Some(event) = self.machine.poll_event() {
            self.handle_event(event, turn);
        }
    }

    fn handle_event(&mut self, event: Event<'_>, turn: &mut Turn<'_, H>) {
        let (listener, ecm) = (self.listener.id, Arc::clone(&self.record.ecm));
        let streams = self.machine.streams();
        let notice = match event {
            Event::Suspended => {
                self.disconnect(turn);
                Notice::LinkCut { listener, ecm, streams }
            }
            Event::Resumed => {
                let peer = self.connection.as_ref().and_then(|connection| connection.peer);
                Notice::LinkResumed { listener, ecm, peer }
            }
            Event::Lost(cause) => {
                turn.engine.links.remove(self.record.id);
                Notice::LinkLost { listener, ecm, streams, cause }
            }
            // It opens no more: nothing to do about that.
            Event::GoAway(_) | Event::Opened(..) | Event::Data(..) | Event::Eof(_) | Event::Closed(..) => {
                return;
            }
        };
        turn.engine.shared.notices.link(turn.sink, notice);
    }

    /// A bug has shown in what is the link's own: it ends, and the reactor goes on.
    pub(crate) fn give_up(&mut self, turn: &mut Turn<'_, H>) {
        self.machine.end(End::Internal);
        self.handle_news(turn);
        self.is_dirty = true;
    }

    // --- output

    /// Writes what its streams have, many in one go, as far as the socket takes it and a visit allows. False when the link is
    /// over and nothing is left of it.
    pub(crate) fn send(&mut self, turn: &mut Turn<'_, H>, scratch: &mut Vec<u8>) -> bool {
        for number in self.desk.take() {
            self.look(number, turn);
        }
        self.give_up_orphans(turn);
        let mut left = BYTES_A_VISIT;
        self.is_dirty = loop {
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
        self.end_if_due(turn);
        let is_left = !self.machine.is_over() || self.bury(turn);
        self.publish();
        is_left
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

    fn publish(&self) {
        let mut info = self.record.info.lock();
        info.listener = self.listener.id;
        if let Some(connection) = &self.connection {
            info.peer = connection.peer;
        }
        info.is_connected = self.machine.is_connected();
        info.streams = self.machine.streams();
        info.kept_bytes = self.machine.kept_bytes();
        (info.received, info.sent, info.resumed) = (self.received, self.sent, self.resumed);
    }

    /// It is no more.
    pub(crate) fn retire(self, turn: &Turn<'_, H>) {
        leave(&self.listener, turn);
    }
}

/// One link less.
fn leave<H: Host>(listener: &Arc<Listener<H>>, turn: &Turn<'_, H>) {
    if listener.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
        turn.engine.forget_if_done(listener);
    }
}
