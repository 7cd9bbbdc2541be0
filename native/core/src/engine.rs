//! The shards, and steps on their entries: one step function, one panic path and one lock protocol for connections and
//! sessions, on a reactor's thread and on any other.

use crate::connection::Connection;
use crate::cx::{Cx, Fate};
use crate::effect::{Creation, Effect, Ticket};
use crate::entry::Entry;
use crate::error::Error;
use crate::host::{Event, Host, Notice, Owned, Sink};
use crate::id::Conn;
use crate::link_registry::LinkRegistry;
use crate::listener::Listener;
use crate::mailbox::Mail;
use crate::session::BoshSession;
use crate::shard::Shard;
use crate::shared::Shared;
use crate::sid::{Secret, Sid};
use crate::store::{Guard, Pending, Store};
use megaphone_proto::bosh::Condition;
use megaphone_proto::time::Time;
use parking_lot::RwLock;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// All but the threads.
pub(crate) struct Engine<H: Host> {
    pub(crate) shared: Shared<H>,
    pub(crate) shards: Box<[Shard<H>]>,
    pub(crate) listeners: RwLock<HashMap<u32, Arc<Listener<H>>>>,
    /// Listeners that streams of links may ask for.
    pub(crate) named: RwLock<HashMap<String, Arc<Listener<H>>>>,
    pub(crate) links: LinkRegistry,
    pub(crate) next_listener: AtomicUsize,
    pub(crate) next_shard: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    /// Those of them that are sockets.
    pub(crate) sockets: AtomicUsize,
    pub(crate) sessions: AtomicUsize,
    pub(crate) max_connections: AtomicUsize,
    /// The most streams that a link of any link listener may have.
    pub(crate) max_streams: AtomicUsize,
    /// A connection whose descriptor is this or above is the last for now: what is left is the node's.
    pub(crate) max_descriptor: AtomicUsize,
    /// There was one.
    pub(crate) is_short_of_descriptors: AtomicBool,
    /// Connections that may be accepted before the host has counted its processes again.
    pub(crate) process_room: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    #[cfg(feature = "fault-injection")]
    pub(crate) faults: crate::faults::Faults,
}

/// An entry whose store is known.
pub(crate) trait Stored<H: Host>: Entry<H> {
    fn store(shard: &Shard<H>) -> &Store<Self>;

    /// Before the slot is free: the kernel forgets the descriptor, so that nothing of it reaches the next entry.
    fn unregister(&self, shard: &Shard<H>);

    /// It has been taken out.
    fn retire(self, engine: &Engine<H>);
}

impl<H: Host> Stored<H> for Connection<H> {
    fn store(shard: &Shard<H>) -> &Store<Self> {
        &shard.connections
    }

    fn unregister(&self, shard: &Shard<H>) {
        self.transport().never_block_on_close();
        // Explicitly: a sendfile may hold another descriptor of the same socket.
        if let Some(fd) = self.transport().carrier.socket() {
            shard.unwatch(fd);
        }
    }

    fn retire(self, engine: &Engine<H>) {
        let listener = self.transport().listener.listener();
        let is_socket = self.transport().carrier.socket().is_some();
        drop(self);
        engine.connections.fetch_sub(1, Ordering::Relaxed);
        engine.sockets.fetch_sub(usize::from(is_socket), Ordering::Relaxed);
        if listener.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            engine.forget_if_done(&listener);
        }
        engine.resume_accepting();
    }
}

impl<H: Host> Stored<H> for BoshSession<H> {
    fn store(shard: &Shard<H>) -> &Store<Self> {
        &shard.sessions
    }

    fn unregister(&self, _shard: &Shard<H>) {}

