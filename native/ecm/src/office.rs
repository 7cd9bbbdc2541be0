//! What other threads may ask and order: they write to the workers, and put together what those answer.

use crate::control::{ConnectionId, ConnectionInfo, Control, ListenerStats, NodeStats, Stats};
use crate::mail::{Mail, Post, Report};
use crate::settings::Drain;
use crate::worker::{Shared, locate};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer of the workers is waited for.
const ANSWER: Duration = Duration::from_secs(1);

/// Something that the main thread has to see to.
pub(crate) enum Happening {
    Signal(i32),
    /// Somebody has asked for it.
    Draining,
    /// A worker serves, unless there are addresses that it can't listen at.
    Started(Vec<String>),
    Ended(Result<(), String>),
}

/// What other threads may use.
pub(crate) struct Office {
    pub(crate) name: String,
    pub(crate) start: Instant,
    pub(crate) posts: Vec<Post>,
    pub(crate) shared: Arc<Shared>,
    /// What each worker has said last.
    pub(crate) reports: Mutex<Vec<Report>>,
    pub(crate) drain: Mutex<Drain>,
    pub(crate) is_draining: AtomicBool,
    /// To the main thread.
    pub(crate) tell: Sender<Happening>,
}

impl Office {
    /// Asks all workers, and gives what they answer in time, in their order.
    pub(crate) fn ask<T>(&self, within: Duration, letter: impl Fn(SyncSender<T>) -> Mail) -> Vec<Option<T>> {
        let until = Instant::now() + within;
        let replies: Vec<_> = self
            .posts
            .iter()
            .map(|post| {
                let (reply, answer) = sync_channel(1);
                post.try_send(letter(reply)).then_some(answer)
            })
            .collect();
        let wait =
            |answer: Receiver<T>| answer.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        replies.into_iter().map(|answer| answer.and_then(wait)).collect()
    }

    /// Asks the worker that has a connection.
    fn ask_one<T>(&self, id: ConnectionId, letter: impl Fn(u32, u32, SyncSender<T>) -> Mail) -> Option<T> {
        let (worker, slot, generation) = locate(id);
        let (reply, answer) = sync_channel(1);
        let is_sent = self.posts.get(worker)?.try_send(letter(slot, generation, reply));
        is_sent.then(|| answer.recv_timeout(ANSWER).ok())?
    }

    fn reports(&self) -> Vec<Report> {
        let new = self.ask(ANSWER, Mail::Report);
        let mut last = lock(&self.reports);
        for (last, new) in last.iter_mut().zip(new) {
            if let Some(new) = new {
                *last = new;
            }
        }
        last.clone()
    }

    /// Whether all workers answer. One that has ended, drained, has no more to say.
    pub(crate) fn is_alive(&self) -> bool {
        let is_draining = self.is_draining.load(Ordering::Relaxed);
        is_draining || self.ask(ANSWER, Mail::Report).iter().all(Option::is_some)
    }

    pub(crate) fn begin_drain(&self, deadline: Option<Duration>) {
        let settings = *lock(&self.drain);
        let is_first = !self.is_draining.swap(true, Ordering::Relaxed);
        let deadline = deadline.unwrap_or(settings.deadline);
        let connections = self.shared.connections.load(Ordering::Relaxed);
        // A deadline that the configured pace would miss asks for another.
        let least = connections.div_ceil(usize::try_from(deadline.as_secs()).unwrap_or(usize::MAX).max(1));
        let pace = settings.pace.max(u32::try_from(least).unwrap_or(u32::MAX));
        let each = pace.div_ceil(u32::try_from(self.posts.len()).unwrap_or(1));
        if is_first {
            tracing::info!(connections, ?deadline, pace, "draining: no new clients");
            // The main thread may have come to its end.
            let _ = self.tell.send(Happening::Draining);
        }
        for post in &self.posts {
            // One that has ended has no clients.
            post.send(Mail::Drain(deadline, each));
        }
    }
}

impl Control for Office {
    fn stats(&self) -> Stats {
        let reports = self.reports();
        let mut stats = Stats {
            name: self.name.clone(),
            uptime: self.start.elapsed(),
            is_draining: self.is_draining.load(Ordering::Relaxed),
            workers: self.posts.len(),
            max_connections: self.shared.max_connections.load(Ordering::Relaxed),
            ..Stats::default()
        };
        for report in reports {
            stats.connections += report.connections;
            stats.accepted += report.accepted;
            stats.refused += report.refused;
            stats.received += report.received;
            stats.sent += report.sent;
            report.nodes.into_iter().for_each(|node| add_node(&mut stats.nodes, node));
        }
        stats
    }

    fn listeners(&self) -> Vec<ListenerStats> {
        let mut all: Vec<ListenerStats> = Vec::new();
        for listener in self.reports().into_iter().flat_map(|report| report.listeners) {
            match all.iter_mut().find(|other| other.listen == listener.listen) {
                Some(sum) => {
                    sum.connections += listener.connections;
                    sum.accepted += listener.accepted;
                    sum.is_open &= listener.is_open;
                }
                None => all.push(listener),
            }
        }
        all
    }

    fn connection(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        self.ask_one(id, Mail::Find).flatten()
    }

    fn close(&self, id: ConnectionId) -> bool {
        self.ask_one(id, Mail::Close).unwrap_or(false)
    }

    fn drain(&self, deadline: Option<Duration>) {
        self.begin_drain(deadline);
    }

    fn is_ready(&self) -> bool {
        if self.is_draining.load(Ordering::Relaxed) {
            return false;
        }
        let reports = self.reports();
        reports.iter().flat_map(|report| &report.listeners).all(|listener| listener.is_open)
            && reports.iter().flat_map(|report| &report.nodes).any(|node| node.is_up)
    }
}

fn add_node(nodes: &mut Vec<NodeStats>, node: NodeStats) {
    let Some(sum) = nodes.iter_mut().find(|other| other.name == node.name) else {
        nodes.push(node);
        return;
    };
    sum.is_up |= node.is_up;
    sum.links_up += node.links_up;
    sum.links_suspended += node.links_suspended;
    sum.streams += node.streams;
    sum.kept_bytes += node.kept_bytes;
    sum.cuts += node.cuts;
    sum.resumed += node.resumed;
    sum.lost += node.lost;
}

/// What a thread that panicked leaves behind is whole: nothing is computed under these locks.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
