//! XMPP sessions as the host sees them: names, settings, what is told and what is sent.

use crate::carrier::Address;
use crate::id::{Conn, ListenerId};
use megaphone_proto::http::Path;
use megaphone_proto::xmpp::{Event, StreamError};
use megaphone_proto::{bosh, stream};
use std::collections::HashMap;

/// Names an XMPP session and its transport, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum XmppId {
    /// A stream on a connection (RFC 6120).
    Tcp(Conn),
    /// A WebSocket connection (RFC 7395).
    WebSocket(Conn),
    /// A BOSH session (XEP-0124), whose connections come and go. Its number is a session's, not a connection's.
    Bosh(Conn),
}

/// What a session's owner is told when it asks.
#[derive(Debug)]
pub enum XmppEvent {
    /// What the peer did on the stream.
    Stream(Event),
    /// The peer broke the rules of XML streams. Nothing of what it sends is looked at from here on; the owner answers
    /// and closes.
    Error(StreamError),
    /// Elements, encoded, that the client of a BOSH session never got. [`Closed`](Self::Closed) follows.
    Undelivered(Vec<Box<[u8]>>),
    /// The peer is gone. The last event.
    Closed,
}

impl XmppEvent {
    /// About how many bytes it holds: how long it takes to make terms of it.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Stream(Event::StreamStart(element) | Event::Element(element)) => element.own_bytes(),
            Self::Undelivered(elements) => elements.iter().map(|element| element.len()).sum(),
            Self::Stream(Event::StreamEnd(_)) | Self::Error(_) | Self::Closed => 0,
        }
    }
}

impl From<stream::Event> for XmppEvent {
    fn from(event: stream::Event) -> Self {
        match event {
            stream::Event::Stream(event) => Self::Stream(event),
            stream::Event::Error(error) => Self::Error(error),
            stream::Event::Closed => Self::Closed,
        }
    }
}

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Less than 100 microseconds.
    Normal,
    /// As long as the largest stanza takes.
    Large,
}

impl Effort {
    /// Bytes that are read, and about as many that terms are made of.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Normal => 4096,
            Self::Large => 64 * 1024,
        }
    }

    /// Whether a reader can be given so many bytes. Measured: as a list 4 KB take as long as 128 KB in a binary.
    pub(crate) fn allows_copy(self, bytes: usize, as_list: bool) -> bool {
        self == Self::Large || bytes <= if as_list { 4 * 1024 } else { 128 * 1024 }
    }

    /// Whether the end of a packet can be looked for in so many bytes. Measured: 52 microseconds a MB.
    pub(crate) fn allows_search(self, bytes: usize) -> bool {
        self == Self::Large || bytes <= 512 * 1024
    }
}

/// What an owner gets when it asks.
#[derive(Debug, Default)]
pub struct Pulled {
    /// In the order in which it happened.
    pub events: Vec<XmppEvent>,
    /// There may be more: ask again once these are dealt with. Else the owner is told when there is.
    pub has_more: bool,
    /// The next event takes more than a normal effort.
    pub is_large: bool,
    bytes: usize,
}

impl Pulled {
    /// Events that one call gives.
    const MOST: usize = 32;

    /// About how many bytes the events hold.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an event of so many bytes can be given as well. One event can always be given with a large effort.
    pub(crate) fn has_room(&mut self, bytes: usize, effort: Effort) -> bool {
        let is_first = self.events.is_empty();
        let has_room = self.events.len() < Self::MOST && self.bytes + bytes <= 4 * effort.bytes();
        if has_room || (is_first && effort == Effort::Large) {
            self.bytes += bytes;
            return true;
        }
        self.is_large = is_first;
        false
    }
}

/// Where a session comes from. What a request said is known until the session has an owner.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Who accepted it.
    pub listener: ListenerId,
    /// The other end of the connection.
    pub peer: Address,
    /// Our end.
    pub local: Address,
    /// What the HTTP request that began it said. None over TCP.
    pub request: Option<RequestFacts>,
}

/// Of the HTTP request that began a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// The Host field.
    pub host: Box<[u8]>,
    /// The path.
    pub path: Box<[u8]>,
    /// The last X-Forwarded-For field, as `ejabberd_http` takes it; empty without any.
    pub forwarded_for: Box<[u8]>,
}

/// Settings that all sessions have in common. A session has those of its beginning.
#[derive(Clone, Debug, Default)]
pub struct XmppConfig {
    /// Of streams. `max_stanza` is that of WebSocket and BOSH; over TCP the listener has its own.
    pub stream: stream::Config,
    /// Origins that WebSockets are accepted from, in lower case; empty accepts all.
    pub origins: Vec<String>,
    /// Hosts that have BOSH sessions here, in lower case. A session for another host is left to the handler.
    pub bosh_hosts: HashMap<Box<str>, bosh::Config>,
}

/// What answers the requests for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// XMPP over WebSocket, where the request is an upgrade; else the handler.
    WebSocket,
    /// BOSH, where the request is a POST with XML; else the handler.
    Bosh,
}

/// Requests that need no handler.
#[derive(Clone, Debug)]
pub struct Route {
    /// The whole path; compared as `ejabberd_http` does.
    pub path: Path,
    /// What answers.
    pub service: Service,
}
