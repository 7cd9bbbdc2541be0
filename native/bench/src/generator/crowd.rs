//! One worker's XMPP users: logging in, chatting, pinging and logging out, as the orders say.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use hdrhistogram::Histogram;

use crate::client::session::{Accounts, User};
use crate::client::user::{Client, Output, Transport};
use crate::client::{Failure, News};
use crate::generator::io::{Gone, Io, Scenario};
use crate::generator::latency;
use crate::generator::pace::Pace;
use crate::generator::shared::Shared;

/// Who a worker's users are and where they connect to.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    /// The number of the first.
    pub(crate) first: u32,
    pub(crate) count: usize,
    /// Given to the users in turn.
    pub(crate) transports: Vec<Transport>,
    pub(crate) accounts: Accounts,
    /// Where users on TCP connect to.
    pub(crate) c2s: SocketAddr,
    /// Where users on WebSocket and BOSH connect to.
    pub(crate) http: SocketAddr,
}

/// What the users are to do next. Each order is answered by one [`PhaseReport`].
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// Those who are absent log in, so many a second and at most so many at the same time.
    LogIn { ramp: f64, at_once: usize, limit: Duration },
    /// Those who are online send something, for this long.
    Traffic { kind: Kind, rate: Rate, long: Duration, body: String },
    /// Those who are online log out.
    LogOut { ramp: f64, limit: Duration },
}

/// What users send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A message to another user of the same worker; its latency ends when that user has read it.
    Chat,
    /// A ping to the server; its latency ends with the answer.
    Ping,
}

/// How fast they send.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rate {
    /// So many a second, all users together. Latency counts from the time at which one was due.
    Fixed(f64),
    /// Each user sends when it has the answer to what it sent before. Latency counts from sending.
    Closed,
}

/// How an order was carried out. Latencies are in nanoseconds.
#[derive(Debug)]
pub(crate) struct PhaseReport {
    pub(crate) latency: Histogram<u64>,
    /// Users that logged in or out, or messages and pings that were answered.
    pub(crate) done: u64,
    /// Messages and pings sent.
    pub(crate) sent: u64,
    /// From the order to the last thing done.
    pub(crate) elapsed: Duration,
}

/// How long one user may take to log in or out, and messages to arrive after the last one was sent.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const SWEEP: Duration = Duration::from_secs(1);

/// One worker's users, as a [`Scenario`].
pub(crate) struct Crowd<'a> {
    members: Members,
    lanes_each: usize,
    users: Vec<Member>,
    shared: &'a Shared,
    orders: Receiver<Order>,
    reports: Sender<PhaseReport>,
    phase: Option<Phase>,
    epoch: Instant,
    out: Output,
}

struct Member {
    client: Option<Client>,
    state: State,
    /// When it began what it is doing; what its latency counts from.
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    /// Logging in or out, to be done by the end of this second of the run.
    Busy {
        deadline: u32,
    },
    Online,
    Lost,
}

struct Phase {
    order: Order,
    pace: Pace,
    start: Instant,
    give_up: Instant,
    next_sweep: Instant,
    /// Users that are logging in or out.
    busy: usize,
    /// Where the search for the next user begins.
    cursor: usize,
    last: Instant,
    report: PhaseReport,
}

impl<'a> Crowd<'a> {
    /// Users who are all absent. Stamps of messages count from `epoch`; nonces follow from `seed`.
    pub(crate) fn new(
        members: Members,
        shared: &'a Shared,
        orders: Receiver<Order>,
        reports: Sender<PhaseReport>,
        epoch: Instant,
        seed: u64,
    ) -> Self {
        let absent = || Member { client: None, state: State::Absent, since: epoch };
        Self {
            lanes_each: lanes_each(&members.transports),
            users: std::iter::repeat_with(absent).take(members.count).collect(),
            members,
            shared,
            orders,
            reports,
            phase: None,
            epoch,
            out: Output::new(seed),
        }
    }

