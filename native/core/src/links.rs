//! A reactor's links to connection managers, and the connections that are to become links'.
//!
//! A link and the connections of its streams are of one shard, so that what it brings for a connection is a pending bit of a slot,
//! as what the kernel says is. Nothing here is locked: a link's machine, its socket and its streams are its reactor's alone.
//! Each turn first takes what the links have brought, then has connections served, and then sends what all of them have written.

mod member;
pub(crate) mod streams;
mod turn;

use crate::acceptor::{Accepted, accept_one};
use crate::engine::Engine;
use crate::handshake::{Arrival, Handshake, Progress};
use crate::host::{Event, Host, Notice, Sink};
use crate::id::ListenerId;
use crate::link_registry::{LinkInfo, LinkRecord, Stage};
use crate::listener::Listener;
use crate::mailbox::Place;
use megaphone_proto::link::{Failure, Refusal, Request};
use megaphone_proto::time::Time;
use member::Member;
use mio::{Interest, Token};
use parking_lot::Mutex;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use turn::Turn;

pub(crate) use turn::LINKS;

/// Tokens from here on are handshakes, and before that links.
const HANDSHAKES: usize = 1 << 34;
/// Bytes that are read of a link at a visit, while there are links.
const READ_BUFFER: usize = 64 * 1024;
/// Connections accepted at a turn.
const ACCEPTS_A_TURN: usize = 16;

pub(crate) struct Links<H: Host> {
    engine: Arc<Engine<H>>,
    index: usize,
    members: Vec<Option<Member<H>>>,
    handshakes: Vec<Option<Handshake<H>>>,
    /// How many have begun.
    begun: u64,
    /// Whose visit is the first of the next turn.
    first: usize,
    /// Arrivals, or a listener's wish.
    has_mail: bool,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

/// What the reactor lends for a turn.
pub(crate) struct Lent<'a, H: Host> {
    pub(crate) sink: &'a mut dyn Sink<H>,
    pub(crate) fresh: &'a mut VecDeque<Place>,
    pub(crate) end: Instant,
}

impl<H: Host> Links<H> {
    pub(crate) fn new(engine: Arc<Engine<H>>, index: usize) -> Self {
        Self {
            engine,
            index,
            members: Vec::new(),
            handshakes: Vec::new(),
            begun: 0,
            first: 0,
            has_mail: false,
            buffer: Vec::new(),
            scratch: Vec::new(),
        }
    }

    // --- what there is to do

    /// There is something new, or somebody has something to send.
    pub(crate) fn notify(&mut self) {
        self.has_mail = true;
    }

    /// The kernel has something to say of a link or a handshake.
    pub(crate) fn ready(&mut self, event: &mio::event::Event, sink: &mut dyn Sink<H>) {
        let Token(token) = event.token();
        if token >= HANDSHAKES {
            return self.advance(token - HANDSHAKES, sink);
        }
        if let Some(Some(member)) = self.members.get_mut(token - LINKS) {
            let is_hung_up = event.is_read_closed() || event.is_error();
            member.note(event.is_readable() || is_hung_up, event.is_writable() || is_hung_up, is_hung_up);
        }
    }

