//! One connection: what was received, what is to be sent, who has it, and what happens next.
//!
//! Everything here runs with the connection locked, on its reactor thread or on the thread of a caller. Only
//! the reactor reads from the source. A method that changes the state ends in [`Fate`], which says what the
//! one who holds the lock has to do.

use crate::Error;
use crate::clock::Tick;
use crate::effect::Effect;
use crate::host::{Event, Host, Owned, Sink};
use crate::id::Conn;
use crate::link::Link;
use crate::listener::Listener;
use crate::options::{Active, SocketOptions};
use crate::outbound::Outbound;
use crate::source::Source;
use crate::stats::{ConnectionInfo, Traffic};
use crate::system::System;
use bytes::BytesMut;
use megaphone_proto::http::{CONTINUE, Progress, RequestError, Requests};
use megaphone_proto::packet::Packet;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod bosh;
mod closing;
mod owning;
mod raw;
mod read;
mod requests;
mod service;
mod setting;
mod write;
mod xmpp;

/// How long a peer may take to close its side after we closed ours, before unread bytes make us reset.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes that a peer may still send meanwhile.
const LINGER_BYTES: usize = 1024 * 1024;
/// How long a peer may take none of the output that is left once its owner is gone.
const DRAIN: Duration = Duration::from_secs(30);
/// Reads at a turn; then other connections have theirs.
const READS_A_TURN: usize = 16;

/// What a read gives.
pub enum Received<'a> {
    /// Raw bytes.
    Bytes(&'a [u8]),
    /// A packet, in a packet mode.
    Packet(&'a Packet<'a>),
}

/// How a read ended.
#[derive(Debug)]
pub enum ReadOutcome<R> {
    /// What the caller made of the data.
    Data(R),
    /// Nothing there: the caller's waiter is registered.
    Wait {
        /// At a request boundary: park after waiting so long.
        park_after: Option<Duration>,
    },
}

/// How a look for data ended.
#[derive(Debug)]
pub enum PollOutcome<R> {
    /// What the caller made of the data.
    Data(R),
    /// Nothing there, but it may come soon: look again for a while, then wait.
    Soon,
    /// Nothing there: wait.
    Nothing,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// All was taken.
    Done,
    /// Nothing was taken: too much is queued. The caller's waiter is registered.
    Wait,
}

/// What to do about a `sendfile`.
#[derive(Debug)]
pub enum SendfileOutcome {
    /// Send to this descriptor, not holding anything.
    Go(OwnedFd),
    /// The caller's waiter is registered.
    Wait,
}

/// What becomes of a connection after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Fate {
    Keep,
    /// The reactor should look at it (again): it may have to read, to set a timer, to discard.
    Look,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Request mode, no handler.
    Waiting(Stage),
    /// The starter was told.
    Starting,
    /// Somebody has it.
    Running,
    /// Its request wants a BOSH session, which is being made.
    Asking(bosh::Manners),
    /// Its request waits for the session's answer.
    Held { session: Conn, manners: bosh::Manners },
    /// For an `accept`.
    Queued,
    /// Given up by its owner: output leaves, then it closes.
    Draining { lingers: bool },
    /// Our side is closed; what the peer sends is discarded until it closes too.
    Lingering { discarded: usize },
}

/// Which deadline runs while there is no handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Idle,
    Head,
    Body,
    /// A request that no handler is needed for waits for its body, or for the answer before its own to leave.
    Service,
}

#[derive(Clone, Copy, Default)]
struct Flags {
    /// The kernel may have bytes: told by an edge, true until a read says otherwise.
    readable: bool,
    /// The peer closed its side: a short read is not the last one.
    hung_up: bool,
    /// The source has ended.
    ended: bool,
    /// Our side was or will be closed.
    write_shut: bool,
    /// It is to be closed when the queue is empty.
    shut_after_flush: bool,
    /// The reactor has been told to look.
    noticed: bool,
    /// The socket has a linger time.
    lingers_on_close: bool,
    /// The last wait for this peer was a short one.
    prompt: bool,
    /// Output was queued and the socket not tried.
    unflushed: bool,
}

/// What the bytes are.
enum Engine {
    /// The owner's business.
    Raw,
    /// Requests.
    Http(Requests),
    /// An XMPP stream.
    Xmpp(Box<Link>),
}

/// A connection's record. Its size is what a parked connection costs.
pub(crate) struct Connection<H: Host> {
    source: Source,
    listener: Arc<Listener<H>>,
    engine: Engine,
    /// Received and not delivered. Nothing is allocated while it is empty.
    inbound: BytesMut,
    outbound: Outbound,
    /// Exists while somebody has the connection.
    attached: Option<Box<Attached<H>>>,
    traffic: Traffic,
    /// 0: none.
    deadline: Tick,
    /// When the wheel will look. 0: not at all.
    timer_at: Tick,
    phase: Phase,
    flags: Flags,
    /// How the source ended, unless in good order.
    fault: Option<Errno>,
}

