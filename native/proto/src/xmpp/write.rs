//! Elements as bytes, equal to what `fxml:element_to_binary/1` and `fxml:element_to_header/1` give but for carriage
//! returns in text.

use std::fmt;

use super::element::{Element, Item};

/// Appends an element, as `fxml:element_to_binary/1` gives it.
pub fn write_element(element: &Element, out: &mut Vec<u8>) {
    let mut open: Vec<&[u8]> = Vec::new();
    let mut items = element.items().peekable();
    while let Some(item) = items.next() {
        match item {
            Item::Start(name) => {
                out.push(b'<');
                out.extend_from_slice(name);
                while let Some(Item::Attr(name, value)) = items.next_if(|item| matches!(item, Item::Attr(..)))
                {
                    write_attr(name, value, out);
                }
                if items.next_if_eq(&Item::End).is_some() {
                    out.extend_from_slice(b"/>");
                } else {
                    open.push(name);
                    out.push(b'>');
                }
            }
            Item::Text(text) => escape_text(text, out),
            Item::End => write_end_tag(open.pop().unwrap_or_default(), out),
            // Attributes follow their start, where they are taken.
            Item::Attr(..) => {}
        }
    }
}

/// An element, as `fxml:element_to_binary/1` gives it.
pub fn element_to_vec(element: &Element) -> Vec<u8> {
    let mut out = Vec::with_capacity(element.node_count() * 16);
    write_element(element, &mut out);
    out
}

/// Appends a stream header: XML declaration and start tag, as `fxml:element_to_header/1` gives it.
pub fn write_header<'a>(
    name: &[u8],
    attrs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"<?xml version='1.0'?>");
    write_start_tag(name, attrs, out);
}

/// Appends a start tag that is not closed.
pub fn write_start_tag<'a>(
    name: &[u8],
    attrs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    out: &mut Vec<u8>,
) {
    out.push(b'<');
    out.extend_from_slice(name);
    for (name, value) in attrs {
        write_attr(name, value, out);
    }
    out.push(b'>');
}

/// Appends an end tag: a stream's trailer is `write_end_tag(b"stream:stream", ..)`.
pub fn write_end_tag(name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"</");
    out.extend_from_slice(name);
    out.push(b'>');
}

fn write_attr(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name);
    out.extend_from_slice(b"='");
    escape_attr(value, out);
    out.push(b'\'');
}

/// Appends character data with the five predefined entities, as `fxml:crypt/1` gives it; but a carriage return goes as
/// a reference, since whoever reads it would take it for a line feed (XML section 2.11).
pub fn escape_text(text: &[u8], out: &mut Vec<u8>) {
    escape(text, out, |byte| match byte {
        b'&' => Some(b"&amp;"),
        b'<' => Some(b"&lt;"),
        b'>' => Some(b"&gt;"),
        b'"' => Some(b"&quot;"),
        b'\'' => Some(b"&apos;"),
        b'\r' => Some(b"&#xD;"),
        _ => None,
    });
}

/// Appends an attribute value; white space that a parser would turn into spaces goes as references.
pub fn escape_attr(value: &[u8], out: &mut Vec<u8>) {
    escape(value, out, |byte| match byte {
        b'&' => Some(b"&amp;"),
        b'<' => Some(b"&lt;"),
        b'"' => Some(b"&quot;"),
        b'\'' => Some(b"&apos;"),
        b'\t' => Some(b"&#x9;"),
        b'\n' => Some(b"&#xA;"),
        b'\r' => Some(b"&#xD;"),
        _ => None,
    });
}

fn escape(bytes: &[u8], out: &mut Vec<u8>, entity: impl Fn(u8) -> Option<&'static [u8]>) {
    let mut copied = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if let Some(entity) = entity(*byte) {
            out.extend_from_slice(&bytes[copied..index]);
            out.extend_from_slice(entity);
            copied = index + 1;
        }
    }
    out.extend_from_slice(&bytes[copied..]);
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&element_to_vec(self)))
    }
}
