//! All that a worker has.

use super::client::{Client, Flags, NO_STREAM, Phase};
use super::pace::Pace;
use super::slab::{Key, SLOT_BITS, Slab};
use super::timers::{Timer, Timers};
use super::uplink::Uplink;
use crate::control::NodeStats;
use crate::mail::{Mailbox, PlannedListener, Post};
use crate::net;
use crate::notes::Notes;
use crate::resolve::Resolver;
use crate::settings;
use megaphone_proto::link::{Config, Reason};
use megaphone_proto::time::Time;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The most that is read of a client at once: what a frame takes. One buffer a worker.
pub(super) const BUFFER: usize = 64 << 10;
/// The same of a link.
pub(super) const INBOX: usize = 256 << 10;

/// Clients of a link that is lost are closed at this rate, or at that of draining if that is faster.
const LEAST_RATE: u32 = 1000;

/// How long a client may take for what comes at its end, without any progress.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// What all workers have in common.
pub(crate) struct Shared {
    /// Clients of all workers.
    pub(crate) connections: AtomicUsize,
    pub(crate) max_connections: AtomicUsize,
    pub(crate) notes: Notes,
    pub(crate) resolver: Resolver,
}

/// A listener, in this worker.
pub(super) struct Listening {
    pub(super) plan: PlannedListener,
    /// None: it does not listen.
    pub(super) socket: Option<OwnedFd>,
    pub(super) readable: bool,
    /// It waits for descriptors.
    pub(super) paused_until: Option<Time>,
    pub(super) accepted: u64,
    pub(super) connections: usize,
}

/// A node, in this worker.
pub(super) struct Node {
    pub(super) settings: settings::Node,
    /// What is counted; the rest is looked up.
    pub(super) stats: NodeStats,
}

/// All clients are asked to go.
pub(super) struct Draining {
    pub(super) until: Time,
    pub(super) pace: Pace,
    /// The next slot to be asked.
    pub(super) next: u32,
    /// No client is left; so long the links may take.
    pub(super) quiet_until: Option<Time>,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// A worker: clients, listening sockets and links of its own, on one thread.
pub(crate) struct Worker {
    /// Its number, for names of connections.
    pub(super) index: u8,
    pub(super) workers: u16,
    pub(super) poll: Poll,
    pub(super) mailbox: Mailbox,
    /// For those who answer.
    pub(super) post: Post,
    pub(super) start: Instant,
    pub(super) now: Time,
    pub(super) shared: Arc<Shared>,
    pub(super) config: Arc<Config>,
    pub(super) balance: settings::Balance,
    pub(super) clients: Slab<Client>,
    /// As many as leave descriptors for what else the worker needs: a link that is cut needs one to be resumed.
    pub(super) room: usize,
    pub(super) listeners: Vec<Listening>,
    pub(super) nodes: Vec<Node>,
    /// Which of them are in the file, in its order.
    pub(super) listener_order: Vec<usize>,
    pub(super) node_order: Vec<usize>,
    pub(super) links: Vec<Option<Uplink>>,
    /// Clients that no node has, in the order in which they came.
    pub(super) waiting: VecDeque<Key>,
    /// A link may have room for them.
    pub(super) may_place: bool,
    pub(super) timers: Timers,
    /// Clients to look at again in the next turn.
    pub(super) again: Vec<Key>,
    /// Something was left undone in this turn.
    pub(super) is_busy: bool,
    pub(super) buffer: Vec<u8>,
    pub(super) inbox: Vec<u8>,
    pub(super) counts: Counts,
    /// At which clients are closed whose node is lost or leaves.
    pub(super) pace: Pace,
    pub(super) drain_pace: u32,
    pub(super) draining: Option<Draining>,
    pub(super) tickets: u32,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Mailbox,
    Listener(usize),
    Link(usize),
    Client(Key),
}

const KIND: u32 = 60;

impl Source {
    pub(super) fn token(self) -> Token {
        Token(match self {
            Self::Mailbox => 0,
            Self::Listener(at) => 1 << KIND | at,
            Self::Link(at) => 2 << KIND | at,
            Self::Client(key) => 3 << KIND | (key.generation as usize) << SLOT_BITS | key.slot as usize,
        })
    }

    pub(super) fn of(token: Token) -> Self {
        let at = token.0 & ((1 << KIND) - 1);
        match token.0 >> KIND {
            0 => Self::Mailbox,
            1 => Self::Listener(at),
            2 => Self::Link(at),
            _ => Self::Client(Key {
                slot: (at & ((1 << SLOT_BITS) - 1)) as u32,
                generation: (at >> SLOT_BITS) as u32,
            }),
        }
    }
}

impl Worker {
    /// Times are counted from the worker's start.
    pub(super) fn tell_time(&mut self) {
        let ticks = self.start.elapsed().as_millis() / Time::TICK.as_millis();
        self.now = Time::from_ticks(u32::try_from(ticks).unwrap_or(u32::MAX).saturating_add(1));
    }

