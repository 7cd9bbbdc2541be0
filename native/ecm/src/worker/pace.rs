//! So many a second and not more.

use megaphone_proto::time::Time;

/// Counts what is allowed, for a second at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    a_second: u32,
    /// Tenths of one.
    tenths: u64,
    at: Time,
}

impl Pace {
    pub(super) fn new(a_second: u32, now: Time) -> Self {
        Self { a_second: a_second.max(1), tenths: 0, at: now }
    }

    pub(super) fn set(&mut self, a_second: u32) {
        self.a_second = a_second.max(1);
    }

    /// As time goes on, more is allowed.
    pub(super) fn advance(&mut self, now: Time) {
        let ticks = u64::from(now.ticks().saturating_sub(self.at.ticks()));
        self.at = now;
        let most = 10 * u64::from(self.a_second);
        self.tenths = most.min(self.tenths.saturating_add(ticks.saturating_mul(self.a_second.into())));
    }

    /// Whether one more is allowed now.
    pub(super) fn take(&mut self) -> bool {
        let is_allowed = self.tenths >= 10;
        self.tenths -= if is_allowed { 10 } else { 0 };
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pace: &mut Pace) -> usize {
        std::iter::from_fn(|| pace.take().then_some(())).count()
    }

    #[test]
    fn a_rate_is_kept_and_not_saved_up() {
        let at = Time::from_ticks;
        let mut pace = Pace::new(25, at(1));
        assert_eq!(taken(&mut pace), 0);
        pace.advance(at(2));
        assert_eq!(taken(&mut pace), 2);
        pace.advance(at(3));
        assert_eq!(taken(&mut pace), 3);
        pace.advance(at(1000));
        assert_eq!(taken(&mut pace), 25);
        let mut slow = Pace::new(1, at(1));
        slow.advance(at(10));
        assert_eq!(taken(&mut slow), 0);
        slow.advance(at(11));
        assert_eq!(taken(&mut slow), 1);
    }
}
