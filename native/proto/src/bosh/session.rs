//! One session: what its requests mean, when they are answered, and when it ends.

use std::sync::Arc;
use std::time::Duration;

use super::request::{KeyHash, Request, hash_of_key, key_hash};
use super::response::{Body, EMPTY_BODY, Queue, recoverable_body, terminal_body};
use super::stream_info::StreamInfo;
use super::window::{Early, Held, Place, Repeated, Window};
use super::{Condition, Config, NS_XBOSH};
use crate::xmpp::{self, Element, NS_STREAM};

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
/// - [`handle_delay`](Self::handle_delay): a request has arrived, and is kept back for a while;
/// - [`queue_header`](Self::queue_header), [`queue_element`](Self::queue_element), [`queue_end`](Self::queue_end):
///   the c2s has sent something; then, once for all that it sent in one go, [`flush`](Self::flush);
/// - [`abort`](Self::abort): the session has to end.
///
/// What follows from it is appended to `out`, to be carried out in order. After [`Event::Closed`] nothing more comes.
/// `now` is time since any fixed start and never goes back; `config` is the same in each call.
///
/// Bounded by the `requests` that the session allows (one more than it holds): as many requests are held or waiting
/// for their turn, and as many answers kept. What the c2s queued is not bounded here
/// ([`queued_bytes`](Self::queued_bytes) tells).
#[derive(Debug)]
pub struct Session {
    stream: StreamInfo,
    /// What the first answer says of the session, until it is given.
    created: Option<Box<Created>>,
    /// The hash that the next request's key has to have.
    key: Option<KeyHash>,
    window: Window,
    wait_seconds: u32,
    wants_acks: bool,
    /// Who has ended the stream; nothing more goes to or comes from the c2s.
    ending: Option<Closed>,
    is_closed: bool,
    queue: Queue,
    /// When the last request came, in milliseconds, if it was an empty poll and its answer, unless still due, had no
    /// payload.
    polled_at: Option<u64>,
    /// When the session ends unless a request is waiting, in milliseconds.
    inactive_at: u64,
}

