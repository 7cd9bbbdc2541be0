//! A shard's thread: finds what is readable and writable, keeps deadlines, accepts.
//!
//! A turn is bounded. What the kernel, the mailbox and the wheel have is noted as pending bits and queued; then entries are
//! served one measure each, those that were quiet before those that go on and on, until the turn's time is over. So
//! peers that never stop cost a quiet one the rest of a turn and no more. What a panic leaves behind is in the queues.

use crate::acceptor::Accepted;
use crate::cx::{Cx, Fate};
use crate::ended::Shares;
use crate::engine::{Engine, Stored};
use crate::host::{Event, Host, Notice, Sink};
use crate::id::ListenerId;
use crate::links::{LINKS, Lent, Links};
use crate::listener::Listener;
use crate::mailbox::{Mail, Place, WAKER};
use crate::pace::{Pace, Paced};
use crate::store::Pending;
use crate::wheel::Wheel;
use megaphone_proto::time::Time;
use mio::{Events, Poll, Token};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const EVENTS: usize = 1024;
/// One for all connections of the thread: an idle connection has no buffer. Also the most that is read at a visit.
const READ_BUFFER: usize = 16 * 1024;
/// How long entries are served before the kernel is asked again.
const TURN: Duration = Duration::from_millis(1);
/// How much longer a turn may take for links, before and again behind entries.
const LINK_TURN: Duration = Duration::from_micros(500);
/// How often a paused listener tries again by itself.
const PAUSE: Duration = Duration::from_secs(1);
/// How many visits to quiet entries one to a busy one waits for.
const FRESH_TO_AGAIN: usize = 4;

/// Tokens from here on are listeners, below are slots.
pub(crate) const LISTENERS: usize = 1 << 32;

/// The thread's own part.
pub(crate) struct Reactor<H: Host> {
    engine: Arc<Engine<H>>,
    index: usize,
    poll: Poll,
    wheel: Wheel,
    sink: Box<dyn Sink<H>>,
    buffer: Box<[u8]>,
    /// Entries with pending bits.
    fresh: VecDeque<Place>,
    /// Those of them that were not done at their last visit.
    again: VecDeque<Place>,
    /// Listeners that have something to accept.
    accepting: VecDeque<ListenerId>,
    /// Listeners that wait for room, or for one who was woken to ask, and when to try again.
    paused: Vec<(ListenerId, Time)>,
    /// Processes that have ended, whose connections have yet to be closed.
    ended: Shares<H>,
    links: Links<H>,
    pace: Pace,
}

impl<H: Host> Reactor<H> {
    /// In the wheel: a session's slot and not a connection's.
    const SESSION: u32 = 1 << 31;

