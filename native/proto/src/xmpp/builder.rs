//! Builds elements node by node.

use std::fmt;

use super::element::{Element, Item};
use super::node::{Kind, NODE_BYTES, Node, Span};

impl Element {
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
}

/// Why a builder has no element to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// Starts and ends do not pair up to exactly one element, or an attribute came after content.
    Unbalanced,
    /// The element needs more than 4 GiB, or one of its texts 512 MiB.
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
    nodes: Vec<Node>,
    bytes: Vec<u8>,
    depth: u32,
    fault: Option<BuildError>,
}

impl ElementBuilder {
    /// With room for so many nodes, attributes being two, and bytes of names and text.
    pub fn with_capacity(nodes: usize, bytes: usize) -> Self {
        let (nodes, bytes) = (Vec::with_capacity(nodes), Vec::with_capacity(bytes));
        Self { nodes, bytes, depth: 0, fault: None }
    }

    /// Begins an element.
    pub fn start(&mut self, name: &[u8]) {
        let name = self.append(name);
        self.start_at(name);
    }

    /// Adds an attribute to the element begun last.
    pub fn attr(&mut self, name: &[u8], value: &[u8]) {
        let (name, value) = (self.append(name), self.append(value));
        self.attr_at(name, value);
    }

    /// Adds character data; it joins character data that comes right before.
    ///
    /// Empty data counts as content, as it does for `fxml`, which writes such an element with an end tag.
    pub fn text(&mut self, text: &[u8]) {
        if self.depth == 0 {
            self.fault = Some(BuildError::Unbalanced);
        }
        let added = self.append(text);
        if let Some(last) = self.nodes.last_mut()
            && last.kind() == Kind::Text
        {
            // Text is stored last in the buffer, so what joins it lies right behind it.
            let before = last.span();
            match Span::new(before.start as usize, (before.length + added.length) as usize) {
                Some(joined) => *last = Node::new(Kind::Text, joined),
                None => self.fault = Some(BuildError::TooLarge),
            }
        } else {
            self.nodes.push(Node::new(Kind::Text, added));
        }
    }

    /// Ends the innermost open element.
    pub fn end(&mut self) {
        match self.depth.checked_sub(1) {
            Some(depth) => self.depth = depth,
            None => self.fault = Some(BuildError::Unbalanced),
        }
        self.nodes.push(Node::END);
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
            None if self.depth > 0 || self.nodes.is_empty() => Err(BuildError::Unbalanced),
            None => Element::new(self.bytes, &self.nodes).ok_or(BuildError::TooLarge),
        }
    }

    /// Begins an element whose name is in the buffer already.
    pub(super) fn start_at(&mut self, name: Span) {
        if self.depth == 0 && !self.nodes.is_empty() {
            self.fault = Some(BuildError::Unbalanced);
        }
        self.depth += 1;
        self.nodes.push(Node::new(Kind::Start, name));
    }

    /// Adds an attribute whose name and value are in the buffer already.
    pub(super) fn attr_at(&mut self, name: Span, value: Span) {
        let last = self.nodes.last().map(|node| node.kind());
        if !matches!(last, Some(Kind::Start | Kind::AttrValue)) {
            self.fault = Some(BuildError::Unbalanced);
        }
        self.nodes.extend([Node::new(Kind::AttrName, name), Node::new(Kind::AttrValue, value)]);
    }

    /// Adds character data of the innermost element, if there is one: an empty piece and what is outside are nothing.
    pub(super) fn content(&mut self, text: &[u8]) {
        if self.depth > 0 && !text.is_empty() {
            self.text(text);
        }
    }

    /// Makes room for so many nodes and bytes before the first ones come.
    pub(super) fn prepare(&mut self, nodes: usize, bytes: usize) {
        if self.bytes.is_empty() {
            self.nodes.reserve(nodes);
            self.bytes.reserve(bytes);
        }
    }

    /// Puts bytes into the buffer, for a node to come.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.span_from(start)
    }

    /// Puts bytes of an unfinished name or value into the buffer.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The buffer from `start` to its end.
    pub(super) fn span_from(&mut self, start: usize) -> Span {
        Span::new(start, self.bytes.len() - start).unwrap_or_else(|| {
            self.fault = Some(BuildError::TooLarge);
            Span::default()
        })
    }

    /// How many bytes are in the buffer.
    pub(super) fn position(&self) -> usize {
        self.bytes.len()
    }

    /// Drops the bytes from `position` on, which no node may use.
    pub(super) fn truncate(&mut self, position: usize) {
        self.bytes.truncate(position);
    }

    pub(super) fn slice(&self, span: Span) -> &[u8] {
        self.bytes.get(span.range()).unwrap_or_default()
    }

    /// How many nodes there are, an attribute being two.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The element that was built, as [`finish`](Self::finish) gives it, leaving the builder as if new.
    pub(super) fn take(&mut self) -> Result<Element, BuildError> {
        std::mem::take(self).finish()
    }
}

/// Bytes of memory that a node takes.
const _: () = assert!(size_of::<Node>() == NODE_BYTES);

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
        let body = builder.finish().unwrap();
        let children = body.child_elements();
        assert_eq!(children.len(), 2);
        assert_eq!(children[0].attr(b"k"), Some(&b"v"[..]));
        assert_eq!(children[1].name(), b"b");
        let backwards: Vec<_> = children[0].items().rev().collect();
        assert_eq!(backwards, [Item::End, Item::Text(b"t"), Item::Attr(b"k", b"v"), Item::Start(b"a")]);
    }

    #[test]
    fn children_share_the_buffer_of_their_parent() {
        let mut builder = ElementBuilder::default();
        builder.start(b"body");
        for _ in 0..100 {
            builder.start(b"a");
            builder.text(b"text");
            builder.end();
        }
        builder.end();
        let body = builder.finish().unwrap();
        let child = body.child_elements().swap_remove(7);
        assert_eq!(child.items().nth(1), Some(Item::Text(b"text")));
        let inside = body.heap_bytes();
        let children = body.child_elements();
        assert!(children.iter().all(|child| child.heap_bytes() == inside));
        let own: usize = children.iter().map(Element::own_bytes).sum();
        assert!(own < inside, "and each is as large as it is");
        assert!(size_of::<Element>() <= 32);
    }
}
