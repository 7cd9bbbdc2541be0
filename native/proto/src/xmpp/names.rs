//! Namespaces in scope, and how elements and declarations are named in the tree.
//!
//! [`Naming::Stream`] shows names as `fxml_stream:new/2` does for a stream's stanzas. Rules, in its terms:
//! - A stream header keeps its names and declarations as sent.
//! - An element whose prefix the header bound to the same namespace keeps the prefix, unless an ancestor in the
//!   stanza declared any of the header's prefixes anew. A declaration of that very prefix vanishes. For its
//!   children the namespace around them is the one that was around itself.
//! - Any other element loses its prefix. Its namespace shows as `xmlns`, in the place of the `xmlns` it may have
//!   sent, else first of all; it does not show where it equals the namespace around it.
//! - Declarations come before attributes, each in the order sent; `xmlns=''` itself never shows.
//!
//! [`Naming::Document`] shows names as `fxml_stream:parse_element/1` does: as sent, declarations first, without
//! `xmlns=''`.

//!
//! Names of namespaces are compared once, where they are declared, and are numbers from there on.

use std::sync::Arc;

use super::builder::ElementBuilder;
use super::error::{Limits, StreamError};
use super::head::{Attr, Head, Meaning, key};
use super::node::Span;
use super::scope::{Binding, Known, Namespace, Scope};

const XMLNS_XML: &[u8] = b"http://www.w3.org/XML/1998/namespace";
const XMLNS_XMLNS: &[u8] = b"http://www.w3.org/2000/xmlns/";

/// How many times larger than the largest stanza the terms made of one may be. Elements without their prefix show their
/// namespace, so that a long one would be repeated as often as a short prefix fits into a stanza.
const EXPANSION: usize = 4;

/// Which of `fxml_stream`'s conventions names follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    Stream,
    Document,
}

/// An open element: what its children need to know of it.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// As it was sent.
    name: Span,
    /// The namespace of names without a prefix.
    default: Namespace,
    /// The namespace that a child need not show.
    around: Namespace,
    /// An ancestor, or this element, declared a prefix of the stream header anew.
    redefined: bool,
    /// Declarations in scope, the stream header's included.
    declared: usize,
    /// Bytes of the declarations in scope, the stream header's aside.
    bytes: usize,
    /// How many bindings and namespaces there were before its declarations.
    bindings: usize,
    known: usize,
}

/// The namespaces in scope of a stanza or document that is being parsed.
#[derive(Debug)]
pub(super) struct Names {
    naming: Naming,
    /// The stream header's, for stanzas.
    header: Option<Arc<Scope>>,
    /// The names of the header's namespaces as far as the tree shows them.
    shown: Vec<Option<Span>>,
    bindings: Vec<Binding>,
    /// Namespaces that the header does not have; their names are in the tree's text.
    known: Vec<Known>,
    levels: Vec<Level>,
    /// Bytes of names of namespaces that elements show without having sent them.
    repeated: usize,
    /// Attributes to compare: a number for the name, and their index.
    keys: Vec<(u64, usize)>,
}

/// How an element of a stream shows its name and namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    WithPrefix,
    WithoutXmlns,
    WithXmlns,
}

impl Names {
    /// For a document of its own, or a stream header.
    pub(super) fn of_document(naming: Naming) -> Self {
        Self::new(naming, None)
    }

    /// For the stanzas of a stream.
    pub(super) fn of_stanzas(header: Arc<Scope>) -> Self {
        Self::new(Naming::Stream, Some(header))
    }

    fn new(naming: Naming, header: Option<Arc<Scope>>) -> Self {
        Self {
            naming,
            header,
            shown: Vec::new(),
            bindings: Vec::new(),
            known: Vec::new(),
            levels: Vec::new(),
            repeated: 0,
            keys: Vec::new(),
        }
    }

    pub(super) fn naming(&self) -> Naming {
        self.naming
    }

    pub(super) fn header(&self) -> Option<&Arc<Scope>> {
        self.header.as_ref()
    }

    /// Open elements, the stream's not included.
    pub(super) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The name of the innermost element, as it was sent.
    pub(super) fn innermost(&self) -> Option<Span> {
        self.levels.last().map(|level| level.name)
    }

    /// Enters an element: checks its names, and builds its start and attributes.
    pub(super) fn enter(
        &mut self,
        head: &Head,
        limits: &Limits,
        out: &mut ElementBuilder,
    ) -> Result<(), StreamError> {
        let is_header = self.naming == Naming::Stream && self.header.is_none();
        let mut level = self.child(head.name.span);
        if head.declares {
            self.declare(head, &mut level, out)?;
        }
        if level.declared > limits.namespaces {
            return Err(StreamError::policy("too many namespace declarations"));
        }
        let kept = if is_header { head.name.span.length as usize } else { 0 };
        if level.bytes + kept > limits.namespace_bytes {
            return Err(StreamError::policy("namespace declarations too long"));
        }
        let namespace = match head.name.prefix() {
            None => level.default,
            Some(prefix) => self.resolve(prefix, out)?,
        };
        self.check_attributes(head, out)?;
        if self.naming == Naming::Document || is_header {
            show_as_sent(head, out);
        } else {
            self.show_in_stream(head, namespace, &mut level, out);
            if self.repeated > limits.stanza_bytes.saturating_mul(EXPANSION) {
                return Err(StreamError::policy("namespaces repeated too often"));
            }
        }
        self.levels.push(level);
        head.plain_attrs().for_each(|attr| out.attr_at(attr.name.span, attr.value));
        Ok(())
    }