    fn retire(self, engine: &Engine<H>) {
        engine.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<H: Host> Engine<H> {
    /// A step on an entry, and what it has to do elsewhere.
    pub(crate) fn with<T: Stored<H>, R>(
        &self,
        id: Conn,
        sink: &mut dyn Sink<H>,
        step: impl FnOnce(&mut T, &mut Cx<'_, H>) -> (R, Fate),
    ) -> Result<R, Error> {
        let mut effects = Vec::new();
        let out = self.step(id, sink, &mut effects, step);
        self.carry_out(effects, sink);
        out.map_err(|_| Error::Closed)
    }

    /// Leaves to the caller what is to be done elsewhere. A panic ends the entry.
    pub(crate) fn step<T: Stored<H>, R>(
        &self,
        id: Conn,
        sink: &mut dyn Sink<H>,
        effects: &mut Vec<Effect<H>>,
        step: impl FnOnce(&mut T, &mut Cx<'_, H>) -> (R, Fate),
    ) -> Result<R, Failed> {
        let shard = self.shards.get(id.shard()).ok_or(Failed::Gone)?;
        let guard = T::store(shard).lock(id).ok_or(Failed::Gone)?;
        let mut cx = Cx { shared: &self.shared, conn: id, sink, effects };
        let (out, fate) = self.step_locked(shard, guard, &mut cx, step)?;
        if fate == Fate::Look {
            T::store(shard).notify(id.slot(), Pending::LOOK);
        }
        Ok(out)
    }

    /// A step with the lock held, which is released here. The fate is never `Gone`; it is `Look` as well when the wheel
    /// has to be told.
    pub(crate) fn step_locked<T: Stored<H>, R>(
        &self,
        shard: &Shard<H>,
        mut guard: Guard<'_, T>,
        cx: &mut Cx<'_, H>,
        step: impl FnOnce(&mut T, &mut Cx<'_, H>) -> (R, Fate),
    ) -> Result<(R, Fate), Failed> {
        let Some(entry) = guard.entry() else { return Err(Failed::Gone) };
        let owned = T::owned(cx.conn);
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            self.panic_if_asked(owned);
            step(entry, cx)
        }));
        let Ok((out, fate)) = stepped else {
            self.bury(shard, guard, cx);
            return Err(Failed::Panicked);
        };
        let wants_timer = entry.timer_wanted().is_some();
        guard.set_generation(cx.conn);
        match fate {
            Fate::Gone => {
                self.release(shard, guard, cx);
                Ok((out, Fate::Keep))
            }
            fate => Ok((out, if wants_timer { Fate::Look } else { fate })),
        }
    }

    /// For what changes nothing that the reactor or others would have to know.
    pub(crate) fn peek<T: Stored<H>, R>(&self, id: Conn, look: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        let shard = self.shards.get(id.shard()).ok_or(Error::Closed)?;
        let mut guard = T::store(shard).lock(id).ok_or(Error::Closed)?;
        guard.entry().map(look).ok_or(Error::Closed)
    }

    /// Frees an entry's slot.
    fn release<T: Stored<H>>(&self, shard: &Shard<H>, mut guard: Guard<'_, T>, cx: &mut Cx<'_, H>) {
        if let Some(entry) = guard.entry() {
            entry.detach(cx);
            entry.unregister(shard);
        }
        guard.set_generation(cx.conn);
        if let Some(entry) = guard.remove() {
            entry.retire(self);
        }
    }

    /// Ends what a panic has left in an unknown state. It may panic again: then some may not hear of its end, and its slot
    /// is free all the same.
    fn bury<T: Stored<H>>(&self, shard: &Shard<H>, mut guard: Guard<'_, T>, cx: &mut Cx<'_, H>) {
        let owned = T::owned(cx.conn);
        let conn = match owned {
            Owned::Connection(conn) => Some(conn),
            Owned::Session(_) | Owned::Listener(_) => None,
        };
        cx.sink.emit(Event::Notice(Notice::Panicked { conn }));
        if let Some(entry) = guard.entry() {
            let told = catch_unwind(AssertUnwindSafe(|| {
                self.panic_if_asked(owned);
                let _gone = entry.abort(cx);
            }));
            let detached = catch_unwind(AssertUnwindSafe(|| entry.detach(cx)));
            if told.is_err() || detached.is_err() {
                cx.sink.emit(Event::Notice(Notice::Panicked { conn }));
            }
            entry.unregister(shard);
        }
        if let Some(entry) = guard.remove() {
            entry.retire(self);
        }
    }

    /// Does what steps have left to do, and what follows from that. Holds one lock at a time.
    pub(crate) fn carry_out(&self, effects: Vec<Effect<H>>, sink: &mut dyn Sink<H>) {
        if effects.is_empty() {
            return;
        }
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            let mut more = Vec::new();
            let asks_for = effect.asks_for();
            // Whoever reads or sends on another connection is not to suffer from it.
            let done = catch_unwind(AssertUnwindSafe(|| self.carry_out_one(effect, sink, &mut more)));
            if done.is_err() {
                sink.emit(Event::Notice(Notice::Panicked { conn: None }));
                more.extend(asks_for.map(|ticket| Effect::terminal(ticket, Condition::InternalServerError)));
            }
            queue.extend(more);
        }
    }

    /// Those that closed meanwhile are no loss.
    fn carry_out_one(&self, effect: Effect<H>, sink: &mut dyn Sink<H>, more: &mut Vec<Effect<H>>) {
        match effect {
            Effect::Create(creation) => self.create_session(*creation, sink, more),
            Effect::Request { session, arrival } => {
                let ticket = arrival.ticket;
                let taken = self.step(session, sink, more, |session: &mut BoshSession<H>, cx| {
                    ((), session.request(cx, arrival))
                });
                more.extend(taken.err().map(|why| Effect::terminal(ticket, why.condition())));
            }
            Effect::Lost { session, ticket } => self.lost(session, ticket, sink, more),
            Effect::HalfClosed { session, ticket } => {
                let _ = self.step(session, sink, more, |session: &mut BoshSession<H>, cx| {
                    ((), session.half_closed(cx, ticket))
                });
            }
            Effect::Respond { ticket, body, content_type } => {
                let _ = self.step(ticket.conn, sink, more, |connection: &mut Connection<H>, cx| {
                    ((), connection.respond(cx, ticket, content_type.as_deref(), &body))
                });
            }
        }
    }

    fn lost(&self, session: Conn, ticket: Ticket, sink: &mut dyn Sink<H>, more: &mut Vec<Effect<H>>) {
        let _ =
            self.step(session, sink, more, |session: &mut BoshSession<H>, cx| ((), session.lost(cx, ticket)));
    }

    fn create_session(&self, creation: Creation<H>, sink: &mut dyn Sink<H>, more: &mut Vec<Effect<H>>) {
        let ticket = creation.ticket;
        let listener = Arc::clone(&creation.listener);
        let shard = &self.shards[ticket.conn.shard()];
        let secret = if self.has_room_for_session() { Secret::new().ok() } else { None };
        let made = secret.and_then(|secret| {
            shard.sessions.insert(|id| {
                let sid = Sid::new(self.shared.sid_tag, id, secret);
                BoshSession::new(creation, sid, self.now()).ok()
            })
        });
        let Some((id, guard)) = made else {
            more.push(Effect::terminal(ticket, Condition::InternalServerError));
            return;
        };
        drop(guard);
        self.sessions.fetch_add(1, Ordering::Relaxed);
        // First of all: from here on the session is told when its connection is lost.
        let held = self.step(ticket.conn, sink, more, |connection: &mut Connection<H>, _| {
            connection.held_by(ticket.number, id)
        });
        // The starter is read with the lock held: whoever replaces it looks at this session before or after.
        let begun = self.step(id, sink, more, |session: &mut BoshSession<H>, cx| {
            let starter = *listener.starter.read();
            ((), session.begin(cx, starter))
        });
        if held != Ok(true) && begun.is_ok() {
            self.lost(id, ticket, sink, more);
        }
    }

    /// A session outlives its connections, so that their bounds alone would not be one.
    fn has_room_for_session(&self) -> bool {
        let [sessions, sockets, streams] = [&self.sessions, &self.max_connections, &self.max_streams]
            .map(|number| number.load(Ordering::Relaxed));
        sessions < sockets.saturating_add(streams)
    }

    pub(crate) fn now(&self) -> Time {
        self.shared.now()
    }

    // --- listeners, as far as their connections go

    /// A closed listener without connections, where nobody waits for one, is no more.
    pub(crate) fn forget_if_done(&self, listener: &Arc<Listener<H>>) {
        let is_closed = listener.fd.lock().is_none();
        if is_closed && listener.connections.load(Ordering::Relaxed) == 0 && !listener.is_awaited() {
            self.listeners.write().remove(&listener.id.0);
        }
    }

    pub(crate) fn resume_accepting(&self) {
        if self.shared.notices.is_paused() {
            self.retry_accepting();
        }
    }

    /// Every paused listener looks again.
    pub(crate) fn retry_accepting(&self) {
        for listener in self.listeners.read().values() {
            if listener.is_paused.load(Ordering::Relaxed) {
                self.shards[listener.shard].mailbox.post(Mail::Accept(listener.id));
            }
        }
    }

    #[cfg(feature = "fault-injection")]
    fn panic_if_asked(&self, place: Owned) {
        self.faults.panic_if_asked(place);
    }

    #[cfg(not(feature = "fault-injection"))]
    #[allow(clippy::unused_self, reason = "faults are a test's")]
    fn panic_if_asked(&self, _place: Owned) {}
}

/// Why a step came to nothing. The entry is gone in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It was before.
    Gone,
    Panicked,
}

impl Failed {
    /// What a client is told whose request was for that session.
    fn condition(self) -> Condition {
        match self {
            Self::Gone => Condition::ItemNotFound,
            Self::Panicked => Condition::InternalServerError,
        }
    }
}
