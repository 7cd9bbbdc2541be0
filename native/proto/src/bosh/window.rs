//! The window of request ids (XEP-0124 section 14): what came early, what is held, which answers are kept.
//!
//! Knows nothing of time, streams or what an answer says.

use std::sync::Arc;

use super::request::Request;
use super::response::EMPTY_BODY;
use super::session::Ticket;

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
    /// In milliseconds.
    pub(super) answer_at: u64,
}

/// Received before its turn.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) ticket: Option<Ticket>,
    pub(super) request: Box<Request>,
}

/// An answer; none is [`EMPTY_BODY`].
type Kept = Option<Arc<[u8]>>;

/// The requests of a session; each list is bounded by [`Window::requests`].
///
/// Requests are processed and answered in the order of their ids. So those held are the last that were processed, and
/// those whose answers are kept come right before them, and neither has to say its id.
#[derive(Debug)]
pub(super) struct Window {
    /// The last request that was processed; all before it were.
    rid: u64,
    /// How many requests are held.
    hold: u8,
    held: Vec<Held>,
    early: Vec<Early>,
    kept: Vec<Kept>,
}

impl Window {
    /// Before the first request, which has this id.
    pub(super) fn new(first_rid: u64, hold: u8) -> Self {
        let rid = first_rid.saturating_sub(1);
        Self { rid, hold, held: Vec::new(), early: Vec::new(), kept: Vec::new() }
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

    pub(super) fn place(&self, rid: u64) -> Place {
        match rid {
            rid if rid > self.rid + self.requests() => Place::Beyond,
            rid if rid > self.rid + 1 => Place::Early,
            rid if rid == self.rid + 1 => Place::Next,
            _ => Place::Past,
        }
    }

    /// Keeps a request until its turn. The ticket that it replaces, when it is repeated.
    pub(super) fn take_early(&mut self, request: Request, ticket: Ticket) -> Option<Ticket> {
        match self.early.iter_mut().find(|early| early.request.rid == request.rid) {
            Some(early) => early.ticket.replace(ticket),
            None => {
                self.early.push(Early { ticket: Some(ticket), request: Box::new(request) });
                None
            }
        }
    }

    /// The request whose turn it is, if it came early.
    pub(super) fn next_early(&mut self) -> Option<Early> {
        let index = self.early.iter().position(|early| early.request.rid == self.rid + 1)?;
        Some(self.early.swap_remove(index))
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

    /// The next request is processed, and waits for its answer.
    pub(super) fn hold(&mut self, held: Held) {
        self.rid += 1;
        // One more than is held, for as long as it takes to answer the oldest.
        self.held.reserve_exact(1);
        self.held.push(held);
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
        (!self.held.is_empty()).then(|| self.held.remove(0))
    }

    /// Keeps the answer to the request that was taken last, in place of the oldest when as many are kept as the
    /// client may have missed.
    pub(super) fn keep(&mut self, body: Kept) {
        let requests = usize::from(self.hold) + 1;
        if self.kept.len() >= requests {
            self.kept.remove(0);
        }
        self.kept.reserve_exact(requests - self.kept.len());
        self.kept.push(body);
    }

    /// The client has the answers up to that one.
    pub(super) fn forget_up_to(&mut self, rid: u64) {
        let last_kept = self.rid - self.held.len() as u64;
        let wanted = usize::try_from(last_kept.saturating_sub(rid)).unwrap_or(usize::MAX);
        self.kept.drain(..self.kept.len().saturating_sub(wanted));
    }

    /// A connection was lost; whether a held request was on it.
    pub(super) fn lose(&mut self, ticket: Ticket) -> bool {
        for early in self.early.iter_mut().filter(|early| early.ticket == Some(ticket)) {
            early.ticket = None;
        }
        let held = self.held.iter_mut().find(|held| held.ticket == Some(ticket));
        held.is_some_and(|held| held.ticket.take().is_some())
    }

    /// Takes the tickets of all requests that are not answered.
    pub(super) fn take_tickets(&mut self) -> Vec<Ticket> {
        let held = self.held.drain(..).filter_map(|held| held.ticket);
        held.chain(self.early.drain(..).filter_map(|early| early.ticket)).collect()
    }

    /// Heap memory, early requests apart.
    pub(super) fn heap_bytes(&self) -> usize {
        let bodies = self.kept.iter().flatten().map(|body| 16 + body.len());
        self.held.capacity() * size_of::<Held>()
            + self.kept.capacity() * size_of::<Kept>()
            + bodies.sum::<usize>()
    }
}
