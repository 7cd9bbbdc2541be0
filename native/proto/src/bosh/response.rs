//! The `<body/>` of an answer, and the queue of what goes into the next.

use super::{Condition, NS_HTTP_BIND, NS_XBOSH};
use crate::xmpp::{Element, NS_CLIENT, NS_STREAM, element_to_vec, write_end_tag, write_start_tag};

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
    payload: Vec<u8>,
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

    pub(super) fn is_empty(&self) -> bool {
        self.attrs.is_empty() && self.payload.is_empty()
    }

    pub(super) fn has_payload(&self) -> bool {
        !self.payload.is_empty()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(EMPTY_BODY.len() + self.payload.len() + 32 * self.attrs.len());
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
            out.extend_from_slice(&self.payload);
            write_end_tag(b"body", &mut out);
        }
        out
    }
}

/// What waits to be sent.
#[derive(Debug)]
enum Outgoing {
    Header {
        id: Box<str>,
        version: Box<str>,
    },
    Stanza(Box<[u8]>),
    /// `<stream:features/>`.
    Stream(Box<[u8]>),
    StreamError(Box<[u8]>),
    End(Option<Condition>),
}

/// What waits to be sent, in order. Holds 32 bytes while empty.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: Vec<Outgoing>,
    bytes: usize,
}

impl Queue {
    pub(super) fn push_header(&mut self, id: &[u8], version: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into();
        self.items.push(Outgoing::Header { id: text(id), version: text(version) });
    }

    pub(super) fn push_element(&mut self, element: &Element) {
        let item = match element.name() {
            b"stream:error" => Outgoing::StreamError(element_to_vec(element).into()),
            b"stream:features" => Outgoing::Stream(element_to_vec(element).into()),
            b"message" | b"presence" | b"iq" => Outgoing::Stanza(element_to_vec(&as_client(element)).into()),
            _ => Outgoing::Stanza(element_to_vec(element).into()),
        };
        self.bytes += item.element().map_or(0, <[u8]>::len);
        self.items.push(item);
    }

    pub(super) fn push_end(&mut self, condition: Option<Condition>) {
        self.items.push(Outgoing::End(condition));
    }

    /// Whether there is something that a waiting request should be answered with. A header of XMPP 1.0 alone is
    /// not: features follow it.
    pub(super) fn is_urgent(&self) -> bool {
        self.items.iter().any(|item| !matches!(item, Outgoing::Header { version, .. } if !version.is_empty()))
    }

    /// Bytes of the elements that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The elements that wait, encoded.
    pub(super) fn elements(&self) -> impl Iterator<Item = &[u8]> {
        self.items.iter().filter_map(Outgoing::element)
    }

    /// Moves what waits into a body, at most `max_concat` elements. Whether the stream ends with it.
    pub(super) fn fill(&mut self, body: &mut Body, max_concat: Option<usize>) -> bool {
        let mut room = max_concat.unwrap_or(usize::MAX);
        let mut taken = 0;
        let mut ends = false;
        for item in &self.items {
            if let Some(bytes) = item.element() {
                let Some(less) = room.checked_sub(1) else { break };
                room = less;
                self.bytes -= bytes.len();
            }
            taken += 1;
            ends |= item.write_to(body);
        }
        self.items.drain(..taken);
        if self.items.is_empty() {
            self.items = Vec::new();
        }
        ends
    }
}

impl Outgoing {
    fn element(&self) -> Option<&[u8]> {
        match self {
            Self::Stanza(bytes) | Self::Stream(bytes) | Self::StreamError(bytes) => Some(bytes),
            Self::Header { .. } | Self::End(_) => None,
        }
    }

    /// Whether the stream ends with it.
    fn write_to(&self, body: &mut Body) -> bool {
        match self {
            Self::Header { id, version } => {
                body.attr("authid", id);
                if !version.is_empty() {
                    body.attr("xmpp:version", version);
                    body.attr("xmlns:xmpp", NS_XBOSH);
                }
            }
            Self::Stanza(bytes) => body.payload.extend_from_slice(bytes),
            Self::Stream(bytes) => {
                body.attr("xmlns:stream", NS_STREAM);
                body.payload.extend_from_slice(bytes);
            }
            Self::StreamError(bytes) => {
                body.terminate(Some(Condition::RemoteStreamError));
                body.attr("xmlns:stream", NS_STREAM);
                body.payload.extend_from_slice(bytes);
            }
            Self::End(condition) => body.terminate(*condition),
        }
        matches!(self, Self::StreamError(_) | Self::End(_))
    }
}

/// A stanza with the client's namespace, which it would else take from the body around it.
fn as_client(stanza: &Element) -> Element {
    stanza.with_attrs(|mut attrs| {
        match attrs.iter_mut().find(|(name, _)| *name == b"xmlns") {
            Some((_, uri)) => *uri = NS_CLIENT.as_bytes(),
            None => attrs.push((b"xmlns", NS_CLIENT.as_bytes())),
        }
        attrs
    })
}
