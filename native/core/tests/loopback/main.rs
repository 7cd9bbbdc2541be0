//! Connections over real sockets of this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

/// Clients have sockets.
pub(crate) const IS_BRIDGED: bool = false;

mod accepting;
mod active;
mod bosh;
mod bosh_churn;
mod bosh_client;
mod bosh_ends;
mod bosh_limits;
mod bosh_requests;
mod bounded;
mod closing;
mod links;
mod memory;
mod proxied;
mod reading;
mod refusals;
mod requests;
mod starters;
mod stream_pace;
mod streams;
mod stress;
mod websockets;
mod writing;
mod xmpp_client;

mod owners;
#[cfg(feature = "fault-injection")]
mod panics;
