//! Elements of XMPP as terms, equal to what `fxml_stream` gives and `fxml` takes: `{xmlel, Name, Attrs, Children}`
//! and `{xmlcdata, Text}`, all text in binaries.
//!
//! Knows terms and the flat tree of `megaphone_core::xmpp`, and nothing of connections.

use crate::atoms;
use crate::terms::binary;
use megaphone_core::Effort;
use megaphone_core::xmpp::{BuildError, Element, ElementBuilder, Event, Item};
use rustler::types::atom::Atom;
use rustler::{Binary, Encoder, Env, Term};
use smallvec::SmallVec;

/// Open elements that need no allocation; stanzas are hardly deeper.
const USUAL_DEPTH: usize = 8;

/// An `#xmlel{}`.
///
/// Every name and text becomes a binary of its own, on the heap of the message up to 64 bytes. Parts of one binary
/// would save copying and cost memory: a c2s that keeps one JID of a stanza would keep all its bytes.
pub(crate) fn element<'a>(env: Env<'a>, element: &Element) -> Term<'a> {
    let nil = Term::list_new_empty(env);
    // From the back, each list grows at its front: attributes and children of the elements that are open.
    let mut open: SmallVec<[(Term<'a>, Term<'a>); USUAL_DEPTH]> = SmallVec::new();
    let (mut attrs, mut children) = (nil, nil);
    for item in element.items().rev() {
        match item {
            Item::End => {
                open.push((attrs, children));
                (attrs, children) = (nil, nil);
            }
            Item::Text(text) => {
                children = children.list_prepend((atoms::xmlcdata(), binary(env, text)));
            }
            Item::Attr(name, value) => attrs = attrs.list_prepend((binary(env, name), binary(env, value))),
            Item::Start(name) => {
                let term = (atoms::xmlel(), binary(env, name), attrs, children);
                // An element has as many ends as starts.
                (attrs, children) = open.pop().unwrap_or((nil, nil));
                children = children.list_prepend(term);
            }
        }
    }
    children.list_get_cell().map_or(nil, |(element, _)| element)
}

/// What `fxml_stream` sends: `{xmlstreamstart, Name, Attrs}`, `{xmlstreamelement, #xmlel{}}` or `{xmlstreamend, Name}`.
pub(crate) fn stream_event<'a>(env: Env<'a>, event: &Event) -> Term<'a> {
    match event {
        Event::StreamStart(header) => {
            let attrs = header.attrs().rev().fold(Term::list_new_empty(env), |attrs, (name, value)| {
                attrs.list_prepend((binary(env, name), binary(env, value)))
            });
            (atoms::xmlstreamstart(), binary(env, header.name()), attrs).encode(env)
        }
        Event::Element(stanza) => (atoms::xmlstreamelement(), element(env, stanza)).encode(env),
        Event::StreamEnd(name) => (atoms::xmlstreamend(), binary(env, name.as_bytes())).encode(env),
    }
}

/// Something to send.
pub(crate) enum Packet<'a> {
    /// `{xmlstreamstart, Name, Attrs}`: an element without content.
    Header(Element),
    /// `{xmlstreamelement, #xmlel{}}`.
    Element(Element),
    /// `{xmlstreamend, Name}`.
    End(Binary<'a>),
    /// `{xmlstreamraw, Data}`.
    Raw(Binary<'a>),
}

/// Why a term is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// It does not have the shape of one.
    NotAPacket,
    /// It takes longer to read than the [`Effort`] allows.
    TooMuch,
    /// It needs more than 4 GiB.
    TooLarge,
}

impl From<rustler::Error> for ReadError {
    fn from(_: rustler::Error) -> Self {
        Self::NotAPacket
    }
}

