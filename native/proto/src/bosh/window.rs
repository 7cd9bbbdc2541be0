//! The window of request ids (XEP-0124 section 14): what came early, what is held, which answers are kept.
//!
//! Knows nothing of time, streams or what an answer says.

use std::sync::Arc;

use super::output::Ticket;
use super::request::Request;
use super::response::EMPTY_BODY;
use crate::time::Time;

/// Where a request id lies.
pub(super) enum Place {
    /// It is the next to process.
    Next,
    /// Others have to come before it.
    Early,
    /// It was processed before.
    Past,
    /// No client may be that far.
    Beyond,
}

/// What there is for a request that was processed before.
pub(super) enum Repeated {
    /// It is not answered yet, and waits for it in place of this one.
    Held(Option<Ticket>),
    /// Its answer.
    Kept(Arc<[u8]>),
    /// Its answer is no longer kept.
    Forgotten,
}

/// Processed and not answered.
#[derive(Debug)]
pub(super) struct Held {
    /// None when its connection was lost.
    pub(super) ticket: Option<Ticket>,
    pub(super) answer_at: Time,
}

/// Received before its turn.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) ticket: Option<Ticket>,
    pub(super) request: Box<Request>,
}

/// An answer; none is [`EMPTY_BODY`].
type Kept = Option<Arc<[u8]>>;

/// The requests of a session; each list is bounded by [`Window::requests`] and the one that a client may send beyond.
///
/// Requests are processed and answered in the order of their ids. So those held are the last that were processed, and
/// those whose answers are kept come right before them, and neither has to say its id.
///
/// Answers are kept for as long as the client may ask for them again: to the last [`Window::requests`] of its requests,
/// those held among them. A client that sends a request has the answers to those further behind, unless it says by `ack`
/// that it does not: then twice as many are kept at most.
#[derive(Debug)]
pub(super) struct Window {
    /// The last request that was processed; all before it were.
    rid: u64,
    /// How many requests are held.
    hold: u8,
    held: Vec<Held>,
    kept: Vec<Kept>,
    #[expect(clippy::box_collection, reason = "rare, and so 8 bytes where there are none")]
    early: Option<Box<Vec<Early>>>,
}

impl Window {
    /// Before the first request, which has this id.
    pub(super) fn new(first_rid: u64, hold: u8) -> Self {
        let rid = first_rid.saturating_sub(1);
        Self { rid, hold, held: Vec::new(), kept: Vec::new(), early: None }
    }

    pub(super) fn rid(&self) -> u64 {
        self.rid
    }

    pub(super) fn hold_count(&self) -> u8 {
        self.hold
    }

    /// How many requests the client may have under way.
    pub(super) fn requests(&self) -> u64 {
        u64::from(self.hold) + 1
    }

    /// `extra`: whether it is to pause or to end the session. A client may send one such request more than it may have
    /// under way (XEP-0124 section 11).
    pub(super) fn place(&self, rid: u64, extra: bool) -> Place {
        match rid {
            rid if rid > self.rid + self.requests() + u64::from(extra) => Place::Beyond,
            rid if rid > self.rid + 1 => Place::Early,
            rid if rid == self.rid + 1 => Place::Next,
            _ => Place::Past,
        }
    }

    /// Keeps a request until its turn. The ticket that it replaces, when it is repeated.
    pub(super) fn take_early(&mut self, request: Request, ticket: Ticket) -> Option<Ticket> {
        let all = self.early.get_or_insert_default();
        match all.iter_mut().find(|early| early.request.rid == request.rid) {
            Some(early) => early.ticket.replace(ticket),
            None => {
                all.push(Early { ticket: Some(ticket), request: Box::new(request) });
                None
            }
        }
    }

    /// The request whose turn it is, if it came early.
    pub(super) fn next_early(&mut self) -> Option<Early> {
        let all = self.early.as_mut()?;
        let index = all.iter().position(|early| early.request.rid == self.rid + 1)?;
        let next = all.swap_remove(index);
        if all.is_empty() {
            self.early = None;
        }
        Some(next)
    }

