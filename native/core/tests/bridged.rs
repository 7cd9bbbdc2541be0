//! The suites of connections over sockets once more, with every client's connection a stream of a link: roles, and those who
//! have connections, cannot tell.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code, reason = "what only other suites use")]

mod common;

#[path = "loopback/active.rs"]
mod active;
#[path = "loopback/bosh.rs"]
mod bosh;
#[path = "loopback/bosh_client.rs"]
mod bosh_client;
#[path = "loopback/bosh_ends.rs"]
mod bosh_ends;
#[path = "loopback/bosh_requests.rs"]
mod bosh_requests;
#[path = "loopback/closing.rs"]
mod closing;
#[path = "loopback/owners.rs"]
mod owners;
#[path = "loopback/reading.rs"]
mod reading;
#[path = "loopback/refusals.rs"]
mod refusals;
#[path = "loopback/requests.rs"]
mod requests;
#[path = "loopback/streams.rs"]
mod streams;
#[path = "loopback/websockets.rs"]
mod websockets;
#[path = "loopback/writing.rs"]
mod writing;
#[path = "loopback/xmpp_client.rs"]
mod xmpp_client;

/// For `common`.
pub(crate) const IS_BRIDGED: bool = true;
