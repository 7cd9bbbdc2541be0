//! Terms in the external term format, read where they lie.

const NEW_FLOAT: u8 = 70;
const BIT_BINARY: u8 = 77;
const NEW_PID: u8 = 88;
const NEW_PORT: u8 = 89;
const NEWER_REFERENCE: u8 = 90;
const SMALL_INTEGER: u8 = 97;
const INTEGER: u8 = 98;
const FLOAT: u8 = 99;
const ATOM: u8 = 100;
const REFERENCE: u8 = 101;
const PORT: u8 = 102;
const PID: u8 = 103;
const SMALL_TUPLE: u8 = 104;
const LARGE_TUPLE: u8 = 105;
const NIL: u8 = 106;
const STRING: u8 = 107;
const LIST: u8 = 108;
const BINARY: u8 = 109;
const SMALL_BIG: u8 = 110;
const LARGE_BIG: u8 = 111;
const NEW_FUN: u8 = 112;
const EXPORT: u8 = 113;
const NEW_REFERENCE: u8 = 114;
const SMALL_ATOM: u8 = 115;
const MAP: u8 = 116;
const ATOM_UTF8: u8 = 118;
const SMALL_ATOM_UTF8: u8 = 119;
const V4_PORT: u8 = 120;

/// One term, whole: its extent was looked at, nothing else. Costs nothing to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term<'a>(&'a [u8]);

impl<'a> Term<'a> {
    /// The term at the front, taken off. None when it is not whole or of a kind that is not sent without having been asked for
    /// (compressed, from the atom cache).
    pub fn take(input: &mut &'a [u8]) -> Option<Self> {
        let (whole, rest) = input.split_at_checked(extent(input)?)?;
        *input = rest;
        Some(Self(whole))
    }

    /// As it lies there.
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// An atom's text. None for one in Latin-1 that is not ASCII.
    pub fn atom(self) -> Option<&'a str> {
        let text = match self.0 {
            [SMALL_ATOM | SMALL_ATOM_UTF8, _, text @ ..] | [ATOM | ATOM_UTF8, _, _, text @ ..] => text,
            _ => return None,
        };
        let is_latin_1 = matches!(self.0, [SMALL_ATOM | ATOM, ..]);
        if is_latin_1 && !text.is_ascii() { None } else { std::str::from_utf8(text).ok() }
    }

    /// An integer of 0 to 2^64 - 1.
    pub fn unsigned(self) -> Option<u64> {
        match self.0 {
            [SMALL_INTEGER, byte] => Some(u64::from(*byte)),
            [INTEGER, bytes @ ..] => u64::try_from(i32::from_be_bytes(bytes.try_into().ok()?)).ok(),
            [SMALL_BIG, _, 0, digits @ ..] if digits.len() <= 8 => {
                Some(digits.iter().rev().fold(0, |value, digit| value << 8 | u64::from(*digit)))
            }
            _ => None,
        }
    }

    /// The elements of a tuple of `N`.
    pub fn tuple<const N: usize>(self) -> Option<[Self; N]> {
        let mut elements = match self.0 {
            [SMALL_TUPLE, arity, rest @ ..] if usize::from(*arity) == N => rest,
            _ => return None,
        };
        let mut terms = [self; N];
        for term in &mut terms {
            *term = Self::take(&mut elements)?;
        }
        Some(terms)
    }

    /// The first element of a tuple that has one.
    pub fn first(self) -> Option<Self> {
        match self.0 {
            [SMALL_TUPLE, (1..), rest @ ..] => Self::take(&mut { rest }),
            _ => None,
        }
    }

    /// The head of a list, and its tail where that is no list: `[Head | Tail]`.
    pub fn cons(self) -> Option<(Self, Option<Self>)> {
        let [LIST, a, b, c, d, rest @ ..] = self.0 else { return None };
        let mut rest = rest;
        let head = Self::take(&mut rest)?;
        let is_pair = [*a, *b, *c, *d] == [0, 0, 0, 1];
        let tail = if is_pair { Self::take(&mut rest).filter(|tail| tail.0 != [NIL]) } else { None };
        Some((head, tail))
    }

    /// Whether it is a reference.
    pub fn is_reference(self) -> bool {
        matches!(self.0, [NEWER_REFERENCE | NEW_REFERENCE | REFERENCE, ..])
    }

    /// Whether it is a process identifier.
    pub fn is_pid(self) -> bool {
        matches!(self.0, [NEW_PID | PID, ..])
    }
}

/// Bytes of the term at the front. Neither recursion nor memory, however deep it is.
fn extent(input: &[u8]) -> Option<usize> {
    let mut rest = input;
    let mut wanted = 1;
    while wanted > 0 {
        let within = step(&mut rest)?;
        wanted = wanted - 1 + within;
        // Each takes a byte at least: more than there are bytes can't be.
        if wanted > u64::try_from(rest.len()).ok()? {
            return None;
        }
    }
    Some(input.len() - rest.len())
}

/// Goes over a tag with what is its own; says how many terms follow that belong to it.
fn step(rest: &mut &[u8]) -> Option<u64> {
    let tag = byte(rest)?;
    let own = match tag {
        NIL => 0,
        SMALL_INTEGER => 1,
        INTEGER => 4,
        NEW_FLOAT => 8,
        FLOAT => 31,
        SMALL_BIG => u64::from(byte(rest)?) + 1,
        LARGE_BIG | BIT_BINARY => long(rest)? + 1,
        SMALL_ATOM | SMALL_ATOM_UTF8 => byte(rest)?.into(),
        ATOM | ATOM_UTF8 | STRING => short(rest)?,
        BINARY => long(rest)?,
        NEW_FUN => long(rest)?.checked_sub(4)?,
        SMALL_TUPLE => return byte(rest).map(u64::from),
        LARGE_TUPLE => return long(rest),
        LIST => return Some(long(rest)? + 1),
        MAP => return Some(long(rest)? * 2),
        EXPORT => return Some(3),
        _ => identifier(tag, rest)?,
    };
    skip(rest, own)?;
    Some(0)
}

/// Goes over the node of a pid, a port or a reference; says how many bytes are behind it.
fn identifier(tag: u8, rest: &mut &[u8]) -> Option<u64> {
    let behind = match tag {
        PID => 9,
        NEW_PID | V4_PORT => 12,
        NEW_PORT => 8,
        PORT | REFERENCE => 5,
        NEW_REFERENCE => short(rest)? * 4 + 1,
        NEWER_REFERENCE => short(rest)? * 4 + 4,
        _ => return None,
    };
    let name = match byte(rest)? {
        SMALL_ATOM | SMALL_ATOM_UTF8 => byte(rest)?.into(),
        ATOM | ATOM_UTF8 => short(rest)?,
        _ => return None,
    };
    skip(rest, name)?;
    Some(behind)
}

fn skip(rest: &mut &[u8], bytes: u64) -> Option<()> {
    *rest = rest.get(usize::try_from(bytes).ok()?..)?;
    Some(())
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (byte, behind) = rest.split_first()?;
    *rest = behind;
    Some(*byte)
}

fn short(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u16::from_be_bytes(*bytes).into())
}

fn long(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u32::from_be_bytes(*bytes).into())
}
