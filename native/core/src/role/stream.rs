//! An XMPP stream: before it has an owner, and with one, who reads it.
//!
//! What the bytes mean, and how long the peer may take, is the machine's (`megaphone_proto::stream`). Until a valid header
//! is there the reactor reads; then the owner does, by [`StreamRole::recv`], on its own thread. The reactor only finds
//! out that there is something, and says so once.

use super::{Next, ask_for_owner};
use crate::attached::{WriteOutcome, Writers};
use crate::cx::Cx;
use crate::error::Error;
use crate::host::{Event, Host, Owned};
use crate::id::Conn;
use crate::outbound::BYTES_A_HOLD;
use crate::settings::{Effort, Pulled, RequestFacts, XmppId};
use crate::transport::Transport;
use bytes::{Buf, Bytes};
use megaphone_proto::stream::{Framing, Rate, Sent, Stream};
use megaphone_proto::time::Time;
use std::sync::Arc;
use std::time::Duration;

/// Output that is queued before it is written without being asked for.
const FLUSH_AT: usize = 64 * 1024;

/// How long an owner that waits is taken for awake: about as long as until a c2s hibernates.
const AWAKE: Duration = Duration::from_secs(1);
/// Bytes that are looked at for signs of life.
const SIGNS: usize = 256;

enum State<H: Host> {
    /// A header is expected.
    Opening,
    /// It is there, and the starter was told.
    Starting,
    Owned {
        owner: H::Process,
        /// It has been given everything, since when, and is told of more.
        waits_since: Option<Time>,
    },
}

pub(crate) struct StreamRole<H: Host> {
    machine: Stream,
    state: State<H>,
    writers: Writers<H>,
    /// Until there is an owner.
    request: Option<Box<RequestFacts>>,
}

impl<H: Host> StreamRole<H> {
    pub(crate) fn tcp(transport: &Transport<H>, cx: &Cx<'_, H>) -> Self {
        Self::new(Stream::tcp(Arc::clone(&transport.listener.stream.read()), cx.now()), None)
    }

    pub(crate) fn websocket(transport: &Transport<H>, cx: &Cx<'_, H>, request: RequestFacts) -> Self {
        let machine = Stream::websocket(Arc::clone(&transport.listener.stream.read()), cx.now());
        Self::new(machine, Some(Box::new(request)))
    }

    fn new(machine: Stream, request: Option<Box<RequestFacts>>) -> Self {
        Self { machine, state: State::Opening, writers: Writers::default(), request }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.state {
            State::Opening => "parked",
            State::Starting => "starting",
            State::Owned { .. } => "running",
        }
    }

