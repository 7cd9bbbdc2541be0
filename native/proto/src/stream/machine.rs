//! The machine: phases of a stream, what its owner is told and may ask for.

use super::deadlines::{Deadlines, Expired};
use super::throttle::Throttle;
use super::transport::{Found, Transport};
use super::{Config, Framing, Outgoing, Rate, Sent, encode, negotiation, refusal};
use crate::time::Time;
use crate::ws::WebSocket;
use crate::xmpp::{self, StreamError};
use std::sync::Arc;

/// What a stream's owner is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What the peer did on the stream.
    Stream(xmpp::Event),
    /// The peer broke the rules of XML streams. Nothing of what it sends is looked at from here on; the owner answers
    /// and closes.
    Error(StreamError),
    /// The peer is gone, or a deadline is over. The last event.
    Closed,
}

/// What is looked for in the peer's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The stream's first header. There is no owner.
    Header,
    /// More of the stream.
    Open,
    /// Nothing: the peer has ended its stream or broken the rules. The owner closes.
    Ended,
    /// Nothing: the peer is gone, which the owner is still to be told.
    Gone,
    /// Nothing, and nobody has to be told anything.
    Over,
}

/// A server's XMPP stream on one connection.
///
/// Calling protocol. What was received goes to [`handle_input`](Self::handle_input), and after each call the event that
/// it made is taken with [`poll_event`](Self::poll_event), until there is none; then
/// [`poll_transmit`](Self::poll_transmit) is asked for what to write. When there was no input but
/// [`is_pending`](Self::is_pending), that is done with empty input. [`handle_timeout`](Self::handle_timeout) is
/// called when the time of [`poll_timeout`](Self::poll_timeout) has come, which may be another after each other call.
/// The end of the peer's bytes goes to [`handle_end`](Self::handle_end).
///
/// A stream begins without an owner. With the first event its header is complete: somebody is started to be
/// the owner, and [`attach`](Self::attach) tells. Until then the stream answers errors by itself. What the owner sends is
/// encoded by [`encode`], queued while [`may_send`](Self::may_send), and told to [`sent`](Self::sent). When the owner has dealt
/// with all events that it was given, it calls [`resume`](Self::resume); when that meant a new stream,
/// [`restart`](Self::restart) before. In the end [`close`](Self::close), or [`is_over`](Self::is_over).
///
/// Behind an element that may change what follows (RFC 6120 sections 5 and 6, XEP-0138) nothing is taken until
/// [`resume`](Self::resume): the barrier. White space that came between it and the header of the next stream belongs to
/// neither.
///
/// A peer is held to its deadlines only while it is listened to: while no event waits, no barrier is up and the throttle has
/// room. Whoever reads late for other reasons says so with [`handle_delay`](Self::handle_delay).
///
/// Holds 80 bytes while idle, and on the heap the namespaces of a header that is not a client's usual one, and a throttle
/// where there is a rate; a WebSocket from before RFC 7395 some 72 bytes more. Else what is half received, one event,
/// and what is to be written.
pub struct Stream {
    config: Arc<Config>,
    transport: Transport,
    work: Option<Box<Work>>,
    throttle: Option<Box<Throttle>>,
    deadlines: Deadlines,
    phase: Phase,
    is_attached: bool,
    is_logged_in: bool,
    /// The owner may have the stream restarted when it has dealt with what it was given last.
    has_barrier: bool,
    /// White space that comes next belongs to no stream.
    skips_space: bool,
    /// Behind the header the parser may hold its end, for which it needs no more bytes.
    is_unsettled: bool,
    is_header_sent: bool,
    is_trailer_sent: bool,
    /// A message was too big: the close code will be 1009.
    is_too_big: bool,
}

/// What there is to hold of a stream that is not idle.
#[derive(Default)]
struct Work {
    event: Option<Event>,
    out: Vec<u8>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let framing = self.framing();
        f.debug_struct("Stream")
            .field("framing", &framing)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// A stream over TCP. The time for its header runs from here.
    pub fn tcp(config: Arc<Config>, now: Time) -> Self {
        Self::new(config, Transport::Tcp(xmpp::Parser::new()), now)
    }

