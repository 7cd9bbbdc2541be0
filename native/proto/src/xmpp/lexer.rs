//! Bytes to tags and character data (XML sections 2 and 4.1), however the bytes are split.
//!
//! Names, values and text go straight into the buffer of the element that is being built, so that nothing of a token
//! is kept elsewhere. Knows nothing of namespaces, nor which end tag belongs to which start.

mod tags;

use super::builder::ElementBuilder;
use super::chars::{self, Behind, Decoded};
use super::error::{Limits, StreamError};
use super::head::{Head, Name};
use super::reference::{self, Reference, Referred};

/// What a lexer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// An XML declaration, its bytes the buffer's last from this position on.
    Declaration(usize),
    /// A start tag, in [`Lexer::head`].
    Start,
    /// An end tag, its name the buffer's last bytes.
    End(Name),
    /// The end of an element without content, right behind its start.
    EmptyEnd,
    /// All bytes are used up.
    NeedMore,
}

/// Where between the parts of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At its very start, where alone an XML declaration may be.
    Start,
    Prolog,
    Content,
    Epilog,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Outside of markup.
    Text,
    /// Behind `<`.
    Markup,
    /// Behind `<!` and so many bytes of [`CDATA`].
    Bang(usize),
    /// Behind `<!-`.
    Dash,
    Declaration,
    Cdata,
    StartName,
    /// In a start tag; whether behind white space.
    Tag(bool),
    /// Behind the `/` of an element without content.
    Slash,
    /// Behind the start tag of an element without content.
    Ending,
    AttrName,
    Equals(Name),
    Quote(Name),
    Value(Name, u8),
    Reference(Reference),
    /// In a value, with its attribute's name and its quote.
    ValueReference(Name, u8, Reference),
    EndName,
    EndTag(Name),
}

const CDATA: &[u8] = b"[CDATA[";

/// A lexer in the middle of its bytes.
#[derive(Debug)]
pub(super) struct Lexer {
    place: Place,
    state: State,
    /// Where in the buffer the open name or value begins.
    token: usize,
    /// Where in the open name its colon is; 0 for none.
    colon: usize,
    /// Whether the last byte was a carriage return, which a line feed would belong to.
    after_return: bool,
    /// How many `]` were last, up to two.
    brackets: u8,
    /// The first bytes of a character.
    partial: [u8; 4],
    partial_length: u8,
    /// The start tag that was read last.
    pub(super) head: Head,
}

impl Lexer {
    /// Before a document.
    pub(super) fn new() -> Self {
        Self::at(Place::Start)
    }

