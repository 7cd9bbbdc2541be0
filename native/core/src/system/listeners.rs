//! What may be asked of listeners.

use super::*;
use crate::host::Event;
use crate::link_registry::Gate;
use crate::listener::{Acceptor, Listener, ListenerConfig, ListenerInfo, Mode};
use crate::mailbox::Mail;
use crate::reactor::LISTENERS;
use mio::{Interest, Token};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;

/// How long accept waits on a descriptor that should not block. The kernel makes a jiffy of it, the least that it has.
const ACCEPT_TIMEOUT: Duration = Duration::from_micros(1);

impl<H: Host> System<H> {
    /// Accepts connections on a listening socket from here on. `starter` is told of those that want a
    /// handler.
    pub fn listen(
        &self,
        fd: OwnedFd,
        config: ListenerConfig,
        starter: Option<H::Process>,
    ) -> Result<ListenerId, Error> {
        // Who accepts would get connections that nobody knows yet.
        if config.mode == Mode::Accept && config.proxy_protocol.is_some() {
            return Err(Error::Invalid);
        }
        self.open_listener(fd, (config, None), starter)
    }

    /// Has a socket listened to and its listener known.
    pub(super) fn open_listener(
        &self,
        fd: OwnedFd,
        (config, gate): (ListenerConfig, Option<Gate>),
        starter: Option<H::Process>,
    ) -> Result<ListenerId, Error> {
        rustix::net::listen(&fd, config.backlog)?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        // Whoever has another copy of the descriptor may make all of them blocking: Erlang's `socket` does so when it closes
        // one. Then the reactor would wait in accept for as long as no client comes; so, for a jiffy at most.
        rustix::net::sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(ACCEPT_TIMEOUT))?;
        let number = self.engine.next_listener.fetch_add(1, Ordering::Relaxed);
        let id = ListenerId(u32::try_from(number).map_err(|_| Error::Os(Errno::NFILE))?);
        let shard = number % self.engine.shards.len();
        let raw = fd.as_fd().as_raw_fd();
        let listener = Arc::new(Listener::new(id, shard, fd, (config, gate), &self.engine.shared.xmpp()));
        *listener.starter.write() = starter;
        self.engine.listeners.write().insert(id.0, Arc::clone(&listener));
        if let Some(name) = &listener.config.name {
            self.engine.named.write().insert(name.clone(), Arc::clone(&listener));
        }
        // Settings that changed meanwhile.
        listener.configure(&self.engine.shared.xmpp());
        let token = Token(LISTENERS + id.0 as usize);
        if self.engine.shards[shard].watch(raw, token, Interest::READABLE).is_err() {
            self.engine.free_port(&listener);
            self.engine.listeners.write().remove(&id.0);
            return Err(Error::Os(Errno::NOSPC));
        }
        Ok(id)
    }

    pub(super) fn listener(&self, id: ListenerId) -> Option<Arc<Listener<H>>> {
        self.engine.listener(id)
    }

    /// Stops accepting. Connections that were accepted live on, but for those that nobody has taken. Takes time in proportion
    /// to these.
    pub fn close_listener(&self, id: ListenerId, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        self.engine.close_listener(id, sink)
    }

    /// Figures of a listener that is open or has open connections.
    pub fn listener_info(&self, id: ListenerId) -> Result<ListenerInfo, Error> {
        self.listener(id).map(|listener| listener.info()).ok_or(Error::Closed)
    }

    /// Somebody else starts handlers from here on, and is told of all that wait for one: what its predecessor was told
    /// may have ended with it. Of some it may hear twice, and connections have new names: the former ones are stale. Takes
    /// time in proportion to all connections and sessions; locks one at a time.
    pub fn set_starter(
        &self,
        id: ListenerId,
        starter: H::Process,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Error> {
        let listener = self.listener(id).ok_or(Error::Closed)?;
        // First of all: what begins to wait from here on, with its lock held, asks the new one.
        *listener.starter.write() = Some(starter);
        if listener.accepted.load(Ordering::Relaxed) == 0 {
            // Counted before it asks: who has asked the old one has been counted.
            return Ok(());
        }
        for conn in self.connections_of(id) {
            // One that closed meanwhile is no loss.
            let _ = self.with(conn, sink, |connection, cx| ((), connection.ask_again(cx)));
        }
        for session in self.sessions_of(id) {
            let _ = self.engine.with(session, sink, |session: &mut BoshSession<H>, cx| {
                (session.ask(cx, Some(starter)), Fate::Keep)
            });
        }
        Ok(())
    }

    /// Closes what a listener has accepted, at once: its connections, and the BOSH sessions that began on one.
    pub fn close_connections(&self, id: ListenerId, sink: &mut dyn Sink<H>) {
        for session in self.sessions_of(id) {
            let _ = self.engine.with(session, sink, |session: &mut BoshSession<H>, cx| {
                ((), session.abort_with(cx, Condition::SystemShutdown))
            });
        }
        for conn in self.connections_of(id) {
            let _ = self.abort(conn, sink);
        }
    }

    fn connections_of(&self, id: ListenerId) -> impl Iterator<Item = Conn> {
        self.engine.shards.iter().flat_map(|shard| shard.connections.ids()).filter(move |conn| {
            let listener =
                self.engine.peek(*conn, |connection: &mut Connection<H>| connection.transport().listener.id);
            listener == Ok(id)
        })
    }

    fn sessions_of(&self, id: ListenerId) -> impl Iterator<Item = Conn> {
        self.engine.shards.iter().flat_map(|shard| shard.sessions.ids()).filter(move |session| {
            self.engine.peek(*session, |session: &mut BoshSession<H>| session.listener()) == Ok(id)
        })
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
                queue.woken_at = None;
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
                self.engine.shards[listener.shard].mailbox.post(Mail::Accept(listener.id));
            }
            let taken = self.engine.with(conn, sink, |connection: &mut Connection<H>, cx| {
                (connection.accepted_by(cx, process), Fate::Look)
            });
            match taken {
                Ok(true) => return Ok(Some(conn)),
                Ok(false) => {
                    // Whoever asks has ended: the connection is for another.
                    listener.queue.lock().ready.push_front(conn);
                    self.engine.wake_acceptor(&listener, sink);
                    return Err(Error::Closed);
                }
                // It closed meanwhile.
                Err(_) => {}
            }
        }
    }

    /// `process` no longer waits for a connection. False: it did not any more, its wake-up has been told to a sink.
    pub fn cancel_accept(&self, id: ListenerId, process: H::Process) -> bool {
        let Some(listener) = self.listener(id) else { return false };
        let (waited, is_owed) = {
            let mut queue = listener.queue.lock();
            let before = queue.waiters.len();
            queue.waiters.retain(|acceptor| acceptor.process != process);
            let waited = queue.waiters.len() < before;
            let is_owed = !queue.ready.is_empty() && !queue.waiters.is_empty();
            if is_owed {
                // It had been woken, and leaves the connection to the next one.
                queue.woken_at = None;
            }
            (waited, is_owed)
        };
        if is_owed {
            self.engine.shards[listener.shard].mailbox.post(Mail::Accept(listener.id));
        }
        waited
    }
}

