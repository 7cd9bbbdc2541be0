//! Plain HTTP load: idle keep-alive connections, requests at a fixed rate, or each answered by the next.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::{Failure, http};
use crate::generator::io::{Gone, Io, Scenario};
use crate::generator::latency;
use crate::generator::pace::Pace;
use crate::generator::shared::Shared;

/// What a worker's connections do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Connections of this worker.
    pub(crate) connections: usize,
    /// Connections opened a second.
    pub(crate) ramp: f64,
    /// The whole request, head and empty line. When it is empty, connections are silent: open as soon as they
    /// are connected.
    pub(crate) request: Vec<u8>,
    /// How requests follow each other once all connections are open.
    pub(crate) load: Load,
    /// How long connecting and the load may overrun their own times before the rest counts as failed.
    pub(crate) patience: Duration,
}

/// How requests follow each other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// One request on each connection as it opens, then nothing until told to stop.
    Idle,
    /// As fast as they are answered, one at a time on each connection, for this long. Latency counts from
    /// sending, as wrk counts it.
    Closed(Duration),
    /// This many a second for this long. Latency counts from the time at which a request was due, whether or
    /// not a connection was free to send it.
    Fixed(f64, Duration),
}

/// What came of it. Latencies are in nanoseconds.
pub(crate) struct Outcome {
    pub(crate) latency: Histogram<u64>,
    pub(crate) answered: u64,
    pub(crate) elapsed: Duration,
}

/// One worker's connections, as a [`Scenario`].
pub(crate) struct HttpLoad<'a> {
    plan: Plan,
    target: SocketAddr,
    shared: &'a Shared,
    dial: Pace,
    stage: Stage,
    connections: Vec<Connection>,
    open: usize,
    failed: usize,
    unanswered: usize,
    free: Vec<u32>,
    overdue: VecDeque<Instant>,
    rate: Option<Pace>,
    outcome: Outcome,
}

#[derive(Clone, Copy)]
enum Connection {
    Closed,
    Idle,
    /// A request is out that counts from this time.
    Asked(Instant),
    /// The first request is out; its latency is not counted.
    Warming,
}

enum Stage {
    Opening { give_up: Instant },
    Loading { since: Instant, until: Instant, give_up: Instant },
}

impl<'a> HttpLoad<'a> {
    /// Connections are opened from now on.
    pub(crate) fn new(plan: Plan, target: SocketAddr, shared: &'a Shared) -> Self {
        let now = Instant::now();
        let opening = Duration::from_secs_f64(plan.connections as f64 / plan.ramp);
        Self {
            dial: Pace::new(now, plan.ramp, plan.connections as u32),
            stage: Stage::Opening { give_up: now + opening + plan.patience },
            connections: vec![Connection::Closed; plan.connections],
            open: 0,
            failed: 0,
            unanswered: 0,
            free: Vec::new(),
            overdue: VecDeque::new(),
            rate: None,
            outcome: Outcome { latency: latency::histogram(), answered: 0, elapsed: Duration::ZERO },
            shared,
            target,
            plan,
        }
    }

    /// What was measured, after the worker's end.
    pub(crate) fn into_outcome(self) -> Outcome {
        self.outcome
    }

    fn start_load(&mut self, io: &mut Io, now: Instant) {
        let long = match self.plan.load {
            Load::Idle => return,
            Load::Closed(long) => {
                for lane in std::mem::take(&mut self.free) {
                    self.ask(io, lane as usize, now);
                }
                long
            }
            Load::Fixed(rate, long) => {
                let limit = (rate * long.as_secs_f64()).round() as u32;
                self.rate = Some(Pace::new(now, rate, limit));
                long
            }
        };
        let until = now + long;
        self.stage = Stage::Loading { since: now, until, give_up: until + self.plan.patience };
    }

    fn ask(&mut self, io: &mut Io, lane: usize, since: Instant) {
        self.connections[lane] = Connection::Asked(since);
        self.unanswered += 1;
        io.send(lane, &self.plan.request);
    }