    fn begin(&mut self, io: &mut Io, order: Order, now: Instant) {
        let count = |state| self.users.iter().filter(|user| user.state == state).count() as u32;
        let online = count(State::Online);
        let (pace, limit) = match &order {
            Order::LogIn { ramp, limit, .. } => {
                (Pace::new(now, Duration::ZERO, *ramp, count(State::Absent)), *limit)
            }
            Order::LogOut { ramp, limit } => (Pace::new(now, Duration::ZERO, *ramp, online), *limit),
            Order::Traffic { rate: Rate::Fixed(rate), long, .. } => {
                let count = (rate * long.as_secs_f64()).round() as u32;
                (Pace::new(now, Duration::ZERO, *rate, count), *long + PATIENCE)
            }
            Order::Traffic { rate: Rate::Closed, long, .. } => {
                (Pace::new(now, Duration::ZERO, f64::INFINITY, online), *long + PATIENCE)
            }
        };
        let report = PhaseReport { latency: latency::histogram(), done: 0, sent: 0, elapsed: Duration::ZERO };
        self.phase = Some(Phase {
            order,
            pace,
            start: now,
            give_up: now + limit,
            next_sweep: now + SWEEP,
            busy: 0,
            cursor: 0,
            last: now,
            report,
        });
        self.advance(io, now);
    }

    /// Does what is due; says when to be called again, `None` when the phase is over.
    fn advance(&mut self, io: &mut Io, now: Instant) -> Option<Instant> {
        while let Some(due) = self.take_due(now) {
            let phase = self.phase.as_ref()?;
            match &phase.order {
                Order::LogIn { ramp, .. } => {
                    let since = if ramp.is_finite() { due } else { now };
                    self.log_in(io, since, now);
                }
                Order::LogOut { .. } => self.log_out(io, now),
                Order::Traffic { kind, rate, .. } => {
                    let (kind, since) = (*kind, if matches!(rate, Rate::Closed) { now } else { due });
                    self.send_next(io, kind, since);
                }
            }
        }
        let phase = self.phase.as_ref()?;
        if now >= phase.next_sweep {
            self.sweep(io, now);
        }
        let phase = self.phase.as_ref()?;
        let is_over = phase.pace.left() == 0 && phase.busy == 0 && phase.is_answered(now);
        let nobody = matches!(phase.order, Order::Traffic { .. }) && !self.anybody_online();
        if is_over || nobody || now >= phase.give_up {
            self.end(io);
            return None;
        }
        let wait = if phase.is_full() {
            phase.next_sweep
        } else {
            phase.pace.next_due().unwrap_or(phase.next_sweep)
        };
        Some(wait.min(phase.give_up))
    }

    fn take_due(&mut self, now: Instant) -> Option<Instant> {
        let phase = self.phase.as_mut()?;
        if phase.is_full() { None } else { phase.pace.take(now) }
    }

    fn anybody_online(&self) -> bool {
        self.users.iter().any(|user| user.state == State::Online)
    }

    /// The next user in this state, beginning where the last search ended.
    fn find(&mut self, state: State) -> Option<usize> {
        let phase = self.phase.as_mut()?;
        let count = self.users.len();
        let found =
            (0..count).map(|step| (phase.cursor + step) % count).find(|at| self.users[*at].state == state)?;
        phase.cursor = (found + 1) % count;
        Some(found)
    }

    fn log_in(&mut self, io: &mut Io, since: Instant, now: Instant) {
        let Some(at) = self.find(State::Absent) else { return };
        let transport = self.transport(at);
        self.out.clear();
        let client = Client::new(transport, &mut self.out);
        self.users[at].client = Some(client);
        self.make_busy(at, since, now);
        self.carry_out(io, at);
    }

    fn log_out(&mut self, io: &mut Io, now: Instant) {
        let Some(at) = self.find(State::Online) else { return };
        self.make_busy(at, now, now);
        self.out.clear();
        let user = User { accounts: &self.members.accounts, number: self.members.first + at as u32 };
        if let Some(client) = &mut self.users[at].client {
            client.leave(&user, &mut self.out);
        }
        self.carry_out(io, at);
    }

    fn make_busy(&mut self, at: usize, since: Instant, now: Instant) {
        let deadline = (now + PATIENCE).duration_since(self.epoch).as_secs() as u32;
        self.users[at].state = State::Busy { deadline };
        self.users[at].since = since;
        if let Some(phase) = &mut self.phase {
            phase.busy += 1;
        }
    }

    fn send_next(&mut self, io: &mut Io, kind: Kind, since: Instant) {
        match self.find(State::Online) {
            Some(at) => self.send(io, at, kind, since),
            None => self.shared.fail(1, "traffic", &Failure::NoConnection),
        }
    }

