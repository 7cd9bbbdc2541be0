//! A start tag as it was sent, its names and values in the buffer of the element that is being built.

use super::builder::ElementBuilder;
use super::node::Span;

/// A qualified name (XML-NAMES section 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) span: Span,
    /// Where in it the colon is; 0 for none.
    pub(super) colon: u32,
}

impl Name {
    pub(super) fn prefix(self) -> Option<Span> {
        (self.colon > 0).then_some(Span { length: self.colon, ..self.span })
    }

    pub(super) fn local(self) -> Span {
        if self.colon > 0 { self.span.skip(self.colon + 1) } else { self.span }
    }
}

/// What an attribute means to namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Plain,
    /// It has a prefix.
    Prefixed,
    /// `xmlns`.
    Default,
    /// `xmlns:` and the prefix that it declares.
    Declaration,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Attr {
    pub(super) name: Name,
    pub(super) value: Span,
    /// Of the name.
    pub(super) key: u64,
    pub(super) meaning: Meaning,
}

impl Attr {
    pub(super) fn is_declaration(&self) -> bool {
        matches!(self.meaning, Meaning::Default | Meaning::Declaration)
    }

    /// The prefix that it declares, empty for the default namespace.
    pub(super) fn declared(&self) -> Span {
        if self.meaning == Meaning::Declaration { self.name.local() } else { Span::default() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) name: Name,
    pub(super) attrs: Vec<Attr>,
    /// How many attributes have a prefix that is not `xmlns`.
    pub(super) prefixed: usize,
    /// Whether one declares a namespace.
    pub(super) declares: bool,
}

impl Head {
    pub(super) fn begin(&mut self, name: Name) {
        self.attrs.clear();
        (self.name, self.prefixed, self.declares) = (name, 0, false);
    }

    pub(super) fn push(&mut self, name: Name, value: Span, text: &ElementBuilder) {
        let meaning = match name.prefix() {
            None if text.slice(name.span) == b"xmlns" => Meaning::Default,
            None => Meaning::Plain,
            Some(prefix) if text.slice(prefix) == b"xmlns" => Meaning::Declaration,
            Some(_) => Meaning::Prefixed,
        };
        self.prefixed += usize::from(meaning == Meaning::Prefixed);
        let attr = Attr { name, value, key: key(text.slice(name.span)), meaning };
        self.declares |= attr.is_declaration();
        self.attrs.push(attr);
    }

    /// Namespace declarations in the order sent.
    pub(super) fn declarations(&self) -> impl Iterator<Item = &Attr> {
        self.attrs.iter().filter(|attr| attr.is_declaration())
    }

    /// The other attributes in the order sent.
    pub(super) fn plain_attrs(&self) -> impl Iterator<Item = &Attr> {
        self.attrs.iter().filter(|attr| !attr.is_declaration())
    }
}

/// A number by which texts are told apart: different ones hardly ever have the same, and never so many that comparing
/// those would matter.
pub(super) fn key(text: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut key = text.len() as u64;
    for chunk in text.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        key = (key.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
    }
    key
}
