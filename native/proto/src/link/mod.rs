//! A link: one ordered channel between an external connection manager (ECM) and a node, which carries many clients'
//! connections as streams and survives its TCP connection. `docs/link.md` has the wire format and the reasons.
//!
//! [`Dialer`] and [`Acceptor`] are the two ends of a connection's handshake, [`Link`] is either end of what the connections
//! carry. Knows nothing of sockets, of what the streams' bytes mean, or of where randomness comes from.

mod config;
mod decoder;
mod error;
mod event;
mod frame;
mod handshake;
mod machine;
mod open;
mod outbound;
mod resend;
mod secret;
mod table;

pub use config::{Config, ConfigError, Params};
pub use error::{Cause, Failure, Fault, PeerError, Refusal};
pub use event::{Event, OpenError, ResumeError, SendError, Side};
pub use frame::{End, GoAway, HEADER, Reason};
pub use handshake::{Acceptor, Dial, Dialer, Nonce, Peer, Request, Welcome};
pub use machine::Link;
pub use open::{MAX_OPEN, Open};
pub use secret::{Secret, TooShort};

/// The one version of the protocol that there is.
pub const VERSION: u16 = 1;

/// Bytes of the longest name of an ECM, a node or a listener.
pub const MAX_NAME: usize = 128;

/// What an ECM calls a link: 16 bytes from a cryptographic source, new for each link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkId(pub [u8; 16]);
