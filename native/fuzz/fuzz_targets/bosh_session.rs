//! A BOSH session's client, its pipelined connections, clock and c2s, doing what they may do in any order.
//!
//! Held to be true: each request is answered once unless its connection was lost, none after that, and all when the
//! session ends; on a connection the answers leave in the order of the requests; a time-out that is due moves the next
//! one on, and one that is not changes nothing; no request is held longer than agreed; what the c2s sends is in the
//! answers or undelivered, once and in order; what a client sends reaches the c2s once and in order, until the stream is
//! over; a repeated request gets the same answer, for as long as the client may have missed it; a pause gets no payload.
#![no_main]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::xml::WIDE;
use megaphone_proto::bosh::{
    Closed, Condition, Config, Encoded, Exchange, Request, Response, Session, Ticket, terminal_body,
};
use megaphone_proto::http::RequestHead;
use megaphone_proto::time::Time;
use megaphone_proto::xmpp::{self, parse_element};

#[derive(Arbitrary, Debug)]
struct Setup {
    wait: u8,
    hold: u8,
    max_concat: Option<u8>,
    wants_acks: bool,
    has_keys: bool,
    /// Whether the c2s takes events at an operation of its own only.
    is_slow: bool,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    /// A request on one of the connections, so far from the one whose turn it is.
    Request {
        line: u8,
        ahead: i8,
        says: Says,
        stanzas: u8,
    },
    /// The request whose turn it is, with nothing to say.
    Poll(u8),
    /// One of those that were processed last.
    Repeat(u8),
    /// One of the connections.
    Disconnect(u8),
    /// Tenths of seconds, in which time-outs are handled when they are due.
    Wait(u16),
    /// Tenths of seconds, in which nobody looks at the clock.
    Oversleep(u16),
    HandleTimeout,
    TakeEvents,
    QueueHeader(bool),
    QueueElement(u8),
    QueueEnd(bool),
    Flush,
    /// An element, flushed.
    Send(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Says {
    Nothing,
    Terminate,
    Restart,
    Pause(u8),
    Ack(u8),
    Key(u8),
    NewKey(u8, u8),
}

/// Each is the SHA-1 of the one before it, in hex; so a client uses them from the last to the first.
const KEYS: [&str; 6] = [
    "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8",
    "eee411109a229046154bc9d75265a9ccb23a3a9c",
    "9322b0ec520babb53a70714f4418a08ef8572e26",
    "e78f4653b0eff6d97a2ed06e950d6d6fb90c23fe",
    "465ed2f18aacfe11803652abbcf983ddeb772536",
    "c7a6f8684b46bc2839aae27232021a0a582a567e",
];
const ELEMENTS: [&str; 4] = ["message", "r", "stream:features", "stream:error"];
const FIRST_RID: u64 = 1000;
const CONFIG: Config = Config {
    max_inactivity: Duration::from_secs(30),
    max_pause: Duration::from_secs(100),
    max_concat: None,
    max_wait: Duration::from_secs(60),
    max_hold: 3,
    polling: Duration::from_secs(2),
};
/// Connections of the client, every other of which closes after each answer.
const LINES: usize = 4;

/// A request that was received, and is neither answered nor lost.
struct Open {
    rid: u64,
    line: usize,
    /// On its connection.
    number: u8,
}

/// A connection.
#[derive(Default)]
struct Line {
    exchange: Exchange,
    /// Requests whose answers have not left.
    sent: VecDeque<Ticket>,
    /// Answers that have not left.
    answers: BTreeMap<Ticket, Arc<[u8]>>,
}

struct World {
    session: Session,
    config: Config,
    now: Time,
    hold: u64,
    wait: Duration,
    is_slow: bool,
    tickets: u64,
    lines: [Line; LINES],
    open: BTreeMap<Ticket, Open>,
    /// What the owner keeps back while there are events.
    delayed: VecDeque<(Ticket, Request)>,
    /// The request whose turn it is.
    next_rid: u64,
    early: BTreeSet<u64>,
    pauses: BTreeSet<u64>,
    processed_at: BTreeMap<u64, Time>,
    /// The client has said that it has the answers up to this one.
    acknowledged: u64,
    heard: Heard,
    /// Elements that the c2s sent: whether they are stanzas.
    queued: Vec<bool>,
    closed: Option<Closed>,
}

/// What came of it on both sides.
#[derive(Default)]
struct Heard {
    /// Elements that the client got.
    delivered: u32,
    /// The answers that are no errors.
    answers: BTreeMap<u64, Arc<[u8]>>,
    /// The request and position of the stanza that the c2s got last.
    stanza: (u64, u8),
    /// Whether the stream has ended, by either side.
    is_over: bool,
}

fuzz_target!(|input: (Setup, Vec<Operation>)| {
    let (setup, operations) = input;
    let mut world = World::new(&setup);
    for operation in operations {
        world.perform(operation);
        world.check();
    }
    world.finish();
});

fn request(rid: u64, attrs: &str, stanzas: u8) -> Request {
    let payload: String = (1..=stanzas).map(|index| format!("<iq n='{rid}.{index}'/>")).collect();
    let body = format!(
        "<body rid='{rid}'{attrs} xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh'>\
         {payload}</body>"
    );
    Request::parse(body.as_bytes(), &WIDE).expect("a body of ours")
}

fn tenths(time: Time, more: u16) -> Time {
    Time::from_ticks(time.ticks() + u32::from(more))
}

impl World {
    fn new(setup: &Setup) -> Self {
        let config = Config { max_concat: setup.max_concat.map(|most| usize::from(most % 3) + 1), ..CONFIG };
        let (wait, hold) = (setup.wait % 80, setup.hold % 5);
        let mut attrs = format!(" to='a' wait='{wait}' hold='{hold}'");
        attrs.push_str(if setup.wants_acks { " ack='1'" } else { "" });
        if setup.has_keys {
            attrs.push_str(&format!(" newkey='{}'", KEYS[KEYS.len() - 1]));
        }
        let now = Time::from_ticks(50);
        let session = Session::create(request(FIRST_RID, &attrs, 1), "s1d", 0, Arc::new(config), now);
        let mut world = Self {
            session: session.expect("a host is named"),
            config,
            now,
            hold: u64::from(hold.min(config.max_hold)),
            wait: Duration::from_secs(wait.into()).min(config.max_wait),
            is_slow: setup.is_slow,
            tickets: 0,
            lines: Default::default(),
            open: BTreeMap::new(),
            delayed: VecDeque::new(),
            next_rid: FIRST_RID + 1,
            early: BTreeSet::new(),
            pauses: BTreeSet::new(),
            processed_at: BTreeMap::from([(FIRST_RID, now)]),
            acknowledged: FIRST_RID - 1,
            heard: Heard::default(),
            queued: Vec::new(),
            closed: None,
        };
        world.begin(FIRST_RID, 0);
        world.settle();
        world.check();
        world
    }

    fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Request { line, ahead, says, stanzas } => {
                self.send_request(line, ahead, says, stanzas % 3);
            }
            Operation::Poll(line) => self.send_request(line, 0, Says::Nothing, 0),
            Operation::Repeat(back) => self.send_request(back / 4, -1 - (back % 4) as i8, Says::Nothing, 0),
            Operation::Disconnect(which) => self.disconnect(usize::from(which) % LINES),
            Operation::Wait(more) => self.wait_until(tenths(self.now, more)),
            Operation::Oversleep(more) => self.now = tenths(self.now, more),
            Operation::HandleTimeout => self.session.handle_timeout(self.now),
            Operation::TakeEvents => self.take_events(),
            Operation::QueueHeader(has_version) => {
                self.session.queue_header(b"i'd", if has_version { b"1.0" } else { b"" });
            }
            Operation::QueueElement(kind) => self.queue_element(kind),
            Operation::QueueEnd(has_condition) => {
                self.hear_events();
                self.session.queue_end(has_condition.then_some(Condition::SystemShutdown));
                self.heard.is_over = true;
            }
            Operation::Send(kind) => {
                self.queue_element(kind);
                self.session.flush(self.now);
            }
            Operation::Flush => self.session.flush(self.now),
        }
        self.settle();
        if !self.is_slow {
            self.take_events();
        }
    }