    pub(super) fn repeat(&mut self, rid: u64, ticket: Ticket) -> Repeated {
        // Both lists end with the youngest.
        let back = usize::try_from(self.rid - rid).unwrap_or(usize::MAX);
        if let Some(held) = self.held.iter_mut().rev().nth(back) {
            return Repeated::Held(held.ticket.replace(ticket));
        }
        match self.kept.iter().rev().nth(back - self.held.len()) {
            Some(body) => Repeated::Kept(body.clone().unwrap_or_else(|| EMPTY_BODY.into())),
            None => Repeated::Forgotten,
        }
    }

    /// This request and those before it have waited long enough. False when it does not wait.
    pub(super) fn hurry(&mut self, ticket: Ticket, now: Time) -> bool {
        let Some(last) = self.held.iter().position(|held| held.ticket == Some(ticket)) else { return false };
        for held in &mut self.held[..=last] {
            held.answer_at = held.answer_at.min(now);
        }
        true
    }

    /// The next request is processed, and waits for its answer.
    pub(super) fn hold(&mut self, held: Held) {
        self.rid += 1;
        // One more than is held, for as long as it takes to answer the oldest.
        self.held.reserve_exact(1);
        self.held.push(held);
    }

    /// The request that was processed last says which answers the client has: those up to its `ack` or, without one,
    /// those further behind than requests may be under way. `extra` as for [`place`](Self::place).
    pub(super) fn acknowledge(&mut self, ack: Option<u64>, extra: bool) {
        let behind = |requests: u64| self.rid.saturating_sub(requests);
        // A client may have an answer and lack the one before it.
        let arrived = ack.map(|ack| ack.max(behind(2 * self.requests())));
        self.forget_up_to(arrived.unwrap_or(behind(self.requests() + u64::from(extra))));
    }

    pub(super) fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Whether more requests wait for an answer than should.
    pub(super) fn holds_too_many(&self) -> bool {
        self.held.len() > usize::from(self.hold)
    }

    /// Whether a request is waiting that an answer would reach.
    pub(super) fn is_waiting(&self) -> bool {
        self.held.iter().any(|held| held.ticket.is_some())
    }

    pub(super) fn oldest(&self) -> Option<&Held> {
        self.held.first()
    }

    pub(super) fn take_oldest(&mut self) -> Option<Held> {
        let oldest = (!self.held.is_empty()).then(|| self.held.remove(0));
        // Room for the next that is held, and not for the one more that releases it.
        self.held.shrink_to(1);
        oldest
    }

    /// Keeps the answer to the request that was taken last.
    pub(super) fn keep(&mut self, body: Kept) {
        self.kept.reserve_exact(1);
        self.kept.push(body);
    }

    fn forget_up_to(&mut self, rid: u64) {
        let last_kept = self.rid - self.held.len() as u64;
        let wanted = usize::try_from(last_kept.saturating_sub(rid)).unwrap_or(usize::MAX);
        self.kept.drain(..self.kept.len().saturating_sub(wanted));
        self.kept.shrink_to_fit();
    }

    /// A connection was lost; whether a held request was on it.
    pub(super) fn lose(&mut self, ticket: Ticket) -> bool {
        for early in
            self.early.iter_mut().flat_map(|all| all.iter_mut()).filter(|early| early.ticket == Some(ticket))
        {
            early.ticket = None;
        }
        let held = self.held.iter_mut().find(|held| held.ticket == Some(ticket));
        held.is_some_and(|held| held.ticket.take().is_some())
    }

    /// Takes the tickets of all requests that are not answered.
    pub(super) fn take_tickets(&mut self) -> Vec<Ticket> {
        let held = std::mem::take(&mut self.held);
        let early = self.early.take().unwrap_or_default();
        let held = held.into_iter().filter_map(|held| held.ticket);
        held.chain(early.into_iter().filter_map(|early| early.ticket)).collect()
    }

    /// Heap memory, early requests apart.
    pub(super) fn heap_bytes(&self) -> usize {
        let bodies = self.kept.iter().flatten().map(|body| 16 + body.len());
        self.held.capacity() * size_of::<Held>()
            + self.kept.capacity() * size_of::<Kept>()
            + bodies.sum::<usize>()
    }
}
