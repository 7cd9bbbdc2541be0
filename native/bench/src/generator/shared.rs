//! What the workers of a run share with the one who waits for them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, PoisonError};

use crate::client::Failure;
use crate::generator::io::Gone;

/// Counters that workers add to and the main thread reads; the order of additions does not matter.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Connections or users that have come to their aim: open, or logged in.
    pub(crate) ready: AtomicU64,
    /// Those that never will.
    pub(crate) failed: AtomicU64,
    /// Workers that merely hold connections end when they see this.
    pub(crate) stop: AtomicBool,
    /// Counts by "stage: cause". Failures are few or the run is lost, so one lock does.
    causes: Mutex<BTreeMap<String, u64>>,
}

impl Shared {
    /// Counts `count` failures in `stage`; nothing when `count` is 0.
    pub(crate) fn fail(&self, count: u64, stage: &str, failure: &Failure) {
        if count > 0 {
            self.failed.fetch_add(count, Relaxed);
            let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
            *causes.entry(format!("{stage}: {failure}")).or_default() += count;
        }
    }

    /// The failures so far by "stage: cause".
    pub(crate) fn causes(&self) -> BTreeMap<String, u64> {
        self.causes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections or users that are done with, one way or the other.
    pub(crate) fn settled(&self) -> u64 {
        self.ready.load(Relaxed) + self.failed.load(Relaxed)
    }
}

impl From<Gone> for Failure {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Dial(kind) => Self::Dial(kind),
            Gone::ByPeer => Self::Closed,
            Gone::Broken(kind) => Self::Broken(kind),
        }
    }
}