    pub(super) fn watch(&self, fd: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        let interest = match source {
            Source::Mailbox | Source::Listener(_) => Interest::READABLE,
            Source::Link(_) | Source::Client(_) => Interest::READABLE | Interest::WRITABLE,
        };
        self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), source.token(), interest)
    }

    /// A number by chance. Where the system has none, pauses are not spread, and no more.
    pub(super) fn chance() -> u32 {
        getrandom::u32().unwrap_or(u32::MAX)
    }

    /// Whether to log something of that kind about that subject; as [`Notes::due`].
    pub(super) fn note(&self, kind: &'static str, subject: &str) -> Option<u64> {
        self.shared.notes.due(kind, subject, Instant::now())
    }

    /// That of closing clients whose node is lost, for this worker.
    pub(super) fn shed_rate(&self) -> u32 {
        self.drain_pace.max(LEAST_RATE.div_ceil(self.workers.into()))
    }

    /// Sets the one timer that a client has.
    pub(super) fn set_timer(&mut self, key: Key, timer: Timer, after: Duration) {
        let at = self.now.after(after);
        if let Some(client) = self.clients.get_mut(key.slot) {
            client.due = Some(at);
            self.timers.set(at, timer, key);
        }
    }

    /// Takes a client out, with its descriptor.
    pub(super) fn remove(&mut self, slot: u32) -> Option<OwnedFd> {
        let client = self.clients.remove(slot)?;
        if client.stream != NO_STREAM
            && let Some(Some(uplink)) = self.links.get_mut(usize::from(client.link))
        {
            uplink.forget_client(client.stream);
        }
        if let Some(listener) = self.listeners.get_mut(usize::from(client.listener)) {
            listener.connections -= 1;
            listener.plan.connections.fetch_sub(1, Ordering::Relaxed);
        }
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        Some(client.socket)
    }

    /// The client's connection broke, or breaks now; the node is told.
    pub(super) fn break_off(&mut self, slot: u32) {
        self.close_stream(slot, Reason::Reset);
        if let Some(socket) = self.remove(slot) {
            net::reset(socket);
        }
    }

    /// Takes leave of the client's stream, if it has one.
    pub(super) fn close_stream(&mut self, slot: u32, reason: Reason) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let stream = std::mem::replace(&mut client.stream, NO_STREAM);
        let Some(Some(uplink)) = self.links.get_mut(usize::from(client.link)) else { return };
        if stream != NO_STREAM {
            uplink.forget_client(stream);
            if let Some(link) = &mut uplink.link {
                link.close(stream, reason);
            }
        }
    }

    /// No node has the client any more, or will: it gets what is kept and is closed.
    pub(super) fn leave(&mut self, slot: u32) {
        let Some(key) = self.clients.key(slot) else { return };
        let Some(client) = self.clients.get_mut(slot) else { return };
        client.phase = Phase::Leaving;
        client.ungranted = 0;
        client.set(Flags::NODE_EOF, true);
        self.set_timer(key, Timer::Linger, LINGER);
        self.again.push(key);
        self.flushed(slot, Ok(0));
    }

    /// Some bytes have left for the client, or it broke.
    pub(super) fn flushed(&mut self, slot: u32, written: Result<usize, Errno>) {
        let Ok(written) = written else {
            self.break_off(slot);
            return;
        };
        self.counts.sent += written as u64;
        let Some(client) = self.clients.get_mut(slot) else { return };
        client.ungranted = client.ungranted.saturating_add(u32::try_from(written).unwrap_or(u32::MAX));
        client.shut_if_flushed();
        if client.is_done() {
            self.close_stream(slot, Reason::Closed);
            self.remove(slot);
        } else if client.phase == Phase::Carried {
            self.grant(slot);
        }
    }

    /// The node may send as much as has left, in measures that are worth a frame.
    fn grant(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        let Some(Some(uplink)) = self.links.get_mut(usize::from(client.link)) else { return };
        if client.ungranted > uplink.config.initial_credit / 2
            && let Some(link) = &mut uplink.link
        {
            link.grant(client.stream, std::mem::take(&mut client.ungranted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back() {
        let client = Source::Client(Key { slot: (1 << SLOT_BITS) - 1, generation: u32::MAX });
        for source in [Source::Mailbox, Source::Listener(7), Source::Link(65_535), client] {
            assert_eq!(Source::of(source.token()), source);
        }
    }
}
