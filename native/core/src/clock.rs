//! Time in ticks of 100 ms, as deadlines are kept: 4 bytes each.

use std::time::{Duration, Instant};

/// Length of one tick.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Ticks since the start of the system. 0 stands for "never" in a deadline. Wraps after 13 years.
pub(crate) type Tick = u32;

/// Where ticks are counted from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        // Tick 0 is in the past, so that no deadline is "never" by accident.
        Self { start: Instant::now() - TICK }
    }

    /// Time since a start that does not change.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn now(&self) -> Tick {
        (self.elapsed().as_millis() / TICK.as_millis()) as Tick
    }

    /// The first tick at which so much time has elapsed.
    pub(crate) fn tick_at(elapsed: Duration) -> Tick {
        u32::try_from(elapsed.as_millis().div_ceil(TICK.as_millis())).unwrap_or(Tick::MAX)
    }

    /// The first tick that is at least `after` from now.
    pub(crate) fn deadline(&self, after: Duration) -> Tick {
        let ticks = after.as_millis().div_ceil(TICK.as_millis());
        self.now().saturating_add(u32::try_from(ticks).unwrap_or(Tick::MAX / 2)).saturating_add(1)
    }
}
