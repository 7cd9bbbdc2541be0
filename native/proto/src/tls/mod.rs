//! TLS: rustls makes the handshake ([`Handshake`]), and what follows it are our [`Records`], which hold the keys and little else.
//! `docs/tls.md` has the design and the reasons.
//!
//! TLS 1.2 (RFC 5246, AEAD suites only) and TLS 1.3 (RFC 8446), either end. Knows nothing of sockets, certificates or what the bytes
//! mean that it carries.

mod alert;
mod binding;
mod capture;
mod cipher;
mod convert;
mod error;
mod handshake;
mod header;
mod keys;
mod message;
mod open;
mod records;
mod seal;
mod suite;

pub use alert::Alert;
pub use binding::ChannelBinding;
pub use convert::ConvertError;
pub use error::{Error, PeerError, SendError, Truncated};
pub use handshake::{Endpoint, Established, Handshake, HandshakeError};
pub use records::{Event, Records};
pub use suite::{Aead, Side, Suite, Version};

/// Bytes of plaintext that one record carries at most (RFC 8446 section 5.1).
pub const MAX_PLAINTEXT: usize = 1 << 14;
