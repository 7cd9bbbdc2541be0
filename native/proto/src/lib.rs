//! Sans-IO protocol state machines: bytes and events in, bytes and events out.
//!
//! Nothing here opens a socket, reads a clock or knows Erlang. Whoever owns a connection appends what it
//! received to a buffer, asks a machine what that means, and does what the answer says; deadlines are the
//! owner's, and their expiry is told to the machine or answered with one of its errors.
//!
//! - [`dist`]: a hidden Erlang node, as other nodes see it.
//! - [`http`]: where one request ends and the next begins, and which requests are refused.
//! - [`link`]: a connection manager's link to a node, which carries many clients' connections.
//! - [`packet`]: the packet modes of Erlang sockets (`line`, `http`, `httph`).
//! - [`xmpp`]: XML streams, as elements that are equal to `fxml_stream`'s.
//! - [`stream`]: a server's XMPP stream over TCP or WebSocket, with its negotiation barrier and deadlines.
//! - [`ws`]: WebSocket as a server, and XMPP over it.
//! - [`bosh`]: sessions of XMPP over HTTP.
//! - [`pack`]: states of sessions, as few bytes.
//! - `tls`: the records of TLS, once rustls has made the handshake (the feature `tls`).
//! - [`proxy`]: the header in which a proxy says whose connection it passes on.
#![forbid(unsafe_code)]

pub mod bosh;
pub mod dist;
pub mod http;
pub mod link;
pub mod pack;
pub mod packet;
pub mod proxy;
pub mod stream;
pub mod time;
#[cfg(feature = "tls")]
pub mod tls;
pub mod ws;
pub mod xmpp;
