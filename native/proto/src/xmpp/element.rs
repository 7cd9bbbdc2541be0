//! The flat tree of one XML element: what an `#xmlel{}` says, in two allocations.
//!
//! Owns the representation only. What a prefix or an `xmlns` attribute looks like in it is decided by
//! `names`; how it looks on the wire by `write`.

use std::fmt;

/// A byte range of an element's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Start(Span),
    Attr(Span, Span),
    Text(Span),
    End,
}

/// One element with all that is in it.
///
/// Nodes lie in document order in one list and their bytes in one buffer, so a tree of any shape costs two
/// allocations. Names and values are bytes, as binaries are in Erlang: a parsed element's are valid UTF-8, one
/// built from terms holds whatever the terms held. Bounded to 4 GiB of bytes.
#[derive(Clone, Default)]
pub struct Element {
    nodes: Vec<Node>,
    bytes: Vec<u8>,
}

/// A node of an [`Element`], in document order.
///
/// Each element is `Start`, its `Attr`s, any mix of `Text` and child elements, `End`. Two `Text`s never
/// follow each other, and in a parsed element none is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// An element begins, with its name as `fxml_stream` shows it.
    Start(&'a [u8]),
    /// An attribute (name, value) of the element begun last.
    Attr(&'a [u8], &'a [u8]),
    /// Character data.
    Text(&'a [u8]),
    /// The innermost open element ends.
    End,
}

impl Element {
    /// Walks the nodes in document order.
    ///
    /// From the back (`.rev()`) the walk meets children before their parent and the last before the first,
    /// which is the order that builds Erlang lists without copying them.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = Item<'_>> + ExactSizeIterator {
        self.nodes.iter().map(|node| self.item(*node))
    }

    /// The name of the element itself.
    pub fn name(&self) -> &[u8] {
        match self.nodes.first() {
            Some(Node::Start(span)) => self.slice(*span),
            _ => &[],
        }
    }

    /// The attributes of the element itself, in their order.
    pub fn attrs(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        let own = self.nodes.iter().skip(1).take_while(|node| matches!(node, Node::Attr(..))).count();
        self.nodes.iter().skip(1).take(own).filter_map(|node| match node {
            Node::Attr(name, value) => Some((self.slice(*name), self.slice(*value))),
            _ => None,
        })
    }

    /// The value of the element's first attribute of that name.
    pub fn attr(&self, name: &[u8]) -> Option<&[u8]> {
        self.attrs().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Copies each child element into an element of its own; character data between them is left out.
    pub fn child_elements(&self) -> Vec<Self> {
        let mut children = Vec::new();
        let mut builder = ElementBuilder::default();
        let mut depth = 0_usize;
        for item in self.items() {
            depth += usize::from(matches!(item, Item::Start(_)));
            if depth > 1 {
                builder.push(item);
            }
            if item == Item::End {
                depth -= 1;
                if depth == 1
                    && let Ok(child) = std::mem::take(&mut builder).finish()
                {
                    children.push(child);
                }
            }
        }
        children
    }

    /// The same element with its own attributes passed through `change`; what is inside stays as it is.
    pub(crate) fn with_attrs<'a>(
        &'a self,
        change: impl FnOnce(Vec<(&'a [u8], &'a [u8])>) -> Vec<(&'a [u8], &'a [u8])>,
    ) -> Self {
        let mut builder = ElementBuilder::default();
        builder.start(self.name());
        let own: Vec<_> = self.attrs().collect();
        let inside = 1 + own.len();
        for (name, value) in change(own) {
            builder.attr(name, value);
        }
        self.items().skip(inside).for_each(|item| builder.push(item));
        builder.finish().unwrap_or_default()
    }

    /// Bytes of heap memory that the element holds.
    pub fn heap_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.bytes.capacity()
    }

    /// How many nodes the element has.
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the node at `index` is an end.
    pub(crate) fn is_end(&self, index: usize) -> bool {
        self.nodes.get(index) == Some(&Node::End)
    }

    fn item(&self, node: Node) -> Item<'_> {
        match node {
            Node::Start(name) => Item::Start(self.slice(name)),
            Node::Attr(name, value) => Item::Attr(self.slice(name), self.slice(value)),
            Node::Text(text) => Item::Text(self.slice(text)),
            Node::End => Item::End,
        }
    }

    fn slice(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        self.bytes.get(start..start + span.len as usize).unwrap_or_default()
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.items().eq(other.items())
    }
}

impl Eq for Element {}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&super::write::element_to_vec(self)))
    }
}

/// Why a builder has no element to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// Starts and ends do not pair up to exactly one element, or an attribute came after content.
    Unbalanced,
    /// The element needs more than 4 GiB.
    TooLarge,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unbalanced => "element starts and ends do not pair up",
            Self::TooLarge => "element larger than 4 GiB",
        })
    }
}

impl std::error::Error for BuildError {}

/// Builds an [`Element`] node by node, in document order.
///
/// Call `start`, its `attr`s, then `text`s and children, then `end`; [`finish`](Self::finish) checks the order.
#[derive(Debug, Default)]
pub struct ElementBuilder {
    element: Element,
    depth: u32,
    fault: Option<BuildError>,
}

