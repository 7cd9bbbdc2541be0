//! Listening sockets, and what their connections have in common.

use crate::carrier::Address;
use crate::host::Host;
use crate::id::{Conn, ListenerId};
use crate::link_registry::Gate;
use crate::options::SocketOptions;
use crate::proxy::ProxyProtocol;
use crate::settings::{Route, Service, XmppConfig};
use megaphone_proto::http::Limits;
use megaphone_proto::proxy;
use megaphone_proto::time::Time;
use megaphone_proto::{bosh, stream};
use parking_lot::{Mutex, RwLock};
use rustix::fd::OwnedFd;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What becomes of an accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A handler starts at once and gets bytes.
    Raw,
    /// A handler starts when a request is complete, and gets one request at a time.
    Http,
    /// An XMPP stream is expected; an owner starts when its header is there.
    Xmpp,
    /// It waits for somebody to accept it.
    Accept,
}

/// How the connections of one listener are treated.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// By which streams of links ask for it. Of listeners with one name the newest that is open has them. Default none: only the socket's connections come here.
    pub name: Option<String>,
    /// What becomes of an accepted connection.
    pub mode: Mode,
    /// Backlog of the listening socket. Default 4096; the kernel's `somaxconn` is above it.
    pub backlog: i32,
    /// Bounds on one request.
    pub limits: Limits,
    /// From the first byte of a head to its last, not restarted by a byte. Default 30 s.
    pub head_timeout: Duration,
    /// The same for a body that is collected. Default 60 s.
    pub body_timeout: Duration,
    /// How long a parked connection may be silent. Default 300 s.
    pub idle_timeout: Duration,
    /// How long a handler waits for a next request before its connection is parked. Default 100 ms.
    pub handler_linger: Duration,
    /// How long a connection may wait for its handler to be started. Default 30 s.
    pub start_timeout: Duration,
    /// A read without a length asks for the next request when the head has been delivered; body bytes are
    /// only given to a read with a length, as `ejabberd_http` reads them. Default false.
    pub zero_ends_request: bool,
    /// In mode XMPP: bytes of one stanza; as many are already too many. Default 262,144.
    pub max_stanza: usize,
    /// In mode HTTP: requests that need no handler.
    pub routes: Vec<Route>,
    /// In mode HTTP: whole header lines, with their ends, for answers that need no handler; they replace those of the
    /// same name.
    pub response_headers: Vec<u8>,
    /// Connections begin with a PROXY header, and have its addresses. Not in mode Accept. Default none: they do not.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// In mode Raw with `proxy_protocol`: the handler of a connection that the proxy has opened for itself starts with the
    /// first byte behind the header, and until then it may be silent as long as the header may take. So a check that
    /// somebody listens starts none. Default false: it starts behind the header.
    pub local_awaits_input: bool,
    /// The socket is the owner's alone: at its end nothing listens any more, though another descriptor of the socket may be
    /// closed later. Default false: who has another descriptor goes on.
    pub shut_with_owner: bool,
    /// Of every connection.
    pub options: SocketOptions,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            name: None,
            mode: Mode::Raw,
            backlog: 4096,
            limits: Limits::default(),
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(300),
            handler_linger: Duration::from_millis(100),
            start_timeout: Duration::from_secs(30),
            zero_ends_request: false,
            max_stanza: 262_144,
            routes: Vec::new(),
            response_headers: Vec::new(),
            proxy_protocol: None,
            local_awaits_input: false,
            shut_with_owner: false,
            options: SocketOptions::default(),
        }
    }
}

/// Figures of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerInfo {
    /// Connections that it accepted, or that streams of links became; on a link listener, links.
    pub accepted: u64,
    /// Those of them that are open.
    pub connections: usize,
    /// It waits for connections to be closed before it accepts more.
    pub is_paused: bool,
    /// It still has its socket.
    pub is_open: bool,
}

pub(crate) struct Listener<H: Host> {
    pub(crate) id: ListenerId,
    pub(crate) config: ListenerConfig,
    /// Its connections are links.
    pub(crate) gate: Option<Gate>,
    /// The shard whose reactor accepts.
    pub(crate) shard: usize,
    /// None once it is closed.
    pub(crate) fd: Mutex<Option<OwnedFd>>,
    /// Who starts handlers.
    pub(crate) starter: RwLock<Option<H::Process>>,
    pub(crate) queue: Mutex<AcceptQueue<H>>,
    pub(crate) accepted: AtomicU64,
    pub(crate) connections: AtomicUsize,
    pub(crate) is_paused: AtomicBool,
    /// Paused for want of room, and the log was told.
    pub(crate) is_short: AtomicBool,
    /// The listening socket has a linger time, which accepted ones inherit.
    pub(crate) lingers: bool,
    /// Header lines of answers by the library itself: the listener's own, and where BOSH is served those that let a page
    /// of any origin read them.
    pub(crate) error_fields: Vec<u8>,
    /// Settings of the streams that begin here.
    pub(crate) stream: RwLock<Arc<stream::Config>>,
    /// What its direct connections share, while there are any.
    ingress: Mutex<Weak<Ingress<H>>>,
}

