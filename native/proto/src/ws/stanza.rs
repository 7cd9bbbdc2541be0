//! XMPP in WebSocket messages (RFC 7395): one stanza a message, and `<open/>` and `<close/>` for the stream.
//!
//! What a c2s sees and what a client sees are what `ejabberd_http_ws` shows them.

use crate::xmpp::{
    Element, ElementBuilder, Event, Limits, NS_CLIENT, NS_STREAM, StreamError, parse_element, write_element,
};

/// The namespace of `<open/>` and `<close/>`.
pub const NS_FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";

const STREAM: &[u8] = b"stream:stream";

/// A text message as the stream event that it stands for.
///
/// `<open/>` is a stream header, with the namespaces that the c2s expects of one first; `<close/>` the end of a stream; anything
/// else an element, its names and declarations as sent. Bounded by `limits.stanza_bytes`, as a stanza on a TCP
/// stream is.
pub fn parse_message(message: &[u8], limits: &Limits) -> Result<Event, StreamError> {
    if message.len() >= limits.stanza_bytes {
        return Err(StreamError::TOO_BIG);
    }
    let element = parse_element(message, limits)?;
    Ok(match element.name() {
        b"open" => Event::StreamStart(stream_header(&element)),
        b"close" => Event::StreamEnd("stream:stream".into()),
        _ => Event::Element(element),
    })
}

fn stream_header(open: &Element) -> Element {
    let mut header = ElementBuilder::default();
    header.start(STREAM);
    header.attr(b"xmlns:stream", NS_STREAM.as_bytes());
    header.attr(b"xmlns", NS_CLIENT.as_bytes());
    own_attrs(open.attrs()).for_each(|(name, value)| header.attr(name, value));
    header.end();
    header.finish().unwrap_or_default()
}

/// Appends the message for a stream header with these attributes: `<open/>`.
pub fn write_open<'a>(attrs: impl Iterator<Item = (&'a [u8], &'a [u8])>, out: &mut Vec<u8>) {
    let mut open = ElementBuilder::default();
    open.start(b"open");
    open.attr(b"xmlns", NS_FRAMING.as_bytes());
    own_attrs(attrs).for_each(|(name, value)| open.attr(name, value));
    open.end();
    write_element(&open.finish().unwrap_or_default(), out);
}

/// Appends the message for the end of a stream: `<close/>`.
pub fn write_close(out: &mut Vec<u8>) {
    out.extend_from_slice(b"<close xmlns='");
    out.extend_from_slice(NS_FRAMING.as_bytes());
    out.extend_from_slice(b"'/>");
}

/// Appends the message for an element. It declares its own namespaces, since no stream header does (RFC 7395
/// section 3.3.3): a `stream:` element the prefix's, another one that has no `xmlns` the client's.
pub fn write_stanza(element: &Element, out: &mut Vec<u8>) {
    let (name, uri) = if element.name().starts_with(b"stream:") {
        (&b"xmlns:stream"[..], NS_STREAM)
    } else if element.attr(b"xmlns").is_none_or(<[u8]>::is_empty) {
        (&b"xmlns"[..], NS_CLIENT)
    } else {
        return write_element(element, out);
    };
    if element.attr(name).is_some() {
        let declared = element.with_attrs(|mut attrs| {
            attrs.retain(|(key, _)| *key != name);
            attrs.insert(0, (name, uri.as_bytes()));
            attrs
        });
        return write_element(&declared, out);
    }
    // Nearly always: no copy of the element.
    let behind_name = out.len() + 1 + element.name().len();
    write_element(element, out);
    let declaration = [b" ", name, b"='", uri.as_bytes(), b"'"].concat();
    out.splice(behind_name..behind_name, declaration);
}

/// Without the declarations that belong to the framing.
fn own_attrs<'a>(
    attrs: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    attrs.filter(|(name, _)| !matches!(*name, b"xmlns" | b"xmlns:stream"))
}
