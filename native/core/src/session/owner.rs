//! What the owner of a session asks for.

use super::{BoshSession, State};
use crate::attached::WriteOutcome;
use crate::cx::{Cx, Fate};
use crate::entry::Entry;
use crate::error::Error;
use crate::host::{Host, Owned};
use crate::settings::{Effort, Facts, Pulled, XmppEvent};
use megaphone_proto::bosh::{Condition, Encoded};
use megaphone_proto::stream::{Rate, Throttle};

/// Queued bytes that are sent without being asked for, when a request is waiting.
const FLUSH_AT: usize = 64 * 1024;
/// Queued bytes from which the owner waits for the client.
const HIGH_WATERMARK: usize = 256 * 1024;
/// Queued bytes at which it goes on.
pub(super) const LOW_WATERMARK: usize = 128 * 1024;

/// What an owner sends, encoded before the session is locked.
pub(crate) enum Queued {
    Header {
        id: Box<[u8]>,
        version: Box<[u8]>,
    },
    Element(Encoded),
    End,
    /// White space between stanzas, which has no place here.
    Nothing,
}

impl<H: Host> BoshSession<H> {
    pub(crate) fn owner(&self) -> Option<H::Process> {
        match self.state {
            State::Owned { owner, .. } => Some(owner),
            State::Starting { .. } | State::Ending => None,
        }
    }

    pub(super) fn may(&self, process: H::Process) -> Result<(), Error> {
        if self.owner() == Some(process) { Ok(()) } else { Err(Error::Closed) }
    }

    /// `process` has the session from here on. False when it has ended already, or the session has.
    pub(crate) fn started(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> (bool, Fate) {
        if !matches!(self.state, State::Starting { .. }) {
            return (false, Fate::Keep);
        }
        if !cx.sink.watch(process, Owned::Session(cx.conn)) {
            self.end(Some(Condition::InternalServerError));
            self.machine.flush(cx.now());
            return (false, self.settle(cx));
        }
        self.state = State::Owned { owner: process, is_waiting: true };
        self.origin.facts = None;
        (true, self.settle(cx))
    }

    /// Gives the owner what has come, a measure at a time. By asking it says that it has dealt with everything before.
    pub(crate) fn recv(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        effort: Effort,
    ) -> (Result<Pulled, Error>, Fate) {
        if let Err(error) = self.may(process) {
            return (Err(error), Fate::Keep);
        }
        let mut pulled = Pulled::default();
        while let Some(event) = self.next_event() {
            let is_last = matches!(event, XmppEvent::Closed);
            if !pulled.has_room(event.bytes(), effort) {
                self.large = Some(Box::new(event));
                break;
            }
            pulled.events.push(event);
            if is_last {
                return (Ok(pulled), Fate::Gone);
            }
        }
        // The requests behind what was taken now.
        let fate = self.settle(cx);
        pulled.has_more = self.has_events() || self.machine.closed().is_some();
        if let State::Owned { is_waiting, .. } = &mut self.state {
            *is_waiting = !pulled.has_more;
        }
        (Ok(pulled), fate)
    }

    fn next_event(&mut self) -> Option<XmppEvent> {
        if let Some(event) = self.large.take() {
            return Some(*event);
        }
        if let Some(event) = self.machine.poll_event() {
            return Some(XmppEvent::Stream(event));
        }
        self.machine.closed()?;
        if !std::mem::replace(&mut self.is_settled, true) {
            let undelivered: Vec<Box<[u8]>> = self.machine.undelivered().map(Into::into).collect();
            if !undelivered.is_empty() {
                return Some(XmppEvent::Undelivered(undelivered));
            }
        }
        Some(XmppEvent::Closed)
    }

    /// Queues what the owner sends, or registers its waiter when too much is queued.
    pub(crate) fn send(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        queued: Queued,
        waiter: impl FnOnce() -> H::Waiter,
    ) -> (Result<WriteOutcome, Error>, Fate) {
        if self.may(process).is_err() || self.machine.closed().is_some() {
            return (Err(Error::Closed), Fate::Keep);
        }
        if self.machine.queued_bytes() >= HIGH_WATERMARK {
            let fate = self.push(cx);
            // What was queued may have ended the session.
            if self.machine.closed().is_some() {
                return (Err(Error::Closed), fate);
            }
            if self.machine.queued_bytes() >= HIGH_WATERMARK {
                self.writers.add(process, waiter());
                return (Ok(WriteOutcome::Wait), fate);
            }
        }
        match queued {
            Queued::Header { id, version } => self.machine.queue_header(&id, &version),
            Queued::Element(element) => self.machine.queue(element),
            Queued::End => self.machine.queue_end(None),
            Queued::Nothing => {}
        }
        let fate = if self.machine.queued_bytes() >= FLUSH_AT { self.push(cx) } else { Fate::Keep };
        (Ok(WriteOutcome::Done), fate)
    }

    /// The owner has nothing more to send for now.
    pub(crate) fn flush(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> (Result<(), Error>, Fate) {
        match self.may(process) {
            Ok(()) => (Ok(()), self.push(cx)),
            Err(error) => (Err(error), Fate::Keep),
        }
    }

    /// Answers waiting requests with what is queued.
    fn push(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        self.machine.flush(cx.now());
        self.settle(cx)
    }

    /// The owner no longer waits for room.
    pub(crate) fn cancel_wait(&mut self, process: H::Process) {
        self.writers.cancel(process);
    }

    /// From now on the client's requests are taken no faster than that.
    pub(crate) fn shape(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        rate: Option<Rate>,
    ) -> (Result<(), Error>, Fate) {
        if let Err(error) = self.may(process) {
            return (Err(error), Fate::Keep);
        }
        self.throttle = rate.map(|rate| Box::new(Throttle::new(rate, cx.now())));
        if let Some(backlog) = &mut self.backlog {
            backlog.resume_at = None;
        }
        (Ok(()), self.settle(cx))
    }

    /// The owner has nothing more to say: the client learns of it, or is forgotten when it was silent for too long.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> (Result<(), Error>, Fate) {
        match self.may(process) {
            Ok(()) => (Ok(()), self.abandon(cx, None)),
            Err(error) => (Err(error), Fate::Keep),
        }
    }

    /// Where the session comes from.
    pub(crate) fn facts(&self) -> Facts {
        let origin = &self.origin;
        Facts {
            listener: origin.listener,
            peer: origin.peer.clone(),
            local: origin.local.clone(),
            request: origin.facts.as_deref().cloned(),
        }
    }

    pub(super) fn abandon(&mut self, cx: &mut Cx<'_, H>, condition: Option<Condition>) -> Fate {
        self.detach(cx);
        self.end(condition);
        self.push(cx)
    }
}
