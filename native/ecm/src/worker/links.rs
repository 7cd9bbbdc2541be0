//! Links: their connections, and what the protocol says of them.

use super::client::{Flags, NO_STREAM, Phase};
use super::state::{LINGER, Source, Worker};
use super::timers::Timer;
use super::uplink::{Connection, Uplink};
use crate::net;
use megaphone_proto::link::{
    Cause, End, Event, Failure, Fault, GoAway, Link, Reason, Refusal, Side, Welcome,
};
use rustix::io::Errno;
use std::mem;
use std::time::Duration;

/// Reads of one link before others have their turn.
const READS: usize = 4;
/// How long a node that stops has for telling its clients itself. Before that they would be gone without a word, and
/// without their sessions' end.
const FAREWELL: Duration = Duration::from_secs(10);
/// Clients of lost links that are looked at in a turn.
const SHED: usize = 1024;

impl Worker {
    /// An event of a link's socket.
    pub(super) fn handle_link(&mut self, at: usize, event: &mio::event::Event) {
        if let Some(Some(uplink)) = self.links.get_mut(at) {
            uplink.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
            uplink.writable |= event.is_writable() || event.is_error();
        }
    }

    /// Does what is due of a link, and takes what has come.
    pub(super) fn tend_link(&mut self, at: usize) {
        self.tend_connection(at);
        for _ in 0..READS {
            let Some(Some(uplink)) = self.links.get(at) else { return };
            if !uplink.readable || uplink.socket().is_none() {
                break;
            }
            self.read_link(at);
        }
        if let Some(Some(uplink)) = self.links.get(at) {
            self.is_busy |= uplink.readable && uplink.socket().is_some();
        }
        let now = self.now;
        self.tell_link(at, |link| link.handle_timeout(now));
    }

    fn read_link(&mut self, at: usize) {
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        let mut buffer = mem::take(&mut self.inbox);
        let read = uplink.socket().map(|socket| net::read(socket, &mut buffer));
        match read {
            Some(Ok(1..)) => {
                let read = read.and_then(Result::ok).unwrap_or_default();
                uplink.readable = read == buffer.len();
                self.take_input(at, &buffer[..read]);
            }
            Some(Err(Errno::AGAIN)) => uplink.readable = false,
            Some(Ok(0) | Err(_)) => self.cut(at),
            None => {}
        }
        self.inbox = buffer;
    }

    fn take_input(&mut self, at: usize, mut input: &[u8]) {
        if self.shake(at, &mut input) {
            return;
        }
        self.may_place = true;
        loop {
            let now = self.now;
            let Some(Some(Uplink { connection: Connection::Up { .. }, link: Some(link), .. })) =
                self.links.get_mut(at)
            else {
                return;
            };
            match link.handle_input(&mut input, now) {
                Some(event) => self.handle_event(at, event),
                None => return,
            }
        }
    }

    fn tell_link(&mut self, at: usize, act: impl FnOnce(&mut Link)) {
        let Some(Some(Uplink { link: Some(link), .. })) = self.links.get_mut(at) else { return };
        act(link);
        while let Some(Some(Uplink { link: Some(link), .. })) = self.links.get_mut(at)
            && let Some(event) = link.poll_event()
        {
            self.handle_event(at, event);
        }
    }

    fn handle_event(&mut self, at: usize, event: Event<'_>) {
        match event {
            Event::Data(stream, bytes) => self.deliver(at, stream, bytes),
            Event::Eof(stream) => self.node_ended(at, stream),
            Event::Closed(stream, reason) => self.node_closed(at, stream, reason),
            Event::GoAway(reason) => self.node_leaves(at, reason),
            Event::Suspended => self.suspended(at),
            Event::Resumed => self.resumed(at),
            Event::Lost(cause) => self.lost(at, cause),
            // Only a node is told of new streams.
            Event::Opened(..) => {}
        }
    }

    // --- connections

    /// The connection, or the attempt at one, is gone.
    pub(super) fn cut(&mut self, at: usize) {
        let Some(Some(uplink)) = self.links.get(at) else { return };
        if uplink.is_up() {
            let now = self.now;
            self.tell_link(at, |link| link.handle_disconnect(now));
        } else {
            self.failed(at, "the connection was closed before the handshake was complete");
        }
    }

    fn suspended(&mut self, at: usize) {
        let (now, chance) = (self.now, Self::chance());
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        uplink.suspended(now, chance);
        let (node, streams) = (uplink.node, uplink.streams());
        let Some(node) = self.nodes.get_mut(node) else { return };
        node.stats.cuts += 1;
        let name = node.settings.name.clone();
        if let Some(more) = self.note("cut", &name) {
            tracing::warn!(node = %name, streams, more, "connection of a link lost; it is to be resumed");
        }
    }

