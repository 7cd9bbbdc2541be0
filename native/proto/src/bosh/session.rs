//! One session: what its requests mean, when they are answered, and when it ends.

use std::sync::Arc;
use std::time::Duration;

use super::output::{Answer, Output, Ticket};
use super::queue::{Encoded, Queue};
use super::request::{KeyHash, Request, hash_of_key, key_hash};
use super::response::recoverable_body;
use super::stream_info::StreamInfo;
use super::window::{Early, Held, Place, Repeated, Window};
use super::{Condition, Config};
use crate::time::Time;
use crate::xmpp;

mod answering;

use answering::Share;

/// The version of XEP-0124 that this is.
const VERSION: (u32, u32) = (1, 11);

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The client ended it. The c2s has the end of the stream.
    ByClient,
    /// The c2s, or whoever called [`Session::queue_end`] or [`Session::abort`], ended it.
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
/// - [`queue_header`](Self::queue_header), [`queue`](Self::queue), [`queue_end`](Self::queue_end): the c2s has sent
///   something; then, once for all that it sent in one go, [`flush`](Self::flush);
/// - [`abort`](Self::abort): the session has to end.
///
/// After any of them: [`poll_answer`](Self::poll_answer) until there is none, [`poll_event`](Self::poll_event) as fast as
/// the c2s takes events, [`poll_timeout`](Self::poll_timeout), and [`closed`](Self::closed). A closed session is to be
/// forgotten when its events and answers are taken: nothing more comes. `now` never goes back.
///
/// Bounded by the `requests` that the session allows (one more than it holds), and the one more that a client may send
/// to pause or to end the session: as many requests are held or waiting for their turn, and as many answers kept, twice as
/// many when the client says that it lacks them. So are the events, if the owner calls [`handle_request`](Self::handle_request) only while there are
/// [none](Self::has_events); else it keeps the request itself and says so by [`handle_delay`](Self::handle_delay). What
/// the c2s queued is not bounded here ([`queued_bytes`](Self::queued_bytes) tells).
///
/// While idle, that is with one request held, it holds 24 bytes for that, what its requests said of the stream, and 32
/// bytes and the answer for each answer kept, up to `requests` less those held. An empty answer is kept in 16 bytes.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    stream: StreamInfo,
    /// What the first answer says of the session, until it is given.
    created: Option<Box<Created>>,
    /// The hash that the next request's key has to have.
    key: Option<Box<KeyHash>>,
    window: Window,
    /// What the c2s sent, while there is anything.
    queue: Option<Box<Queue>>,
    output: Output,
    wait_seconds: u32,
    /// When the last request came, if it was an empty poll and its answer, unless still due, had no payload.
    polled_at: Option<Time>,
    /// When the session ends unless a request is waiting.
    inactive_at: Time,
    wants_acks: bool,
    /// Who has ended the stream; nothing more goes to or comes from the c2s.
    ending: Option<Closed>,
    closed: Option<Closed>,
}

#[derive(Debug)]
struct Created {
    sid: Box<str>,
    version: (u32, u32),
}

impl Session {
    /// A session for a request without one; its first event is the stream header. The answer waits for what the c2s says
    /// to that. `sid` has to come from a cryptographic source.
    ///
    /// Fails with [`Condition::ImproperAddressing`] when the request says no host.
    pub fn create(
        request: Request,
        sid: &str,
        ticket: Ticket,
        config: Arc<Config>,
        now: Time,
    ) -> Result<Self, Condition> {
        let stream = StreamInfo::of_session(&request).ok_or(Condition::ImproperAddressing)?;
        let max_wait = u32::try_from(config.max_wait.as_secs()).unwrap_or(u32::MAX);
        let hold = request.hold.and_then(|hold| u8::try_from(hold).ok()).unwrap_or(config.max_hold);
        let version = request.version.unwrap_or(VERSION).min(VERSION);
        let mut session = Self {
            stream,
            created: Some(Box::new(Created { sid: sid.into(), version })),
            key: request.new_key.map(Box::new),
            window: Window::new(request.rid, hold.min(config.max_hold)),
            queue: None,
            output: Output::default(),
            wait_seconds: request.wait.unwrap_or(max_wait).min(max_wait),
            polled_at: None,
            inactive_at: now.after(config.max_inactivity),
            wants_acks: request.ack == Some(1),
            ending: None,
            closed: None,
            config,
        };
        session.window.hold(Held { ticket: Some(ticket), answer_at: session.answer_at(now) });
        session.start_stream();
        session.take_payload(request);
        session.settle(now);
        Ok(session)
    }

    /// A request has arrived. Not to be called while there [are events](Self::has_events).
    pub fn handle_request(&mut self, request: Request, ticket: Ticket, now: Time) {
        match self.window.place(request.rid, request.may_be_extra()) {
            _ if self.closed.is_some() => self.fail(Condition::ItemNotFound, Some(ticket)),
            Place::Beyond => self.fail(Condition::ItemNotFound, Some(ticket)),
            Place::Early => {
                let replaced = self.window.take_early(request, ticket);
                self.recover(replaced);
                self.extend_rest(now);
            }
            Place::Past => {
                self.repeat(request.rid, ticket);
                self.extend_rest(now);
            }
            Place::Next => {
                self.process(request, Some(ticket), now);
                while self.closed.is_none()
                    && let Some(Early { ticket, request }) = self.window.next_early()
                {
                    self.process(*request, ticket, now);
                }
            }
        }
        self.settle(now);
    }

