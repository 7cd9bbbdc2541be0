//! Both peers in virtual time: every stanza arrives once and in order, whatever the network does.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use megaphone_proto::bosh::{Answer, Closed, Config, Encoded, Request, Session, Ticket};
use megaphone_proto::time::Time;
use megaphone_proto::xmpp::{self, Limits, parse_element};
use proptest::prelude::*;

use crate::driver::element;

/// What happens to one HTTP request; delays are in ticks of 100 ms.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It arrives, and so does the answer.
    Arrives { there: u64, back: u64 },
    /// The connection breaks before it arrives.
    LostThere { noticed: u64 },
    /// It arrives, but no answer ever does. The server may hear of the broken connection.
    LostBack { there: u64, noticed: u64, server_hears: Option<u64> },
}

#[derive(Debug)]
enum Happening {
    ClientSays(u32),
    ClientEnds,
    ServerSays(u32),
    Arrives(Ticket),
    ServerHearsOfLoss(Ticket),
    Answered(Ticket, Vec<u8>),
    ClientNoticesLoss(Ticket),
}

/// One HTTP request under way.
struct Exchange {
    rid: u64,
    body: String,
    fate: Fate,
}

#[derive(Default)]
struct Client {
    next_rid: u64,
    window: u64,
    unsent: Vec<u32>,
    /// Bodies of requests that are not answered.
    open: BTreeMap<u64, String>,
    /// Answers that came before their turn.
    early: BTreeMap<u64, Vec<u32>>,
    next_answer: u64,
    heard: Vec<u32>,
    /// Whether it will end the session at once.
    is_ending: bool,
    has_ended: bool,
}

struct World {
    now: u64,
    order: u64,
    pending: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    fates: Box<dyn Iterator<Item = Fate>>,
    exchanges: Vec<Exchange>,
    session: Option<Session>,
    config: Config,
    client: Client,
    server_heard: Vec<u32>,
    closed: Option<Closed>,
}

impl World {
    fn new(fates: Vec<Fate>, hold: u8) -> Self {
        let client = Client { next_rid: 1000, next_answer: 1000, window: 1, ..Client::default() };
        Self {
            now: 1,
            order: 0,
            pending: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            fates: Box::new(fates.into_iter().cycle()),
            exchanges: Vec::new(),
            session: None,
            config: Config {
                max_hold: hold,
                max_inactivity: Duration::from_secs(100_000),
                ..Config::default()
            },
            client,
            server_heard: Vec::new(),
            closed: None,
        }
    }

    fn at(&mut self, delay: u64, happening: Happening) {
        self.order += 1;
        self.pending.push(Reverse((self.now + delay, self.order)));
        self.happenings.insert(self.order, happening);
    }