#[derive(Debug)]
struct Created {
    sid: Box<str>,
    version: (u32, u32),
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
            stream: StreamInfo::new(
                &to,
                request.xmpp_version.as_deref(),
                request.lang.as_deref(),
                request.content.as_deref(),
            ),
            created: Some(Box::new(Created {
                sid: sid.into(),
                version: request.version.unwrap_or(VERSION).min(VERSION),
            })),
            key: request.new_key,
            window: Window::new(request.rid, hold.min(config.max_hold)),
            wait_seconds,
            wants_acks: request.ack == Some(1),
            ending: None,
            is_closed: false,
            queue: Queue::default(),
            polled_at: None,
            inactive_at: now + millis(config.max_inactivity),
        };
        session.window.hold(Held { ticket: Some(ticket), answer_at: session.answer_at(now) });
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
        match self.window.place(request.rid) {
            _ if self.is_closed => self.fail(Condition::ItemNotFound, Some(ticket), out),
            Place::Beyond => self.fail(Condition::ItemNotFound, Some(ticket), out),
            Place::Early => {
                let replaced = self.window.take_early(request, ticket);
                out.extend(replaced.map(|before| respond(before, recoverable_body())));
                self.extend_rest(now, config);
            }
            Place::Past => {
                self.repeat(request.rid, ticket, out);
                self.extend_rest(now, config);
            }
            Place::Next => {
                self.process(request, Some(ticket), config, now, out);
                while !self.is_closed
                    && let Some(Early { ticket, request }) = self.window.next_early()
                {
                    self.process(*request, ticket, config, now, out);
                }
            }
        }
        self.settle(config, now, out);
    }

    /// The connection of a request that is not answered was lost. Its answer will be kept for the client to ask for
    /// again.
    pub fn handle_disconnect(&mut self, ticket: Ticket, config: &Config, now: Duration) {
        if self.window.lose(ticket) {
            self.rest(millis(now), config.max_inactivity);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); earlier does no harm.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let at = if self.window.is_waiting() { self.window.oldest()?.answer_at } else { self.inactive_at };
        (!self.is_closed).then(|| Duration::from_millis(at))
    }

    /// Time has passed: requests that waited long enough are answered, and an inactive session ends.
    pub fn handle_timeout(&mut self, config: &Config, now: Duration, out: &mut Vec<Event>) {
        let now = millis(now);
        if self.is_closed {
            return;
        }
        if !self.window.is_waiting() && now >= self.inactive_at {
            self.answer_all(Some(Condition::ItemNotFound), out);
            self.close(Closed::Inactive, out);
        }
        while self.window.is_waiting() && self.window.oldest().is_some_and(|held| held.answer_at <= now) {
            self.answer_oldest(config, now, out);
        }
    }

    /// A request has arrived that the caller will pass on later, or was lost before that: the session is not inactive.
    pub fn handle_delay(&mut self, config: &Config, now: Duration) {
        self.extend_rest(millis(now), config);
    }

    /// Ends the session at once. All its requests are answered with the condition; what is queued is left in
    /// [`undelivered`](Self::undelivered).
    pub fn abort(&mut self, condition: Condition, out: &mut Vec<Event>) {
        self.answer_all(Some(condition), out);
        self.close(Closed::ByServer, out);
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
        self.stream.content().unwrap_or(super::CONTENT_TYPE)
    }

    /// Bytes of heap memory that the session holds, what is queued and what came early apart.
    pub fn heap_bytes(&self) -> usize {
        self.stream.heap_bytes() + self.window.heap_bytes()
    }

    fn answer_at(&self, now: u64) -> u64 {
        now + 1000 * u64::from(self.wait_seconds)
    }

    /// Starts the time of inactivity, if no request is waiting.
    fn rest(&mut self, now: u64, inactivity: Duration) {
        if !self.window.is_waiting() {
            self.inactive_at = now + millis(inactivity);
        }
    }

    /// A sign of life that is no new request: it does not end a pause.
    fn extend_rest(&mut self, now: u64, config: &Config) {
        self.inactive_at = self.inactive_at.max(now + millis(config.max_inactivity));
    }

    /// A request that was processed before comes again (XEP-0124 section 14.3).
    fn repeat(&mut self, rid: u64, ticket: Ticket, out: &mut Vec<Event>) {
        match self.window.repeat(rid, ticket) {
            Repeated::Held(replaced) => {
                out.extend(replaced.map(|before| respond(before, recoverable_body())));
            }
            Repeated::Kept(body) => out.push(Event::Respond(ticket, body)),
            Repeated::Forgotten => self.fail(Condition::ItemNotFound, Some(ticket), out),
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
        if self.wants_acks {
            self.window.forget_up_to(request.ack.unwrap_or(0));
        }
        self.window.hold(Held { ticket, answer_at: self.answer_at(now) });
        if request.is_restart {
            self.stream = self.stream.restarted(&request);
            self.stream_event(self.stream.start(), out);
        } else {
            for stanza in request.payload {
                self.stream_event(xmpp::Event::Element(stanza), out);
            }
        }
        if request.is_terminate {
            self.terminate(config, now, out);
        } else if let Some(pause) = pause {
            while self.window.held_len() > 0 {
                self.answer_oldest(config, now, out);
            }
            self.rest(now, pause);
        }
    }

    /// The client ends the session: the request that says so is answered last, with all that is left.
    fn terminate(&mut self, config: &Config, now: u64, out: &mut Vec<Event>) {
        self.stream_event(xmpp::Event::StreamEnd("stream:stream".into()), out);
        while self.window.held_len() > 1 {
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

    /// Whether a client that polls has sent two empty requests too close to each other, although the answer to the
    /// first had nothing for it (XEP-0124 section 12).
    fn polls_too_often(&mut self, request: &Request, config: &Config, now: u64) -> bool {
        let polled_at = request.is_empty_poll().then_some(now);
        let before = std::mem::replace(&mut self.polled_at, polled_at);
        let is_polling = self.window.hold_count() == 0 || self.wait_seconds == 0;
        // When both came before their turn, the first is still to be answered.
        let gets_payload = self.window.held_len() > 0 && self.queue.bytes() > 0;
        is_polling
            && polled_at.is_some()
            && !gets_payload
            && before.is_some_and(|before| now < before + millis(config.polling))
    }

    /// Answers what need not or must not wait any longer.
    fn settle(&mut self, config: &Config, now: u64, out: &mut Vec<Event>) {
        while !self.is_closed {
            let at_once = self.wait_seconds == 0 && self.window.held_len() > 0;
            let has_news = self.queue.is_urgent() && self.window.is_waiting();
            if self.window.holds_too_many() || at_once || has_news {
                self.answer_oldest(config, now, out);
            } else {
                break;
            }
        }
    }

    /// Answers the oldest of the held requests with what is queued, and keeps the answer.
    fn answer_oldest(&mut self, config: &Config, now: u64, out: &mut Vec<Event>) {
        let Some(Held { ticket, .. }) = self.window.take_oldest() else { return };
        let mut body = Body::default();
        let created = self.created.take();
        if let Some(created) = &created {
            self.write_created(created, config, &mut body);
        }
        if self.wants_acks && (self.window.held_len() > 0 || created.is_some()) {
            body.attr("ack", self.window.rid());
        }
        // What no connection would carry waits for one that does.
        let ends = ticket.is_some() && self.queue.fill(&mut body, config.max_concat);
        if body.has_payload() && self.window.held_len() == 0 {
            self.polled_at = None;
        }
        let body = (!body.is_empty()).then(|| Arc::from(body.finish()));
        if let Some(ticket) = ticket {
            out.push(Event::Respond(ticket, body.clone().unwrap_or_else(|| EMPTY_BODY.into())));
        }
        self.window.keep(body);
        self.rest(now, config.max_inactivity);
        if ends {
            self.answer_all(None, out);
            self.close(self.ending.unwrap_or(Closed::ByServer), out);
        }
    }

    /// The attributes of the answer that creates a session (XEP-0124 section 7.2, XEP-0206 section 3).
    fn write_created(&self, created: &Created, config: &Config, body: &mut Body) {
        let (major, minor) = created.version;
        body.attr("sid", &created.sid);
        body.attr("wait", self.wait_seconds);
        body.attr("ver", format_args!("{major}.{minor}"));
        body.attr("polling", config.polling.as_secs());
        body.attr("inactivity", config.max_inactivity.as_secs());
        body.attr("hold", self.window.hold_count());
        body.attr("xmpp:restartlogic", "true");
        body.attr("requests", self.window.requests());
        body.attr("secure", "true");
        body.attr("maxpause", config.max_pause.as_secs());
        body.attr("xmlns:xmpp", NS_XBOSH);
        body.attr("xmlns:stream", NS_STREAM);
        body.attr("from", self.stream.to());
    }

    /// The client broke a rule: the request that did it is told so, others that another did.
    fn fail(&mut self, condition: Condition, ticket: Option<Ticket>, out: &mut Vec<Event>) {
        self.answer_all(Some(Condition::OtherRequest), out);
        out.extend(ticket.map(|ticket| respond(ticket, terminal_body(condition))));
        self.close(Closed::Failed(condition), out);
    }

    /// Ends all requests that are not answered.
    fn answer_all(&mut self, condition: Option<Condition>, out: &mut Vec<Event>) {
        for ticket in self.window.take_tickets() {
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

fn respond(ticket: Ticket, body: Vec<u8>) -> Event {
    Event::Respond(ticket, body.into())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
