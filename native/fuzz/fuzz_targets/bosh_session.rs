//! A BOSH session's client, network, clock and c2s, doing what they may do in any order.
//!
//! Held to be true: each request is answered once unless its connection was lost, none after that, and all when the
//! session ends, which it does once; a time-out that is due moves the next one on, and one that is not changes nothing;
//! no request is held longer than agreed; what the c2s sends is in the answers or undelivered, once and in order; what a
//! client sends reaches the c2s once and in order, until the stream is over; a repeated request gets the same answer,
//! for as long as the client may have missed it.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::xml::WIDE;
use megaphone_proto::bosh::{Closed, Condition, Config, Event, Request, Session, Ticket};
use megaphone_proto::xmpp::{self, parse_element};

#[derive(Arbitrary, Debug)]
struct Setup {
    wait: u8,
    hold: u8,
    max_concat: Option<u8>,
    wants_acks: bool,
    has_keys: bool,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    /// A request, so far from the one whose turn it is.
    Request {
        ahead: i8,
        says: Says,
        stanzas: u8,
    },
    /// The request whose turn it is, with nothing to say.
    Poll,
    /// One of those that were processed last.
    Repeat(u8),
    /// One of the connections that wait, or one that doesn't.
    Disconnect(u8),
    /// Tenths of seconds, in which time-outs are handled when they are due.
    Wait(u16),
    /// Tenths of seconds, in which nobody looks at the clock.
    Oversleep(u16),
    HandleTimeout,
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

/// A request that was not answered and whose connection was not lost, by its ticket.
type Open = BTreeMap<Ticket, u64>;

struct World {
    session: Session,
    config: Config,
    now: Duration,
    hold: u64,
    wait: Duration,
    tickets: u64,
    open: Open,
    /// The request whose turn it is.
    next_rid: u64,
    early: BTreeSet<u64>,
    processed_at: BTreeMap<u64, Duration>,
    /// The client has said that it has the answers up to this one.
    acknowledged: u64,
    heard: Heard,
    /// Elements that the c2s sent.
    queued: u32,
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

impl World {
    fn new(setup: &Setup) -> Self {
        let config = Config { max_concat: setup.max_concat.map(|most| usize::from(most % 3) + 1), ..CONFIG };
        let (wait, hold) = (setup.wait % 80, setup.hold % 5);
        let mut attrs = format!(" to='a' wait='{wait}' hold='{hold}'");
        attrs.push_str(if setup.wants_acks { " ack='1'" } else { "" });
        if setup.has_keys {
            attrs.push_str(&format!(" newkey='{}'", KEYS[KEYS.len() - 1]));
        }
        let now = Duration::from_secs(5);
        let mut out = Vec::new();
        let session = Session::create(request(FIRST_RID, &attrs, 1), "s1d", 0, &config, now, &mut out);
        let mut world = Self {
            session: session.expect("a host is named"),
            config,
            now,
            hold: u64::from(hold.min(config.max_hold)),
            wait: Duration::from_secs(wait.into()).min(config.max_wait),
            tickets: 1,
            open: Open::from([(0, FIRST_RID)]),
            next_rid: FIRST_RID + 1,
            early: BTreeSet::new(),
            processed_at: BTreeMap::from([(FIRST_RID, now)]),
            acknowledged: FIRST_RID - 1,
            heard: Heard::default(),
            queued: 0,
            closed: None,
        };
        world.carry_out(out);
        world.check();
        world
    }

    fn perform(&mut self, operation: Operation) {
        let mut out = Vec::new();
        match operation {
            Operation::Request { ahead, says, stanzas } => self.send_request(ahead, says, stanzas % 3),
            Operation::Poll => self.send_request(0, Says::Nothing, 0),
            Operation::Repeat(back) => self.send_request(-1 - (back % 4) as i8, Says::Nothing, 0),
            Operation::Disconnect(which) => {
                let which = usize::from(which) % (self.open.len() + 1);
                let ticket = self.open.keys().nth(which).copied().unwrap_or(u64::MAX);
                self.open.remove(&ticket);
                self.session.handle_disconnect(ticket, &self.config, self.now);
            }
            Operation::Wait(tenths) => self.wait_until(self.now + Duration::from_millis(100) * tenths.into()),
            Operation::Oversleep(tenths) => self.now += Duration::from_millis(100) * tenths.into(),
            Operation::HandleTimeout => self.session.handle_timeout(&self.config, self.now, &mut out),
            Operation::QueueHeader(has_version) => {
                let version: (&[u8], &[u8]) = (b"version", if has_version { b"1.0" } else { b"" });
                self.session.queue_header([(&b"id"[..], &b"i'd"[..]), version]);
            }
            Operation::QueueElement(kind) => self.queue_element(kind),
            Operation::QueueEnd(has_condition) => {
                self.session.queue_end(has_condition.then_some(Condition::SystemShutdown));
                self.heard.is_over = true;
            }
            Operation::Send(kind) => {
                self.queue_element(kind);
                self.session.flush(&self.config, self.now, &mut out);
            }
            Operation::Flush => self.session.flush(&self.config, self.now, &mut out),
        }
        self.carry_out(out);
    }

