//! rxml's events gathered into elements: the part that streams and documents have in common.

use rxml::error::EndOrError;
use rxml::{Options, Parse, RawEvent, RawParser, WithOptions};

use super::declaration::{Declaration, ENCODING};
use super::element::{Element, ElementBuilder};
use super::error::{Limits, StreamError};
use super::names::{Head, Names, Naming, Scope};

/// What became of the bytes given to a [`Reader`].
pub(super) enum Step {
    /// The XML declaration is there.
    Declared,
    /// The start tag of an element is complete.
    Entered,
    /// An element is complete.
    Left,
    /// Character data was added.
    Texted,
    /// All bytes are used up.
    NeedMore,
    /// The document is complete.
    Done,
}

/// A parser with the tree it is building. While it waits for the rest of a stanza it holds about 1.4 KB.
pub(super) struct Reader {
    raw: RawParser,
    declaration: Declaration,
    names: Names,
    head: Option<Head>,
    builder: ElementBuilder,
    /// How many of the stream's next bytes are known to be no carriage returns.
    clear: usize,
    /// Whether the last byte was a carriage return, which a line feed would belong to.
    after_return: bool,
}

/// How many times larger than the largest stanza a tree may be. Elements without their prefix show their namespace, so
/// that a long one would be repeated as often as a short prefix fits into a stanza.
const EXPANSION: usize = 4;

/// How far ahead to look for a carriage return.
const CLEAR_WINDOW: usize = 4096;

impl Reader {
    pub(super) fn new(naming: Naming, limits: &Limits) -> Self {
        Self::with_names(Names::of_document(naming), Declaration::Start, limits)
    }

    /// A reader that stands right behind the header of a stream.
    pub(super) fn inside(scope: &Scope, limits: &Limits) -> Result<Self, StreamError> {
        let mut reader = Self::with_names(Names::of_stanzas(scope), Declaration::Passed, limits);
        // rxml checks end tags against start tags, the stream's own included, so it has to see that one.
        let header = format!("<{}>", scope.name);
        let mut unread = header.as_bytes();
        while !matches!(reader.raw_step(&mut unread, false)?, None | Some(RawEvent::ElementHeadClose(_))) {}
        Ok(reader)
    }

    fn with_names(names: Names, declaration: Declaration, limits: &Limits) -> Self {
        let options = Options { max_token_length: limits.token_bytes, ..Options::default() };
        Self {
            raw: RawParser::with_options(options),
            declaration,
            names,
            head: None,
            builder: ElementBuilder::default(),
            clear: 0,
            after_return: false,
        }
    }

    /// Open elements, the stream's included.
    pub(super) fn depth(&self) -> usize {
        self.names.depth()
    }

    /// Takes white space off the front of `input` that has no meaning to anyone.
    pub(super) fn skip_space(&mut self, input: &mut &[u8]) {
        let rest = super::trim_space_start(input);
        self.clear = self.clear.saturating_sub(input.len() - rest.len());
        *input = rest;
    }

    /// Takes bytes off the front of `input` up to the next event.
    pub(super) fn step(
        &mut self,
        input: &mut &[u8],
        at_end: bool,
        limits: &Limits,
    ) -> Result<Step, StreamError> {
        loop {
            let Some(event) = self.raw_step(input, at_end)? else {
                return Ok(if at_end { Step::Done } else { Step::NeedMore });
            };
            match event {
                RawEvent::XmlDeclaration(..) => return Ok(Step::Declared),
                RawEvent::ElementHeadOpen(_, (prefix, local)) => {
                    if self.depth() > limits.depth {
                        return Err(StreamError::policy("elements nested too deep"));
                    }
                    self.head = Some(Head { prefix, local, attrs: Vec::new() });
                }
                RawEvent::Attribute(_, (prefix, local), value) => {
                    let Some(head) = &mut self.head else { continue };
                    if head.attrs.len() >= limits.attributes {
                        return Err(StreamError::policy("too many attributes"));
                    }
                    head.attrs.push((prefix, local, value));
                }
                RawEvent::ElementHeadClose(_) => {
                    if let Some(head) = &self.head {
                        self.names.enter(head, limits, &mut self.builder)?;
                    }
                    if self.builder.byte_len() > limits.stanza_bytes.saturating_mul(EXPANSION) {
                        return Err(StreamError::policy("namespaces repeated too often"));
                    }
                    return Ok(Step::Entered);
                }
                RawEvent::Text(_, text) => {
                    self.builder.text(text.as_bytes());
                    return Ok(Step::Texted);
                }
                RawEvent::ElementFoot(_) => {
                    self.builder.end();
                    self.names.leave();
                    return Ok(Step::Left);
                }
            }
        }
    }

