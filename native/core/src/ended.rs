//! Processes that have ended, and what ends with them.
//!
//! Whoever learns of an end must not be kept for as long as it takes to close thousands of connections. So it hands the list
//! over, in a time that does not depend on its length, and each shard's thread works through its own part of it, some a turn.
//! Nothing is lost: what is on a list stays until it was ended. Nothing grows without bound: a list is what was watched for
//! a living process, moved.

use crate::host::{Host, Owned};
use std::collections::LinkedList;
use std::sync::Arc;

/// A process that has ended.
pub(crate) struct Ended<H: Host> {
    process: H::Process,
    owned: Vec<Owned>,
}

/// A list as one shard works through it. What is another shard's is passed over.
pub(crate) struct Share<H: Host> {
    ended: Arc<Ended<H>>,
    next: usize,
}

/// Linked, so that to add one or all of another takes the same time however many there are.
pub(crate) type Shares<H> = LinkedList<Share<H>>;

impl<H: Host> Share<H> {
    /// One for each shard's thread that has something to end.
    pub(crate) fn each(process: H::Process, owned: Vec<Owned>) -> impl Fn() -> Self {
        let ended = Arc::new(Ended { process, owned });
        move || Self { ended: Arc::clone(&ended), next: 0 }
    }

    pub(crate) fn process(&self) -> H::Process {
        self.ended.process
    }

    /// The next on the list, which is behind it from here on: what panics is not met again.
    pub(crate) fn take(&mut self) -> Option<Owned> {
        let owned = self.ended.owned.get(self.next).copied();
        self.next += usize::from(owned.is_some());
        owned
    }

    /// The last one that was taken comes again.
    pub(crate) fn put_back(&mut self) {
        self.next = self.next.saturating_sub(1);
    }
}