    fn send(&mut self, io: &mut Io, at: usize, kind: Kind, since: Instant) {
        let stamp = since.saturating_duration_since(self.epoch).as_nanos() as u64;
        let peer = if kind == Kind::Chat { self.peer_of(at) } else { None };
        let user = User { accounts: &self.members.accounts, number: self.members.first + at as u32 };
        let Some(phase) = &mut self.phase else { return };
        let Order::Traffic { body, .. } = &phase.order else { return };
        let Some(client) = &mut self.users[at].client else { return };
        self.out.clear();
        let sent = match &peer {
            Some(jid) => client.message(jid, stamp, body, &user, &mut self.out),
            None => client.ping(stamp, &user, &mut self.out),
        };
        phase.report.sent += 1;
        match sent {
            Ok(()) => self.carry_out(io, at),
            Err(failure) => self.lose(io, at, &failure),
        }
    }

    /// Another user who is online, or the user itself when it is alone.
    fn peer_of(&mut self, at: usize) -> Option<Box<str>> {
        let count = self.users.len();
        let step = 1 + self.out.random.next() as usize % count.max(2).saturating_sub(1);
        let peer = (0..count)
            .map(|more| (at + step + more) % count)
            .find(|peer| self.users[*peer].state == State::Online)?;
        self.users[peer].client.as_ref().map(|client| client.session().jid().into())
    }

    /// Does with the sockets what the client of user `at` wants, and hears its news.
    fn carry_out(&mut self, io: &mut Io, at: usize) {
        let target = if self.transport(at) == Transport::Tcp { self.members.c2s } else { self.members.http };
        for lane in 0..self.lanes_each {
            if self.out.open[lane] {
                io.open(at * self.lanes_each + lane, target);
            }
            if !self.out.bytes[lane].is_empty() {
                io.send(at * self.lanes_each + lane, &self.out.bytes[lane]);
            }
        }
        for news in std::mem::take(&mut self.out.news) {
            self.hear(io, at, news);
        }
    }

    fn hear(&mut self, io: &mut Io, at: usize, news: News) {
        let now = Instant::now();
        match news {
            News::Online => self.finish_one(at, State::Online, now),
            News::LoggedOut => {
                self.close(io, at);
                self.finish_one(at, State::Absent, now);
            }
            News::Message(stamp) | News::Pong(stamp) => {
                let is_answer = self.answered(stamp, now);
                let next = self.phase.as_ref().and_then(|phase| phase.next_kind(now));
                if let Some(kind) = next.filter(|_| is_answer) {
                    self.send(io, at, kind, now);
                }
            }
            News::Refused(condition) => self.shared.fail(1, "traffic", &Failure::Rejected(condition)),
        }
    }

    fn finish_one(&mut self, at: usize, state: State, now: Instant) {
        let user = &mut self.users[at];
        if !matches!(user.state, State::Busy { .. }) {
            return;
        }
        user.state = state;
        let since = user.since;
        if let Some(phase) = &mut self.phase {
            phase.busy -= 1;
            phase.note(since, now);
        }
        self.shared.ready.fetch_add(1, Relaxed);
    }

    /// Whether `stamp` is of something that was sent in this phase.
    fn answered(&mut self, stamp: u64, now: Instant) -> bool {
        let since = self.epoch + Duration::from_nanos(stamp);
        let Some(phase) = self.phase.as_mut().filter(|phase| phase.start <= since) else { return false };
        phase.note(since, now);
        self.shared.ready.fetch_add(1, Relaxed);
        true
    }

    fn sweep(&mut self, io: &mut Io, now: Instant) {
        let second = now.duration_since(self.epoch).as_secs() as u32;
        for at in 0..self.users.len() {
            if matches!(self.users[at].state, State::Busy { deadline } if deadline < second) {
                self.lose(io, at, &Failure::TimedOut);
            }
        }
        if let Some(phase) = &mut self.phase {
            phase.next_sweep = now + SWEEP;
        }
    }

