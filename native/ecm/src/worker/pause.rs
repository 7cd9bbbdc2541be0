//! How long to wait before a node is tried again: longer each time, and not the same for all.

use std::time::Duration;

/// Attempts that came to nothing, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause(u32);

/// The first pause at most, and the longest at most.
pub(super) type Bounds = (Duration, Duration);

/// Between attempts to resume a link.
pub(super) const TO_RESUME: Bounds = (Duration::from_millis(100), Duration::from_secs(2));
/// Between attempts to make one.
pub(super) const TO_BEGIN: Bounds = (Duration::from_millis(500), Duration::from_secs(5));

impl Pause {
    /// It has come to something.
    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }

    pub(super) fn failures(self) -> u32 {
        self.0
    }

    /// How long to wait after another failure: from half of it to all of it, by chance.
    pub(super) fn next(&mut self, (first, longest): Bounds, chance: u32) -> Duration {
        let whole = first.saturating_mul(1 << self.0.min(16)).min(longest);
        self.0 = self.0.saturating_add(1);
        whole / 2 + (whole / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let mut pause = Pause::default();
        let all: Vec<_> = (0..40).map(|_| pause.next(TO_RESUME, u32::MAX).as_millis()).collect();
        assert_eq!(all[..6], [100, 200, 400, 800, 1600, 2000]);
        assert_eq!(all[39], 2000);
        pause.reset();
        assert_eq!(pause.next(TO_RESUME, 0).as_millis(), 50);
    }
}
