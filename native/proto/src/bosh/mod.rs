//! BOSH (XEP-0124) and XMPP over it (XEP-0206): sessions of one client over many HTTP requests.
//!
//! [`Request`] reads the body of a POST, [`Session`] is everything that a session remembers, and [`terminal_body`]
//! answers a request that belongs to none. They know nothing of HTTP: a request is named by a [`Ticket`] of the
//! caller's, and answered with the bytes of a `<body/>`. [`Exchange`] is the HTTP of one connection, and knows nothing
//! of sessions.
//!
//! Where ejabberd 23.01 does otherwise than the XEPs, this follows the XEPs:
//! - an answer that is no longer kept is `item-not-found`, where ejabberd holds the repeated request;
//! - `ack` is given when the client asked for it, `content` is honoured, `ver` is the lower of the two;
//! - a request with `pause` is answered at once, without a payload, and one that asks for too long is a
//!   `policy-violation`;
//! - `hold='0'` and `wait='0'` are answered at once, and polling is too frequent only when both polls are empty and
//!   the answer to the first is too;
//! - the end of a stream without an error is a `terminate` without a condition.

mod exchange;
mod output;
mod queue;
mod request;
mod response;
mod session;
mod stream_info;
mod window;

pub use exchange::{Exchange, Response, cors_fields, is_bosh};
pub use output::{Answer, Ticket};
pub use queue::Encoded;
pub use request::{Request, RequestError};
pub use response::{EMPTY_BODY, terminal_body};
pub use session::{Closed, Session};

use std::time::Duration;

/// The namespace of `<body/>`.
pub const NS_HTTP_BIND: &str = "http://jabber.org/protocol/httpbind";
/// The namespace of XMPP's attributes on it.
pub const NS_XBOSH: &str = "urn:xmpp:xbosh";
/// The Content-Type of answers, unless [`Answer::content_type`] says otherwise.
pub const CONTENT_TYPE: &str = "text/xml; charset=utf-8";

/// What a server grants its clients; one for all sessions of a host. Defaults are those of `mod_bosh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a session lives without a request that is waiting. In whole seconds; default 30.
    pub max_inactivity: Duration,
    /// How long a client may pause. In whole seconds; default 120.
    pub max_pause: Duration,
    /// Most stanzas in one answer; `None`, the default, puts no bound.
    pub max_concat: Option<usize>,
    /// The longest that a request waits for an answer, and what a client gets that asks for nothing. In whole seconds;
    /// default 300.
    pub max_wait: Duration,
    /// Most requests that wait at once, and what a client gets that asks for nothing. Default 1. A session keeps
    /// one answer more than that for clients that lost it.
    pub max_hold: u8,
    /// How far apart empty polls have to be. In whole seconds; default 2.
    pub polling: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_inactivity: Duration::from_secs(30),
            max_pause: Duration::from_secs(120),
            max_concat: None,
            max_wait: Duration::from_secs(300),
            max_hold: 1,
            polling: Duration::from_secs(2),
        }
    }
}

/// Why a session ended, in the words of XEP-0124 section 17.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The request is malformed.
    BadRequest,
    /// The host is no longer served.
    HostGone,
    /// The host is not served.
    HostUnknown,
    /// The request for a session says no host.
    ImproperAddressing,
    /// Our fault.
    InternalServerError,
    /// No such session, request or key.
    ItemNotFound,
    /// Another request ended the session.
    OtherRequest,
    /// The client is too active, or pauses too long.
    PolicyViolation,
    /// The stream ended with an error, which the answer carries.
    RemoteStreamError,
    /// The node stops.
    SystemShutdown,
    /// Something else.
    UndefinedCondition,
}

impl Condition {
    /// The value of the `condition` attribute.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::HostGone => "host-gone",
            Self::HostUnknown => "host-unknown",
            Self::ImproperAddressing => "improper-addressing",
            Self::InternalServerError => "internal-server-error",
            Self::ItemNotFound => "item-not-found",
            Self::OtherRequest => "other-request",
            Self::PolicyViolation => "policy-violation",
            Self::RemoteStreamError => "remote-stream-error",
            Self::SystemShutdown => "system-shutdown",
            Self::UndefinedCondition => "undefined-condition",
        }
    }
}
