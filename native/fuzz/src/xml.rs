//! What holds of XML elements wherever they came from.

use megaphone_proto::xmpp::{Element, ElementBuilder, Item, Limits};

/// The namespace that no element may declare to be its own.
const NS_XML: &[u8] = b"http://www.w3.org/XML/1998/namespace";

/// Bounds that nothing read back exceeds.
pub const WIDE: Limits = Limits {
    stanza_bytes: usize::MAX,
    nodes: usize::MAX,
    depth: usize::MAX,
    attributes: usize::MAX,
    namespaces: usize::MAX,
    namespace_bytes: usize::MAX,
    token_bytes: 1 << 14,
};

/// Whether an element can be read back once it is written. One that was sent as `xml:a` shows that prefix's
/// namespace as its own, as from `fxml_stream`, and that may not be declared so.
pub fn is_readable(element: &Element) -> bool {
    !element.items().any(|item| item == Item::Attr(b"xmlns", NS_XML))
}

/// The element as it is when it is read back: `xmlns=''` does not show.
pub fn as_read_back(element: &Element) -> Element {
    rebuild(element.items().filter(|item| *item != Item::Attr(b"xmlns", b"")))
}

/// Without the declarations that [`write_stanza`](megaphone_proto::ws::stanza::write_stanza) sets.
pub fn without_declarations(element: &Element) -> Element {
    rebuild(element.items().filter(|item| !matches!(item, Item::Attr(b"xmlns" | b"xmlns:stream", _))))
}

fn rebuild<'a>(items: impl Iterator<Item = Item<'a>>) -> Element {
    let mut builder = ElementBuilder::default();
    items.for_each(|item| builder.push(item));
    builder.finish().expect("the order of an element's items")
}
