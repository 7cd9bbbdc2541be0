//! Namespaces by number: those that a stream header declared, for its stanzas.

use std::sync::{Arc, LazyLock};

use super::builder::ElementBuilder;
use super::head::{Head, key};
use super::node::Span;

/// A namespace in scope: equal ones have equal numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Namespace(pub(super) u32);

impl Namespace {
    /// No namespace.
    pub(super) const NONE: Self = Self(0);
    /// That of `xml:`, which is bound without a declaration.
    pub(super) const XML: Self = Self(1);
    /// The first that was declared.
    pub(super) const FIRST: usize = 2;

    pub(super) fn numbered(index: usize) -> Self {
        Self(u32::try_from(Self::FIRST + index).unwrap_or(u32::MAX))
    }

    /// Its place among those declared.
    pub(super) fn index(self) -> Option<usize> {
        (self.0 as usize).checked_sub(Self::FIRST)
    }
}

/// The name of a namespace, in a text that whoever keeps it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) key: u64,
    pub(super) name: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) key: u64,
    pub(super) prefix: Span,
    pub(super) namespace: Namespace,
}

/// What a stream header leaves behind for the stanzas: the end tag to expect and the namespaces declared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) name: Box<str>,
    text: Box<[u8]>,
    known: Box<[Known]>,
    /// By key.
    bindings: Box<[Binding]>,
}

impl Scope {
    pub(super) fn of_header(head: &Head, text: &ElementBuilder) -> Self {
        let declared: Vec<_> = head
            .declarations()
            .map(|attr| (text.slice(attr.declared()), text.slice(attr.value)))
            .filter(|(_, name)| !name.is_empty())
            .collect();
        Self::new(text.slice(head.name.span), declared)
    }

    /// A header of that name, with (prefix, namespace) declared.
    fn new(name: &[u8], mut declared: Vec<(&[u8], &[u8])>) -> Self {
        // The order sent makes no difference to stanzas, and equal headers should compare equal.
        declared.sort_unstable();
        let (mut text, mut known, mut bindings) = (Vec::new(), Vec::<Known>::new(), Vec::new());
        for (prefix, name) in declared {
            let key_of_name = key(name);
            let namespace = find(&known, &text, key_of_name, name).unwrap_or_else(|| {
                known.push(Known { key: key_of_name, name: append(&mut text, name) });
                Namespace::numbered(known.len() - 1)
            });
            bindings.push(Binding { key: key(prefix), prefix: append(&mut text, prefix), namespace });
        }
        bindings.sort_by_key(|binding| binding.key);
        let name = String::from_utf8_lossy(name).into();
        Self { name, text: text.into(), known: known.into(), bindings: bindings.into() }
    }

    /// The header of nearly every client.
    pub(super) fn usual() -> &'static Arc<Self> {
        static USUAL: LazyLock<Arc<Scope>> = LazyLock::new(|| {
            let stream = super::NS_STREAM.as_bytes();
            let declared = vec![(&b""[..], super::NS_CLIENT.as_bytes()), (b"stream", stream)];
            Arc::new(Scope::new(b"stream:stream", declared))
        });
        &USUAL
    }

    /// Declarations of namespaces.
    pub(super) fn declarations(&self) -> usize {
        self.bindings.len()
    }

    /// Namespaces declared.
    pub(super) fn namespaces(&self) -> usize {
        self.known.len()
    }

    /// The namespace without a prefix.
    pub(super) fn default_namespace(&self) -> Namespace {
        self.resolve(key(b""), b"").unwrap_or(Namespace::NONE)
    }

    /// What a prefix is bound to.
    pub(super) fn resolve(&self, key: u64, prefix: &[u8]) -> Option<Namespace> {
        let first = self.bindings.partition_point(|binding| binding.key < key);
        let mut same = self.bindings[first..].iter().take_while(|binding| binding.key == key);
        same.find(|binding| self.slice(binding.prefix) == prefix).map(|binding| binding.namespace)
    }

    /// The namespace of that name.
    pub(super) fn find(&self, key: u64, name: &[u8]) -> Option<Namespace> {
        find(&self.known, &self.text, key, name)
    }

    /// The name of one of its namespaces.
    pub(super) fn name_of(&self, index: usize) -> &[u8] {
        self.known.get(index).map_or(&[], |known| self.slice(known.name))
    }

    /// Bytes of heap memory that a stream of its own holds for it.
    pub(super) fn heap_bytes(&self) -> usize {
        // Two counters are beside it.
        let own = size_of::<Self>() + 2 * size_of::<usize>();
        own + self.name.len() + self.text.len() + size_of_val(&*self.known) + size_of_val(&*self.bindings)
    }

    fn slice(&self, span: Span) -> &[u8] {
        self.text.get(span.range()).unwrap_or_default()
    }
}

fn append(text: &mut Vec<u8>, more: &[u8]) -> Span {
    let start = text.len();
    text.extend_from_slice(more);
    // Headers are far smaller than 4 GiB.
    Span::new(start, more.len()).unwrap_or_default()
}

fn find(known: &[Known], text: &[u8], key: u64, name: &[u8]) -> Option<Namespace> {
    let is_it = |known: &Known| known.key == key && text.get(known.name.range()) == Some(name);
    known.iter().position(is_it).map(Namespace::numbered)
}
