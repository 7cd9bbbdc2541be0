//! Panics that tests ask for.

use crate::host::Owned;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(crate) struct Faults {
    place: AtomicU64,
    left: AtomicUsize,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self { place: AtomicU64::new(u64::MAX), left: AtomicUsize::new(0) }
    }

    /// Whoever steps there next panics, so many times.
    pub(crate) fn ask_for(&self, place: Owned, times: usize) {
        self.place.store(key(place), Ordering::SeqCst);
        self.left.store(times, Ordering::SeqCst);
    }

    pub(crate) fn panic_if_asked(&self, place: Owned) {
        let is_here = self.place.load(Ordering::SeqCst) == key(place);
        let take = |left: usize| left.checked_sub(1);
        let is_due = is_here && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
        assert!(!is_due, "a fault that a test asked for");
    }
}

/// Numbers of connections and sessions have 59 bits.
fn key(place: Owned) -> u64 {
    match place {
        Owned::Connection(conn) => conn.as_u64(),
        Owned::Session(id) => id.as_u64() | 1 << 62,
        Owned::Listener(id) => u64::from(id.0) | 1 << 63,
    }
}
