//! Time as deadlines are kept: ticks since the start of the system.

use megaphone_proto::time::Time;
use std::time::{Duration, Instant};

/// Where ticks are counted from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        let ticks = self.start.elapsed().as_millis() / Time::TICK.as_millis();
        Time::from_ticks(u32::try_from(ticks).unwrap_or(u32::MAX).saturating_add(1))
    }

    pub(crate) fn deadline(&self, after: Duration) -> Time {
        self.now().after(after)
    }
}