    /// Leaves the innermost element.
    pub(super) fn leave(&mut self) {
        if let Some(level) = self.levels.pop() {
            self.bindings.truncate(level.bindings);
            self.known.truncate(level.known);
        }
        if self.levels.is_empty() {
            self.shown.clear();
            self.repeated = 0;
        }
    }

    /// The level of an element within the innermost one, before its declarations.
    fn child(&self, name: Span) -> Level {
        let (bindings, known) = (self.bindings.len(), self.known.len());
        if let Some(parent) = self.levels.last() {
            return Level { name, bindings, known, ..*parent };
        }
        let header = self.header.as_deref();
        let default = header.map_or(Namespace::NONE, Scope::default_namespace);
        let declared = header.map_or(0, Scope::declarations);
        Level { name, default, around: default, redefined: false, declared, bytes: 0, bindings, known }
    }

    fn declare(&mut self, head: &Head, level: &mut Level, out: &ElementBuilder) -> Result<(), StreamError> {
        let is_top = self.levels.is_empty() && self.header.is_none();
        for attr in head.declarations() {
            let (prefix, name) = (out.slice(attr.declared()), out.slice(attr.value));
            check_declaration(attr.meaning, prefix, name)?;
            // At the top `xmlns=''` has nothing to undeclare, and a Scope does not keep it either.
            if name.is_empty() && is_top {
                continue;
            }
            level.declared += 1;
            level.bytes += prefix.len() + name.len();
            let namespace = self.intern(attr.value, out);
            if attr.meaning == Meaning::Default {
                level.default = namespace;
            } else {
                self.bindings.push(Binding { key: key(prefix), prefix: attr.declared(), namespace });
            }
        }
        Ok(())
    }

    fn intern(&mut self, name: Span, out: &ElementBuilder) -> Namespace {
        let text = out.slice(name);
        match text {
            b"" => return Namespace::NONE,
            XMLNS_XML => return Namespace::XML,
            _ => {}
        }
        let key = key(text);
        if let Some(namespace) = self.header.as_deref().and_then(|header| header.find(key, text)) {
            return namespace;
        }
        let is_it = |known: &Known| known.key == key && out.slice(known.name) == text;
        let index = self.known.iter().position(is_it).unwrap_or_else(|| {
            self.known.push(Known { key, name });
            self.known.len() - 1
        });
        Namespace::numbered(self.of_header() + index)
    }

    /// How many namespaces the header has.
    fn of_header(&self) -> usize {
        self.header.as_deref().map_or(0, Scope::namespaces)
    }

    fn resolve(&self, prefix: Span, out: &ElementBuilder) -> Result<Namespace, StreamError> {
        let prefix = out.slice(prefix);
        if prefix == b"xml" {
            return Ok(Namespace::XML);
        }
        let key = key(prefix);
        let is_it = |binding: &&Binding| binding.key == key && out.slice(binding.prefix) == prefix;
        let own = self.bindings.iter().rev().find(is_it).map(|binding| binding.namespace);
        own.or_else(|| self.header.as_deref()?.resolve(key, prefix))
            .ok_or(StreamError::not_well_formed("unbound prefix"))
    }

    fn show_in_stream(
        &mut self,
        head: &Head,
        namespace: Namespace,
        level: &mut Level,
        out: &mut ElementBuilder,
    ) {
        let keeps_prefix = !level.redefined
            && head.name.prefix().is_some_and(|prefix| self.of_prefix(prefix, out) == Some(namespace));
        let shown = if keeps_prefix {
            Shown::WithPrefix
        } else if level.around == namespace {
            Shown::WithoutXmlns
        } else {
            Shown::WithXmlns
        };
        out.start_at(if keeps_prefix { head.name.span } else { head.name.local() });
        if shown == Shown::WithXmlns {
            let sends_xmlns =
                head.declarations().any(|attr| attr.meaning == Meaning::Default && attr.value.length > 0);
            if !sends_xmlns {
                let name = out.append(b"xmlns");
                self.show_namespace(name, namespace, out);
            }
        }
        for attr in head.declarations() {
            self.show_declaration(attr, shown, head, namespace, level, out);
        }
        if !keeps_prefix {
            level.around = namespace;
        }
    }

