//! Deadlines of clients. Most clients have none.

use super::slab::Key;
use megaphone_proto::time::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What is over when it comes, unless the client is already beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The PROXY header is complete.
    Header,
    /// A node has the client.
    Wait,
    /// A client whose node is gone says something.
    Keep,
    /// A node that was told that nothing more comes has taken leave.
    Go,
    /// The client has taken what was kept, and has closed its side.
    Linger,
}

/// By time. Those of clients that are gone, or beyond what they are about, stay until their time,
/// within minutes.
#[derive(Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Time, Timer, Key)>>);

impl Timers {
    pub(super) fn set(&mut self, at: Time, timer: Timer, key: Key) {
        self.0.push(Reverse((at, timer, key)));
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.0.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn due(&mut self, now: Time) -> Option<(Time, Timer, Key)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(next)| next)
    }
}
