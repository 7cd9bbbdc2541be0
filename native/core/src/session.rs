//! BOSH sessions (XEP-0124): what the protocol's state machine needs around it.
//!
//! A session is locked by itself, never together with a connection; what it has to say to one leaves as an [`Effect`].
//! The machine decides when requests are answered. What is added here is the owner: how much of the stream it has been
//! given, how much it may queue, and what becomes of the session without it.

use crate::clock::{Clock, Tick};
use crate::connection::{Cx, Fate};
use crate::credit::Credit;
use crate::effect::Effect;
use crate::host::{Event, Host, Owned};
use crate::id::{Conn, ListenerId};
use crate::listener::Listener;
use crate::source::Address;
use crate::stats::SessionInfo;
use crate::throttle::Throttle;
use crate::xmpp::{RequestFacts, XmppEvent, XmppId};
use megaphone_proto::bosh::{self, Condition, Request, Session};
use megaphone_proto::xmpp;
use std::collections::VecDeque;
use std::sync::Arc;

mod owner;
mod sid;

pub(crate) use sid::{Secret, Sid};

/// A request, and who holds it.
pub(crate) struct Arrival {
    pub(crate) conn: Conn,
    pub(crate) secret: Secret,
    pub(crate) request: Box<Request>,
    /// Of the request's body.
    pub(crate) bytes: usize,
}

/// All that is known of a session before it is one.
pub(crate) struct Creation<H: Host> {
    pub(crate) conn: Conn,
    pub(crate) request: Request,
    /// Of the request's body.
    pub(crate) bytes: usize,
    pub(crate) config: Arc<bosh::Config>,
    pub(crate) listener: Arc<Listener<H>>,
    pub(crate) peer: Address,
    pub(crate) local: Address,
    pub(crate) facts: RequestFacts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The starter was told.
    Starting,
    /// Somebody has it.
    Running,
    /// Nobody has it any more: the client has to hear of it, or to be forgotten.
    Ending,
}

/// A session's record. Its size and [`Session::heap_bytes`] are what an idle session costs: 0.9 KB in all between two
/// polls, measured with answers of 100 bytes, of which the last two are kept.
pub(crate) struct BoshSession<H: Host> {
    machine: Session,
    config: Arc<bosh::Config>,
    secret: Secret,
    listener: ListenerId,
    peer: Address,
    local: Address,
    /// Until there is an owner.
    facts: Option<Box<RequestFacts>>,
    owner: Option<H::Process>,
    writers: Vec<(H::Process, H::Waiter)>,
    /// What the owner cannot have yet, with the bytes that it came in.
    events: VecDeque<(xmpp::Event, usize)>,
    /// Requests that have to wait, for the owner or for the throttle.
    delayed: VecDeque<Arrival>,
    throttle: Option<Box<Throttle>>,
    credit: Credit,
    phase: Phase,
    is_noticed: bool,
    // Deadlines; 0 is none.
    /// When the throttle lets requests pass again.
    resume_at: Tick,
    /// When there must be an owner.
    start_by: Tick,
    /// When the wheel will look.
    timer_at: Tick,
}

impl<H: Host> BoshSession<H> {
    /// The session that a client asked for, and in `out` what has to be done for it by [`begin`](Self::begin).
    pub(crate) fn new(
        creation: Creation<H>,
        sid: Sid,
        clock: &Clock,
        out: &mut Vec<bosh::Event>,
    ) -> Result<Self, Condition> {
        let Creation { conn, request, config, listener, peer, local, facts, .. } = creation;
        let machine = Session::create(request, &sid.text(), conn.as_u64(), &config, clock.elapsed(), out)?;
        Ok(Self {
            machine,
            config,
            secret: sid.secret,
            listener: listener.id,
            peer,
            local,
            facts: Some(Box::new(facts)),
            owner: None,
            writers: Vec::new(),
            events: VecDeque::new(),
            delayed: VecDeque::new(),
            throttle: None,
            credit: Credit::default(),
            phase: Phase::Starting,
            is_noticed: false,
            resume_at: 0,
            start_by: clock.deadline(listener.config.start_timeout),
            timer_at: 0,
        })
    }

    /// The first step: asks for an owner.
    pub(crate) fn begin(
        &mut self,
        cx: &mut Cx<'_, H>,
        starter: Option<H::Process>,
        out: Vec<bosh::Event>,
        bytes: usize,
    ) -> Fate {
        // Without a starter the deadline ends it, and the log is told.
        if let Some(to) = starter {
            cx.sink.emit(Event::StartXmpp { to, listener: self.listener, id: XmppId::Bosh(cx.conn) });
        }
        self.settle(cx, out, bytes)
    }

