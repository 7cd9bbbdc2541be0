//! What may be asked of XMPP sessions.

use super::*;
use crate::session::Queued;
use crate::settings::Facts;
use megaphone_proto::bosh::Encoded;
use megaphone_proto::stream::{Outgoing, Rate, encode};

impl<H: Host> System<H> {
    /// Replaces the settings of sessions that begin from here on.
    pub fn set_xmpp_config(&self, config: XmppConfig) {
        for listener in self.engine.listeners.read().values() {
            listener.configure(&config);
        }
        self.engine.shared.set_xmpp(config);
    }

    fn session<R>(
        &self,
        id: Conn,
        sink: &mut dyn Sink<H>,
        step: impl FnOnce(&mut BoshSession<H>, &mut crate::cx::Cx<'_, H>) -> (R, Fate),
    ) -> Result<R, Error> {
        self.engine.with(id, sink, step)
    }

    /// Where a session comes from.
    pub fn xmpp_facts(&self, id: XmppId) -> Result<Facts, Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => {
                self.engine.peek(conn, |connection: &mut Connection<H>| connection.xmpp_facts())?
            }
            XmppId::Bosh(id) => self.engine.peek(id, |session: &mut BoshSession<H>| session.facts()),
        }
    }

    /// One BOSH session, as it is now.
    pub fn session_info(&self, id: Conn) -> Result<SessionInfo<H::Process>, Error> {
        self.engine.peek(id, |session: &mut BoshSession<H>| session.info())
    }

    /// `process` has the session from here on, and is told of what there is. The session closes when it has ended already.
    pub fn xmpp_started(&self, id: XmppId, process: H::Process, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        let started = match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => {
                self.with(conn, sink, |connection, cx| connection.xmpp_started(cx, process))?
            }
            XmppId::Bosh(id) => self.session(id, sink, |session, cx| session.started(cx, process))?,
        };
        if started { Ok(()) } else { Err(Error::Closed) }
    }

    /// What has come for the owner, a measure at a time, read through `buffer` on the caller's thread. By asking, the
    /// owner says that it has dealt with all that it was given before. [`Error::Closed`]: the session is gone.
    pub fn xmpp_recv(
        &self,
        id: XmppId,
        process: H::Process,
        effort: Effort,
        buffer: &mut [u8],
        sink: &mut dyn Sink<H>,
    ) -> Result<Pulled, Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => {
                self.with(conn, sink, |connection, cx| connection.xmpp_recv(cx, process, effort, buffer))?
            }
            XmppId::Bosh(id) => self.session(id, sink, |session, cx| session.recv(cx, process, effort))?,
        }
    }

    /// Queues what the owner sends until [`xmpp_flush`](Self::xmpp_flush), or registers its waiter: then nothing was
    /// taken. Much is written without being asked for. Encoded before anything is locked.
    pub fn xmpp_send(
        &self,
        id: XmppId,
        process: H::Process,
        outgoing: Outgoing<'_>,
        sink: &mut dyn Sink<H>,
        waiter: impl FnOnce() -> H::Waiter,
    ) -> Result<WriteOutcome, Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => {
                let framing =
                    self.engine.peek(conn, |connection: &mut Connection<H>| connection.xmpp_framing())??;
                let mut out = Vec::new();
                let sent = encode(framing, outgoing, &mut out);
                self.with(conn, sink, |connection, _| connection.xmpp_send(process, (out, sent), waiter))?
            }
            XmppId::Bosh(id) => {
                let queued = queued(outgoing);
                self.session(id, sink, |session, cx| session.send(cx, process, queued, waiter))?
            }
        }
    }

    /// The owner wants written what it has sent.
    pub fn xmpp_flush(&self, id: XmppId, process: H::Process, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => {
                self.with(conn, sink, |connection, _| connection.xmpp_flush(process))?
            }
            XmppId::Bosh(id) => self.session(id, sink, |session, cx| session.flush(cx, process))?,
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
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => self.cancel_wait(conn, process, sink).map(drop),
            XmppId::Bosh(id) => {
                self.engine.peek(id, |session: &mut BoshSession<H>| session.cancel_wait(process))
            }
        }
    }

    /// The owner expects a new stream header on the same session.
    pub fn xmpp_reset(&self, id: XmppId, process: H::Process) -> Result<(), Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => {
                self.engine.peek(conn, |connection: &mut Connection<H>| connection.xmpp_reset(process))?
            }
            // The next stream begins when the client says so.
            XmppId::Bosh(id) => {
                let owner = self.engine.peek(id, |session: &mut BoshSession<H>| session.owner())?;
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
                .with(conn, sink, |connection, cx| (connection.xmpp_shaper(cx, process, rate), Fate::Keep))?,
            XmppId::Bosh(id) => self.session(id, sink, |session, cx| session.shape(cx, process, rate))?,
        }
    }

    /// The owner's close: what it has sent goes out, then the session ends.
    pub fn xmpp_close(&self, id: XmppId, process: H::Process, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => {
                self.with(conn, sink, |connection, cx| connection.xmpp_close(cx, process))?
            }
            XmppId::Bosh(id) => self.session(id, sink, |session, cx| session.close(cx, process))?,
        }
    }

    /// Ends the session at once, whoever has it; its owner is told.
    pub fn xmpp_abort(&self, id: XmppId, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        match id {
            XmppId::Tcp(conn) | XmppId::WebSocket(conn) => self.abort(conn, sink),
            XmppId::Bosh(id) => self
                .session(id, sink, |session, cx| ((), session.abort_with(cx, Condition::UndefinedCondition))),
        }
    }
}

fn queued(outgoing: Outgoing<'_>) -> Queued {
    match outgoing {
        Outgoing::Header(header) => {
            let attr = |name: &[u8]| header.attr(name).unwrap_or_default().into();
            Queued::Header { id: attr(b"id"), version: attr(b"version") }
        }
        Outgoing::Element(element) => Queued::Element(Encoded::new(element)),
        Outgoing::End(_) => Queued::End,
        Outgoing::Raw(_) => Queued::Nothing,
    }
}
