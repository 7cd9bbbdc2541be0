//! The flat tree of one XML element: what an `#xmlel{}` says, in one allocation.
//!
//! Owns the representation only. What a prefix or an `xmlns` attribute looks like in it is decided by
//! `names`; how it looks on the wire by `write`.

use std::sync::Arc;

use super::node::{Kind, NODE_BYTES, Node};

/// One element with all that is in it.
///
/// The bytes of names, values and text lie in one buffer, behind them nodes of 8 bytes in document order. Elements
/// that were parts of one element share its buffer, as clones do. Names and values are bytes, as binaries are in
/// Erlang: a parsed element's are valid UTF-8, one built from terms holds whatever the terms held.
#[derive(Clone)]
pub struct Element {
    /// Bytes of text, then nodes.
    data: Arc<[u8]>,
    /// How many bytes of text there are.
    text: u32,
    /// Nodes of this element: the first, and the one behind the last.
    first: u32,
    last: u32,
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
    /// An element of these nodes, whose spans are within `text`.
    pub(super) fn new(text: Vec<u8>, nodes: &[Node]) -> Option<Self> {
        let (text_length, last) = (u32::try_from(text.len()).ok()?, u32::try_from(nodes.len()).ok()?);
        let mut data = text;
        data.reserve_exact(nodes.len() * NODE_BYTES);
        for node in nodes {
            data.extend_from_slice(&node.to_bytes());
        }
        Some(Self { data: data.into(), text: text_length, first: 0, last })
    }

    /// Walks the nodes in document order.
    ///
    /// From the back (`.rev()`) the walk meets children before their parent and the last before the first,
    /// which is the order that builds Erlang lists without copying them.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = Item<'_>> {
        Items { element: self, first: self.first, last: self.last }
    }

    /// The name of the element itself.
    pub fn name(&self) -> &[u8] {
        match self.items().next() {
            Some(Item::Start(name)) => name,
            _ => &[],
        }
    }

    /// The attributes of the element itself, in their order.
    pub fn attrs(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        let first = self.first + 1;
        let is_own = |index: &u32| {
            self.node(*index).is_some_and(|node| matches!(node.kind(), Kind::AttrName | Kind::AttrValue))
        };
        let last = (first..self.last).find(|index| !is_own(index)).unwrap_or(first);
        Items { element: self, first, last }.filter_map(|item| match item {
            Item::Attr(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// The value of the element's first attribute of that name.
    pub fn attr(&self, name: &[u8]) -> Option<&[u8]> {
        self.attrs().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The child elements, each an element of its own that shares this one's buffer; character data between them is
    /// left out.
    pub fn child_elements(&self) -> Vec<Self> {
        let mut children = Vec::new();
        let (mut depth, mut first) = (0_u32, 0);
        for index in self.first..self.last {
            match self.node(index).map(Node::kind) {
                Some(Kind::Start) => {
                    depth += 1;
                    first = if depth == 2 { index } else { first };
                }
                Some(Kind::End) => {
                    depth = depth.saturating_sub(1);
                    if depth == 1 {
                        children.push(Self { first, last: index + 1, ..self.clone() });
                    }
                }
                _ => {}
            }
        }
        children
    }

    /// Bytes of heap memory that the element holds, alone or with others that were parts of the same element.
    pub fn heap_bytes(&self) -> usize {
        2 * size_of::<usize>() + self.data.len()
    }

    /// Bytes of this element alone, whatever memory it shares with others: of its nodes, names, values and text. Takes time
    /// in proportion to the nodes.
    pub fn own_bytes(&self) -> usize {
        let text = |index| self.node(index).map_or(0, |node| node.span().length as usize);
        (self.first..self.last).map(|index| NODE_BYTES + text(index)).sum()
    }

    /// How many nodes the element has, an attribute being two.
    pub(super) fn node_count(&self) -> usize {
        (self.last - self.first) as usize
    }

    fn node(&self, index: u32) -> Option<Node> {
        let at = self.text as usize + index as usize * NODE_BYTES;
        self.data.get(at..)?.first_chunk().map(|bytes| Node::from_bytes(*bytes))
    }

    fn slice(&self, node: Node) -> &[u8] {
        self.data.get(node.range()).unwrap_or_default()
    }
}

/// A walk over the nodes of an element that are left.
struct Items<'a> {
    element: &'a Element,
    first: u32,
    last: u32,
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.first == self.last {
            return None;
        }
        let element = self.element;
        let node = element.node(self.first)?;
        self.first += 1;
        Some(match node.kind() {
            Kind::Start => Item::Start(element.slice(node)),
            Kind::Text => Item::Text(element.slice(node)),
            Kind::End => Item::End,
            Kind::AttrName | Kind::AttrValue => {
                // A name's value follows it.
                let value = element.node(self.first)?;
                self.first += 1;
                Item::Attr(element.slice(node), element.slice(value))
            }
        })
    }
}

impl DoubleEndedIterator for Items<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.first == self.last {
            return None;
        }
        let element = self.element;
        self.last -= 1;
        let node = element.node(self.last)?;
        Some(match node.kind() {
            Kind::Start => Item::Start(element.slice(node)),
            Kind::Text => Item::Text(element.slice(node)),
            Kind::End => Item::End,
            Kind::AttrName | Kind::AttrValue => {
                self.last -= 1;
                Item::Attr(element.slice(element.node(self.last)?), element.slice(node))
            }
        })
    }
}

impl Default for Element {
    /// No element: it has no nodes.
    fn default() -> Self {
        Self { data: Arc::default(), text: 0, first: 0, last: 0 }
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.items().eq(other.items())
    }
}

impl Eq for Element {}
