//! One worker's XMPP users: logging in, chatting, pinging and logging out, as the orders say.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use crate::client::session::User;
use crate::client::user::{Client, Output, Transport};
use crate::client::{Failure, News};
use crate::generator::io::{Gone, Io, Scenario};
use crate::generator::orders::{Kind, Members, Order, PATIENCE, PhaseReport, SENDERS, lanes_each};
use crate::generator::phase::{Due, Phase};
use crate::generator::shared::Shared;

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
    next_sweep: Instant,
    /// Where the search for the next user begins.
    cursor: usize,
    /// Messages sent to users who sleep.
    wakes: usize,
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
        /// How often it may still begin again.
        retries: u8,
    },
    Online,
    Lost,
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
            next_sweep: epoch,
            cursor: 0,
            wakes: 0,
            epoch,
            out: Output::new(seed),
        }
    }

    fn begin(&mut self, order: Order, now: Instant) {
        let count = |state| self.users.iter().filter(|user| user.state == state).count() as u32;
        self.phase = Some(Phase::new(order, count(State::Absent), count(State::Online), now));
        self.cursor = 0;
    }

    /// Does what is due; says when to be called again, `None` when the phase is over.
    fn advance(&mut self, io: &mut Io, now: Instant) -> Option<Instant> {
        while let Some((due, since)) = self.phase.as_mut()?.take_due(now) {
            match due {
                Due::LogIn => self.log_in(io, since, now),
                Due::LogOut => self.log_out(io, now),
                Due::Send(kind) => self.send_next(io, kind, since),
            }
        }
        if now >= self.next_sweep {
            self.sweep(io, now);
        }
        let anybody_online = self.anybody_online();
        let phase = self.phase.as_ref()?;
        if phase.is_over(anybody_online, now) {
            self.end(io);
            return None;
        }
        Some(phase.next_due().unwrap_or(self.next_sweep))
    }

    fn anybody_online(&self) -> bool {
        self.users.iter().any(|user| user.state == State::Online)
    }

    /// The next user in this state, beginning where the last search ended.
    fn find(&mut self, state: State) -> Option<usize> {
        let count = self.users.len();
        let found =
            (0..count).map(|step| (self.cursor + step) % count).find(|at| self.users[*at].state == state)?;
        self.cursor = (found + 1) % count;
        Some(found)
    }

    fn log_in(&mut self, io: &mut Io, since: Instant, now: Instant) {
        let Some(at) = self.find(State::Absent) else { return };
        let retries = self.phase.as_ref().map_or(0, Phase::retries);
        self.make_busy(at, retries, since, now);
        self.dial(io, at);
    }

    fn dial(&mut self, io: &mut Io, at: usize) {
        self.out.clear();
        let client = Client::new(self.transport(at), &mut self.out);
        self.users[at].client = Some(client);
        self.carry_out(io, at);
    }

    fn log_out(&mut self, io: &mut Io, now: Instant) {
        let Some(at) = self.find(State::Online) else { return };
        self.make_busy(at, 0, now, now);
        self.out.clear();
        let user = User { accounts: &self.members.accounts, number: self.members.first + at as u32 };
        if let Some(client) = &mut self.users[at].client {
            client.leave(&user, &mut self.out);
        }
        self.carry_out(io, at);
    }

    fn make_busy(&mut self, at: usize, retries: u8, since: Instant, now: Instant) {
        let deadline = (now + PATIENCE).duration_since(self.epoch).as_secs() as u32;
        self.users[at].state = State::Busy { deadline, retries };
        self.users[at].since = since;
        if let Some(phase) = &mut self.phase {
            phase.begun();
        }
    }

    fn send_next(&mut self, io: &mut Io, kind: Kind, since: Instant) {
        let sender = match kind {
            Kind::Wake { .. } => self.next_sender(),
            Kind::Chat | Kind::Ping => self.find(State::Online),
        };
        match sender {
            Some(at) => self.send(io, at, kind, since),
            None => self.shared.fail(1, "traffic", &Failure::NoConnection),
        }
    }

    /// Users who send messages that wake others.
    fn senders(&self) -> usize {
        SENDERS.min(self.users.len() / 2)
    }

    fn next_sender(&mut self) -> Option<usize> {
        let senders = self.senders();
        let found = (0..senders)
            .map(|step| (self.cursor + step) % senders)
            .find(|at| self.users[*at].state == State::Online)?;
        self.cursor = found + 1;
        Some(found)
    }

    /// Whose turn to be woken it is, of the first `among` users who do not send.
    fn next_sleeper(&mut self, among: usize) -> Option<Box<str>> {
        let senders = self.senders();
        let among = among.min(self.users.len() - senders);
        (0..among).find_map(|_| {
            let user = &self.users[senders + self.wakes % among];
            self.wakes += 1;
            let client = user.client.as_ref().filter(|_| user.state == State::Online)?;
            Some(client.session().jid().into())
        })
    }

    fn send(&mut self, io: &mut Io, at: usize, kind: Kind, since: Instant) {
        let stamp = since.saturating_duration_since(self.epoch).as_nanos() as u64;
        let peer = match kind {
            Kind::Chat => self.peer_of(at),
            Kind::Wake { among } => self.next_sleeper(among),
            Kind::Ping => None,
        };
        let user = User { accounts: &self.members.accounts, number: self.members.first + at as u32 };
        let Some(phase) = &mut self.phase else { return };
        let Some(client) = &mut self.users[at].client else { return };
        self.out.clear();
        let sent = match &peer {
            Some(jid) => client.message(jid, stamp, phase.body(), &user, &mut self.out),
            None => client.ping(stamp, &user, &mut self.out),
        };
        phase.sent();
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

    fn settle(&mut self, io: &mut Io, at: usize) {
        let user = User { accounts: &self.members.accounts, number: self.members.first + at as u32 };
        let Some(client) = &mut self.users[at].client else { return };
        self.out.clear();
        client.settle(&user, &mut self.out);
        self.carry_out(io, at);
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
            News::Refused(condition) => {
                self.shared.fail(1, "traffic", &Failure::Rejected(condition));
                if let Some(phase) = &mut self.phase {
                    phase.refused();
                }
            }
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
            phase.ended();
            phase.note(since, now);
        }
        self.shared.ready.fetch_add(1, Relaxed);
    }

    /// Whether `stamp` is of something that was sent in this phase.
    fn answered(&mut self, stamp: u64, now: Instant) -> bool {
        let since = self.epoch + Duration::from_nanos(stamp);
        let Some(phase) = self.phase.as_mut().filter(|phase| phase.has_sent(since)) else { return false };
        if !phase.comes(since) {
            return false;
        }
        phase.note(since, now);
        self.shared.ready.fetch_add(1, Relaxed);
        true
    }

    fn sweep(&mut self, io: &mut Io, now: Instant) {
        let second = now.duration_since(self.epoch).as_secs() as u32;
        for at in 0..self.users.len() {
            if matches!(self.users[at].state, State::Busy { deadline, .. } if deadline < second) {
                self.lose(io, at, &Failure::TimedOut);
            }
        }
        self.next_sweep = now + SWEEP;
    }

    /// Ends the phase; what is not done by now has failed.
    fn end(&mut self, io: &mut Io) {
        for at in 0..self.users.len() {
            if matches!(self.users[at].state, State::Busy { .. }) {
                self.lose(io, at, &Failure::TimedOut);
            }
        }
        let Some(phase) = self.phase.take() else { return };
        let (report, missing) = phase.finish();
        for (count, stage, failure) in missing {
            self.shared.fail(count, stage, &failure);
        }
        // Only a run that is being given up has nobody to hear it.
        let _ = self.reports.send(report);
    }

    /// Lets user `at` begin its login again, if that may help and is allowed. Its deadline and the time that its
    /// latency counts from stay.
    fn try_again(&mut self, io: &mut Io, at: usize, failure: &Failure) -> bool {
        let (State::Busy { deadline, retries: left @ 1.. }, Some(phase)) =
            (self.users[at].state, &mut self.phase)
        else {
            return false;
        };
        if !failure.is_passing() {
            return false;
        }
        phase.retried();
        self.close(io, at);
        self.users[at].state = State::Busy { deadline, retries: left - 1 };
        self.dial(io, at);
        true
    }

    fn lose(&mut self, io: &mut Io, at: usize, failure: &Failure) {
        if self.try_again(io, at, failure) {
            return;
        }
        let stage = self.users[at].client.as_ref().map_or("gone", |client| client.session().stage());
        let transport = self.transport(at).name();
        self.shared.fail(1, &format!("{transport} {stage}"), failure);
        self.close(io, at);
        if matches!(self.users[at].state, State::Busy { .. })
            && let Some(phase) = &mut self.phase
        {
            phase.ended();
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
                self.settle(io, at);
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
                Ok(order) => self.begin(order, now),
                Err(TryRecvError::Empty) => return Some(now + SWEEP),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        // A phase that ends here is followed by the next order at once.
        Some(self.advance(io, now).unwrap_or(now))
    }
}
