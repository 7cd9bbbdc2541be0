//! Links to connection managers (ECMs) as the whole system knows them: which there are, and on which shard each one lives.
//! What a link carries is its reactor's business ([`links`](crate::links)).

use crate::id::ListenerId;
use megaphone_proto::link::{self, LinkId, Refusal, Secret};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How a listener for the links of connection managers is set up.
#[derive(Clone, Debug)]
pub struct LinkListenerConfig {
    /// The node's name, the secret, and the bounds of each link. `initial_credit` has to be 1 at least: it is also the most
    /// that is kept of what a stream's client has sent and nobody has taken.
    pub link: Arc<link::Config>,
    /// Backlog of the listening socket. Default 128.
    pub backlog: i32,
    /// Links at a time, suspended ones included; above it new ones are refused. Default 64.
    pub max_links: usize,
    /// Connections at a time that have not proved yet that they know the secret. Each costs a descriptor and some 600 bytes
    /// for `handshake_timeout` at most. Above it the oldest gives way to the newest, so that silent ones keep no manager out.
    /// Default 64.
    pub max_handshakes: usize,
    /// As [`ListenerConfig::shut_with_owner`](crate::ListenerConfig::shut_with_owner). Default false.
    pub shut_with_owner: bool,
}

impl LinkListenerConfig {
    /// The default bounds.
    pub fn new(link: Arc<link::Config>) -> Self {
        Self { link, backlog: 128, max_links: 64, max_handshakes: 64, shut_with_owner: false }
    }
}

/// One link, as it was when its reactor last had something to do for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The listener that its last connection came to.
    pub listener: ListenerId,
    /// What the ECM calls it.
    pub id: LinkId,
    /// The ECM's name.
    pub ecm: Arc<str>,
    /// Where the last connection came from; none when that was a unix socket.
    pub peer: Option<SocketAddr>,
    /// It has a connection. Else it waits for one that resumes it.
    pub is_connected: bool,
    /// Streams of which not both ends have taken leave.
    pub streams: usize,
    /// Bytes that are kept until the ECM acknowledges them.
    pub kept_bytes: usize,
    /// Bytes that its connections have brought, handshakes left out.
    pub received: u64,
    /// Bytes that the kernel took for it, handshakes left out.
    pub sent: u64,
    /// How often another connection has resumed it.
    pub resumed: u64,
}

/// What a link listener has beside its socket.
pub(crate) struct Gate {
    pub(crate) config: LinkListenerConfig,
    stage: AtomicU8,
}

/// How far a link listener's links are to go. No way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Open,
    /// ECMs are told to open no more streams.
    GoingAway,
    /// Links end.
    Ending,
}

impl Gate {
    pub(crate) fn new(config: LinkListenerConfig) -> Self {
        Self { config, stage: AtomicU8::new(Stage::Open as u8) }
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Open,
            1 => Stage::GoingAway,
            _ => Stage::Ending,
        }
    }

    pub(crate) fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::Relaxed);
    }
}

/// One link, for those who are not its reactor.
pub(crate) struct LinkRecord {
    pub(crate) id: LinkId,
    pub(crate) ecm: Arc<str>,
    pub(crate) secret: Secret,
    pub(crate) shard: usize,
    /// Written by the reactor, locked for a copy.
    pub(crate) info: Mutex<LinkInfo>,
}

/// All links that are not over.
#[derive(Default)]
pub(crate) struct LinkRegistry {
    all: Mutex<HashMap<LinkId, Arc<LinkRecord>>>,
}

impl LinkRegistry {
    /// A new link, unless there are `max_links` of its listener.
    pub(crate) fn insert(&self, record: LinkRecord, max_links: usize) -> Result<Arc<LinkRecord>, Refusal> {
        let mut all = self.all.lock();
        if all.contains_key(&record.id) {
            return Err(Refusal::InUse);
        }
        let listener = record.info.lock().listener;
        let of_listener = all.values().filter(|other| other.info.lock().listener == listener).count();
        if of_listener >= max_links {
            return Err(Refusal::Overload);
        }
        let record = Arc::new(record);
        all.insert(record.id, Arc::clone(&record));
        Ok(record)
    }

    /// The link that an ECM of this name means, if it knows its secret.
    pub(crate) fn find(&self, id: LinkId, ecm: &str, secret: &Secret) -> Option<Arc<LinkRecord>> {
        let found = self.all.lock().get(&id).cloned()?;
        (&*found.ecm == ecm && found.secret == *secret).then_some(found)
    }

    pub(crate) fn remove(&self, id: LinkId) {
        self.all.lock().remove(&id);
    }

    pub(crate) fn infos(&self) -> Vec<LinkInfo> {
        self.all.lock().values().map(|record| record.info.lock().clone()).collect()
    }
}
