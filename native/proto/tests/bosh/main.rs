//! BOSH: bodies, sessions, connections, and both peers over a network that loses and reorders.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod driver;
mod ending;
mod exchange;
mod keeping;
mod request;
mod session;
mod simulation;
