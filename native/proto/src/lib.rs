//! Sans-IO protocol state machines: bytes and events in, bytes and events out.
//!
//! Nothing here opens a socket, reads a clock or knows Erlang. Whoever owns a connection appends what it
//! received to a buffer, asks a machine what that means, and does what the answer says; deadlines are the
//! owner's, and their expiry is told to the machine or answered with one of its errors.
//!
//! - [`http`]: where one request ends and the next begins, and which requests are refused.
//! - [`packet`]: the packet modes of Erlang sockets (`line`, `http`, `httph`).
#![forbid(unsafe_code)]

pub mod http;
pub mod packet;