    fn answered(&mut self, io: &mut Io, lane: usize) {
        let before = std::mem::replace(&mut self.connections[lane], Connection::Idle);
        let now = Instant::now();
        match before {
            Connection::Warming => {
                self.open += 1;
                self.shared.ready.fetch_add(1, Relaxed);
            }
            Connection::Asked(since) => {
                self.unanswered -= 1;
                latency::record(&mut self.outcome.latency, now.saturating_duration_since(since));
                self.outcome.answered += 1;
            }
            Connection::Closed | Connection::Idle => {
                return self.fail(io, lane, &Failure::Malformed("answer without a request"));
            }
        }
        match (&self.stage, self.plan.load) {
            (Stage::Loading { until, .. }, Load::Closed(_)) if now < *until => self.ask(io, lane, now),
            _ => match self.overdue.pop_front() {
                Some(due) => self.ask(io, lane, due),
                None => self.free.push(lane as u32),
            },
        }
    }

    fn fail(&mut self, io: &mut Io, lane: usize, failure: &Failure) {
        io.close(lane);
        match self.connections[lane] {
            Connection::Closed | Connection::Warming => {}
            Connection::Idle => self.open -= 1,
            Connection::Asked(_) => {
                self.open -= 1;
                self.unanswered -= 1;
            }
        }
        self.connections[lane] = Connection::Closed;
        self.free.retain(|free| *free as usize != lane);
        self.failed += 1;
        self.shared.fail(1, "http", failure);
    }

    fn opening_turn(&mut self, io: &mut Io, now: Instant, give_up: Instant) -> Option<Instant> {
        while self.dial.take(now).is_some() {
            let lane = self.plan.connections - self.dial.left() as usize - 1;
            io.open(lane, self.target);
        }
        let is_over = self.open + self.failed >= self.plan.connections;
        if matches!(self.plan.load, Load::Idle) {
            if self.shared.stop.load(Relaxed) {
                return None;
            }
        } else if is_over {
            self.start_load(io, now);
            return Some(now);
        }
        if now >= give_up && !is_over {
            self.give_up_opening(io);
        }
        Some(self.dial.next_due().unwrap_or(now + Duration::from_secs(1)))
    }

    fn give_up_opening(&mut self, io: &mut Io) {
        for lane in 0..self.connections.len() {
            if matches!(self.connections[lane], Connection::Closed | Connection::Warming) {
                io.close(lane);
                self.connections[lane] = Connection::Closed;
            }
        }
        let missing = self.plan.connections - self.open - self.failed;
        self.failed += missing;
        self.shared.fail(missing as u64, "http connect", &Failure::TimedOut);
    }

    fn loading_turn(&mut self, io: &mut Io, now: Instant, give_up: Instant) -> Option<Instant> {
        while let Some(due) = self.rate.as_mut().and_then(|rate| rate.take(now)) {
            match self.free.pop() {
                Some(lane) => self.ask(io, lane as usize, due),
                None => self.overdue.push_back(due),
            }
        }
        let Stage::Loading { since, until, .. } = self.stage else { return None };
        let is_done = now >= until && self.unanswered == 0 && self.overdue.is_empty();
        if is_done || now >= give_up || self.open == 0 {
            self.outcome.elapsed = now.min(until).saturating_duration_since(since);
            let unsent = self.overdue.len() + self.rate.as_ref().map_or(0, Pace::left) as usize;
            self.shared.fail(self.unanswered as u64, "http request", &Failure::TimedOut);
            self.shared.fail(unsent as u64, "http request", &Failure::NoConnection);
            return None;
        }
        let next = self.rate.as_ref().and_then(Pace::next_due).unwrap_or(now + Duration::from_millis(20));
        Some(next)
    }
}

impl Scenario for HttpLoad<'_> {
    fn connected(&mut self, io: &mut Io, lane: usize) {
        self.connections[lane] = Connection::Warming;
        if self.plan.request.is_empty() {
            self.answered(io, lane);
        } else {
            io.send(lane, &self.plan.request);
        }
    }

    fn received(&mut self, io: &mut Io, lane: usize, bytes: &[u8]) -> usize {
        match http::response(bytes) {
            Ok(None) => 0,
            Ok(Some(response)) if response.status == 200 => {
                self.answered(io, lane);
                response.length()
            }
            Ok(Some(response)) => {
                self.fail(io, lane, &Failure::Status(response.status));
                bytes.len()
            }
            Err(failure) => {
                self.fail(io, lane, &failure);
                bytes.len()
            }
        }
    }

    fn closed(&mut self, io: &mut Io, lane: usize, why: Gone) {
        self.fail(io, lane, &why.into());
    }

    fn turn(&mut self, io: &mut Io, now: Instant) -> Option<Instant> {
        match self.stage {
            Stage::Opening { give_up } => self.opening_turn(io, now, give_up),
            Stage::Loading { give_up, .. } => self.loading_turn(io, now, give_up),
        }
    }
}
