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

use std::borrow::Cow;

use rxml::{NcName, XMLNS_XML, XMLNS_XMLNS};

use super::element::ElementBuilder;
use super::error::{Limits, StreamError};

/// Which of `fxml_stream`'s conventions names follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    Stream,
    Document,
}

/// A start tag as it was sent.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) prefix: Option<NcName>,
    pub(super) local: NcName,
    pub(super) attrs: Vec<(Option<NcName>, NcName, String)>,
}

impl Head {
    /// Namespace declarations in the order sent; the default namespace has the empty prefix.
    fn declarations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.attrs.iter().filter_map(|(prefix, local, value)| {
            declared_prefix(prefix.as_ref(), local).map(|prefix| (prefix, value.as_str()))
        })
    }

    /// The other attributes in the order sent.
    fn plain_attrs(&self) -> impl Iterator<Item = (Option<&NcName>, &NcName, &str)> {
        self.attrs.iter().filter_map(|(prefix, local, value)| {
            declared_prefix(prefix.as_ref(), local).is_none().then_some((
                prefix.as_ref(),
                local,
                value.as_str(),
            ))
        })
    }

    fn qualified_name(&self) -> Cow<'_, str> {
        qualified(self.prefix.as_ref(), &self.local)
    }
}

/// What a stream header leaves behind for the stanzas: the end tag to expect and the namespaces declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) name: Box<str>,
    declared: Box<[(Box<str>, Box<str>)]>,
}

impl Scope {
    pub(super) fn of_header(head: &Head) -> Self {
        let declared: Vec<_> = head.declarations().filter(|(_, uri)| !uri.is_empty()).collect();
        Self::new(&head.qualified_name(), &declared)
    }

    /// A header of that name, with (prefix, namespace) declared.
    pub(super) fn new(name: &str, declared: &[(&str, &str)]) -> Self {
        let mut declared: Box<[(Box<str>, Box<str>)]> =
            declared.iter().map(|(prefix, uri)| ((*prefix).into(), (*uri).into())).collect();
        // The order sent makes no difference to stanzas, and equal headers should compare equal.
        declared.sort_unstable();
        Self { name: name.into(), declared }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.name.len()
            + size_of_val(&*self.declared)
            + self.declared.iter().map(|(prefix, uri)| prefix.len() + uri.len()).sum::<usize>()
    }
}

/// An open element: what its children need to know of it.
#[derive(Debug)]
struct Level {
    /// The namespace that a child need not show, a range of `Names::text`.
    around: (usize, usize),
    /// An ancestor, or this element, declared a prefix of the stream header anew.
    redefined: bool,
    /// How many bindings and bytes of text there were before its declarations.
    bindings: usize,
    text: usize,
}

#[derive(Clone, Copy, Debug)]
struct Binding {
    prefix: (usize, usize),
    uri: (usize, usize),
}

/// The namespaces in scope of a stanza or document that is being parsed.
#[derive(Debug)]
pub(super) struct Names {
    naming: Naming,
    bindings: Vec<Binding>,
    /// How many of the bindings are the stream header's.
    top: usize,
    levels: Vec<Level>,
    text: String,
}

/// How an element of a stream shows its name and namespace.
enum Shown {
    WithPrefix,
    WithoutXmlns,
    WithXmlns,
}

impl Names {
    /// For a document of its own, or a stream header.
    pub(super) fn of_document(naming: Naming) -> Self {
        Self { naming, bindings: Vec::new(), top: 0, levels: Vec::new(), text: String::new() }
    }

    /// For the stanzas of a stream.
    pub(super) fn of_stanzas(scope: &Scope) -> Self {
        let mut names = Self::of_document(Naming::Stream);
        for (prefix, uri) in &scope.declared {
            names.bind(prefix, uri);
        }
        names.top = names.bindings.len();
        let default = names.resolve("").unwrap_or_default();
        names.levels.push(Level { around: default, redefined: false, bindings: 0, text: 0 });
        names
    }

    /// Open elements, the stream's included.
    pub(super) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Enters an element: checks its names, and builds its start and attributes.
    pub(super) fn enter(
        &mut self,
        head: &Head,
        limits: &Limits,
        out: &mut ElementBuilder,
    ) -> Result<(), StreamError> {
        let level = (self.bindings.len(), self.text.len());
        for (prefix, uri) in head.declarations() {
            // rfc3986 has no line feed, and expat in namespace mode lets no separator of its own in.
            if uri.contains('\n') {
                return Err(StreamError::not_well_formed("invalid namespace name"));
            }
            if uri == XMLNS_XMLNS {
                return Err(StreamError::not_well_formed("reserved namespace name"));
            }
            // At the top `xmlns=''` has nothing to undeclare, and a Scope does not keep it either.
            if !(uri.is_empty() && self.levels.is_empty()) {
                self.bind(prefix, uri);
            }
        }
        if self.bindings.len() > limits.namespaces {
            return Err(StreamError::policy("too many namespace declarations"));
        }
        let namespace = match &head.prefix {
            None => self.resolve("").unwrap_or_default(),
            Some(prefix) => self.resolve_prefix(prefix)?,
        };
        self.check_attributes(head)?;
        let (around, redefined) = match (self.naming, self.levels.last()) {
            (Naming::Stream, Some(parent)) => {
                let (around, redefined) = (parent.around, parent.redefined);
                self.show_in_stream(head, namespace, around, redefined, out)
            }
            (Naming::Stream, None) => {
                show_as_sent(head, out);
                self.top = self.bindings.len();
                (self.resolve("").unwrap_or_default(), false)
            }
            (Naming::Document, _) => {
                show_as_sent(head, out);
                (namespace, false)
            }
        };
        self.levels.push(Level { around, redefined, bindings: level.0, text: level.1 });
        show_plain_attrs(head, out);
        Ok(())
    }

