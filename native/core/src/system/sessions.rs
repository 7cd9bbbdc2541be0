//! The store of BOSH sessions, and what steps have to do elsewhere.

use super::*;
use crate::effect::Effect;
use crate::host::Owned;
use crate::session::{BoshSession, Creation, Secret, Sid};
use crate::stats::SessionInfo;
use megaphone_proto::bosh::{self, Condition};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

impl<H: Host> System<H> {
    /// All BOSH sessions. Takes time in proportion to their number; locks one at a time.
    pub fn sessions(&self) -> Vec<Conn> {
        let mut all = Vec::with_capacity(self.sessions.load(Ordering::Relaxed));
        all.extend(self.shards.iter().flat_map(|shard| shard.sessions.ids()));
        all
    }

    /// One BOSH session, as it is now.
    pub fn session_info(&self, id: Conn) -> Result<SessionInfo<H::Process>, Error> {
        self.peek_session(id, |session| session.info())
    }

    /// What the session ids of this start of the node begin with.
    pub(crate) fn sid_tag(&self) -> u64 {
        self.sid_tag
    }

    /// The settings of a host that has BOSH sessions here.
    pub(crate) fn bosh_host(&self, host: &str) -> Option<Arc<bosh::Config>> {
        self.bosh_hosts.read().get(host).cloned()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Does what steps have left to do, and what follows from that. Holds one lock at a time.
    pub(crate) fn carry_out(&self, effects: Vec<Effect<H>>, sink: &mut dyn Sink<H>) {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            let mut more = Vec::new();
            let (place, asks_for) = (effect.place(), effect.asks_for());
            // Whoever reads or sends on another connection is not to suffer from it.
            let done = catch_unwind(AssertUnwindSafe(|| self.carry_out_one(effect, sink, &mut more)));
            if done.is_err() {
                self.bury(place, sink, &mut more);
                more.extend(asks_for.map(|conn| Effect::terminal(conn, Condition::InternalServerError)));
            }
            queue.extend(more);
        }
    }

    /// Those that closed meanwhile are no loss.
    fn carry_out_one(&self, effect: Effect<H>, sink: &mut dyn Sink<H>, more: &mut Vec<Effect<H>>) {
        match effect {
            Effect::Create(creation) => self.create_session(*creation, sink, more),
            Effect::Request { session, arrival } => {
                let conn = arrival.conn;
                let step =
                    |session: &mut BoshSession<H>, cx: &mut Cx<'_, H>| ((), session.request(cx, arrival));
                if self.step_session(session, sink, more, step).is_err() {
                    more.push(Effect::terminal(conn, Condition::ItemNotFound));
                }
            }
            Effect::Lost { session, conn } => {
                let _ = self.step_session(session, sink, more, |session, cx| ((), session.lost(cx, conn)));
            }
            Effect::Respond { conn, body, content_type } => {
                let _ = self.step(conn, sink, more, |connection, cx| {
                    ((), connection.respond(cx, content_type.as_deref(), &body))
                });
            }
        }
    }

    fn create_session(&self, creation: Creation<H>, sink: &mut dyn Sink<H>, more: &mut Vec<Effect<H>>) {
        let (conn, bytes) = (creation.conn, creation.bytes);
        let starter = *creation.listener.starter.read();
        let sessions = &self.shards[conn.shard()].sessions;
        let mut out = Vec::new();
        let secret = if self.has_room_for_session() { Secret::new().ok() } else { None };
        let made = secret.and_then(|secret| {
            sessions.insert_with(|id| {
                let sid = Sid::new(self.sid_tag, id, secret);
                BoshSession::new(creation, sid, &self.clock, &mut out).ok()
            })
        });
        let Some((id, guard)) = made else {
            more.push(Effect::terminal(conn, Condition::InternalServerError));
            return;
        };
        drop(guard);
        self.sessions.fetch_add(1, Ordering::Relaxed);
        // First of all: from here on the session is told when its connection is lost.
        let held = self.step(conn, sink, more, |connection, _| (connection.held_by(id), Fate::Keep));
        let begun =
            self.step_session(id, sink, more, |session, cx| ((), session.begin(cx, starter, out, bytes)));
        if held != Ok(true) && begun.is_ok() {
            let _ = self.step_session(id, sink, more, |session, cx| ((), session.lost(cx, conn)));
        }
    }

