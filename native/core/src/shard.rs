//! What other threads can reach of a reactor.

use crate::connection::Connection;
use crate::host::Host;
use crate::mailbox::{Mailbox, Place};
use crate::session::BoshSession;
use crate::store::Store;
use mio::Registry;
use std::sync::Arc;

pub(crate) struct Shard<H: Host> {
    pub(crate) connections: Store<Connection<H>>,
    pub(crate) sessions: Store<BoshSession<H>>,
    pub(crate) registry: Registry,
    pub(crate) mailbox: Arc<Mailbox>,
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
        })
    }
}
