//! A shard and its thread: accepts, reads, flushes, and keeps deadlines.

use crate::clock::Tick;
use crate::connection::{Connection, Cx, Fate, Readiness};
use crate::host::{Event, Host, Notice, Owned, Sink};
use crate::id::ListenerId;
use crate::listener::{Listener, Mode};
use crate::session::BoshSession;
use crate::slab::{Slab, Slot};
use crate::system::System;
use crate::wheel::Wheel;
use mio::{Events, Poll, Registry, Token, Waker};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const WAKER: Token = Token(usize::MAX);
const EVENTS: usize = 1024;
/// One for all connections of the thread: an idle connection has no buffer.
const READ_BUFFER: usize = 64 * 1024;
/// Connections accepted at a turn; then others have theirs.
const ACCEPTS_A_TURN: usize = 64;
/// How often a paused listener tries again by itself.
const PAUSE: Duration = Duration::from_secs(1);

/// What other threads want of a reactor. Bounded: a connection or session is in a mailbox once at most, and a
/// listener once for each connection that closed since the reactor looked.
pub(crate) enum Mail {
    /// This slot's connection has something to do.
    Look(u32),
    /// This slot's session has something to do, or a deadline that the wheel does not know.
    Session(u32),
    /// There may be room for this listener's connections again.
    Accept(ListenerId),
}

/// What other threads can reach of a reactor.
pub(crate) struct Shard<H: Host> {
    pub(crate) slab: Slab<Connection<H>>,
    pub(crate) sessions: Slab<BoshSession<H>>,
    pub(crate) registry: Registry,
    waker: Waker,
    mailbox: Mutex<Vec<Mail>>,
}

impl<H: Host> Shard<H> {
    pub(crate) const BYTES_PER_SLOT: usize = size_of::<Mutex<Slot<Connection<H>>>>();
    pub(crate) const BYTES_PER_SESSION: usize = size_of::<Mutex<Slot<BoshSession<H>>>>();

    pub(crate) fn new(index: usize, registry: &Registry) -> std::io::Result<Self> {
        Ok(Self {
            slab: Slab::new(index),
            sessions: Slab::new(index),
            registry: registry.try_clone()?,
            waker: Waker::new(registry, WAKER)?,
            mailbox: Mutex::default(),
        })
    }

    pub(crate) fn post(&self, mail: Mail) {
        let was_empty = {
            let mut mailbox = self.mailbox.lock();
            mailbox.push(mail);
            mailbox.len() == 1
        };
        if was_empty {
            // Fails only when an eventfd can't be written, which would be a bug of the kernel.
            let _ = self.waker.wake();
        }
    }
}

/// The thread's own part.
pub(crate) struct Reactor<H: Host> {
    system: Arc<System<H>>,
    index: usize,
    poll: Poll,
    wheel: Wheel,
    sink: Box<dyn Sink<H>>,
    buffer: Box<[u8]>,
    /// Connections that were not done at their turn.
    again: Vec<u32>,
    /// Listeners that have more to accept.
    accept_again: Vec<ListenerId>,
    /// Listeners that wait for room, and when to try again.
    paused: Vec<ListenerId>,
    retry_at: Tick,
}

impl<H: Host> Reactor<H> {
    /// In the wheel: a session's slot and not a connection's.
    const SESSION: u32 = 1 << 31;
    /// Tokens from here on are listeners, below are slots.
    pub(crate) const LISTENERS: usize = 1 << 32;

