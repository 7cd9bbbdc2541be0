//! A whole stream that says nothing but what is wrong (RFC 6120 section 4.9.1.2).

use super::{Config, Framing, Outgoing, encode};
use crate::xmpp::{Element, ElementBuilder, NS_CLIENT, NS_STREAM};
use std::hash::{BuildHasher, RandomState};

const NS_STREAM_ERRORS: &[u8] = b"urn:ietf:params:xml:ns:xmpp-streams";

/// Appends header, error and trailer.
pub(super) fn write(framing: Framing, config: &Config, condition: &str, text: &str, out: &mut Vec<u8>) {
    encode(framing, Outgoing::Header(&header(config)), out);
    encode(framing, Outgoing::Element(&error(config, condition, text)), out);
    encode(framing, Outgoing::End(b"stream:stream"), out);
}

fn header(config: &Config) -> Element {
    let mut header = ElementBuilder::default();
    header.start(b"stream:stream");
    header.attr(b"id", id().as_bytes());
    header.attr(b"version", b"1.0");
    header.attr(b"xml:lang", config.lang.as_bytes());
    header.attr(b"xmlns:stream", NS_STREAM.as_bytes());
    header.attr(b"from", config.from.as_bytes());
    header.attr(b"xmlns", NS_CLIENT.as_bytes());
    header.end();
    // Balanced by construction.
    header.finish().unwrap_or_default()
}

fn error(config: &Config, condition: &str, text: &str) -> Element {
    let mut error = ElementBuilder::default();
    error.start(b"stream:error");
    error.start(condition.as_bytes());
    error.attr(b"xmlns", NS_STREAM_ERRORS);
    error.end();
    error.start(b"text");
    error.attr(b"xml:lang", config.lang.as_bytes());
    error.attr(b"xmlns", NS_STREAM_ERRORS);
    error.text(text.as_bytes());
    error.end();
    error.end();
    error.finish().unwrap_or_default()
}

/// Unique and not to be guessed (RFC 6120 section 4.7.3), although nothing is ever done with it. The one place where this crate
/// takes a random number by itself: the keys of the standard library's hash maps, new ones each time.
fn id() -> String {
    RandomState::new().hash_one(0_u8).to_string()
}
