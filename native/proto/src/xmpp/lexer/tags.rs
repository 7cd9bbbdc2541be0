//! The inside of tags: names and attributes.

use super::{BAD_MARKUP, BAD_NAME, INVALID, Lexer, Place, State, Token};
use crate::xmpp::builder::ElementBuilder;
use crate::xmpp::chars::{self, Behind, Decoded};
use crate::xmpp::error::{Limits, StreamError};
use crate::xmpp::head::Name;
use crate::xmpp::reference::{self, Reference};

impl Lexer {
    pub(super) fn begin_name(&mut self, state: State, out: &ElementBuilder) {
        (self.state, self.token, self.colon) = (state, out.position(), 0);
    }

    /// Takes a qualified name (XML-NAMES section 4); nothing while its end is not there.
    pub(super) fn name(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
        out: &mut ElementBuilder,
    ) -> Result<Option<Name>, StreamError> {
        while let Some(byte) = input.first().copied() {
            let here = out.position();
            let at_start = here == self.token || (self.colon > 0 && here == self.colon + 1);
            let length = match byte {
                b':' if at_start || self.colon > 0 => return Err(BAD_NAME),
                b':' => {
                    self.colon = here;
                    1
                }
                0x80.. => match chars::decode(input) {
                    Decoded::Char(code, length) if chars::is_name_char(code, at_start) => length,
                    Decoded::Partial => {
                        self.look_behind(Behind::Partial, input)?;
                        return Ok(None);
                    }
                    Decoded::Invalid => return Err(INVALID),
                    Decoded::Char(..) => return Err(BAD_NAME),
                },
                _ if at_start && !chars::is(byte, chars::NAME_START) => return Err(BAD_NAME),
                _ => match chars::ascii_run(input, chars::NAME) {
                    0 => return Ok(Some(self.end_name(out))),
                    length => length,
                },
            };
            let (run, rest) = input.split_at(length);
            out.extend(run);
            self.check_length(limits, out)?;
            *input = rest;
        }
        Ok(None)
    }

    fn end_name(&self, out: &mut ElementBuilder) -> Name {
        let span = out.span_from(self.token);
        let colon = self.colon.checked_sub(self.token).and_then(|colon| u32::try_from(colon).ok());
        Name { span, colon: colon.unwrap_or(0) }
    }

    pub(super) fn check_length(&self, limits: &Limits, out: &ElementBuilder) -> Result<(), StreamError> {
        if out.position() - self.token > limits.token_bytes {
            return Err(StreamError::policy("name or attribute value too long"));
        }
        Ok(())
    }

    pub(super) fn tag(
        &mut self,
        byte: u8,
        input: &mut &[u8],
        limits: &Limits,
        out: &ElementBuilder,
    ) -> Result<Option<Token>, StreamError> {
        let is_slash = matches!(self.state, State::Slash);
        let is_spaced = matches!(self.state, State::Tag(true));
        match byte {
            b'>' => {
                self.state = if is_slash { State::Ending } else { State::Text };
                self.place = Place::Content;
                *input = &input[1..];
                return Ok(Some(Token::Start));
            }
            _ if is_slash => return Err(BAD_MARKUP),
            b'/' => {
                self.state = State::Slash;
                *input = &input[1..];
            }
            b' ' | b'\t' | b'\r' | b'\n' => {
                self.state = State::Tag(true);
                *input = &input[chars::ascii_run(input, chars::SPACE)..];
            }
            _ if !is_spaced => return Err(BAD_NAME),
            _ if self.head.attrs.len() >= limits.attributes => {
                return Err(StreamError::policy("too many attributes"));
            }
            _ => self.begin_name(State::AttrName, out),
        }
        Ok(None)
    }

    /// Between an attribute's name and its value.
    pub(super) fn before_value(
        &mut self,
        byte: u8,
        input: &mut &[u8],
        out: &ElementBuilder,
    ) -> Result<(), StreamError> {
        match (self.state, byte) {
            (_, b' ' | b'\t' | b'\r' | b'\n') => {}
            (State::Equals(name), b'=') => self.state = State::Quote(name),
            (State::Quote(name), b'\'' | b'"') => {
                self.token = out.position();
                self.state = State::Value(name, byte);
            }
            _ => return Err(BAD_MARKUP),
        }
        *input = &input[1..];
        Ok(())
    }

    pub(super) fn value(
        &mut self,
        name: Name,
        quote: u8,
        input: &mut &[u8],
        limits: &Limits,
        out: &mut ElementBuilder,
    ) -> Result<(), StreamError> {
        let (length, behind) = chars::run(input, chars::VALUE);
        let (run, rest) = input.split_at(length);
        out.extend(run);
        self.check_length(limits, out)?;
        *input = rest;
        self.look_behind(behind, input)?;
        let Some((byte, rest)) = input.split_first() else { return Ok(()) };
        *input = rest;
        match *byte {
            byte if byte == quote => {
                let value = out.span_from(self.token);
                self.head.push(name, value, out);
                self.state = State::Tag(false);
                return Ok(());
            }
            b'&' => match reference::predefined(input) {
                Some((text, rest)) => {
                    *input = rest;
                    out.extend(text)
                }
                None => {
                    self.state = State::ValueReference(name, quote, Reference::Start);
                    return Ok(());
                }
            },
            other @ (b'\'' | b'"') => out.extend(&[other]),
            // XML section 3.3.3.
            b'\t' | b'\n' => out.extend(b" "),
            b'\r' => {
                self.after_return = true;
                out.extend(b" ")
            }
            _ => return Err(INVALID),
        };
        self.check_length(limits, out)
    }

    pub(super) fn end_tag(
        &mut self,
        name: Name,
        byte: u8,
        input: &mut &[u8],
    ) -> Result<Option<Token>, StreamError> {
        *input = &input[1..];
        match byte {
            b'>' => {
                self.state = State::Text;
                Ok(Some(Token::End(name)))
            }
            b' ' | b'\t' | b'\r' | b'\n' => Ok(None),
            _ => Err(BAD_MARKUP),
        }
    }
}
