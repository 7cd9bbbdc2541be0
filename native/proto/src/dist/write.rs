//! Terms in the external term format, written.

use super::term::Term;

/// Appends terms to a buffer. Whoever writes a tuple, a list or a map writes its parts next.
pub struct Writer<'a>(&'a mut Vec<u8>);

impl<'a> Writer<'a> {
    /// Appends to `out`.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }

    /// An atom. What is beyond 255 bytes of its text is left out.
    pub fn atom(&mut self, text: &str) -> &mut Self {
        let text = &text[..text.floor_char_boundary(255)];
        self.tag(119, &[u8::try_from(text.len()).unwrap_or(u8::MAX)]).plain(text.as_bytes())
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.atom(if value { "true" } else { "false" })
    }

    /// An integer, as short as it goes.
    pub fn unsigned(&mut self, value: u64) -> &mut Self {
        if let Ok(byte) = u8::try_from(value) {
            self.tag(97, &[byte])
        } else if let Ok(small) = i32::try_from(value) {
            self.tag(98, &small.to_be_bytes())
        } else {
            let bytes = value.to_le_bytes();
            let digits = bytes.len() - value.leading_zeros() as usize / 8;
            self.tag(110, &[u8::try_from(digits).unwrap_or(8), 0]).plain(&bytes[..digits])
        }
    }

    /// A binary.
    pub fn binary(&mut self, text: &str) -> &mut Self {
        self.counted(109, text.len()).plain(text.as_bytes())
    }

    /// A tuple of so many terms, which follow.
    pub fn tuple(&mut self, arity: u8) -> &mut Self {
        self.tag(104, &[arity])
    }

    /// A map of so many pairs, which follow: key, value, key, value.
    pub fn map(&mut self, pairs: usize) -> &mut Self {
        self.counted(116, pairs)
    }

    /// A list of what is written for each item.
    pub fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) -> &mut Self {
        if !items.is_empty() {
            self.counted(108, items.len());
        }
        for item in items {
            write(self, item);
        }
        self.tag(106, &[])
    }

    /// A term that was received.
    pub fn term(&mut self, term: Term<'_>) -> &mut Self {
        self.plain(term.bytes())
    }

    /// A term that was written elsewhere.
    pub(super) fn plain(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A process of a node.
    pub(super) fn pid(&mut self, node: &str, number: u32, creation: u32) -> &mut Self {
        self.tag(88, &[])
            .atom(node)
            .plain(&number.to_be_bytes())
            .plain(&[0; 4])
            .plain(&creation.to_be_bytes())
    }

    fn tag(&mut self, tag: u8, behind: &[u8]) -> &mut Self {
        self.0.push(tag);
        self.plain(behind)
    }

    fn counted(&mut self, tag: u8, count: usize) -> &mut Self {
        self.tag(tag, &u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes())
    }
}
