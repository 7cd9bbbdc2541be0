//! What other threads can reach of a reactor.

use crate::connection::Connection;
use crate::ended::{Share, Shares};
use crate::handshake::Arrival;
use crate::host::Host;
use crate::mailbox::{Mail, Mailbox, Place};
use crate::session::BoshSession;
use crate::store::Store;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use parking_lot::Mutex;
use rustix::fd::{AsFd, AsRawFd, RawFd};
use rustix::io::Errno;
use std::sync::Arc;

pub(crate) struct Shard<H: Host> {
    pub(crate) connections: Store<Connection<H>>,
    pub(crate) sessions: Store<BoshSession<H>>,
    registry: Registry,
    pub(crate) mailbox: Arc<Mailbox>,
    /// Processes that have ended, for the reactor.
    ended: Mutex<Shares<H>>,
    /// Connections for links of the reactor's.
    arrivals: Mutex<Vec<Arrival<H>>>,
}

impl<H: Host> Shard<H> {
    pub(crate) const BYTES_PER_SLOT: usize = Store::<Connection<H>>::SLOT;
    pub(crate) const BYTES_PER_SESSION: usize = Store::<BoshSession<H>>::SLOT;

    pub(crate) fn new(index: usize, registry: &Registry) -> std::io::Result<Self> {
        let mailbox = Arc::new(Mailbox::new(registry)?);
        Ok(Self {
            connections: Store::new(index, Place::Connection, Arc::clone(&mailbox)),
            sessions: Store::new(index, Place::Session, Arc::clone(&mailbox)),
            registry: registry.try_clone()?,
            mailbox,
            ended: Mutex::default(),
            arrivals: Mutex::default(),
        })
    }

    /// Has the reactor told of a descriptor, by edges.
    pub(crate) fn watch(&self, fd: RawFd, token: Token, interest: Interest) -> Result<(), Errno> {
        let registered = self.registry.register(&mut SourceFd(&fd), token, interest);
        registered.map_err(|error| error.raw_os_error().map_or(Errno::NOMEM, Errno::from_raw_os_error))
    }

    /// Before a descriptor is closed: another one of the same socket would keep the interest alive.
    pub(crate) fn unwatch(&self, fd: impl AsFd) {
        let _gone_with_the_descriptor = self.registry.deregister(&mut SourceFd(&fd.as_fd().as_raw_fd()));
    }

    /// For everybody but the reactor.
    pub(crate) fn hand_over(&self, share: Share<H>) {
        let was_empty = {
            let mut ended = self.ended.lock();
            ended.push_back(share);
            ended.len() == 1
        };
        if was_empty {
            self.mailbox.post(Mail::Ended);
        }
    }

    /// For everybody: a connection of a link of this shard.
    pub(crate) fn send_arrival(&self, arrival: Arrival<H>) {
        self.arrivals.lock().push(arrival);
        self.mailbox.post(Mail::Links);
    }

    /// The reactor's.
    pub(crate) fn take_arrivals(&self) -> Vec<Arrival<H>> {
        std::mem::take(&mut *self.arrivals.lock())
    }

    /// The reactor's.
    pub(crate) fn take_ended(&self) -> Shares<H> {
        std::mem::take(&mut *self.ended.lock())
    }
}
