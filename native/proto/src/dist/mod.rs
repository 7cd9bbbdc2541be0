//! A hidden Erlang node, as other nodes see it: the distribution protocol's accepting end
//! (<https://www.erlang.org/doc/apps/erts/erl_dist_protocol.html>).
//!
//! [`Peer`] is one node that connected: its handshake (version 6, since OTP 23) and what follows. It answers what any node
//! answers by itself (`net_adm:ping`, monitors, links, ticks), and gives calls of its one process to its owner. It never
//! dials. [`epmd`] registers its name.
//!
//! Nothing grows by what a peer sends: terms are read in place, no atom is kept, a message has a bound. What is not announced in
//! the flags (fragments, the atom cache, spawning) is not sent by peers.

pub mod epmd;
mod error;
mod flags;
mod handshake;
mod message;
mod peer;
mod term;
mod write;

pub use error::Failure;
pub use handshake::Local;
pub use peer::{Caller, Event, MAX_MESSAGE, Peer};
pub use term::Term;
pub use write::Writer;
