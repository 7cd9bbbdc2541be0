//! One session: the window of request ids, what is held, what is kept, and when it ends.

use std::sync::Arc;
use std::time::Duration;

use super::request::{KeyHash, Request, hash_of_key, key_hash};
use super::response::{Body, EMPTY_BODY, Queue, recoverable_body, terminal_body};
use super::{Condition, Config, NS_XBOSH};
use crate::xmpp::{self, Element, ElementBuilder, NS_CLIENT, NS_STREAM};

/// The version of XEP-0124 that this is.
const VERSION: (u32, u32) = (1, 11);

/// The caller's name for an HTTP request that wants an answer; unique among those of a session.
pub type Ticket = u64;

/// What a session wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// For the c2s, as from an XML stream.
    Stream(xmpp::Event),
    /// Answer that HTTP request, with status 200, this body and the session's content type.
    Respond(Ticket, Arc<[u8]>),
    /// The session is over and to be forgotten; all requests are answered.
    Closed(Closed),
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The client ended it. The c2s has the end of the stream.
    ByClient,
    /// The c2s, or whoever called [`Session::queue_end`], ended it.
    ByServer,
    /// The client was not heard of for too long.
    Inactive,
    /// The client broke the rules, and was told so.
    Failed(Condition),
}

/// A session, from the request that creates it.
///
/// Calling protocol: whatever happens is told by one of
/// - [`handle_request`](Self::handle_request): a request with this session's id has arrived, whole;
/// - [`handle_disconnect`](Self::handle_disconnect): an HTTP connection was lost before its request was answered;
/// - [`handle_timeout`](Self::handle_timeout): the time that [`poll_timeout`](Self::poll_timeout) gave has come;
/// - [`queue_header`](Self::queue_header), [`queue_element`](Self::queue_element), [`queue_end`](Self::queue_end):
///   the c2s has sent something; then, once for all that it sent in one go, [`flush`](Self::flush).
///
/// What follows from it is appended to `out`, to be carried out in order. After [`Event::Closed`] nothing more comes.
/// `now` is time since any fixed start and never goes back; `config` is the same in each call.
///
/// Bounded by the `requests` that the session allows (one more than it holds): as many requests are held or waiting
/// for their turn, and as many answers kept. What the c2s queued is not bounded here
/// ([`queued_bytes`](Self::queued_bytes) tells).
#[derive(Debug)]
pub struct Session {
    stream: Box<StreamInfo>,
    content: Option<Box<str>>,
    /// The hash that the next request's key has to have.
    key: Option<KeyHash>,
    /// The last request that was processed; all before it were.
    rid: u64,
    wait_seconds: u32,
    hold: u8,
    wants_acks: bool,
    /// Who has ended the stream; nothing more goes to or comes from the c2s.
    ending: Option<Closed>,
    is_closed: bool,
    /// Processed and not answered, by request id.
    held: Vec<Held>,
    /// Received before their turn.
    early: Vec<Early>,
    /// The last answers, by request id.
    kept: Vec<Kept>,
    queue: Queue,
    /// When the last request came, in milliseconds, if it was an empty poll.
    polled_at: Option<u64>,
    /// When the session ends unless a request is waiting, in milliseconds.
    inactive_at: u64,
}

#[derive(Debug)]
struct StreamInfo {
    to: Box<str>,
    version: Option<Box<str>>,
    lang: Option<Box<str>>,
}

#[derive(Debug)]
struct Held {
    rid: u64,
    /// None when its connection was lost.
    ticket: Option<Ticket>,
    answer_at: u64,
    /// What its answer says of the session, when this is the request that created it.
    created: Option<Box<Created>>,
}

#[derive(Debug)]
struct Created {
    sid: Box<str>,
    version: (u32, u32),
}

#[derive(Debug)]
struct Early {
    ticket: Option<Ticket>,
    request: Box<Request>,
}

#[derive(Debug)]
struct Kept {
    rid: u64,
    /// None is [`EMPTY_BODY`].
    body: Option<Arc<[u8]>>,
}

