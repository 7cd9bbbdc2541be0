//! How a stream's events lie in the bytes of a connection.

use crate::ws::{self, WebSocket, stanza};
use crate::xmpp::{self, Limits, StreamError, trim_space_start};

/// How a stream lies in the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// The connection's bytes are one XML stream (RFC 6120).
    Tcp,
    /// Each message is an element (RFC 7395).
    WebSocket,
    /// As before RFC 7395: messages carry pieces of an XML stream.
    LegacyWebSocket,
}

/// What the bytes of a peer came to.
pub(super) enum Found {
    /// Nothing yet.
    Nothing,
    Event(xmpp::Event),
    /// The rules of XML streams are broken, or a bound is exceeded.
    Error(StreamError),
    /// The WebSocket is closed, by the peer or because it broke the rules of WebSockets.
    Closed,
}

/// The receiving side, and the WebSocket's own frames of both.
pub(super) enum Transport {
    Tcp(xmpp::Parser),
    WebSocket(WebSocket),
    Legacy(Box<Legacy>),
}

/// A WebSocket whose messages carry pieces of an XML stream.
pub(super) struct Legacy {
    websocket: WebSocket,
    stream: xmpp::Parser,
    /// The message being looked at.
    message: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
}

/// How much longer than a stanza a message may be that carries pieces of a stream: it may be several stanzas.
const PIECES_RESERVE: usize = 65_536;

impl Transport {
    pub(super) fn framing(&self) -> Framing {
        match self {
            Self::Tcp(_) => Framing::Tcp,
            Self::WebSocket(_) => Framing::WebSocket,
            Self::Legacy(_) => Framing::LegacyWebSocket,
        }
    }

    pub(super) fn websocket(&self) -> Option<&WebSocket> {
        match self {
            Self::Tcp(_) => None,
            Self::WebSocket(websocket) => Some(websocket),
            Self::Legacy(legacy) => Some(&legacy.websocket),
        }
    }

    pub(super) fn websocket_mut(&mut self) -> Option<&mut WebSocket> {
        match self {
            Self::Tcp(_) => None,
            Self::WebSocket(websocket) => Some(websocket),
            Self::Legacy(legacy) => Some(&mut legacy.websocket),
        }
    }

    /// Whether no stanza, message or frame is half received.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_idle(),
            Self::WebSocket(websocket) => websocket.is_idle(),
            Self::Legacy(legacy) => legacy.stream.is_idle() && legacy.websocket.is_idle(),
        }
    }

    /// Whether these bytes, which come next, are signs of life and nothing else.
    pub(super) fn is_sign_of_life(&self, bytes: &[u8]) -> bool {
        match self {
            _ if !self.is_idle() => false,
            Self::Tcp(_) => trim_space_start(bytes).is_empty(),
            Self::WebSocket(_) | Self::Legacy(_) => ws::are_pings(bytes),
        }
    }

    /// Whether there are bytes that were taken and not yet looked at.
    pub(super) fn has_rest(&self) -> bool {
        matches!(self, Self::Legacy(legacy) if legacy.taken < legacy.message.len())
    }

    /// A new XML stream begins. With RFC 7395 it is nothing but another header.
    pub(super) fn restart(&mut self) {
        match self {
            Self::Tcp(stream) => *stream = xmpp::Parser::new(),
            Self::WebSocket(_) => {}
            Self::Legacy(legacy) => legacy.stream = xmpp::Parser::new(),
        }
    }

    /// Holds messages to these bounds. One that goes beyond is refused before it has come.
    pub(super) fn limit(&mut self, limits: &Limits) {
        let reserve = if matches!(self, Self::Legacy(_)) { PIECES_RESERVE } else { 0 };
        let most = u32::try_from(limits.stanza_bytes.saturating_add(reserve)).unwrap_or(u32::MAX);
        if let Some(websocket) = self.websocket_mut() {
            websocket.set_max_message(most);
        }
    }

    /// Takes bytes off the front of `input` up to the next event. `skips_space`: white space that comes next belongs to no
    /// stream; it is set back by anything else. `is_new`: which of the framings a WebSocket has is not known yet.
    pub(super) fn step(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
        skips_space: &mut bool,
        is_new: bool,
    ) -> Found {
        let websocket = match self {
            Self::Tcp(stream) => return parse(stream, input, limits, skips_space),
            Self::Legacy(legacy) => return legacy.step(input, limits, skips_space),
            Self::WebSocket(websocket) => websocket,
        };
        match next_message(websocket, input) {
            Ok(message) if is_new && is_piece_of_stream(&message) => {
                let websocket = std::mem::replace(websocket, WebSocket::new(0));
                let legacy = Legacy { websocket, stream: xmpp::Parser::new(), message, taken: 0 };
                *self = Self::Legacy(Box::new(legacy));
                self.limit(limits);
                self.step(input, limits, skips_space, is_new)
            }
            Ok(message) => stanza::parse_message(&message, limits).map_or_else(Found::Error, Found::Event),
            Err(found) => found,
        }
    }
}

