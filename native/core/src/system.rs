//! All shards together: what other threads may ask for.

use crate::clock::{Clock, Tick};
use crate::connection::{Connection, Cx, Fate};
use crate::host::{Event, Host, Notice, Sink};
use crate::id::{Conn, ListenerId};
use crate::listener::{Acceptor, Listener, ListenerConfig, ListenerInfo, Mode};
use crate::options::{Delivery, Opt};
use crate::reactor::{Mail, Reactor, Shard};
use crate::slab::Guard;
use crate::source::{Address, Source};
use crate::stats::{ConnectionInfo, SystemStats, Traffic};
use crate::{Error, ReadOutcome, Received, SendfileOutcome, WriteOutcome};
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

/// How a system is set up.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Reactor threads, 1 to 16.
    pub reactors: usize,
    /// Connections at a time; above it none is accepted.
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
    max_connections: AtomicUsize,
    accepted: AtomicU64,
    notices: Notices,
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
            max_connections: AtomicUsize::new(config.max_connections),
            accepted: AtomicU64::new(0),
            notices: Notices::default(),
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

    /// Changes the bound on connections. Those above a lower one stay.
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

    // Listeners.

    /// Accepts connections on a listening socket from here on. `starter` is told of those that want a
    /// handler.
    pub fn listen(
        &self,
        fd: OwnedFd,
        config: ListenerConfig,
        starter: Option<H::Process>,
    ) -> Result<ListenerId, Error> {
        rustix::net::listen(&fd, config.backlog)?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        let number = self.next_listener.fetch_add(1, Ordering::Relaxed);
        let id = ListenerId(u32::try_from(number).map_err(|_| Error::Os(Errno::NFILE))?);
        let shard = number % self.shards.len();
        let raw = fd.as_fd().as_raw_fd();
        let listener = Arc::new(Listener::new(id, shard, fd, config));
        *listener.starter.write() = starter;
        self.listeners.write().insert(id.0, Arc::clone(&listener));
        let token = Token(Reactor::<H>::LISTENERS + id.0 as usize);
        let registered = self.shards[shard].registry.register(&mut SourceFd(&raw), token, Interest::READABLE);
        if registered.is_err() {
            self.listeners.write().remove(&id.0);
            return Err(Error::Os(Errno::NOSPC));
        }
        Ok(id)
    }

    pub(crate) fn listener(&self, id: ListenerId) -> Option<Arc<Listener<H>>> {
        self.listeners.read().get(&id.0).cloned()
    }

    /// Stops accepting. Connections that were accepted live on, but for those that nobody has taken.
    pub fn close_listener(&self, id: ListenerId, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        let listener = self.listener(id).ok_or(Error::Closed)?;
        let fd = listener.fd.lock().take().ok_or(Error::Closed)?;
        // The descriptor may be shared with the one who opened it: closing ours would not end the interest.
        let _gone_with_the_descriptor =
            self.shards[listener.shard].registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
        drop(fd);
        let (ready, waiters) = {
            let mut queue = listener.queue.lock();
            (std::mem::take(&mut queue.ready), std::mem::take(&mut queue.waiters))
        };
        for acceptor in waiters {
            sink.emit(Event::Wake(acceptor.waiter));
        }
        for conn in ready {
            // One that closed meanwhile is no loss.
            let _ = self.abort(conn, sink);
        }
        self.forget_if_done(&listener);
        Ok(())
    }

    /// A closed listener without connections is no more.
    fn forget_if_done(&self, listener: &Arc<Listener<H>>) {
        if listener.connections.load(Ordering::Relaxed) == 0 && listener.fd.lock().is_none() {
            self.listeners.write().remove(&listener.id.0);
        }
    }

    /// Figures of a listener that is open or has open connections.
    pub fn listener_info(&self, id: ListenerId) -> Result<ListenerInfo, Error> {
        self.listener(id).map(|listener| listener.info()).ok_or(Error::Closed)
    }

    /// Somebody else starts handlers from here on.
    pub fn set_starter(&self, id: ListenerId, starter: H::Process) -> Result<(), Error> {
        *self.listener(id).ok_or(Error::Closed)?.starter.write() = Some(starter);
        Ok(())
    }

    /// Takes an accepted connection of a listener in [`Mode::Accept`]; `process` has it then. `None`: the
    /// waiter is registered.
    pub fn accept(
        &self,
        id: ListenerId,
        process: H::Process,
        waiter: impl FnOnce() -> H::Waiter,
        sink: &mut dyn Sink<H>,
    ) -> Result<Option<Conn>, Error> {
        let listener = self.listener(id).ok_or(Error::Closed)?;
        if listener.config.mode != Mode::Accept {
            return Err(Error::Invalid);
        }
        loop {
            let conn = {
                let mut queue = listener.queue.lock();
                let Some(conn) = queue.ready.pop_front() else {
                    if listener.fd.lock().is_none() {
                        return Err(Error::Closed);
                    }
                    queue.waiters.push_back(Acceptor { process, waiter: waiter() });
                    return Ok(None);
                };
                conn
            };
            if listener.is_paused.load(Ordering::Relaxed) {
                self.shards[listener.shard].post(Mail::Accept(listener.id));
            }
            let taken =
                self.with(conn, sink, |connection, cx| (connection.accepted_by(cx, process), Fate::Look));
            if taken == Ok(true) {
                return Ok(Some(conn));
            }
        }
    }

    /// `process` no longer waits for a connection.
    pub fn cancel_accept(&self, id: ListenerId, process: H::Process) {
        if let Some(listener) = self.listener(id) {
            listener.queue.lock().waiters.retain(|acceptor| acceptor.process != process);
        }
    }

    // Connections.

    /// Gives data to `take`, or has `process` wait; without a waiter it only looks. `wants` bytes; 0 is
    /// whatever is there, or one packet.
    pub fn read<R>(
        &self,
        conn: Conn,
        process: H::Process,
        wants: usize,
        sink: &mut dyn Sink<H>,
        waiter: Option<impl FnOnce() -> H::Waiter>,
        take: impl FnOnce(Received<'_>, Delivery) -> R,
    ) -> Result<ReadOutcome<R>, Error> {
        self.with(conn, sink, |connection, cx| connection.read(cx, process, wants, waiter, take))?
    }

    /// As [`read`](Self::read), but looks into the source, through `buf`, instead of waiting.
    pub fn poll_read<R>(
        &self,
        conn: Conn,
        process: H::Process,
        wants: usize,
        sink: &mut dyn Sink<H>,
        buf: &mut [u8],
        take: impl FnOnce(Received<'_>, Delivery) -> R,
    ) -> Result<ReadOutcome<R>, Error> {
        self.with(conn, sink, |connection, cx| connection.poll_read(cx, process, wants, buf, take))?
    }

    /// `process` no longer waits, for data or for room to send.
    pub fn cancel_wait(&self, conn: Conn, process: H::Process, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        self.with(conn, sink, |connection, _| (connection.cancel_wait(process), Fate::Keep))
    }

    /// Detaches a handler that waited for a next request. False: there is something to read after all.
    pub fn park(&self, conn: Conn, process: H::Process, sink: &mut dyn Sink<H>) -> Result<bool, Error> {
        self.with(conn, sink, |connection, cx| match connection.park(cx, process) {
            Ok((parked, fate)) => (Ok(parked), fate),
            Err(error) => (Err(error), Fate::Keep),
        })?
    }

    /// Sends all of `bytes`, or registers the waiter.
    pub fn write(
        &self,
        conn: Conn,
        process: H::Process,
        bytes: &[u8],
        sink: &mut dyn Sink<H>,
        waiter: impl FnOnce() -> H::Waiter,
    ) -> Result<WriteOutcome, Error> {
        self.with(conn, sink, |connection, cx| {
            let out = connection.write(cx, process, bytes, waiter);
            // After an error whoever reads has to learn of the end.
            let fate = if out.is_err() { Fate::Look } else { Fate::Keep };
            (out, fate)
        })?
    }

    /// Sends up to 1 MiB of a file from `offset`. May wait for the disk, never for the peer. `Ok(None)`: the
    /// waiter is registered; `Ok(Some(0))`: the end of the file.
    pub fn sendfile(
        &self,
        conn: Conn,
        process: H::Process,
        (file, offset, count): (impl AsFd, u64, usize),
        sink: &mut dyn Sink<H>,
        waiter: impl Fn() -> H::Waiter,
    ) -> Result<Option<usize>, Error> {
        let begun = self.with(conn, sink, |connection, cx| {
            (connection.begin_sendfile(cx, process, &waiter), Fate::Keep)
        })??;
        let SendfileOutcome::Go(socket) = begun else { return Ok(None) };
        let mut position = offset;
        let sent = rustix::fs::sendfile(&socket, file, Some(&mut position), count.min(SENDFILE_BYTES));
        self.with(conn, sink, |connection, cx| {
            let out = connection.end_sendfile(process, sent, &waiter);
            if out == Ok(None) && connection.is_writable() {
                connection.cancel_wait(process);
                cx.sink.emit(Event::Wake(waiter()));
            }
            let fate = if out.is_err() { Fate::Look } else { Fate::Keep };
            (out, fate)
        })?
    }

    /// The owner's close: what is queued is sent, then the connection closes.
    pub fn close(&self, conn: Conn, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        self.with(conn, sink, |connection, cx| {
            if connection.owner().is_none() {
                // Parked, or given up before: it isn't the caller's.
                return (Err(Error::Closed), Fate::Keep);
            }
            (Ok(()), connection.close(cx))
        })?
    }

    /// Closes at once, whoever has it.
    pub fn abort(&self, conn: Conn, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        self.with(conn, sink, |connection, cx| ((), connection.abort(cx)))
    }

    /// Closes one side or both.
    pub fn shutdown(
        &self,
        conn: Conn,
        process: H::Process,
        how: Shutdown,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Error> {
        self.with(conn, sink, |connection, cx| (connection.shutdown(cx, process, how), Fate::Look))?
    }

    /// Sets one option.
    pub fn set(
        &self,
        conn: Conn,
        process: H::Process,
        option: Opt,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Error> {
        self.with(conn, sink, |connection, cx| match connection.set(cx, process, option) {
            Ok(fate) => (Ok(()), fate),
            Err(error) => (Err(error), Fate::Keep),
        })?
    }

    /// Gets the option that `like` is one of.
    pub fn get(&self, conn: Conn, like: Opt) -> Result<Opt, Error> {
        self.peek(conn, |connection| connection.get(like))?
    }

    /// Somebody was started to have the connection; it closes when `process` has ended already.
    pub fn handler_started(
        &self,
        conn: Conn,
        process: H::Process,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Error> {
        self.with(conn, sink, |connection, cx| ((), connection.handler_started(cx, process)))
    }

    /// To be called when a watched process has ended.
    pub fn owner_down(&self, conn: Conn, process: H::Process, sink: &mut dyn Sink<H>) {
        // A connection that closed meanwhile is no loss.
        let _ = self.with(conn, sink, |connection, cx| ((), connection.owner_down(cx, process)));
    }

    /// Hands the connection from one owner to another.
    pub fn give(
        &self,
        conn: Conn,
        from: H::Process,
        to: H::Process,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Error> {
        self.with(conn, sink, |connection, cx| (connection.give(cx, from, to), Fate::Keep))?
    }

    /// Whoever has the connection.
    pub fn owner(&self, conn: Conn) -> Result<Option<H::Process>, Error> {
        self.peek(conn, |connection| connection.owner())
    }

    /// How long a send may wait, and whether the connection closes then.
    pub fn send_timeout(&self, conn: Conn) -> Result<(Option<Duration>, bool), Error> {
        self.peek(conn, |connection| connection.send_timeout())
    }

    /// The other end.
    pub fn peer(&self, conn: Conn) -> Result<Address, Error> {
        self.peek(conn, |connection| connection.source().peer())?.map_err(Error::Os)
    }

    /// Our end.
    pub fn local(&self, conn: Conn) -> Result<Address, Error> {
        self.peek(conn, |connection| connection.source().local())?.map_err(Error::Os)
    }

    /// Counters, and the bytes that wait to be sent.
    pub fn traffic(&self, conn: Conn) -> Result<(Traffic, usize), Error> {
        self.peek(conn, |connection| (connection.traffic(), connection.queued()))
    }

    /// Puts bytes back before those that were not read.
    pub fn unread(&self, conn: Conn, bytes: &[u8]) -> Result<(), Error> {
        self.peek(conn, |connection| connection.unread(bytes))?
    }

    /// Has `waiter` woken when the connection is no longer its owner's.
    pub fn monitor(&self, conn: Conn, key: u64, waiter: H::Waiter) -> Result<(), Error> {
        self.peek(conn, |connection| connection.monitor(key, waiter))?
    }

    /// Takes that back. False when there was none.
    pub fn demonitor(&self, conn: Conn, key: u64) -> bool {
        self.peek(conn, |connection| connection.demonitor(key)).unwrap_or(false)
    }

    /// One connection, as it is now.
    pub fn info(&self, conn: Conn) -> Result<ConnectionInfo<H::Process>, Error> {
        self.peek(conn, |connection| connection.info())
    }

    /// All connections. Takes time in proportion to their number; locks one at a time.
    pub fn connections(&self) -> Vec<Conn> {
        let mut all = Vec::with_capacity(self.connections.load(Ordering::Relaxed));
        for shard in &self.shards {
            for slot in shard.slab.slots() {
                all.extend(shard.slab.lock_slot(slot).map(|guard| shard.slab.id(slot, &guard)));
            }
        }
        all
    }

    /// The whole, as it is now.
    pub fn stats(&self) -> SystemStats {
        SystemStats {
            reactors: self.shards.len(),
            connections: self.connections.load(Ordering::Relaxed),
            max_connections: self.max_connections.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            listeners: self.listeners.read().values().filter(|listener| listener.fd.lock().is_some()).count(),
            bytes_per_slot: Shard::<H>::BYTES_PER_SLOT,
        }
    }

    /// Closes all listeners and all connections, at once. The threads stay.
    pub fn close_all(&self, sink: &mut dyn Sink<H>) {
        let ids: Vec<u32> = self.listeners.read().keys().copied().collect();
        for id in ids {
            // Closed already is as good.
            let _ = self.close_listener(ListenerId(id), sink);
        }
        for conn in self.connections() {
            let _ = self.abort(conn, sink);
        }
    }

    /// Has the reactor panic when it serves this connection next.
    #[cfg(feature = "fault-injection")]
    pub fn inject_panic(&self, conn: Conn) {
        self.panic_at.store(conn.as_u64(), Ordering::SeqCst);
        self.shards[conn.shard()].post(Mail::Look(conn.slot()));
    }

    #[cfg(feature = "fault-injection")]
    pub(crate) fn panic_if_asked(&self, conn: Conn) {
        let asked =
            self.panic_at.compare_exchange(conn.as_u64(), u64::MAX, Ordering::SeqCst, Ordering::SeqCst);
        assert!(asked.is_err(), "a fault that a test asked for");
    }

    // Common to all of them.

    fn with<R>(
        &self,
        conn: Conn,
        sink: &mut dyn Sink<H>,
        step: impl FnOnce(&mut Connection<H>, &mut Cx<'_, H>) -> (R, Fate),
    ) -> Result<R, Error> {
        let shard = self.shards.get(conn.shard()).ok_or(Error::Closed)?;
        let mut guard = shard.slab.lock(conn).ok_or(Error::Closed)?;
        let mut cx = Cx { system: self, conn, sink };
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
            connection.vanish(cx);
            guard.set_generation(cx.conn);
        }
        let Some(connection) = shard.slab.remove(slot, guard) else { return };
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
        let Ok((conn, mut guard)) = shard.slab.insert(connection) else { return };
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        listener.connections.fetch_add(1, Ordering::Relaxed);
        listener.accepted.fetch_add(1, Ordering::Relaxed);
        let mut cx = Cx { system: self, conn, sink };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = shard.registry.register(&mut SourceFd(&raw), Token(conn.slot() as usize), interest);
        let fate = match (registered, guard.value()) {
            (Ok(()), Some(connection)) => connection.begin(&mut cx),
            _ => Fate::Gone,
        };
        if self.conclude(shard, conn.slot(), guard, fate, &mut cx) {
            shard.post(Mail::Look(conn.slot()));
        }
        if listener.config.mode == Mode::Accept && fate != Fate::Gone {
            let mut queue = listener.queue.lock();
            queue.ready.push_back(conn);
            if let Some(acceptor) = queue.waiters.pop_front() {
                drop(queue);
                cx.sink.emit(Event::Wake(acceptor.waiter));
            }
        }
    }
}

/// Notices, each kind at most once a minute.
#[derive(Default)]
pub(crate) struct Notices {
    last: Mutex<[Option<Instant>; 4]>,
    paused: AtomicUsize,
}

impl Notices {
    const EVERY: Duration = Duration::from_secs(60);

    fn is_due(&self, kind: usize) -> bool {
        let now = Instant::now();
        let last = &mut self.last.lock()[kind];
        let is_due = last.is_none_or(|last| now.duration_since(last) >= Self::EVERY);
        if is_due {
            *last = Some(now);
        }
        is_due
    }

    fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn paused<H: Host>(
        &self,
        sink: &mut dyn Sink<H>,
        listener: ListenerId,
        connections: usize,
        error: Option<Errno>,
    ) {
        self.paused.fetch_add(1, Ordering::Relaxed);
        if self.is_due(0) {
            sink.emit(Event::Notice(Notice::AcceptPaused { listener, connections, error }));
        }
    }

    pub(crate) fn resumed<H: Host>(&self, sink: &mut dyn Sink<H>, listener: ListenerId) {
        self.paused.fetch_sub(1, Ordering::Relaxed);
        if self.is_due(1) {
            sink.emit(Event::Notice(Notice::AcceptResumed { listener }));
        }
    }

    pub(crate) fn accept_failed<H: Host>(&self, sink: &mut dyn Sink<H>, listener: ListenerId, error: Errno) {
        if self.is_due(2) {
            sink.emit(Event::Notice(Notice::AcceptFailed { listener, error }));
        }
    }

    pub(crate) fn start_timeout<H: Host>(&self, sink: &mut dyn Sink<H>, listener: ListenerId) {
        if self.is_due(3) {
            sink.emit(Event::Notice(Notice::StartTimeout { listener }));
        }
    }
}
