//! An XMPP stream on this connection: before it has an owner, with one, and its deadlines.

use super::*;
use crate::link::{Found, Link};
use crate::throttle::Throttle;
use crate::xmpp::{Facts, Outgoing, Rate, XmppConfig, XmppEvent, XmppId};
use bytes::Buf;
use megaphone_proto::xmpp::{self, StreamError};

/// Output that is queued before it is written without being asked for.
const FLUSH_AT: usize = 64 * 1024;
/// Room for most stanzas, without growing step by step.
const USUAL_OUTPUT: usize = 512;
/// How long an owner may take to close after the end of the stream.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

impl<H: Host> Connection<H> {
    pub(super) fn link(&self) -> Option<&Link> {
        match &self.engine {
            Engine::Xmpp(link) => Some(link),
            Engine::Raw | Engine::Http(_) => None,
        }
    }

    fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.engine {
            Engine::Xmpp(link) => Some(link),
            Engine::Raw | Engine::Http(_) => None,
        }
    }

    /// What the session on this connection is called.
    pub(crate) fn xmpp_id(&self, conn: Conn) -> Option<XmppId> {
        let id = if self.link()?.is_websocket() { XmppId::WebSocket } else { XmppId::Tcp };
        Some(id(conn))
    }

    fn stanza_limits(&self, config: &XmppConfig) -> xmpp::Limits {
        let is_websocket = self.link().is_some_and(Link::is_websocket);
        let stanza_bytes = if is_websocket { config.max_stanza } else { self.listener.config.max_stanza };
        xmpp::Limits { stanza_bytes, ..xmpp::Limits::default() }
    }

    /// What comes next of the input, and the bytes that it took.
    fn next_found(&mut self, limits: &xmpp::Limits) -> (Found, usize) {
        let Engine::Xmpp(link) = &mut self.engine else { return (Found::Nothing, 0) };
        let mut rest = &self.inbound[..];
        let mut out = Vec::new();
        let found = link.next(&mut rest, limits, &mut out);
        let taken = self.inbound.len() - rest.len();
        self.inbound.advance(taken);
        self.release_inbound();
        if !out.is_empty() {
            self.write_own(&out);
        }
        (found, taken)
    }

    /// Without an owner: is there a stream that is worth one?
    pub(super) fn settle_stream_start(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let config = cx.system.xmpp_config();
        if self.phase == Phase::Waiting(Stage::New) {
            self.phase = Phase::Waiting(Stage::Head);
            self.deadline = cx.system.deadline(config.header_timeout);
        }
        let limits = self.stanza_limits(&config);
        match self.next_found(&limits).0 {
            Found::Event(event @ xmpp::Event::StreamStart(_)) => {
                if let Some(link) = self.link_mut() {
                    link.pending = Some(Box::new(event));
                }
                self.start(cx)
            }
            Found::Event(_) => self.refuse_stream(cx, "invalid-xml", "a stream begins with its header"),
            Found::Error(StreamError { condition, text }) => self.refuse_stream(cx, condition.name(), text),
            Found::Goodbye => self.begin_close(cx, true),
            Found::Nothing if self.flags.ended => self.begin_close(cx, false),
            Found::Nothing => Fate::Keep,
        }
    }

    /// Says what is wrong, where there is nobody else to say it, and closes.
    pub(super) fn refuse_stream(&mut self, cx: &mut Cx<'_, H>, condition: &str, text: &str) -> Fate {
        let config = cx.system.xmpp_config();
        let mut out = Vec::new();
        if let Some(link) = self.link_mut() {
            link.refuse(&config, condition, text, &mut out);
        }
        self.write_own(&out);
        self.begin_close(cx, true)
    }

    /// Somebody was started to have the session. False when it has ended already.
    pub(crate) fn xmpp_started(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> (bool, Fate) {
        if self.phase != Phase::Starting || self.link().is_none() {
            return (false, Fate::Keep);
        }
        if !self.attach(cx, process) {
            return (false, self.begin_close(cx, false));
        }
        let pending = self.link_mut().and_then(|link| {
            link.request = None;
            link.pending.take()
        });
        if let Some(event) = pending {
            self.deliver(cx, &event, 0);
        }
        let config = cx.system.xmpp_config();
        self.heard(cx, &config);
        self.renew_deadline(cx, &config);
        (true, Fate::Look)
    }

    fn deliver(&mut self, cx: &mut Cx<'_, H>, event: &xmpp::Event, bytes: usize) {
        let Some(to) = self.owner() else { return };
        cx.sink.emit(Event::Xmpp { to, event: XmppEvent::Stream(event) });
        if let Some(link) = self.link_mut() {
            link.delivered(bytes);
        }
    }

    /// With an owner: gives it what the bytes at hand mean, as far as it can have more.
    pub(super) fn settle_stream(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let config = cx.system.xmpp_config();
        let limits = self.stanza_limits(&config);
        while self.link().is_some_and(Link::may_parse) {
            match self.next_found(&limits) {
                (Found::Nothing, _) => break,
                (Found::Goodbye, _) => return self.peer_gone(cx, true),
                (Found::Event(event), bytes) => self.deliver(cx, &event, bytes),
                (Found::Error(error), _) => {
                    if let Some(to) = self.owner() {
                        cx.sink.emit(Event::Xmpp { to, event: XmppEvent::Error(error) });
                    }
                }
            }
        }
        let is_open = self.link().is_some_and(Link::is_open);
        if self.fault.is_some() || (self.flags.ended && is_open && self.inbound.is_empty()) {
            return self.peer_gone(cx, false);
        }
        if !is_open {
            self.inbound = BytesMut::new();
        }
        if self.link_mut().is_some_and(Link::take_heard) {
            self.heard(cx, &config);
        }
        self.renew_deadline(cx, &config);
        Fate::Keep
    }

    fn peer_gone(&mut self, cx: &mut Cx<'_, H>, lingers: bool) -> Fate {
        if let Some(to) = self.owner() {
            cx.sink.emit(Event::Xmpp { to, event: XmppEvent::Closed });
        }
        self.begin_close(cx, lingers)
    }

    /// The peer of a WebSocket has shown that it lives.
    fn heard(&mut self, cx: &Cx<'_, H>, config: &XmppConfig) {
        let Some(link) = self.link_mut().filter(|link| link.is_websocket()) else { return };
        link.awaits_pong = false;
        link.silent_until = cx.system.deadline(config.websocket_timeout);
        link.ping_at = config.ping_interval.map_or(0, |interval| cx.system.deadline(interval));
    }

    fn renew_deadline(&mut self, cx: &Cx<'_, H>, config: &XmppConfig) {
        let longest = self.stanza_limits(config).stanza_bytes;
        let Some(link) = self.link_mut() else { return };
        if !link.is_open() {
            (link.resume_at, link.ping_at, link.silent_until) = (0, 0, 0);
            if link.whole_by == 0 {
                link.whole_by = cx.system.deadline(CLOSE_TIMEOUT);
            }
        } else if !link.is_owed() {
            link.whole_by = 0;
        } else if link.whole_by == 0 {
            // What a throttle holds up is not the peer's delay.
            let held_up =
                link.throttle.as_ref().map_or(Duration::ZERO, |throttle| throttle.time_for(longest));
            link.whole_by = cx.system.deadline(config.stanza_timeout.saturating_add(held_up));
        }
        let deadline = link.deadline();
        self.deadline = deadline;
    }

    /// One of the deadlines of a stream with an owner is over.
    pub(super) fn stream_timed_out(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let config = cx.system.xmpp_config();
        let now = cx.system.now();
        let is_over = |at: Tick| at != 0 && at <= now;
        // While the owner is behind, a pong may lie unread among what else was sent.
        if self.link().is_some_and(|link| link.is_open() && !link.may_parse()) {
            self.heard(cx, &config);
        }
        let Some(link) = self.link_mut() else { return Fate::Keep };
        let is_dead = is_over(link.ping_at) && link.awaits_pong;
        if is_over(link.whole_by) || is_over(link.silent_until) || is_dead {
            return self.peer_gone(cx, true);
        }
        if is_over(link.resume_at) {
            link.resume_at = 0;
        }
        if is_over(link.ping_at) {
            let mut out = Vec::new();
            link.ping(&mut out);
            link.ping_at = config.ping_interval.map_or(0, |interval| cx.system.deadline(interval));
            self.write_own(&out);
            if self.fault.is_some() {
                return self.peer_gone(cx, false);
            }
        }
        self.renew_deadline(cx, &config);
        self.look_if_room()
    }

    /// How many bytes the next read may take.
    pub(super) fn read_size(&self, most: usize) -> usize {
        let throttle = self.link().and_then(|link| link.throttle.as_ref());
        throttle.map_or(most, |throttle| throttle.read_size().min(most))
    }

    /// So many bytes were read.
    pub(super) fn stream_received(&mut self, bytes: usize, now: Tick) {
        if let Some(link) = self.link_mut() {
            link.received(bytes, now);
        }
    }

    /// A WebSocket's pings are answered without anybody who would wait: a peer that doesn't read the answers is not read
    /// either.
    pub(super) fn has_room_for_answers(&self) -> bool {
        self.link().is_none() || self.outbound.len() < self.options().high_watermark.max(FLUSH_AT)
    }

    fn may_send(&self, process: H::Process) -> Result<(), Error> {
        if self.owner() != Some(process) || self.link().is_none() || self.flags.write_shut {
            return Err(Error::Closed);
        }
        Ok(())
    }

    /// Queues what the owner sends, or registers its waiter when too much is queued.
    pub(crate) fn xmpp_send(
        &mut self,
        process: H::Process,
        outgoing: Outgoing<'_>,
        waiter: impl FnOnce() -> H::Waiter,
    ) -> Result<WriteOutcome, Error> {
        self.may_send(process)?;
        let high_watermark = self.options().high_watermark.max(1);
        if self.outbound.len() >= high_watermark {
            self.push_output()?;
            if self.outbound.len() >= high_watermark {
                self.add_writer(process, waiter());
                return Ok(WriteOutcome::Wait);
            }
        }
        let mut out = Vec::with_capacity(USUAL_OUTPUT);
        if let Some(link) = self.link_mut() {
            link.encode(outgoing, &mut out);
        }
        self.traffic.count_write(out.len());
        self.outbound.queue(&out);
        self.flags.unflushed = true;
        if self.outbound.len() >= FLUSH_AT {
            self.push_output()?;
        }
        Ok(WriteOutcome::Done)
    }

    /// Writes what is queued, as far as the socket takes it; the reactor writes the rest.
    pub(super) fn push_output(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.flags.unflushed) {
            return Ok(());
        }
        match self.outbound.flush(&self.source) {
            Ok(written) => {
                self.traffic.sent += written as u64;
                Ok(())
            }
            Err(errno) => {
                self.fail(errno);
                Err(Error::Closed)
            }
        }
    }

    /// The owner has taken so many events, and has nothing more to send for now.
    pub(crate) fn xmpp_flush(&mut self, process: H::Process, taken: u32) -> (Result<(), Error>, Fate) {
        if self.owner() != Some(process) {
            return (Err(Error::Closed), Fate::Keep);
        }
        let Some(link) = self.link_mut() else { return (Err(Error::Closed), Fate::Keep) };
        let was_blocked = link.is_open() && !link.may_parse();
        link.taken(taken);
        let is_unblocked = was_blocked && link.may_parse();
        let pushed = self.push_output();
        let fate = if pushed.is_err() || is_unblocked { self.look_if_any() } else { self.look_if_room() };
        (pushed, fate)
    }

    /// The reactor is called for what it has to do, and not for nothing: that costs two thread switches. After an event
    /// the parser may hold another one for which it needs no more bytes.
    fn look_if_any(&self) -> Fate {
        let has_input = !self.inbound.is_empty() || self.flags.ended || self.fault.is_some();
        let is_parsing = self.link().is_some_and(Link::is_owed);
        if has_input || is_parsing { Fate::Look } else { self.look_if_room() }
    }

    /// The owner wants the next stream on this connection.
    pub(crate) fn xmpp_reset(&mut self, process: H::Process) -> Result<(), Error> {
        self.may_send(process)?;
        if let Some(link) = self.link_mut() {
            link.restart();
        }
        Ok(())
    }

    /// From now on the peer's bytes are taken no faster than that.
    pub(crate) fn xmpp_shaper(
        &mut self,
        process: H::Process,
        rate: Option<Rate>,
        now: Tick,
    ) -> (Result<(), Error>, Fate) {
        if self.owner() != Some(process) {
            return (Err(Error::Closed), Fate::Keep);
        }
        let Some(link) = self.link_mut() else { return (Err(Error::Closed), Fate::Keep) };
        link.throttle = rate.map(|rate| Box::new(Throttle::new(rate, now)));
        link.resume_at = 0;
        (Ok(()), self.look_if_room())
    }

    /// Where the session comes from.
    pub(crate) fn xmpp_facts(&self) -> Result<Facts, Error> {
        let link = self.link().ok_or(Error::Closed)?;
        Ok(Facts {
            listener: self.listener.id,
            peer: self.source.peer()?,
            local: self.source.local()?,
            request: link.request.as_deref().cloned(),
        })
    }

    /// The stream's last words, when our side closes.
    pub(super) fn end_stream(&mut self) {
        let Some(link) = self.link_mut() else { return };
        let mut out = Vec::new();
        link.farewell(&mut out);
        self.engine = Engine::Raw;
        if !self.flags.write_shut && !out.is_empty() {
            self.outbound.queue(&out);
        }
        self.flags.unflushed |= !self.outbound.is_empty();
        // An error is the end that was coming anyway.
        let _ = self.push_output();
    }

    /// The stream had no header in time.
    pub(super) fn header_timed_out(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        self.refuse_stream(cx, "connection-timeout", "no stream header in time")
    }
}