    /// A request with this session's id.
    pub(crate) fn request(&mut self, cx: &mut Cx<'_, H>, arrival: Arrival) -> Fate {
        if !arrival.secret.is_the_same(self.secret) {
            cx.effects.push(Effect::terminal(arrival.conn, Condition::ItemNotFound));
            return Fate::Keep;
        }
        if let Some(throttle) = &mut self.throttle
            && let Some(at) = throttle.count(arrival.bytes, cx.system.now())
        {
            self.resume_at = at;
        }
        if !self.may_process(cx) || !self.delayed.is_empty() {
            return self.delay(cx, arrival);
        }
        let mut out = Vec::new();
        let bytes = self.process(cx, arrival, &mut out);
        self.settle(cx, out, bytes)
    }

    fn delay(&mut self, cx: &mut Cx<'_, H>, arrival: Arrival) -> Fate {
        // As many as the window allows, and as many again: a client repeats what it takes for lost.
        if self.delayed.len() > 2 * usize::from(self.config.max_hold) + 1 {
            cx.effects.push(Effect::terminal(arrival.conn, Condition::PolicyViolation));
            return self.end_at_once(cx, Condition::OtherRequest);
        }
        self.delayed.push_back(arrival);
        self.machine.handle_delay(&self.config, cx.system.elapsed());
        Fate::Keep
    }

    /// Whether the owner is up to date, and the throttle open.
    fn may_process(&self, cx: &Cx<'_, H>) -> bool {
        self.events.is_empty() && self.resume_at <= cx.system.now()
    }

    /// Has the machine process a request; returns the bytes that it came in.
    fn process(&mut self, cx: &Cx<'_, H>, arrival: Arrival, out: &mut Vec<bosh::Event>) -> usize {
        let (ticket, now) = (arrival.conn.as_u64(), cx.system.elapsed());
        self.machine.handle_request(*arrival.request, ticket, &self.config, now, out);
        arrival.bytes
    }

    /// A connection is gone that held a request.
    pub(crate) fn lost(&mut self, cx: &mut Cx<'_, H>, conn: Conn) -> Fate {
        let before = self.delayed.len();
        self.delayed.retain(|arrival| arrival.conn != conn);
        if self.delayed.len() < before {
            self.machine.handle_delay(&self.config, cx.system.elapsed());
        }
        self.machine.handle_disconnect(conn.as_u64(), &self.config, cx.system.elapsed());
        Fate::Keep
    }

    /// One of the deadlines is over.
    pub(crate) fn timed_out(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let now = cx.system.now();
        let mut out = Vec::new();
        if self.start_by != 0 && self.start_by <= now {
            cx.system.notices().start_timeout(cx.sink, self.listener);
            self.end(Some(Condition::InternalServerError));
        }
        if self.resume_at <= now {
            self.resume_at = 0;
        }
        if !self.delayed.is_empty() {
            self.machine.handle_delay(&self.config, cx.system.elapsed());
        }
        self.machine.handle_timeout(&self.config, cx.system.elapsed(), &mut out);
        self.machine.flush(&self.config, cx.system.elapsed(), &mut out);
        self.settle(cx, out, 0)
    }

    /// Ends the session at once, whoever has it. What its owner has not been given is lost.
    pub(crate) fn abort(&mut self, cx: &mut Cx<'_, H>, condition: Condition) -> Fate {
        self.events = VecDeque::new();
        self.end_at_once(cx, condition)
    }

    fn end_at_once(&mut self, cx: &mut Cx<'_, H>, condition: Condition) -> Fate {
        for arrival in self.delayed.drain(..) {
            cx.effects.push(Effect::terminal(arrival.conn, condition));
        }
        let mut out = Vec::new();
        self.machine.abort(condition, &mut out);
        self.apply(cx, out, 0);
        self.finish(cx)
    }

    /// Takes the session from whoever has it: who waits is woken.
    pub(crate) fn detach(&mut self, cx: &mut Cx<'_, H>) {
        if let Some(owner) = self.owner.take() {
            cx.sink.unwatch(owner, Owned::Session(cx.conn));
        }
        self.wake_writers(cx);
    }

    /// True once for any number of calls, until the reactor has looked.
    pub(crate) fn notice(&mut self) -> bool {
        !std::mem::replace(&mut self.is_noticed, true)
    }

    /// The reactor's step, after somebody asked for a look.
    pub(crate) fn serve(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        self.is_noticed = false;
        self.settle(cx, Vec::new(), 0)
    }

    /// The wheel looked at `tick`. Returns whether that was what it was asked for.
    pub(crate) fn timer_fired(&mut self, tick: Tick) -> bool {
        let is_ours = self.timer_at == tick;
        if is_ours {
            self.timer_at = 0;
        }
        is_ours
    }

    /// When the wheel should look, if it should and does not.
    pub(crate) fn timer_wanted(&self) -> Option<Tick> {
        let at = self.deadline();
        (at != 0 && (self.timer_at == 0 || at < self.timer_at)).then_some(at)
    }

    pub(crate) fn timer_set(&mut self, at: Tick) {
        self.timer_at = at;
    }

