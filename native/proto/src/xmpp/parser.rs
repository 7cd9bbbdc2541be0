//! The receiving side of an XML stream (RFC 6120 section 4).

use std::sync::Arc;

use super::element::Element;
use super::error::{Condition, Limits, StreamError};
use super::names::Naming;
use super::reader::{Reader, Step};
use super::scope::Scope;

/// What a stream's peer did, in the order and shape in which `fxml_stream` tells `xmpp_stream_in`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The stream header: an element without content. `{xmlstreamstart, Name, Attrs}`.
    StreamStart(Element),
    /// A stanza or other first-level element. `{xmlstreamelement, #xmlel{}}`.
    Element(Element),
    /// The stream was closed properly; nothing follows. `{xmlstreamend, Name}`, with the header's name.
    StreamEnd(Box<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was received but this many bytes of a byte order mark.
    Start(u8),
    /// White space was received, so that no XML declaration may come.
    Spaced,
    /// The header has begun.
    Header,
    /// The header is complete.
    Open,
    /// The stream has ended or failed.
    Closed,
}

/// One stream of a connection, receiving side.
///
/// Calling protocol: pass what was received to [`handle_bytes`](Self::handle_bytes), again and again with what it
/// left of the input, until it returns `Ok(None)`; it has then used everything up. How the peer's bytes are split
/// makes no difference. An error is final, as is [`Event::StreamEnd`]: later bytes are ignored. A restart of the
/// stream (RFC 6120 section 4.3.3) is a new `Parser` on the same connection, put in place before the bytes
/// that follow are handled.
///
/// Between stanzas it holds 24 bytes, and the header's namespaces when they are not the usual ones of a client; in
/// the middle of a stanza it also holds a parser and what was parsed ([`is_idle`](Self::is_idle) tells).
/// White space between stanzas, the keep-alive of RFC 6120 section 4.6.1, gives no event; other character
/// data there is checked and dropped, as ejabberd's c2s does.
///
/// Where RFC 6120 section 11.1 is stricter than `fxml_stream`, so is this: comments, processing instructions and
/// an XML declaration that asks for another encoding are errors.
pub struct Parser {
    phase: Phase,
    /// What the header declared; `None` for [`Scope::usual`].
    scope: Option<Arc<Scope>>,
    partial: Option<Box<Partial>>,
}

struct Partial {
    reader: Reader,
    /// Bytes taken since the last event.
    taken: usize,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Parser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parser").field("phase", &self.phase).field("idle", &self.is_idle()).finish()
    }
}

impl Parser {
    /// A stream of which nothing was received.
    pub const fn new() -> Self {
        Self { phase: Phase::Start(0), scope: None, partial: None }
    }

    /// Whether no header, stanza or end tag is half received. A peer owes the rest of what is.
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Whether the stream has ended or failed.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether the stream's header is complete and the stream has not ended.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Bytes of heap memory held while idle.
    pub fn idle_heap_bytes(&self) -> usize {
        self.scope.as_ref().map_or(0, |scope| scope.heap_bytes())
    }

    /// Takes bytes off the front of `input` up to the next event; `None` when all are used up without one.
    pub fn handle_bytes(&mut self, input: &mut &[u8], limits: &Limits) -> Result<Option<Event>, StreamError> {
        if self.is_closed() {
            *input = &[];
            return Ok(None);
        }
        let result = self.next_event(input, limits);
        if matches!(result, Err(_) | Ok(Some(Event::StreamEnd(_)))) {
            *self = Self { phase: Phase::Closed, scope: None, partial: None };
            *input = &[];
        }
        result
    }