struct Attached<H: Host> {
    owner: H::Process,
    options: SocketOptions,
    reader: Option<Reader<H>>,
    writers: Vec<(H::Process, H::Waiter)>,
    monitors: Vec<(u64, H::Waiter)>,
    /// Packet mode `http`: header fields come next.
    in_headers: bool,
}

struct Reader<H: Host> {
    process: H::Process,
    waiter: H::Waiter,
    /// Bytes that it needs; 0 is any.
    wants: usize,
    /// It waits for a next request.
    at_boundary: bool,
    since: Instant,
}

/// What a step needs to know of its surroundings.
pub(crate) struct Cx<'a, H: Host> {
    pub(crate) system: &'a System<H>,
    /// The connection's name; changes when its handler is detached.
    pub(crate) conn: Conn,
    pub(crate) sink: &'a mut dyn Sink<H>,
    /// What is to be done when the lock is released.
    pub(crate) effects: &'a mut Vec<Effect<H>>,
}

impl<H: Host> Connection<H> {
    pub(crate) fn new(source: Source, listener: Arc<Listener<H>>) -> Self {
        use crate::Mode;
        let phase = match listener.config.mode {
            Mode::Http | Mode::Xmpp => Phase::Waiting(Stage::New),
            Mode::Raw => Phase::Starting,
            Mode::Accept => Phase::Queued,
        };
        let engine = match listener.config.mode {
            Mode::Http => Engine::Http(Requests::new()),
            Mode::Xmpp => Engine::Xmpp(Box::new(Link::stream())),
            Mode::Raw | Mode::Accept => Engine::Raw,
        };
        Self {
            source,
            engine,
            listener,
            inbound: BytesMut::new(),
            outbound: Outbound::default(),
            attached: None,
            traffic: Traffic::default(),
            deadline: 0,
            timer_at: 0,
            phase,
            flags: Flags::default(),
            fault: None,
        }
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn listener(&self) -> &Arc<Listener<H>> {
        &self.listener
    }

    pub(crate) fn owner(&self) -> Option<H::Process> {
        self.attached.as_ref().map(|attached| attached.owner)
    }

    /// It waits for its handler, who may close it before doing anything else.
    pub(crate) fn is_starting(&self) -> bool {
        self.phase == Phase::Starting
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic
    }

    pub(crate) fn queued(&self) -> usize {
        self.outbound.len()
    }

    /// True once for any number of calls, until the reactor has looked.
    pub(crate) fn notice(&mut self) -> bool {
        !std::mem::replace(&mut self.flags.noticed, true)
    }

    pub(crate) fn info(&self) -> ConnectionInfo<H::Process> {
        ConnectionInfo {
            listener: self.listener.id,
            phase: match self.phase {
                Phase::Waiting(Stage::New | Stage::Idle) => "parked",
                Phase::Waiting(Stage::Head | Stage::Body | Stage::Service) => "reading",
                Phase::Asking(_) | Phase::Held { .. } => "held",
                Phase::Starting => "starting",
                Phase::Running => "running",
                Phase::Queued => "queued",
                Phase::Draining { .. } => "draining",
                Phase::Lingering { .. } => "lingering",
            },
            owner: self.owner(),
            is_http: self.requests().is_some(),
            transport: self.link().map(|link| if link.is_websocket() { "websocket" } else { "tcp" }),
            inbound: self.inbound.len(),
            outbound: self.outbound.len(),
            traffic: self.traffic,
        }
    }

    /// The first step of a new connection, on its reactor's or the acceptor's thread.
    pub(crate) fn begin(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        match self.phase {
            Phase::Waiting(_) => self.settle(cx),
            Phase::Starting => self.start(cx),
            _ => Fate::Keep,
        }
    }

    /// The reactor's step: the source may be readable or writable, or somebody asked for a look.
    pub(crate) fn serve(&mut self, cx: &mut Cx<'_, H>, ready: Readiness, buf: &mut [u8]) -> Fate {
        self.flags.noticed = false;
        self.flags.readable |= ready.readable;
        self.flags.hung_up |= ready.hung_up;
        if ready.writable && self.flush(cx) == Fate::Gone {
            return Fate::Gone;
        }
        let mut last = Fate::Keep;
        for turn in 0..READS_A_TURN {
            if !self.flags.readable || !self.wants_input() {
                // A write may have found the end of the source: whoever reads has to learn of it.
                if turn > 0 && self.fault.is_none() {
                    return last;
                }
                // What was read ahead may have been used up just now: then there is room for what was left behind.
                return match self.settle(cx) {
                    Fate::Keep => self.look_if_room(),
                    fate => fate,
                };
            }
            self.read_source(buf, cx.system.now());
            last = self.settle(cx);
            if last == Fate::Gone {
                return Fate::Gone;
            }
        }
        Fate::Look
    }

    /// Bytes are read ahead of the one who wants them, up to the high watermark.
    fn wants_input(&self) -> bool {
        if self.flags.ended {
            return false;
        }
        match self.phase {
            Phase::Waiting(Stage::Service) => self.is_body_missing(),
            // What is there may be the next request, whole.
            Phase::Waiting(Stage::New) if self.requests().is_some() => self.inbound.is_empty(),
            Phase::Waiting(_) => self.has_room_for_answers(),
            Phase::Lingering { .. } => true,
            Phase::Starting | Phase::Queued | Phase::Asking(_) | Phase::Held { .. } => {
                self.inbound.len() < self.listener.config.options.recv_high_watermark
            }
            Phase::Running => {
                let Some(attached) = &self.attached else { return false };
                if let Some(link) = self.link() {
                    let has_room = self.inbound.len() < attached.options.recv_high_watermark;
                    let may_read = link.is_open() && link.resume_at == 0;
                    return may_read && has_room && self.has_room_for_answers();
                }
                match &attached.reader {
                    // A request that is being collected has bounds of its own, as without a handler.
                    Some(reader) if reader.at_boundary => true,
                    reader => {
                        let wanted = reader.as_ref().map_or(0, |reader| reader.wants);
                        let packet = attached.options.longest_packet();
                        self.inbound.len() < attached.options.recv_high_watermark.max(wanted).max(packet)
                    }
                }
            }
            Phase::Draining { .. } => false,
        }
    }

    /// The reactor should read: bytes were left in the kernel and now there is room.
    fn should_read(&self) -> bool {
        self.flags.readable && self.wants_input()
    }

    fn read_source(&mut self, buf: &mut [u8], now: Tick) {
        let size = self.read_size(buf.len());
        let buf = &mut buf[..size];
        match self.source.read(buf) {
            Ok(0) => self.flags.ended = true,
            Ok(n) => {
                // A stream socket that gave less than it could has nothing more, unless its end follows.
                self.flags.readable = n == buf.len() || self.flags.hung_up;
                self.traffic.count_read(n);
                self.stream_received(n, now);
                if let Phase::Lingering { discarded } = &mut self.phase {
                    *discarded += n;
                } else {
                    self.inbound.extend_from_slice(&buf[..n]);
                }
            }
            Err(Errno::AGAIN) => self.flags.readable = false,
            Err(errno) => self.fail(errno),
        }
    }

    /// The source broke: nothing more comes, nothing more goes.
    fn fail(&mut self, errno: Errno) {
        self.fault.get_or_insert(errno);
        self.flags.ended = true;
        self.flags.write_shut = true;
        self.outbound = Outbound::default();
    }

    /// Does what the bytes at hand allow.
    fn settle(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        match self.phase {
            Phase::Waiting(_) if self.link().is_some() => self.settle_stream_start(cx),
            Phase::Waiting(_) => self.settle_waiting(cx),
            Phase::Running => match self.engine {
                Engine::Http(_) => self.settle_reader(cx),
                Engine::Xmpp(_) => self.settle_stream(cx),
                Engine::Raw => self.settle_raw(cx),
            },
            // Its answer is kept for the client to ask for again.
            Phase::Asking(_) | Phase::Held { .. } if self.flags.ended => self.begin_close(cx, false),
            Phase::Lingering { discarded } if self.flags.ended || discarded > LINGER_BYTES => Fate::Gone,
            _ => Fate::Keep,
        }
    }

    fn release_inbound(&mut self) {
        if self.inbound.is_empty() && self.inbound.capacity() > 0 {
            self.inbound = BytesMut::new();
        }
    }

    /// Asks for a handler.
    fn start(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        self.phase = Phase::Starting;
        self.deadline = cx.system.deadline(self.listener.config.start_timeout);
        // Without a starter the deadline ends it, and the log is told.
        if let Some(to) = *self.listener.starter.read() {
            let listener = self.listener.id;
            cx.sink.emit(match self.xmpp_id(cx.conn) {
                None => Event::Start { to, listener, conn: cx.conn },
                Some(id) => Event::StartXmpp { to, listener, id },
            });
        }
        Fate::Keep
    }

    /// Output of ours, which no sender waits for.
    fn write_own(&mut self, bytes: &[u8]) {
        match self.outbound.write(&self.source, bytes) {
            Ok(written) => self.traffic.sent += written as u64,
            Err(errno) => self.fail(errno),
        }
    }

    fn requests(&self) -> Option<&Requests> {
        match &self.engine {
            Engine::Http(requests) => Some(requests),
            Engine::Raw | Engine::Xmpp(_) => None,
        }
    }

    fn requests_mut(&mut self) -> Option<&mut Requests> {
        match &mut self.engine {
            Engine::Http(requests) => Some(requests),
            Engine::Raw | Engine::Xmpp(_) => None,
        }
    }

    fn options(&self) -> &SocketOptions {
        self.attached.as_ref().map_or(&self.listener.config.options, |attached| &attached.options)
    }

    /// The end of the input, as the one who reads is told.
    fn end(&self) -> Error {
        match self.fault {
            Some(Errno::CONNRESET) if self.options().show_econnreset => Error::Os(Errno::CONNRESET),
            Some(errno) if errno != Errno::CONNRESET && errno != Errno::PIPE => Error::Os(errno),
            _ => Error::Closed,
        }
    }
}

/// What the kernel said of a source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) hung_up: bool,
}
