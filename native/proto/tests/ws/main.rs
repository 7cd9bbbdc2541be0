//! WebSocket: handshake, a corpus against an echo, XMPP messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod corpus;
mod echo;
#[path = "../xmpp/erlang.rs"]
mod erlang;
mod handshake;
mod stanza;
