//! When a session answers a request, and with what.

use std::sync::Arc;

use super::super::output::{Answer, Ticket};
use super::super::response::{Body, EMPTY_BODY, terminal_body};
use super::super::window::Held;
use super::super::{Condition, NS_XBOSH};
use super::{Closed, Created, Session};
use crate::time::Time;
use crate::xmpp::NS_STREAM;

/// How much of the queue an answer takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Nothing,
    /// At most `max_concat` elements.
    Usual,
    All,
}

impl Session {
    /// Answers what need not or must not wait any longer.
    pub(super) fn settle(&mut self, now: Time) {
        while self.closed.is_none() {
            let at_once = self.wait_seconds == 0 && self.window.held_len() > 0;
            let is_urgent = self.queue.as_ref().is_some_and(|queue| queue.is_urgent());
            if self.window.holds_too_many() || at_once || (is_urgent && self.window.is_waiting()) {
                self.answer_oldest(Share::Usual, now);
            } else {
                break;
            }
        }
    }

    /// Answers the oldest of the held requests with what is queued, and keeps the answer.
    pub(super) fn answer_oldest(&mut self, share: Share, now: Time) {
        let Some(Held { ticket, .. }) = self.window.take_oldest() else { return };
        let mut body = Body::default();
        let created = self.created.take();
        if let Some(created) = &created {
            self.write_created(created, &mut body);
        }
        if self.wants_acks && (self.window.held_len() > 0 || created.is_some()) {
            body.attr("ack", self.window.rid());
        }
        // What no connection would carry waits for one that does.
        let ends = ticket.is_some() && self.fill(&mut body, share);
        if body.has_payload() && self.window.held_len() == 0 {
            self.polled_at = None;
        }
        let body = (!body.is_empty()).then(|| Arc::from(body.finish()));
        if let Some(ticket) = ticket {
            self.respond(ticket, body.clone().unwrap_or_else(|| EMPTY_BODY.into()));
        }
        self.window.keep(body);
        self.rest(now, self.config.max_inactivity);
        if ends {
            self.answer_all(None);
            self.closed = self.closed.or(self.ending).or(Some(Closed::ByServer));
        }
    }

    /// Moves a share of the queue into an answer. Whether the stream ends with it.
    fn fill(&mut self, body: &mut Body, share: Share) -> bool {
        let max_concat = if share == Share::All { None } else { self.config.max_concat };
        let Some(queue) = self.queue.as_mut().filter(|_| share != Share::Nothing) else { return false };
        let ends = queue.fill(body, max_concat);
        if queue.is_empty() {
            self.queue = None;
        }
        ends
    }

    /// The attributes of the answer that creates a session (XEP-0124 section 7.2, XEP-0206 section 3).
    fn write_created(&self, created: &Created, body: &mut Body) {
        let (major, minor) = created.version;
        body.attr("sid", &created.sid);
        body.attr("wait", self.wait_seconds);
        body.attr("ver", format_args!("{major}.{minor}"));
        body.attr("polling", self.config.polling.as_secs());
        body.attr("inactivity", self.config.max_inactivity.as_secs());
        body.attr("hold", self.window.hold_count());
        body.attr("xmpp:restartlogic", "true");
        body.attr("requests", self.window.requests());
        body.attr("secure", "true");
        body.attr("maxpause", self.config.max_pause.as_secs());
        body.attr("xmlns:xmpp", NS_XBOSH);
        body.attr("xmlns:stream", NS_STREAM);
        body.attr("from", self.stream.to());
    }

    /// The client broke a rule: the request that did it is told so, others that another did.
    pub(super) fn fail(&mut self, condition: Condition, ticket: Option<Ticket>) {
        self.answer_all(Some(Condition::OtherRequest));
        if let Some(ticket) = ticket {
            self.respond(ticket, terminal_body(condition).into());
        }
        self.closed.get_or_insert(Closed::Failed(condition));
    }

    /// Ends all requests that are not answered.
    pub(super) fn answer_all(&mut self, condition: Option<Condition>) {
        for ticket in self.window.take_tickets() {
            let mut body = Body::default();
            body.terminate(condition);
            self.respond(ticket, body.finish().into());
        }
    }

    pub(super) fn respond(&mut self, ticket: Ticket, body: Arc<[u8]>) {
        let content_type = self.stream.content().map(Into::into);
        self.output.push_answer(Answer { ticket, body, content_type });
    }
}
