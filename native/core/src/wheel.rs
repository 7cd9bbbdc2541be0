//! Deadlines of one shard's connections: a wheel of slots, no object a connection.
//!
//! The wheel holds hints, the truth is in the connection: whoever fires looks at the connection's own
//! deadline and puts it back when that is later. So moving a deadline back costs a store, and only moving
//! it forward needs the wheel.

use megaphone_proto::time::Time;
use std::time::Duration;

/// Ticks of a [`Time`], in which a wheel counts.
type Tick = u32;

const BUCKETS: usize = 4096;
/// The farthest that an entry is put; a later deadline fires there and is put back.
const HORIZON: Tick = BUCKETS as Tick - 2;

pub(crate) struct Wheel {
    buckets: Box<[Vec<u32>]>,
    /// Every bucket up to this tick was fired.
    fired: Tick,
    entries: usize,
    /// No bucket before this tick has an entry.
    first: Tick,
}

impl Wheel {
    pub(crate) fn new(now: Time) -> Self {
        let now = now.ticks();
        Self { buckets: (0..BUCKETS).map(|_| Vec::new()).collect(), fired: now, entries: 0, first: now }
    }

    /// Has `slot` fire at `deadline` or earlier; returns when.
    pub(crate) fn insert(&mut self, slot: u32, deadline: Time) -> Time {
        let at = deadline.ticks().clamp(self.fired + 1, self.fired + HORIZON);
        self.buckets[at as usize % BUCKETS].push(slot);
        self.first = if self.entries == 0 { at } else { self.first.min(at) };
        self.entries += 1;
        Time::from_ticks(at)
    }

    /// Calls `fire(wheel, slot)` for every entry that is due by `now`.
    pub(crate) fn advance(&mut self, now: Time, mut fire: impl FnMut(&mut Self, u32)) {
        let now = now.ticks();
        while self.fired < now {
            if self.entries == 0 {
                self.fired = now;
                return;
            }
            self.fired += 1;
            let due = std::mem::take(&mut self.buckets[self.fired as usize % BUCKETS]);
            self.entries -= due.len();
            for slot in due {
                fire(self, slot);
            }
        }
    }

    /// How long the thread may sleep. Looks at each empty bucket once, however often it is asked.
    pub(crate) fn sleep(&mut self, now: Time) -> Option<Duration> {
        if self.entries == 0 {
            return None;
        }
        self.first = self.first.max(self.fired + 1);
        while self.buckets[self.first as usize % BUCKETS].is_empty() {
            self.first += 1;
        }
        Some(Time::TICK * self.first.saturating_sub(now.ticks()).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks: u32) -> Time {
        Time::from_ticks(ticks)
    }

    fn fired(wheel: &mut Wheel, now: u32) -> Vec<u32> {
        let mut all = Vec::new();
        wheel.advance(at(now), |_, slot| all.push(slot));
        all
    }

    #[test]
    fn fires_at_the_tick_and_not_before() {
        let mut wheel = Wheel::new(at(10));
        assert_eq!(wheel.insert(1, at(15)), at(15));
        assert_eq!(fired(&mut wheel, 14), []);
        assert_eq!(fired(&mut wheel, 15), [1]);
        assert_eq!(wheel.sleep(at(15)), None);
    }

    #[test]
    fn a_deadline_in_the_past_fires_next() {
        let mut wheel = Wheel::new(at(10));
        assert_eq!(wheel.insert(1, at(3)), at(11));
        assert_eq!(fired(&mut wheel, 11), [1]);
    }

    #[test]
    fn a_far_deadline_fires_early_and_can_be_put_back() {
        let mut wheel = Wheel::new(at(1));
        let far = 3 * BUCKETS as u32;
        assert!(wheel.insert(1, at(far)) < at(far));
        let mut last = 0;
        for now in (1..=far).step_by(997).chain([far]) {
            wheel.advance(at(now), |wheel, slot| {
                last = wheel.fired;
                if last < far {
                    wheel.insert(slot, at(far));
                }
            });
        }
        assert_eq!(last, far);
    }

    #[test]
    fn sleeps_until_the_first_entry() {
        let mut wheel = Wheel::new(at(1));
        wheel.insert(1, at(50));
        wheel.insert(2, at(21));
        assert_eq!(wheel.sleep(at(1)), Some(Time::TICK * 20));
        assert_eq!(wheel.sleep(at(20)), Some(Time::TICK));
    }

    #[test]
    fn a_long_pause_fires_everything_that_was_due() {
        let mut wheel = Wheel::new(at(1));
        wheel.insert(1, at(5));
        wheel.insert(2, at(4000));
        assert_eq!(fired(&mut wheel, 1_000_000), [1, 2]);
    }
}
