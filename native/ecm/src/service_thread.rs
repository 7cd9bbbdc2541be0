//! What serves operators in a thread of its own, beside the workers.

use mio::Waker;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

/// A running service. It ends when this is dropped.
#[derive(Debug)]
pub struct Handle {
    what: &'static str,
    is_over: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
}

impl Handle {
    /// Has `run` serve at `address` in a thread of this name, until it is woken and `is_over` says so. `what`: what it is, for the log.
    pub(crate) fn spawn(
        (what, name): (&'static str, &str),
        address: SocketAddr,
        (is_over, waker): (Arc<AtomicBool>, Waker),
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let thread = Builder::new().name(name.into()).spawn(run)?;
        Ok(Self { what, is_over, waker, thread: Some(thread), address })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, after what was answered has been sent as far as sockets take it.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            // It ends with the program then.
            tracing::warn!(%error, "{} can't be ended", self.what);
        } else if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("{} ended by a panic before", self.what);
        }
    }
}