impl<H: Host> Engine<H> {
    pub(crate) fn close_listener(&self, id: ListenerId, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        let listener = self.listener(id).ok_or(Error::Closed)?;
        if !self.free_port(&listener) {
            return Err(Error::Closed);
        }
        self.close_queue(&listener, sink);
        Ok(())
    }

    /// Accepts no more. False when it did not anyway.
    pub(super) fn free_port(&self, listener: &Listener<H>) -> bool {
        let Some(fd) = listener.fd.lock().take() else { return false };
        self.pass_name_on(listener);
        // The descriptor may be shared with the one who opened it.
        self.shards[listener.shard].unwatch(&fd);
        true
    }

    /// The name that streams ask for, if this listener had it, is the next newest open one's.
    fn pass_name_on(&self, listener: &Listener<H>) {
        let Some(name) = &listener.config.name else { return };
        let mut named = self.named.write();
        if named.get(name).is_none_or(|holder| holder.id != listener.id) {
            return;
        }
        let listeners = self.listeners.read();
        let others = listeners.values().filter(|other| other.id != listener.id);
        let heirs =
            others.filter(|other| other.config.name.as_ref() == Some(name) && other.fd.lock().is_some());
        match heirs.max_by_key(|other| other.id.0) {
            Some(heir) => drop(named.insert(name.clone(), Arc::clone(heir))),
            None => drop(named.remove(name)),
        }
    }

    /// Ends what waits at a listener that accepts no more.
    fn close_queue(&self, listener: &Arc<Listener<H>>, sink: &mut dyn Sink<H>) {
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
        if listener.is_short.swap(false, Ordering::Relaxed) {
            self.shared.notices.no_longer_paused();
        }
        self.forget_if_done(listener);
    }

    /// Its owner has ended: the port is free when this returns, for whoever opens it again. The rest is for
    /// [`end_listener`](Self::end_listener).
    pub(crate) fn listener_owner_ended(&self, id: ListenerId) {
        if let Some(listener) = self.listener(id) {
            if listener.config.shut_with_owner
                && let Some(fd) = &*listener.fd.lock()
            {
                // One that does not listen any more is what is wanted.
                let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
            }
            self.free_port(&listener);
        }
    }

    /// The reactor's: ends a listener whose owner has ended.
    pub(crate) fn end_listener(&self, id: ListenerId, sink: &mut dyn Sink<H>) {
        if let Some(listener) = self.listener(id) {
            self.free_port(&listener);
            self.close_queue(&listener, sink);
        }
    }

    fn listener(&self, id: ListenerId) -> Option<Arc<Listener<H>>> {
        self.listeners.read().get(&id.0).cloned()
    }
}