    fn run(&mut self, until: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if until(self) {
                return;
            }
            self.client_sends();
            let timeout = self.session.as_ref().and_then(Session::poll_timeout).map(|at| at.ticks().into());
            match (self.pending.peek().map(|Reverse((at, _))| *at), timeout) {
                (Some(at), timeout) if timeout.is_none_or(|timeout| at <= timeout) => {
                    let Reverse((at, order)) = self.pending.pop().unwrap();
                    self.now = self.now.max(at);
                    let happening = self.happenings.remove(&order).unwrap();
                    self.happen(happening);
                }
                (_, Some(timeout)) => {
                    self.now = self.now.max(timeout);
                    self.with_session(Session::handle_timeout);
                }
                (_, None) => return,
            }
        }
        panic!("no end: {:?} {:?}", self.client.heard, self.server_heard);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ClientSays(number) => self.client.unsent.push(number),
            Happening::ClientEnds => self.client.is_ending = true,
            Happening::ServerSays(number) => {
                let stanza = element(&format!("<message id='{number}'/>"));
                self.with_session(|session, now| {
                    session.queue(Encoded::new(&stanza));
                    session.flush(now);
                });
            }
            Happening::Arrives(ticket) => self.arrive(ticket),
            Happening::ServerHearsOfLoss(ticket) => {
                self.with_session(|session, now| session.handle_disconnect(ticket, now));
            }
            Happening::Answered(ticket, body) => self.client_hears(ticket, &body),
            Happening::ClientNoticesLoss(ticket) => {
                let rid = self.exchanges[ticket as usize].rid;
                if let Some(body) = self.client.open.get(&rid).cloned() {
                    self.transmit(rid, body);
                }
            }
        }
    }

    /// A client sends what it has to say, and keeps one request waiting at the server. It never goes further beyond
    /// an answer that is missing than the window, so that the answer is still kept.
    fn client_sends(&mut self) {
        while !self.client.has_ended
            && self.client.next_rid < self.client.next_answer + self.client.window
            && (!self.client.unsent.is_empty() || self.client.open.is_empty())
        {
            let is_first = self.client.next_rid == 1000;
            self.client_sends_one(if is_first { "to='localhost' hold='9' wait='20'" } else { "sid='a'" });
        }
        let is_created = self.client.next_answer > 1000;
        if self.client.is_ending && is_created && !std::mem::replace(&mut self.client.has_ended, true) {
            // Be the window full or not.
            self.client_sends_one("sid='a' type='terminate'");
        }
    }

    fn client_sends_one(&mut self, attrs: &str) {
        let rid = self.client.next_rid;
        self.client.next_rid += 1;
        let says: String =
            self.client.unsent.drain(..).map(|number| format!("<message id='{number}'/>")).collect();
        let body =
            format!("<body rid='{rid}' {attrs} xmlns='http://jabber.org/protocol/httpbind'>{says}</body>");
        self.client.open.insert(rid, body.clone());
        self.transmit(rid, body);
    }

    fn transmit(&mut self, rid: u64, body: String) {
        let ticket = self.exchanges.len() as u64;
        // The request that creates a session cannot be repeated: the client does not know of it.
        let fate = if rid == 1000 { Fate::Arrives { there: 5, back: 5 } } else { self.fates.next().unwrap() };
        match fate {
            Fate::Arrives { there, .. } => self.at(there, Happening::Arrives(ticket)),
            Fate::LostThere { noticed } => self.at(noticed, Happening::ClientNoticesLoss(ticket)),
            Fate::LostBack { there, noticed, server_hears } => {
                self.at(there, Happening::Arrives(ticket));
                self.at(there + noticed, Happening::ClientNoticesLoss(ticket));
                if let Some(after) = server_hears {
                    self.at(there + after, Happening::ServerHearsOfLoss(ticket));
                }
            }
        }
        self.exchanges.push(Exchange { rid, body, fate });
    }

    fn arrive(&mut self, ticket: Ticket) {
        let body = self.exchanges[ticket as usize].body.clone();
        let request = Request::parse(body.as_bytes(), &Limits::default()).unwrap();
        if self.session.is_some() {
            self.with_session(|session, now| session.handle_request(request, ticket, now));
            return;
        }
        let (config, now) = (Arc::new(self.config), self.time());
        self.session = Some(Session::create(request, "a", ticket, config, now).unwrap());
        self.with_session(|_, _| ());
        self.at(0, Happening::ServerSays(0));
    }

    fn time(&self) -> Time {
        Time::from_ticks(self.now as u32)
    }

    fn with_session(&mut self, act: impl FnOnce(&mut Session, Time)) {
        let now = self.time();
        let Some(session) = &mut self.session else { return };
        act(session, now);
        while let Some(event) = session.poll_event() {
            if let xmpp::Event::Element(el) = event {
                self.server_heard.push(id_of(&el));
            }
        }
        self.closed = session.closed();
        let answers: Vec<Answer> = std::iter::from_fn(|| session.poll_answer()).collect();
        for answer in answers {
            if let Fate::Arrives { back, .. } = self.exchanges[answer.ticket as usize].fate {
                self.at(back, Happening::Answered(answer.ticket, answer.body.to_vec()));
            }
        }
    }

    fn client_hears(&mut self, ticket: Ticket, body: &[u8]) {
        let rid = self.exchanges[ticket as usize].rid;
        let body = parse_element(body, &Limits::default()).unwrap();
        if self.client.has_ended && body.attr(b"type") == Some(b"terminate") {
            return;
        }
        assert_eq!(body.attr(b"type"), None, "{body:?}");
        if let Some(requests) = body.attr(b"requests") {
            self.client.window = std::str::from_utf8(requests).unwrap().parse().unwrap();
        }
        if self.client.open.remove(&rid).is_some() {
            self.client.early.insert(rid, body.child_elements().iter().map(id_of).collect());
        }
        while let Some(heard) = self.client.early.remove(&self.client.next_answer) {
            self.client.next_answer += 1;
            self.client.heard.extend(heard);
        }
    }
}