    /// Ends the phase; what is not done by now has failed.
    fn end(&mut self, io: &mut Io) {
        for at in 0..self.users.len() {
            if matches!(self.users[at].state, State::Busy { .. }) {
                self.lose(io, at, &Failure::TimedOut);
            }
        }
        let Some(mut phase) = self.phase.take() else { return };
        let (stage, unanswered) = match &phase.order {
            Order::Traffic { .. } => {
                ("traffic", phase.report.sent - phase.report.done.min(phase.report.sent))
            }
            Order::LogIn { .. } => ("log in", 0),
            Order::LogOut { .. } => ("log out", 0),
        };
        self.shared.fail(unanswered, stage, &Failure::TimedOut);
        self.shared.fail(u64::from(phase.pace.left()), stage, &Failure::NotBegun);
        phase.report.elapsed = phase.last.duration_since(phase.start);
        // Only a run that is being given up has nobody to hear it.
        let _ = self.reports.send(phase.report);
    }

    fn lose(&mut self, io: &mut Io, at: usize, failure: &Failure) {
        let stage = self.users[at].client.as_ref().map_or("gone", |client| client.session().stage());
        let transport = self.transport(at).name();
        self.shared.fail(1, &format!("{transport} {stage}"), failure);
        self.close(io, at);
        if matches!(self.users[at].state, State::Busy { .. })
            && let Some(phase) = &mut self.phase
        {
            phase.busy -= 1;
        }
        self.users[at].state = State::Lost;
    }

    fn close(&mut self, io: &mut Io, at: usize) {
        self.users[at].client = None;
        for lane in 0..self.lanes_each {
            io.close(at * self.lanes_each + lane);
        }
    }

    fn transport(&self, at: usize) -> Transport {
        self.members.transports[at % self.members.transports.len()]
    }
}

/// Lanes that each user gets when users have these transports.
pub(crate) fn lanes_each(transports: &[Transport]) -> usize {
    transports.iter().map(|transport| transport.lanes()).max().unwrap_or(1)
}

impl Phase {
    /// Whether as many users as allowed are logging in at this time.
    fn is_full(&self) -> bool {
        matches!(self.order, Order::LogIn { at_once, .. } if self.busy >= at_once)
    }

    /// Whether all that was sent is answered and no more is to be sent.
    fn is_answered(&self, now: Instant) -> bool {
        match self.order {
            Order::Traffic { .. } => self.report.done >= self.report.sent && self.next_kind(now).is_none(),
            Order::LogIn { .. } | Order::LogOut { .. } => true,
        }
    }

    /// What is to be sent on an answer, if anything.
    fn next_kind(&self, now: Instant) -> Option<Kind> {
        match self.order {
            Order::Traffic { kind, rate: Rate::Closed, long, .. } => {
                (now < self.start + long).then_some(kind)
            }
            _ => None,
        }
    }

    fn note(&mut self, since: Instant, now: Instant) {
        latency::record(&mut self.report.latency, now.saturating_duration_since(since));
        self.report.done += 1;
        self.last = now;
    }
}

impl Scenario for Crowd<'_> {
    fn connected(&mut self, io: &mut Io, lane: usize) {
        let at = lane / self.lanes_each;
        let user = User { accounts: &self.members.accounts, number: self.members.first + at as u32 };
        let Some(client) = &mut self.users[at].client else { return };
        self.out.clear();
        client.connected(lane % self.lanes_each, &user, &mut self.out);
        self.carry_out(io, at);
    }

    fn received(&mut self, io: &mut Io, lane: usize, bytes: &[u8]) -> usize {
        let at = lane / self.lanes_each;
        let user = User { accounts: &self.members.accounts, number: self.members.first + at as u32 };
        let Some(client) = &mut self.users[at].client else { return bytes.len() };
        self.out.clear();
        match client.received(lane % self.lanes_each, bytes, &user, &mut self.out) {
            Ok(used) => {
                self.carry_out(io, at);
                used
            }
            Err(failure) => {
                self.lose(io, at, &failure);
                bytes.len()
            }
        }
    }

    fn closed(&mut self, io: &mut Io, lane: usize, why: Gone) {
        let at = lane / self.lanes_each;
        let Some(client) = &mut self.users[at].client else { return };
        if let Err(failure) = client.closed(lane % self.lanes_each, why.into()) {
            self.lose(io, at, &failure);
        }
    }

    fn turn(&mut self, io: &mut Io, now: Instant) -> Option<Instant> {
        if self.phase.is_none() {
            match self.orders.try_recv() {
                Ok(order) => self.begin(io, order, now),
                Err(TryRecvError::Empty) => return Some(now + SWEEP),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        // A phase that ends here is followed by the next order at once.
        Some(self.advance(io, now).unwrap_or(now))
    }
}
