//! How fast a peer may send.

use crate::clock::{TICK, Tick};
use crate::xmpp::Rate;
use std::time::Duration;

/// A bucket of bytes, filled at a rate and emptied by what is read.
#[derive(Debug)]
pub(crate) struct Throttle {
    rate: Rate,
    /// Bytes that may be read at once; below zero, what was read too many.
    credit: i64,
    since: Tick,
}

impl Throttle {
    /// With a full bucket.
    pub(crate) fn new(rate: Rate, now: Tick) -> Self {
        Self { rate, credit: i64::from(rate.burst), since: now }
    }

    /// The most that one read should take: then a pause is never much longer than a second.
    pub(crate) fn read_size(&self) -> usize {
        self.rate.bytes_per_second.max(512) as usize
    }

    /// How long so many bytes take at this rate.
    pub(crate) fn time_for(&self, bytes: usize) -> Duration {
        Duration::from_secs((bytes as u64).div_ceil(u64::from(self.rate.bytes_per_second.max(1))))
    }

    /// Counts what was read. When to read again, if not at once.
    pub(crate) fn count(&mut self, bytes: usize, now: Tick) -> Option<Tick> {
        let per_second = i64::from(self.rate.bytes_per_second.max(1));
        let ticks_per_second = 1000 / i64::try_from(TICK.as_millis()).unwrap_or(100);
        let elapsed = i64::from(now.saturating_sub(self.since));
        self.since = now;
        let filled = self.credit.saturating_add(elapsed * per_second / ticks_per_second);
        self.credit = filled.min(i64::from(self.rate.burst)) - i64::try_from(bytes).unwrap_or(i64::MAX / 2);
        let missing = -self.credit;
        let pause = (missing * ticks_per_second).div_euclid(per_second) + 1;
        (missing > 0).then(|| now.saturating_add(u32::try_from(pause).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { bytes_per_second: 1000, burst: 500 };

    #[test]
    fn a_burst_passes_and_the_rest_waits_as_long_as_the_rate_says() {
        let mut throttle = Throttle::new(RATE, 100);
        assert_eq!(throttle.count(500, 100), None);
        assert_eq!(throttle.count(2000, 100), Some(121));
        // By then it has come back to nothing, and not to more.
        assert_eq!(throttle.count(100, 121), None);
        assert_eq!(throttle.count(1, 121), Some(122));
    }

    #[test]
    fn silence_fills_the_bucket_no_further_than_the_burst() {
        let mut throttle = Throttle::new(RATE, 0);
        assert_eq!(throttle.count(500, 1_000_000), None);
        assert_eq!(throttle.count(1, 1_000_000), Some(1_000_001));
    }
}