impl Session {
    /// A session for a request without one, and its stream header in `out`. The answer waits for what the c2s says
    /// to that. `sid` has to come from a cryptographic source.
    ///
    /// Fails with [`Condition::ImproperAddressing`] when the request says no host.
    pub fn create(
        request: Request,
        sid: &str,
        ticket: Ticket,
        config: &Config,
        now: Duration,
        out: &mut Vec<Event>,
    ) -> Result<Self, Condition> {
        let to = request.to.ok_or(Condition::ImproperAddressing)?;
        let max_wait = u32::try_from(config.max_wait.as_secs()).unwrap_or(u32::MAX);
        let wait_seconds = request.wait.unwrap_or(max_wait).min(max_wait);
        let hold = request.hold.and_then(|hold| u8::try_from(hold).ok()).unwrap_or(config.max_hold);
        let now = millis(now);
        let mut session = Self {
            stream: Box::new(StreamInfo { to, version: request.xmpp_version, lang: request.lang }),
            content: request.content,
            key: request.new_key,
            rid: request.rid,
            wait_seconds,
            hold: hold.min(config.max_hold),
            wants_acks: request.ack == Some(1),
            ending: None,
            is_closed: false,
            held: Vec::new(),
            early: Vec::new(),
            kept: Vec::new(),
            queue: Queue::default(),
            polled_at: None,
            inactive_at: now + millis(config.max_inactivity),
        };
        session.hold(request.rid, Some(ticket), now);
        if let Some(held) = session.held.first_mut() {
            let version = request.version.unwrap_or(VERSION).min(VERSION);
            held.created = Some(Box::new(Created { sid: sid.into(), version }));
        }
        session.stream_event(session.stream.start(), out);
        for stanza in request.payload {
            session.stream_event(xmpp::Event::Element(stanza), out);
        }
        session.settle(config, now, out);
        Ok(session)
    }

    /// A request has arrived.
    pub fn handle_request(
        &mut self,
        request: Request,
        ticket: Ticket,
        config: &Config,
        now: Duration,
        out: &mut Vec<Event>,
    ) {
        let now = millis(now);
        let next = self.rid + 1;
        if self.is_closed || request.rid > self.rid + self.requests() {
            self.fail(Condition::ItemNotFound, Some(ticket), out);
        } else if request.rid > next {
            self.take_early(request, ticket, out);
            self.rest(now, config.max_inactivity);
        } else if request.rid < next {
            self.repeat(request.rid, ticket, out);
            self.rest(now, config.max_inactivity);
        } else {
            self.process(request, Some(ticket), config, now, out);
            while let Some(index) = self.early.iter().position(|early| early.request.rid == self.rid + 1)
                && !self.is_closed
            {
                let Early { ticket, request } = self.early.swap_remove(index);
                self.process(*request, ticket, config, now, out);
            }
        }
        self.settle(config, now, out);
    }

    /// The connection of a request that is not answered was lost. Its answer will be kept for the client to ask for
    /// again.
    pub fn handle_disconnect(&mut self, ticket: Ticket, config: &Config, now: Duration) {
        for early in self.early.iter_mut().filter(|early| early.ticket == Some(ticket)) {
            early.ticket = None;
        }
        if let Some(held) = self.held.iter_mut().find(|held| held.ticket == Some(ticket)) {
            held.ticket = None;
            self.rest(millis(now), config.max_inactivity);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); earlier does no harm.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let at = if self.is_waiting() { self.held.first()?.answer_at } else { self.inactive_at };
        (!self.is_closed).then(|| Duration::from_millis(at))
    }

    /// Time has passed: requests that waited long enough are answered, and an inactive session ends.
    pub fn handle_timeout(&mut self, config: &Config, now: Duration, out: &mut Vec<Event>) {
        let now = millis(now);
        if self.is_closed {
            return;
        }
        if !self.is_waiting() && now >= self.inactive_at {
            self.answer_all(Some(Condition::ItemNotFound), out);
            self.close(Closed::Inactive, out);
        }
        while self.is_waiting() && self.held.first().is_some_and(|held| held.answer_at <= now) {
            self.answer_oldest(config, now, out);
        }
    }

