//! What may be asked of the links of connection managers.

use super::*;
use crate::link_registry::{Gate, LinkInfo, LinkListenerConfig, Stage};
use crate::listener::ListenerConfig;
use crate::mailbox::Mail;
use rustix::fd::OwnedFd;

impl<H: Host> System<H> {
    /// Takes links of connection managers on a listening socket from here on. A stream of a link becomes a connection of the
    /// open listener whose [`name`](crate::ListenerConfig::name) it asks for, with the addresses that the ECM says.
    ///
    /// [`close_listener`](Self::close_listener) and the end of the owner stop the accepting: existing links live on, and may
    /// be resumed by way of any link listener that has the same secret. [`listener_info`](Self::listener_info) counts links.
    /// [`Error::Invalid`]: no link can work with such settings.
    pub fn listen_links(&self, fd: OwnedFd, config: LinkListenerConfig) -> Result<ListenerId, Error> {
        if config.link.check().is_err() || config.link.initial_credit == 0 {
            return Err(Error::Invalid);
        }
        self.engine.max_streams.fetch_max(config.link.max_streams as usize, Ordering::Relaxed);
        let listener = ListenerConfig {
            backlog: config.backlog,
            shut_with_owner: config.shut_with_owner,
            ..ListenerConfig::default()
        };
        self.open_listener(fd, (listener, Some(Gate::new(config))), None)
    }

    /// Tells the ECMs of this listener's links, and of those that come, that the node is stopping: they open no more streams.
    /// Existing ones go on. Returns at once; [`Error::Closed`] when it is no link listener with a socket or links.
    pub fn links_go_away(&self, id: ListenerId) -> Result<(), Error> {
        self.advance_links(id, Stage::GoingAway)
    }

    /// Ends this listener's links in good order: what their streams have written is sent, for up to 2 s, then the ECMs are
    /// told that the links are over, and what streams there still are end with them. New ones are refused. Returns at once;
    /// [`Error::Closed`] when it is no link listener with a socket or links.
    pub fn close_links(&self, id: ListenerId) -> Result<(), Error> {
        self.advance_links(id, Stage::Ending)
    }

    fn advance_links(&self, id: ListenerId, stage: Stage) -> Result<(), Error> {
        let listener = self.listener(id).ok_or(Error::Closed)?;
        listener.gate.as_ref().ok_or(Error::Closed)?.advance(stage);
        for shard in &self.engine.shards {
            shard.mailbox.post(Mail::Links);
        }
        Ok(())
    }

    /// All links, suspended ones included. Takes time in proportion to their number; locks each for a copy.
    pub fn links(&self) -> Vec<LinkInfo> {
        self.engine.links.infos()
    }
}