    /// The connection of a request that is not answered was lost. Its answer will be kept for the client to ask for
    /// again.
    pub fn handle_disconnect(&mut self, ticket: Ticket, now: Time) {
        if self.window.lose(ticket) {
            self.rest(now, self.config.max_inactivity);
        }
    }

    /// The client of a request's connection has closed its side: it may have closed both, and is not to be waited for. The
    /// request, and those before it, are answered now; the first of all when there is something to say.
    pub fn handle_hurry(&mut self, ticket: Ticket, now: Time) {
        if self.created.is_none() && self.window.hurry(ticket, now) {
            self.handle_timeout(now);
        }
    }

    /// How many requests the client may have under way.
    pub fn requests(&self) -> usize {
        usize::from(self.window.hold_count()) + 1
    }

    /// A request has arrived that the caller will pass on later, or was lost before that: the session is not inactive.
    pub fn handle_delay(&mut self, now: Time) {
        self.extend_rest(now);
    }

    /// Time has passed: requests that waited long enough are answered, and an inactive session ends.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.closed.is_some() {
            return;
        }
        if !self.window.is_waiting() && now >= self.inactive_at {
            self.answer_all(Some(Condition::ItemNotFound));
            self.closed = Some(Closed::Inactive);
        }
        while self.window.is_waiting() && self.window.oldest().is_some_and(|held| held.answer_at <= now) {
            self.answer_oldest(Share::Usual, now);
        }
    }

    /// What the c2s is to be told next, as from an XML stream. Events stay until they are taken, also when the session
    /// is over.
    pub fn poll_event(&mut self) -> Option<xmpp::Event> {
        self.output.take_event()
    }

    /// Whether there is an event.
    pub fn has_events(&self) -> bool {
        self.output.has_events()
    }

    /// Which request to answer next, and with what.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.output.take_answer()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); earlier does no harm. None when it is over.
    pub fn poll_timeout(&self) -> Option<Time> {
        let at = if self.window.is_waiting() { self.window.oldest()?.answer_at } else { self.inactive_at };
        self.closed.is_none().then_some(at)
    }

    /// Whether and how it is over. All requests are answered; what is left is to take the events and answers.
    pub fn closed(&self) -> Option<Closed> {
        self.closed
    }

    /// The c2s has sent a stream header with this `id` and `version`; empty where it has none.
    pub fn queue_header(&mut self, id: &[u8], version: &[u8]) {
        if self.ending.is_none() {
            self.queue.get_or_insert_default().push_header(id, version);
        }
    }

    /// The c2s has sent a stanza or another element. After a stream error nothing more is sent.
    pub fn queue(&mut self, element: Encoded) {
        if self.ending.is_none() {
            self.ending = element.is_stream_error().then_some(Closed::ByServer);
            self.queue.get_or_insert_default().push_element(element);
        }
    }

    /// The c2s has ended the stream, or is gone. The client hears of it in its next answer; until then, or until it
    /// is inactive, the session stays.
    pub fn queue_end(&mut self, condition: Option<Condition>) {
        self.end(Closed::ByServer, condition);
    }

    /// Answers waiting requests with what is queued.
    pub fn flush(&mut self, now: Time) {
        self.settle(now);
    }

    /// Ends the session at once. All its requests are answered with the condition; what is queued is left in
    /// [`undelivered`](Self::undelivered).
    pub fn abort(&mut self, condition: Condition) {
        self.answer_all(Some(condition));
        self.closed.get_or_insert(Closed::ByServer);
    }

    /// Bytes of the elements that are queued.
    pub fn queued_bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes())
    }

    /// The stanzas, encoded, that the client never got; the server's own elements, such as its features and errors, are
    /// not among them. ejabberd routes messages among them again when a session ends.
    pub fn undelivered(&self) -> impl Iterator<Item = &[u8]> {
        self.queue.iter().flat_map(|queue| queue.stanzas())
    }

    /// Bytes of heap memory that the session holds; what is queued, came early or was not yet polled apart.
    pub fn heap_bytes(&self) -> usize {
        let created = self.created.as_ref().map_or(0, |created| size_of::<Created>() + created.sid.len());
        let key = self.key.as_ref().map_or(0, |_| size_of::<KeyHash>());
        self.stream.heap_bytes() + self.window.heap_bytes() + created + key
    }

    fn answer_at(&self, now: Time) -> Time {
        now.after(Duration::from_secs(self.wait_seconds.into()))
    }

    /// Starts the time of inactivity, if no request is waiting.
    fn rest(&mut self, now: Time, inactivity: Duration) {
        if !self.window.is_waiting() {
            self.inactive_at = now.after(inactivity);
        }
    }

    /// A sign of life that is no new request: it does not end a pause.
    fn extend_rest(&mut self, now: Time) {
        self.inactive_at = self.inactive_at.max(now.after(self.config.max_inactivity));
    }

    /// A request that was processed before comes again (XEP-0124 section 14.3).
    fn repeat(&mut self, rid: u64, ticket: Ticket) {
        match self.window.repeat(rid, ticket) {
            Repeated::Held(replaced) => self.recover(replaced),
            Repeated::Kept(body) => self.respond(ticket, body),
            Repeated::Forgotten => self.fail(Condition::ItemNotFound, Some(ticket)),
        }
    }

    /// Tells a request that another came in its place.
    fn recover(&mut self, replaced: Option<Ticket>) {
        if let Some(ticket) = replaced {
            self.respond(ticket, recoverable_body().into());
        }
    }

    /// Processes the request whose turn it is.
    fn process(&mut self, request: Request, ticket: Option<Ticket>, now: Time) {
        let pause = request.pause.map(|seconds| Duration::from_secs(seconds.into()));
        if !self.is_key_valid(&request) {
            return self.fail(Condition::ItemNotFound, ticket);
        }
        if self.polls_too_often(&request, now) || pause.is_some_and(|pause| pause > self.config.max_pause) {
            return self.fail(Condition::PolicyViolation, ticket);
        }
        self.window.hold(Held { ticket, answer_at: self.answer_at(now) });
        self.window.acknowledge(request.ack.filter(|_| self.wants_acks), request.may_be_extra());
        let is_terminate = request.is_terminate;
        if request.is_restart {
            self.stream = self.stream.restarted(&request);
            self.start_stream();
        } else {
            self.take_payload(request);
        }
        if is_terminate {
            self.terminate(now);
        } else if let Some(pause) = pause {
            self.pause(pause, now);
        }
    }

    /// The client ends the session: the request that says so is answered last, with all that is left.
    fn terminate(&mut self, now: Time) {
        self.stream_event(xmpp::Event::StreamEnd("stream:stream".into()));
        while self.window.held_len() > 1 {
            self.answer_oldest(Share::Usual, now);
        }
        self.end(Closed::ByClient, None);
        self.answer_oldest(Share::All, now);
        self.answer_all(None);
        self.closed.get_or_insert(Closed::ByClient);
    }

    /// The client pauses (XEP-0124 section 10): all requests are answered at once, the one that says so, which is the
    /// last, without a payload. When the stream has ended there is nothing to pause, and the client hears of that.
    fn pause(&mut self, pause: Duration, now: Time) {
        while self.window.held_len() > 1 {
            self.answer_oldest(Share::Usual, now);
        }
        let share = if self.ending.is_some() { Share::All } else { Share::Nothing };
        self.answer_oldest(share, now);
        // It makes the time longer, and not shorter.
        self.rest(now, pause.max(self.config.max_inactivity));
    }

    /// Checks the key, when keys are in use, and remembers the next (XEP-0124 section 15.4).
    fn is_key_valid(&mut self, request: &Request) -> bool {
        let mut is_valid = true;
        if let Some(announced) = &mut self.key {
            let key = request.key.as_deref();
            is_valid = key.is_some_and(|key| hash_of_key(key) == **announced);
            // A key is the hash of the next one, in hex. What is no hash at all is no key's hash, and neither in
            // practice is zero.
            **announced = key.and_then(key_hash).unwrap_or_default();
        }
        if let Some(new_key) = request.new_key {
            self.key = Some(Box::new(new_key));
        }
        is_valid
    }

    /// Whether a client that polls has sent two empty requests too close to each other, although the answer to the
    /// first had nothing for it (XEP-0124 section 12).
    fn polls_too_often(&mut self, request: &Request, now: Time) -> bool {
        let polled_at = request.is_empty_poll().then_some(now);
        let before = std::mem::replace(&mut self.polled_at, polled_at);
        let is_polling = self.window.hold_count() == 0 || self.wait_seconds == 0;
        // When both came before their turn, the first is still to be answered.
        let gets_payload = self.window.held_len() > 0 && self.queued_bytes() > 0;
        is_polling
            && polled_at.is_some()
            && !gets_payload
            && before.is_some_and(|before| now.since(before) < self.config.polling)
    }

    /// The stream ends with what is queued.
    fn end(&mut self, how: Closed, condition: Option<Condition>) {
        if self.ending.is_none() {
            self.queue.get_or_insert_default().push_end(condition);
            self.ending = Some(how);
        }
    }

    fn start_stream(&mut self) {
        let start = self.stream.start();
        self.stream_event(start);
        self.stream.keep_short();
    }

    fn take_payload(&mut self, request: Request) {
        for stanza in request.payload {
            self.stream_event(xmpp::Event::Element(stanza));
        }
    }

    fn stream_event(&mut self, event: xmpp::Event) {
        if self.ending.is_none() {
            self.output.push_event(event);
        }
    }
}
