//! Processes that have ended, and what ends with them.
//!
//! Whoever learns of an end must not be kept for as long as it takes to close thousands of connections. So it hands all of them
//! over, in a time that does not depend on their number, and each shard's thread works through its own part, some a turn.
//! Nothing is lost: what was handed over stays until it was ended. Nothing grows without bound: it is what was watched for a
//! living process, moved.

use crate::host::{Host, Owned};
use std::collections::{BTreeSet, LinkedList};
use std::ops::Bound;
use std::sync::Arc;

/// What one process is watched for. Mostly that is one connection; the owner of a million closes one in about the time that the
/// owner of two takes, for it is a tree: a table of another kind would be slow now and then, when it grows.
#[derive(Default)]
pub struct Belongings(Kept);

#[derive(Default)]
enum Kept {
    #[default]
    Nothing,
    One(Owned),
    Many(BTreeSet<Owned>),
}

/// A process that has ended.
pub(crate) struct Ended<H: Host> {
    process: H::Process,
    owned: Belongings,
}

/// The same as one shard works through it. What is another shard's is passed over.
pub(crate) struct Share<H: Host> {
    ended: Arc<Ended<H>>,
    last: Option<Owned>,
    /// The one before that.
    earlier: Option<Owned>,
}

/// Linked, so that to add one or all of another takes the same time however many there are.
pub(crate) type Shares<H> = LinkedList<Share<H>>;

impl Belongings {
    /// Adds one.
    pub fn insert(&mut self, owned: Owned) {
        match &mut self.0 {
            Kept::Nothing => self.0 = Kept::One(owned),
            Kept::One(one) => self.0 = Kept::Many([*one, owned].into()),
            Kept::Many(many) => drop(many.insert(owned)),
        }
    }

    /// Takes one out, if it is there.
    pub fn remove(&mut self, owned: Owned) {
        match &mut self.0 {
            Kept::One(one) if *one == owned => self.0 = Kept::Nothing,
            Kept::Nothing | Kept::One(_) => {}
            Kept::Many(many) => drop(many.remove(&owned)),
        }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.after(None).is_none()
    }

    pub(crate) fn only(&self) -> Option<Owned> {
        self.after(None).filter(|first| self.after(Some(*first)).is_none())
    }

    /// The first, or the one that follows.
    fn after(&self, last: Option<Owned>) -> Option<Owned> {
        match (&self.0, last) {
            (Kept::One(one), None) => Some(*one),
            (Kept::Many(many), None) => many.first().copied(),
            (Kept::Many(many), Some(last)) => {
                many.range((Bound::Excluded(last), Bound::Unbounded)).next().copied()
            }
            (Kept::Nothing | Kept::One(_), _) => None,
        }
    }
}
impl FromIterator<Owned> for Belongings {
    fn from_iter<I: IntoIterator<Item = Owned>>(all: I) -> Self {
        let mut belongings = Self::default();
        all.into_iter().for_each(|owned| belongings.insert(owned));
        belongings
    }
}

impl<H: Host> Share<H> {
    /// One for each shard's thread that has something to end.
    pub(crate) fn each(process: H::Process, owned: Belongings) -> impl Fn() -> Self {
        let ended = Arc::new(Ended { process, owned });
        move || Self { ended: Arc::clone(&ended), last: None, earlier: None }
    }

    pub(crate) fn process(&self) -> H::Process {
        self.ended.process
    }

    /// The next, which is behind it from here on: what panics is not met again.
    pub(crate) fn take(&mut self) -> Option<Owned> {
        let next = self.ended.owned.after(self.last)?;
        self.earlier = self.last.replace(next);
        Some(next)
    }

    /// The last one that was taken comes again.
    pub(crate) fn put_back(&mut self) {
        self.last = self.earlier;
    }

    /// Once all were taken: frees one where this is the last share, for to free a million would take too long. Whether none
    /// is left to free.
    pub(crate) fn free_one(&mut self) -> bool {
        Arc::get_mut(&mut self.ended).is_none_or(|ended| match &mut ended.owned.0 {
            Kept::Nothing | Kept::One(_) => true,
            Kept::Many(many) => many.pop_first().is_none(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Conn;

    #[test]
    fn each_that_was_not_taken_out_follows_once() {
        for count in 0..20 {
            let all = || (0..count).map(|slot| Owned::Connection(Conn::new(0, slot, 0)));
            let mut belongings: Belongings = all().collect();
            let taken_out = all().nth(count as usize / 2);
            taken_out.into_iter().for_each(|owned| belongings.remove(owned));
            belongings.remove(Owned::Session(Conn::new(0, 0, 0)));
            let followed =
                std::iter::successors(belongings.after(None), |last| belongings.after(Some(*last)));
            assert!(followed.eq(all().filter(|owned| Some(*owned) != taken_out)));
            assert_eq!(belongings.is_empty(), count < 2);
            assert_eq!(belongings.only().is_some(), count == 2);
        }
    }
}
