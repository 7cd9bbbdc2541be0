//! Sans-IO protocol state machines.
#![forbid(unsafe_code)]

pub mod bosh;
pub mod ws;
pub mod xmpp;
