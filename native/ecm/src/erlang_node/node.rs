//! The node's thread.

use super::connection::{Connection, Step};
use super::quiet::Quiet;
use super::random;
use super::registration::Registration;
use crate::control::Control;
use megaphone_proto::dist::{Failure, Local};
use megaphone_proto::time::Time;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Nodes that may be connected.
const MAX_CONNECTED: usize = 64;

/// Connections in addition that have not shown that they have the cookie. Each has 5 s.
const MAX_PENDING: usize = 64;

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);
const EPMD: Token = Token(2);
/// The first connection's.
const CONNECTIONS: usize = 3;

/// After an accept that failed for want of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(500);

pub(super) struct Node {
    poll: Poll,
    listener: TcpListener,
    address: SocketAddr,
    /// When to accept again without having been told.
    accept_due: Option<Instant>,
    registration: Registration,
    local: Arc<Local>,
    connections: Vec<Option<Connection>>,
    control: Arc<dyn Control>,
    is_over: Arc<AtomicBool>,
    start: Instant,
    quiet: Quiet,
}

impl Node {
    pub(super) fn listen(
        local: Local,
        listen: SocketAddr,
        epmd: SocketAddr,
        control: Arc<dyn Control>,
        is_over: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(listen).map_err(|error| {
            io::Error::new(error.kind(), format!("[erlang_node] can't listen on {listen}: {error}"))
        })?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let address = listener.local_addr()?;
        let alive = local.name.split('@').next().unwrap_or_default();
        let registration = Registration::new(epmd, EPMD, alive, address.port());
        Ok(Self {
            poll,
            listener,
            address,
            accept_due: None,
            registration,
            local: Arc::new(local),
            connections: Vec::new(),
            control,
            is_over,
            start: Instant::now(),
            quiet: Quiet::default(),
        })
    }

    pub(super) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Until it is over.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(MAX_CONNECTED + MAX_PENDING + CONNECTIONS);
        let mut is_busy = false;
        while !self.is_over.load(Ordering::Acquire) {
            let timeout = if is_busy { Some(Duration::ZERO) } else { self.timeout() };
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "the Erlang node ends: its sockets can't be waited for");
                    return;
                }
            }
            events.iter().for_each(|event| self.note(event.token()));
            is_busy = self.turn();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        let connections = self.connections.iter().flatten().map(|connection| self.instant(connection.due()));
        let dues = connections.chain(self.registration.due()).chain(self.accept_due);
        dues.min().map(|due| due.saturating_duration_since(now))
    }

    fn note(&mut self, token: Token) {
        match token {
            WAKER => {}
            LISTENER => self.accept_due = Some(Instant::now()),
            EPMD => self.registration.step(self.poll.registry()),
            Token(token) => {
                if let Some(Some(connection)) = self.connections.get_mut(token - CONNECTIONS) {
                    connection.wake();
                }
            }
        }
    }

    /// A measure of work for everyone. True when there is more.
    fn turn(&mut self) -> bool {
        let now = Instant::now();
        if self.registration.due().is_some_and(|due| due <= now) {
            self.registration.step(self.poll.registry());
        }
        if self.accept_due.is_some_and(|due| due <= now) {
            self.accept();
        }
        let mut is_busy = false;
        for slot in 0..self.connections.len() {
            is_busy |= self.step(slot);
        }
        is_busy
    }

    /// True when there is more to do at once.
    fn step(&mut self, slot: usize) -> bool {
        let now = self.time();
        // Away while it is stepped, so that the others can be looked at.
        let Some(mut connection) = self.connections[slot].take() else { return false };
        let is_known = |name: &str| self.find(name).is_some();
        match connection.step(now, is_known, &*self.control) {
            Step::Over(failure) => {
                self.log_end(&connection, failure);
                return false;
            }
            Step::Connected => self.connect(slot, connection),
            Step::Rest => {
                self.connections[slot] = Some(connection);
                return false;
            }
            Step::More => self.connections[slot] = Some(connection),
        }
        true
    }

    /// It has the cookie: an earlier connection of its name is stale.
    fn connect(&mut self, slot: usize, connection: Connection) {
        if let Some(stale) = self.find(connection.name()) {
            self.connections[stale] = None;
        }
        let connected = self.connections.iter().flatten().filter(|other| other.is_connected()).count();
        if connected >= MAX_CONNECTED {
            tracing::warn!(name = connection.name(), "refused an Erlang node: {MAX_CONNECTED} are connected");
            return;
        }
        tracing::info!(name = connection.name(), address = %connection.address(), "Erlang node connected");
        self.connections[slot] = Some(connection);
    }

    /// The slot of a node that is connected.
    fn find(&self, name: &str) -> Option<usize> {
        self.connections.iter().position(|entry| {
            entry.as_ref().is_some_and(|connection| connection.is_connected() && connection.name() == name)
        })
    }

    fn accept(&mut self) {
        self.accept_due = None;
        loop {
            match self.listener.accept() {
                Ok((socket, address)) => self.accepted(socket, address),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if is_of_one(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "the Erlang node can't accept");
                    self.accept_due = Some(Instant::now() + ACCEPT_RETRY);
                    return;
                }
            }
        }
    }

    fn accepted(&mut self, socket: TcpStream, address: SocketAddr) {
        if let Err(error) = self.admit(socket, address)
            && let Some(left_out) = self.quiet.admit()
        {
            tracing::warn!(%address, left_out, "closed a connection to the Erlang node: {error}");
        }
    }

    fn admit(&mut self, socket: TcpStream, address: SocketAddr) -> io::Result<()> {
        let pending =
            self.connections.iter().flatten().filter(|connection| !connection.is_connected()).count();
        if pending >= MAX_PENDING {
            return Err(io::Error::other(format!("{MAX_PENDING} are in their handshake")));
        }
        let mut connection = Connection::new(socket, address, self.local.clone(), random()?, self.time());
        let slot = self.vacancy();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(connection.socket(), Token(slot + CONNECTIONS), interest)?;
        self.connections[slot] = Some(connection);
        Ok(())
    }

    fn vacancy(&mut self) -> usize {
        let free = self.connections.iter().position(Option::is_none);
        free.unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        })
    }

    fn log_end(&mut self, connection: &Connection, failure: Option<Failure>) {
        let (name, address) = (connection.name(), connection.address());
        match failure {
            _ if connection.is_connected() => {
                let reason = failure.map(|failure| failure.to_string());
                tracing::info!(name, %address, reason, "Erlang node disconnected");
            }
            None => tracing::debug!(%address, "a connection to the Erlang node ended in its handshake"),
            Some(failure) => {
                if let Some(left_out) = self.quiet.admit() {
                    tracing::warn!(name, %address, left_out, "refused a connection to the Erlang node: {failure}");
                }
            }
        }
    }

    fn time(&self) -> Time {
        let ticks = self.start.elapsed().as_millis() / Time::TICK.as_millis();
        Time::from_ticks(u32::try_from(ticks).unwrap_or(u32::MAX).saturating_add(1))
    }

    fn instant(&self, time: Time) -> Instant {
        self.start + Time::TICK * (time.ticks() - 1)
    }
}

/// The connection is gone before it was accepted, or a signal came.
fn is_of_one(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}
