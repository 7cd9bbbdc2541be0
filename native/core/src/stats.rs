//! Figures that can be asked for.

use crate::id::ListenerId;

/// Bytes and calls of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received.
    pub received: u64,
    /// Bytes that the kernel took.
    pub sent: u64,
    /// Reads that gave bytes.
    pub reads: u32,
    /// Sends.
    pub writes: u32,
    /// The largest read, in bytes.
    pub largest_read: u32,
    /// The largest send, in bytes.
    pub largest_write: u32,
}

impl Traffic {
    pub(crate) fn count_read(&mut self, bytes: usize) {
        self.received += bytes as u64;
        self.reads = self.reads.wrapping_add(1);
        self.largest_read = self.largest_read.max(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    pub(crate) fn count_write(&mut self, bytes: usize) {
        self.writes = self.writes.wrapping_add(1);
        self.largest_write = self.largest_write.max(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}

/// One connection, as it is at the moment.
#[derive(Clone, Debug)]
pub struct ConnectionInfo<P> {
    /// Who accepted it.
    pub listener: ListenerId,
    /// `parked`, `reading` (a request is arriving), `held` (its request waits for a BOSH session's answer),
    /// `starting`, `running`, `queued`, `draining` or `lingering`.
    pub phase: &'static str,
    /// Whoever has it.
    pub owner: Option<P>,
    /// It is in request mode.
    pub is_http: bool,
    /// `tcp` or `websocket` when it carries an XMPP stream.
    pub transport: Option<&'static str>,
    /// Bytes received and not taken.
    pub inbound: usize,
    /// Bytes that wait to be sent.
    pub outbound: usize,
    /// Bytes of memory, without those two, and those of half a stanza.
    pub bytes: usize,
    /// Counters.
    pub traffic: Traffic,
}

/// One BOSH session, as it is at the moment.
#[derive(Clone, Debug)]
pub struct SessionInfo<P> {
    /// Who accepted the connection that it began on.
    pub listener: ListenerId,
    /// `starting`, `running`, or `ending` when its client has yet to hear that its owner is gone.
    pub phase: &'static str,
    /// Whoever has it.
    pub owner: Option<P>,
    /// Bytes that wait for the client.
    pub outbound: usize,
    /// Bytes of memory, without those that wait for anybody.
    pub bytes: usize,
}

/// The whole system, at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemStats {
    /// Reactor threads.
    pub reactors: usize,
    /// Open connections.
    pub connections: usize,
    /// Open BOSH sessions.
    pub sessions: usize,
    /// The bound on connections that are sockets.
    pub max_connections: usize,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Open listeners.
    pub listeners: usize,
    /// Bytes in which one connection's record is kept.
    pub bytes_per_slot: usize,
    /// Bytes in which one BOSH session's record is kept.
    pub bytes_per_session: usize,
}
