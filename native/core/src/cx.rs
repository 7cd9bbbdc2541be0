//! What a step of an entry is given, and what it comes to.

use crate::effect::Effect;
use crate::host::{Host, Sink};
use crate::id::Conn;
use crate::shared::Shared;
use megaphone_proto::time::Time;
use std::time::Duration;

/// What a step needs to know of its surroundings.
pub(crate) struct Cx<'a, H: Host> {
    pub(crate) shared: &'a Shared<H>,
    /// The entry's name; a connection's changes when its handler is detached.
    pub(crate) conn: Conn,
    pub(crate) sink: &'a mut dyn Sink<H>,
    /// What is to be done when the lock is released.
    pub(crate) effects: &'a mut Vec<Effect<H>>,
}

impl<H: Host> Cx<'_, H> {
    pub(crate) fn now(&self) -> Time {
        self.shared.now()
    }

    pub(crate) fn deadline(&self, after: Duration) -> Time {
        self.shared.deadline(after)
    }
}

/// What becomes of an entry after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Fate {
    Keep,
    /// The reactor should look at it (again): it may have to read, to flush, to set a timer, to discard.
    Look,
    Gone,
}

impl Fate {
    /// This, and a look where `other` wants one.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Gone, _) | (_, Self::Gone) => Self::Gone,
            (Self::Look, _) | (_, Self::Look) => Self::Look,
            (Self::Keep, Self::Keep) => Self::Keep,
        }
    }
}
