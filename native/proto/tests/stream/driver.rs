//! A stream with an owner that writes down what it is told.

use std::sync::Arc;
use std::time::Duration;

use megaphone_proto::stream::{Config, Event, Framing, Outgoing, Stream, encode};
use megaphone_proto::time::Time;
use megaphone_proto::xmpp::{self, Limits, element_to_vec, parse_element};

use crate::client::{Answer, FIN, TEXT, answers, frame};

pub(crate) const HEADER: &str = "<stream:stream xmlns='jabber:client' to='localhost' version='1.0' \
     xmlns:stream='http://etherx.jabber.org/streams'>";
pub(crate) const OPEN: &str =
    "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>";
pub(crate) const AUTH: &str =
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>";
pub(crate) const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

pub(crate) struct Driver {
    pub(crate) stream: Stream,
    pub(crate) now: Time,
    /// What came and was not taken.
    pub(crate) input: Vec<u8>,
    pub(crate) sent: Vec<u8>,
}

impl Driver {
    pub(crate) fn tcp(config: Config) -> Self {
        Self::new(Stream::tcp(Arc::new(config), Time::START))
    }

    pub(crate) fn websocket(config: Config) -> Self {
        Self::new(Stream::websocket(Arc::new(config), Time::START))
    }

    fn new(stream: Stream) -> Self {
        Self { stream, now: Time::START, input: Vec::new(), sent: Vec::new() }
    }

    /// One over TCP whose owner has its header.
    pub(crate) fn open_tcp(config: Config) -> Self {
        let mut driver = Self::tcp(config);
        assert_eq!(driver.receive(HEADER.as_bytes()).len(), 1);
        driver.stream.attach(driver.now);
        driver
    }

    /// One over WebSocket whose owner has its header and has answered it.
    pub(crate) fn open_websocket(config: Config) -> Self {
        let mut driver = Self::websocket(config);
        assert_eq!(driver.receive_text(OPEN).len(), 1);
        driver.stream.attach(driver.now);
        driver.send_header();
        driver.sent.clear();
        driver
    }

    /// Bytes arrive; what the owner is told of them, in short.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Vec<String> {
        self.input.extend_from_slice(bytes);
        self.look()
    }

    pub(crate) fn receive_text(&mut self, message: &str) -> Vec<String> {
        self.receive(&frame(FIN | TEXT, message.as_bytes()))
    }

    /// Has what is there looked at.
    pub(crate) fn look(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        loop {
            let mut rest = &self.input[..];
            self.stream.handle_input(&mut rest, self.now);
            self.input = rest.to_vec();
            match self.stream.poll_event() {
                Some(event) => events.push(in_short(&event)),
                None => break,
            }
        }
        self.stream.poll_transmit(&mut self.sent);
        events
    }

    pub(crate) fn resume(&mut self) -> Vec<String> {
        self.stream.resume();
        self.look()
    }

    /// The peer closes its side.
    pub(crate) fn end(&mut self) -> Vec<String> {
        self.stream.handle_end(self.now);
        self.look()
    }

    pub(crate) fn send(&mut self, outgoing: Outgoing<'_>) {
        let sent = encode(self.stream.framing(), outgoing, &mut self.sent);
        self.stream.sent(sent);
    }

    pub(crate) fn send_element(&mut self, element: &str) {
        self.send(Outgoing::Element(&self::element(element)));
    }

    pub(crate) fn send_header(&mut self) {
        let header = element(
            "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1'/>",
        );
        self.send(Outgoing::Header(&header));
    }

    pub(crate) fn close(&mut self) {
        self.stream.close(&mut self.sent);
    }

    /// The owner says that the client has logged in, and restarts the stream.
    pub(crate) fn log_in(&mut self) {
        self.send_element(SUCCESS);
        self.stream.restart();
        self.stream.resume();
    }

    /// Time passes, and deadlines are told as they come.
    pub(crate) fn pass(&mut self, duration: Duration) -> Vec<String> {
        let end = Time::from_ticks(self.now.ticks() + (duration.as_millis() / 100) as u32);
        let mut events = Vec::new();
        while let Some(at) = self.stream.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.stream.handle_timeout(self.now);
            events.append(&mut self.look());
            assert!(self.stream.poll_timeout() > Some(at) || self.stream.poll_timeout().is_none());
        }
        self.now = end;
        events
    }

    /// What was sent since this was asked last.
    pub(crate) fn said(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.sent)).unwrap()
    }

    /// The same in frames.
    pub(crate) fn frames(&mut self) -> Vec<Answer> {
        answers(&std::mem::take(&mut self.sent))
    }

    pub(crate) fn is_legacy(&self) -> bool {
        self.stream.framing() == Framing::LegacyWebSocket
    }
}

pub(crate) fn element(text: &str) -> xmpp::Element {
    parse_element(text.as_bytes(), &Limits::default()).unwrap()
}

/// `start`, `end`, the element, `error` with its condition, or `closed`.
pub(crate) fn in_short(event: &Event) -> String {
    match event {
        Event::Stream(xmpp::Event::StreamStart(_)) => "start".into(),
        Event::Stream(xmpp::Event::Element(element)) => String::from_utf8(element_to_vec(element)).unwrap(),
        Event::Stream(xmpp::Event::StreamEnd(_)) => "end".into(),
        Event::Error(error) => format!("error {}", error.condition.name()),
        Event::Closed => "closed".into(),
    }
}
