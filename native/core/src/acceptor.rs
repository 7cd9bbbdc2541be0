//! Accepting: new sockets become connections, up to the bounds; and those who wait for one are told.

use crate::carrier::{Address, Carrier};
use crate::connection::Connection;
use crate::cx::{Cx, Fate};
use crate::engine::Engine;
use crate::entry::Entry;
use crate::host::{Event, Host, Sink};
use crate::id::Conn;
use crate::listener::{Ingress, Listener, Mode};
use crate::mailbox::Mail;
use crate::shard::Shard;
use crate::store::Pending;
use crate::stream_end::StreamFd;
use megaphone_proto::link::{Open, Reason};
use megaphone_proto::time::Time;
use mio::{Interest, Token};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Connections accepted at a turn; then others have theirs.
const ACCEPTS_A_TURN: usize = 16;

/// What one turn of a listener came to.
pub(crate) enum Accepted {
    All,
    More,
    /// The queue of those that wait for an `accept`.
    Full,
    /// For want of descriptors, of memory, or (none) by the bound on connections.
    NoRoom(Option<Errno>),
    /// The host has no room for another process, and says so itself.
    NoProcess,
    Failed(Errno),
    /// The kernel could not watch it.
    Unwatched(Errno),
}

impl<H: Host> Engine<H> {
    pub(crate) fn accept_some(&self, listener: &Arc<Listener<H>>, sink: &mut dyn Sink<H>) -> Accepted {
        for _ in 0..ACCEPTS_A_TURN {
            if is_queue_full(listener) {
                return Accepted::Full;
            }
            if let Err(full) = self.room(listener) {
                return full;
            }
            match accept_one(listener) {
                Ok(Some(fd)) => {
                    if let Err(error) = self.adopt(fd, listener, sink) {
                        return Accepted::Unwatched(error);
                    }
                }
                Ok(None) => {}
                Err(end) => return end,
            }
        }
        Accepted::More
    }