    /// A stream over a WebSocket whose handshake was just accepted. The time for its header runs from here.
    pub fn websocket(config: Arc<Config>, now: Time) -> Self {
        Self::new(config, Transport::WebSocket(WebSocket::new(0)), now)
    }

    fn new(config: Arc<Config>, transport: Transport, now: Time) -> Self {
        let deadlines = Deadlines::due_at(now.after(config.header_timeout));
        Self {
            config,
            transport,
            work: None,
            throttle: None,
            deadlines,
            phase: Phase::Header,
            is_attached: false,
            is_logged_in: false,
            has_barrier: false,
            skips_space: false,
            is_unsettled: false,
            is_header_sent: false,
            is_trailer_sent: false,
            is_too_big: false,
        }
    }

    /// How the stream lies in the connection's bytes. A WebSocket's may turn out with its header, not later.
    pub fn framing(&self) -> Framing {
        self.transport.framing()
    }

    /// Takes bytes off the front of `input` up to the next event. Takes none while an event waits, behind a barrier, or while
    /// the throttle is empty; takes and ignores all once nothing is looked for in them.
    pub fn handle_input(&mut self, input: &mut &[u8], now: Time) {
        self.deadlines.resume.take_if(|at| *at <= now);
        let mut has_looked = false;
        while self.is_listening() && !(has_looked && input.is_empty()) {
            self.take_piece(input, now);
            has_looked = true;
        }
        if !self.is_looking() {
            *input = &[];
        }
    }

    /// The peer has closed its side, and all of its bytes were handled. What is half received is dropped.
    pub fn handle_end(&mut self, _now: Time) {
        if self.is_looking() {
            self.gone();
        }
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come; earlier does no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.phase == Phase::Open && !self.is_listening() {
            // A pong may lie unread among what else was sent.
            self.heard(now);
        }
        match self.deadlines.expired(&self.config, now) {
            Expired::Nothing => {}
            Expired::Due if self.phase == Phase::Header => {
                self.refuse("connection-timeout", "no stream header in time");
            }
            Expired::Due | Expired::Silence => self.gone(),
            Expired::Ping => {
                if let Some(websocket) = self.transport.websocket_mut() {
                    websocket.ping(b"");
                }
            }
        }
    }

    /// What the peer has sent was not read for a while, and not for its fault: it gets its time anew.
    pub fn handle_delay(&mut self, now: Time) {
        if self.phase == Phase::Open {
            self.heard(now);
            if self.deadlines.due.take().is_some() {
                self.renew_due(now);
            }
        }
    }

