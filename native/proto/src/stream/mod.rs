//! A server's XMPP stream on one connection, over TCP (RFC 6120) or WebSocket (RFC 7395).
//!
//! [`Stream`] is the machine: framing, the barrier of stream negotiation, restart, refusal, the transport's farewell, throttle
//! and all deadlines. [`encode`] turns what its owner sends into bytes, without the machine at hand. Knows nothing
//! of sockets, of who the owner is, or of what stanzas mean.

mod config;
mod deadlines;
mod encode;
mod machine;
mod negotiation;
mod refusal;
mod throttle;
mod transport;

pub use config::{Config, Rate};
pub use encode::{Outgoing, Sent, encode};
pub use machine::{Event, Stream};
pub use throttle::Throttle;
pub use transport::Framing;