    pub(crate) fn transport_name(&self) -> &'static str {
        match self.machine.framing() {
            Framing::Tcp => "tcp",
            Framing::WebSocket | Framing::LegacyWebSocket => "websocket",
        }
    }

    pub(crate) fn id(&self, conn: Conn) -> XmppId {
        match self.machine.framing() {
            Framing::Tcp => XmppId::Tcp(conn),
            Framing::WebSocket | Framing::LegacyWebSocket => XmppId::WebSocket(conn),
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.machine.framing()
    }

    pub(crate) fn request(&self) -> Option<&RequestFacts> {
        self.request.as_deref()
    }

    pub(crate) fn owner(&self) -> Option<H::Process> {
        match self.state {
            State::Owned { owner, .. } => Some(owner),
            State::Opening | State::Starting => None,
        }
    }

    // --- the reactor's

    pub(crate) fn on_input(
        &mut self,
        transport: &mut Transport<H>,
        cx: &mut Cx<'_, H>,
        buffer: &mut [u8],
    ) -> Next<H> {
        match self.state {
            State::Opening => self.open(transport, cx, buffer),
            State::Starting => Next::Keep,
            State::Owned { waits_since, .. } => {
                // One that was busy just now is awake, and cheap to wake.
                let is_asleep = waits_since.is_some_and(|at| cx.now().since(at) >= AWAKE);
                if is_asleep && transport.may_read() && self.wanted(transport, cx) > 0 {
                    self.take_signs_of_life(transport, cx, buffer);
                }
                self.wake_if_due(transport, cx);
                Next::Keep
            }
        }
    }

    /// To wake an owner costs some 20 microseconds, and its heap: not for white space and pongs, which come from every
    /// client now and then.
    fn take_signs_of_life(&mut self, transport: &mut Transport<H>, cx: &Cx<'_, H>, buffer: &mut [u8]) {
        let most = buffer.len().min(SIGNS);
        // An end or an error shows when the owner reads.
        let Ok(n @ 1..) = transport.carrier.peek(&mut buffer[..most]) else { return };
        if self.machine.is_sign_of_life(&buffer[..n]) {
            self.feed(transport, cx, &mut buffer[..n]);
            // These were all, or there will be another edge.
            transport.flags.readable = n == most || transport.flags.reads_to_the_end;
            transport.deadline = self.machine.poll_timeout();
        }
    }

    /// Is there a stream that is worth an owner? A peer that says nothing but pings is read a measure at a time.
    fn open(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>, buffer: &mut [u8]) -> Next<H> {
        self.feed(transport, cx, buffer);
        if self.machine.is_over() {
            return Next::Close { lingers: transport.fault.is_none() };
        }
        if self.machine.has_event() {
            self.state = State::Starting;
            let id = self.id(cx.conn);
            ask_for_owner(transport, cx, Some(id));
            return Next::Keep;
        }
        transport.deadline = self.machine.poll_timeout();
        Next::look_if(transport.may_read() && self.wanted(transport, cx) > 0)
    }

    /// One of the deadlines is over.
    pub(crate) fn on_timeout(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Next<H> {
        let now = cx.now();
        match self.state {
            State::Starting => {
                cx.shared.notices.start_timeout(cx.sink, transport.listener.id);
                return Next::Gone;
            }
            // A pong may lie unread among what else was sent.
            State::Owned { waits_since: None, .. } => self.machine.handle_delay(now),
            State::Owned { .. } | State::Opening => {}
        }
        self.machine.handle_timeout(now);
        self.transmit(transport);
        transport.deadline = self.machine.poll_timeout();
        if self.machine.is_over() {
            return Next::Close { lingers: true };
        }
        self.wake_if_due(transport, cx);
        Next::look_if(matches!(self.state, State::Opening) && transport.may_read())
    }

    /// Output has left.
    pub(crate) fn on_room(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) {
        if transport.outbound.len() <= transport.listener.config.options.low_watermark {
            self.writers.wake(cx);
        }
        self.wake_if_due(transport, cx);
    }

    /// Tells an owner that waits that there is something for it.
    fn wake_if_due(&mut self, transport: &Transport<H>, cx: &mut Cx<'_, H>) {
        let (is_due, id) = (self.is_due(transport, cx), self.id(cx.conn));
        if let State::Owned { owner, waits_since } = &mut self.state
            && waits_since.is_some()
            && is_due
        {
            *waits_since = None;
            cx.sink.emit(Event::XmppReady { to: *owner, id });
        }
    }

    fn is_due(&self, transport: &Transport<H>, cx: &Cx<'_, H>) -> bool {
        let has_input = !transport.inbound.is_empty() || transport.flags.readable || transport.flags.ended;
        self.machine.has_event() || self.machine.is_pending() || (has_input && self.wanted(transport, cx) > 0)
    }

    // --- input, on either's thread

    /// How many bytes may be read. A peer that doesn't read the answers to its pings is not read either.
    fn wanted(&self, transport: &Transport<H>, cx: &Cx<'_, H>) -> usize {
        let most = transport.listener.config.options.high_watermark.max(FLUSH_AT);
        let has_room = transport.outbound.len() < most || transport.fault.is_some();
        if has_room { self.machine.wanted(cx.now()) } else { 0 }
    }

    /// Gives the machine what is there, up to an event, and reads once at most.
    fn feed(&mut self, transport: &mut Transport<H>, cx: &Cx<'_, H>, buffer: &mut [u8]) {
        let now = cx.now();
        if !transport.inbound.is_empty() || self.machine.is_pending() {
            let mut rest = &transport.inbound[..];
            self.machine.handle_input(&mut rest, now);
            let taken = transport.inbound.len() - rest.len();
            transport.inbound.advance(taken);
            transport.release_inbound();
        }
        let most = self.wanted(transport, cx).min(buffer.len());
        if transport.inbound.is_empty() && most > 0 && transport.may_read() {
            let n = transport.read(&mut buffer[..most]);
            let mut rest = &buffer[..n];
            self.machine.handle_input(&mut rest, now);
            transport.inbound.extend_from_slice(rest);
        }
        if transport.flags.ended && transport.inbound.is_empty() && !self.machine.has_event() {
            self.machine.handle_end(now);
        }
        self.transmit(transport);
    }

    fn transmit(&mut self, transport: &mut Transport<H>) {
        let mut out = Vec::new();
        if self.machine.poll_transmit(&mut out) {
            transport.write_own(&out);
        }
    }

    // --- the owner's

    /// Somebody was started to have the stream. False when it has ended already: then nobody has.
    pub(crate) fn started(
        &mut self,
        transport: &mut Transport<H>,
        cx: &mut Cx<'_, H>,
        owner: H::Process,
    ) -> bool {
        if !matches!(self.state, State::Starting) || !cx.sink.watch(owner, Owned::Connection(cx.conn)) {
            return false;
        }
        self.request = None;
        self.machine.attach(cx.now());
        transport.deadline = self.machine.poll_timeout();
        self.state = State::Owned { owner, waits_since: Some(cx.now()) };
        self.wake_if_due(transport, cx);
        true
    }

    /// Whether it waits for its owner.
    pub(crate) fn is_starting(&self) -> bool {
        matches!(self.state, State::Starting)
    }

    /// Gives the owner what has come, a measure at a time. By asking it says that it has dealt with everything before.
    pub(crate) fn recv(
        &mut self,
        transport: &mut Transport<H>,
        cx: &mut Cx<'_, H>,
        effort: Effort,
        buffer: &mut [u8],
    ) -> (Pulled, Next<H>) {
        self.machine.resume();
        let mut pulled = Pulled::default();
        let most = buffer.len().min(effort.bytes());
        let buffer = &mut buffer[..most];
        let mut read = transport.traffic.received;
        let until = read + effort.bytes() as u64;
        loop {
            self.feed(transport, cx, buffer);
            let is_late = transport.traffic.received == read || transport.traffic.received >= until;
            read = transport.traffic.received;
            while self.machine.has_event() && pulled.has_room(self.machine.event_bytes(), effort) {
                pulled.events.extend(self.machine.poll_event().map(Into::into));
                if !transport.inbound.is_empty() || self.machine.is_pending() {
                    self.feed(transport, cx, &mut []);
                }
            }
            if is_late || self.machine.has_event() || !transport.may_read() {
                break;
            }
        }
        let pushed = transport.push();
        transport.deadline = self.machine.poll_timeout();
        if self.machine.is_over() {
            return (pulled, Next::Close { lingers: pushed.is_ok() });
        }
        // Behind a barrier nothing is due until the owner asks again, which it does when it has dealt with this.
        pulled.has_more = self.is_due(transport, cx) || self.machine.is_blocked();
        if let State::Owned { waits_since, .. } = &mut self.state {
            *waits_since = (!pulled.has_more).then(|| cx.now());
        }
        (pulled, transport.look_if_unsent().into())
    }

    /// Queues what the owner sends, or registers its waiter when too much is queued.
    pub(crate) fn send(
        &mut self,
        transport: &mut Transport<H>,
        process: H::Process,
        (bytes, sent): (Vec<u8>, Sent),
        waiter: impl FnOnce() -> H::Waiter,
    ) -> Result<WriteOutcome, Error> {
        // Nothing may follow a WebSocket's close frame.
        if self.owner() != Some(process) || transport.flags.write_shut || !self.machine.may_send() {
            return Err(Error::Closed);
        }
        let high_watermark = transport.listener.config.options.high_watermark.max(1);
        if transport.outbound.len() >= high_watermark {
            transport.push()?;
            if transport.outbound.len() >= high_watermark {
                self.writers.add(process, waiter());
                return Ok(WriteOutcome::Wait);
            }
        }
        self.machine.sent(sent);
        if bytes.len() < BYTES_A_HOLD {
            transport.traffic.count_write(bytes.len());
            transport.outbound.queue(&bytes);
            transport.flags.unflushed = true;
        } else {
            transport.queue_chunk(Bytes::from(bytes));
        }
        if transport.outbound.len() >= FLUSH_AT {
            transport.push()?;
        }
        Ok(WriteOutcome::Done)
    }

    /// The owner no longer waits for room.
    pub(crate) fn cancel_wait(&mut self, process: H::Process) -> bool {
        self.writers.cancel(process)
    }

    /// The owner wants the next stream on this connection.
    pub(crate) fn restart(&mut self) {
        self.machine.restart();
    }

    /// From now on the peer's bytes are taken no faster than that.
    pub(crate) fn shape(&mut self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>, rate: Option<Rate>) {
        self.machine.set_rate(rate, cx.now());
        transport.deadline = self.machine.poll_timeout();
        self.wake_if_due(transport, cx);
    }

    /// The stream's last words, when our side closes.
    pub(crate) fn say_goodbye(&mut self, transport: &mut Transport<H>) {
        let mut out = Vec::new();
        self.machine.close(&mut out);
        if !transport.flags.write_shut {
            transport.outbound.queue(&out);
        }
        transport.flags.unflushed |= !transport.outbound.is_empty();
        // An error is the end that was coming anyway.
        let _ = transport.push();
    }

    /// Nobody has the stream from here on.
    pub(crate) fn detach(&mut self, cx: &mut Cx<'_, H>) {
        self.writers.wake(cx);
        if let State::Owned { owner, .. } = self.state {
            cx.sink.unwatch(owner, Owned::Connection(cx.conn));
            cx.conn = cx.conn.next_generation();
            self.state = State::Opening;
        }
    }

    /// The connection goes although the owner has not heard of it.
    pub(crate) fn tell_of_end(&mut self, cx: &mut Cx<'_, H>) {
        if let State::Owned { owner, waits_since: Some(_) } = self.state {
            cx.sink.emit(Event::XmppReady { to: owner, id: self.id(cx.conn) });
        }
    }
}
