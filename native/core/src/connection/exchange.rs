//! What owners of XMPP streams ask of a connection, and what BOSH sessions answer through it.

use super::Connection;
use crate::attached::WriteOutcome;
use crate::cx::{Cx, Fate};
use crate::effect::Ticket;
use crate::error::Error;
use crate::host::Host;
use crate::id::Conn;
use crate::role::Role;
use crate::role::stream::StreamRole;
use crate::settings::{Effort, Facts, Pulled};
use megaphone_proto::stream::{Framing, Rate, Sent};

impl<H: Host> Connection<H> {
    fn stream(&mut self) -> Result<&mut StreamRole<H>, Error> {
        match &mut self.role {
            Role::Stream(stream) => Ok(stream),
            Role::Proxy | Role::Http(_) | Role::Raw(_) | Role::Closing(_) => Err(Error::Closed),
        }
    }

    /// The stream, where `process` has it.
    fn stream_of(&mut self, process: H::Process) -> Result<&mut StreamRole<H>, Error> {
        self.stream().and_then(
            |stream| {
                if stream.owner() == Some(process) { Ok(stream) } else { Err(Error::Closed) }
            },
        )
    }

    /// Somebody was started to have the session. False when it has ended already.
    pub(crate) fn xmpp_started(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> (bool, Fate) {
        let Role::Stream(stream) = &mut self.role else { return (false, Fate::Keep) };
        if !stream.is_starting() {
            return (false, Fate::Keep);
        }
        if stream.started(&mut self.transport, cx, process) {
            return (true, Fate::Look);
        }
        (false, self.begin_close(cx, false))
    }

    pub(crate) fn xmpp_framing(&mut self) -> Result<Framing, Error> {
        self.stream().map(|stream| stream.framing())
    }

    pub(crate) fn xmpp_recv(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        effort: Effort,
        buffer: &mut [u8],
    ) -> (Result<Pulled, Error>, Fate) {
        if let Err(error) = self.stream_of(process) {
            return (Err(error), Fate::Keep);
        }
        let Role::Stream(stream) = &mut self.role else { return (Err(Error::Closed), Fate::Keep) };
        let (pulled, next) = stream.recv(&mut self.transport, cx, effort, buffer);
        (Ok(pulled), self.apply(cx, next))
    }

    /// Queues what the owner sends, or registers its waiter when too much is queued.
    pub(crate) fn xmpp_send(
        &mut self,
        process: H::Process,
        encoded: (Vec<u8>, Sent),
        waiter: impl FnOnce() -> H::Waiter,
    ) -> (Result<WriteOutcome, Error>, Fate) {
        let Role::Stream(stream) = &mut self.role else { return (Err(Error::Closed), Fate::Keep) };
        let sent = stream.send(&mut self.transport, process, encoded, waiter);
        let fate = if sent.is_err() { Fate::Look } else { self.transport.look_if_unsent() };
        (sent, fate)
    }

    /// The owner has nothing more to send for now.
    pub(crate) fn xmpp_flush(&mut self, process: H::Process) -> (Result<(), Error>, Fate) {
        if let Err(error) = self.stream_of(process) {
            return (Err(error), Fate::Keep);
        }
        let pushed = self.transport.push();
        let fate = if pushed.is_err() { Fate::Look } else { self.transport.look_if_unsent() };
        (pushed, fate)
    }

    /// The owner wants the next stream on this connection.
    pub(crate) fn xmpp_reset(&mut self, process: H::Process) -> Result<(), Error> {
        self.stream_of(process)?.restart();
        Ok(())
    }

    /// From now on the peer's bytes are taken no faster than that.
    pub(crate) fn xmpp_shaper(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        rate: Option<Rate>,
    ) -> Result<(), Error> {
        self.stream_of(process)?;
        if let Role::Stream(stream) = &mut self.role {
            stream.shape(&mut self.transport, cx, rate);
        }
        Ok(())
    }

    pub(crate) fn xmpp_close(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
    ) -> (Result<(), Error>, Fate) {
        match self.stream_of(process) {
            Ok(_) => (Ok(()), self.close_with_input(cx)),
            Err(error) => (Err(error), Fate::Keep),
        }
    }

    /// Where the session comes from.
    pub(crate) fn xmpp_facts(&mut self) -> Result<Facts, Error> {
        let request = self.stream()?.request().cloned();
        let (peer, local) = self.transport.addresses()?;
        Ok(Facts { listener: self.transport.listener.id, peer, local, request })
    }

    /// The session that a request on this connection has asked for is there. False when nothing waits for it any more.
    pub(crate) fn held_by(&mut self, number: u8, session: Conn) -> (bool, Fate) {
        let Role::Http(http) = &mut self.role else { return (false, Fate::Keep) };
        let is_held = http.held_by(number, session);
        // Of a client that has closed its side the session has to be told.
        (is_held, if self.transport.flags.ended { Fate::Look } else { Fate::Keep })
    }

    /// Answers a request that is held.
    pub(crate) fn respond(
        &mut self,
        cx: &mut Cx<'_, H>,
        ticket: Ticket,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Fate {
        let Role::Http(http) = &mut self.role else { return Fate::Keep };
        let next = http.respond(&mut self.transport, cx, ticket.number, (content_type, body));
        self.apply(cx, next)
    }
}