    /// What the header entered last leaves for the stanzas.
    pub(super) fn scope(&self) -> Option<Scope> {
        self.head.as_ref().map(Scope::of_header)
    }

    /// Takes what was built out, closed where it is still open, and starts anew.
    pub(super) fn take_element(&mut self) -> Result<Element, StreamError> {
        std::mem::take(&mut self.builder).finish().map_err(|_| StreamError::TOO_BIG)
    }

    /// Closes a header, which has no end of its own yet, and takes it.
    pub(super) fn take_header(&mut self) -> Result<Element, StreamError> {
        self.builder.end();
        self.take_element()
    }

    /// Forgets character data that belongs to no element.
    pub(super) fn drop_text(&mut self) {
        self.builder = ElementBuilder::default();
    }

    /// Gives back memory that the next token will need, while the peer lets the reader wait.
    pub(super) fn release_temporaries(&mut self) {
        self.raw.release_temporaries();
    }

    /// The next event of rxml, with line ends normalised on the way in (XML section 2.11): rxml 0.14 does that itself
    /// in text, but refuses or drops a carriage return that stands alone in an attribute value.
    fn raw_step(&mut self, input: &mut &[u8], at_end: bool) -> Result<Option<RawEvent>, StreamError> {
        loop {
            if !input.is_empty() && std::mem::take(&mut self.after_return) {
                *input = input.strip_prefix(b"\n").unwrap_or(input);
            }
            if self.clear == 0 {
                let window = &input[..input.len().min(CLEAR_WINDOW)];
                self.clear = memchr::memchr(b'\r', window).unwrap_or(window.len());
            }
            let at_return = self.clear == 0 && !input.is_empty();
            let room = self.pass_declaration(input)?;
            let mut fed = if at_return { b"\n" } else { &input[..self.clear.min(room)] };
            let before = fed.len();
            let fed_is_last = !at_return && before == input.len();
            let result = self.raw.parse(&mut fed, at_end && fed_is_last);
            let taken = before - fed.len();
            *input = &input[taken..];
            if at_return {
                self.after_return = taken > 0;
            } else {
                self.clear -= taken;
            }
            match result {
                Ok(event) => return Ok(event),
                // Behind a carriage return the end itself is still to be told.
                Err(EndOrError::NeedMoreData)
                    if taken > 0 && (!input.is_empty() || (at_return && at_end)) => {}
                Err(EndOrError::NeedMoreData) => return Ok(None),
                Err(EndOrError::Error(error)) => return Err(error.into()),
            }
        }
    }

    /// How many of the next bytes may be fed at once: one by one up to where an XML declaration may lack its encoding,
    /// which is then fed here.
    fn pass_declaration(&mut self, input: &[u8]) -> Result<usize, StreamError> {
        match input.first() {
            Some(byte) if self.declaration != Declaration::Passed => {
                if self.declaration.pass(*byte) {
                    match self.raw.parse(&mut { ENCODING }, false) {
                        // There are no events within a declaration.
                        Ok(_) | Err(EndOrError::NeedMoreData) => {}
                        Err(EndOrError::Error(error)) => return Err(error.into()),
                    }
                }
                Ok(1)
            }
            _ => Ok(input.len()),
        }
    }
}
