//! Characters: UTF-8, what XML allows of it (XML section 2.2), and what may stand in names.

use super::name_chars;

/// May stand in a name.
pub(super) const NAME: u8 = 1;
/// May begin a name.
pub(super) const NAME_START: u8 = 2;
/// Stands for itself in character data.
pub(super) const TEXT: u8 = 4;
/// Stands for itself in an attribute value.
pub(super) const VALUE: u8 = 8;
/// Stands for itself in a CDATA section.
pub(super) const CDATA: u8 = 16;
/// White space (XML section 2.3).
pub(super) const SPACE: u8 = 32;

/// What an ASCII character may be; nothing for the bytes of longer ones.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        classes[byte as usize] = class_of(byte);
        byte += 1;
    }
    classes
}

const fn class_of(byte: u8) -> u8 {
    let name = match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => NAME | NAME_START,
        b'0'..=b'9' | b'-' | b'.' => NAME,
        b' ' | b'\t' | b'\r' | b'\n' => SPACE,
        _ => 0,
    };
    let content = match byte {
        b'\r' => 0,
        b'\t' | b'\n' => TEXT | CDATA,
        0..b' ' => 0,
        b'<' | b'&' => CDATA,
        b']' | b'>' => VALUE,
        b'\'' | b'"' => TEXT | CDATA,
        _ => TEXT | VALUE | CDATA,
    };
    name | content
}

/// Whether an ASCII character is of that class.
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// How many bytes at the front are ASCII characters of that class.
pub(super) fn ascii_run(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|byte| !is(*byte, class)).unwrap_or(bytes.len())
}

/// What comes behind a run of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// An ASCII character of another class, or nothing.
    Ascii,
    /// The first bytes of a character.
    Partial,
    /// Not a character of XML in UTF-8.
    Invalid,
}

/// How many bytes at the front are ASCII characters of that class or other characters, and what follows.
pub(super) fn run(bytes: &[u8], class: u8) -> (usize, Behind) {
    let mut length = 0;
    loop {
        length += ascii_run(&bytes[length..], class);
        match bytes.get(length) {
            Some(0x80..) => match decode(&bytes[length..]) {
                Decoded::Char(_, more) => length += more,
                Decoded::Partial => return (length, Behind::Partial),
                Decoded::Invalid => return (length, Behind::Invalid),
            },
            _ => return (length, Behind::Ascii),
        }
    }
}

/// The first character of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// A character and its length in bytes.
    Char(u32, usize),
    /// It needs more bytes.
    Partial,
    /// No UTF-8, or no character of XML.
    Invalid,
}

/// Decodes the first character, which is not an ASCII one.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    let (length, least, first) = match bytes.first() {
        Some(byte @ 0xC2..=0xDF) => (2, 0x80, byte & 0x1F),
        Some(byte @ 0xE0..=0xEF) => (3, 0x800, byte & 0x0F),
        Some(byte @ 0xF0..=0xF4) => (4, 0x1_0000, byte & 0x07),
        Some(_) => return Decoded::Invalid,
        None => return Decoded::Partial,
    };
    let mut code = u32::from(first);
    for index in 1..length {
        match bytes.get(index) {
            Some(byte @ 0x80..=0xBF) => code = code << 6 | u32::from(byte & 0x3F),
            Some(_) => return Decoded::Invalid,
            None => return Decoded::Partial,
        }
    }
    if code >= least && is_char(code) { Decoded::Char(code, length) } else { Decoded::Invalid }
}

/// Whether XML allows the character at all (production 2).
pub(super) fn is_char(code: u32) -> bool {
    matches!(code, 0x9 | 0xA | 0xD | 0x20..=0xD7FF | 0xE000..=0xFFFD | 0x1_0000..=0x10_FFFF)
}

/// Whether a character may stand in a name, or at the start of one.
pub(super) fn is_name_char(code: u32, at_start: bool) -> bool {
    match u8::try_from(code) {
        Ok(byte @ 0..0x80) => is(byte, if at_start { NAME_START } else { NAME }),
        _ => name_chars::is_letter(code) || (!at_start && name_chars::is_other(code)),
    }
}
