//! What may be asked of the links of connection managers.

use super::*;
use crate::link_registry::{LinkInfo, LinkListenerConfig};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

impl<H: Host> System<H> {
    /// Takes links of connection managers on a listening socket from here on. A stream of a link becomes a connection of the
    /// open listener whose [`name`](crate::ListenerConfig::name) it asks for, with the addresses that the ECM says.
    ///
    /// [`close_listener`](Self::close_listener) and the end of the owner stop the accepting: existing links live on, and may
    /// be resumed by way of any link listener that has the same secret. [`listener_info`](Self::listener_info) counts links.
    /// [`Error::Invalid`]: no link can work with such settings.
    pub fn listen_links(&self, _fd: OwnedFd, _config: LinkListenerConfig) -> Result<ListenerId, Error> {
        Err(Error::Os(Errno::OPNOTSUPP))
    }

    /// Tells the ECMs of this listener's links, and of those that come, that the node is stopping: they open no more streams.
    /// Existing ones go on. Returns at once; [`Error::Closed`] when it is no link listener with a socket or links.
    pub fn links_go_away(&self, _id: ListenerId) -> Result<(), Error> {
        Err(Error::Os(Errno::OPNOTSUPP))
    }

    /// Ends this listener's links in good order: what their streams have written is sent, for up to 2 s, then the ECMs are
    /// told that the links are over, and what streams there still are end with them. New ones are refused. Returns at once;
    /// [`Error::Closed`] when it is no link listener with a socket or links.
    pub fn close_links(&self, _id: ListenerId) -> Result<(), Error> {
        Err(Error::Os(Errno::OPNOTSUPP))
    }

    /// All links, suspended ones included. Takes time in proportion to their number, and locks nothing that a reactor works on.
    pub fn links(&self) -> Vec<LinkInfo> {
        Vec::new()
    }
}
