//! XML streams (RFC 6120 section 4 and 11): bytes to stanzas and back, equal to what ejabberd's `fxml_stream` and
//! `fxml` make of them.
//!
//! [`Parser`] is the receiving side of one stream, [`parse_element`] reads an element that comes whole, and `write_*`
//! encode. The tree in between is an [`Element`]. Knows nothing of stanzas' meaning, SASL or routing.

mod builder;
mod chars;
mod declaration;
mod document;
mod element;
mod error;
mod head;
mod lexer;
mod name_chars;
mod names;
mod node;
mod parser;
mod reader;
mod reference;
mod scope;
mod write;

pub use builder::{BuildError, ElementBuilder};
pub use document::parse_element;
pub use element::{Element, Item};
pub use error::{Condition, Limits, StreamError};
pub use parser::{Event, Parser};
pub use write::{
    element_to_vec, escape_attr, escape_text, write_element, write_end_tag, write_header, write_start_tag,
};

/// The namespace of `<stream:stream/>`, its features and errors.
pub const NS_STREAM: &str = "http://etherx.jabber.org/streams";
/// The default namespace of a client's stream.
pub const NS_CLIENT: &str = "jabber:client";

/// Without the white space (XML section 2.3) at the front.
pub(crate) fn trim_space_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}
