//! An order being carried out: what is due, what is still awaited, and when it is over.

use std::collections::HashSet;
use std::time::Instant;

use crate::client::Failure;
use crate::generator::latency;
use crate::generator::orders::{Kind, Order, PATIENCE, PhaseReport, Rate};
use crate::generator::pace::Pace;

/// The state of an order. It knows neither users nor sockets.
pub(crate) struct Phase {
    order: Order,
    pace: Pace,
    start: Instant,
    give_up: Instant,
    last: Instant,
    /// Users that are logging in or out.
    busy: usize,
    /// Messages and pings that were answered by an error.
    refused: u64,
    /// When they were due that have come to their aim, at a fixed rate: each has a time of its own.
    come: HashSet<Instant>,
    /// How often one came again.
    repeated: u64,
    report: PhaseReport,
}

/// One thing that is due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A user is to log in.
    LogIn,
    /// A user is to log out.
    LogOut,
    /// A user is to send this.
    Send(Kind),
}

impl Phase {
    /// Begins `order` at `now`, for users of whom so many are absent and online.
    pub(crate) fn new(order: Order, absent: u32, online: u32, now: Instant) -> Self {
        let (rate, count, limit) = match &order {
            Order::LogIn { arrival, limit } => (arrival.ramp, absent, *limit),
            Order::LogOut { ramp, limit } => (*ramp, online, *limit),
            Order::Traffic { rate: Rate::Fixed(rate), long, .. } => {
                (*rate, (rate * long.as_secs_f64()).round() as u32, *long + PATIENCE)
            }
            Order::Traffic { rate: Rate::Closed, long, .. } => (f64::INFINITY, online, *long + PATIENCE),
        };
        let report = PhaseReport::default();
        Self {
            order,
            pace: Pace::new(now, rate, count),
            start: now,
            give_up: now + limit,
            last: now,
            busy: 0,
            refused: 0,
            come: HashSet::new(),
            repeated: 0,
            report,
        }
    }