    fn resumed(&mut self, at: usize) {
        let Some(Some(uplink)) = self.links.get(at) else { return };
        let (node, streams) = (uplink.node, uplink.streams());
        let Some(node) = self.nodes.get_mut(node) else { return };
        node.stats.resumed += 1;
        let name = node.settings.name.clone();
        if let Some(more) = self.note("resumed", &name) {
            tracing::info!(node = %name, streams, more, "link resumed");
        }
    }

    /// A link is over. Another takes its place; its clients are seen to by and by.
    fn lost(&mut self, at: usize, cause: Cause) {
        // It may have a last word.
        self.serve_link(at);
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        uplink.connection = Connection::Over;
        let (node, streams, leaves) = (uplink.node, uplink.streams(), uplink.is_leaving);
        let Some(of) = self.nodes.get_mut(node) else { return };
        let name = of.settings.name.clone();
        if cause.fault() == Fault::Nobody {
            tracing::info!(node = %name, streams, %cause, "link over");
        } else {
            of.stats.lost += 1;
            if let Some(more) = self.note("lost", &name) {
                tracing::warn!(node = %name, streams, %cause, more, "link lost with its clients");
            }
        }
        let is_there = matches!(cause, Cause::NotResumed | Cause::CannotResume);
        self.add_link(node, leaves || !is_there);
    }

    /// Another link to a node, unless it is to have no more. `later`: it is no use to hurry.
    pub(super) fn add_link(&mut self, node: usize, later: bool) {
        if self.draining.is_none() && !self.is_removed(node) && self.lacks_link(node) {
            self.new_link(node, later);
        }
    }

    pub(super) fn new_link(&mut self, node: usize, later: bool) {
        let Ok(id) = Self::link_id() else {
            tracing::error!("no random bytes: no link can be made");
            return;
        };
        let mut uplink = Uplink::new(node, id, self.config.clone(), self.now);
        if later {
            uplink.failed(self.now, Self::chance());
        }
        let free = self.links.iter().position(Option::is_none);
        let at = free.unwrap_or(self.links.len());
        if at == self.links.len() {
            self.links.push(None);
        }
        self.links[at] = Some(uplink);
    }

