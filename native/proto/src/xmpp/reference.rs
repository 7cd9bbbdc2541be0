//! References to characters and to the five predefined entities (XML section 4.1 and 4.6).

use super::chars;
use super::error::StreamError;

/// A reference of which the `&` and perhaps more was read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reference {
    /// Behind `&`.
    Start,
    /// Behind `&#`.
    Number,
    /// Behind `&#x`.
    Hex,
    /// In a number: its value so far, and the base it is in.
    Digits(u32, u32),
    /// In a name: its first bytes, and how many there were.
    Name([u8; LONGEST], usize),
}

/// What a reference to one of the five entities stands for, when all behind its `&` is there, and what follows it.
pub(super) fn predefined(input: &[u8]) -> Option<(&'static [u8], &[u8])> {
    Some(match input {
        [b'l', b't', b';', rest @ ..] => (b"<", rest),
        [b'g', b't', b';', rest @ ..] => (b">", rest),
        [b'a', b'm', b'p', b';', rest @ ..] => (b"&", rest),
        [b'q', b'u', b'o', b't', b';', rest @ ..] => (b"\"", rest),
        [b'a', b'p', b'o', b's', b';', rest @ ..] => (b"'", rest),
        _ => return None,
    })
}

/// Bytes of the longest name that means something.
const LONGEST: usize = 4;

/// What a reference is after one byte more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Referred {
    More(Reference),
    Char(char),
}

impl Reference {
    /// Goes past one byte. A number may have any count of leading zeros.
    pub(super) fn go(self, byte: u8) -> Result<Referred, StreamError> {
        Ok(Referred::More(match (self, byte) {
            (Self::Start, b'#') => Self::Number,
            (Self::Start, _) if chars::is(byte, chars::NAME_START) || byte >= 0x80 => first_of_name(byte),
            (Self::Number, b'x') => Self::Hex,
            (Self::Number, _) => Self::Digits(digit(byte, 10)?, 10),
            (Self::Hex, _) => Self::Digits(digit(byte, 16)?, 16),
            (Self::Digits(code, _), b';') => return number(code),
            (Self::Digits(code, base), _) => {
                Self::Digits(code.saturating_mul(base).saturating_add(digit(byte, base)?), base)
            }
            (Self::Name(name, length), b';') => return entity(name.get(..length)),
            // Whatever is not ASCII is no name of an entity that exists.
            (Self::Name(name, length), _) if chars::is(byte, chars::NAME) || byte >= 0x80 => {
                more_of_name(name, length, byte)
            }
            _ => return Err(MALFORMED),
        }))
    }
}

const MALFORMED: StreamError = StreamError::not_well_formed("malformed reference");

fn first_of_name(byte: u8) -> Reference {
    more_of_name([0; LONGEST], 0, byte)
}

fn more_of_name(mut name: [u8; LONGEST], length: usize, byte: u8) -> Reference {
    if let Some(free) = name.get_mut(length) {
        *free = byte;
    }
    Reference::Name(name, length + 1)
}

fn digit(byte: u8, base: u32) -> Result<u32, StreamError> {
    char::from(byte).to_digit(base).ok_or(MALFORMED)
}

fn number(code: u32) -> Result<Referred, StreamError> {
    let char = char::from_u32(code).filter(|_| chars::is_char(code));
    char.map(Referred::Char).ok_or(StreamError::not_well_formed("reference to an invalid character"))
}

fn entity(name: Option<&[u8]>) -> Result<Referred, StreamError> {
    Ok(Referred::Char(match name {
        Some(b"amp") => '&',
        Some(b"lt") => '<',
        Some(b"gt") => '>',
        Some(b"quot") => '"',
        Some(b"apos") => '\'',
        _ => return Err(StreamError::restricted("undefined entity")),
    }))
}
