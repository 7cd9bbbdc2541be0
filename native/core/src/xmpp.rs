//! XMPP sessions as the host sees them: names, settings, what is told and what is sent.

use crate::id::{Conn, ListenerId};
use crate::source::Address;
use megaphone_proto::bosh;
use megaphone_proto::xmpp::{Element, Event, StreamError};
use std::collections::HashMap;
use std::time::Duration;

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

/// What a session's owner is told.
#[derive(Debug)]
pub enum XmppEvent<'a> {
    /// What the peer did on the stream.
    Stream(&'a Event),
    /// The peer broke the rules of XML streams. Nothing of what it sends is looked at from here on; the owner answers
    /// and closes.
    Error(StreamError),
    /// Elements, encoded, that the client of a BOSH session never got. [`Closed`](Self::Closed) follows.
    Undelivered(&'a [Box<[u8]>]),
    /// The peer is gone. The last event.
    Closed,
}

/// What an owner sends.
#[derive(Clone, Copy, Debug)]
pub enum Outgoing<'a> {
    /// A stream header: an element's name and attributes.
    Header(&'a Element),
    /// A stanza or other first-level element.
    Element(&'a Element),
    /// The end of the stream, with the name of its header.
    End(&'a [u8]),
    /// Bytes between elements; white space in practice. Nothing on transports whose messages are elements.
    Raw(&'a [u8]),
}

/// How fast a peer may send, in bytes a second, and how many bytes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes a second, at least 1.
    pub bytes_per_second: u32,
    /// Bytes that may come at once after a pause, at least 1.
    pub burst: u32,
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
    /// The X-Forwarded-For fields, joined by commas; empty without any.
    pub forwarded_for: Box<[u8]>,
}

/// Settings that all sessions have in common. May change at any time; each step uses the latest.
#[derive(Clone, Debug)]
pub struct XmppConfig {
    /// The host that stream errors come from when the client did not get as far as naming one.
    pub from: String,
    /// The language of such errors.
    pub lang: String,
    /// From the beginning of a connection (or the upgrade of one) to a complete stream header. Default 120 s.
    pub header_timeout: Duration,
    /// From the first byte of a stanza to its last, not restarted by a byte; where there is a rate, and as long as the
    /// longest stanza takes at it. Default 300 s. Costs as much memory as the stanza may have bytes while it is
    /// waited for.
    pub stanza_timeout: Duration,
    /// Bytes of one stanza over WebSocket and BOSH; as many are already too many. Default 262,144.
    pub max_stanza: usize,
    /// How long a WebSocket may be silent before it is pinged; none is never. Default 60 s.
    pub ping_interval: Option<Duration>,
    /// How long a WebSocket may be silent before it is closed. Default 300 s.
    pub websocket_timeout: Duration,
    /// Origins that WebSockets are accepted from, in lower case; empty accepts all.
    pub origins: Vec<String>,
    /// Hosts that have BOSH sessions here, in lower case. A session for another host is left to the handler.
    pub bosh_hosts: HashMap<Box<str>, bosh::Config>,
}

impl Default for XmppConfig {
    fn default() -> Self {
        Self {
            from: String::from("localhost"),
            lang: String::from("en"),
            header_timeout: Duration::from_secs(120),
            stanza_timeout: Duration::from_secs(300),
            max_stanza: 262_144,
            ping_interval: Some(Duration::from_secs(60)),
            websocket_timeout: Duration::from_secs(300),
            origins: Vec::new(),
            bosh_hosts: HashMap::new(),
        }
    }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The whole path, as sent, without a query.
    pub path: Box<[u8]>,
    /// What answers.
    pub service: Service,
}
