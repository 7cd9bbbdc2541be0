//! All shards together: what other threads may ask for.

use crate::clock::{Clock, Tick};
use crate::connection::{Connection, Cx, Fate};
use crate::effect::Effect;
use crate::host::{Event, Host, Notice, Owned, Sink};
use crate::id::{Conn, ListenerId};
use crate::listener::{Acceptor, Listener, ListenerConfig, ListenerInfo, Mode};
use crate::options::{Delivery, Opt};
use crate::reactor::{Mail, Reactor, Shard};
use crate::slab::Guard;
use crate::source::{Address, Source};
use crate::stats::{ConnectionInfo, SystemStats, Traffic};
use crate::xmpp::XmppConfig;
use crate::{Error, PollOutcome, ReadOutcome, Received, SendfileOutcome, WriteOutcome};
use megaphone_proto::bosh;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use parking_lot::{Mutex, RwLock};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::Shutdown;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod calls;
mod listeners;
mod notices;
mod sessions;
mod xmpp;

pub(crate) use notices::Notices;

/// How a system is set up.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Reactor threads, 1 to 16.
    pub reactors: usize,
    /// Connections at a time; above it none is accepted. As many BOSH sessions; who wants one more is refused with
    /// internal-server-error.
    pub max_connections: usize,
}

/// Shards, their threads, and the listeners. Lives as long as the program.
pub struct System<H: Host> {
    host: H,
    clock: Clock,
    pub(crate) shards: Box<[Shard<H>]>,
    listeners: RwLock<HashMap<u32, Arc<Listener<H>>>>,
    next_listener: AtomicUsize,
    next_shard: AtomicUsize,
    connections: AtomicUsize,
    sessions: AtomicUsize,
    max_connections: AtomicUsize,
    accepted: AtomicU64,
    notices: Notices,
    xmpp_config: RwLock<Arc<XmppConfig>>,
    /// Those of the configuration, as sessions share them.
    bosh_hosts: RwLock<HashMap<Box<str>, Arc<bosh::Config>>>,
    sid_tag: u64,
    #[cfg(feature = "fault-injection")]
    panic_at: AtomicU64,
}

/// Most bytes that one `sendfile` call moves: bounds how long it keeps a thread.
const SENDFILE_BYTES: usize = 1024 * 1024;

impl<H: Host> System<H> {
    /// Starts the reactor threads, named `megaphone_tcp/0` and so on. They run until the program ends.
    pub fn start(host: H, config: Config) -> std::io::Result<Arc<Self>> {
        let reactors = config.reactors.clamp(1, Conn::MAX_SHARDS);
        let mut polls = Vec::with_capacity(reactors);
        let mut shards = Vec::with_capacity(reactors);
        for index in 0..reactors {
            let poll = mio::Poll::new()?;
            shards.push(Shard::new(index, poll.registry())?);
            polls.push(poll);
        }
        let system = Arc::new(Self {
            host,
            clock: Clock::new(),
            shards: shards.into(),
            listeners: RwLock::default(),
            next_listener: AtomicUsize::new(1),
            next_shard: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            max_connections: AtomicUsize::new(config.max_connections),
            accepted: AtomicU64::new(0),
            notices: Notices::default(),
            xmpp_config: RwLock::default(),
            bosh_hosts: RwLock::default(),
            sid_tag: getrandom::u64().map_err(std::io::Error::other)?,
            #[cfg(feature = "fault-injection")]
            panic_at: AtomicU64::new(u64::MAX),
        });
        for (index, poll) in polls.into_iter().enumerate() {
            let system = Arc::clone(&system);
            std::thread::Builder::new()
                .name(format!("megaphone_tcp/{index}"))
                .spawn(move || Reactor::new(system, index, poll).run())?;
        }
        Ok(system)
    }

    /// Changes the bound on connections and on BOSH sessions. Those above a lower one stay.
    pub fn set_max_connections(&self, max: usize) {
        self.max_connections.store(max, Ordering::Relaxed);
        self.resume_accepting();
    }

    /// The host.
    pub fn host(&self) -> &H {
        &self.host
    }