    /// What the owner is to be told, once.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.work.as_mut().and_then(|work| work.event.take()) {
            self.release();
            return Some(event);
        }
        if self.phase != Phase::Gone {
            return None;
        }
        self.phase = Phase::Over;
        Some(Event::Closed)
    }

    /// Whether an event waits.
    pub fn has_event(&self) -> bool {
        self.phase == Phase::Gone || self.has_stream_event()
    }

    /// About how many bytes the waiting event holds; 0 without one.
    pub fn event_bytes(&self) -> usize {
        let heap = match self.work.as_ref().and_then(|work| work.event.as_ref()) {
            Some(Event::Stream(xmpp::Event::StreamStart(element) | xmpp::Event::Element(element))) => {
                element.own_bytes()
            }
            Some(Event::Stream(xmpp::Event::StreamEnd(name))) => name.len(),
            Some(Event::Error(_) | Event::Closed) => 0,
            None if self.phase == Phase::Gone => 0,
            None => return 0,
        };
        size_of::<Event>() + heap
    }

    /// Whether [`handle_input`](Self::handle_input) has something to look at without more bytes.
    pub fn is_pending(&self) -> bool {
        self.is_listening() && (self.is_unsettled || self.transport.has_rest())
    }

    /// Appends what is to be written by itself: refusals, pongs, pings, close frames. Whether there was any.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        if let Some(work) = &mut self.work {
            out.append(&mut std::mem::take(&mut work.out));
            self.release();
        }
        if let Some(websocket) = self.transport.websocket_mut() {
            websocket.poll_transmit(out);
        }
        out.len() > before
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Time> {
        self.deadlines.next()
    }

    /// How many bytes the next read may take, as far as it goes by the stream: `usize::MAX` is any number. 0 is that nothing
    /// should be read now: it has ended, an event waits, a barrier is up, or the throttle is empty.
    pub fn wanted(&self, now: Time) -> usize {
        let is_throttled = self.deadlines.resume.is_some_and(|at| at > now);
        if !self.is_looking() || self.is_blocked() || is_throttled { 0 } else { self.piece() }
    }

    /// Whether these bytes, which come next, make no event and begin none: white space between stanzas (RFC 6120 section
    /// 4.6.1), or pings and pongs between messages. Whoever has the connection can take them without its owner.
    pub fn is_sign_of_life(&self, bytes: &[u8]) -> bool {
        self.phase == Phase::Open && !self.is_blocked() && self.transport.is_sign_of_life(bytes)
    }

    /// Whether nothing more comes and nobody has to be told: the connection is closed once all is written.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether the owner may send. Nothing may follow a WebSocket's close frame.
    pub fn may_send(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Ended)
            && self.transport.websocket().is_none_or(WebSocket::may_send)
    }

    /// The stream, whose header is there, has an owner: a WebSocket has to give signs of life from here on.
    pub fn attach(&mut self, now: Time) {
        self.is_attached = true;
        if self.phase == Phase::Open {
            self.heard(now);
        }
    }

    /// The owner has dealt with every event that it was given. Lifts the barrier, unless it is that of the event that waits.
    pub fn resume(&mut self) {
        self.has_barrier &= self.has_stream_event();
    }

    /// A new stream begins on the same connection (RFC 6120 section 4.3.3), with the next bytes that are taken.
    pub fn restart(&mut self) {
        if self.phase == Phase::Open {
            self.transport.restart();
            self.deadlines.due = None;
            self.skips_space = true;
            self.is_unsettled = false;
        }
        self.is_header_sent = false;
    }

    /// From now on the peer's bytes are taken no faster than that; none is at any rate.
    pub fn set_rate(&mut self, rate: Option<Rate>, now: Time) {
        self.throttle = rate.map(|rate| Box::new(Throttle::new(rate, now)));
        self.deadlines.resume = None;
    }

    /// What [`encode`] made is queued.
    pub fn sent(&mut self, kind: Sent) {
        match kind {
            Sent::Header => self.is_header_sent = true,
            Sent::LoggedIn => self.is_logged_in = true,
            Sent::End => self.is_trailer_sent = true,
            Sent::Element | Sent::Raw => {}
        }
    }

    /// Our side closes: appends what is still to be written, and what the transport says at the end (a WebSocket's `<close/>`
    /// where the owner has not, and its close frame). The stream is over.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.say_farewell();
        self.poll_transmit(out);
        self.end();
    }

    /// Refuses the stream without an owner: header, error and trailer are to be written, and the stream is over. The
    /// condition is one of RFC 6120 section 4.9.3.
    pub fn refuse(&mut self, condition: &str, text: &str) {
        if matches!(self.phase, Phase::Gone | Phase::Over) {
            return self.end();
        }
        self.end();
        let mut out = Vec::new();
        refusal::write(self.framing(), &self.config, condition, text, &mut out);
        self.work.get_or_insert_default().out.append(&mut out);
        (self.is_header_sent, self.is_trailer_sent) = (true, true);
        self.say_farewell();
    }

    /// Nothing more comes, and nobody is told anything.
    fn end(&mut self) {
        self.phase = Phase::Over;
        self.deadlines = Deadlines::default();
        if let Some(work) = &mut self.work {
            work.event = None;
        }
        self.release();
    }

    /// The peer is gone.
    fn gone(&mut self) {
        self.say_farewell();
        self.deadlines = Deadlines::default();
        self.phase = if self.phase == Phase::Header { Phase::Over } else { Phase::Gone };
    }

    fn say_farewell(&mut self) {
        let framing = self.framing();
        let code = if self.is_too_big { 1009 } else { 1000 };
        let Some(websocket) = self.transport.websocket_mut().filter(|websocket| websocket.may_send()) else {
            return;
        };
        websocket.close(code);
        if self.is_header_sent && !self.is_trailer_sent {
            // Before the close frame, see `poll_transmit`.
            let out = &mut self.work.get_or_insert_default().out;
            encode(framing, Outgoing::End(b"stream:stream"), out);
            self.is_trailer_sent = true;
        }
    }

    fn take_piece(&mut self, input: &mut &[u8], now: Time) {
        let limits = self.config.limits(self.is_logged_in);
        let mut piece = &input[..self.piece().min(input.len())];
        let before = piece.len();
        self.transport.limit(&limits);
        let is_new = self.phase == Phase::Header;
        let found = self.transport.step(&mut piece, &limits, &mut self.skips_space, is_new);
        self.is_unsettled = false;
        let taken = before - piece.len();
        *input = &input[taken..];
        if taken > 0 {
            self.heard(now);
            self.deadlines.resume = self.throttle.as_mut().and_then(|throttle| throttle.count(taken, now));
        }
        self.handle_found(found, now);
    }

    fn handle_found(&mut self, found: Found, now: Time) {
        match found {
            Found::Nothing if self.phase == Phase::Open => self.renew_due(now),
            Found::Nothing => {}
            Found::Closed => self.gone(),
            Found::Event(event) => self.handle_event(event, now),
            Found::Error(error) => {
                self.is_too_big = error == StreamError::TOO_BIG;
                if self.phase == Phase::Header {
                    return self.refuse(error.condition.name(), error.text);
                }
                self.phase = Phase::Ended;
                self.deadlines.ended(now);
                self.raise(Event::Error(error));
            }
        }
    }

    fn handle_event(&mut self, event: xmpp::Event, now: Time) {
        self.deadlines.due = None;
        match &event {
            xmpp::Event::StreamStart(_) => {
                self.phase = Phase::Open;
                self.is_unsettled = true;
            }
            _ if self.phase == Phase::Header => {
                return self.refuse("invalid-xml", "a stream begins with its header");
            }
            xmpp::Event::Element(element) => self.has_barrier = negotiation::is_barrier(element),
            xmpp::Event::StreamEnd(_) => {
                self.phase = Phase::Ended;
                self.deadlines.ended(now);
            }
        }
        self.raise(Event::Stream(event));
    }

    fn raise(&mut self, event: Event) {
        self.work.get_or_insert_default().event = Some(event);
    }

    fn release(&mut self) {
        self.work.take_if(|work| work.event.is_none() && work.out.is_empty());
    }

    fn heard(&mut self, now: Time) {
        if self.is_attached && self.transport.websocket().is_some() {
            self.deadlines.heard(&self.config, now);
        }
    }

    /// What is half received has a deadline of its own from its first byte.
    fn renew_due(&mut self, now: Time) {
        if self.transport.is_idle() {
            self.deadlines.due = None;
        } else if self.deadlines.due.is_none() {
            // What a throttle holds up is not the peer's delay.
            let throttle = self.throttle.as_ref();
            let held_up =
                throttle.map(|throttle| throttle.time_for(self.config.max_stanza)).unwrap_or_default();
            self.deadlines.due = Some(now.after(self.config.stanza_timeout.saturating_add(held_up)));
        }
    }

    /// How many bytes are looked at in one go.
    fn piece(&self) -> usize {
        self.throttle.as_ref().map_or(usize::MAX, |throttle| throttle.piece())
    }

    fn has_stream_event(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.event.is_some())
    }

    /// Whether more of the peer's bytes may mean something.
    fn is_looking(&self) -> bool {
        matches!(self.phase, Phase::Header | Phase::Open)
    }

    /// Whether the owner has to do something first: take the event that waits, or deal with those that it has.
    pub fn is_blocked(&self) -> bool {
        self.has_barrier || self.has_stream_event()
    }

    fn is_listening(&self) -> bool {
        self.is_looking() && !self.is_blocked() && self.deadlines.resume.is_none()
    }
}
