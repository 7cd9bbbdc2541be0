//! What the core asks of the program that it is part of.

use crate::id::{Conn, ListenerId};
use crate::options::Delivery;
use crate::settings::XmppId;
use megaphone_proto::link::{Cause, Failure};
use megaphone_proto::packet::Packet;
use megaphone_proto::proxy;
use rustix::io::Errno;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;

/// Whoever owns connections: Erlang processes in the NIF.
pub trait Host: Send + Sync + Sized + 'static {
    /// One that can own a connection and receive events.
    type Process: Copy + Eq + Send + Sync + Debug;
    /// A wake-up that was prepared by the one who waits; used once, or dropped.
    type Waiter: Send;

    /// Is it still there? For one who waits and was not watched.
    fn is_alive(&self, process: Self::Process) -> bool;

    /// Where a reactor thread sends its events. Called once a thread.
    fn thread_sink(&self) -> Box<dyn Sink<Self>>;
}

/// What ends with its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owned {
    /// A connection.
    Connection(Conn),
    /// A BOSH session, whose number is no connection's.
    Session(Conn),
    /// A listener. Watched by the host itself, which opened it.
    Listener(ListenerId),
}

/// The way to the host's processes. It depends on the thread, so every operation that may need it is given
/// it. Its methods are called with a connection or a session locked: they must not call back into the system, and take no
/// time.
pub trait Sink<H: Host> {
    /// Sends one event.
    fn emit(&mut self, event: Event<'_, H>);

    /// From now on [`System::process_ended`](crate::System::process_ended) is told of this when `process` ends. False when
    /// it has ended already.
    fn watch(&mut self, process: H::Process, owned: Owned) -> bool;

    /// Takes that back.
    fn unwatch(&mut self, process: H::Process, owned: Owned);
}

/// Something that somebody is to be told.
pub enum Event<'a, H: Host> {
    /// What was waited for may have come: ask again.
    Wake(H::Waiter),
    /// A connection of this listener wants its handler.
    Start {
        /// Who starts handlers.
        to: H::Process,
        /// Who accepted it.
        listener: ListenerId,
        /// Which one.
        conn: Conn,
    },
    /// An XMPP session of this listener wants its owner.
    StartXmpp {
        /// Who starts owners.
        to: H::Process,
        /// Who accepted it.
        listener: ListenerId,
        /// Which one.
        id: XmppId,
    },
    /// Something has come on an XMPP session whose owner had taken everything: it asks what by
    /// [`System::xmpp_recv`](crate::System::xmpp_recv).
    XmppReady {
        /// The owner.
        to: H::Process,
        /// Which one.
        id: XmppId,
    },
    /// Active mode: a packet.
    Data {
        /// The owner.
        to: H::Process,
        /// Whose data it is.
        conn: Conn,
        /// The packet.
        packet: &'a Packet<'a>,
        /// How the owner wants it.
        delivery: Delivery,
    },
    /// Active mode: no more packets until the owner asks for them.
    Passive {
        /// The owner.
        to: H::Process,
        /// The connection.
        conn: Conn,
    },
    /// Active mode: the connection is no more. The last event to its owner.
    Closed {
        /// The owner.
        to: H::Process,
        /// The connection.
        conn: Conn,
        /// Why, unless the peer closed it.
        error: Option<Errno>,
    },
    /// For the log.
    Notice(Notice),
}

/// Something that the operator should know. Each kind is told at most once a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// No more connections are accepted until some are closed.
    AcceptPaused {
        /// Where.
        listener: ListenerId,
        /// Connections now.
        connections: usize,
        /// The descriptors' end, or none when it is the bound `max_connections`.
        error: Option<Errno>,
    },
    /// Accepting goes on.
    AcceptResumed {
        /// Where.
        listener: ListenerId,
    },
    /// `accept(2)` failed in a way that trying again may mend.
    AcceptFailed {
        /// Where.
        listener: ListenerId,
        /// How.
        error: Errno,
    },
    /// A connection could not be watched by the kernel, for want of memory or of `max_user_watches`; it was closed, and
    /// no more are accepted for a moment.
    RegisterFailed {
        /// Where.
        listener: ListenerId,
        /// How.
        error: Errno,
    },
    /// A bug: serving this connection panicked; it was closed, and the thread goes on.
    Panicked {
        /// The connection; none when it happened between connections, or in a BOSH session.
        conn: Option<Conn>,
    },
    /// No handler took the connection in time; it was closed.
    StartTimeout {
        /// Where.
        listener: ListenerId,
    },
    /// A connection had to begin with a PROXY header that is believed, and did not; it was closed. Peers that are not
    /// trusted are one kind, what else is wrong is another.
    ProxyRefused {
        /// Where.
        listener: ListenerId,
        /// Who has connected; none when it has left, or has a unix socket.
        peer: Option<SocketAddr>,
        /// Why.
        why: ProxyRefusal,
    },
    /// A connection manager has a new link.
    LinkUp {
        /// Where.
        listener: ListenerId,
        /// The ECM's name.
        ecm: Arc<str>,
        /// Where it has connected from; none for a unix socket.
        peer: Option<SocketAddr>,
    },
    /// A link has lost its connection, and waits for another.
    LinkCut {
        /// Where that came to.
        listener: ListenerId,
        /// The ECM's name.
        ecm: Arc<str>,
        /// Streams that wait with it.
        streams: usize,
    },
    /// A link has another connection, and goes on where it was.
    LinkResumed {
        /// Where.
        listener: ListenerId,
        /// The ECM's name.
        ecm: Arc<str>,
        /// Where it has connected from; none for a unix socket.
        peer: Option<SocketAddr>,
    },
    /// A link is over, and its streams with it.
    LinkLost {
        /// Where its last connection came to.
        listener: ListenerId,
        /// The ECM's name.
        ecm: Arc<str>,
        /// Streams that end with it.
        streams: usize,
        /// Why.
        cause: Cause,
    },
    /// A connection to a link listener did not become a link's; it was closed.
    LinkRefused {
        /// Where.
        listener: ListenerId,
        /// Who has connected; none for a unix socket.
        peer: Option<SocketAddr>,
        /// Why. A connection that closed before it had said anything, as a probe does, is not told of.
        why: Failure,
    },
}

/// Why a connection to a listener behind a proxy is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyRefusal {
    /// The peer may not speak for others.
    Untrusted,
    /// What it sent is no header.
    Header(proxy::Error),
    /// The header was not complete in time.
    Timeout,
}
