//! A server's stream over TCP and WebSocket: behaviour, deadlines, both peers in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../ws/client.rs"]
#[allow(dead_code)]
mod client;
mod deadlines;
mod driver;
mod simulation;
mod splits;
mod tcp;
mod websocket;