    pub(crate) fn now(&self) -> Tick {
        self.clock.now()
    }

    pub(crate) fn deadline(&self, after: Duration) -> Tick {
        self.clock.deadline(after)
    }

    pub(crate) fn notices(&self) -> &Notices {
        &self.notices
    }

    /// All connections. Takes time in proportion to their number; locks one at a time.
    pub fn connections(&self) -> Vec<Conn> {
        let mut all = Vec::with_capacity(self.connections.load(Ordering::Relaxed));
        all.extend(self.shards.iter().flat_map(|shard| shard.slab.ids()));
        all
    }

    /// The whole, as it is now.
    pub fn stats(&self) -> SystemStats {
        SystemStats {
            reactors: self.shards.len(),
            connections: self.connections.load(Ordering::Relaxed),
            sessions: self.sessions.load(Ordering::Relaxed),
            max_connections: self.max_connections.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            listeners: self.listeners.read().values().filter(|listener| listener.fd.lock().is_some()).count(),
            bytes_per_slot: Shard::<H>::BYTES_PER_SLOT,
            bytes_per_session: Shard::<H>::BYTES_PER_SESSION,
        }
    }

    /// Closes all listeners, sessions and connections, at once. The threads stay.
    pub fn close_all(&self, sink: &mut dyn Sink<H>) {
        let ids: Vec<u32> = self.listeners.read().keys().copied().collect();
        for id in ids {
            // Closed already is as good.
            let _ = self.close_listener(ListenerId(id), sink);
        }
        self.end_sessions(sink);
        for conn in self.connections() {
            let _ = self.abort(conn, sink);
        }
    }

    /// Has the reactor panic when it serves this connection next.
    #[cfg(feature = "fault-injection")]
    pub fn inject_panic(&self, conn: Conn) {
        self.panic_at.store(fault_key(Owned::Connection(conn)), Ordering::SeqCst);
        self.shards[conn.shard()].post(Mail::Look(conn.slot()));
    }

    /// The same for whoever serves this session next.
    #[cfg(feature = "fault-injection")]
    pub fn inject_session_panic(&self, id: Conn) {
        self.panic_at.store(fault_key(Owned::Session(id)), Ordering::SeqCst);
    }

    #[cfg(feature = "fault-injection")]
    pub(crate) fn panic_if_asked(&self, place: Owned) {
        let key = fault_key(place);
        let asked = self.panic_at.compare_exchange(key, u64::MAX, Ordering::SeqCst, Ordering::SeqCst);
        assert!(asked.is_err(), "a fault that a test asked for");
    }

    // Common to all of them.