    /// When there is something to do without an event.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let handshakes = self.handshakes.iter().flatten().filter_map(Handshake::deadline);
        self.members.iter().flatten().filter_map(Member::deadline).chain(handshakes).min()
    }

    /// The reactor would sleep. False when there is something to do.
    pub(crate) fn may_sleep(&self) -> bool {
        !self.has_mail && self.members.iter().flatten().all(Member::may_sleep)
    }

    // --- doing it

    /// Takes what has come: new connections, deadlines, and what the links have brought.
    pub(crate) fn receive(&mut self, lent: Lent<'_, H>) {
        if self.members.is_empty() && self.handshakes.is_empty() && !self.has_mail {
            return;
        }
        let engine = Arc::clone(&self.engine);
        let (index, now) = (self.index, self.engine.now());
        let Lent { sink, fresh, end } = lent;
        self.expire(now, sink);
        self.members.iter().flatten().for_each(Member::attend);
        let turn = &mut Turn { engine: &engine, index, sink, fresh, now, end };
        if std::mem::take(&mut self.has_mail) {
            for arrival in turn.shard().take_arrivals() {
                self.arrive(arrival, turn);
            }
            self.members.iter_mut().flatten().for_each(|member| member.look_at_gate(turn));
        }
        self.members.iter_mut().flatten().for_each(|member| member.handle_timeout(turn));
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(if self.members.is_empty() { 0 } else { READ_BUFFER }, 0);
        self.visit(turn, Member::has_input, |member, turn| {
            member.receive(turn, &mut buffer);
            true
        });
        self.buffer = buffer;
    }

    /// Sends what streams have written.
    pub(crate) fn send(&mut self, lent: Lent<'_, H>) {
        if self.members.is_empty() {
            return;
        }
        let engine = Arc::clone(&self.engine);
        let Lent { sink, fresh, end } = lent;
        let turn = &mut Turn { engine: &engine, index: self.index, sink, fresh, now: engine.now(), end };
        let mut scratch = std::mem::take(&mut self.scratch);
        self.visit(turn, Member::has_output, |member, turn| member.send(turn, &mut scratch));
        self.scratch = scratch;
        while self.members.pop_if(|last| last.is_none()).is_some() {}
        if self.members.is_empty() {
            (self.buffer, self.scratch) = (Vec::new(), Vec::new());
        }
        self.first = self.first.wrapping_add(1);
    }

    /// One visit to each link with something to do, as many as there is time for and one at least; the next turn begins with
    /// another one. One of which nothing is left is forgotten.
    fn visit(
        &mut self,
        turn: &mut Turn<'_, H>,
        is_due: impl Fn(&Member<H>) -> bool,
        mut visit: impl FnMut(&mut Member<H>, &mut Turn<'_, H>) -> bool,
    ) {
        let count = self.members.len();
        for at in 0..count {
            let place = (at + self.first % count) % count;
            let Some(member) = self.members[place].as_mut().filter(|member| is_due(member)) else { continue };
            let visited = catch_unwind(AssertUnwindSafe(|| visit(member, turn)));
            if visited.is_err() {
                turn.sink.emit(Event::Notice(Notice::Panicked { conn: None }));
                member.give_up(turn);
            } else if visited.is_ok_and(|is_left| !is_left)
                && let Some(member) = self.members[place].take()
            {
                member.retire(turn);
            }
            if turn.is_over() {
                return;
            }
        }
    }

    // --- connections that are no link's yet

    pub(crate) fn accept(&mut self, listener: &Arc<Listener<H>>, sink: &mut dyn Sink<H>) -> Accepted {
        let Some(gate) = &listener.gate else { return Accepted::All };
        for _ in 0..ACCEPTS_A_TURN {
            match accept_one(listener) {
                Ok(Some(socket)) => {
                    self.make_room(listener.id, gate.config.max_handshakes, sink);
                    if let Err(error) = self.begin(socket, listener, sink) {
                        return Accepted::Unwatched(error);
                    }
                }
                Ok(None) => {}
                Err(end) => return end,
            }
        }
        Accepted::More
    }

    /// The oldest gives way. One who knows the secret needs a moment; so silent connections keep nobody out.
    fn make_room(&mut self, listener: ListenerId, max_handshakes: usize, sink: &mut dyn Sink<H>) {
        let of_listener = |(place, handshake): (usize, &Option<Handshake<H>>)| {
            let handshake = handshake.as_ref().filter(|handshake| handshake.listener.id == listener)?;
            Some((handshake.number, place))
        };
        let places: Vec<(u64, usize)> = self.handshakes.iter().enumerate().filter_map(of_listener).collect();
        if places.len() >= max_handshakes.max(1)
            && let Some((_, oldest)) = places.into_iter().min()
            && let Some(handshake) = self.take(oldest)
        {
            self.tell_refused((listener, handshake.peer), Failure::Timeout, sink);
        }
    }

    fn begin(
        &mut self,
        socket: OwnedFd,
        listener: &Arc<Listener<H>>,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Errno> {
        let Some(gate) = &listener.gate else { return Ok(()) };
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|_| Errno::AGAIN)?;
        let config = (Arc::clone(listener), Arc::clone(&gate.config.link));
        self.begun += 1;
        let handshake = Handshake::new(config, (socket, self.begun), nonce, self.engine.now());
        let fd = handshake.socket.as_raw_fd();
        let place = put(&mut self.handshakes, handshake);
        let (token, interest) = (Token(HANDSHAKES + place), Interest::READABLE | Interest::WRITABLE);
        if let Err(error) = self.engine.shards[self.index].watch(fd, token, interest) {
            self.handshakes[place] = None;
            return Err(error);
        }
        self.advance(place, sink);
        Ok(())
    }

    fn advance(&mut self, place: usize, sink: &mut dyn Sink<H>) {
        let Some(Some(handshake)) = self.handshakes.get_mut(place) else { return };
        match handshake.advance(&mut [0; 2048]) {
            Progress::None => {}
            Progress::Failed(why) => {
                if let Some(handshake) = self.take(place)
                    && let Some(why) = why
                {
                    self.tell_refused((handshake.listener.id, handshake.peer), why, sink);
                }
            }
            Progress::Asked(request, rest) => {
                if let Some(handshake) = self.take(place) {
                    self.send_on(Arrival { handshake, request, rest }, sink);
                }
            }
        }
    }

    fn take(&mut self, place: usize) -> Option<Handshake<H>> {
        let handshake = self.handshakes.get_mut(place)?.take()?;
        while self.handshakes.pop_if(|last| last.is_none()).is_some() {}
        let shard = &self.engine.shards[self.index];
        shard.unwatch(&handshake.socket);
        Some(handshake)
    }

    fn expire(&mut self, now: Time, sink: &mut dyn Sink<H>) {
        for place in 0..self.handshakes.len() {
            if let Some(Some(handshake)) = self.handshakes.get_mut(place)
                && let Err(why) = handshake.handle_timeout(now)
                && let Some(handshake) = self.take(place)
            {
                self.tell_refused((handshake.listener.id, handshake.peer), why, sink);
            }
        }
    }

    /// To the shard of its link: the one that it resumes, or the next one.
    fn send_on(&self, arrival: Arrival<H>, sink: &mut dyn Sink<H>) {
        let whose = (arrival.handshake.listener.id, arrival.handshake.peer);
        if arrival.request.attempt > 0 && arrival.handshake.listener.fd.lock().is_none() {
            // Nobody would know the link by a listener that is closed. It comes again to one that is open.
            return;
        }
        let record = match self.record_of(&arrival) {
            Ok(record) => record,
            Err(refusal) => {
                let _ = arrival.refuse(refusal);
                return self.tell_refused(whose, Failure::Refused(refusal), sink);
            }
        };
        self.engine.shards[record.shard].send_arrival(arrival);
    }

    fn record_of(&self, arrival: &Arrival<H>) -> Result<Arc<LinkRecord>, Refusal> {
        let (listener, request) = (&arrival.handshake.listener, &arrival.request);
        let gate = listener.gate.as_ref().ok_or(Refusal::Stopping)?;
        let (registry, secret) = (&self.engine.links, &gate.config.link.secret);
        if gate.stage() == Stage::Ending {
            return Err(Refusal::Stopping);
        }
        if request.attempt > 0 {
            return registry.find(request.link, &request.peer.name, secret).ok_or(Refusal::Gone);
        }
        if listener.fd.lock().is_none() {
            return Err(Refusal::Stopping);
        }
        let shard = self.engine.next_shard.fetch_add(1, Ordering::Relaxed) % self.engine.shards.len();
        let ecm: Arc<str> = request.peer.name.as_str().into();
        let info = Mutex::new(first_info(&ecm, listener, arrival.handshake.peer, request));
        let record = LinkRecord { id: request.link, ecm, secret: secret.clone(), shard, info };
        registry.insert(record, gate.config.max_links)
    }

    /// The connection is a new link's, or that of one that is here.
    fn arrive(&mut self, arrival: Arrival<H>, turn: &mut Turn<'_, H>) {
        let (id, peer) = (arrival.handshake.listener.id, arrival.handshake.peer);
        let (link, is_new) = (arrival.request.link, arrival.request.attempt == 0);
        let member = self.members.iter_mut().flatten().find(|member| member.record().id == link);
        let outcome = match (member, is_new) {
            (Some(member), false) => member.resume(arrival, turn),
            (_, true) => self.welcome(arrival, turn),
            (None, false) => arrival.refuse(Refusal::Gone),
        };
        if let Err(refusal) = outcome {
            self.tell_refused((id, peer), Failure::Refused(refusal), turn.sink);
        }
    }

    fn welcome(&mut self, arrival: Arrival<H>, turn: &mut Turn<'_, H>) -> Result<(), Refusal> {
        let (name, id) = (&arrival.request.peer.name, arrival.request.link);
        let secret = arrival.handshake.listener.gate.as_ref().map(|gate| &gate.config.link.secret);
        let record = secret.and_then(|secret| turn.engine.links.find(id, name, secret));
        let Some(record) = record else { return arrival.refuse(Refusal::Gone) };
        let place = self.members.iter().position(Option::is_none).unwrap_or(self.members.len());
        if let Some(member) = Member::new(place, record, arrival, turn) {
            put(&mut self.members, member);
        }
        Ok(())
    }

    fn tell_refused(
        &self,
        (listener, peer): (ListenerId, Option<SocketAddr>),
        why: Failure,
        sink: &mut dyn Sink<H>,
    ) {
        self.engine.shared.notices.link(sink, Notice::LinkRefused { listener, peer, why });
    }
}

fn first_info<H: Host>(
    ecm: &Arc<str>,
    listener: &Listener<H>,
    peer: Option<SocketAddr>,
    request: &Request,
) -> LinkInfo {
    LinkInfo {
        listener: listener.id,
        id: request.link,
        ecm: Arc::clone(ecm),
        peer,
        is_connected: true,
        streams: 0,
        kept_bytes: 0,
        received: 0,
        sent: 0,
        resumed: 0,
    }
}

/// Puts something into the first place that is free.
fn put<T>(places: &mut Vec<Option<T>>, thing: T) -> usize {
    let place = places.iter().position(Option::is_none).unwrap_or(places.len());
    if place == places.len() {
        places.push(None);
    }
    places[place] = Some(thing);
    place
}
