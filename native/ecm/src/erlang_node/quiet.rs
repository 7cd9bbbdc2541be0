//! Logging what anybody can cause.

use std::time::{Duration, Instant};

/// Least time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets a line through a second, and counts the others.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    last: Option<Instant>,
    left_out: u64,
}

impl Quiet {
    /// How many were left out before this one; none when this is left out as well.
    pub(super) fn admit(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < INTERVAL) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}
