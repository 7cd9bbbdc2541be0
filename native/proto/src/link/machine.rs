//! The machine: either end of an established link.

use super::decoder::Decoder;
use super::event::{Event, OpenError, ResumeError, SendError, Side};
use super::frame::{End, GoAway, Kind, MAX_CREDIT, Reason};
use super::outbound::{Outbound, frame_len};
use super::table::{Flag, Queue, Stream, Table};
use super::{Cause, Config, Open, Params, PeerError};
use crate::time::Time;
use std::sync::Arc;
use std::time::Duration;

mod receiving;

/// Acknowledge at the latest when so many bytes have come.
const ACK_BYTES: u32 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connected { silent_at: Time, ping_at: Time },
    Suspended { until: Time },
    Over,
}

/// Either end of a link.
///
/// Calling protocol. What was received goes to [`handle_input`](Self::handle_input), again and again until it gives no
/// event; then all input is taken. After that, and after [`written`](Self::written), there may be room: streams that the
/// owner wants to send on ([`want_to_send`](Self::want_to_send)) are handed out by [`poll_ready`](Self::poll_ready), one
/// after the other. Then [`poll_transmit`](Self::poll_transmit) says what to write, and [`written`](Self::written) how much
/// of it was, until there is none. [`handle_timeout`](Self::handle_timeout) when the time of
/// [`poll_timeout`](Self::poll_timeout) has come, then [`poll_event`](Self::poll_event).
/// [`handle_disconnect`](Self::handle_disconnect) when the connection is gone; its bytes, and writes to it, are no more the
/// link's. [`resume`](Self::resume) when another has come.
///
/// Streams have numbers below [`Config::max_streams`], the lowest that is free. One is free when both ends have taken leave
/// ([`close`](Self::close)); as neither sends anything for a stream behind that, a number used again is never mistaken. An
/// owner does not use a number that it has closed.
///
/// Holds 24 bytes a stream, and at most [`Config::resend_bytes`] and two blocks of 64 KB.
pub struct Link {
    config: Arc<Config>,
    side: Side,
    peer: Params,
    phase: Phase,
    decoder: Decoder,
    outbound: Outbound,
    streams: Table,
    /// What is to be told, beside what a stream's frames say.
    notice: Option<Event<'static>>,
    go_away: Option<GoAway>,
    peer_goes: bool,
    we_go: bool,
    attempt: u32,
}

impl Link {
    /// A new link, on the connection whose handshake was just completed with a peer of these settings.
    pub fn new(config: Arc<Config>, side: Side, peer: Params, now: Time) -> Self {
        let most =
            if side == Side::Ecm { config.max_streams.min(peer.max_streams) } else { config.max_streams };
        let mut link = Self {
            side,
            peer,
            phase: Phase::Over,
            decoder: Decoder::new(config.max_payload),
            outbound: Outbound::default(),
            streams: Table::new(most),
            notice: None,
            go_away: None,
            peer_goes: false,
            we_go: false,
            attempt: 0,
            config,
        };
        link.connected(now);
        link
    }

