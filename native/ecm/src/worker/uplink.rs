//! One link to a node, with its connection and the clients of its streams.

use super::client::NO_STREAM;
use super::pause::{Bounds, Pause, TO_BEGIN, TO_RESUME};
use megaphone_proto::link::{Config, Dialer, Link, LinkId};
use megaphone_proto::time::Time;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// How long a link without a connection counts as one that has one: a blink is no reason to send clients elsewhere.
const BLINK: Duration = Duration::from_secs(2);

/// A connection that lasted shorter was none worth hurrying for.
const WORTHWHILE: Duration = Duration::from_secs(1);

/// What becomes of the link's connection.
pub(super) enum Connection {
    /// There is none; one is to be made then.
    None { dial_at: Time },
    /// The node's name is being asked for.
    Resolving { ticket: u32, until: Time },
    /// The system makes it.
    Connecting { socket: OwnedFd, until: Time },
    /// Either end proves what it is.
    Shaking { socket: OwnedFd, dialer: Box<Dialer>, out: Vec<u8> },
    /// It is the link's.
    Up { socket: OwnedFd },
    /// There will be no other.
    Over,
}

/// A link to a node.
pub(super) struct Uplink {
    /// The node's place among the worker's.
    pub(super) node: usize,
    pub(super) id: LinkId,
    /// None before its first connection.
    pub(super) link: Option<Link>,
    pub(super) config: Arc<Config>,
    pub(super) connection: Connection,
    /// Of the connection that is being made.
    pub(super) attempt: u32,
    pub(super) pause: Pause,
    /// The kernel may have bytes, or take some.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// When its connection came, or was lost.
    pub(super) since: Time,
    /// The node wants no more streams.
    pub(super) is_leaving: bool,
    /// When its clients are to be asked to go elsewhere, if the node wants no more.
    pub(super) spread_from: Time,
    /// How far they were asked.
    pub(super) spread: usize,
    /// Slots of clients by stream.
    clients: Vec<u32>,
}

impl Uplink {
    pub(super) fn new(node: usize, id: LinkId, config: Arc<Config>, dial_at: Time) -> Self {
        Self {
            node,
            id,
            link: None,
            config,
            connection: Connection::None { dial_at },
            attempt: 0,
            pause: Pause::default(),
            readable: false,
            writable: false,
            since: dial_at,
            is_leaving: false,
            spread_from: dial_at,
            spread: 0,
            clients: Vec::new(),
        }
    }

    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match &self.connection {
            Connection::Connecting { socket, .. }
            | Connection::Shaking { socket, .. }
            | Connection::Up { socket } => Some(socket.as_fd()),
            Connection::None { .. } | Connection::Resolving { .. } | Connection::Over => None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.connection, Connection::Up { .. })
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.connection, Connection::Over)
    }

    /// It has streams, or may have, and no connection.
    pub(super) fn is_suspended(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.is_connected() && !link.is_over())
    }

    /// It has a connection, or had one a moment ago and no attempt at another has failed.
    pub(super) fn is_usable(&self, now: Time) -> bool {
        let is_blink = self.pause.failures() == 0 && now.since(self.since) < BLINK;
        self.is_up() || self.is_suspended() && is_blink
    }

    pub(super) fn streams(&self) -> usize {
        self.link.as_ref().map_or(0, Link::streams)
    }

    pub(super) fn client(&self, stream: u32) -> Option<u32> {
        self.clients.get(stream as usize).copied().filter(|slot| *slot != NO_STREAM)
    }

    pub(super) fn set_client(&mut self, stream: u32, slot: u32) {
        let at = stream as usize;
        if self.clients.len() <= at {
            self.clients.resize(at + 1, NO_STREAM);
        }
        self.clients[at] = slot;
    }

    pub(super) fn forget_client(&mut self, stream: u32) {
        if let Some(slot) = self.clients.get_mut(stream as usize) {
            *slot = NO_STREAM;
        }
    }

    /// The next client that was not asked to go yet.
    pub(super) fn next_to_spread(&mut self) -> Option<u32> {
        let rest = self.clients.get(self.spread..)?;
        let ahead = rest.iter().position(|slot| *slot != NO_STREAM)?;
        self.spread += ahead + 1;
        self.clients.get(self.spread - 1).copied()
    }

    /// Its connection was lost: another one is made at once, unless such have not lasted.
    pub(super) fn suspended(&mut self, now: Time, chance: u32) {
        let lasted = now.since(self.since) >= WORTHWHILE;
        self.since = now;
        if lasted {
            self.pause.reset();
        }
        let dial_at = if lasted { now } else { now.after(self.pause.next(TO_RESUME, chance)) };
        self.connection = Connection::None { dial_at };
    }

    /// An attempt to connect came to nothing.
    pub(super) fn failed(&mut self, now: Time, chance: u32) {
        let bounds: Bounds = if self.link.is_some() { TO_RESUME } else { TO_BEGIN };
        self.connection = Connection::None { dial_at: now.after(self.pause.next(bounds, chance)) };
    }

    /// When something is to be done.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let own = match &self.connection {
            Connection::None { dial_at } => Some(*dial_at),
            Connection::Resolving { until, .. } | Connection::Connecting { until, .. } => Some(*until),
            Connection::Shaking { dialer, .. } => dialer.poll_timeout(),
            Connection::Up { .. } | Connection::Over => None,
        };
        let links = self.link.as_ref().and_then(Link::poll_timeout);
        own.into_iter().chain(links).min()
    }
}