    fn queue_element(&mut self, kind: u8) {
        let name = ELEMENTS[usize::from(kind) % ELEMENTS.len()];
        let number = self.queued + 1;
        let text = format!("<{name} xmlns:stream='http://etherx.jabber.org/streams' n='{number}'/>");
        let element = parse_element(text.as_bytes(), &WIDE).expect("an element of ours");
        self.session.queue_element(&element);
        if !self.heard.is_over {
            self.queued = number;
            self.heard.is_over = name == "stream:error";
        }
    }

    fn send_request(&mut self, ahead: i8, says: Says, stanzas: u8) {
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
        let ticket = self.tickets;
        self.tickets += 1;
        self.open.insert(ticket, rid);
        let was_closed = std::mem::take(&mut self.closed);
        let mut out = Vec::new();
        self.session.handle_request(request, ticket, &self.config, self.now, &mut out);
        let place = rid.checked_sub(self.next_rid);
        if was_closed.is_some() {
            assert!(matches!(&out[..], [Event::Respond(answered, _)] if *answered == ticket));
        } else if place == Some(0) {
            self.processed();
        } else if place.is_some_and(|place| place <= self.hold) {
            let is_answered =
                |event: &Event| matches!(event, Event::Respond(answered, _) if *answered == ticket);
            assert!(
                out.iter().any(|event| matches!(event, Event::Closed(_))) || !out.iter().any(is_answered),
                "answered before its turn"
            );
            self.early.insert(rid);
        } else if place.is_some() {
            assert!(out.contains(&Event::Closed(Closed::Failed(Condition::ItemNotFound))));
        } else if rid + self.hold + 1 >= self.next_rid && rid > self.acknowledged {
            let is_failure = |event: &Event| matches!(event, Event::Closed(Closed::Failed(_)));
            assert!(!out.iter().any(is_failure), "{rid} may be repeated");
        }
        self.carry_out(out);
        self.closed = self.closed.or(was_closed);
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

    fn wait_until(&mut self, until: Duration) {
        while let Some(at) = self.session.poll_timeout()
            && at <= until
        {
            self.time_out(at);
        }
        self.now = until;
        let late = self.now.checked_sub(self.wait);
        for rid in self.open.values() {
            assert!(self.processed_at.get(rid).is_none_or(|at| Some(*at) > late), "{rid} waits too long");
        }
    }

    /// Time-outs come when they are due or, after nobody looked at the clock, as soon as possible.
    fn time_out(&mut self, at: Duration) {
        let mut out = Vec::new();
        if at > self.now {
            self.session.handle_timeout(&self.config, at - Duration::from_millis(1), &mut out);
            assert!(out.is_empty() && self.session.poll_timeout() == Some(at), "not yet due");
        }
        self.now = self.now.max(at);
        self.session.handle_timeout(&self.config, self.now, &mut out);
        assert!(self.session.poll_timeout().is_none_or(|next| next > self.now), "due and not done");
        self.carry_out(out);
    }

    fn carry_out(&mut self, events: Vec<Event>) {
        for event in events {
            assert_eq!(self.closed, None, "{event:?}");
            match event {
                Event::Respond(ticket, body) => self.answered(ticket, body),
                Event::Stream(event) => self.heard.stream_event(&event),
                Event::Closed(how) => {
                    assert!(self.open.is_empty(), "{:?}", self.open);
                    self.closed = Some(how);
                }
            }
        }
    }

    fn answered(&mut self, ticket: Ticket, bytes: Arc<[u8]>) {
        let rid = self.open.remove(&ticket).expect("a request that waits");
        let body = parse_element(&bytes, &WIDE).expect("an answer in XML");
        match (body.attr(b"type"), body.child_elements().is_empty()) {
            (Some(b"error"), _) => assert!(self.open.values().any(|other| *other == rid)),
            (Some(_), true) => {}
            (Some(_), false) | (None, _) => self.heard.answer(rid, bytes),
        }
    }

    fn check(&self) {
        assert_eq!(self.session.poll_timeout().is_none(), self.closed.is_some());
        assert!(self.session.poll_timeout().is_none_or(|at| at <= self.now + self.config.max_pause));
        assert!(self.open.len() as u64 <= 2 * self.hold);
        let undelivered = self.session.undelivered().flat_map(numbers);
        assert!(undelivered.eq(self.heard.delivered + 1..=self.queued));
        let largest = self.heard.answers.values().map(|body| body.len()).max().unwrap_or(0);
        assert!(self.session.heap_bytes() <= 2000 + (self.hold as usize + 1) * (600 + largest));
    }

    fn finish(mut self) {
        // Each time one request is answered, or the session ends.
        for _ in 0..=self.hold + 1 {
            if let Some(at) = self.session.poll_timeout() {
                self.time_out(at);
            }
            self.check();
        }
        assert!(self.closed.is_some() && self.open.is_empty());
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
