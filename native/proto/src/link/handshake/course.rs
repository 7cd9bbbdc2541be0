//! What both ends of a handshake have: messages that come and go, and the time for all of them.

use super::message::Gatherer;
use crate::link::Failure;
use crate::time::Time;

pub(super) struct Course {
    pub(super) gatherer: Gatherer,
    /// What is to be written.
    pub(super) out: Vec<u8>,
    due: Time,
    is_over: bool,
}

impl Course {
    pub(super) fn new(due: Time) -> Self {
        Self { gatherer: Gatherer::default(), out: Vec::new(), due, is_over: false }
    }

    /// Nothing is taken any more, and there is no deadline.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn handle_timeout(&mut self, now: Time) -> Result<(), Failure> {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return Ok(());
        }
        self.end();
        Err(Failure::Timeout)
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        (!self.is_over).then_some(self.due)
    }

    pub(super) fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        let has_some = !self.out.is_empty();
        out.append(&mut self.out);
        has_some
    }
}