    /// Takes what is due at `now`, with the time that its latency counts from.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(Due, Instant)> {
        if self.is_full() {
            return None;
        }
        let due = self.pace.take(now)?;
        Some(match self.order {
            // What has no time of its own counts from when it is done.
            Order::LogIn { arrival, .. } => (Due::LogIn, if arrival.ramp.is_finite() { due } else { now }),
            Order::LogOut { .. } => (Due::LogOut, now),
            Order::Traffic { kind, rate: Rate::Fixed(_), .. } => (Due::Send(kind), due),
            Order::Traffic { kind, rate: Rate::Closed, .. } => (Due::Send(kind), now),
        })
    }

    /// When something may be due again, or the phase is over; `None` when only users can tell.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.is_full() { None } else { self.pace.next_due() }
    }

    /// Whether everything is done, or has been waited for long enough.
    pub(crate) fn is_over(&self, anybody_online: bool, now: Instant) -> bool {
        let is_done = self.pace.left() == 0 && self.busy == 0 && self.unanswered() == 0;
        let is_traffic = matches!(self.order, Order::Traffic { .. });
        (is_done && self.next_kind(now).is_none()) || (is_traffic && !anybody_online) || now >= self.give_up
    }

    /// What is to be sent on an answer, if anything.
    pub(crate) fn next_kind(&self, now: Instant) -> Option<Kind> {
        match self.order {
            Order::Traffic { kind, rate: Rate::Closed, long, .. } => {
                (now < self.start + long).then_some(kind)
            }
            _ => None,
        }
    }

    /// The body of messages; empty when none are to be sent.
    pub(crate) fn body(&self) -> &str {
        match &self.order {
            Order::Traffic { body, .. } => body,
            Order::LogIn { .. } | Order::LogOut { .. } => "",
        }
    }

    /// Whether something with this time was sent in this phase.
    pub(crate) fn has_sent(&self, since: Instant) -> bool {
        self.start <= since
    }

    /// A user has begun to log in or out.
    pub(crate) fn begun(&mut self) {
        self.busy += 1;
    }

    /// A user that had begun is done, in good order or not.
    pub(crate) fn ended(&mut self) {
        self.busy -= 1;
    }

    /// How often each user who logs in may begin again.
    pub(crate) fn retries(&self) -> u8 {
        match self.order {
            Order::LogIn { arrival, .. } => arrival.retries,
            Order::LogOut { .. } | Order::Traffic { .. } => 0,
        }
    }

    /// A user that had begun to log in begins again.
    pub(crate) fn retried(&mut self) {
        self.report.retried += 1;
    }

    /// Something was sent.
    pub(crate) fn sent(&mut self) {
        self.report.sent += 1;
    }

    /// Something was answered by an error.
    pub(crate) fn refused(&mut self) {
        self.refused += 1;
    }

    /// What was sent with this time has come to its aim. Whether it is for the first time, where that can be told.
    pub(crate) fn comes(&mut self, since: Instant) -> bool {
        let is_timed = matches!(self.order, Order::Traffic { rate: Rate::Fixed(_), .. });
        let is_first = !is_timed || self.come.insert(since);
        self.repeated += u64::from(!is_first);
        is_first
    }

    /// Something that counts from `since` has come to its aim.
    pub(crate) fn note(&mut self, since: Instant, now: Instant) {
        latency::record(&mut self.report.latency, now.saturating_duration_since(since));
        self.report.done += 1;
        self.last = now;
    }

    /// Ends the phase: its report, and how many things failed only now, by stage and cause.
    pub(crate) fn finish(mut self) -> (PhaseReport, [(u64, &'static str, Failure); 3]) {
        let stage = match self.order {
            Order::Traffic { .. } => "traffic",
            Order::LogIn { .. } => "log in",
            Order::LogOut { .. } => "log out",
        };
        let missing = [
            (self.unanswered(), stage, Failure::TimedOut),
            (u64::from(self.pace.left()), stage, Failure::NotBegun),
            (self.repeated, stage, Failure::Repeated),
        ];
        self.report.elapsed = self.last.duration_since(self.start);
        (self.report, missing)
    }

    /// Whether as many users as allowed are logging in at this time.
    fn is_full(&self) -> bool {
        matches!(self.order, Order::LogIn { arrival, .. } if self.busy >= arrival.at_once)
    }

    fn unanswered(&self) -> u64 {
        self.report.sent.saturating_sub(self.report.done + self.refused)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::generator::orders::Arrival;

    const SECOND: Duration = Duration::from_secs(1);

    fn traffic(rate: Rate) -> Order {
        Order::Traffic { kind: Kind::Ping, rate, long: SECOND, body: String::new() }
    }

    #[test]
    fn logins_wait_for_each_other_and_are_late_by_it() {
        let start = Instant::now();
        let arrival = Arrival { ramp: 10.0, at_once: 1, retries: 0 };
        let order = Order::LogIn { arrival, limit: 60 * SECOND };
        let mut phase = Phase::new(order, 2, 0, start);
        assert_eq!(phase.take_due(start), Some((Due::LogIn, start)));
        phase.begun();
        assert_eq!((phase.take_due(start + SECOND), phase.next_due()), (None, None));
        phase.ended();
        assert_eq!(phase.take_due(start + SECOND), Some((Due::LogIn, start + SECOND / 10)));
    }

    #[test]
    fn a_fixed_rate_is_over_when_all_is_answered() {
        let start = Instant::now();
        let mut phase = Phase::new(traffic(Rate::Fixed(2.0)), 0, 1, start);
        let late = start + 2 * SECOND;
        for _ in 0..2 {
            let (due, since) = phase.take_due(late).unwrap();
            assert_eq!(due, Due::Send(Kind::Ping));
            phase.sent();
            assert!(!phase.is_over(true, late));
            phase.note(since, late);
        }
        assert!(phase.is_over(true, late));
        let (report, missing) = phase.finish();
        assert_eq!((report.sent, report.done), (2, 2));
        assert!(missing.iter().all(|(count, ..)| *count == 0));
        // The second was due half a second after the first.
        assert!(report.latency.min() >= 1_490_000_000, "{}", report.latency.min());
    }

    #[test]
    fn what_comes_twice_does_not_stand_for_what_is_lost() {
        let start = Instant::now();
        let mut phase = Phase::new(traffic(Rate::Fixed(2.0)), 0, 1, start);
        let (_, since) = phase.take_due(start).unwrap();
        phase.sent();
        phase.take_due(start + SECOND).unwrap();
        phase.sent();
        assert!(phase.comes(since));
        phase.note(since, start);
        assert!(!phase.comes(since));
        let (_, missing) = phase.finish();
        assert_eq!(missing.map(|(count, ..)| count), [1, 0, 1]);
    }

    #[test]
    fn a_silent_server_is_given_up_and_counted() {
        let start = Instant::now();
        let mut phase = Phase::new(traffic(Rate::Fixed(2.0)), 0, 1, start);
        phase.take_due(start).unwrap();
        phase.sent();
        assert!(!phase.is_over(true, start + SECOND));
        assert!(phase.is_over(true, start + SECOND + PATIENCE));
        assert!(phase.is_over(false, start), "without users nothing can come");
        let (_, missing) = phase.finish();
        let expected = [(1, Failure::TimedOut), (1, Failure::NotBegun), (0, Failure::Repeated)];
        assert_eq!(missing, expected.map(|(count, failure)| (count, "traffic", failure)));
    }

    #[test]
    fn what_was_refused_is_not_waited_for() {
        let start = Instant::now();
        let mut phase = Phase::new(traffic(Rate::Fixed(1.0)), 0, 1, start);
        phase.take_due(start).unwrap();
        phase.sent();
        phase.refused();
        assert!(phase.is_over(true, start));
    }

    #[test]
    fn a_closed_loop_ends_with_its_time() {
        let start = Instant::now();
        let mut phase = Phase::new(traffic(Rate::Closed), 0, 1, start);
        phase.take_due(start).unwrap();
        phase.sent();
        phase.note(start, start);
        assert_eq!(phase.next_kind(start), Some(Kind::Ping));
        assert!(!phase.is_over(true, start));
        assert_eq!(phase.next_kind(start + SECOND), None);
        assert!(phase.is_over(true, start + SECOND));
    }
}
