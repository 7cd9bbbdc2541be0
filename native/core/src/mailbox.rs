//! What other threads want of a reactor.

use crate::id::ListenerId;
use mio::{Registry, Token, Waker};
use parking_lot::Mutex;

/// Whose step it is: a slot of the store of connections, or of that of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Connection(u32),
    Session(u32),
}

/// Bounded: a connection or session is in a mailbox once at most, a listener once for each connection that closed
/// since the reactor looked, the processes that have ended once, and each link once for the reactor's look at it.
#[derive(Clone, Copy)]
pub(crate) enum Mail {
    /// It has pending bits.
    Step(Place),
    /// There may be room for this listener's connections again.
    Accept(ListenerId),
    /// Processes have ended.
    Ended,
    /// Something is to be done for links.
    Links,
}

/// The token of every mailbox's wake-up.
pub(crate) const WAKER: Token = Token(usize::MAX);

pub(crate) struct Mailbox {
    waker: Waker,
    mail: Mutex<Vec<Mail>>,
}

impl Mailbox {
    pub(crate) fn new(registry: &Registry) -> std::io::Result<Self> {
        Ok(Self { waker: Waker::new(registry, WAKER)?, mail: Mutex::default() })
    }

    pub(crate) fn post(&self, mail: Mail) {
        let was_empty = {
            let mut all = self.mail.lock();
            all.push(mail);
            all.len() == 1
        };
        if was_empty {
            // Fails only when an eventfd can't be written, which would be a bug of the kernel.
            let _ = self.waker.wake();
        }
    }

    pub(crate) fn take(&self) -> Vec<Mail> {
        std::mem::take(&mut *self.mail.lock())
    }
}