/// Accepted connections that wait for somebody, or somebody who waits for them. Both only while somebody who
/// was woken has not asked again.
pub(crate) struct AcceptQueue<H: Host> {
    pub(crate) ready: VecDeque<Conn>,
    pub(crate) waiters: VecDeque<Acceptor<H>>,
    /// When one of them was woken, until one has asked again: who dies in between leaves the connection to the next.
    pub(crate) woken_at: Option<Time>,
}

pub(crate) struct Acceptor<H: Host> {
    pub(crate) process: H::Process,
    pub(crate) waiter: H::Waiter,
}

impl<H: Host> Listener<H> {
    /// Accepted connections that may wait for an `accept` before the kernel's backlog has to hold them.
    pub(crate) const MAX_QUEUED: usize = 128;

    pub(crate) fn new(
        id: ListenerId,
        shard: usize,
        fd: OwnedFd,
        (config, gate): (ListenerConfig, Option<Gate>),
        xmpp: &XmppConfig,
    ) -> Self {
        let linger = rustix::net::sockopt::socket_linger(&fd);
        Self {
            lingers: linger.is_ok_and(|linger| linger.is_some()),
            error_fields: error_fields(&config),
            stream: RwLock::new(stream_config(&config, xmpp)),
            ingress: Mutex::new(Weak::new()),
            id,
            config,
            gate,
            shard,
            fd: Mutex::new(Some(fd)),
            starter: RwLock::new(None),
            queue: Mutex::new(AcceptQueue {
                ready: VecDeque::new(),
                waiters: VecDeque::new(),
                woken_at: None,
            }),
            accepted: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            is_paused: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
        }
    }

    /// What a connection that it accepts holds on to.
    pub(crate) fn ingress(self: &Arc<Self>) -> Arc<Ingress<H>> {
        let mut shared = self.ingress.lock();
        shared.upgrade().unwrap_or_else(|| {
            let ingress = Arc::new(Ingress::direct(Arc::clone(self)));
            *shared = Arc::downgrade(&ingress);
            ingress
        })
    }

    /// Somebody waits for a connection.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.queue.lock().waiters.is_empty()
    }

    pub(crate) fn info(&self) -> ListenerInfo {
        ListenerInfo {
            accepted: self.accepted.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            is_paused: self.is_paused.load(Ordering::Relaxed),
            is_open: self.fd.lock().is_some(),
        }
    }

    /// Streams that begin from here on have these settings.
    pub(crate) fn configure(&self, xmpp: &XmppConfig) {
        *self.stream.write() = stream_config(&self.config, xmpp);
    }
}

fn stream_config(config: &ListenerConfig, xmpp: &XmppConfig) -> Arc<stream::Config> {
    let mut stream = xmpp.stream.clone();
    if config.mode == Mode::Xmpp {
        stream.max_stanza = config.max_stanza;
    }
    Arc::new(stream)
}

fn error_fields(config: &ListenerConfig) -> Vec<u8> {
    let serves_bosh = config.routes.iter().any(|route| route.service == Service::Bosh);
    let mut fields = if serves_bosh { bosh::cors_fields(&config.response_headers) } else { Vec::new() };
    fields.extend_from_slice(&config.response_headers);
    fields
}

/// A listener, and between which ends the connection is where its socket does not know: behind a proxy.
///
/// Connections that have come directly share one of their listener's ([`Listener::ingress`]); so the addresses cost
/// nothing where there are none.
pub(crate) struct Ingress<H: Host> {
    listener: Arc<Listener<H>>,
    ends: Option<Ends>,
}

/// What a proxy, or a connection manager, has said for good.
pub(crate) struct Ends {
    pub(crate) peer: Address,
    pub(crate) local: Address,
}

impl<H: Host> Ingress<H> {
    pub(crate) fn direct(listener: Arc<Listener<H>>) -> Self {
        Self { listener, ends: None }
    }

    /// The same listener, by way of a proxy.
    pub(crate) fn proxied(&self, addresses: proxy::Addresses) -> Self {
        let ends = Ends { peer: addresses.source.into(), local: addresses.destination.into() };
        Self { listener: self.listener(), ends: Some(ends) }
    }

    /// By way of a connection manager, which says between which ends.
    pub(crate) fn carried(listener: Arc<Listener<H>>, peer: Address, local: Address) -> Self {
        Self { listener, ends: Some(Ends { peer, local }) }
    }

    pub(crate) fn listener(&self) -> Arc<Listener<H>> {
        Arc::clone(&self.listener)
    }

    pub(crate) fn ends(&self) -> Option<&Ends> {
        self.ends.as_ref()
    }

    /// Bytes of memory that are this connection's alone.
    pub(crate) fn bytes(&self) -> usize {
        // Beside the two counts of an `Arc`.
        if self.ends.is_some() { size_of::<Self>() + 2 * size_of::<usize>() } else { 0 }
    }
}

/// Most of what a connection asks is its listener's to answer.
impl<H: Host> Deref for Ingress<H> {
    type Target = Listener<H>;

    fn deref(&self) -> &Listener<H> {
        &self.listener
    }
}
