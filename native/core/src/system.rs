//! All shards together: what other threads may ask for.

mod calls;
mod links;
mod listeners;
mod xmpp;

use crate::attached::{PollOutcome, ReadOutcome, Received, SendfileOutcome, WriteOutcome};
use crate::carrier::{Address, Shutdown};
use crate::connection::Connection;
use crate::cx::Fate;
use crate::engine::Engine;
use crate::error::Error;
#[cfg(feature = "fault-injection")]
use crate::host::Owned;
use crate::host::{Host, Sink};
use crate::id::{Conn, ListenerId};
use crate::link_registry::LinkRegistry;
use crate::options::{Delivery, Opt};
use crate::reactor::Reactor;
use crate::session::BoshSession;
use crate::settings::{Effort, Pulled, XmppConfig, XmppId};
use crate::shard::Shard;
use crate::shared::Shared;
use crate::stats::{ConnectionInfo, SessionInfo, SystemStats, Traffic};
use megaphone_proto::bosh::Condition;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How a system is set up.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Reactor threads, 1 to 16.
    pub reactors: usize,
    /// Connections at a time that are sockets; above it none is accepted. Streams of links are bounded by the links. As
    /// many BOSH sessions as there may be of both; who wants one more is refused with internal-server-error.
    pub max_connections: usize,
    /// The descriptor number from which none is accepted: the kernel gives the lowest free one, so that above it there
    /// is only what the rest of the process needs.
    pub max_descriptor: usize,
}

/// Shards, their threads, and the listeners. Lives as long as the program.
pub struct System<H: Host> {
    engine: Arc<Engine<H>>,
}

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
        let engine = Arc::new(Engine {
            shared: Shared::new(host, getrandom::u64().map_err(std::io::Error::other)?),
            shards: shards.into(),
            listeners: RwLock::new(HashMap::new()),
            named: RwLock::new(HashMap::new()),
            links: LinkRegistry::default(),
            next_listener: AtomicUsize::new(1),
            next_shard: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            max_streams: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            max_connections: AtomicUsize::new(config.max_connections),
            max_descriptor: AtomicUsize::new(config.max_descriptor),
            is_short_of_descriptors: AtomicBool::new(false),
            process_room: AtomicUsize::new(usize::MAX),
            accepted: AtomicU64::new(0),
            #[cfg(feature = "fault-injection")]
            faults: crate::faults::Faults::new(),
        });
        for (index, poll) in polls.into_iter().enumerate() {
            let engine = Arc::clone(&engine);
            std::thread::Builder::new()
                .name(format!("megaphone_tcp/{index}"))
                .spawn(move || Reactor::new(engine, index, poll).run())?;
        }
        Ok(Arc::new(Self { engine }))
    }

    /// Changes the bounds on connections and on BOSH sessions, and on descriptors. What is above a lower one stays.
    pub fn set_bounds(&self, max_connections: usize, max_descriptor: usize) {
        self.engine.max_connections.store(max_connections, Ordering::Relaxed);
        self.engine.max_descriptor.store(max_descriptor, Ordering::Relaxed);
        self.engine.resume_accepting();
    }

    /// Accepts at most `room` connections until it is told again; at first there is no such bound. For a host whose
    /// processes are bounded: whoever is not accepted waits in the kernel's backlog. The host tells the log, too.
    pub fn set_process_room(&self, room: usize) {
        let before = self.engine.process_room.swap(room, Ordering::Relaxed);
        if before == 0 && room > 0 {
            self.engine.retry_accepting();
        }
    }

    /// The host.
    pub fn host(&self) -> &H {
        &self.engine.shared.host
    }

    /// All connections. Takes time in proportion to their number; locks one at a time.
    pub fn connections(&self) -> Vec<Conn> {
        self.engine.shards.iter().flat_map(|shard| shard.connections.ids()).collect()
    }

    /// All BOSH sessions. Takes time in proportion to their number; locks one at a time.
    pub fn sessions(&self) -> Vec<Conn> {
        self.engine.shards.iter().flat_map(|shard| shard.sessions.ids()).collect()
    }

    /// The whole, as it is now.
    pub fn stats(&self) -> SystemStats {
        let engine = &self.engine;
        SystemStats {
            reactors: engine.shards.len(),
            connections: engine.connections.load(Ordering::Relaxed),
            sessions: engine.sessions.load(Ordering::Relaxed),
            max_connections: engine.max_connections.load(Ordering::Relaxed),
            accepted: engine.accepted.load(Ordering::Relaxed),
            listeners: engine
                .listeners
                .read()
                .values()
                .filter(|listener| listener.fd.lock().is_some())
                .count(),
            bytes_per_slot: Shard::<H>::BYTES_PER_SLOT,
            bytes_per_session: Shard::<H>::BYTES_PER_SESSION,
        }
    }

    /// Closes all listeners, sessions and connections, at once, and then [links](Self::close_links). The threads stay.
    pub fn close_all(&self, sink: &mut dyn Sink<H>) {
        let ids: Vec<u32> = self.engine.listeners.read().keys().copied().collect();
        for id in ids {
            // Closed already is as good.
            let _ = self.close_listener(ListenerId(id), sink);
        }
        for id in self.sessions() {
            // One that ended meanwhile is as good.
            let _ = self.engine.with(id, sink, |session: &mut BoshSession<H>, cx| {
                ((), session.abort_with(cx, Condition::SystemShutdown))
            });
        }
        for conn in self.connections() {
            let _ = self.abort(conn, sink);
        }
        let ids: Vec<u32> = self.engine.listeners.read().keys().copied().collect();
        for id in ids {
            // Others are closed.
            let _ = self.close_links(ListenerId(id));
        }
    }

    /// Has whoever steps on this connection or session next panic, so many times.
    #[cfg(feature = "fault-injection")]
    pub fn inject_panic(&self, place: Owned, times: usize) {
        self.engine.faults.ask_for(place, times);
        if let Owned::Connection(conn) = place {
            let shard = &self.engine.shards[conn.shard()];
            shard.connections.notify(conn.slot(), crate::store::Pending::LOOK);
        }
    }
}
