//! A link: handshake, rules, and both ends with connections that are cut anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod driver;
mod handshake;
mod rules;
mod simulation;