    fn lacks_link(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|of| {
            let links = self.links.iter().flatten().filter(|uplink| uplink.node == node && !uplink.is_over());
            links.count() < of.settings.links.into()
        })
    }

    fn node_leaves(&mut self, at: usize, reason: GoAway) {
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        uplink.is_leaving = true;
        let patience = if reason == GoAway::Stopping { FAREWELL } else { Duration::ZERO };
        uplink.spread_from = self.now.after(patience);
        let Some(node) = self.nodes.get(uplink.node) else { return };
        let streams = uplink.streams();
        tracing::info!(node = %node.settings.name, ?reason, streams, "node takes no new clients on a link");
    }

    // --- handshakes

    /// Takes what belongs to a handshake. Whether that is all of it.
    fn shake(&mut self, at: usize, input: &mut &[u8]) -> bool {
        let Some(Some(uplink)) = self.links.get_mut(at) else { return true };
        let Connection::Shaking { dialer, out, .. } = &mut uplink.connection else { return false };
        let result = dialer.handle_input(input);
        dialer.poll_transmit(out);
        match result {
            Ok(None) => {
                self.write_handshake(at);
                true
            }
            Ok(Some(welcome)) => !self.welcomed(at, welcome),
            Err(failure) => {
                self.refused(at, failure);
                true
            }
        }
    }

    /// Whether the link goes on.
    fn welcomed(&mut self, at: usize, welcome: Welcome) -> bool {
        let now = self.now;
        let Some(Some(uplink)) = self.links.get_mut(at) else { return false };
        let connection = mem::replace(&mut uplink.connection, Connection::Over);
        let Connection::Shaking { socket, .. } = connection else { return false };
        uplink.connection = Connection::Up { socket };
        uplink.since = now;
        let (attempt, received) = (uplink.attempt, welcome.received.unwrap_or_default());
        if uplink.link.is_some() {
            self.tell_link(at, |link| {
                // What is wrong comes as an event.
                let _ = link.resume(attempt, received, now);
            });
        } else {
            uplink.link = Some(Link::new(uplink.config.clone(), Side::Ecm, welcome.params, now));
            tracing::info!(node = %welcome.name, "link made");
        }
        self.may_place = true;
        self.links.get(at).is_some_and(|uplink| uplink.as_ref().is_some_and(Uplink::is_up))
    }

    /// The handshake failed.
    pub(super) fn refused(&mut self, at: usize, failure: Failure) {
        self.failed(at, &failure.to_string());
        if failure == Failure::Refused(Refusal::Gone) {
            self.tell_link(at, Link::give_up);
        }
    }

    /// An attempt to connect came to nothing.
    pub(super) fn failed(&mut self, at: usize, why: &str) {
        let (now, chance) = (self.now, Self::chance());
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        uplink.failed(now, chance);
        let Some(node) = self.nodes.get(uplink.node) else { return };
        let settings = &node.settings;
        if let Some(more) = self.note("connect", &settings.name) {
            let (node, address) = (&settings.name, format_args!("{} port {}", settings.host, settings.port));
            tracing::warn!(%node, %address, why, more, "no link to a node; it is tried again");
        }
    }

    /// Writes what the handshake has, as far as the connection takes it.
    pub(super) fn write_handshake(&mut self, at: usize) {
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        let Connection::Shaking { socket, out, .. } = &mut uplink.connection else { return };
        if out.is_empty() {
            return;
        }
        match net::write(socket, out) {
            Ok(written) => {
                out.drain(..written);
            }
            Err(Errno::AGAIN) => uplink.writable = false,
            Err(_) => self.cut(at),
        }
    }

    // --- clients of links that are over, or of nodes that leave

    /// Sees to clients whose node is gone or going, so many a second.
    pub(super) fn shed(&mut self) {
        self.pace.advance(self.now);
        for at in 0..self.links.len() {
            let Some(uplink) = &self.links[at] else { continue };
            if uplink.is_over() {
                self.shed_lost(at);
            } else if self.is_to_spread(uplink) {
                self.spread(at);
            } else if self.is_unused(uplink) {
                self.tell_link(at, |link| link.end(End::Done));
            }
        }
    }

    /// The file no longer has the node.
    pub(super) fn is_removed(&self, node: usize) -> bool {
        !self.node_order.contains(&node)
    }

    /// Something is to be done at a pace.
    pub(super) fn has_paced_work(&self) -> bool {
        self.draining.is_some()
            || self.links.iter().flatten().any(|uplink| uplink.is_over() || self.is_to_spread(uplink))
    }

    fn shed_lost(&mut self, at: usize) {
        for _ in 0..SHED {
            let keeps_pace = self.pace.take();
            let Some(Some(Uplink { link: Some(link), .. })) = self.links.get_mut(at).filter(|_| keeps_pace)
            else {
                return;
            };
            let Some(stream) = link.poll_lost() else {
                self.links[at] = None;
                return;
            };
            if let Some(slot) = self.client_of(at, stream) {
                self.lose_client(slot);
            }
        }
    }

    fn lose_client(&mut self, slot: u32) {
        if self.keep(slot) {
            return;
        }
        let Some(client) = self.clients.get_mut(slot) else { return };
        client.stream = NO_STREAM;
        client.phase = Phase::Leaving;
        self.leave(slot);
    }

    /// Its node wants its clients to go, and there is another for them.
    fn is_to_spread(&self, uplink: &Uplink) -> bool {
        let is_other = |other: &&Uplink| {
            other.node != uplink.node && !other.is_leaving && other.is_up() && !self.is_removed(other.node)
        };
        (uplink.is_leaving || self.is_removed(uplink.node))
            && uplink.streams() > 0
            && self.links.iter().flatten().any(|other| is_other(&other))
    }

    /// It has done its work.
    fn is_unused(&self, uplink: &Uplink) -> bool {
        (uplink.is_leaving || self.is_removed(uplink.node)) && uplink.streams() == 0 && uplink.is_up()
    }

    fn spread(&mut self, at: usize) {
        let is_early = self
            .links
            .get(at)
            .is_some_and(|uplink| uplink.as_ref().is_some_and(|uplink| self.now < uplink.spread_from));
        while !is_early && self.pace.take() {
            let next = self.links.get_mut(at).and_then(|uplink| uplink.as_mut()?.next_to_spread());
            match next {
                Some(slot) if self.keep(slot) => {}
                Some(slot) => self.ask_to_go(slot),
                None => return,
            }
        }
    }

    /// The node is told that the client sends no more, so that it says what it has to say and takes leave; it has a while for
    /// that.
    pub(super) fn ask_to_go(&mut self, slot: u32) {
        let Some(key) = self.clients.key(slot) else { return };
        let Some(client) = self.clients.get_mut(slot) else { return };
        if client.phase == Phase::Carried && !client.is(Flags::ASKED_TO_GO) {
            client.set(Flags::ASKED_TO_GO, true);
            let (stream, link) = (client.stream, usize::from(client.link));
            self.set_timer(key, Timer::Go, LINGER);
            self.tell_link(link, |link| link.close(stream, Reason::Eof));
        } else if client.phase != Phase::Carried && client.phase != Phase::Leaving {
            self.leave(slot);
        }
    }

    /// Registers a link's new socket.
    pub(super) fn watch_link(&self, at: usize) -> std::io::Result<()> {
        match self.links.get(at).and_then(|uplink| uplink.as_ref()?.socket()) {
            Some(socket) => self.watch(socket, Source::Link(at)),
            None => Ok(()),
        }
    }
}