    pub(crate) fn new(system: Arc<System<H>>, index: usize, poll: Poll) -> Self {
        Self {
            wheel: Wheel::new(system.now()),
            sink: system.host().thread_sink(),
            system,
            index,
            poll,
            buffer: vec![0; READ_BUFFER].into(),
            again: Vec::new(),
            accept_again: Vec::new(),
            paused: Vec::new(),
            retry_at: 0,
        }
    }

    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            // A panic between connections must not end the thread: every connection of the shard needs it.
            if catch_unwind(AssertUnwindSafe(|| self.turn(&mut events))).is_err() {
                self.sink.emit(Event::Notice(Notice::Panicked { conn: None }));
            }
        }
    }

    fn turn(&mut self, events: &mut Events) {
        let timeout = self.timeout();
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            // Nothing but a bug can make epoll_wait fail; without this it would be a busy one.
            std::thread::sleep(PAUSE);
        }
        for event in events.iter() {
            match event.token() {
                WAKER => {}
                Token(token) if token >= Self::LISTENERS => {
                    self.accept_again.push(ListenerId((token - Self::LISTENERS) as u32));
                }
                Token(slot) => {
                    let ready = Readiness {
                        readable: event.is_readable() || event.is_error(),
                        writable: event.is_writable(),
                        hung_up: event.is_read_closed() || event.is_error(),
                    };
                    self.serve(slot as u32, ready);
                }
            }
        }
        self.read_mail();
        for slot in std::mem::take(&mut self.again) {
            self.serve(slot, Readiness::default());
        }
        self.fire();
        self.accept_all();
    }

    fn timeout(&mut self) -> Option<Duration> {
        if !self.again.is_empty() || !self.accept_again.is_empty() {
            return Some(Duration::ZERO);
        }
        let sleep = self.wheel.sleep(self.system.now());
        if self.paused.is_empty() { sleep } else { Some(sleep.map_or(PAUSE, |sleep| sleep.min(PAUSE))) }
    }

    fn read_mail(&mut self) {
        let mail = std::mem::take(&mut *self.system.shards[self.index].mailbox.lock());
        for item in mail {
            match item {
                Mail::Look(slot) => self.again.push(slot),
                Mail::Session(slot) => self.serve_session(slot, |session, cx| session.serve(cx)),
                Mail::Accept(id) => {
                    if !self.accept_again.contains(&id) {
                        self.accept_again.push(id);
                    }
                }
            }
        }
    }

    /// Serves one connection. Its panic is its own end and nobody else's.
    fn serve(&mut self, slot: u32, ready: Readiness) {
        let served = catch_unwind(AssertUnwindSafe(|| {
            self.step(slot, |connection, cx, buffer| connection.serve(cx, ready, buffer));
        }));
        if served.is_err() {
            self.bury(slot);
        }
    }

    fn step(&mut self, slot: u32, step: impl FnOnce(&mut Connection<H>, &mut Cx<'_, H>, &mut [u8]) -> Fate) {
        let shard = &self.system.shards[self.index];
        let Some(mut guard) = shard.slab.lock_slot(slot) else { return };
        let conn = shard.slab.id(slot, &guard);
        let mut effects = Vec::new();
        let mut cx = Cx { system: &self.system, conn, sink: &mut *self.sink, effects: &mut effects };
        #[cfg(feature = "fault-injection")]
        self.system.panic_if_asked(Owned::Connection(conn));
        let Some(connection) = guard.value() else { return };
        let fate = step(connection, &mut cx, &mut self.buffer);
        if fate != Fate::Gone
            && let Some(deadline) = connection.timer_wanted()
        {
            connection.timer_set(self.wheel.insert(slot, deadline));
        }
        guard.set_generation(cx.conn);
        match fate {
            Fate::Keep => drop(guard),
            Fate::Look => {
                self.again.push(slot);
                drop(guard);
            }
            Fate::Gone => self.system.release(shard, slot, guard, &mut cx),
        }
        self.system.carry_out(effects, &mut *self.sink);
    }

    /// A step of a session. Its panic is its own end.
    fn serve_session(&mut self, slot: u32, step: impl FnOnce(&mut BoshSession<H>, &mut Cx<'_, H>) -> Fate) {
        let shard = &self.system.shards[self.index];
        let Some(mut guard) = shard.sessions.lock_slot(slot) else { return };
        let id = shard.sessions.id(slot, &guard);
        let mut effects = Vec::new();
        let mut cx = Cx { system: &self.system, conn: id, sink: &mut *self.sink, effects: &mut effects };
        let Some(session) = guard.value() else { return };
        let fate = catch_unwind(AssertUnwindSafe(|| step(session, &mut cx)));
        if let Ok(fate) = fate
            && fate != Fate::Gone
        {
            if let Some(deadline) = session.timer_wanted() {
                session.timer_set(self.wheel.insert(slot | Self::SESSION, deadline));
            }
            drop(guard);
        } else if fate.is_ok() {
            self.system.forget_session(shard, guard, &mut cx);
        } else {
            drop(guard);
            self.system.bury(Owned::Session(id), &mut *self.sink, &mut effects);
        }
        self.system.carry_out(effects, &mut *self.sink);
    }

    fn bury(&mut self, slot: u32) {
        let shard = &self.system.shards[self.index];
        let Some(conn) = shard.slab.lock_slot(slot).map(|guard| shard.slab.id(slot, &guard)) else { return };
        let mut effects = Vec::new();
        self.system.bury(Owned::Connection(conn), &mut *self.sink, &mut effects);
        self.system.carry_out(effects, &mut *self.sink);
    }

    fn fire(&mut self) {
        let mut due = Vec::new();
        self.wheel.advance(self.system.now(), |_, slot, tick| due.push((slot, tick)));
        for (slot, tick) in due {
            if slot & Self::SESSION != 0 {
                self.serve_session(slot & !Self::SESSION, |session, cx| {
                    if session.timer_fired(tick) { session.timed_out(cx) } else { Fate::Keep }
                });
                continue;
            }
            let fired = catch_unwind(AssertUnwindSafe(|| {
                self.step(slot, |connection, cx, _| {
                    if connection.timer_fired(tick) { connection.timed_out(cx) } else { Fate::Keep }
                });
            }));
            if fired.is_err() {
                self.bury(slot);
            }
        }
    }

    fn accept_all(&mut self) {
        let now = self.system.now();
        if !self.paused.is_empty() && now >= self.retry_at {
            self.accept_again.extend(self.paused.iter().copied());
        }
        for id in std::mem::take(&mut self.accept_again) {
            let Some(listener) = self.system.listener(id) else {
                self.paused.retain(|paused| *paused != id);
                continue;
            };
            self.system.wake_acceptor(&listener, &mut *self.sink);
            match self.accept(&listener) {
                Accepted::All => self.resume(&listener),
                Accepted::More => {
                    self.resume(&listener);
                    self.accept_again.push(id);
                }
                Accepted::Full => self.pause(&listener, Pause::Quietly),
                Accepted::NoRoom(error) => self.pause(&listener, Pause::Because(error)),
                Accepted::Failed(error) => {
                    self.system.notices().accept_failed(&mut *self.sink, id, error);
                    self.pause(&listener, Pause::Quietly);
                }
            }
        }
    }

    fn accept(&mut self, listener: &Arc<Listener<H>>) -> Accepted {
        for _ in 0..ACCEPTS_A_TURN {
            let is_queue_full = listener.config.mode == Mode::Accept
                && listener.queue.lock().ready.len() >= Listener::<H>::MAX_QUEUED;
            if is_queue_full {
                return Accepted::Full;
            }
            if !self.system.has_room() {
                return Accepted::NoRoom(None);
            }
            let accepted = match &*listener.fd.lock() {
                Some(fd) => rustix::net::accept_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC),
                None => return Accepted::All,
            };
            match accepted {
                Ok(fd) => self.system.adopt(fd, listener, &mut *self.sink),
                Err(Errno::AGAIN) => return Accepted::All,
                // What is wrong with a connection that is gone before it was accepted: see accept(2).
                Err(
                    Errno::INTR
                    | Errno::CONNABORTED
                    | Errno::NETDOWN
                    | Errno::PROTO
                    | Errno::NOPROTOOPT
                    | Errno::HOSTDOWN
                    | Errno::NONET
                    | Errno::HOSTUNREACH
                    | Errno::NETUNREACH
                    | Errno::OPNOTSUPP,
                ) => {}
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    return Accepted::NoRoom(Some(error));
                }
                Err(error) => return Accepted::Failed(error),
            }
        }
        Accepted::More
    }

    fn pause(&mut self, listener: &Arc<Listener<H>>, pause: Pause) {
        self.retry_at = self.system.deadline(PAUSE);
        if !self.paused.contains(&listener.id) {
            self.paused.push(listener.id);
        }
        listener.is_paused.store(true, Ordering::Relaxed);
        if let Pause::Because(error) = pause {
            let is_new = !listener.is_short.swap(true, Ordering::Relaxed);
            let connections = self.system.count();
            self.system.notices().paused(&mut *self.sink, listener.id, is_new, connections, error);
        }
    }

    fn resume(&mut self, listener: &Arc<Listener<H>>) {
        if !listener.is_paused.swap(false, Ordering::Relaxed) {
            return;
        }
        self.paused.retain(|id| *id != listener.id);
        if listener.is_short.swap(false, Ordering::Relaxed) {
            self.system.notices().resumed(&mut *self.sink, listener.id);
        }
    }
}

enum Accepted {
    All,
    More,
    /// The queue of those that wait for an `accept`.
    Full,
    /// For want of descriptors, of memory, or (none) by the bound on connections.
    NoRoom(Option<Errno>),
    Failed(Errno),
}

enum Pause {
    Quietly,
    Because(Option<Errno>),
}