    /// Behind the header of a stream.
    pub(super) fn inside() -> Self {
        Self::at(Place::Content)
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            state: State::Text,
            token: 0,
            colon: 0,
            after_return: false,
            brackets: 0,
            partial: [0; 4],
            partial_length: 0,
            head: Head::default(),
        }
    }

    /// The document's element is complete: only white space may follow.
    pub(super) fn end_document(&mut self) {
        self.place = Place::Epilog;
    }

    /// Takes bytes off the front of `input` up to the next token.
    pub(super) fn next(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
        out: &mut ElementBuilder,
    ) -> Result<Token, StreamError> {
        if self.partial_length > 0 {
            self.complete_char(input, limits, out)?;
        }
        loop {
            if matches!(self.state, State::Ending) {
                self.state = State::Text;
                return Ok(Token::EmptyEnd);
            }
            let Some(byte) = input.first().copied() else { return Ok(Token::NeedMore) };
            if std::mem::take(&mut self.after_return) && byte == b'\n' {
                *input = &input[1..];
                continue;
            }
            if let Some(token) = self.advance(byte, input, limits, out)? {
                return Ok(token);
            }
        }
    }

    /// Goes on with a character of which some bytes came before.
    fn complete_char(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
        out: &mut ElementBuilder,
    ) -> Result<(), StreamError> {
        while let Some((byte, rest)) = input.split_first() {
            let length = usize::from(self.partial_length);
            let Some(free) = self.partial.get_mut(length) else { return Err(INVALID) };
            *free = *byte;
            *input = rest;
            self.partial_length += 1;
            let partial = self.partial;
            let mut whole = &partial[..=length];
            match chars::decode(whole) {
                Decoded::Partial => {}
                Decoded::Invalid => return Err(INVALID),
                Decoded::Char(..) => {
                    self.partial_length = 0;
                    // No token ends with such a character.
                    while let Some(byte) = whole.first().copied() {
                        self.advance(byte, &mut whole, limits, out)?;
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes bytes, of which `byte` is the first, or goes from one state to the next.
    fn advance(
        &mut self,
        byte: u8,
        input: &mut &[u8],
        limits: &Limits,
        out: &mut ElementBuilder,
    ) -> Result<Option<Token>, StreamError> {
        match self.state {
            State::Text if self.place == Place::Content => self.text(byte, input, out)?,
            State::Text => self.outside(byte, input)?,
            State::Cdata => self.cdata(byte, input, out)?,
            State::Markup => self.markup(byte, input, out)?,
            State::Bang(seen) => self.bang(seen, byte, input)?,
            State::Dash if byte == b'-' => return Err(StreamError::restricted("comment")),
            State::Dash => return Err(BAD_MARKUP),
            State::Declaration => return self.declaration(byte, input, limits, out),
            State::StartName => {
                if let Some(name) = self.name(input, limits, out)? {
                    self.head.begin(name);
                    self.state = State::Tag(false);
                }
            }
            State::Tag(_) | State::Slash => return self.tag(byte, input, limits, out),
            State::AttrName => {
                if let Some(name) = self.name(input, limits, out)? {
                    self.state = State::Equals(name);
                }
            }
            State::Equals(_) | State::Quote(_) => self.before_value(byte, input, out)?,
            State::Value(name, quote) => self.value(name, quote, input, limits, out)?,
            State::Reference(reference) => self.reference(reference, input, limits, out)?,
            State::ValueReference(_, _, reference) => self.reference(reference, input, limits, out)?,
            State::EndName => {
                if let Some(name) = self.name(input, limits, out)? {
                    self.state = State::EndTag(name);
                }
            }
            State::EndTag(name) => return self.end_tag(name, byte, input),
            State::Ending => {}
        }
        Ok(None)
    }

    /// Before the document's element or behind it.
    fn outside(&mut self, byte: u8, input: &mut &[u8]) -> Result<(), StreamError> {
        if byte == b'<' {
            self.state = State::Markup;
            *input = &input[1..];
            return Ok(());
        }
        let spaces = chars::ascii_run(input, chars::SPACE);
        *input = &input[spaces..];
        if self.place == Place::Start {
            self.place = Place::Prolog;
        }
        if spaces == 0 { Err(StreamError::not_well_formed("text outside of elements")) } else { Ok(()) }
    }

    fn text(&mut self, byte: u8, input: &mut &[u8], out: &mut ElementBuilder) -> Result<(), StreamError> {
        let brackets = std::mem::take(&mut self.brackets);
        if chars::is(byte, chars::TEXT) || byte >= 0x80 {
            return self.content(chars::TEXT, input, out);
        }
        *input = &input[1..];
        match byte {
            b'<' => self.state = State::Markup,
            b'&' => match reference::predefined(input) {
                Some((text, rest)) => {
                    out.content(text);
                    *input = rest;
                }
                None => self.state = State::Reference(Reference::Start),
            },
            b'\r' => self.end_line(out),
            b']' => {
                self.brackets = 2.min(brackets + 1);
                out.content(b"]");
            }
            b'>' if brackets == 2 => return Err(StreamError::not_well_formed("]]> in text")),
            b'>' => out.content(b">"),
            _ => return Err(INVALID),
        }
        Ok(())
    }

    fn cdata(&mut self, byte: u8, input: &mut &[u8], out: &mut ElementBuilder) -> Result<(), StreamError> {
        if byte == b'>' && self.brackets == 2 {
            self.brackets = 0;
            self.state = State::Text;
        } else if byte == b']' && self.brackets < 2 {
            self.brackets += 1;
        } else if byte == b']' {
            out.content(b"]");
        } else {
            // What looked like the section's end was none.
            out.content(&b"]]"[..usize::from(std::mem::take(&mut self.brackets))]);
            match byte {
                b'>' => out.content(b">"),
                b'\r' => self.end_line(out),
                _ if chars::is(byte, chars::CDATA) || byte >= 0x80 => {
                    return self.content(chars::CDATA, input, out);
                }
                _ => return Err(INVALID),
            }
        }
        *input = &input[1..];
        Ok(())
    }

    fn end_line(&mut self, out: &mut ElementBuilder) {
        self.after_return = true;
        out.content(b"\n");
    }

    /// Takes a run of characters of that class into the text.
    fn content(&mut self, class: u8, input: &mut &[u8], out: &mut ElementBuilder) -> Result<(), StreamError> {
        let (length, behind) = chars::run(input, class);
        let (run, rest) = input.split_at(length);
        out.content(run);
        *input = rest;
        self.look_behind(behind, input)
    }

    /// Keeps the first bytes of a character for when the others come.
    fn look_behind(&mut self, behind: Behind, input: &mut &[u8]) -> Result<(), StreamError> {
        match behind {
            Behind::Ascii => return Ok(()),
            Behind::Invalid => return Err(INVALID),
            Behind::Partial => {}
        }
        for (to, from) in self.partial.iter_mut().zip(input.iter()) {
            *to = *from;
            self.partial_length += 1;
        }
        *input = &[];
        Ok(())
    }

    fn markup(&mut self, byte: u8, input: &mut &[u8], out: &mut ElementBuilder) -> Result<(), StreamError> {
        match (byte, self.place) {
            (b'/', Place::Content) => self.begin_name(State::EndName, out),
            (b'!', _) => self.state = State::Bang(0),
            (b'?', Place::Start) => {
                self.token = out.position();
                self.state = State::Declaration;
            }
            (b'?', _) => return Err(StreamError::restricted("processing instruction")),
            (_, Place::Epilog) => return Err(StreamError::not_well_formed("content behind the document")),
            _ => {
                self.begin_name(State::StartName, out);
                return Ok(());
            }
        }
        *input = &input[1..];
        Ok(())
    }

    fn bang(&mut self, seen: usize, byte: u8, input: &mut &[u8]) -> Result<(), StreamError> {
        match byte {
            b'-' if seen == 0 => self.state = State::Dash,
            b'a'..=b'z' | b'A'..=b'Z' if seen == 0 => return Err(StreamError::restricted("DTD")),
            _ if self.place != Place::Content || CDATA.get(seen) != Some(&byte) => return Err(BAD_MARKUP),
            _ if seen + 1 == CDATA.len() => self.state = State::Cdata,
            _ => self.state = State::Bang(seen + 1),
        }
        *input = &input[1..];
        Ok(())
    }

    fn declaration(
        &mut self,
        byte: u8,
        input: &mut &[u8],
        limits: &Limits,
        out: &mut ElementBuilder,
    ) -> Result<Option<Token>, StreamError> {
        out.extend(&[byte]);
        self.check_length(limits, out)?;
        *input = &input[1..];
        // Neither may be within it.
        if !matches!(byte, b'<' | b'>') {
            return Ok(None);
        }
        (self.state, self.place) = (State::Text, Place::Prolog);
        Ok(Some(Token::Declaration(self.token)))
    }

    fn reference(
        &mut self,
        reference: Reference,
        input: &mut &[u8],
        limits: &Limits,
        out: &mut ElementBuilder,
    ) -> Result<(), StreamError> {
        let mut referred = Referred::More(reference);
        while let (Referred::More(reference), Some((byte, rest))) = (referred, input.split_first()) {
            referred = reference.go(*byte)?;
            *input = rest;
        }
        let mut utf8 = [0; 4];
        match (self.state, referred) {
            (State::ValueReference(name, quote, _), Referred::More(reference)) => {
                self.state = State::ValueReference(name, quote, reference);
            }
            (State::ValueReference(name, quote, _), Referred::Char(char)) => {
                out.extend(char.encode_utf8(&mut utf8).as_bytes());
                self.check_length(limits, out)?;
                self.state = State::Value(name, quote);
            }
            (_, Referred::More(reference)) => self.state = State::Reference(reference),
            (_, Referred::Char(char)) => {
                out.content(char.encode_utf8(&mut utf8).as_bytes());
                self.state = State::Text;
            }
        }
        Ok(())
    }
}

const INVALID: StreamError = StreamError::not_well_formed("invalid character");
const BAD_NAME: StreamError = StreamError::not_well_formed("invalid name");
const BAD_MARKUP: StreamError = StreamError::not_well_formed("malformed markup");