    fn queue_element(&mut self, kind: u8) {
        let name = ELEMENTS[usize::from(kind) % ELEMENTS.len()];
        let number = self.queued.len() + 1;
        let text = format!("<{name} xmlns:stream='http://etherx.jabber.org/streams' n='{number}'/>");
        let element = parse_element(text.as_bytes(), &WIDE).expect("an element of ours");
        self.hear_events();
        self.session.queue(Encoded::new(&element));
        if !self.heard.is_over {
            self.queued.push(name == "message");
            self.heard.is_over = name == "stream:error";
        }
    }

    fn send_request(&mut self, line: u8, ahead: i8, says: Says, stanzas: u8) {
        let line = usize::from(line) % LINES;
        if !self.lines[line].exchange.has_room() {
            return;
        }
        let rid = self.next_rid.saturating_add_signed(i64::from(ahead) % 6);
        let key = |index: u8| KEYS[usize::from(index) % KEYS.len()];
        let attrs = match says {
            Says::Nothing => String::new(),
            Says::Terminate => " type='terminate'".to_owned(),
            Says::Restart => " to='a' xmpp:restart='true'".to_owned(),
            Says::Pause(seconds) => format!(" pause='{}'", seconds % 110),
            Says::Ack(back) => {
                let ack = self.next_rid - u64::from(back % 8);
                self.acknowledged = self.acknowledged.max(ack);
                format!(" ack='{ack}'")
            }
            Says::Key(index) => format!(" key='{}'", key(index)),
            Says::NewKey(index, new) => format!(" key='{}' newkey='{}'", key(index), key(new)),
        };
        let request = request(rid, &attrs, stanzas);
        let ticket = self.begin(rid, line);
        if self.session.has_events() || !self.delayed.is_empty() {
            self.delayed.push_back((ticket, request));
            self.session.handle_delay(self.now);
        } else {
            self.hand_over(ticket, request);
        }
    }

