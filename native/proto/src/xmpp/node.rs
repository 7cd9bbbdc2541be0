//! The nodes of a tree, in 8 bytes each.

use std::ops::Range;

/// Bytes that a node takes.
pub(super) const NODE_BYTES: usize = 8;
/// Bits of a node's second half that are its length; the kind lies above them.
const LENGTH_BITS: u32 = 29;
/// The longest name, value or text: 512 MiB.
const MAX_LENGTH: u32 = (1 << LENGTH_BITS) - 1;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Start,
    AttrName,
    /// Follows its name.
    AttrValue,
    Text,
    End,
}

/// A byte range of a tree's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) length: u32,
}

impl Span {
    /// The range, where it is within bounds.
    pub(super) fn new(start: usize, length: usize) -> Option<Self> {
        let (from, length) = (u32::try_from(start).ok()?, u32::try_from(length).ok()?);
        (length <= MAX_LENGTH && from.checked_add(length).is_some()).then_some(Self { start: from, length })
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }

    /// Without so many bytes at its front.
    pub(super) fn skip(self, count: u32) -> Self {
        Self { start: self.start + count, length: self.length.saturating_sub(count) }
    }
}

/// A kind and, where it has one, its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    start: u32,
    length_and_kind: u32,
}

impl Node {
    pub(super) const END: Self = Self { start: 0, length_and_kind: (Kind::End as u32) << LENGTH_BITS };

    pub(super) fn new(kind: Kind, span: Span) -> Self {
        Self { start: span.start, length_and_kind: span.length | (kind as u32) << LENGTH_BITS }
    }

    pub(super) fn kind(self) -> Kind {
        match self.length_and_kind >> LENGTH_BITS {
            0 => Kind::Start,
            1 => Kind::AttrName,
            2 => Kind::AttrValue,
            3 => Kind::Text,
            _ => Kind::End,
        }
    }

    pub(super) fn span(self) -> Span {
        Span { start: self.start, length: self.length_and_kind & MAX_LENGTH }
    }

    pub(super) fn range(self) -> Range<usize> {
        self.span().range()
    }

    pub(super) fn to_bytes(self) -> [u8; NODE_BYTES] {
        (u64::from(self.length_and_kind) << 32 | u64::from(self.start)).to_le_bytes()
    }

    #[expect(clippy::cast_possible_truncation, reason = "two halves of what to_bytes joined")]
    pub(super) fn from_bytes(bytes: [u8; NODE_BYTES]) -> Self {
        let both = u64::from_le_bytes(bytes);
        Self { start: both as u32, length_and_kind: (both >> 32) as u32 }
    }
}
