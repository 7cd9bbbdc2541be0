//! What may be asked of XMPP sessions.

use super::*;
use crate::xmpp::{Facts, Outgoing, Rate, XmppId};
use megaphone_proto::bosh::Condition;

impl<H: Host> System<H> {
    /// Replaces the settings of all sessions. Those of a BOSH session's host are of its beginning.
    pub fn set_xmpp_config(&self, config: XmppConfig) {
        let hosts = config.bosh_hosts.iter().map(|(host, config)| (host.clone(), Arc::new(*config)));
        *self.bosh_hosts.write() = hosts.collect();
        *self.xmpp_config.write() = Arc::new(config);
    }

    pub(crate) fn xmpp_config(&self) -> Arc<XmppConfig> {
        Arc::clone(&self.xmpp_config.read())
    }

    /// Where a session comes from.
    pub fn xmpp_facts(&self, id: XmppId) -> Result<Facts, Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => {
                self.peek(conn, |connection| connection.xmpp_facts())?
            }
            XmppId::Bosh(id) => self.peek_session(id, |session| session.origin()),
        }
    }

    /// `process` has the session from here on, and gets its events. The session closes when it has ended already.
    pub fn xmpp_started(&self, id: XmppId, process: H::Process, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        let started = match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => {
                self.with(conn, sink, |connection, cx| connection.xmpp_started(cx, process))?
            }
            XmppId::Bosh(id) => self.with_session(id, sink, |session, cx| session.started(cx, process))?,
        };
        if started { Ok(()) } else { Err(Error::Closed) }
    }

    /// Queues what the owner sends until [`xmpp_flush`](Self::xmpp_flush), or registers its waiter: then nothing was
    /// taken. Much is written without being asked for.
    pub fn xmpp_send(
        &self,
        id: XmppId,
        process: H::Process,
        outgoing: Outgoing<'_>,
        sink: &mut dyn Sink<H>,
        waiter: impl FnOnce() -> H::Waiter,
    ) -> Result<WriteOutcome, Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => self.with(conn, sink, |connection, _| {
                let out = connection.xmpp_send(process, outgoing, waiter);
                let fate = if out.is_err() { Fate::Look } else { Fate::Keep };
                (out, fate)
            })?,
            XmppId::Bosh(id) => {
                self.with_session(id, sink, |session, cx| session.send(cx, process, outgoing, waiter))?
            }
        }
    }

    /// The owner has taken `taken` more events out of its mailbox, and wants written what it has sent.
    pub fn xmpp_flush(
        &self,
        id: XmppId,
        process: H::Process,
        taken: u32,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => {
                self.with(conn, sink, |connection, _| connection.xmpp_flush(process, taken))?
            }
            XmppId::Bosh(id) => {
                self.with_session(id, sink, |session, cx| session.flush(cx, process, taken))?
            }
        }
    }

    /// The owner no longer waits for room.
    pub fn xmpp_cancel_wait(
        &self,
        id: XmppId,
        process: H::Process,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => self.cancel_wait(conn, process, sink),
            XmppId::Bosh(id) => self.peek_session(id, |session| session.cancel_wait(process)),
        }
    }

    /// The owner expects a new stream header on the same session.
    pub fn xmpp_reset(&self, id: XmppId, process: H::Process) -> Result<(), Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => {
                self.peek(conn, |connection| connection.xmpp_reset(process))?
            }
            // The next stream begins when the client says so.
            XmppId::Bosh(id) => {
                let owner = self.peek_session(id, |session| session.owner())?;
                if owner == Some(process) { Ok(()) } else { Err(Error::Closed) }
            }
        }
    }

    /// Bounds how fast the peer's bytes are taken; none takes the bound away.
    pub fn xmpp_shaper(
        &self,
        id: XmppId,
        process: H::Process,
        rate: Option<Rate>,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => self
                .with(conn, sink, |connection, cx| connection.xmpp_shaper(process, rate, cx.system.now()))?,
            XmppId::Bosh(id) => {
                self.with_session(id, sink, |session, cx| session.shape(cx, process, rate))?
            }
        }
    }

    /// The owner's close: what it has sent goes out, then the session ends.
    pub fn xmpp_close(&self, id: XmppId, process: H::Process, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => self.with(conn, sink, |connection, cx| {
                if connection.owner() == Some(process) {
                    (Ok(()), connection.close(cx))
                } else {
                    (Err(Error::Closed), Fate::Keep)
                }
            })?,
            XmppId::Bosh(id) => self.with_session(id, sink, |session, cx| session.close(cx, process))?,
        }
    }

    /// Ends the session at once, whoever has it; its owner is told.
    pub fn xmpp_abort(&self, id: XmppId, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => self.abort(conn, sink),
            XmppId::Bosh(id) => {
                let condition = Condition::UndefinedCondition;
                self.with_session(id, sink, |session, cx| ((), session.abort(cx, condition)))
            }
        }
    }
}