    pub(crate) fn info(&self) -> SessionInfo<H::Process> {
        SessionInfo {
            listener: self.listener,
            phase: match self.phase {
                Phase::Starting => "starting",
                Phase::Running => "running",
                Phase::Ending => "ending",
            },
            owner: self.owner,
            outbound: self.machine.queued_bytes(),
            bytes: size_of::<Self>() + self.machine.heap_bytes(),
        }
    }

    /// The nearest of the deadlines; 0 when there is none.
    fn deadline(&self) -> Tick {
        let resume_at = if self.delayed.is_empty() { 0 } else { self.resume_at };
        let machine = self.machine.poll_timeout().map_or(0, Clock::tick_at);
        [resume_at, self.start_by, machine].into_iter().filter(|at| *at != 0).min().unwrap_or(0)
    }

    /// Carries out what the machine wants, and all that becomes possible by it. `bytes`: what it came in. The
    /// reactors' threads only: an owner's events take time to build.
    fn settle(&mut self, cx: &mut Cx<'_, H>, mut out: Vec<bosh::Event>, mut bytes: usize) -> Fate {
        loop {
            if self.apply(cx, out, bytes) {
                return self.finish(cx);
            }
            self.deliver(cx);
            let Some(arrival) = self.next_delayed(cx) else { break };
            out = Vec::new();
            bytes = self.process(cx, arrival, &mut out);
        }
        self.wake_if_room(cx);
        Fate::Keep
    }

    /// True when the session is over.
    fn apply(&mut self, cx: &mut Cx<'_, H>, out: Vec<bosh::Event>, bytes: usize) -> bool {
        let events = out.iter().filter(|event| matches!(event, bosh::Event::Stream(_))).count();
        let mut is_over = false;
        for event in out {
            match event {
                bosh::Event::Stream(event) if self.phase != Phase::Ending => {
                    self.events.push_back((event, bytes / events));
                }
                bosh::Event::Stream(_) => {}
                bosh::Event::Respond(ticket, body) => {
                    let content_type = self.machine.content_type();
                    let is_usual = content_type == bosh::CONTENT_TYPE;
                    let content_type = (!is_usual).then(|| content_type.into());
                    cx.effects.extend(Effect::respond(ticket, body, content_type));
                }
                bosh::Event::Closed(_) => is_over = true,
            }
        }
        is_over
    }

    /// Gives the owner what it can have.
    fn deliver(&mut self, cx: &mut Cx<'_, H>) {
        let Some(to) = self.owner else { return };
        while self.credit.has_room() && self.deliver_next(cx, to) {}
    }

    /// False when there is nothing.
    fn deliver_next(&mut self, cx: &mut Cx<'_, H>, to: H::Process) -> bool {
        let Some((event, bytes)) = self.events.pop_front() else { return false };
        cx.sink.emit(Event::Xmpp { to, event: XmppEvent::Stream(&event) });
        self.credit.delivered(bytes);
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        true
    }

    /// The next of the requests that had to wait, if it need not any longer.
    fn next_delayed(&mut self, cx: &Cx<'_, H>) -> Option<Arrival> {
        if !self.may_process(cx) {
            return None;
        }
        let next = self.delayed.pop_front();
        if next.is_none() {
            self.delayed = VecDeque::new();
        }
        next
    }

    /// The machine has said its last word.
    fn finish(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        for arrival in self.delayed.drain(..) {
            cx.effects.push(Effect::terminal(arrival.conn, Condition::ItemNotFound));
        }
        let Some(to) = self.owner else { return Fate::Gone };
        // The window bounds them: there is nothing more to wait for.
        for (event, _) in self.events.drain(..) {
            cx.sink.emit(Event::Xmpp { to, event: XmppEvent::Stream(&event) });
        }
        let undelivered: Vec<Box<[u8]>> = self.machine.undelivered().map(Into::into).collect();
        if !undelivered.is_empty() {
            cx.sink.emit(Event::Xmpp { to, event: XmppEvent::Undelivered(&undelivered) });
        }
        cx.sink.emit(Event::Xmpp { to, event: XmppEvent::Closed });
        Fate::Gone
    }

    /// Nobody has the session from here on; the client is told why.
    fn end(&mut self, condition: Option<Condition>) {
        self.machine.queue_end(condition);
        self.phase = Phase::Ending;
        self.start_by = 0;
        self.facts = None;
        self.events = VecDeque::new();
    }

    fn wake_if_room(&mut self, cx: &mut Cx<'_, H>) {
        if self.machine.queued_bytes() <= owner::LOW_WATERMARK {
            self.wake_writers(cx);
        }
    }

    fn wake_writers(&mut self, cx: &mut Cx<'_, H>) {
        for (_, waiter) in std::mem::take(&mut self.writers) {
            cx.sink.emit(Event::Wake(waiter));
        }
    }
}
