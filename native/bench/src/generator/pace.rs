//! When things are due: a fixed rate, kept whatever the server does.

use std::time::{Duration, Instant};

/// Due times at a fixed rate from a start, in order. What is late stays due at its own time, so that a slow
/// server cannot slow down the load it is measured with.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    start: Instant,
    interval: Duration,
    taken: u32,
    limit: u32,
}

impl Pace {
    /// `limit` events at `rate` a second, the first one at `start`. An infinite rate makes all of them due at
    /// once.
    pub(crate) fn new(start: Instant, rate: f64, limit: u32) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::from_secs(3600));
        Self { start, interval, taken: 0, limit }
    }

    /// The time at which the next event is due, `None` after the last one.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        (self.taken < self.limit).then(|| self.start + self.interval * self.taken)
    }

    /// Takes the next event if it is due at `now`, and says when it was.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next_due().filter(|due| *due <= now)?;
        self.taken += 1;
        Some(due)
    }

    /// Events not taken yet.
    pub(crate) fn left(&self) -> u32 {
        self.limit - self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn late_events_keep_their_intended_times() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 1000.0, 3);
        let late = start + 50 * MS;
        assert_eq!(pace.take(late), Some(start));
        assert_eq!(pace.take(late), Some(start + MS));
        assert_eq!(pace.take(late), Some(start + 2 * MS));
        assert_eq!(pace.take(late), None);
        assert_eq!(pace.next_due(), None);
    }

    #[test]
    fn nothing_is_due_early() {
        let start = Instant::now();
        let mut pace = Pace::new(start + 5 * MS, 1000.0, 3);
        assert_eq!(pace.take(start + 4 * MS), None);
        assert_eq!(pace.next_due(), Some(start + 5 * MS));
        assert_eq!(pace.left(), 3);
    }

    #[test]
    fn an_infinite_rate_is_all_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(start, f64::INFINITY, 2);
        assert_eq!((pace.take(start), pace.take(start)), (Some(start), Some(start)));
    }
}