/// Reads a packet to send; with a normal effort what takes well under 100 microseconds. Takes what `fxml` takes: text and names may be iolists.
pub(crate) fn packet<'a>(term: Term<'a>, effort: Effort) -> Result<Packet<'a>, ReadError> {
    let mut reader = Reader::new(effort);
    if let Ok((tag, name, attrs)) = term.decode::<(Atom, Term<'a>, Term<'a>)>() {
        if tag != atoms::xmlstreamstart() {
            return Err(ReadError::NotAPacket);
        }
        reader.start(name, attrs)?;
        reader.builder.end();
        return reader.finish().map(Packet::Header);
    }
    let (tag, content): (Atom, Term<'a>) = term.decode()?;
    if tag == atoms::xmlstreamelement() {
        reader.read(content)?;
        reader.finish().map(Packet::Element)
    } else if tag == atoms::xmlstreamend() {
        reader.bytes(content).map(Packet::End)
    } else if tag == atoms::xmlstreamraw() {
        reader.bytes(content).map(Packet::Raw)
    } else {
        Err(ReadError::NotAPacket)
    }
}

struct Reader {
    builder: ElementBuilder,
    /// None where there is no bound.
    left: Option<usize>,
}

impl Reader {
    /// Bytes of text in one packet. Measured, to read and encode them: 15 microseconds, and 100 when each has to be
    /// escaped. Then there is still the socket to write to.
    const NORMAL: usize = 16 * 1024;
    /// Bytes of text that take as long as a name or text takes beside its bytes.
    const NODE: usize = 32;

    fn new(effort: Effort) -> Self {
        let left = match effort {
            Effort::Normal => Some(Self::NORMAL),
            Effort::Large => None,
        };
        // Room for most stanzas.
        Self { builder: ElementBuilder::with_capacity(32, 512), left }
    }

    fn finish(self) -> Result<Element, ReadError> {
        self.builder.finish().map_err(|error| match error {
            BuildError::TooLarge => ReadError::TooLarge,
            BuildError::Unbalanced => ReadError::NotAPacket,
        })
    }

    /// Reads an `#xmlel{}`. Terms of any depth: what is open is on a list, not on the thread's stack.
    fn read(&mut self, element: Term<'_>) -> Result<(), ReadError> {
        let mut open: SmallVec<[Term<'_>; USUAL_DEPTH]> = SmallVec::new();
        open.push(self.open(element)?);
        while let Some(rest) = open.last_mut() {
            // As for fxml, whatever stands at the end of a list ends it.
            let Ok((child, behind)) = rest.list_get_cell() else {
                self.builder.end();
                open.pop();
                continue;
            };
            *rest = behind;
            match child.decode::<(Atom, Term<'_>)>() {
                Ok((tag, text)) if tag == atoms::xmlcdata() => {
                    let text = self.bytes(text)?;
                    self.builder.text(&text);
                }
                Ok(_) => return Err(ReadError::NotAPacket),
                Err(_) => open.push(self.open(child)?),
            }
        }
        Ok(())
    }

    /// Begins an element and gives the list of its children.
    fn open<'a>(&mut self, element: Term<'a>) -> Result<Term<'a>, ReadError> {
        let (tag, name, attrs, children): (Atom, Term<'a>, Term<'a>, Term<'a>) = element.decode()?;
        if tag != atoms::xmlel() || !children.is_list() {
            return Err(ReadError::NotAPacket);
        }
        self.start(name, attrs)?;
        Ok(children)
    }

    fn start(&mut self, name: Term<'_>, mut attrs: Term<'_>) -> Result<(), ReadError> {
        let name = self.bytes(name)?;
        self.builder.start(&name);
        while let Ok((attr, behind)) = attrs.list_get_cell() {
            let (name, value): (Term<'_>, Term<'_>) = attr.decode()?;
            let (name, value) = (self.bytes(name)?, self.bytes(value)?);
            self.builder.attr(&name, &value);
            attrs = behind;
        }
        Ok(())
    }

    /// A name or text. How long an iolist takes shows only when it has been read, so it is too much for a caller
    /// whose effort is bounded; ejabberd hardly makes any.
    fn bytes<'a>(&mut self, term: Term<'a>) -> Result<Binary<'a>, ReadError> {
        let bytes = match (Binary::from_term(term), self.left) {
            (Ok(bytes), _) => bytes,
            (Err(_), Some(_)) if term.is_list() => return Err(ReadError::TooMuch),
            (Err(_), _) => Binary::from_iolist(term)?,
        };
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(bytes.len() + Self::NODE).ok_or(ReadError::TooMuch)?;
        }
        Ok(bytes)
    }
}
