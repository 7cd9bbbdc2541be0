//! What other threads can reach of a reactor.

use crate::connection::Connection;
use crate::ended::{Share, Shares};
use crate::handshake::Arrival;
use crate::host::Host;
use crate::mailbox::{Mail, Mailbox, Place};
use crate::session::BoshSession;
use crate::store::Store;
use mio::Registry;
use parking_lot::Mutex;
use std::sync::Arc;

pub(crate) struct Shard<H: Host> {
    pub(crate) connections: Store<Connection<H>>,
    pub(crate) sessions: Store<BoshSession<H>>,
    pub(crate) registry: Registry,
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
