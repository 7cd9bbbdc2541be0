//! One link: its machine, its connection, and which connection of the node each of its streams is.
//!
//! Confined to its reactor's thread. What streams leave to it lies on its desk, from whichever thread.

mod receiving;
mod sending;

use super::streams::Streams;
use super::turn::{LINKS, Turn};
use crate::desk::Desk;
use crate::handshake::Arrival;
use crate::host::{Host, Notice};
use crate::link_registry::{LinkRecord, Stage};
use crate::listener::Listener;
use crate::stream_end::StreamEnd;
use megaphone_proto::link::{End, Event, GoAway, Link, Refusal, ResumeError, Side};
use megaphone_proto::time::Time;
use mio::{Interest, Token};
use rustix::fd::{AsRawFd, OwnedFd};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

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
    /// Taken from the desk, and not looked at.
    todo: VecDeque<u32>,
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
            todo: VecDeque::new(),
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
        let registered = turn.shard().watch(socket.as_raw_fd(), token, interest);
        self.is_dirty = true;
        if let Err(error) = registered {
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
            turn.shard().unwatch(&connection.socket);
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
