//! A server's stream over TCP or WebSocket with its client, its owner and the clock, doing what they may do in any order.
//!
//! Held to be true: of a client that keeps to the rules each event is told, once and in order, whatever is restarted,
//! throttled or late, until a deadline or either side ends it; nothing is taken while an event waits, behind a barrier or
//! while the throttle is empty; nothing is told behind the end, nor sent behind a close frame; a timer that is early does
//! nothing, and none runs without end; an idle stream holds little heap memory, and another no more than a multiple
//! of the largest stanza.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::ws::{self, CLOSE, PING, PONG, TEXT, frame, server_frames};
use megaphone_fuzz::{heap_bytes, within_heap};
use megaphone_proto::stream::{Config, Event, Framing, Outgoing, Rate, Stream, encode};
use megaphone_proto::time::Time;
use megaphone_proto::xmpp::{self, Element, Limits, parse_element};

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' to='localhost' version='1.0' \
     xmlns:stream='http://etherx.jabber.org/streams'>";
const OPEN: &str = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>";
const AUTH: &str = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>AGEAYg==</auth>";
const MAX_STANZA: usize = 2000;
/// A tree, a message and its parser's buffers.
const MOST_HEAP: usize = 400 << 10;
/// A legacy WebSocket's box, and a throttle.
const IDLE_HEAP: usize = 400;

