//! The `<body/>` of an answer.

use super::{Condition, NS_HTTP_BIND};
use crate::xmpp::{write_end_tag, write_start_tag};

/// A body that says nothing.
pub const EMPTY_BODY: &[u8] = b"<body xmlns='http://jabber.org/protocol/httpbind'/>";

/// A body that ends a session, for a request that belongs to none or cannot be understood.
pub fn terminal_body(condition: Condition) -> Vec<u8> {
    let mut body = Body::default();
    body.terminate(Some(condition));
    body.finish()
}

/// A body that asks the client to repeat what was not answered (XEP-0124 section 17.3).
pub(super) fn recoverable_body() -> Vec<u8> {
    let mut body = Body::default();
    body.attr("type", "error");
    body.finish()
}

/// A body that is being written.
#[derive(Default)]
pub(super) struct Body {
    attrs: Vec<(&'static str, String)>,
    /// Elements, encoded.
    payload: Vec<Box<[u8]>>,
}

impl Body {
    /// Adds an attribute, once: what was added first stays.
    pub(super) fn attr(&mut self, name: &'static str, value: impl ToString) {
        if self.attrs.iter().all(|(added, _)| *added != name) {
            self.attrs.push((name, value.to_string()));
        }
    }

    pub(super) fn terminate(&mut self, condition: Option<Condition>) {
        self.attr("type", "terminate");
        if let Some(condition) = condition {
            self.attr("condition", condition.name());
        }
    }

    /// Adds an element, encoded.
    pub(super) fn payload(&mut self, element: Box<[u8]>) {
        self.payload.push(element);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.attrs.is_empty() && self.payload.is_empty()
    }

    pub(super) fn has_payload(&self) -> bool {
        !self.payload.is_empty()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let payload: usize = self.payload.iter().map(|element| element.len()).sum();
        let mut out = Vec::with_capacity(2 * EMPTY_BODY.len() + payload + 64 * self.attrs.len());
        let attrs = self.attrs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        write_start_tag(
            b"body",
            [(&b"xmlns"[..], NS_HTTP_BIND.as_bytes())].into_iter().chain(attrs),
            &mut out,
        );
        if self.payload.is_empty() {
            out.truncate(out.len() - 1);
            out.extend_from_slice(b"/>");
        } else {
            self.payload.iter().for_each(|element| out.extend_from_slice(element));
            write_end_tag(b"body", &mut out);
        }
        out
    }
}
