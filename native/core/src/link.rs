//! One XMPP stream on one connection: bytes to events and back, and how much of it its owner has taken.

use crate::clock::Tick;
use crate::credit::Credit;
use crate::throttle::Throttle;
use crate::xmpp::{Outgoing, RequestFacts, XmppConfig};
use megaphone_proto::ws::{self, WebSocket, stanza};
use megaphone_proto::xmpp::{
    Element, ElementBuilder, Event, Limits, NS_CLIENT, NS_STREAM, Stream, StreamError, write_element,
    write_end_tag, write_header,
};

/// A WebSocket message may be so much longer than a stanza, so that a stanza too long is answered by a stream error
/// and not by a close code.
const MESSAGE_RESERVE: u64 = 1024 * 1024;

const NS_STREAM_ERRORS: &[u8] = b"urn:ietf:params:xml:ns:xmpp-streams";
const NS_SASL: &[u8] = b"urn:ietf:params:xml:ns:xmpp-sasl";

enum Framing {
    Stream(Stream),
    WebSocket(WebSocket),
}

/// What is looked for in the peer's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Open,
    /// The peer has ended its stream.
    Ended,
    /// The peer broke the rules.
    Failed,
}

/// What comes next of the peer's bytes.
pub(crate) enum Found {
    /// All are used up.
    Nothing,
    /// The event, for the owner.
    Event(Event),
    /// The rules of XML streams are broken.
    Error(StreamError),
    /// The WebSocket is closed; what is to be said about it is written.
    Goodbye,
}

/// The framing of one stream. Boxed in its connection's record, and small: every idle user has one.
pub(crate) struct Link {
    framing: Framing,
    /// The stream header, until there is an owner to have it.
    pub(crate) pending: Option<Box<Event>>,
    pub(crate) request: Option<Box<RequestFacts>>,
    pub(crate) throttle: Option<Box<Throttle>>,
    input: Input,
    is_header_sent: bool,
    is_trailer_sent: bool,
    /// The owner may have the stream restarted when it has taken what it was sent last.
    awaits_restart: bool,
    pub(crate) awaits_pong: bool,
    /// Bytes came since the deadlines of silence were moved.
    is_heard: bool,
    credit: Credit,
    // Deadlines; 0 is none.
    /// When reading goes on.
    pub(crate) resume_at: Tick,
    /// When what is half received must be whole.
    pub(crate) whole_by: Tick,
    /// When to ping.
    pub(crate) ping_at: Tick,
    /// When silence ends the connection.
    pub(crate) silent_until: Tick,
}

impl Link {
    pub(crate) fn stream() -> Self {
        Self::new(Framing::Stream(Stream::new()), None)
    }

    pub(crate) fn websocket(request: RequestFacts) -> Self {
        Self::new(Framing::WebSocket(WebSocket::new()), Some(Box::new(request)))
    }

    fn new(framing: Framing, request: Option<Box<RequestFacts>>) -> Self {
        Self {
            framing,
            pending: None,
            request,
            throttle: None,
            input: Input::Open,
            is_header_sent: false,
            is_trailer_sent: false,
            awaits_restart: false,
            awaits_pong: false,
            is_heard: false,
            credit: Credit::default(),
            resume_at: 0,
            whole_by: 0,
            ping_at: 0,
            silent_until: 0,
        }
    }

    pub(crate) fn is_websocket(&self) -> bool {
        matches!(self.framing, Framing::WebSocket(_))
    }

    /// Whether more of the peer's bytes may mean something.
    pub(crate) fn is_open(&self) -> bool {
        self.input == Input::Open
    }

    /// Whether the owner can have another event.
    pub(crate) fn may_parse(&self) -> bool {
        self.is_open() && self.credit.has_room() && !self.awaits_restart
    }

    /// Whether nothing is half received.
    fn is_between_stanzas(&self) -> bool {
        match &self.framing {
            Framing::Stream(stream) => stream.is_idle(),
            Framing::WebSocket(websocket) => websocket.is_idle(),
        }
    }

