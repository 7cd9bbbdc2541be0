//! How fast a peer may send.

use super::Rate;
use crate::time::Time;
use std::time::Duration;

/// A bucket of bytes, filled at a rate and emptied by what is taken.
#[derive(Debug)]
pub struct Throttle {
    rate: Rate,
    /// Bytes that may be taken at once; below zero, what was taken too many.
    credit: i64,
    since: Time,
}

impl Throttle {
    /// With a full bucket.
    pub fn new(rate: Rate, now: Time) -> Self {
        Self { rate, credit: i64::from(rate.burst), since: now }
    }

    /// The most that is taken at once: then a pause is never much longer than a second, except at the lowest rates.
    pub(super) fn piece(&self) -> usize {
        self.rate.bytes_per_second.max(512) as usize
    }

    /// How long so many bytes take at this rate.
    pub(super) fn time_for(&self, bytes: usize) -> Duration {
        Duration::from_secs((bytes as u64).div_ceil(u64::from(self.rate.bytes_per_second.max(1))))
    }

    /// Counts what was taken. When to take more, if not at once.
    pub fn count(&mut self, bytes: usize, now: Time) -> Option<Time> {
        let per_second = i64::from(self.rate.bytes_per_second.max(1));
        let ticks_per_second = 1000 / i64::try_from(Time::TICK.as_millis()).unwrap_or(100);
        let elapsed = i64::from(now.ticks().saturating_sub(self.since.ticks()));
        self.since = now;
        let filled = self.credit.saturating_add(elapsed * per_second / ticks_per_second);
        // What a tick brings is not lost, however short a burst may be.
        let most = i64::from(self.rate.burst).max(per_second / ticks_per_second);
        self.credit = filled.min(most) - i64::try_from(bytes).unwrap_or(i64::MAX / 2);
        let missing = -self.credit;
        let pause = (missing * ticks_per_second).div_euclid(per_second) + 1;
        let pause = u32::try_from(pause).unwrap_or(u32::MAX);
        (missing > 0).then(|| Time::from_ticks(now.ticks().saturating_add(pause)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { bytes_per_second: 1000, burst: 500 };

    fn at(ticks: u32) -> Time {
        Time::from_ticks(ticks)
    }

    #[test]
    fn a_burst_passes_and_the_rest_waits_as_long_as_the_rate_says() {
        let mut throttle = Throttle::new(RATE, at(100));
        assert_eq!(throttle.count(500, at(100)), None);
        assert_eq!(throttle.count(2000, at(100)), Some(at(121)));
        // By then it has come back to nothing, and not to more.
        assert_eq!(throttle.count(100, at(121)), None);
        assert_eq!(throttle.count(1, at(121)), Some(at(122)));
    }

    #[test]
    fn silence_fills_the_bucket_no_further_than_the_burst() {
        let mut throttle = Throttle::new(RATE, at(1));
        assert_eq!(throttle.count(500, at(1_000_000)), None);
        assert_eq!(throttle.count(1, at(1_000_000)), Some(at(1_000_001)));
    }
}
