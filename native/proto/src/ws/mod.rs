//! WebSocket, server side (RFC 6455), and XMPP over it (RFC 7395).
//!
//! [`accept`] judges an upgrade request, [`WebSocket`] is the connection after it, and [`stanza`] turns messages
//! into a c2s's stream events and back. Own code rather than a crate because of what an idle connection holds:
//! 16 bytes, where the crates of the field keep a read buffer each.

mod connection;
mod frame;
mod handshake;
pub mod stanza;

pub use connection::{Event, WebSocket};
pub(crate) use frame::are_pings;
pub(crate) use frame::write_text_with;
pub use frame::{Opcode, Violation, write_frame};
pub use handshake::{Accepted, Policy, Refusal, Request, accept, is_upgrade};
