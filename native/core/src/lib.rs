//! The connection store of Megaphone and the threads that serve it.
//!
//! A [`System`] has some *shards*. Each is a store of connections, one of BOSH sessions, and one *reactor* thread, which
//! accepts, finds what is readable, keeps deadlines and flushes what could not be written at once. Any other thread may
//! call the methods of `System` on a connection or session: each locks that one and nothing else, and none waits for
//! a socket. A reactor never waits for a lock, but for one that is held for as long as it takes to copy some bytes.
//!
//! A connection is a transport and a role: where its bytes go, and what they are. What carries it is a socket, or a stream of
//! a connection manager's link, which is its shard's reactor's.
//!
//! The crate knows no Erlang. Who owns a connection, who waits for it, and how they are told is the
//! [`Host`]'s; what happened is an [`Event`]; which protocol is spoken is `megaphone-proto`'s.
#![forbid(unsafe_code)]

mod acceptor;
mod attached;
mod carrier;
mod clock;
mod connection;
mod cx;
mod desk;
mod effect;
mod ended;
mod ending;
mod engine;
mod entry;
mod error;
#[cfg(feature = "fault-injection")]
mod faults;
mod handshake;
mod host;
mod id;
mod link_registry;
mod links;
mod listener;
mod mailbox;
mod notices;
mod options;
mod outbound;
mod pace;
mod proxy;
mod reactor;
mod role;
mod session;
mod settings;
mod shard;
mod shared;
mod sid;
mod stats;
mod store;
mod stream_end;
mod system;
mod transport;
mod waste;
mod wheel;

pub use attached::{PollOutcome, ReadOutcome, Received, WriteOutcome};
pub use carrier::{Address, Shutdown};
pub use ended::Belongings;
pub use error::Error;
pub use host::{Event, Host, Notice, Owned, ProxyRefusal, Sink};
pub use id::{Conn, ListenerId};
pub use link_registry::{LinkInfo, LinkListenerConfig};
pub use listener::{ListenerConfig, ListenerInfo, Mode};
pub use megaphone_proto::http::{Limits, Path};
pub use megaphone_proto::stream::{Framing, Outgoing, Rate};
pub use megaphone_proto::{bosh, link, pack, packet, proxy as proxy_header, stream, xmpp};
pub use options::{Active, Delivery, Opt, Packets, SocketOptions};
pub use proxy::{Network, ProxyProtocol};
pub use settings::{Effort, Facts, Pulled, RequestFacts, Route, Service, XmppConfig, XmppEvent, XmppId};
pub use stats::{ConnectionInfo, SessionInfo, SystemStats, Traffic};
pub use system::{Config, System};

pub use rustix::io::Errno;