    /// Takes bytes off the front of `input` up to the next event; what has to be answered to them by itself goes
    /// to `out`.
    pub(crate) fn next(&mut self, input: &mut &[u8], limits: &Limits, out: &mut Vec<u8>) -> Found {
        let found = match &mut self.framing {
            Framing::Stream(stream) => stream.handle_bytes(input, limits).map(|event| match event {
                Some(event) => Found::Event(event),
                None => Found::Nothing,
            }),
            Framing::WebSocket(websocket) => next_message(websocket, input, limits, out),
        };
        let found = found.unwrap_or_else(Found::Error);
        match &found {
            Found::Event(Event::StreamEnd(_)) => self.input = Input::Ended,
            Found::Event(Event::Element(element)) if element.attr(b"xmlns") == Some(NS_SASL) => {
                self.awaits_restart = true;
            }
            Found::Error(_) | Found::Goodbye => self.input = Input::Failed,
            Found::Event(_) | Found::Nothing => {}
        }
        if !matches!(found, Found::Nothing) {
            // What was owed is there, or will never be.
            self.whole_by = 0;
        }
        found
    }

    /// The peer has sent something, whatever it is.
    pub(crate) fn received(&mut self, bytes: usize, now: Tick) {
        self.is_heard = true;
        if let Some(throttle) = &mut self.throttle {
            self.resume_at = throttle.count(bytes, now).unwrap_or(0);
        }
    }

    /// Whether the peer has sent something since this was asked last.
    pub(crate) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.is_heard)
    }

    /// Whether the peer owes the rest of a stanza or frame. What is not looked at yet is not owed.
    pub(crate) fn is_owed(&self) -> bool {
        self.may_parse() && !self.is_between_stanzas()
    }

    /// The owner was sent an event that came in so many bytes.
    pub(crate) fn delivered(&mut self, bytes: usize) {
        self.credit.delivered(bytes);
    }

    /// The owner has taken so many of them.
    pub(crate) fn taken(&mut self, events: u32) {
        self.credit.taken(events);
        if self.credit.is_settled() {
            self.awaits_restart = false;
        }
    }

    /// A new stream begins on the same connection (RFC 6120 section 4.3.3).
    pub(crate) fn restart(&mut self) {
        if let Framing::Stream(stream) = &mut self.framing {
            *stream = Stream::new();
        }
        self.is_header_sent = false;
    }

    /// Appends what the owner sends.
    pub(crate) fn encode(&mut self, outgoing: Outgoing<'_>, out: &mut Vec<u8>) {
        match outgoing {
            Outgoing::Header(_) => self.is_header_sent = true,
            Outgoing::End(_) => self.is_trailer_sent = true,
            Outgoing::Element(_) | Outgoing::Raw(_) => {}
        }
        let Framing::WebSocket(websocket) = &self.framing else {
            return match outgoing {
                Outgoing::Header(header) => write_header(header.name(), header.attrs(), out),
                Outgoing::Element(element) => write_element(element, out),
                Outgoing::End(name) => write_end_tag(name, out),
                Outgoing::Raw(bytes) => out.extend_from_slice(bytes),
            };
        };
        let mut message = Vec::new();
        match outgoing {
            Outgoing::Header(header) => stanza::write_open(header.attrs(), &mut message),
            Outgoing::Element(element) => stanza::write_stanza(element, &mut message),
            Outgoing::End(_) => stanza::write_close(&mut message),
            Outgoing::Raw(_) => return,
        }
        websocket.send_text(&message, out);
    }

    /// Appends a ping.
    pub(crate) fn ping(&mut self, out: &mut Vec<u8>) {
        if let Framing::WebSocket(websocket) = &self.framing {
            websocket.send_ping(b"", out);
            self.awaits_pong = true;
        }
    }

    /// Appends what the transport says when our side closes.
    pub(crate) fn farewell(&mut self, out: &mut Vec<u8>) {
        if self.is_websocket() && self.is_header_sent && !self.is_trailer_sent {
            self.encode(Outgoing::End(b"stream:stream"), out);
        }
        if let Framing::WebSocket(websocket) = &mut self.framing {
            websocket.close(1000, out);
        }
    }

    /// Appends a whole stream that says nothing but what is wrong (RFC 6120 section 4.9.1.2).
    pub(crate) fn refuse(&mut self, config: &XmppConfig, condition: &str, text: &str, out: &mut Vec<u8>) {
        self.encode(Outgoing::Header(&refusal_header(config)), out);
        self.encode(Outgoing::Element(&stream_error(config, condition, text)), out);
        self.encode(Outgoing::End(b"stream:stream"), out);
    }

    /// The nearest of the deadlines; 0 when there is none.
    pub(crate) fn deadline(&self) -> Tick {
        let all = [self.resume_at, self.whole_by, self.ping_at, self.silent_until];
        all.into_iter().filter(|at| *at != 0).min().unwrap_or(0)
    }
}