    pub(crate) fn new(engine: Arc<Engine<H>>, index: usize, poll: Poll) -> Self {
        Self {
            wheel: Wheel::new(engine.now()),
            sink: engine.shared.host.thread_sink(),
            links: Links::new(Arc::clone(&engine), index),
            engine,
            index,
            poll,
            buffer: vec![0; READ_BUFFER].into(),
            fresh: VecDeque::new(),
            again: VecDeque::new(),
            accepting: VecDeque::new(),
            paused: Vec::new(),
            ended: Shares::new(),
            pace: Pace::default(),
        }
    }

    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            // Steps catch their own. A panic between them must not end the thread: every connection of the shard needs it.
            if catch_unwind(AssertUnwindSafe(|| self.turn(&mut events))).is_err() {
                self.sink.emit(Event::Notice(Notice::Panicked { conn: None }));
            }
        }
    }

    fn turn(&mut self, events: &mut Events) {
        let timeout = self.timeout();
        if let Some(pause) = self.pace.pause(Instant::now(), timeout) {
            std::thread::sleep(pause);
        }
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            // Nothing but a bug can make epoll_wait fail; without this it would be a busy one.
            std::thread::sleep(PAUSE);
        }
        let began = Instant::now();
        self.pace.polled(began);
        self.queue_events(events);
        self.read_mail();
        self.fire();
        let end = began + LINK_TURN;
        self.links.receive(Lent { sink: &mut *self.sink, fresh: &mut self.fresh, end });
        self.serve_until(began + TURN);
        let end = began + TURN + LINK_TURN;
        self.links.send(Lent { sink: &mut *self.sink, fresh: &mut self.fresh, end });
        self.end_owned_until(began + TURN + TURN / 2);
        self.retry_paused();
        self.accept_until(began + 2 * TURN);
    }

    fn timeout(&mut self) -> Option<Duration> {
        let is_serving = !self.fresh.is_empty() || !self.again.is_empty();
        let is_busy = is_serving || !self.accepting.is_empty() || !self.ended.is_empty();
        if is_busy || !self.links.may_sleep() {
            return Some(Duration::ZERO);
        }
        let now = self.engine.now();
        let sleep = self.wheel.sleep(now);
        let retry = self.paused.iter().map(|(_, at)| *at).chain(self.links.deadline()).min();
        let retry = retry.map(|at| Time::TICK * at.ticks().saturating_sub(now.ticks()).max(1));
        match (sleep, retry) {
            (Some(sleep), Some(retry)) => Some(sleep.min(retry)),
            (sleep, retry) => sleep.or(retry),
        }
    }

    // --- what there is to do

    fn queue_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WAKER => {}
                Token(token) if token >= LINKS => self.links.ready(event, &mut *self.sink),
                Token(token) if token >= LISTENERS => {
                    self.will_accept(ListenerId((token - LISTENERS) as u32));
                }
                Token(slot) => self.mark(Place::Connection(slot as u32), readiness(event)),
            }
        }
    }

    fn mark(&mut self, place: Place, bits: Pending) {
        let shard = &self.engine.shards[self.index];
        let is_new = match place {
            Place::Connection(slot) => shard.connections.mark(slot, bits),
            Place::Session(slot) => shard.sessions.mark(slot, bits),
        };
        if is_new {
            self.fresh.push_back(place);
        }
    }

    fn read_mail(&mut self) {
        let engine = Arc::clone(&self.engine);
        let shard = &engine.shards[self.index];
        for mail in shard.mailbox.take() {
            let is_new = match mail {
                Mail::Step(Place::Connection(slot)) => shard.connections.received(slot),
                Mail::Step(Place::Session(slot)) => shard.sessions.received(slot),
                Mail::Accept(id) => {
                    self.will_accept(id);
                    false
                }
                Mail::Links => {
                    self.links.notify();
                    false
                }
                Mail::Ended => {
                    self.ended.append(&mut shard.take_ended());
                    false
                }
            };
            if let Mail::Step(place) = mail
                && is_new
            {
                self.fresh.push_back(place);
            }
        }
    }

    fn fire(&mut self) {
        let mut due = Vec::new();
        self.wheel.advance(self.engine.now(), |_, slot| due.push(slot));
        for slot in due {
            let place = match slot & Self::SESSION {
                0 => Place::Connection(slot),
                _ => Place::Session(slot & !Self::SESSION),
            };
            self.mark(place, Pending::TIMER);
        }
    }

    // --- doing it

    fn serve_until(&mut self, end: Instant) {
        let mut visits = 0;
        loop {
            visits += 1;
            let place = if visits % FRESH_TO_AGAIN == 0 {
                self.again.pop_front().or_else(|| self.fresh.pop_front())
            } else {
                self.fresh.pop_front().or_else(|| self.again.pop_front())
            };
            match place {
                Some(place) => self.serve(place),
                None => return,
            }
            if Instant::now() >= end {
                return;
            }
        }
    }

    fn serve(&mut self, place: Place) {
        let engine = Arc::clone(&self.engine);
        let shard = &engine.shards[self.index];
        let is_unfinished = match place {
            Place::Connection(slot) => self.step(&engine, &shard.connections, slot),
            Place::Session(slot) => self.step(&engine, &shard.sessions, slot),
        };
        if !is_unfinished {
            return;
        }
        let is_new = match place {
            Place::Connection(slot) => shard.connections.mark(slot, Pending::LOOK),
            Place::Session(slot) => shard.sessions.mark(slot, Pending::LOOK),
        };
        if is_new {
            self.again.push_back(place);
        }
    }

    /// One visit. Whether there is more to do.
    fn step<T: Stored<H>>(&mut self, engine: &Engine<H>, store: &crate::store::Store<T>, slot: u32) -> bool {
        let Some((guard, bits)) = store.try_lock(slot) else { return false };
        let mut effects = Vec::new();
        let mut sink = Paced { sink: &mut *self.sink, pace: &mut self.pace };
        let mut cx = Cx { shared: &engine.shared, conn: guard.id(), sink: &mut sink, effects: &mut effects };
        let shard = &engine.shards[self.index];
        let (wheel, buffer) = (&mut self.wheel, &mut self.buffer[..]);
        let flag = match T::owned(cx.conn) {
            crate::host::Owned::Session(_) => Self::SESSION,
            _ => 0,
        };
        let stepped = engine.step_locked(shard, guard, &mut cx, |entry: &mut T, cx| {
            let fate = entry.serve(cx, bits, buffer);
            if fate != Fate::Gone
                && let Some(deadline) = entry.timer_wanted()
            {
                *entry.timer_at() = Some(wheel.insert(slot | flag, deadline));
            }
            ((), fate)
        });
        engine.carry_out(effects, &mut sink);
        matches!(stepped, Ok(((), Fate::Look)))
    }

    /// Closes what dead processes had: as much as there is time for, and one at least. What another thread works on is next at
    /// the next turn.
    fn end_owned_until(&mut self, end: Instant) {
        let engine = Arc::clone(&self.engine);
        while let Some(share) = self.ended.front_mut() {
            match share.take() {
                None => {
                    if share.free_one() {
                        self.ended.pop_front();
                    }
                }
                Some(owned) if engine.shard_of(owned) != self.index => {}
                Some(owned) => {
                    if engine.end_owned(owned, share.process(), &mut *self.sink).is_err() {
                        share.put_back();
                        return;
                    }
                }
            }
            if Instant::now() >= end {
                return;
            }
        }
    }

    // --- accepting

    fn will_accept(&mut self, id: ListenerId) {
        if !self.accepting.contains(&id) {
            self.accepting.push_back(id);
        }
    }

    fn retry_paused(&mut self) {
        let now = self.engine.now();
        for (id, at) in &mut self.paused {
            if *at <= now && !self.accepting.contains(id) {
                *at = now.after(PAUSE);
                self.accepting.push_back(*id);
            }
        }
    }

    /// Each listener once, or as many as there is time for, and one at least; the others are first at the next turn.
    fn accept_until(&mut self, end: Instant) {
        for _ in 0..self.accepting.len() {
            let Some(id) = self.accepting.pop_front() else { return };
            self.accept(id);
            if Instant::now() >= end {
                return;
            }
        }
    }

    fn accept(&mut self, id: ListenerId) {
        let Some(listener) = self.engine.listeners.read().get(&id.0).cloned() else {
            self.paused.retain(|(paused, _)| *paused != id);
            return;
        };
        let now = self.engine.now();
        // One who was woken may have died before it asked.
        let is_owed = self.engine.awaits_acceptor(&listener).is_none_or(|at| at.after(Duration::ZERO) < now);
        if is_owed {
            self.engine.wake_acceptor(&listener, &mut *self.sink);
        }
        let accepted = match listener.gate {
            Some(_) => self.links.accept(&listener, &mut *self.sink),
            None => self.engine.accept_some(&listener, &mut *self.sink),
        };
        match accepted {
            Accepted::All => self.resume(&listener),
            Accepted::More => {
                self.resume(&listener);
                self.accepting.push_back(id);
            }
            Accepted::Full | Accepted::NoProcess => self.pause(&listener, Pause::Quietly),
            Accepted::NoRoom(error) => self.pause(&listener, Pause::Because(error)),
            Accepted::Failed(error) => {
                self.engine.shared.notices.accept_failed(&mut *self.sink, id, error);
                self.pause(&listener, Pause::Quietly);
            }
            Accepted::Unwatched(error) => {
                self.engine.shared.notices.register_failed(&mut *self.sink, id, error);
                self.pause(&listener, Pause::Quietly);
            }
        }
        if self.engine.awaits_acceptor(&listener).is_some() {
            self.retry_at(id, now.after(Time::TICK));
        }
    }

    fn retry_at(&mut self, id: ListenerId, at: Time) {
        match self.paused.iter_mut().find(|(paused, _)| *paused == id) {
            Some((_, earlier)) => *earlier = at.min(*earlier),
            None => self.paused.push((id, at)),
        }
    }

    fn pause(&mut self, listener: &Arc<Listener<H>>, pause: Pause) {
        self.retry_at(listener.id, self.engine.now().after(PAUSE));
        listener.is_paused.store(true, Ordering::Relaxed);
        if let Pause::Because(error) = pause {
            let is_new = !listener.is_short.swap(true, Ordering::Relaxed);
            let connections = self.engine.connections.load(Ordering::Relaxed);
            self.engine.shared.notices.paused(&mut *self.sink, listener.id, is_new, connections, error);
        }
    }

    fn resume(&mut self, listener: &Arc<Listener<H>>) {
        self.paused.retain(|(id, _)| *id != listener.id);
        if !listener.is_paused.swap(false, Ordering::Relaxed) {
            return;
        }
        if listener.is_short.swap(false, Ordering::Relaxed) {
            self.engine.shared.notices.resumed(&mut *self.sink, listener.id);
        }
    }
}

enum Pause {
    Quietly,
    Because(Option<Errno>),
}

fn readiness(event: &mio::event::Event) -> Pending {
    let mut bits = Pending::NONE;
    if event.is_readable() || event.is_error() {
        bits = bits.with(Pending::READABLE);
    }
    if event.is_writable() {
        bits = bits.with(Pending::WRITABLE);
    }
    if event.is_read_closed() || event.is_error() {
        bits = bits.with(Pending::HUNG_UP);
    }
    if event.is_priority() {
        bits = bits.with(Pending::READABLE.with(Pending::URGENT));
    }
    bits
}
