//! Both peers in virtual time: nothing is lost or doubled, and deadlines are over when and only when they should be.

use std::collections::VecDeque;
use std::time::Duration;

use megaphone_proto::stream::{Config, Event, Framing, Outgoing, Rate};
use megaphone_proto::time::Time;
use megaphone_proto::ws::stanza::parse_message;
use megaphone_proto::xmpp::{self, Limits};
use proptest::prelude::*;

use crate::client::{Answer, FIN, PING, PONG, TEXT, answers, frame};
use crate::driver::{AUTH, Driver, HEADER, OPEN, SUCCESS, element};

/// How the network and the peers behave; each list is used again and again.
#[derive(Clone, Debug)]
struct Plan {
    framing: Framing,
    /// Bytes of a segment, and the ticks until it arrives behind the one before.
    segments: Vec<(usize, u32)>,
    /// Ticks that the client thinks before each thing it says.
    pauses: Vec<u32>,
    /// Ticks that the owner is busy after it was told something.
    busy: Vec<u32>,
    stanzas: u32,
    /// White space, or pings, between stanzas.
    fillers: u32,
    /// Bytes a second, and at once.
    rate: Option<(u32, u32)>,
    /// The client says no more than so many bytes.
    stop_at: usize,
}

fn config() -> Config {
    Config {
        header_timeout: Duration::from_secs(20),
        stanza_timeout: Duration::from_secs(30),
        ping_interval: Some(Duration::from_secs(5)),
        websocket_timeout: Duration::from_secs(20),
        ..Config::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Header,
    LoggedIn,
    SecondHeader,
    Nothing,
    End,
}

struct Client {
    plan: Plan,
    waits_for: Wait,
    thinks_until: u32,
    steps: usize,
    said: u32,
    /// Bytes to be sent, cut into segments as they go.
    unsent: VecDeque<u8>,
    /// Where each thing said ends, in bytes of all.
    ends: Vec<usize>,
    queued: usize,
    /// What was cut off, and how much of it.
    segments: VecDeque<(u32, Vec<u8>)>,
    cut: usize,
    cuts: usize,
    /// How many bytes had arrived at which tick.
    arrived: Vec<(u32, usize)>,
    parser: xmpp::Parser,
    heard: Vec<u32>,
    pings: u32,
    pongs: Vec<Vec<u8>>,
    is_closed: bool,
}

struct World {
    driver: Driver,
    client: Client,
    told: Vec<u32>,
    restarts: u32,
    busy_until: u32,
    turns: usize,
    /// Whether the owner has to say something to the client's `<auth/>` yet.
    has_auth: bool,
    closed_at: Option<u32>,
    has_begun: bool,
    ended: bool,
}

impl Client {
    fn new(plan: Plan) -> Self {
        let mut client = Self {
            plan,
            waits_for: Wait::Header,
            thinks_until: 0,
            steps: 0,
            said: 0,
            unsent: VecDeque::new(),
            ends: vec![0],
            queued: 0,
            segments: VecDeque::new(),
            cut: 0,
            cuts: 0,
            arrived: vec![(0, 0)],
            parser: xmpp::Parser::new(),
            heard: Vec::new(),
            pings: 0,
            pongs: Vec::new(),
            is_closed: false,
        };
        client.say_header();
        client
    }

    fn say(&mut self, text: &str) {
        let bytes = match self.plan.framing {
            Framing::Tcp => text.as_bytes().to_vec(),
            _ => frame(FIN | TEXT, text.as_bytes()),
        };
        self.say_bytes(&bytes);
    }

    fn say_bytes(&mut self, bytes: &[u8]) {
        let room = self.plan.stop_at.saturating_sub(self.queued);
        self.unsent.extend(&bytes[..bytes.len().min(room)]);
        self.queued += bytes.len();
        self.ends.push(self.queued);
    }

    fn say_header(&mut self) {
        match self.plan.framing {
            Framing::WebSocket => self.say(OPEN),
            _ => self.say(&format!("<?xml version='1.0'?>{HEADER}")),
        }
    }

    fn say_filler(&mut self) {
        if self.plan.framing == Framing::Tcp {
            self.say_bytes(b"\n");
        } else {
            self.pings += 1;
            self.say_bytes(&frame(FIN | PING, self.pings.to_string().as_bytes()));
            self.say_bytes(&frame(FIN | PONG, b""));
        }
    }

    /// Says the next thing, when it has thought and heard what it waits for.
    fn act(&mut self, now: u32) {
        if self.waits_for != Wait::Nothing || now < self.thinks_until {
            return;
        }
        self.thinks_until = now + self.plan.pauses[self.steps % self.plan.pauses.len()];
        self.steps += 1;
        if self.said < self.plan.stanzas {
            for _ in 0..self.plan.fillers {
                self.say_filler();
            }
            let body = "x".repeat(self.said as usize * 37 % 300);
            self.say(&format!("<iq id='{}'>{body}</iq>", self.said));
            self.said += 1;
        } else {
            self.waits_for = Wait::End;
            match self.plan.framing {
                Framing::WebSocket => self.say("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"),
                _ => self.say("</stream:stream>"),
            }
        }
    }

    /// Segments that arrive now.
    fn deliver(&mut self, now: u32) -> Vec<u8> {
        while !self.unsent.is_empty() {
            let (size, delay) = self.plan.segments[self.cuts % self.plan.segments.len()];
            let sent: Vec<u8> = self.unsent.drain(..size.min(self.unsent.len())).collect();
            let after = self.segments.back().map_or(now, |(at, _)| *at);
            self.segments.push_back((after + delay, sent));
            self.cuts += 1;
        }
        let mut bytes = Vec::new();
        while self.segments.front().is_some_and(|(at, _)| *at <= now) {
            bytes.extend(self.segments.pop_front().unwrap().1);
        }
        if !bytes.is_empty() {
            self.cut += bytes.len();
            self.arrived.push((now, self.cut));
        }
        bytes
    }

    fn hear(&mut self, bytes: &[u8]) {
        if self.plan.framing == Framing::Tcp {
            return self.hear_piece(bytes);
        }
        for answer in answers(bytes) {
            assert!(!self.is_closed, "nothing follows a close frame");
            match answer {
                Answer::Text(text) if self.plan.framing == Framing::WebSocket => {
                    self.hear_event(parse_message(&text, &Limits::default()).unwrap());
                }
                Answer::Text(text) => self.hear_piece(&text),
                Answer::Ping(payload) => self.say_bytes(&frame(FIN | PONG, &payload)),
                Answer::Pong(payload) => self.pongs.push(payload),
                Answer::Close(_) => self.is_closed = true,
                Answer::Binary(_) => panic!("binary"),
            }
        }
    }

    fn hear_piece(&mut self, mut bytes: &[u8]) {
        while let Some(event) = self.parser.handle_bytes(&mut bytes, &Limits::default()).unwrap() {
            self.hear_event(event);
        }
    }

    fn hear_event(&mut self, event: xmpp::Event) {
        match (event, self.waits_for) {
            (xmpp::Event::StreamStart(_), Wait::Header) => {
                self.waits_for = Wait::LoggedIn;
                self.say(AUTH);
                if self.plan.framing != Framing::WebSocket {
                    // As some clients end each element that they write for login.
                    self.say("\n");
                }
            }
            (xmpp::Event::StreamStart(_), Wait::SecondHeader) => self.waits_for = Wait::Nothing,
            (xmpp::Event::Element(element), Wait::LoggedIn) if element.name() == b"success" => {
                self.waits_for = Wait::SecondHeader;
                self.parser = xmpp::Parser::new();
                self.say_header();
            }
            (xmpp::Event::Element(element), _) if element.name() == b"iq" => {
                let id = std::str::from_utf8(element.attr(b"id").unwrap()).unwrap();
                self.heard.push(id.parse().unwrap());
            }
            (xmpp::Event::Element(element), _) => assert_eq!(element.name(), b"stream:error"),
            (xmpp::Event::StreamEnd(_), _) => {}
            (event, waits_for) => panic!("{event:?} for {waits_for:?}"),
        }
    }

    /// When the thing whose rest never came began to arrive; none when all is whole.
    fn half_since(&self) -> Option<u32> {
        let begin = *self.ends.iter().filter(|end| **end <= self.cut).max().unwrap();
        self.arrived.iter().find(|(_, bytes)| *bytes > begin).map(|(at, _)| *at)
    }
}

impl World {
    fn new(plan: Plan) -> Self {
        let driver = match plan.framing {
            Framing::Tcp => Driver::tcp(config()),
            _ => Driver::websocket(config()),
        };
        Self {
            driver,
            client: Client::new(plan),
            told: Vec::new(),
            restarts: 0,
            busy_until: 0,
            turns: 0,
            has_auth: false,
            closed_at: None,
            has_begun: false,
            ended: false,
        }
    }

    fn run(&mut self, ticks: u32) {
        for now in Time::START.ticks()..ticks {
            self.driver.now = Time::from_ticks(now);
            self.client.act(now);
            let bytes = self.client.deliver(now);
            self.driver.input.extend(bytes);
            self.expire();
            if now >= self.busy_until {
                self.owner_acts(now);
            }
            self.driver.stream.poll_transmit(&mut self.driver.sent);
            let sent = std::mem::take(&mut self.driver.sent);
            self.client.hear(&sent);
            if self.driver.stream.is_over() {
                self.closed_at.get_or_insert(now);
                return;
            }
        }
    }

    fn expire(&mut self) {
        let now = self.driver.now;
        let stream = &mut self.driver.stream;
        if now.ticks() < self.busy_until && !self.driver.input.is_empty() {
            stream.handle_delay(now);
        }
        if stream.poll_timeout().is_some_and(|at| at <= now) {
            stream.handle_timeout(now);
            assert!(stream.poll_timeout().is_none_or(|at| at > now), "a timer that runs without end");
        }
    }

    fn owner_acts(&mut self, now: u32) {
        loop {
            self.log_in();
            let mut rest = &self.driver.input[..];
            let before = rest.len();
            let wanted = self.driver.stream.wanted(self.driver.now);
            self.driver.stream.handle_input(&mut rest, self.driver.now);
            assert!(wanted > 0 || rest.len() == before || rest.is_empty());
            self.driver.input = rest.to_vec();
            let Some(event) = self.driver.stream.poll_event() else { break };
            self.handle(&event);
            let busy = self.client.plan.busy[self.turns % self.client.plan.busy.len()];
            self.turns += 1;
            if busy > 0 {
                self.busy_until = now + busy;
                break;
            }
        }
    }

    fn log_in(&mut self) {
        if std::mem::take(&mut self.has_auth) {
            self.driver.send_element(SUCCESS);
            self.driver.stream.restart();
            self.driver.stream.resume();
            self.restarts += 1;
        }
    }

    fn handle(&mut self, event: &Event) {
        match event {
            Event::Stream(xmpp::Event::StreamStart(_)) => {
                self.has_begun = true;
                self.driver.stream.attach(self.driver.now);
                let rate = self.client.plan.rate;
                let rate = rate.map(|(bytes_per_second, burst)| Rate { bytes_per_second, burst });
                self.driver.stream.set_rate(rate, self.driver.now);
                self.driver.send_header();
            }
            Event::Stream(xmpp::Event::Element(element)) if element.name() == b"auth" => self.has_auth = true,
            Event::Stream(xmpp::Event::Element(stanza)) => {
                let id = std::str::from_utf8(stanza.attr(b"id").unwrap()).unwrap().to_owned();
                self.told.push(id.parse().unwrap());
                self.driver.send(Outgoing::Element(&element(&format!("<iq id='{id}'/>"))));
            }
            Event::Stream(xmpp::Event::StreamEnd(_)) => {
                self.ended = true;
                self.driver.send(Outgoing::End(b"stream:stream"));
                self.driver.close();
            }
            Event::Error(error) => panic!("{error:?}"),
            Event::Closed => {}
        }
    }
}

fn framing() -> impl Strategy<Value = Framing> {
    prop::sample::select(vec![Framing::Tcp, Framing::WebSocket, Framing::LegacyWebSocket])
}

prop_compose! {
    fn plan()(
        framing in framing(),
        segments in prop::collection::vec((1..120_usize, 0..3_u32), 1..8),
        pauses in prop::collection::vec(0..300_u32, 1..6),
        busy in prop::collection::vec(prop_oneof![3 => Just(0_u32), 1 => 1..400_u32], 1..6),
        stanzas in 0..12_u32,
        fillers in prop_oneof![4 => 0..4_u32, 1 => Just(300)],
        rate in prop::option::of((200..5000_u32, 1..5000_u32)),
    ) -> Plan {
        Plan { framing, segments, pauses, busy, stanzas, fillers, rate, stop_at: usize::MAX }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn a_peer_that_behaves_is_served_whatever_the_network_and_the_owner_do(mut plan in plan()) {
        // A header has 20 s, a stanza 30 s: a segment of a byte each 0.2 s would be too slow.
        plan.segments.push((400, 0));
        let all: Vec<u32> = (0..plan.stanzas).collect();
        let framing = plan.framing;
        let mut world = World::new(plan);
        world.run(20_000);
        prop_assert!(world.ended && world.closed_at.is_some());
        prop_assert_eq!(world.driver.stream.framing(), framing);
        prop_assert_eq!(&world.told, &all);
        prop_assert_eq!(&world.client.heard, &all);
        prop_assert_eq!(world.restarts, 1);
        prop_assert_eq!(world.client.is_closed, framing != Framing::Tcp);
        let last = world.client.pings.to_string().into_bytes();
        let is_answered = world.client.pings == 0 || world.client.pongs.last() == Some(&last);
        prop_assert!(is_answered, "{:?}", world.client.pongs);
        prop_assert!(world.client.pongs.len() <= world.client.pings as usize);
    }

    #[test]
    fn a_peer_that_falls_silent_is_given_up_in_time_and_not_before(
        mut plan in plan(), stop_at in 0..1500_usize,
    ) {
        plan.segments = vec![(50, 0), (7, 1)];
        plan.busy = vec![0];
        plan.pauses = vec![1];
        plan.rate = None;
        plan.stop_at = stop_at;
        let is_tcp = plan.framing == Framing::Tcp;
        let mut world = World::new(plan);
        world.run(3_000);
        if world.ended {
            return Ok(());
        }
        let last = world.client.arrived.last().unwrap().0;
        let after = |ticks: u32, seconds: u64| Time::from_ticks(ticks).after(Duration::from_secs(seconds)).ticks();
        let half = world.client.half_since();
        let expected = if !world.has_begun {
            Some(after(1, 20))
        } else if is_tcp {
            half.map(|since| after(since, 30))
        } else {
            // The client that is silent answers no pings either.
            let silent = after(after(last, 5), 5).min(after(last, 20));
            Some(half.map_or(silent, |since| silent.min(after(since, 30))))
        };
        prop_assert_eq!(world.closed_at, expected);
    }
}
