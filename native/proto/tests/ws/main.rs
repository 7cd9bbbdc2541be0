//! WebSocket: handshake, a corpus against an echo, XMPP messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod corpus;
mod echo;
mod handshake;
mod stanza;
