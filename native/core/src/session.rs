//! BOSH sessions (XEP-0124): what the protocol's machine needs around it.
//!
//! A session is locked by itself, never together with a connection; what it has to say to one leaves as an [`Effect`].
//! The machine decides when requests are answered. What is added here is the owner, who takes the stream's events when it
//! has time for them, and how much it may queue.

mod owner;

pub(crate) use owner::Queued;

use crate::attached::Writers;
use crate::carrier::Address;
use crate::cx::{Cx, Fate};
use crate::effect::{Arrival, Creation, Effect, Ticket};
use crate::entry::Entry;
use crate::host::{Event, Host, Owned};
use crate::id::{Conn, ListenerId};
use crate::settings::{RequestFacts, XmppEvent, XmppId};
use crate::sid::{Secret, Sid};
use crate::stats::SessionInfo;
use crate::store::{Pending, Store};
use megaphone_proto::bosh::{Condition, Session};
use megaphone_proto::stream::Throttle;
use megaphone_proto::time::Time;
use std::collections::VecDeque;

/// Requests of a session that are remembered as hurried: more than it may have under way.
const HURRIED: usize = 16;

#[derive(Clone, Copy)]
enum State<P> {
    /// The starter was told; there must be an owner by then.
    Starting { by: Time },
    Owned {
        owner: P,
        /// It has been given everything, and is told of more.
        is_waiting: bool,
    },
    /// Nobody has it any more: the client has to hear of it, or to be forgotten.
    Ending,
}

/// Where a session comes from.
struct Origin {
    listener: ListenerId,
    peer: Address,
    local: Address,
    /// Until there is an owner.
    facts: Option<Box<RequestFacts>>,
}

/// Requests that have to wait, for the owner or for the throttle.
#[derive(Default)]
struct Backlog {
    arrivals: VecDeque<Arrival>,
    /// When the throttle lets requests pass again.
    resume_at: Option<Time>,
}

/// A session's record. Its size and what its machine and its origin hold are what an idle session costs.
pub(crate) struct BoshSession<H: Host> {
    machine: Session,
    secret: Secret,
    origin: Box<Origin>,
    state: State<H::Process>,
    writers: Writers<H>,
    backlog: Option<Box<Backlog>>,
    throttle: Option<Box<Throttle>>,
    /// Requests whose clients have closed their side; some may have yet to come, or to have their turn.
    #[expect(clippy::box_collection, reason = "rare, and so 8 bytes where there are none")]
    hurried: Option<Box<Vec<Ticket>>>,
    /// The next event, whose terms take long.
    large: Option<Box<XmppEvent>>,
    timer_at: Option<Time>,
    /// Undelivered elements were given to the owner.
    is_settled: bool,
}

impl<H: Host> BoshSession<H> {
    /// The session that a client asked for; [`begin`](Self::begin) follows.
    pub(crate) fn new(creation: Creation<H>, sid: Sid, now: Time) -> Result<Self, Condition> {
        let Creation { ticket, request, config, listener, peer, local, facts } = creation;
        let machine = Session::create(request, &sid.text(), ticket.as_u64(), config, now)?;
        let facts = Some(Box::new(facts));
        Ok(Self {
            machine,
            secret: sid.secret,
            origin: Box::new(Origin { listener: listener.id, peer, local, facts }),
            state: State::Starting { by: now.after(listener.config.start_timeout) },
            writers: Writers::default(),
            backlog: None,
            throttle: None,
            hurried: None,
            large: None,
            timer_at: None,
            is_settled: false,
        })
    }

    /// The first step: asks for an owner.
    pub(crate) fn begin(&mut self, cx: &mut Cx<'_, H>, starter: Option<H::Process>) -> Fate {
        self.ask(cx, starter);
        self.settle(cx)
    }

    /// Asks for an owner, where there is none yet. Without a starter the next one is asked, or the deadline ends it and
    /// the log is told.
    pub(crate) fn ask(&self, cx: &mut Cx<'_, H>, starter: Option<H::Process>) {
        if let (Some(to), State::Starting { .. }) = (starter, self.state) {
            let listener = self.origin.listener;
            cx.sink.emit(Event::StartXmpp { to, listener, id: XmppId::Bosh(cx.conn) });
        }
    }

    /// Where the session began.
    pub(crate) fn listener(&self) -> ListenerId {
        self.origin.listener
    }

