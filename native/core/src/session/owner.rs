//! What the owner of a session asks for.

use super::*;
use crate::Error;
use crate::connection::WriteOutcome;
use crate::xmpp::{Facts, Outgoing, Rate};

/// Queued bytes that are sent without being asked for, when a request is waiting.
const FLUSH_AT: usize = 64 * 1024;
/// Queued bytes from which the owner waits for the client.
const HIGH_WATERMARK: usize = 256 * 1024;
/// Queued bytes at which it goes on.
pub(super) const LOW_WATERMARK: usize = 128 * 1024;

impl<H: Host> BoshSession<H> {
    /// `process` has the session from here on. False when it has ended already, or the session has.
    pub(crate) fn started(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> (bool, Fate) {
        if self.phase != Phase::Starting {
            return (false, Fate::Keep);
        }
        if !cx.sink.watch(process, Owned::Session(cx.conn)) {
            self.end(Some(Condition::InternalServerError));
            return (false, self.push(cx));
        }
        self.owner = Some(process);
        self.phase = Phase::Running;
        self.start_by = 0;
        self.facts = None;
        // The stream header is short, and a look of the reactor's two thread switches.
        self.deliver_next(cx, process);
        (true, self.look_if_due(cx))
    }

    /// Queues what the owner sends, or registers its waiter when too much is queued.
    pub(crate) fn send(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        outgoing: Outgoing<'_>,
        waiter: impl FnOnce() -> H::Waiter,
    ) -> (Result<WriteOutcome, Error>, Fate) {
        if self.owner != Some(process) {
            return (Err(Error::Closed), Fate::Keep);
        }
        if self.machine.queued_bytes() >= HIGH_WATERMARK {
            // What was queued may have ended the session.
            let fate = self.push(cx);
            if fate == Fate::Gone {
                return (Err(Error::Closed), fate);
            }
            if self.machine.queued_bytes() >= HIGH_WATERMARK {
                self.writers.push((process, waiter()));
                return (Ok(WriteOutcome::Wait), fate);
            }
        }
        match outgoing {
            Outgoing::Header(header) => self.machine.queue_header(header.attrs()),
            Outgoing::Element(element) => self.machine.queue_element(element),
            Outgoing::End(_) => self.machine.queue_end(None),
            Outgoing::Raw(_) => {}
        }
        let fate = if self.machine.queued_bytes() >= FLUSH_AT { self.push(cx) } else { Fate::Keep };
        (Ok(WriteOutcome::Done), fate)
    }

    /// The owner has taken so many events, and has nothing more to send for now.
    pub(crate) fn flush(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        taken: u32,
    ) -> (Result<(), Error>, Fate) {
        if self.owner != Some(process) {
            return (Err(Error::Closed), Fate::Keep);
        }
        self.credit.taken(taken);
        (Ok(()), self.push(cx))
    }

    /// The owner no longer waits for room.
    pub(crate) fn cancel_wait(&mut self, process: H::Process) {
        self.writers.retain(|(writer, _)| *writer != process);
    }

    /// From now on the client's requests are taken no faster than that.
    pub(crate) fn shape(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        rate: Option<Rate>,
    ) -> (Result<(), Error>, Fate) {
        if self.owner != Some(process) {
            return (Err(Error::Closed), Fate::Keep);
        }
        self.throttle = rate.map(|rate| Box::new(Throttle::new(rate, cx.system.now())));
        self.resume_at = 0;
        (Ok(()), self.look_if_due(cx))
    }

    /// The owner has nothing more to say: the client learns of it, or is forgotten when it was silent for too long.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> (Result<(), Error>, Fate) {
        if self.owner != Some(process) {
            return (Err(Error::Closed), Fate::Keep);
        }
        (Ok(()), self.abandon(cx, None))
    }

    /// The owner died.
    pub(crate) fn owner_down(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> Fate {
        if self.owner != Some(process) {
            return Fate::Keep;
        }
        self.abandon(cx, Some(Condition::InternalServerError))
    }

    pub(crate) fn owner(&self) -> Option<H::Process> {
        self.owner
    }

    /// Where the session comes from.
    pub(crate) fn origin(&self) -> Facts {
        Facts {
            listener: self.listener,
            peer: self.peer.clone(),
            local: self.local.clone(),
            request: self.facts.as_deref().cloned(),
        }
    }

    fn abandon(&mut self, cx: &mut Cx<'_, H>, condition: Option<Condition>) -> Fate {
        self.detach(cx);
        self.end(condition);
        self.push(cx)
    }

    /// Answers waiting requests with what is queued. What else has become possible is left to the reactor.
    fn push(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let mut out = Vec::new();
        self.machine.flush(&self.config, cx.system.elapsed(), &mut out);
        if self.apply(cx, out, 0) {
            // The owner has ended the stream, and looks at no more events.
            self.events = VecDeque::new();
            return self.finish(cx);
        }
        self.wake_if_room(cx);
        self.look_if_due(cx)
    }

    fn look_if_due(&self, cx: &Cx<'_, H>) -> Fate {
        let has_events = self.owner.is_some() && self.credit.has_room() && !self.events.is_empty();
        let has_requests = !self.delayed.is_empty() && self.may_process(cx);
        if has_events || has_requests { Fate::Look } else { Fate::Keep }
    }
}