impl Legacy {
    fn step(&mut self, input: &mut &[u8], limits: &Limits, skips_space: &mut bool) -> Found {
        loop {
            let mut rest = &self.message[self.taken..];
            // Without more bytes the parser may still hold the end of the stream.
            let found = parse(&mut self.stream, &mut rest, limits, skips_space);
            self.taken = self.message.len() - rest.len();
            if rest.is_empty() {
                (self.message, self.taken) = (Vec::new(), 0);
            }
            if !matches!(found, Found::Nothing) {
                return found;
            }
            match next_message(&mut self.websocket, input) {
                Ok(message) => self.message = message,
                Err(found) => return found,
            }
        }
    }
}

/// The next message, or what there is instead.
fn next_message(websocket: &mut WebSocket, input: &mut &[u8]) -> Result<Vec<u8>, Found> {
    websocket.handle_input(input);
    match websocket.poll_event() {
        None => Err(Found::Nothing),
        Some(ws::Event::Text(message) | ws::Event::Binary(message)) => Ok(message),
        Some(ws::Event::Closed(_)) => Err(Found::Closed),
        // The owner has the stream error to send, and closes behind it.
        Some(ws::Event::Failed(violation)) if violation.code == 1009 => {
            Err(Found::Error(StreamError::TOO_BIG))
        }
        Some(ws::Event::Failed(violation)) => {
            websocket.close(violation.code);
            Err(Found::Closed)
        }
    }
}

fn parse(stream: &mut xmpp::Parser, input: &mut &[u8], limits: &Limits, skips_space: &mut bool) -> Found {
    if *skips_space {
        *input = trim_space_start(input);
        *skips_space = input.is_empty();
    }
    match stream.handle_bytes(input, limits) {
        Ok(Some(event)) => Found::Event(event),
        Ok(None) => Found::Nothing,
        Err(error) => Found::Error(error),
    }
}

/// Whether a WebSocket's first message begins an XML stream: as RFC 7395 has it, it would be `<open/>`.
fn is_piece_of_stream(message: &[u8]) -> bool {
    let message = trim_space_start(message);
    let Some(declaration) = message.strip_prefix(b"<?xml") else { return is_stream_tag(message) };
    let Some(end) = declaration.windows(2).position(|pair| pair == b"?>") else { return true };
    let rest = trim_space_start(&declaration[end + 2..]);
    rest.is_empty() || is_stream_tag(rest)
}

/// Whether a start tag of the name `stream` comes first, with any prefix.
fn is_stream_tag(bytes: &[u8]) -> bool {
    let Some(tag) = bytes.strip_prefix(b"<") else { return false };
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/');
    let name = tag.split(is_end).next().unwrap_or_default();
    name.rsplit(|byte| *byte == b':').next() == Some(b"stream")
}