impl ElementBuilder {
    /// With room for so many nodes and bytes of names and text, for elements that are not kept.
    pub fn with_capacity(nodes: usize, bytes: usize) -> Self {
        let element = Element { nodes: Vec::with_capacity(nodes), bytes: Vec::with_capacity(bytes) };
        Self { element, depth: 0, fault: None }
    }

    /// Begins an element.
    pub fn start(&mut self, name: &[u8]) {
        if self.depth == 0 && !self.element.nodes.is_empty() {
            self.fault = Some(BuildError::Unbalanced);
        }
        self.depth += 1;
        let name = self.span(name);
        self.element.nodes.push(Node::Start(name));
    }

    /// Adds an attribute to the element begun last.
    pub fn attr(&mut self, name: &[u8], value: &[u8]) {
        if !matches!(self.element.nodes.last(), Some(Node::Start(_) | Node::Attr(..))) {
            self.fault = Some(BuildError::Unbalanced);
        }
        let node = Node::Attr(self.span(name), self.span(value));
        self.element.nodes.push(node);
    }

    /// Adds character data; it joins character data that comes right before.
    ///
    /// Empty data counts as content, as it does for `fxml`, which writes such an element with an end tag.
    pub fn text(&mut self, text: &[u8]) {
        if self.depth == 0 {
            self.fault = Some(BuildError::Unbalanced);
        }
        let added = self.span(text);
        match self.element.nodes.last_mut() {
            // Text is stored last in the buffer, so what joins it lies right behind it.
            Some(Node::Text(last)) => match last.len.checked_add(added.len) {
                Some(len) => last.len = len,
                None => self.fault = Some(BuildError::TooLarge),
            },
            _ => self.element.nodes.push(Node::Text(added)),
        }
    }

    /// Ends the innermost open element.
    pub fn end(&mut self) {
        match self.depth.checked_sub(1) {
            Some(depth) => self.depth = depth,
            None => self.fault = Some(BuildError::Unbalanced),
        }
        self.element.nodes.push(Node::End);
    }

    /// Adds a node of another element.
    pub fn push(&mut self, item: Item<'_>) {
        match item {
            Item::Start(name) => self.start(name),
            Item::Attr(name, value) => self.attr(name, value),
            Item::Text(text) => self.text(text),
            Item::End => self.end(),
        }
    }

    /// The element, when exactly one was built.
    pub fn finish(self) -> Result<Element, BuildError> {
        match self.fault {
            Some(fault) => Err(fault),
            None if self.depth > 0 || self.element.nodes.is_empty() => Err(BuildError::Unbalanced),
            None => Ok(self.element),
        }
    }

    /// Bytes of the names and text built so far.
    pub(super) fn byte_len(&self) -> usize {
        self.element.bytes.len()
    }

    fn span(&mut self, bytes: &[u8]) -> Span {
        let start = self.element.bytes.len();
        let (Ok(at), Ok(len), Ok(_)) =
            (u32::try_from(start), u32::try_from(bytes.len()), u32::try_from(start + bytes.len()))
        else {
            self.fault = Some(BuildError::TooLarge);
            return Span { start: 0, len: 0 };
        };
        self.element.bytes.extend_from_slice(bytes);
        Span { start: at, len }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn adjacent_text_joins() {
        let mut builder = ElementBuilder::default();
        builder.start(b"a");
        builder.text(b"x");
        builder.text(b"");
        builder.text(b"y");
        builder.end();
        let element = builder.finish().unwrap();
        assert_eq!(element.items().collect::<Vec<_>>(), [Item::Start(b"a"), Item::Text(b"xy"), Item::End]);
    }

    #[test]
    fn misuse_gives_no_element() {
        let mut open = ElementBuilder::default();
        open.start(b"a");
        assert_eq!(open.finish(), Err(BuildError::Unbalanced));
        let mut late_attr = ElementBuilder::default();
        late_attr.start(b"a");
        late_attr.text(b"x");
        late_attr.attr(b"k", b"v");
        late_attr.end();
        assert_eq!(late_attr.finish(), Err(BuildError::Unbalanced));
        let mut two = ElementBuilder::default();
        two.start(b"a");
        two.end();
        two.start(b"b");
        two.end();
        assert_eq!(two.finish(), Err(BuildError::Unbalanced));
        assert_eq!(ElementBuilder::default().finish(), Err(BuildError::Unbalanced));
    }

    #[test]
    fn children_come_out_as_elements_of_their_own() {
        let mut builder = ElementBuilder::default();
        builder.start(b"body");
        builder.attr(b"rid", b"1");
        builder.text(b" ");
        builder.start(b"a");
        builder.attr(b"k", b"v");
        builder.text(b"t");
        builder.end();
        builder.start(b"b");
        builder.end();
        builder.end();
        let children = builder.finish().unwrap().child_elements();
        assert_eq!(children.len(), 2);
        assert_eq!(children[0].attr(b"k"), Some(&b"v"[..]));
        assert_eq!(children[1].name(), b"b");
    }
}
