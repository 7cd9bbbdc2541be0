//! Deadlines of one shard's connections: a wheel of slots, no object a connection.
//!
//! The wheel holds hints, the truth is in the connection: whoever fires looks at the connection's own
//! deadline and puts it back when that is later. So moving a deadline back costs a store, and only moving
//! it forward needs the wheel.

use crate::clock::{TICK, Tick};
use std::time::Duration;

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
    pub(crate) fn new(now: Tick) -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Vec::new()).collect(), fired: now, entries: 0, first: now }
    }

    /// Has `slot` fire at `deadline` or earlier; returns when.
    pub(crate) fn insert(&mut self, slot: u32, deadline: Tick) -> Tick {
        let at = deadline.clamp(self.fired + 1, self.fired + HORIZON);
        self.buckets[at as usize % BUCKETS].push(slot);
        self.first = if self.entries == 0 { at } else { self.first.min(at) };
        self.entries += 1;
        at
    }

    /// Calls `fire(wheel, slot, tick)` for every entry that is due by `now`.
    pub(crate) fn advance(&mut self, now: Tick, mut fire: impl FnMut(&mut Self, u32, Tick)) {
        while self.fired < now {
            if self.entries == 0 {
                self.fired = now;
                return;
            }
            self.fired += 1;
            let tick = self.fired;
            let due = std::mem::take(&mut self.buckets[tick as usize % BUCKETS]);
            self.entries -= due.len();
            for slot in due {
                fire(self, slot, tick);
            }
        }
    }

    /// How long the thread may sleep. Looks at each empty bucket once, however often it is asked.
    pub(crate) fn sleep(&mut self, now: Tick) -> Option<Duration> {
        if self.entries == 0 {
            return None;
        }
        self.first = self.first.max(self.fired + 1);
        while self.buckets[self.first as usize % BUCKETS].is_empty() {
            self.first += 1;
        }
        Some(TICK * self.first.saturating_sub(now).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &mut Wheel, now: Tick) -> Vec<(u32, Tick)> {
        let mut all = Vec::new();
        wheel.advance(now, |_, slot, tick| all.push((slot, tick)));
        all
    }

    #[test]
    fn fires_at_the_tick_and_not_before() {
        let mut wheel = Wheel::new(10);
        assert_eq!(wheel.insert(1, 15), 15);
        assert_eq!(fired(&mut wheel, 14), []);
        assert_eq!(fired(&mut wheel, 15), [(1, 15)]);
        assert_eq!(wheel.sleep(15), None);
    }

    #[test]
    fn a_deadline_in_the_past_fires_next() {
        let mut wheel = Wheel::new(10);
        assert_eq!(wheel.insert(1, 3), 11);
        assert_eq!(fired(&mut wheel, 11), [(1, 11)]);
    }

    #[test]
    fn a_far_deadline_fires_early_and_can_be_put_back() {
        let mut wheel = Wheel::new(0);
        let far = 3 * BUCKETS as Tick;
        assert!(wheel.insert(1, far) < far);
        let mut last = 0;
        for now in (0..=far).step_by(997).chain([far]) {
            wheel.advance(now, |wheel, slot, tick| {
                last = tick;
                if tick < far {
                    wheel.insert(slot, far);
                }
            });
        }
        assert_eq!(last, far);
    }

    #[test]
    fn sleeps_until_the_first_entry() {
        let mut wheel = Wheel::new(0);
        wheel.insert(1, 50);
        wheel.insert(2, 20);
        assert_eq!(wheel.sleep(0), Some(TICK * 20));
        assert_eq!(wheel.sleep(19), Some(TICK));
    }

    #[test]
    fn a_long_pause_fires_everything_that_was_due() {
        let mut wheel = Wheel::new(0);
        wheel.insert(1, 5);
        wheel.insert(2, 4000);
        let all = fired(&mut wheel, 1_000_000);
        assert_eq!(all, [(1, 5), (2, 4000)]);
    }
}
