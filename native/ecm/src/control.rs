//! What operators may ask of a running program: over Erlang distribution, over HTTP, by signals.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// A client's connection: the worker that holds it, its slot there, and how often the slot had another before. Printed, and read, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Answers from any thread. Each gathers what the workers say, and waits for them up to a second; of one that has not answered
/// by then, the figures are those of its last answer.
pub trait Control: Send + Sync + 'static {
    /// The whole, as it is now.
    fn stats(&self) -> Stats;
    /// In the order of the file.
    fn listeners(&self) -> Vec<ListenerStats>;
    /// None when it is not there.
    fn connection(&self, id: ConnectionId) -> Option<ConnectionInfo>;
    /// Closes a client's connection. False when it is not there.
    fn close(&self, id: ConnectionId) -> bool;
    /// Takes no new clients, and closes those that are there until the deadline (none: the configured one), and ends the program.
    /// Asked again, the earlier deadline holds.
    fn drain(&self, deadline: Option<Duration>);
    /// At least one node takes clients, all listeners listen, and there is no drain.
    fn is_ready(&self) -> bool;
}

/// Figures of the program. Counters begin with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The ECM's name.
    pub name: String,
    /// How long it has been running.
    pub uptime: Duration,
    /// It closes its clients, and ends.
    pub is_draining: bool,
    /// Threads that hold clients.
    pub workers: usize,
    /// Clients that are connected.
    pub connections: usize,
    /// As many as there may be.
    pub max_connections: usize,
    /// Clients that were accepted.
    pub accepted: u64,
    /// Clients that were closed for want of room, of a node, or by a rule, before they had a stream.
    pub refused: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// In the order of the file.
    pub nodes: Vec<NodeStats>,
}

/// Figures of a node, all workers together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// Its Erlang name.
    pub name: String,
    /// It takes new clients.
    pub is_up: bool,
    /// Links that have a connection.
    pub links_up: usize,
    /// Links that wait for one.
    pub links_suspended: usize,
    /// Streams of its links.
    pub streams: usize,
    /// Bytes of its links that are kept until they are acknowledged.
    pub kept_bytes: usize,
    /// How often a link's connection was lost.
    pub cuts: u64,
    /// How often a link was resumed.
    pub resumed: u64,
    /// How often a link was lost with its streams.
    pub lost: u64,
}

/// Figures of a listener, all workers together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStats {
    /// Where.
    pub listen: SocketAddr,
    /// The node's listener that it stands for.
    pub node_listener: String,
    /// Clients that are connected.
    pub connections: usize,
    /// As many as there may be.
    pub max_connections: usize,
    /// Clients that were accepted.
    pub accepted: u64,
    /// It accepts.
    pub is_open: bool,
}

/// A client's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its name.
    pub id: ConnectionId,
    /// The client's address; of one behind a proxy, as the proxy says.
    pub client: String,
    /// Where it connected.
    pub listen: SocketAddr,
    /// The node that has it; none while it waits for one.
    pub node: Option<String>,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
}