    fn with<R>(
        &self,
        conn: Conn,
        sink: &mut dyn Sink<H>,
        step: impl FnOnce(&mut Connection<H>, &mut Cx<'_, H>) -> (R, Fate),
    ) -> Result<R, Error> {
        let mut effects = Vec::new();
        let out = self.step(conn, sink, &mut effects, step);
        self.carry_out(effects, sink);
        out
    }

    /// Leaves to the caller what is to be done elsewhere.
    fn step<R>(
        &self,
        conn: Conn,
        sink: &mut dyn Sink<H>,
        effects: &mut Vec<Effect<H>>,
        step: impl FnOnce(&mut Connection<H>, &mut Cx<'_, H>) -> (R, Fate),
    ) -> Result<R, Error> {
        let shard = self.shards.get(conn.shard()).ok_or(Error::Closed)?;
        let mut guard = shard.slab.lock(conn).ok_or(Error::Closed)?;
        let mut cx = Cx { system: self, conn, sink, effects };
        let connection = guard.value().ok_or(Error::Closed)?;
        let (out, fate) = step(connection, &mut cx);
        if self.conclude(shard, conn.slot(), guard, fate, &mut cx) {
            shard.post(Mail::Look(conn.slot()));
        }
        Ok(out)
    }

    /// For what changes nothing that the reactor or others would have to know.
    fn peek<R>(&self, conn: Conn, look: impl FnOnce(&mut Connection<H>) -> R) -> Result<R, Error> {
        let shard = self.shards.get(conn.shard()).ok_or(Error::Closed)?;
        let mut guard = shard.slab.lock(conn).ok_or(Error::Closed)?;
        guard.value().map(look).ok_or(Error::Closed)
    }

    /// After a step by any thread but the reactor's: true when the reactor has to be told.
    fn conclude(
        &self,
        shard: &Shard<H>,
        slot: u32,
        mut guard: Guard<'_, Connection<H>>,
        fate: Fate,
        cx: &mut Cx<'_, H>,
    ) -> bool {
        guard.set_generation(cx.conn);
        if fate == Fate::Gone {
            self.release(shard, slot, guard, cx);
            return false;
        }
        let Some(connection) = guard.value() else { return false };
        (fate == Fate::Look || connection.timer_wanted().is_some()) && connection.notice()
    }

    /// Frees a connection's slot and closes its source.
    pub(crate) fn release(
        &self,
        shard: &Shard<H>,
        slot: u32,
        mut guard: Guard<'_, Connection<H>>,
        cx: &mut Cx<'_, H>,
    ) {
        if let Some(connection) = guard.value() {
            connection.detach(cx);
            guard.set_generation(cx.conn);
        }
        let Some(connection) = shard.slab.remove(slot, guard) else { return };
        connection.never_block_on_close();
        // Explicitly: a sendfile may hold another descriptor of the same socket.
        let fd = connection.source().fd().as_raw_fd();
        let _gone_with_the_descriptor = shard.registry.deregister(&mut SourceFd(&fd));
        let listener = Arc::clone(connection.listener());
        drop(connection);
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if listener.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.forget_if_done(&listener);
        }
        self.resume_accepting();
    }

    fn resume_accepting(&self) {
        if !self.notices.is_paused() {
            return;
        }
        for listener in self.listeners.read().values() {
            if listener.is_paused.load(Ordering::Relaxed) {
                self.shards[listener.shard].post(Mail::Accept(listener.id));
            }
        }
    }

    /// Is there room for one more connection?
    pub(crate) fn has_room(&self) -> bool {
        self.connections.load(Ordering::Relaxed) < self.max_connections.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Takes in an accepted socket.
    pub(crate) fn adopt(&self, fd: OwnedFd, listener: &Arc<Listener<H>>, sink: &mut dyn Sink<H>) {
        let index = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let shard = &self.shards[index];
        let raw = fd.as_raw_fd();
        let connection = Connection::new(Source::Socket(fd), Arc::clone(listener));
        // When all slots are taken the socket closes here; `max_connections` is far below.
        let Some((conn, mut guard)) = shard.slab.insert(connection) else { return };
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        listener.connections.fetch_add(1, Ordering::Relaxed);
        listener.accepted.fetch_add(1, Ordering::Relaxed);
        let mut effects = Vec::new();
        let mut cx = Cx { system: self, conn, sink, effects: &mut effects };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = shard.registry.register(&mut SourceFd(&raw), Token(conn.slot() as usize), interest);
        let fate = match (registered, guard.value()) {
            (Ok(()), Some(connection)) => connection.begin(&mut cx),
            _ => Fate::Gone,
        };
        if self.conclude(shard, conn.slot(), guard, fate, &mut cx) {
            shard.post(Mail::Look(conn.slot()));
        }
        self.carry_out(effects, sink);
        let mut queue = listener.queue.lock();
        // A listener loses its descriptor first, and then what is queued and what it has: ours would be forgotten.
        if listener.fd.lock().is_none() {
            drop(queue);
            // One that closed meanwhile is no loss.
            let _ = self.abort(conn, sink);
            return;
        }
        if listener.config.mode == Mode::Accept && fate != Fate::Gone {
            queue.ready.push_back(conn);
            drop(queue);
            self.wake_acceptor(listener, sink);
        }
    }
}

/// Numbers of connections and sessions have 59 bits.
#[cfg(feature = "fault-injection")]
fn fault_key(place: Owned) -> u64 {
    match place {
        Owned::Connection(conn) => conn.as_u64(),
        Owned::Session(id) => id.as_u64() | 1 << 62,
    }
}
