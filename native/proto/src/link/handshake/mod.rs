//! A connection's handshake. The ECM proves first that it knows the secret: whoever can merely reach the node gets a
//! nonce from it, and nothing to try secrets on.
//!
//! HELLO (ECM), CHALLENGE (node), AUTH (ECM), WELCOME (node); see `docs/link.md`.

mod accept;
mod course;
mod dial;
mod message;

pub use accept::{Acceptor, Peer, Request};
pub use dial::{Dial, Dialer, Welcome};

/// 32 bytes from a cryptographic source, never used before.
pub type Nonce = [u8; 32];
