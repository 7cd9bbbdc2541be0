//! Links to connection managers (ECMs) as the whole system knows them: which there are, and on which shard each one lives.
//! What a link carries is its reactor's business ([`links`](crate::links)).

use crate::id::ListenerId;
use megaphone_proto::link;
use std::net::SocketAddr;
use std::sync::Arc;

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
    /// for `handshake_timeout` at most; more wait in the backlog. Default 64.
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
    pub id: link::LinkId,
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