    /// The c2s has sent a stream header with these attributes.
    pub fn queue_header<'a>(&mut self, attrs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) {
        let (mut id, mut version) = (&b""[..], &b""[..]);
        for (name, value) in attrs {
            match name {
                b"id" => id = value,
                b"version" => version = value,
                _ => {}
            }
        }
        self.queue.push_header(id, version);
    }

    /// The c2s has sent a stanza or another element. After a stream error nothing more is sent.
    pub fn queue_element(&mut self, element: &Element) {
        if self.ending.is_none() {
            self.queue.push_element(element);
            self.ending = (element.name() == b"stream:error").then_some(Closed::ByServer);
        }
    }

    /// The c2s has ended the stream, or is gone. The client hears of it in its next answer; until then, or until it
    /// is inactive, the session stays.
    pub fn queue_end(&mut self, condition: Option<Condition>) {
        if self.ending.is_none() {
            self.queue.push_end(condition);
            self.ending = Some(Closed::ByServer);
        }
    }

    /// Answers waiting requests with what is queued.
    pub fn flush(&mut self, config: &Config, now: Duration, out: &mut Vec<Event>) {
        self.settle(config, millis(now), out);
    }

    /// Bytes of the elements that are queued.
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// The elements, encoded, that the client never got. ejabberd routes messages among them again when a session
    /// ends.
    pub fn undelivered(&self) -> impl Iterator<Item = &[u8]> {
        self.queue.elements()
    }

    /// The Content-Type of answers.
    pub fn content_type(&self) -> &str {
        self.content.as_deref().unwrap_or(super::CONTENT_TYPE)
    }

    /// Bytes of heap memory that the session holds, what is queued and what came early apart.
    pub fn heap_bytes(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let kept = self.kept.iter().filter_map(|kept| kept.body.as_ref()).map(|body| 16 + body.len());
        size_of::<StreamInfo>()
            + self.stream.to.len()
            + text(&self.stream.version)
            + text(&self.stream.lang)
            + text(&self.content)
            + self.held.capacity() * size_of::<Held>()
            + self.kept.capacity() * size_of::<Kept>()
            + kept.sum::<usize>()
    }

    /// How many requests the client may have under way.
    fn requests(&self) -> u64 {
        u64::from(self.hold) + 1
    }

    /// Whether a request is waiting that an answer would reach.
    fn is_waiting(&self) -> bool {
        self.held.iter().any(|held| held.ticket.is_some())
    }

    fn hold(&mut self, rid: u64, ticket: Option<Ticket>, now: u64) {
        // One more than is held, for as long as it takes to answer the oldest.
        self.held.reserve_exact(1);
        let answer_at = now + 1000 * u64::from(self.wait_seconds);
        self.held.push(Held { rid, ticket, answer_at, created: None });
    }

    /// Starts the time of inactivity, if no request is waiting.
    fn rest(&mut self, now: u64, inactivity: Duration) {
        if !self.is_waiting() {
            self.inactive_at = now + millis(inactivity);
        }
    }

    fn take_early(&mut self, request: Request, ticket: Ticket, out: &mut Vec<Event>) {
        match self.early.iter_mut().find(|early| early.request.rid == request.rid) {
            Some(early) => {
                if let Some(before) = early.ticket.replace(ticket) {
                    out.push(respond(before, recoverable_body()));
                }
            }
            None => self.early.push(Early { ticket: Some(ticket), request: Box::new(request) }),
        }
    }

    /// A request that was processed before comes again (XEP-0124 section 14.3).
    fn repeat(&mut self, rid: u64, ticket: Ticket, out: &mut Vec<Event>) {
        if let Some(held) = self.held.iter_mut().find(|held| held.rid == rid) {
            if let Some(before) = held.ticket.replace(ticket) {
                out.push(respond(before, recoverable_body()));
            }
        } else if let Some(kept) = self.kept.iter().find(|kept| kept.rid == rid) {
            let body = kept.body.clone().unwrap_or_else(|| EMPTY_BODY.into());
            out.push(Event::Respond(ticket, body));
        } else {
            self.fail(Condition::ItemNotFound, Some(ticket), out);
        }
    }

    /// Processes the request whose turn it is.
    fn process(
        &mut self,
        request: Request,
        ticket: Option<Ticket>,
        config: &Config,
        now: u64,
        out: &mut Vec<Event>,
    ) {
        let pause = request.pause.map(|seconds| Duration::from_secs(seconds.into()));
        if !self.is_key_valid(&request) {
            return self.fail(Condition::ItemNotFound, ticket, out);
        }
        if self.polls_too_often(&request, config, now) || pause.is_some_and(|pause| pause > config.max_pause)
        {
            return self.fail(Condition::PolicyViolation, ticket, out);
        }
        self.rid = request.rid;
        let arrived = request.ack.filter(|_| self.wants_acks).unwrap_or(0);
        self.kept.retain(|kept| kept.rid > arrived);
        self.hold(request.rid, ticket, now);
        if request.is_restart {
            self.stream.restart(&request);
            self.stream_event(self.stream.start(), out);
        } else {
            for stanza in request.payload {
                self.stream_event(xmpp::Event::Element(stanza), out);
            }
        }
        if request.is_terminate {
            self.terminate(config, now, out);
        } else if let Some(pause) = pause {
            while !self.held.is_empty() {
                self.answer_oldest(config, now, out);
            }
            self.rest(now, pause);
        }
    }

    /// The client ends the session: the request that says so is answered last, with all that is left.
    fn terminate(&mut self, config: &Config, now: u64, out: &mut Vec<Event>) {
        self.stream_event(xmpp::Event::StreamEnd("stream:stream".into()), out);
        while self.held.len() > 1 {
            self.answer_oldest(config, now, out);
        }
        if self.ending.is_none() {
            self.queue.push_end(None);
            self.ending = Some(Closed::ByClient);
        }
        self.answer_oldest(&Config { max_concat: None, ..*config }, now, out);
        self.answer_all(None, out);
        self.close(Closed::ByClient, out);
    }

    /// Checks the key, when keys are in use, and remembers the next (XEP-0124 section 15.4).
    fn is_key_valid(&mut self, request: &Request) -> bool {
        let valid = match (self.key, &request.key) {
            (None, _) => true,
            (Some(announced), Some(key)) => hash_of_key(key) == announced,
            (Some(_), None) => false,
        };
        if let (Some(_), Some(key)) = (self.key, &request.key) {
            // A key is the hash of the next one, in hex. What is no hash at all is no key's hash, and neither in
            // practice is zero.
            self.key = Some(key_hash(key).unwrap_or_default());
        }
        if request.new_key.is_some() {
            self.key = request.new_key;
        }
        valid
    }

    /// Whether a client that polls has sent two empty requests too close to each other (XEP-0124 section 12).
    fn polls_too_often(&mut self, request: &Request, config: &Config, now: u64) -> bool {
        let polled_at = request.is_empty_poll().then_some(now);
        let before = std::mem::replace(&mut self.polled_at, polled_at);
        let is_polling = self.hold == 0 || self.wait_seconds == 0;
        is_polling
            && polled_at.is_some()
            && before.is_some_and(|before| now < before + millis(config.polling))
    }

    /// Answers what need not or must not wait any longer.
    fn settle(&mut self, config: &Config, now: u64, out: &mut Vec<Event>) {
        while !self.is_closed {
            let too_many = self.held.len() > usize::from(self.hold);
            let at_once = self.wait_seconds == 0 && !self.held.is_empty();
            if too_many || at_once || (self.queue.is_urgent() && self.is_waiting()) {
                self.answer_oldest(config, now, out);
            } else {
                break;
            }
        }
    }

    /// Answers the oldest of the held requests with what is queued, and keeps the answer.
    fn answer_oldest(&mut self, config: &Config, now: u64, out: &mut Vec<Event>) {
        if self.held.is_empty() {
            return;
        }
        let Held { rid, ticket, created, .. } = self.held.remove(0);
        let mut body = Body::default();
        if let Some(created) = &created {
            self.write_created(created, config, &mut body);
        }
        if self.wants_acks && (self.rid != rid || created.is_some()) {
            body.attr("ack", self.rid);
        }
        // What no connection would carry waits for one that does.
        let ends = ticket.is_some() && self.queue.fill(&mut body, config.max_concat);
        let body = (!body.is_empty()).then(|| Arc::from(body.finish()));
        if let Some(ticket) = ticket {
            out.push(Event::Respond(ticket, body.clone().unwrap_or_else(|| EMPTY_BODY.into())));
        }
        self.keep(rid, body);
        self.rest(now, config.max_inactivity);
        if ends {
            self.answer_all(None, out);
            self.close(self.ending.unwrap_or(Closed::ByServer), out);
        }
    }

    fn keep(&mut self, rid: u64, body: Option<Arc<[u8]>>) {
        let requests = usize::from(self.hold) + 1;
        if self.kept.len() >= requests {
            self.kept.remove(0);
        }
        self.kept.reserve_exact(requests - self.kept.len());
        self.kept.push(Kept { rid, body });
    }

    /// The attributes of the answer that creates a session (XEP-0124 section 7.2, XEP-0206 section 3).
    fn write_created(&self, created: &Created, config: &Config, body: &mut Body) {
        let (major, minor) = created.version;
        body.attr("sid", &created.sid);
        body.attr("wait", self.wait_seconds);
        body.attr("ver", format_args!("{major}.{minor}"));
        body.attr("polling", config.polling.as_secs());
        body.attr("inactivity", config.max_inactivity.as_secs());
        body.attr("hold", self.hold);
        body.attr("xmpp:restartlogic", "true");
        body.attr("requests", self.requests());
        body.attr("secure", "true");
        body.attr("maxpause", config.max_pause.as_secs());
        body.attr("xmlns:xmpp", NS_XBOSH);
        body.attr("xmlns:stream", NS_STREAM);
        body.attr("from", &self.stream.to);
    }

    /// The client broke a rule: the request that did it is told so, others that another did.
    fn fail(&mut self, condition: Condition, ticket: Option<Ticket>, out: &mut Vec<Event>) {
        self.answer_all(Some(Condition::OtherRequest), out);
        out.extend(ticket.map(|ticket| respond(ticket, terminal_body(condition))));
        self.close(Closed::Failed(condition), out);
    }

    /// Ends all requests that are not answered.
    fn answer_all(&mut self, condition: Option<Condition>, out: &mut Vec<Event>) {
        let held = self.held.drain(..).filter_map(|held| held.ticket);
        let early = self.early.drain(..).filter_map(|early| early.ticket);
        for ticket in held.chain(early) {
            let mut body = Body::default();
            body.terminate(condition);
            out.push(respond(ticket, body.finish()));
        }
    }

    fn close(&mut self, how: Closed, out: &mut Vec<Event>) {
        if !self.is_closed {
            self.is_closed = true;
            out.push(Event::Closed(how));
        }
    }

    fn stream_event(&self, event: xmpp::Event, out: &mut Vec<Event>) {
        if self.ending.is_none() {
            out.push(Event::Stream(event));
        }
    }
}

impl StreamInfo {
    /// The stream header that a c2s expects.
    fn start(&self) -> xmpp::Event {
        let mut header = ElementBuilder::default();
        header.start(b"stream:stream");
        header.attr(b"to", self.to.as_bytes());
        header.attr(b"xmlns", NS_CLIENT.as_bytes());
        header.attr(b"xmlns:xmpp", NS_XBOSH.as_bytes());
        header.attr(b"xmlns:stream", NS_STREAM.as_bytes());
        if let Some(version) = &self.version {
            header.attr(b"version", version.as_bytes());
        }
        if let Some(lang) = &self.lang {
            header.attr(b"xml:lang", lang.as_bytes());
        }
        header.end();
        xmpp::Event::StreamStart(header.finish().unwrap_or_default())
    }

    fn restart(&mut self, request: &Request) {
        if let Some(to) = &request.to {
            self.to = to.clone();
        }
        if request.xmpp_version.is_some() {
            self.version = request.xmpp_version.clone();
        }
        if request.lang.is_some() {
            self.lang = request.lang.clone();
        }
    }
}

fn respond(ticket: Ticket, body: Vec<u8>) -> Event {
    Event::Respond(ticket, body.into())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