    /// A request with this session's id.
    pub(crate) fn request(&mut self, cx: &mut Cx<'_, H>, arrival: Arrival) -> Fate {
        // What its owner has yet to take is nothing to wait for.
        if !arrival.secret.is_the_same(self.secret) || self.machine.closed().is_some() {
            cx.effects.push(Effect::terminal(arrival.ticket, Condition::ItemNotFound));
            return Fate::Keep;
        }
        if let Some(throttle) = &mut self.throttle
            && let Some(at) = throttle.count(arrival.bytes, cx.now())
        {
            self.backlog.get_or_insert_default().resume_at = Some(at);
        }
        let has_backlog = self.backlog.as_ref().is_some_and(|backlog| !backlog.arrivals.is_empty());
        if has_backlog || !self.may_process(cx) {
            return self.delay(cx, arrival);
        }
        self.process(cx, arrival);
        self.settle(cx)
    }

    fn delay(&mut self, cx: &mut Cx<'_, H>, arrival: Arrival) -> Fate {
        let backlog = self.backlog.get_or_insert_default();
        // As many as the window allows, and as many again: a client repeats what it takes for lost.
        if backlog.arrivals.len() >= 2 * self.machine.requests() {
            cx.effects.push(Effect::terminal(arrival.ticket, Condition::PolicyViolation));
            return self.abort_with(cx, Condition::OtherRequest);
        }
        backlog.arrivals.push_back(arrival);
        self.machine.handle_delay(cx.now());
        Fate::Keep
    }

    /// Whether the owner is up to date, and the throttle open.
    fn may_process(&self, cx: &Cx<'_, H>) -> bool {
        let resume_at = self.backlog.as_ref().and_then(|backlog| backlog.resume_at);
        !self.has_events() && resume_at.is_none_or(|at| at <= cx.now())
    }

    fn has_events(&self) -> bool {
        self.large.is_some() || self.machine.has_events()
    }

    fn process(&mut self, cx: &Cx<'_, H>, arrival: Arrival) {
        self.machine.handle_request(*arrival.request, arrival.ticket.as_u64(), cx.now());
        self.hurry(cx);
    }

    /// Whoever was hurried before its turn has it now.
    fn hurry(&mut self, cx: &Cx<'_, H>) {
        for ticket in self.hurried.iter().flat_map(|all| all.iter()) {
            self.machine.handle_hurry(ticket.as_u64(), cx.now());
        }
    }

    /// A connection is gone that held a request.
    pub(crate) fn lost(&mut self, cx: &mut Cx<'_, H>, ticket: Ticket) -> Fate {
        if let Some(backlog) = &mut self.backlog {
            backlog.arrivals.retain(|arrival| arrival.ticket != ticket);
        }
        self.machine.handle_disconnect(ticket.as_u64(), cx.now());
        self.settle(cx)
    }

    /// The client of a connection that holds a request has closed its side.
    pub(crate) fn half_closed(&mut self, cx: &mut Cx<'_, H>, ticket: Ticket) -> Fate {
        let all = self.hurried.get_or_insert_default();
        if !all.contains(&ticket) {
            // One that was answered meanwhile is never asked for, and forgotten here.
            if all.len() == HURRIED {
                all.remove(0);
            }
            all.push(ticket);
        }
        self.hurry(cx);
        self.settle(cx)
    }

    fn timed_out(&mut self, cx: &mut Cx<'_, H>) {
        let now = cx.now();
        if let State::Starting { by } = self.state
            && by <= now
        {
            cx.shared.notices.start_timeout(cx.sink, self.origin.listener);
            self.end(Some(Condition::InternalServerError));
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.resume_at.take_if(|at| *at <= now);
            if !backlog.arrivals.is_empty() {
                self.machine.handle_delay(now);
            }
        }
        self.machine.handle_timeout(now);
        self.machine.flush(now);
    }

    /// Ends the session at once, whoever has it. What its owner has not taken is lost.
    pub(crate) fn abort_with(&mut self, cx: &mut Cx<'_, H>, condition: Condition) -> Fate {
        self.turn_away(cx, condition);
        self.machine.abort(condition);
        self.settle(cx)
    }

    pub(crate) fn info(&self) -> SessionInfo<H::Process> {
        SessionInfo {
            listener: self.origin.listener,
            phase: match self.state {
                State::Starting { .. } => "starting",
                State::Owned { .. } => "running",
                State::Ending => "ending",
            },
            owner: self.owner(),
            outbound: self.machine.queued_bytes(),
            bytes: Store::<Self>::SLOT + size_of::<Origin>() + self.machine.heap_bytes(),
        }
    }

