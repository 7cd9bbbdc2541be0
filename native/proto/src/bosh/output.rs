//! What a session has to say and nobody has taken yet.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::xmpp;

/// An HTTP request of a session: names where its answer goes. The caller's number, unique among those of a session.
pub type Ticket = u64;

/// The answer to one HTTP request, with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which request.
    pub ticket: Ticket,
    /// The body of the answer: one `<body/>`.
    pub body: Arc<[u8]>,
    /// The Content-Type that the client asked for; `None` for [`CONTENT_TYPE`](super::CONTENT_TYPE). Printable ASCII.
    pub content_type: Option<Box<str>>,
}

/// Events and answers, each in their order. Holds 8 bytes while there are none.
#[derive(Debug, Default)]
pub(super) struct Output(Option<Box<Lists>>);

#[derive(Debug, Default)]
struct Lists {
    events: VecDeque<xmpp::Event>,
    answers: VecDeque<Answer>,
}

impl Output {
    pub(super) fn push_event(&mut self, event: xmpp::Event) {
        self.0.get_or_insert_default().events.push_back(event);
    }

    pub(super) fn push_answer(&mut self, answer: Answer) {
        self.0.get_or_insert_default().answers.push_back(answer);
    }

    pub(super) fn has_events(&self) -> bool {
        self.0.as_ref().is_some_and(|lists| !lists.events.is_empty())
    }

    pub(super) fn take_event(&mut self) -> Option<xmpp::Event> {
        self.take(|lists| lists.events.pop_front())
    }

    pub(super) fn take_answer(&mut self) -> Option<Answer> {
        self.take(|lists| lists.answers.pop_front())
    }

    fn take<T>(&mut self, take: impl FnOnce(&mut Lists) -> Option<T>) -> Option<T> {
        let lists = self.0.as_mut()?;
        let taken = take(lists);
        if lists.events.is_empty() && lists.answers.is_empty() {
            self.0 = None;
        }
        taken
    }
}
