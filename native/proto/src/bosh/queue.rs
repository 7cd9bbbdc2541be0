//! What the c2s sent, encoded, and the queue of it.

use std::collections::VecDeque;

use super::response::Body;
use super::{Condition, NS_XBOSH};
use crate::xmpp::{Element, NS_CLIENT, NS_STREAM, element_to_vec};

/// An element for [`Session::queue`](super::Session::queue), encoded without a session at hand: encoding takes time,
/// and a session may be locked.
#[derive(Clone, Debug)]
pub struct Encoded {
    kind: Kind,
    bytes: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of the client's namespace.
    Stanza,
    Features,
    StreamError,
    /// Of SASL, of stream management.
    Other,
}

impl Encoded {
    /// Encodes an element. A stanza gets the client's namespace, which it would else take from the body around it.
    pub fn new(element: &Element) -> Self {
        let kind = match element.name() {
            b"stream:error" => Kind::StreamError,
            b"stream:features" => Kind::Features,
            b"message" | b"presence" | b"iq" => Kind::Stanza,
            _ => Kind::Other,
        };
        let is_in_place = kind != Kind::Stanza || element.attr(b"xmlns") == Some(NS_CLIENT.as_bytes());
        let bytes = if is_in_place { element_to_vec(element) } else { element_to_vec(&as_client(element)) };
        Self { kind, bytes: bytes.into() }
    }

    /// Bytes of the element.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: an element has a name.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn is_stream_error(&self) -> bool {
        self.kind == Kind::StreamError
    }
}

/// What waits to be sent.
#[derive(Debug)]
enum Outgoing {
    Header { id: Box<str>, version: Box<str> },
    Element(Encoded),
    End(Option<Condition>),
}

/// What waits to be sent, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<Outgoing>,
    bytes: usize,
}

impl Queue {
    pub(super) fn push_header(&mut self, id: &[u8], version: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into();
        self.items.push_back(Outgoing::Header { id: text(id), version: text(version) });
    }

    pub(super) fn push_element(&mut self, element: Encoded) {
        self.bytes += element.len();
        self.items.push_back(Outgoing::Element(element));
    }

    pub(super) fn push_end(&mut self, condition: Option<Condition>) {
        self.items.push_back(Outgoing::End(condition));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
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

    /// The stanzas that wait, encoded.
    pub(super) fn stanzas(&self) -> impl Iterator<Item = &[u8]> {
        self.items.iter().filter_map(|item| match item {
            Outgoing::Element(Encoded { kind: Kind::Stanza, bytes }) => Some(&bytes[..]),
            _ => None,
        })
    }

    /// Moves what waits into a body, at most `max_concat` elements. Whether the stream ends with it.
    pub(super) fn fill(&mut self, body: &mut Body, max_concat: Option<usize>) -> bool {
        let mut room = max_concat.unwrap_or(usize::MAX);
        let mut ends = false;
        while let Some(item) = self.next(&mut room) {
            ends |= item.write_to(body);
        }
        ends
    }

    fn next(&mut self, room: &mut usize) -> Option<Outgoing> {
        if let Some(Outgoing::Element(element)) = self.items.front() {
            *room = room.checked_sub(1)?;
            self.bytes -= element.len();
        }
        self.items.pop_front()
    }
}

impl Outgoing {
    /// Whether the stream ends with it.
    fn write_to(self, body: &mut Body) -> bool {
        match self {
            Self::Header { id, version } => {
                body.attr("authid", id);
                if !version.is_empty() {
                    body.attr("xmpp:version", version);
                    body.attr("xmlns:xmpp", NS_XBOSH);
                }
                false
            }
            Self::Element(Encoded { kind, bytes }) => {
                if kind == Kind::StreamError {
                    body.terminate(Some(Condition::RemoteStreamError));
                }
                if matches!(kind, Kind::Features | Kind::StreamError) {
                    body.attr("xmlns:stream", NS_STREAM);
                }
                body.payload(bytes);
                kind == Kind::StreamError
            }
            Self::End(condition) => {
                body.terminate(condition);
                true
            }
        }
    }
}

/// A stanza with the client's namespace.
fn as_client(stanza: &Element) -> Element {
    stanza.with_attrs(|mut attrs| {
        match attrs.iter_mut().find(|(name, _)| *name == b"xmlns") {
            Some((_, uri)) => *uri = NS_CLIENT.as_bytes(),
            None => attrs.push((b"xmlns", NS_CLIENT.as_bytes())),
        }
        attrs
    })
}