    fn begin(&mut self, rid: u64, index: usize) -> Ticket {
        let fields = if index % 2 == 1 { "Connection: close\r\n" } else { "" };
        let head = format!("POST /bosh HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let head = RequestHead::parse(head.as_bytes()).expect("a head of ours");
        let line = &mut self.lines[index];
        let number = line.exchange.begin(&head);
        assert!(!self.open.values().any(|open| open.line == index && open.number == number));
        let ticket = self.tickets;
        self.tickets += 1;
        line.sent.push_back(ticket);
        self.open.insert(ticket, Open { rid, line: index, number });
        ticket
    }

    /// Has the machine process a request.
    fn hand_over(&mut self, ticket: Ticket, request: Request) {
        let rid = request.rid;
        let (is_pause, may_be_extra) =
            (request.pause.is_some(), request.is_terminate || request.pause.is_some());
        let was_closed = self.closed.is_some();
        assert!(!self.session.has_events());
        self.session.handle_request(request, ticket, self.now);
        let place = rid.checked_sub(self.next_rid);
        let is_in_window = place.is_some_and(|place| place <= self.hold + u64::from(may_be_extra));
        if is_pause && is_in_window && !self.early.contains(&rid) {
            self.pauses.insert(rid);
        }
        let failed = matches!(self.session.closed(), Some(Closed::Failed(_)));
        if was_closed {
        } else if place == Some(0) {
            self.early.remove(&rid);
            self.processed();
        } else if is_in_window {
            assert!(!failed);
            self.early.insert(rid);
        } else if place.is_some() {
            assert_eq!(self.session.closed(), Some(Closed::Failed(Condition::ItemNotFound)));
        } else if rid + self.hold + 1 >= self.next_rid && rid > self.acknowledged {
            assert!(!failed, "{rid} may be repeated");
        }
        self.settle();
        let is_open = self.open.contains_key(&ticket);
        assert!(!was_closed || !is_open);
        assert!(place.is_none_or(|place| place == 0) || self.closed.is_some() || is_open, "not its turn");
    }

    /// The next request's turn has come, and of those that were early and follow it.
    fn processed(&mut self) {
        loop {
            self.processed_at.insert(self.next_rid, self.now);
            self.next_rid += 1;
            if !self.early.remove(&self.next_rid) {
                break;
            }
        }
    }

    fn disconnect(&mut self, index: usize) {
        self.lines[index] = Line::default();
        let tickets: Vec<Ticket> =
            self.open.iter().filter(|(_, open)| open.line == index).map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            self.open.remove(&ticket);
            self.delayed.retain(|(delayed, _)| *delayed != ticket);
            self.session.handle_disconnect(ticket, self.now);
        }
    }

