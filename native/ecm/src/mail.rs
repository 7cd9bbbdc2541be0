//! What a worker is told and asked from other threads, and how it is woken for that.

use crate::control::{ConnectionInfo, ListenerStats, NodeStats};
use crate::settings::{Balance, Drain, Environment, Listener, Node};
use megaphone_proto::link::Config;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Letters that may wait.
const MOST: usize = 256;

/// What can change while the program runs.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) link: Arc<Config>,
    pub(crate) balance: Balance,
    pub(crate) listeners: Vec<PlannedListener>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) drain: Drain,
}

impl Plan {
    /// Clients that a worker has descriptors for.
    pub(crate) fn room(&self, workers: u16) -> u64 {
        Environment::of_process().room(self.listeners.len(), &self.nodes, workers)
    }
}

/// A listener, and its clients in all workers.
#[derive(Clone)]
pub(crate) struct PlannedListener {
    pub(crate) settings: Arc<Listener>,
    pub(crate) connections: Arc<AtomicUsize>,
}

/// A letter to a worker.
pub(crate) enum Mail {
    /// How is it?
    Report(SyncSender<Report>),
    /// What of this client, of a slot and generation?
    Find(u32, u32, SyncSender<Option<ConnectionInfo>>),
    /// Whether the client was there, and is closed.
    Close(u32, u32, SyncSender<bool>),
    /// From here on this is how it is. Answered with the addresses that can't be listened at.
    Apply(Box<Plan>, SyncSender<Vec<String>>),
    /// No more clients, and those that are there go: the last one so long from now, so many a second.
    Drain(Duration, u32),
    /// The addresses of a name that a link asked for; with the ticket that it gave.
    Resolved(u16, u32, Result<Vec<IpAddr>, String>),
}

/// Figures of one worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) connections: usize,
    pub(crate) nodes: Vec<NodeStats>,
    pub(crate) listeners: Vec<ListenerStats>,
}

/// A worker's mailbox, from outside.
#[derive(Clone)]
pub(crate) struct Post {
    letters: SyncSender<Mail>,
    waker: Arc<OwnedFd>,
}

/// A worker's mailbox, from inside.
pub(crate) struct Mailbox {
    letters: Receiver<Mail>,
    waker: Arc<OwnedFd>,
}

/// The two ends of a new one. To be made before the worker's thread: the eventfd has the same number in its table then.
pub(crate) fn mailbox() -> Result<(Post, Mailbox), Errno> {
    let waker = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    let (sender, receiver) = sync_channel(MOST);
    Ok((Post { letters: sender, waker: Arc::clone(&waker) }, Mailbox { letters: receiver, waker }))
}

impl Post {
    /// Waits for room. False when the worker has ended.
    pub(crate) fn send(&self, mail: Mail) -> bool {
        let is_sent = self.letters.send(mail).is_ok();
        self.wake();
        is_sent
    }

    /// False when there is no room, or the worker has ended.
    pub(crate) fn try_send(&self, mail: Mail) -> bool {
        let is_sent = self.letters.try_send(mail).is_ok();
        if is_sent {
            self.wake();
        }
        is_sent
    }

    fn wake(&self) {
        // One that can't take more wakes anyway.
        let _ = rustix::io::write(&self.waker, &1u64.to_ne_bytes());
    }
}

impl Mailbox {
    pub(crate) fn waker(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }

    /// Before letters are taken: what comes later wakes again.
    pub(crate) fn calm(&self) {
        // Empty when nobody has woken.
        let _ = rustix::io::read(&self.waker, &mut [0u8; 8]);
    }

    pub(crate) fn take(&self) -> Option<Mail> {
        self.letters.try_recv().ok()
    }
}
