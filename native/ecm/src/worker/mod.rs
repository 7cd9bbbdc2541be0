//! Workers: one thread each, which shares nothing with others but counts. It has a table of descriptors, an epoll, listening
//! sockets, clients and links of its own, so that no byte of a client passes from one thread to another, and the limit of
//! descriptors is one a worker.
//!
//! A turn is bounded: what the kernel has is noted, then each listener, link and client is served one measure. What was left
//! undone goes on in the next turn, which does not wait.

mod arrivals;
mod carry;
mod choice;
mod client;
mod dial;
mod inquiry;
mod links;
mod pace;
mod pause;
mod slab;
mod state;
mod timers;
mod uplink;

pub(crate) use slab::locate;
pub(crate) use state::{Shared, Worker};

use crate::mail::{Mailbox, Plan, Post};
use megaphone_proto::time::Time;
use mio::{Events, Poll};
use pace::Pace;
use slab::Slab;
use state::{BUFFER, Counts, INBOX, Source};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use timers::Timers;

/// Events that are taken from the kernel in a turn.
const EVENTS: usize = 1024;
/// Letters that are read in a turn.
const LETTERS: usize = 256;

impl Worker {
    /// To be called on the worker's own thread, when its table of descriptors is its own. Also what can't be listened at.
    pub(crate) fn new(
        (index, workers): (u8, u16),
        (post, mailbox): (Post, Mailbox),
        shared: Arc<Shared>,
        plan: &Plan,
    ) -> io::Result<(Self, Vec<String>)> {
        let mut worker = Self {
            index,
            workers,
            poll: Poll::new()?,
            mailbox,
            post,
            start: Instant::now(),
            now: Time::START,
            shared,
            config: Arc::clone(&plan.link),
            balance: plan.balance,
            clients: Slab::new(),
            room: 0,
            listeners: Vec::new(),
            nodes: Vec::new(),
            listener_order: Vec::new(),
            node_order: Vec::new(),
            links: Vec::new(),
            waiting: VecDeque::new(),
            may_place: false,
            timers: Timers::default(),
            again: Vec::new(),
            is_busy: false,
            buffer: vec![0; BUFFER],
            inbox: vec![0; INBOX],
            counts: Counts::default(),
            pace: Pace::new(1, Time::START),
            drain_pace: 1,
            draining: None,
            tickets: 0,
        };
        worker.watch(worker.mailbox.waker(), Source::Mailbox)?;
        let problems = worker.apply(plan);
        Ok((worker, problems))
    }

    /// Serves until it is drained.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            self.tell_time();
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.tell_time();
            self.is_busy = false;
            self.note_events(&events);
            if self.turn() {
                return Ok(());
            }
        }
    }

    fn note_events(&mut self, events: &Events) {
        for event in events {
            match Source::of(event.token()) {
                Source::Mailbox => self.mailbox.calm(),
                Source::Listener(at) => {
                    if let Some(listener) = self.listeners.get_mut(at) {
                        listener.readable = true;
                    }
                }
                Source::Link(at) => self.handle_link(at, event),
                Source::Client(key) => self.handle_client(key, event),
            }
        }
    }

    /// One measure of everything. Whether it is all over.
    fn turn(&mut self) -> bool {
        self.read_mail();
        while let Some((at, timer, key)) = self.timers.due(self.now) {
            self.handle_timer(at, timer, key);
        }
        for at in 0..self.listeners.len() {
            self.accept(at);
        }
        for key in std::mem::take(&mut self.again) {
            self.look_at(key);
        }
        for at in 0..self.links.len() {
            self.tend_link(at);
        }
        self.place_waiting();
        self.shed();
        let is_over = self.tend_drain();
        for at in 0..self.links.len() {
            self.serve_link(at);
        }
        self.is_busy |= self.may_place && !self.waiting.is_empty();
        is_over
    }

    fn read_mail(&mut self) {
        for _ in 0..LETTERS {
            let Some(mail) = self.mailbox.take() else { return };
            self.handle_mail(mail);
        }
        self.is_busy = true;
    }

    /// How long to wait for events; none is for ever.
    fn timeout(&self) -> Option<Duration> {
        if self.is_busy || !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let paced = self.has_paced_work().then(|| Time::from_ticks(self.now.ticks() + 1));
        let links = self.links.iter().flatten().filter_map(|uplink| uplink.poll_timeout());
        let pauses = self.listeners.iter().filter_map(|listener| listener.paused_until);
        let due = links.chain(pauses).chain(self.timers.next()).chain(paced).min()?;
        // A point in time begins where its tick does.
        let at = Time::TICK.saturating_mul(due.ticks().saturating_sub(1));
        Some(at.saturating_sub(self.start.elapsed()))
    }
}
