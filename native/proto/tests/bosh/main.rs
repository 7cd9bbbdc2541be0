//! BOSH: bodies, sessions, and both peers over a network that loses and reorders.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod driver;
mod request;
mod session;
mod simulation;