#[derive(Arbitrary, Debug)]
enum Operation<'a> {
    /// The client says something.
    Stanza(u16),
    Space,
    Ping(u8),
    Pong,
    /// A login, white space behind it, and the header of the stream that follows.
    Auth(u8),
    End,
    /// Bytes that keep to no rules.
    Rubbish(&'a [u8]),
    /// So many bytes arrive.
    Arrive(u8),
    ArriveAll,
    /// The client closes its side.
    HangUp,
    Input,
    Event,
    Write,
    Attach,
    Resume,
    Send(u8),
    SetRate(Option<(u16, u16)>),
    Delay,
    Refuse,
    Close,
    /// So many ticks pass, with their timers; or all of them only at the end.
    Pass(u16, bool),
    EarlyTimer,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Choice {
    Tcp,
    WebSocket,
    Legacy,
}

struct World {
    choice: Choice,
    stream: Stream,
    now: Time,
    wire: Vec<u8>,
    input: Vec<u8>,
    sent: Vec<u8>,
    /// What the client's words come to, and what the owner was told.
    expected: Vec<String>,
    told: Vec<String>,
    stanzas: u32,
    has_auth: bool,
    /// Something may have ended the stream that is not in `expected`.
    is_cut: bool,
    has_said_end: bool,
}

fuzz_target!(|input: (Choice, Vec<Operation>)| {
    let (choice, operations) = input;
    let mut world = World::new(choice);
    for operation in operations {
        if world.wire.len() < 16_384 {
            within_heap(MOST_HEAP, || world.perform(&operation));
            world.check();
        }
    }
    world.finish();
});

impl World {
    fn new(choice: Choice) -> Self {
        let config = Arc::new(Config { max_stanza: MAX_STANZA, ..Config::default() });
        let now = Time::START;
        let stream = match choice {
            Choice::Tcp => Stream::tcp(config, now),
            Choice::WebSocket | Choice::Legacy => Stream::websocket(config, now),
        };
        let mut world = Self {
            choice,
            stream,
            now,
            wire: Vec::new(),
            input: Vec::new(),
            sent: Vec::new(),
            expected: Vec::new(),
            told: Vec::new(),
            stanzas: 0,
            has_auth: false,
            is_cut: false,
            has_said_end: false,
        };
        world.say_header();
        world
    }

    fn perform(&mut self, operation: &Operation) {
        match operation {
            Operation::Stanza(length) => self.say_stanza(usize::from(length % 1500)),
            Operation::Space => self.say_space(),
            Operation::Ping(payload) => self.say_frame(PING, &[*payload]),
            Operation::Pong => self.say_frame(PONG, b""),
            Operation::Auth(spaces) => self.say_auth(*spaces),
            Operation::End => self.say_end(),
            Operation::Rubbish(bytes) => {
                self.is_cut = true;
                self.wire.extend_from_slice(bytes);
            }
            Operation::Arrive(count) => self.arrive((*count).into()),
            Operation::ArriveAll => self.arrive(usize::MAX),
            Operation::HangUp => self.hang_up(),
            Operation::Input => self.take_input(),
            Operation::Event => drop(self.take_event()),
            Operation::Write => self.write(),
            Operation::Attach => self.attach(),
            Operation::Resume => self.resume(),
            Operation::Send(kind) => self.send(*kind),
            Operation::SetRate(rate) => {
                let rate = rate.map(|(bytes_per_second, burst)| Rate {
                    bytes_per_second: u32::from(bytes_per_second).max(1),
                    burst: u32::from(burst).max(1),
                });
                self.stream.set_rate(rate, self.now);
            }
            Operation::Delay => self.stream.handle_delay(self.now),
            Operation::Refuse => {
                self.is_cut = true;
                self.stream.refuse("internal-server-error", "");
                assert!(self.stream.is_over());
            }
            Operation::Close => {
                self.is_cut = true;
                self.stream.close(&mut self.sent);
                assert!(self.stream.is_over());
            }
            Operation::Pass(ticks, at_once) => self.pass((*ticks).into(), *at_once),
            Operation::EarlyTimer => self.early_timer(),
        }
    }

    fn say(&mut self, text: &str) {
        match self.choice {
            Choice::Tcp => self.wire.extend_from_slice(text.as_bytes()),
            _ => self.say_frame(TEXT, text.as_bytes()),
        }
    }

    fn say_frame(&mut self, opcode: u8, payload: &[u8]) {
        if !matches!(self.choice, Choice::Tcp) {
            self.wire.extend_from_slice(&frame(0x80 | opcode, [0x37, 0xFA, 0x21, 9], payload));
        }
    }

    fn say_header(&mut self) {
        self.say(if matches!(self.choice, Choice::WebSocket) { OPEN } else { HEADER });
        self.expect("start");
    }

    fn expect(&mut self, event: &str) {
        if !self.has_said_end {
            self.expected.push(event.to_owned());
        }
    }

    fn say_stanza(&mut self, length: usize) {
        self.stanzas += 1;
        self.say(&format!("<a n='{}'>{}</a>", self.stanzas, "x".repeat(length)));
        self.expect(&self.stanzas.to_string());
    }

    fn say_space(&mut self) {
        if !matches!(self.choice, Choice::WebSocket) {
            self.say(" ");
        }
    }

    fn say_auth(&mut self, spaces: u8) {
        self.say(AUTH);
        self.expect("auth");
        (0..spaces % 3).for_each(|_| self.say_space());
        self.say_header();
    }

    fn say_end(&mut self) {
        match self.choice {
            Choice::WebSocket => self.say("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"),
            _ => self.say("</stream:stream>"),
        }
        self.expect("end");
        self.has_said_end = true;
    }

    fn arrive(&mut self, count: usize) {
        let count = count.min(self.wire.len());
        self.input.extend(self.wire.drain(..count));
    }

    fn hang_up(&mut self) {
        // The bytes before are handled first.
        if self.input.is_empty() && !self.stream.is_pending() {
            self.is_cut = true;
            self.stream.handle_end(self.now);
        }
    }

    fn take_input(&mut self) {
        let may_take = self.stream.wanted(self.now) > 0;
        let mut rest = &self.input[..];
        self.stream.handle_input(&mut rest, self.now);
        assert!(may_take || rest.len() == self.input.len() || rest.is_empty());
        let is_done = rest.is_empty() || self.stream.has_event() || self.stream.wanted(self.now) == 0;
        assert!(is_done, "input is left without a reason");
        self.input = rest.to_vec();
    }

    fn take_event(&mut self) -> bool {
        let has_event = self.stream.has_event();
        assert_eq!(self.stream.event_bytes() > 0, has_event);
        let event = self.stream.poll_event();
        assert_eq!(event.is_some(), has_event);
        match event {
            None => return false,
            Some(Event::Stream(xmpp::Event::StreamStart(_))) => self.told.push("start".into()),
            Some(Event::Stream(xmpp::Event::StreamEnd(_))) => self.told.push("end".into()),
            Some(Event::Stream(xmpp::Event::Element(element))) => self.told_of(&element),
            Some(Event::Error(_)) => {
                assert!(self.is_cut, "an error of nobody's");
                self.told.push("error".into());
            }
            Some(Event::Closed) => {
                assert!(self.is_cut && self.stream.is_over());
                self.told.push("closed".into());
            }
        }
        true
    }

    fn told_of(&mut self, element: &Element) {
        self.has_auth = element.name() == b"auth";
        let number = element.attr(b"n").map(|number| String::from_utf8_lossy(number).into_owned());
        self.told.push(if self.has_auth { "auth".into() } else { number.unwrap_or_default() });
    }

    fn write(&mut self) {
        let before = self.sent.len();
        assert_eq!(self.stream.poll_transmit(&mut self.sent), self.sent.len() > before);
        assert!(!self.stream.poll_transmit(&mut self.sent));
    }

    fn attach(&mut self) {
        if self.told.first().is_some_and(|event| event == "start") {
            self.stream.attach(self.now);
        }
    }

    /// The owner has dealt with what it was told; a login succeeds.
    fn resume(&mut self) {
        if std::mem::take(&mut self.has_auth) {
            self.send_element("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
            self.stream.restart();
        }
        self.stream.resume();
    }

    fn send(&mut self, kind: u8) {
        match kind % 4 {
            0 => self.send_outgoing(Outgoing::Raw(b" ")),
            1 => self.send_outgoing(Outgoing::Header(&element("<stream:stream xmlns:stream='a' id='1'/>"))),
            2 => self.send_outgoing(Outgoing::End(b"stream:stream")),
            _ => self.send_element("<iq/>"),
        }
    }

    fn send_element(&mut self, text: &str) {
        self.send_outgoing(Outgoing::Element(&element(text)));
    }

    fn send_outgoing(&mut self, outgoing: Outgoing<'_>) {
        if self.stream.may_send() {
            let sent = encode(self.stream.framing(), outgoing, &mut self.sent);
            self.stream.sent(sent);
        }
    }

    fn pass(&mut self, ticks: u32, at_once: bool) {
        let end = Time::from_ticks(self.now.ticks() + ticks);
        while let Some(at) = self.stream.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(if at_once { end } else { at });
            self.stream.handle_timeout(self.now);
            let next = self.stream.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "a timer that runs without end");
            self.is_cut |= self.stream.is_over() || self.stream.has_event();
        }
        self.now = end;
    }

    /// Before its time a timer does nothing.
    fn early_timer(&mut self) {
        let before = (self.stream.has_event(), self.stream.is_over());
        if self.stream.poll_timeout().is_some_and(|at| at > self.now) {
            self.write();
            self.stream.handle_timeout(self.now);
            assert_eq!((self.stream.has_event(), self.stream.is_over()), before);
            assert!(!self.stream.poll_transmit(&mut self.sent));
        }
    }

    fn check(&self) {
        if !self.is_cut {
            assert!(self.expected.starts_with(&self.told), "{:?} of {:?}", self.told, self.expected);
        }
        let closed = self.told.iter().position(|event| event == "closed");
        assert!(closed.is_none_or(|at| at + 1 == self.told.len()));
        if self.stream.is_over() {
            assert!(!self.stream.has_event() && !self.stream.is_pending() && !self.stream.may_send());
            assert_eq!((self.stream.poll_timeout(), self.stream.wanted(self.now)), (None, 0));
        }
    }

    /// All arrives, and the owner does all it has to.
    fn finish(&mut self) {
        self.arrive(usize::MAX);
        self.stream.set_rate(None, self.now);
        loop {
            self.take_input();
            let was_told = self.take_event();
            self.attach();
            self.resume();
            if !was_told && !self.stream.has_event() && (self.input.is_empty() || self.stream.is_over()) {
                break;
            }
        }
        self.check();
        if !self.is_cut {
            assert_eq!(self.told, self.expected);
        }
        self.check_idle();
        self.stream.close(&mut self.sent);
        self.write();
        self.check_sent();
    }

    /// A stream as this one, with a header and stanzas behind it, holds next to nothing.
    fn check_idle(&self) {
        let config = Arc::new(Config::default());
        let before = heap_bytes();
        let mut stream = match self.choice {
            Choice::Tcp => Stream::tcp(config, self.now),
            _ => Stream::websocket(config, self.now),
        };
        let words = match self.choice {
            Choice::Tcp => format!("{HEADER}<a/>").into_bytes(),
            Choice::WebSocket => [text(OPEN), text("<a/>")].concat(),
            Choice::Legacy => text(&format!("{HEADER}<a/>")),
        };
        let mut input = &words[..];
        for _ in 0..3 {
            stream.handle_input(&mut input, self.now);
            stream.poll_event();
        }
        assert!(heap_bytes() - before <= IDLE_HEAP + words.capacity(), "{}", heap_bytes() - before);
    }

    fn check_sent(&self) {
        if matches!(self.choice, Choice::Tcp) {
            return;
        }
        let frames = server_frames(&self.sent);
        let closes = frames.iter().filter(|(opcode, _)| *opcode == CLOSE).count();
        assert_eq!(closes, 1);
        assert_eq!(frames.last().map(|(opcode, _)| *opcode), Some(CLOSE));
        let is_legacy = self.stream.framing() == Framing::LegacyWebSocket;
        for (_, payload) in frames.iter().filter(|(opcode, _)| *opcode == ws::TEXT) {
            assert!(is_legacy || parse_element(payload, &Limits::default()).is_ok());
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    frame(0x80 | TEXT, [1, 2, 3, 4], text.as_bytes())
}

fn element(text: &str) -> Element {
    parse_element(text.as_bytes(), &Limits::default()).expect("an element")
}