    fn wait_until(&mut self, until: Time) {
        while let Some(at) = self.session.poll_timeout()
            && at <= until
        {
            self.time_out(at);
        }
        self.now = self.now.max(until);
        let is_delayed = |ticket: &Ticket| self.delayed.iter().any(|(delayed, _)| delayed == ticket);
        for (_, open) in self.open.iter().filter(|(ticket, _)| !is_delayed(ticket)) {
            let at = self.processed_at.get(&open.rid);
            assert!(at.is_none_or(|at| at.after(self.wait) > self.now), "{} waits too long", open.rid);
        }
    }

    /// Time-outs come when they are due or, after nobody looked at the clock, as soon as possible.
    fn time_out(&mut self, at: Time) {
        if at > self.now {
            self.session.handle_timeout(Time::from_ticks(at.ticks() - 1));
            assert!(
                self.session.poll_answer().is_none() && self.session.poll_timeout() == Some(at),
                "not yet due"
            );
        }
        self.now = self.now.max(at);
        if !self.delayed.is_empty() {
            self.session.handle_delay(self.now);
        }
        self.session.handle_timeout(self.now);
        assert!(self.session.poll_timeout().is_none_or(|next| next > self.now), "due and not done");
        self.settle();
    }

    /// The c2s takes what there is, and what was kept back is processed.
    fn take_events(&mut self) {
        loop {
            self.hear_events();
            let Some((ticket, request)) = self.delayed.pop_front() else { break };
            self.hand_over(ticket, request);
        }
    }

    fn hear_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.heard.stream_event(&event);
        }
    }

    /// Carries out what the session wants of the connections.
    fn settle(&mut self) {
        while let Some(answer) = self.session.poll_answer() {
            assert_eq!(answer.content_type, None);
            self.answered(answer.ticket, answer.body);
        }
        self.closed = self.session.closed();
        if self.closed.is_some() {
            for (ticket, _) in std::mem::take(&mut self.delayed) {
                self.transmit(ticket, terminal_body(Condition::ItemNotFound).into());
            }
            assert!(self.open.is_empty());
        }
    }

    fn answered(&mut self, ticket: Ticket, bytes: Arc<[u8]>) {
        let rid = self.transmit(ticket, Arc::clone(&bytes));
        let body = parse_element(&bytes, &WIDE).expect("an answer in XML");
        let is_empty = body.child_elements().is_empty();
        match body.attr(b"type") {
            Some(b"error") => assert!(self.open.values().any(|other| other.rid == rid)),
            Some(_) if is_empty => {}
            Some(_) => self.heard.answer(rid, bytes),
            None => {
                assert!(is_empty || !self.pauses.contains(&rid), "a pause has no payload");
                self.heard.answer(rid, bytes);
            }
        }
    }

    /// Has the connection carry an answer when its turn has come. The request's id.
    fn transmit(&mut self, ticket: Ticket, body: Arc<[u8]>) -> u64 {
        let open = self.open.remove(&ticket).expect("a request that waits");
        let line = &mut self.lines[open.line];
        let answer = Response { status: "200 OK", content_type: "text/xml", fields: b"", body: &body };
        line.exchange.handle_answer(open.number, &answer);
        line.answers.insert(ticket, body);
        line.read();
        open.rid
    }

    fn check(&self) {
        assert_eq!(self.session.poll_timeout().is_none(), self.closed.is_some());
        assert!(self.session.poll_timeout().is_none_or(|at| at <= self.now.after(self.config.max_pause)));
        assert!((self.open.len() - self.delayed.len()) as u64 <= 2 * self.hold + 1);
        let undelivered = self.session.undelivered().flat_map(numbers);
        let unheard = self.heard.delivered + 1..=self.queued.len() as u32;
        assert!(undelivered.eq(unheard.filter(|number| self.queued[*number as usize - 1])));
        let largest = self.heard.answers.values().map(|body| body.len()).max().unwrap_or(0);
        assert!(self.session.heap_bytes() <= 2000 + 2 * (self.hold as usize + 1) * (600 + largest));
    }

    fn finish(mut self) {
        self.take_events();
        // Each time one request is answered, or the session ends.
        for _ in 0..=self.hold + 2 {
            if let Some(at) = self.session.poll_timeout() {
                self.time_out(at);
            }
            self.check();
        }
        assert!(self.closed.is_some() && self.open.is_empty());
        assert!(self.lines.iter().all(|line| line.exchange.is_idle() && line.sent.is_empty()));
    }
}