    /// Is there room for one more connection? The kernel gives the lowest descriptor that is free, so that the number of
    /// the last one tells how many the whole process has.
    fn room(&self, listener: &Listener<H>) -> Result<(), Accepted> {
        if self.sockets.load(Ordering::Relaxed) >= self.max_connections.load(Ordering::Relaxed) {
            return Err(Accepted::NoRoom(None));
        }
        if self.process_room.load(Ordering::Relaxed) == 0 {
            return Err(Accepted::NoProcess);
        }
        if self.is_short_of_descriptors.load(Ordering::Relaxed) {
            let guard = listener.fd.lock();
            let next = guard
                .as_ref()
                .map_or(Ok(0), |fd| rustix::io::fcntl_dupfd_cloexec(fd, 0).map(|copy| copy.as_raw_fd()));
            if next.map_err(|error| Accepted::NoRoom(Some(error)))? >= self.max_descriptor() {
                return Err(Accepted::NoRoom(Some(Errno::MFILE)));
            }
            self.is_short_of_descriptors.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Each connection may want a process, and soon: the host's count is as old as its last word.
    fn count_process(&self) {
        let one_less = |room: usize| room.checked_sub(1);
        // None when it has come to nothing meanwhile.
        let _ = self.process_room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    fn max_descriptor(&self) -> i32 {
        i32::try_from(self.max_descriptor.load(Ordering::Relaxed)).unwrap_or(i32::MAX)
    }

    /// Takes in an accepted socket.
    fn adopt(&self, fd: OwnedFd, listener: &Arc<Listener<H>>, sink: &mut dyn Sink<H>) -> Result<(), Errno> {
        let index = self.next_shard.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        let shard = &self.shards[index];
        let raw = fd.as_raw_fd();
        if raw >= self.max_descriptor() {
            self.is_short_of_descriptors.store(true, Ordering::Relaxed);
        }
        let ingress = listener.ingress();
        let taken = self.take_in(
            (shard, listener),
            sink,
            |cx| Connection::new(Carrier::Socket(fd), ingress, cx),
            |conn| {
                let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
                let token = Token(conn.slot() as usize);
                shard.watch(raw, token, interest)
            },
        );
        // When all slots are taken the socket closes here; `max_connections` is far below.
        taken.map_or(Ok(()), |(_, watched)| watched)
    }

    /// The open listener that a stream asks for, if there is room for another connection of it. `max_connections` is of
    /// sockets: streams take no descriptors, and each link has a bound of its own.
    pub(crate) fn listener_of_stream(&self, name: &str) -> Result<Arc<Listener<H>>, Reason> {
        let listener = self.named.read().get(name).cloned().ok_or(Reason::Refused)?;
        let is_full = self.process_room.load(Ordering::Relaxed) == 0 || is_queue_full(&listener);
        if is_full { Err(Reason::Overload) } else { Ok(listener) }
    }

    /// Takes in a stream of a link, into the link's shard. Its slot; none when there is no more.
    pub(crate) fn adopt_stream(
        &self,
        index: usize,
        listener: Arc<Listener<H>>,
        (stream, open): (StreamFd, Open),
        sink: &mut dyn Sink<H>,
    ) -> Option<u32> {
        let ingress =
            Ingress::carried(Arc::clone(&listener), Address::from(open.client), Address::from(open.local));
        let make = |cx: &Cx<'_, H>| Connection::new(Carrier::Stream(stream), Arc::new(ingress), cx);
        let taken = self.take_in((&self.shards[index], &listener), sink, make, |_| Ok(()));
        taken.map(|(conn, _)| conn.slot())
    }

    /// Puts a connection into a shard and has it begin, if it can be watched.
    fn take_in(
        &self,
        (shard, listener): (&Shard<H>, &Arc<Listener<H>>),
        sink: &mut dyn Sink<H>,
        make: impl FnOnce(&Cx<'_, H>) -> Connection<H>,
        watch: impl FnOnce(Conn) -> Result<(), Errno>,
    ) -> Option<(Conn, Result<(), Errno>)> {
        let mut effects = Vec::new();
        let (conn, guard) = shard.connections.insert(|conn| {
            let cx = Cx { shared: &self.shared, conn, sink: &mut *sink, effects: &mut effects };
            Some(make(&cx))
        })?;
        self.count_process();
        let is_socket =
            guard.as_ref().is_some_and(|connection| connection.transport().carrier.socket().is_some());
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.sockets.fetch_add(usize::from(is_socket), Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        listener.connections.fetch_add(1, Ordering::Relaxed);
        listener.accepted.fetch_add(1, Ordering::Relaxed);
        let watched = watch(conn);
        let is_watched = watched.is_ok();
        let mut cx = Cx { shared: &self.shared, conn, sink: &mut *sink, effects: &mut effects };
        let begun = self.step_locked(shard, guard, &mut cx, |connection: &mut Connection<H>, cx| {
            ((), if is_watched { connection.begin(cx) } else { Fate::Gone })
        });
        if let Ok(((), Fate::Look)) = begun {
            shard.connections.notify(conn.slot(), Pending::LOOK);
        }
        self.carry_out(effects, sink);
        if is_watched {
            self.queue_or_abort(conn, listener, sink);
        }
        Some((conn, watched))
    }

    fn queue_or_abort(&self, conn: Conn, listener: &Arc<Listener<H>>, sink: &mut dyn Sink<H>) {
        let mut queue = listener.queue.lock();
        // A listener loses its descriptor first, and then what is queued and what it has: ours would be forgotten.
        if listener.fd.lock().is_none() {
            drop(queue);
            // One that closed meanwhile is no loss.
            let _ = self.abort(conn, sink);
            return;
        }
        if listener.config.mode == Mode::Accept {
            queue.ready.push_back(conn);
            drop(queue);
            self.wake_acceptor(listener, sink);
        }
    }

    /// Closes a connection at once, whoever has it.
    pub(crate) fn abort(&self, conn: Conn, sink: &mut dyn Sink<H>) -> Result<(), crate::error::Error> {
        self.with(conn, sink, |connection: &mut Connection<H>, cx| ((), connection.abort(cx)))
    }

    /// Tells one who waits for a connection that there is one. Who died while it waited can't take it.
    pub(crate) fn wake_acceptor(&self, listener: &Listener<H>, sink: &mut dyn Sink<H>) {
        let acceptor = {
            let mut queue = listener.queue.lock();
            if queue.ready.is_empty() {
                queue.woken_at = None;
                return;
            }
            let acceptor = loop {
                match queue.waiters.pop_front() {
                    Some(acceptor) if !self.shared.host.is_alive(acceptor.process) => {}
                    other => break other,
                }
            };
            queue.woken_at = acceptor.as_ref().map(|_| self.now());
            acceptor
        };
        if let Some(acceptor) = acceptor {
            sink.emit(Event::Wake(acceptor.waiter));
            // It may die before it asks: the reactor looks again.
            self.shards[listener.shard].mailbox.post(Mail::Accept(listener.id));
        }
    }

    /// Whether one who was woken for a connection of this listener has yet to ask for it.
    pub(crate) fn awaits_acceptor(&self, listener: &Listener<H>) -> Option<Time> {
        listener.queue.lock().woken_at
    }
}

/// One connection off the backlog; none when one was gone before it was accepted.
pub(crate) fn accept_one<H: Host>(listener: &Listener<H>) -> Result<Option<OwnedFd>, Accepted> {
    let accepted = match &*listener.fd.lock() {
        Some(fd) => rustix::net::accept_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC),
        None => return Err(Accepted::All),
    };
    match accepted {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::AGAIN) => Err(Accepted::All),
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
        ) => Ok(None),
        Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
            Err(Accepted::NoRoom(Some(error)))
        }
        Err(error) => Err(Accepted::Failed(error)),
    }
}

fn is_queue_full<H: Host>(listener: &Listener<H>) -> bool {
    listener.config.mode == Mode::Accept && listener.queue.lock().ready.len() >= Listener::<H>::MAX_QUEUED
}