    /// A session outlives its connections, so that their bound alone would not be one.
    fn has_room_for_session(&self) -> bool {
        self.sessions.load(Ordering::Relaxed) < self.max_connections.load(Ordering::Relaxed)
    }

    pub(super) fn with_session<R>(
        &self,
        id: Conn,
        sink: &mut dyn Sink<H>,
        step: impl FnOnce(&mut BoshSession<H>, &mut Cx<'_, H>) -> (R, Fate),
    ) -> Result<R, Error> {
        let mut effects = Vec::new();
        let out = self.step_session(id, sink, &mut effects, step);
        self.carry_out(effects, sink);
        out
    }

    pub(super) fn peek_session<R>(
        &self,
        id: Conn,
        look: impl FnOnce(&mut BoshSession<H>) -> R,
    ) -> Result<R, Error> {
        let shard = self.shards.get(id.shard()).ok_or(Error::Closed)?;
        let mut guard = shard.sessions.lock(id).ok_or(Error::Closed)?;
        guard.value().map(look).ok_or(Error::Closed)
    }

    fn step_session<R>(
        &self,
        id: Conn,
        sink: &mut dyn Sink<H>,
        effects: &mut Vec<Effect<H>>,
        step: impl FnOnce(&mut BoshSession<H>, &mut Cx<'_, H>) -> (R, Fate),
    ) -> Result<R, Error> {
        let shard = self.shards.get(id.shard()).ok_or(Error::Closed)?;
        let mut guard = shard.sessions.lock(id).ok_or(Error::Closed)?;
        let mut cx = Cx { system: self, conn: id, sink, effects };
        #[cfg(feature = "fault-injection")]
        self.panic_if_asked(Owned::Session(id));
        let session = guard.value().ok_or(Error::Closed)?;
        let (out, fate) = step(session, &mut cx);
        if fate == Fate::Gone {
            self.forget_session(shard, guard, &mut cx);
        } else if (fate == Fate::Look || session.timer_wanted().is_some()) && session.notice() {
            shard.post(Mail::Session(id.slot()));
        }
        Ok(out)
    }

    /// Frees a session's slot.
    pub(crate) fn forget_session(
        &self,
        shard: &Shard<H>,
        mut guard: Guard<'_, BoshSession<H>>,
        cx: &mut Cx<'_, H>,
    ) {
        if let Some(session) = guard.value() {
            session.detach(cx);
        }
        if shard.sessions.remove(cx.conn.slot(), guard).is_some() {
            self.sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Ends what a panic has left in an unknown state.
    pub(crate) fn bury(&self, place: Owned, sink: &mut dyn Sink<H>, effects: &mut Vec<Effect<H>>) {
        match place {
            Owned::Connection(conn) => {
                sink.emit(Event::Notice(Notice::Panicked { conn: Some(conn) }));
                let _gone = self.step(conn, sink, effects, |connection, cx| ((), connection.abort(cx)));
            }
            Owned::Session(id) => {
                sink.emit(Event::Notice(Notice::Panicked { conn: None }));
                let condition = Condition::InternalServerError;
                let _gone =
                    self.step_session(id, sink, effects, |session, cx| ((), session.abort(cx, condition)));
            }
        }
    }

    pub(super) fn end_sessions(&self, sink: &mut dyn Sink<H>) {
        for id in self.sessions() {
            // One that ended meanwhile is as good.
            let _ =
                self.with_session(id, sink, |session, cx| ((), session.abort(cx, Condition::SystemShutdown)));
        }
    }
}