fn next_message(
    websocket: &mut WebSocket,
    input: &mut &[u8],
    limits: &Limits,
    out: &mut Vec<u8>,
) -> Result<Found, StreamError> {
    let most = (limits.stanza_bytes as u64).saturating_add(MESSAGE_RESERVE);
    let ws_limits = ws::Limits { frame_bytes: most, message_bytes: most };
    loop {
        match websocket.handle_bytes(input, &ws_limits, out) {
            Ok(None) => return Ok(Found::Nothing),
            Ok(Some(ws::Event::Text(message) | ws::Event::Binary(message))) => {
                return stanza::parse_message(&message, limits).map(Found::Event);
            }
            // That it came is what counts, see `Link::received`.
            Ok(Some(ws::Event::Ping | ws::Event::Pong(_))) => {}
            Ok(Some(ws::Event::Closed(_))) | Err(_) => return Ok(Found::Goodbye),
        }
    }
}

fn refusal_header(config: &XmppConfig) -> Element {
    let mut header = ElementBuilder::default();
    header.start(b"stream:stream");
    header.attr(b"id", stream_id().as_bytes());
    header.attr(b"version", b"1.0");
    header.attr(b"xml:lang", config.lang.as_bytes());
    header.attr(b"xmlns:stream", NS_STREAM.as_bytes());
    header.attr(b"from", config.from.as_bytes());
    header.attr(b"xmlns", NS_CLIENT.as_bytes());
    header.end();
    // Balanced by construction.
    header.finish().unwrap_or_default()
}

fn stream_error(config: &XmppConfig, condition: &str, text: &str) -> Element {
    let mut error = ElementBuilder::default();
    error.start(b"stream:error");
    error.start(condition.as_bytes());
    error.attr(b"xmlns", NS_STREAM_ERRORS);
    error.end();
    error.start(b"text");
    error.attr(b"xml:lang", config.lang.as_bytes());
    error.attr(b"xmlns", NS_STREAM_ERRORS);
    error.text(text.as_bytes());
    error.end();
    error.end();
    error.finish().unwrap_or_default()
}

/// Unique and unpredictable (RFC 6120 section 4.7.3), although nothing is ever done with it.
fn stream_id() -> String {
    // Without random numbers from the kernel an error's id is the least worry.
    getrandom::u64().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without its end.
    const OPEN: &[u8] =
        b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

    fn next(link: &mut Link, mut input: &[u8]) -> Found {
        link.next(&mut input, &Limits::default(), &mut Vec::new())
    }

    #[test]
    fn each_stanza_has_a_deadline_of_its_own() {
        let mut link = Link::stream();
        next(&mut link, OPEN);
        assert!(matches!(next(&mut link, b"<message>"), Found::Nothing));
        assert!(link.is_owed());
        link.whole_by = 7;
        assert!(matches!(next(&mut link, b"<body/>"), Found::Nothing));
        assert_eq!(link.deadline(), 7, "not moved by bytes");
        assert!(matches!(next(&mut link, b"</message>"), Found::Event(_)));
        assert_eq!(link.deadline(), 0);
        next(&mut link, b"<message>");
        link.whole_by = 9;
        assert!(matches!(next(&mut link, b"</>"), Found::Error(_)));
        assert_eq!(link.deadline(), 0, "now the owner's");
    }

    #[test]
    fn a_peer_whose_owner_is_behind_owes_nothing() {
        let mut link = Link::stream();
        next(&mut link, OPEN);
        next(&mut link, b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
        link.delivered(50);
        assert!(!link.may_parse() && !link.is_owed());
        assert!(link.is_between_stanzas(), "and holds no parser");
    }
}
