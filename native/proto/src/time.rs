//! Time as machines are told it: in tenths of a second, so that a deadline is 4 bytes.

use std::num::NonZeroU32;
use std::time::Duration;

/// A point in time, in ticks of 100 ms since a start that does not change. Ends after 13 years.
///
/// `Option<Time>` takes 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(NonZeroU32);

impl Time {
    /// Length of one tick.
    pub const TICK: Duration = Duration::from_millis(100);
    /// The first of all.
    pub const START: Self = Self(NonZeroU32::MIN);

    /// The point so many ticks after the start of the count; 0 counts as 1.
    pub const fn from_ticks(ticks: u32) -> Self {
        match NonZeroU32::new(ticks) {
            Some(ticks) => Self(ticks),
            None => Self::START,
        }
    }

    /// Ticks since the start of the count.
    pub const fn ticks(self) -> u32 {
        self.0.get()
    }

    /// The first tick that is certain to be at least `duration` from now; what is now may be nearly over.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let ticks = duration.as_millis().div_ceil(Self::TICK.as_millis());
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX / 2).saturating_add(1);
        Self(self.0.saturating_add(ticks))
    }

    /// How long ago `earlier` was; nothing when it is yet to come.
    pub fn since(self, earlier: Self) -> Duration {
        Self::TICK * self.ticks().saturating_sub(earlier.ticks())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early() {
        let now = Time::from_ticks(7);
        assert_eq!(now.after(Duration::ZERO), Time::from_ticks(8));
        assert_eq!(now.after(Duration::from_millis(101)), Time::from_ticks(10));
        assert_eq!(now.after(Duration::MAX).ticks(), u32::MAX / 2 + 8);
        assert_eq!(now.since(Time::from_ticks(9)), Duration::ZERO);
        assert_eq!(size_of::<Option<Time>>(), 4);
    }
}