fn id_of(element: &xmpp::Element) -> u32 {
    std::str::from_utf8(element.attr(b"id").unwrap()).unwrap().parse().unwrap()
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => (0..30_u64, 0..30_u64).prop_map(|(there, back)| Fate::Arrives { there, back }),
        1 => (1..50_u64).prop_map(|noticed| Fate::LostThere { noticed }),
        1 => (0..30_u64, 1..50_u64, prop::option::of(0..50_u64)).prop_map(
            |(there, noticed, server_hears)| Fate::LostBack { there, noticed, server_hears }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn every_stanza_arrives_once_and_in_order(
        fates in prop::collection::vec(fate(), 1..40),
        client_says in prop::collection::vec(0..300_u64, 0..40),
        server_says in prop::collection::vec(10..300_u64, 0..40),
        hold in 1..4_u8,
        max_concat in prop::option::of(1..3_usize),
    ) {
        // Something has to get through for anything to.
        let mut fates = fates;
        fates.push(Fate::Arrives { there: 1, back: 1 });
        let mut world = World::new(fates, hold);
        world.config.max_concat = max_concat;
        let mut client_says = client_says;
        let mut server_says = server_says;
        client_says.sort_unstable();
        server_says.sort_unstable();
        for (number, at) in client_says.iter().enumerate() {
            world.at(*at, Happening::ClientSays(number as u32));
        }
        for (number, at) in server_says.iter().enumerate() {
            world.at(*at, Happening::ServerSays(number as u32 + 1));
        }
        let (to_server, to_client) = (client_says.len(), server_says.len() + 1);
        world.run(|world| {
            world.closed.is_some()
                || (world.server_heard.len() >= to_server && world.client.heard.len() >= to_client)
        });
        prop_assert_eq!(world.closed, None);
        prop_assert_eq!(&world.server_heard, &(0..to_server as u32).collect::<Vec<_>>());
        prop_assert_eq!(&world.client.heard, &(0..to_client as u32).collect::<Vec<_>>());
    }

    #[test]
    fn a_client_that_ends_the_session_at_any_time_is_heard_to_its_last_word(
        fates in prop::collection::vec(fate(), 1..40),
        client_says in prop::collection::vec(0..100_u64, 0..40),
        server_says in prop::collection::vec(10..100_u64, 0..10),
        hold in 1..4_u8,
    ) {
        let mut fates = fates;
        fates.push(Fate::Arrives { there: 1, back: 1 });
        let mut world = World::new(fates, hold);
        let mut client_says = client_says;
        client_says.sort_unstable();
        for (number, at) in client_says.iter().enumerate() {
            world.at(*at, Happening::ClientSays(number as u32));
        }
        for at in server_says {
            world.at(at, Happening::ServerSays(7));
        }
        world.at(100, Happening::ClientEnds);
        world.run(|world| world.closed.is_some());
        prop_assert_eq!(world.closed, Some(Closed::ByClient));
        prop_assert_eq!(&world.server_heard, &(0..client_says.len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn any_sequence_of_requests_leaves_the_session_bounded_and_answers_each_once(
        steps in prop::collection::vec((0..8_u64, 0..12_usize, 0..40_u32), 1..60),
        wait in 0..3_u32,
        hold in 0..4_u8,
    ) {
        let config = Arc::new(Config { max_hold: 3, ..Config::default() });
        let mut now = Time::START;
        let first = crate::driver::body(&format!("rid='10' to='a' wait='{wait}' hold='{hold}'"), "");
        let mut session = Session::create(first, "a", 0, config, now).unwrap();
        let mut asked: Vec<Ticket> = vec![0];
        let mut gone: Vec<Ticket> = Vec::new();
        let mut answered: Vec<Ticket> = Vec::new();
        let mut rid = 10;
        for (offset, action, seconds) in steps {
            now = Time::from_ticks(now.ticks() + seconds * 10 / 8);
            let ticket = asked.len() as u64;
            let attrs = match action {
                0 => " type='terminate'",
                1 => " pause='3'",
                2 => " xmpp:restart='true'",
                3 => " key='x'",
                _ => "",
            };
            match action {
                0..7 => {
                    let to = (rid + offset).saturating_sub(3).max(1);
                    let request = crate::driver::body(&format!("rid='{to}'{attrs}"), "<presence/>");
                    asked.push(ticket);
                    session.handle_request(request, ticket, now);
                    rid = rid.max(to);
                }
                7 => {
                    session.handle_disconnect(ticket - 1, now);
                    gone.push(ticket - 1);
                }
                8 => session.queue_end(None),
                9 => session.handle_timeout(now),
                _ => {
                    session.queue(Encoded::new(&element("<message/>")));
                    session.flush(now);
                }
            }
            while session.poll_event().is_some() {}
            answered.extend(std::iter::from_fn(|| session.poll_answer()).map(|answer| answer.ticket));
            prop_assert!(size_of::<Session>() + session.heap_bytes() < 4000);
        }
        // However it ended or did not: in the end all requests that can be answered are, once.
        while let Some(at) = session.poll_timeout() {
            session.handle_timeout(at);
        }
        answered.extend(std::iter::from_fn(|| session.poll_answer()).map(|answer| answer.ticket));
        answered.sort_unstable();
        let unanswered: Vec<_> =
            asked.iter().filter(|ticket| !answered.contains(ticket) && !gone.contains(ticket)).collect();
        prop_assert!(unanswered.is_empty(), "{:?} of {:?}", unanswered, asked);
        let answers = answered.len();
        answered.dedup();
        prop_assert_eq!(answered.len(), answers);
        prop_assert!(session.closed().is_some());
    }
}
