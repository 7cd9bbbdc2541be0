//! By which way a connection has come.

use crate::carrier::Address;
use crate::host::Host;
use crate::listener::Listener;
use megaphone_proto::proxy;
use std::ops::Deref;
use std::sync::Arc;

/// A listener, and between which ends the connection is where its socket does not know: behind a proxy.
///
/// Connections that have come directly share one of their listener's ([`Listener::ingress`]); so the addresses cost
/// nothing where there are none.
pub(crate) struct Ingress<H: Host> {
    listener: Arc<Listener<H>>,
    ends: Option<Ends>,
}

/// What a proxy has said, for good.
pub(crate) struct Ends {
    pub(crate) peer: Address,
    pub(crate) local: Address,
}

impl<H: Host> Ingress<H> {
    pub(crate) fn direct(listener: Arc<Listener<H>>) -> Self {
        Self { listener, ends: None }
    }

    /// The same listener, by way of a proxy.
    pub(crate) fn proxied(&self, addresses: proxy::Addresses) -> Self {
        let ends = Ends { peer: addresses.source.into(), local: addresses.destination.into() };
        Self { listener: self.listener(), ends: Some(ends) }
    }

    pub(crate) fn listener(&self) -> Arc<Listener<H>> {
        Arc::clone(&self.listener)
    }

    pub(crate) fn ends(&self) -> Option<&Ends> {
        self.ends.as_ref()
    }

    /// Bytes of memory that are this connection's alone.
    pub(crate) fn bytes(&self) -> usize {
        // Beside the two counts of an `Arc`.
        if self.ends.is_some() { size_of::<Self>() + 2 * size_of::<usize>() } else { 0 }
    }
}

/// Most of what a connection asks is its listener's to answer.
impl<H: Host> Deref for Ingress<H> {
    type Target = Listener<H>;

    fn deref(&self) -> &Listener<H> {
        &self.listener
    }
}

impl From<proxy::Address> for Address {
    fn from(address: proxy::Address) -> Self {
        match address {
            proxy::Address::Ip(ip) => Self::Ip(ip),
            proxy::Address::Unix(path) => Self::Local(path),
        }
    }
}