    /// Leaves the innermost element.
    pub(super) fn leave(&mut self) {
        if let Some(level) = self.levels.pop() {
            self.bindings.truncate(level.bindings);
            self.text.truncate(level.text);
        }
    }

    fn show_in_stream(
        &self,
        head: &Head,
        namespace: (usize, usize),
        around: (usize, usize),
        redefined: bool,
        out: &mut ElementBuilder,
    ) -> ((usize, usize), bool) {
        let prefix = head.prefix.as_ref().map_or("", |prefix| prefix.as_str());
        let uri = self.text(namespace);
        let shown = if !prefix.is_empty() && !redefined && self.header_binds(prefix, Some(uri)) {
            Shown::WithPrefix
        } else if self.text(around) == uri {
            Shown::WithoutXmlns
        } else {
            Shown::WithXmlns
        };
        match shown {
            Shown::WithPrefix => out.start(head.qualified_name().as_bytes()),
            Shown::WithoutXmlns | Shown::WithXmlns => out.start(head.local.as_bytes()),
        }
        let sends_xmlns = head.declarations().any(|(prefix, uri)| prefix.is_empty() && !uri.is_empty());
        if matches!(shown, Shown::WithXmlns) && !sends_xmlns {
            out.attr(b"xmlns", uri.as_bytes());
        }
        let mut redefines = redefined;
        for (declared, declared_uri) in head.declarations() {
            match shown {
                _ if declared.is_empty() && declared_uri.is_empty() => {}
                Shown::WithoutXmlns if declared.is_empty() => {}
                Shown::WithXmlns if declared.is_empty() => out.attr(b"xmlns", uri.as_bytes()),
                Shown::WithPrefix if declared == prefix => {}
                _ => {
                    redefines |= !declared.is_empty() && self.header_binds(declared, None);
                    show_declaration(declared, declared_uri, out);
                }
            }
        }
        (if matches!(shown, Shown::WithPrefix) { around } else { namespace }, redefines)
    }

    fn header_binds(&self, prefix: &str, uri: Option<&str>) -> bool {
        self.bindings[..self.top].iter().any(|binding| {
            self.text(binding.prefix) == prefix && uri.is_none_or(|uri| self.text(binding.uri) == uri)
        })
    }

    /// No two attributes may have the same name, as sent or in their namespaces (XML-NAMES section 6.3).
    fn check_attributes(&self, head: &Head) -> Result<(), StreamError> {
        let mut prefixed: Vec<((usize, usize), &NcName)> = Vec::new();
        for (index, (prefix, local, _)) in head.attrs.iter().enumerate() {
            let duplicate = head.attrs[..index].iter().any(|(p, l, _)| p == prefix && l == local);
            if duplicate {
                return Err(StreamError::not_well_formed("duplicate attribute"));
            }
            let (Some(prefix), None) = (prefix, declared_prefix(prefix.as_ref(), local)) else { continue };
            let uri = self.resolve_prefix(prefix)?;
            if prefixed.iter().any(|(u, l)| self.text(*u) == self.text(uri) && *l == local) {
                return Err(StreamError::not_well_formed("duplicate attribute"));
            }
            prefixed.push((uri, local));
        }
        Ok(())
    }

    fn resolve_prefix(&self, prefix: &str) -> Result<(usize, usize), StreamError> {
        self.resolve(prefix).ok_or(StreamError::not_well_formed("unbound prefix"))
    }

    fn resolve(&self, prefix: &str) -> Option<(usize, usize)> {
        if prefix == "xml" {
            return Some(XML_URI);
        }
        self.bindings.iter().rev().find(|binding| self.text(binding.prefix) == prefix).map(|b| b.uri)
    }

    fn bind(&mut self, prefix: &str, uri: &str) {
        let binding = Binding { prefix: self.keep(prefix), uri: self.keep(uri) };
        self.bindings.push(binding);
    }

    fn keep(&mut self, text: &str) -> (usize, usize) {
        let start = self.text.len();
        self.text.push_str(text);
        (start, self.text.len())
    }

    fn text(&self, range: (usize, usize)) -> &str {
        if range == XML_URI { XMLNS_XML } else { self.text.get(range.0..range.1).unwrap_or_default() }
    }
}

/// Stands for the namespace of `xml:`, which is bound without a declaration.
const XML_URI: (usize, usize) = (usize::MAX, usize::MAX);

fn declared_prefix<'a>(prefix: Option<&NcName>, local: &'a NcName) -> Option<&'a str> {
    match prefix {
        Some(prefix) => (prefix == "xmlns").then_some(local.as_str()),
        None => (local == "xmlns").then_some(""),
    }
}

fn qualified<'a>(prefix: Option<&NcName>, local: &'a NcName) -> Cow<'a, str> {
    match prefix {
        Some(prefix) => format!("{prefix}:{local}").into(),
        None => local.as_str().into(),
    }
}

fn show_as_sent(head: &Head, out: &mut ElementBuilder) {
    out.start(head.qualified_name().as_bytes());
    for (prefix, uri) in head.declarations().filter(|(_, uri)| !uri.is_empty()) {
        show_declaration(prefix, uri, out);
    }
}

fn show_declaration(prefix: &str, uri: &str, out: &mut ElementBuilder) {
    if prefix.is_empty() {
        out.attr(b"xmlns", uri.as_bytes());
    } else {
        out.attr(format!("xmlns:{prefix}").as_bytes(), uri.as_bytes());
    }
}

fn show_plain_attrs(head: &Head, out: &mut ElementBuilder) {
    for (prefix, local, value) in head.plain_attrs() {
        out.attr(qualified(prefix, local).as_bytes(), value.as_bytes());
    }
}