impl Line {
    /// What is written is the answers to the requests that were sent first, whole.
    fn read(&mut self) {
        let mut out = Vec::new();
        assert_eq!(self.exchange.poll_transmit(&mut out), !out.is_empty());
        let mut rest = &out[..];
        while !rest.is_empty() {
            let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
            let ticket = self.sent.pop_front().expect("a request");
            let body = self.answers.remove(&ticket).expect("an answer of its own");
            let head = std::str::from_utf8(&rest[..end]).expect("text");
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
            rest = rest[end..].strip_prefix(&body[..]).expect("its body");
            assert_eq!(head.contains("Connection: close"), self.exchange.is_last());
        }
        assert_eq!(self.exchange.is_idle(), self.sent.is_empty());
        assert_eq!(self.exchange.is_idle(), self.exchange.heap_bytes() == 0);
        if self.exchange.is_idle() {
            assert!(self.answers.is_empty());
            if self.exchange.is_last() {
                self.exchange = Exchange::new();
            }
        }
    }
}

impl Heard {
    fn stream_event(&mut self, event: &xmpp::Event) {
        assert!(!self.is_over);
        match event {
            xmpp::Event::StreamStart(header) => assert_eq!(header.attr(b"to"), Some(&b"a"[..])),
            xmpp::Event::Element(stanza) => {
                let name = stanza.attr(b"n").and_then(|name| std::str::from_utf8(name).ok()).expect("a name");
                let (rid, index) = name.split_once('.').expect("request and position");
                let stanza = (rid.parse().expect("a request"), index.parse().expect("a position"));
                assert!(stanza > self.stanza);
                self.stanza = stanza;
            }
            xmpp::Event::StreamEnd(_) => self.is_over = true,
        }
    }

    fn answer(&mut self, rid: u64, bytes: Arc<[u8]>) {
        if let Some(before) = self.answers.get(&rid) {
            assert_eq!(before, &bytes);
            return;
        }
        for number in numbers(&bytes) {
            assert!(self.answers.keys().all(|answered| *answered < rid));
            self.delivered += 1;
            assert_eq!(number, self.delivered);
        }
        self.answers.insert(rid, bytes);
    }
}

/// The numbers of the elements in what was sent.
fn numbers(bytes: &[u8]) -> Vec<u32> {
    let text = std::str::from_utf8(bytes).expect("sent by us");
    let numbers = text.split(" n='").skip(1).map(|rest| rest.split_once('\'').expect("a quote").0);
    numbers.map(|number| number.parse().expect("a number")).collect()
}
