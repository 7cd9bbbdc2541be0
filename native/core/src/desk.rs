//! What streams leave to the reactor of their link, and how it is woken.

use crate::mailbox::{Mail, Mailbox};
use parking_lot::Mutex;
use std::sync::Arc;

/// What the streams of one link leave to its reactor.
pub(crate) struct Desk {
    mailbox: Arc<Mailbox>,
    /// The credit of a new stream. It is granted again by halves.
    pub(crate) window: u32,
    todo: Mutex<Todo>,
}

#[derive(Default)]
struct Todo {
    /// Streams with something to do, each once.
    numbers: Vec<u32>,
    /// The reactor looks before it sleeps: nobody has to wake it.
    is_attended: bool,
}

impl Desk {
    pub(crate) fn new(mailbox: Arc<Mailbox>, window: u32) -> Arc<Self> {
        Arc::new(Self { mailbox, window, todo: Mutex::default() })
    }

    pub(crate) fn push(&self, number: u32) {
        let was_attended = {
            let mut todo = self.todo.lock();
            todo.numbers.push(number);
            std::mem::replace(&mut todo.is_attended, true)
        };
        if !was_attended {
            self.mailbox.post(Mail::Links);
        }
    }

    /// The reactor's: what there is to do.
    pub(crate) fn take(&self) -> Vec<u32> {
        std::mem::take(&mut self.todo.lock().numbers)
    }

    /// The reactor's: it is awake, and looks before it sleeps.
    pub(crate) fn attend(&self) {
        self.todo.lock().is_attended = true;
    }

    /// The reactor's: whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.todo.lock().numbers.is_empty()
    }

    /// The reactor's: it would sleep. False when there is something to do.
    pub(crate) fn leave(&self) -> bool {
        let mut todo = self.todo.lock();
        todo.is_attended = !todo.numbers.is_empty();
        !todo.is_attended
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nobody_wakes_a_reactor_that_looks_before_it_sleeps() {
        let poll = mio::Poll::new().unwrap();
        let desk = Desk::new(Arc::new(Mailbox::new(poll.registry()).unwrap()), 8);
        desk.push(7);
        assert_eq!(desk.mailbox.take().len(), 1);
        assert!(!desk.leave(), "there is something to do");
        desk.push(8);
        assert_eq!(desk.take(), [7, 8]);
        assert!(desk.mailbox.take().is_empty());
        assert!(desk.leave());
        desk.push(9);
        assert_eq!(desk.mailbox.take().len(), 1, "it sleeps");
        desk.take();
        desk.attend();
        desk.push(9);
        assert!(desk.mailbox.take().is_empty());
    }
}