    /// Carries out what the machine wants, and all that becomes possible by it.
    fn settle(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        loop {
            while let Some(answer) = self.machine.poll_answer() {
                self.hurried.take_if(|all| {
                    all.retain(|ticket| ticket.as_u64() != answer.ticket);
                    all.is_empty()
                });
                cx.effects.extend(Effect::respond(answer));
            }
            if self.machine.closed().is_some() {
                return self.finish(cx);
            }
            let Some(arrival) = self.next_delayed(cx) else { break };
            self.process(cx, arrival);
        }
        if matches!(self.state, State::Ending) {
            // Nobody takes them.
            while self.machine.poll_event().is_some() {}
        }
        if self.machine.queued_bytes() <= owner::LOW_WATERMARK {
            self.writers.wake(cx);
        }
        self.wake_if_due(cx);
        Fate::Keep
    }

    /// The next of the requests that had to wait, if it need not any longer.
    fn next_delayed(&mut self, cx: &Cx<'_, H>) -> Option<Arrival> {
        if !self.may_process(cx) {
            return None;
        }
        let backlog = self.backlog.as_mut()?;
        let next = backlog.arrivals.pop_front();
        if backlog.arrivals.is_empty() && backlog.resume_at.is_none() {
            self.backlog = None;
        }
        next
    }

    /// Requests that had to wait will not be looked at any more.
    fn turn_away(&mut self, cx: &mut Cx<'_, H>, condition: Condition) {
        for arrival in self.backlog.take().into_iter().flat_map(|backlog| backlog.arrivals) {
            cx.effects.push(Effect::terminal(arrival.ticket, condition));
        }
    }

    /// The machine has said its last word. An owner takes what there is, and then the session goes.
    fn finish(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        self.turn_away(cx, Condition::ItemNotFound);
        self.writers.wake(cx);
        if !matches!(self.state, State::Owned { .. }) {
            return Fate::Gone;
        }
        self.wake_if_due(cx);
        Fate::Keep
    }

    /// Tells an owner that waits that there is something for it.
    fn wake_if_due(&mut self, cx: &mut Cx<'_, H>) {
        let is_due = self.has_events() || self.machine.closed().is_some();
        if let State::Owned { owner, is_waiting } = &mut self.state
            && *is_waiting
            && is_due
        {
            *is_waiting = false;
            cx.sink.emit(Event::XmppReady { to: *owner, id: XmppId::Bosh(cx.conn) });
        }
    }

    /// Nobody has the session from here on; the client is told why.
    fn end(&mut self, condition: Option<Condition>) {
        self.machine.queue_end(condition);
        self.state = State::Ending;
        self.origin.facts = None;
        self.large = None;
    }
}

impl<H: Host> Entry<H> for BoshSession<H> {
    fn owned(id: Conn) -> Owned {
        Owned::Session(id)
    }

    fn serve(&mut self, cx: &mut Cx<'_, H>, ready: Pending, _buffer: &mut [u8]) -> Fate {
        if ready.has(Pending::TIMER) && self.timer_fired(cx.now()) {
            self.timed_out(cx);
        }
        self.settle(cx)
    }

    fn deadline(&self) -> Option<Time> {
        let backlog = self.backlog.as_ref().filter(|backlog| !backlog.arrivals.is_empty());
        let resume_at = backlog.and_then(|backlog| backlog.resume_at);
        let start_by = match self.state {
            State::Starting { by } => Some(by),
            State::Owned { .. } | State::Ending => None,
        };
        [resume_at, start_by, self.machine.poll_timeout()].into_iter().flatten().min()
    }

    fn timer_at(&mut self) -> &mut Option<Time> {
        &mut self.timer_at
    }

    fn owner_down(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> Fate {
        if self.may(process).is_err() {
            return Fate::Keep;
        }
        self.abandon(cx, Some(Condition::InternalServerError))
    }

    fn abort(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        if let State::Owned { owner, is_waiting: true } = self.state {
            cx.sink.emit(Event::XmppReady { to: owner, id: XmppId::Bosh(cx.conn) });
        }
        self.turn_away(cx, Condition::InternalServerError);
        self.machine.abort(Condition::InternalServerError);
        while let Some(answer) = self.machine.poll_answer() {
            cx.effects.extend(Effect::respond(answer));
        }
        Fate::Gone
    }

    /// Takes the session from whoever has it: who waits is woken.
    fn detach(&mut self, cx: &mut Cx<'_, H>) {
        if let State::Owned { owner, .. } = self.state {
            cx.sink.unwatch(owner, Owned::Session(cx.conn));
            self.state = State::Ending;
        }
        self.writers.wake(cx);
    }
}