    fn show_declaration(
        &mut self,
        attr: &Attr,
        shown: Shown,
        head: &Head,
        namespace: Namespace,
        level: &mut Level,
        out: &mut ElementBuilder,
    ) {
        if attr.meaning == Meaning::Default {
            match shown {
                _ if attr.value.length == 0 => {}
                Shown::WithoutXmlns => {}
                Shown::WithXmlns => self.show_namespace(attr.name.span, namespace, out),
                Shown::WithPrefix => out.attr_at(attr.name.span, attr.value),
            }
            return;
        }
        let is_own = head.name.prefix().is_some_and(|own| out.slice(own) == out.slice(attr.declared()));
        if shown == Shown::WithPrefix && is_own {
            return;
        }
        level.redefined |= self.of_prefix(attr.declared(), out).is_some();
        out.attr_at(attr.name.span, attr.value);
    }

    /// What the stream header binds a prefix to.
    fn of_prefix(&self, prefix: Span, out: &ElementBuilder) -> Option<Namespace> {
        let prefix = out.slice(prefix);
        self.header.as_deref()?.resolve(key(prefix), prefix)
    }

    fn show_namespace(&mut self, name: Span, namespace: Namespace, out: &mut ElementBuilder) {
        let value = self.text_of(namespace, out);
        self.repeated = self.repeated.saturating_add(value.length as usize);
        out.attr_at(name, value);
    }

    /// The name of a namespace in the tree's text, where it comes but once.
    fn text_of(&mut self, namespace: Namespace, out: &mut ElementBuilder) -> Span {
        let Some(index) = namespace.index() else {
            return out.append(if namespace == Namespace::XML { XMLNS_XML } else { b"" });
        };
        let of_header = self.of_header();
        if let Some(own) = index.checked_sub(of_header) {
            return self.known.get(own).map_or(Span::default(), |known| known.name);
        }
        self.shown.resize(of_header, None);
        match (&self.header, self.shown.get_mut(index)) {
            (Some(header), Some(shown)) => *shown.get_or_insert_with(|| out.append(header.name_of(index))),
            _ => Span::default(),
        }
    }

    /// No two attributes may have the same name, as sent or in their namespaces (XML-NAMES section 6.3).
    fn check_attributes(&mut self, head: &Head, out: &ElementBuilder) -> Result<(), StreamError> {
        let attrs = &head.attrs;
        self.keys.clear();
        if attrs.len() > 1 {
            self.keys.extend(attrs.iter().enumerate().map(|(index, attr)| (attr.key, index)));
        }
        check_distinct(&mut self.keys, |index| {
            attrs.get(index).map_or(&[], |attr| out.slice(attr.name.span))
        })?;
        self.keys.clear();
        for (index, attr) in attrs.iter().enumerate().filter(|_| head.prefixed > 0) {
            if let (Meaning::Prefixed, Some(prefix)) = (attr.meaning, attr.name.prefix()) {
                let namespace = self.resolve(prefix, out)?;
                let local = key(out.slice(attr.name.local()));
                self.keys.push((local.rotate_left(7) ^ u64::from(namespace.0), index));
            }
        }
        // The same number and local name are the same namespace, too.
        check_distinct(&mut self.keys, |index| {
            attrs.get(index).map_or(&[], |attr| out.slice(attr.name.local()))
        })
    }
}

/// That no two texts with the same number are the same.
fn check_distinct<'a>(
    keys: &mut [(u64, usize)],
    text: impl Fn(usize) -> &'a [u8],
) -> Result<(), StreamError> {
    keys.sort_unstable();
    for run in keys.chunk_by(|(key, _), (next, _)| key == next) {
        for (place, (_, index)) in run.iter().enumerate() {
            if run[..place].iter().any(|(_, before)| text(*before) == text(*index)) {
                return Err(StreamError::not_well_formed("duplicate attribute"));
            }
        }
    }
    Ok(())
}

fn check_declaration(meaning: Meaning, prefix: &[u8], name: &[u8]) -> Result<(), StreamError> {
    if prefix == b"xmlns" || (prefix == b"xml") != (name == XMLNS_XML) {
        return Err(StreamError::not_well_formed("reserved prefix"));
    }
    if name == XMLNS_XMLNS {
        return Err(StreamError::not_well_formed("reserved namespace name"));
    }
    if name.is_empty() && meaning == Meaning::Declaration {
        return Err(StreamError::not_well_formed("must not undeclare prefix"));
    }
    // rfc3986 has no line feed, and expat in namespace mode lets no separator of its own in.
    if name.contains(&b'\n') {
        return Err(StreamError::not_well_formed("invalid namespace name"));
    }
    Ok(())
}

fn show_as_sent(head: &Head, out: &mut ElementBuilder) {
    out.start_at(head.name.span);
    for attr in head.declarations().filter(|attr| attr.value.length > 0) {
        out.attr_at(attr.name.span, attr.value);
    }
}