    /// Takes bytes off the front of `input` up to the next event. Without an event it has taken all.
    pub fn handle_input<'a>(&mut self, input: &mut &'a [u8], now: Time) -> Option<Event<'a>> {
        if !self.is_connected() {
            *input = &[];
            return self.poll_event();
        }
        if !input.is_empty() {
            self.connected(now);
        }
        while self.is_connected() {
            match self.decoder.step(input) {
                Ok(None) => break,
                Ok(Some(frame)) => match self.handle_frame(frame) {
                    Ok(None) => {}
                    Ok(event) => return event,
                    Err(error) => self.accuse(error),
                },
                Err(error) => self.accuse(error),
            }
        }
        self.flush();
        let most = ACK_BYTES.min(self.peer.resend_bytes / 4).max(1);
        self.outbound.received(self.decoder.received(), most.into(), now.after(self.config.ack_delay));
        if !self.is_connected() {
            *input = &[];
        }
        self.poll_event()
    }

    /// The connection is gone.
    pub fn handle_disconnect(&mut self, now: Time) {
        if self.is_connected() {
            self.cut();
            let peers = Duration::from_secs(self.peer.resume_seconds.into());
            self.phase = Phase::Suspended { until: now.after(self.config.resume_timeout.min(peers)) };
            self.notice = Some(Event::Suspended);
        }
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come; earlier does no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        match &mut self.phase {
            Phase::Connected { silent_at, .. } if *silent_at <= now => self.handle_disconnect(now),
            Phase::Connected { ping_at, .. } => {
                if *ping_at <= now {
                    *ping_at = now.after(self.config.ping_interval);
                    self.outbound.wants_ping = true;
                }
                self.outbound.handle_timeout(now);
            }
            Phase::Suspended { until } if *until <= now => self.lose(Cause::NotResumed),
            Phase::Suspended { .. } | Phase::Over => {}
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.phase {
            Phase::Connected { silent_at, ping_at } => {
                Some(self.outbound.ack_at().unwrap_or(ping_at).min(ping_at).min(silent_at))
            }
            Phase::Suspended { until } => Some(until),
            Phase::Over => None,
        }
    }

    /// What the owner is to be told of the link itself.
    pub fn poll_event(&mut self) -> Option<Event<'static>> {
        self.notice.take()
    }

    /// What to write, in this order, together if possible; there is none when all three are empty. The same until
    /// [`written`](Self::written) is called.
    pub fn poll_transmit(&mut self) -> [&[u8]; 3] {
        match self.phase {
            Phase::Suspended { .. } => [&[]; 3],
            _ if self.phase == Phase::Over && self.outbound.end.is_none() => [&[]; 3],
            _ => self.outbound.transmit(self.decoder.received()),
        }
    }

    /// So many of the bytes that [`poll_transmit`](Self::poll_transmit) gave last were written.
    pub fn written(&mut self, bytes: usize) {
        self.outbound.written(bytes);
    }

    /// The number of the connection that is to resume the link, for the handshake. Each is used once.
    pub fn next_attempt(&mut self) -> u32 {
        self.attempt = self.attempt.saturating_add(1);
        self.attempt
    }

    /// Bytes of the link that were received, for the handshake. Does not change while the link is suspended.
    pub fn received(&self) -> u64 {
        self.decoder.received()
    }

    /// A connection has come whose handshake says so. The one that there was, if any, is to be closed, and its bytes are no
    /// longer the link's.
    pub fn resume(&mut self, attempt: u32, peer_received: u64, now: Time) -> Result<(), ResumeError> {
        if self.phase == Phase::Over {
            return Err(ResumeError::Over);
        }
        if self.side == Side::Node && attempt <= self.attempt || attempt < self.attempt {
            return Err(ResumeError::Stale);
        }
        self.attempt = attempt;
        self.cut();
        if !self.outbound.may_have_received(peer_received) {
            self.lose(Cause::CannotResume);
            return Err(ResumeError::CannotResume);
        }
        self.outbound.resume(peer_received, self.decoder.received());
        self.connected(now);
        self.notice = Some(Event::Resumed);
        self.flush();
        Ok(())
    }

    /// The node no longer has the link ([`Refusal::Gone`](super::Refusal::Gone)).
    pub fn give_up(&mut self) {
        self.lose(Cause::CannotResume);
    }

    /// Ends the link with all its streams, and tells the peer.
    pub fn end(&mut self, end: End) {
        let was_connected = self.is_connected();
        self.lose(Cause::Ended(end));
        self.outbound.end = self.outbound.end.or(was_connected.then_some(end));
    }

    /// Says once that no new streams are wanted, or will be opened.
    pub fn go_away(&mut self, reason: GoAway) {
        if !self.we_go && self.phase != Phase::Over {
            self.we_go = true;
            self.go_away = Some(reason);
            self.flush();
        }
    }

    /// Opens a stream for a client. Only at the ECM.
    pub fn open(&mut self, open: &Open) -> Result<u32, OpenError> {
        if self.side == Side::Node || self.we_go || self.peer_goes || self.phase == Phase::Over {
            return Err(OpenError::MayNot);
        }
        if !open.is_valid() {
            return Err(OpenError::Invalid);
        }
        let mut body = Vec::with_capacity(64);
        open.encode(&mut body);
        if self.room() < frame_len(body.len()) || self.has_due() {
            return Err(OpenError::Full);
        }
        let number = self.streams.vacant().ok_or(OpenError::TooMany)?;
        self.streams.insert(number, self.new_stream());
        self.outbound.commit(Kind::Open, number, &body);
        Ok(number)
    }

    /// The owner has something to send on a stream, which gets its turn when it has credit.
    pub fn want_to_send(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(number).filter(|stream| may_send(stream)) else { return };
        stream.set(Flag::WANTS, true);
        if stream.credit > 0 {
            self.streams.push(Queue::Ready, number);
        }
    }

    /// The stream whose turn it is, and how many bytes it may give to [`send_data`](Self::send_data) now. When the owner has
    /// more, it says so again by [`want_to_send`](Self::want_to_send).
    pub fn poll_ready(&mut self) -> Option<(u32, usize)> {
        if self.phase == Phase::Over || self.has_due() {
            return None;
        }
        while let Some(number) = self.streams.first(Queue::Ready) {
            let stream = *self.streams.get(number)?;
            let quantum = self.most_payload().min(stream.credit as usize);
            let wants = stream.is(Flag::WANTS) && may_send(&stream) && quantum > 0;
            if wants && !self.has_data_room(quantum) {
                return None;
            }
            self.streams.pop(Queue::Ready);
            if wants {
                self.streams.get_mut(number)?.set(Flag::WANTS, false);
                return Some((number, quantum));
            }
        }
        None
    }

    /// Sends bytes on a stream: at most what [`poll_ready`](Self::poll_ready) has said.
    pub fn send_data(&mut self, number: u32, bytes: &[u8]) -> Result<(), SendError> {
        if self.phase == Phase::Over {
            return Err(SendError::Closed);
        }
        let has_room = self.has_data_room(bytes.len()) && !self.has_due();
        let most = self.most_payload();
        let stream =
            self.streams.get_mut(number).filter(|stream| may_send(stream)).ok_or(SendError::Closed)?;
        let most = most.min(stream.credit as usize);
        if bytes.is_empty() || bytes.len() > most {
            return Err(SendError::BeyondQuantum);
        }
        if !has_room {
            return Err(SendError::Full);
        }
        stream.credit -= bytes.len() as u32;
        self.outbound.commit(Kind::Data, number, bytes);
        Ok(())
    }

    /// Lets the peer send so many more bytes on a stream; at most 2,147,483,647 are granted and unused.
    pub fn grant(&mut self, number: u32, bytes: u32) {
        if let Some(stream) = self.streams.get_mut(number).filter(|stream| !takes_no_more(stream)) {
            let most = MAX_CREDIT.saturating_sub(stream.allowance).saturating_sub(stream.grant);
            stream.grant += bytes.min(most);
            if stream.grant > 0 {
                self.streams.push(Queue::Due, number);
                self.flush();
            }
        }
    }

    /// Our side of a stream is sent ([`Reason::Eof`]), or the owner takes leave of it: then it hears no more of it.
    pub fn close(&mut self, number: u32, reason: Reason) {
        let Some(stream) = self.streams.get_mut(number).filter(|stream| !stream.is(Flag::CLOSED)) else {
            return;
        };
        if reason == Reason::Eof && stream.is(Flag::EOF) {
            return;
        }
        stream.set(Flag::WANTS, false);
        stream.set(Flag::EOF, true);
        if reason == Reason::Eof {
            stream.set(Flag::EOF_DUE, true);
        } else {
            stream.reason = reason.code();
            stream.grant = 0;
            stream.set(Flag::EOF_DUE, false);
            stream.set(Flag::CLOSED, true);
            stream.set(Flag::CLOSE_DUE, true);
        }
        self.streams.push(Queue::Due, number);
        self.flush();
    }

    /// When the link is over: a stream that ended with it and that the owner has not closed, each once.
    pub fn poll_lost(&mut self) -> Option<u32> {
        if self.phase != Phase::Over {
            return None;
        }
        while let Some((number, stream)) = self.streams.take_any() {
            if !stream.is(Flag::CLOSED) {
                return Some(number);
            }
        }
        None
    }

    /// How many bytes the peer may be sent on a stream.
    pub fn credit(&self, number: u32) -> Option<u32> {
        self.streams.get(number).map(|stream| stream.credit)
    }

    /// Streams of which not both ends have taken leave.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes that are kept until they are acknowledged.
    pub fn kept_bytes(&self) -> usize {
        self.outbound.len()
    }

    /// Whether it has a connection.
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected { .. })
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Something was heard.
    fn connected(&mut self, now: Time) {
        self.phase = Phase::Connected {
            silent_at: now.after(self.config.silence_timeout),
            ping_at: now.after(self.config.ping_interval),
        };
    }

    fn cut(&mut self) {
        self.decoder.cut();
        self.outbound.cut();
    }

    fn lose(&mut self, cause: Cause) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.notice = Some(Event::Lost(cause));
        }
    }

    fn accuse(&mut self, error: PeerError) {
        self.lose(Cause::Peer(error));
        self.outbound.end = Some(End::Protocol);
    }

    fn new_stream(&self) -> Stream {
        Stream::new(self.peer.initial_credit, self.config.initial_credit)
    }

    /// Puts what streams have to say, beside data, into frames, as far as there is room.
    fn flush(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        if self.room() >= frame_len(1)
            && let Some(reason) = self.go_away.take()
        {
            self.outbound.commit(Kind::GoAway, 0, &[reason.code()]);
        }
        // The frames of one stream take 7 + 4 and twice 7 + 1.
        while self.room() >= frame_len(4) + 2 * frame_len(1)
            && let Some(number) = self.streams.first(Queue::Due)
        {
            self.streams.pop(Queue::Due);
            self.say_due(number);
        }
    }

    fn say_due(&mut self, number: u32) {
        let Some(stream) = self.streams.get_mut(number) else { return };
        let grant = std::mem::take(&mut stream.grant);
        let (has_eof, has_close) = (stream.is(Flag::EOF_DUE), stream.is(Flag::CLOSE_DUE));
        let reason = stream.our_reason();
        stream.allowance += grant;
        stream.set(Flag::EOF_DUE, false);
        stream.set(Flag::CLOSE_DUE, false);
        let is_gone = stream.is_gone();
        if grant > 0 {
            self.outbound.commit(Kind::Credit, number, &grant.to_be_bytes());
        }
        if has_eof {
            self.outbound.commit(Kind::Close, number, &[Reason::Eof.code()]);
        }
        if has_close {
            self.outbound.commit(Kind::Close, number, &[reason.code()]);
        }
        if is_gone {
            self.streams.remove(number);
        }
    }

    /// Whether small frames wait for room, which goes to them before data.
    fn has_due(&self) -> bool {
        self.go_away.is_some() || !self.streams.is_empty(Queue::Due)
    }

    fn room(&self) -> usize {
        self.config.resend_bytes.saturating_sub(self.outbound.len())
    }

    fn has_data_room(&self, bytes: usize) -> bool {
        self.room() >= frame_len(bytes) && self.outbound.unsent() < self.config.unsent_bytes
    }

    fn most_payload(&self) -> usize {
        self.config.max_payload.min(self.peer.max_payload).into()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let streams = self.streams.len();
        f.debug_struct("Link").field("phase", &self.phase).field("streams", &streams).finish_non_exhaustive()
    }
}

/// Neither end has said that nothing more is sent to the peer.
fn may_send(stream: &Stream) -> bool {
    !stream.is(Flag::EOF) && !stream.is(Flag::PEER_CLOSED)
}

/// What the peer sends is of no more interest, or it sends nothing more.
fn takes_no_more(stream: &Stream) -> bool {
    stream.is(Flag::CLOSED) || stream.is(Flag::PEER_EOF)
}