    fn next_event(&mut self, input: &mut &[u8], limits: &Limits) -> Result<Option<Event>, StreamError> {
        self.skip_before_markup(input)?;
        if input.is_empty() && self.partial.is_none() {
            return Ok(None);
        }
        let mut partial = match self.partial.take() {
            Some(partial) => partial,
            None => Box::new(Partial { reader: self.new_reader(), taken: 0 }),
        };
        let event = self.advance(&mut partial, input, limits)?;
        if event.is_some() {
            partial.taken = 0;
            // Behind an element there is nothing without more bytes. Behind a header there may be its end, `<a/>`.
            let is_done = input.is_empty() && matches!(event, Some(Event::Element(_)));
            self.partial = (!is_done).then_some(partial);
        } else if partial.taken > 0 {
            self.partial = Some(partial);
        }
        // Else the parser has seen nothing since the last event, and is not worth its memory.
        Ok(event)
    }

    fn advance(
        &mut self,
        partial: &mut Partial,
        input: &mut &[u8],
        limits: &Limits,
    ) -> Result<Option<Event>, StreamError> {
        loop {
            let room = limits.stanza_bytes.saturating_sub(1).saturating_sub(partial.taken);
            let mut allowed = &input[..room.min(input.len())];
            let before = allowed.len();
            let step = partial.reader.step(&mut allowed, limits)?;
            let taken = before - allowed.len();
            partial.taken += taken;
            *input = &input[taken..];
            match step {
                Step::Declared if self.phase == Phase::Spaced => {
                    return Err(StreamError::not_well_formed("XML declaration not at start"));
                }
                Step::Declared => {}
                Step::Header(header) => {
                    self.phase = Phase::Open;
                    let is_own = |scope: &&Arc<Scope>| !Arc::ptr_eq(scope, Scope::usual());
                    self.scope = partial.reader.scope().filter(is_own).cloned();
                    return Ok(Some(Event::StreamStart(header)));
                }
                Step::Element(element) => return Ok(Some(Event::Element(element))),
                Step::End => return Ok(Some(Event::StreamEnd(self.scope().name.clone()))),
                Step::NeedMore if !input.is_empty() => return Err(StreamError::TOO_BIG),
                Step::NeedMore => return Ok(None),
            }
        }
    }

    fn new_reader(&mut self) -> Reader {
        if self.phase == Phase::Open {
            return Reader::inside(self.scope().clone());
        }
        if self.phase != Phase::Spaced {
            self.phase = Phase::Header;
        }
        Reader::new(Naming::Stream)
    }

    fn scope(&self) -> &Arc<Scope> {
        self.scope.as_ref().unwrap_or(Scope::usual())
    }

    /// Skips what may stand between first-level elements or before the header.
    fn skip_before_markup(&mut self, input: &mut &[u8]) -> Result<(), StreamError> {
        if let Phase::Start(seen) = self.phase {
            self.skip_byte_order_mark(seen, input)?;
        }
        let before = input.len();
        match &self.partial {
            Some(partial) if partial.taken > 0 => return Ok(()),
            _ => *input = super::trim_space_start(input),
        }
        if input.len() < before && self.phase != Phase::Open {
            self.phase = Phase::Spaced;
        }
        match input.first() {
            Some(byte) if self.phase != Phase::Open && *byte != b'<' => {
                Err(StreamError::not_well_formed("text before the stream header"))
            }
            _ => Ok(()),
        }
    }

    fn skip_byte_order_mark(&mut self, mut seen: u8, input: &mut &[u8]) -> Result<(), StreamError> {
        const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];
        while let Some((&byte, rest)) = input.split_first() {
            match MARK.get(usize::from(seen)) {
                Some(expected) if byte == *expected => seen += 1,
                Some(_) if seen == 0 && matches!(byte, 0xFE | 0xFF | 0) => {
                    let text = "not UTF-8";
                    return Err(StreamError { condition: Condition::UnsupportedEncoding, text });
                }
                Some(_) if seen > 0 => return Err(StreamError::not_well_formed("invalid character")),
                _ => break,
            }
            *input = rest;
        }
        self.phase = Phase::Start(seen);
        Ok(())
    }
}
