//! What an owner sends, as bytes.

use super::{Framing, negotiation};
use crate::ws::{stanza, write_text_with};
use crate::xmpp::{Element, write_element, write_end_tag, write_header, write_start_tag};

/// What an owner sends.
#[derive(Clone, Copy, Debug)]
pub enum Outgoing<'a> {
    /// A stream header: an element's name and attributes.
    Header(&'a Element),
    /// A stanza or other first-level element.
    Element(&'a Element),
    /// The end of the stream, with the name of its header.
    End(&'a [u8]),
    /// Bytes between elements; white space in practice. Nothing on transports whose messages are elements.
    Raw(&'a [u8]),
}

/// What was encoded, to be told to the stream once it is queued: [`Stream::sent`](super::Stream::sent).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A stream header.
    Header,
    /// A stanza or other element.
    Element,
    /// An element that only a client gets which has logged in: `<success/>` of SASL (RFC 6120 section 6.4.6) or of SASL2
    /// (XEP-0388), and, for logins without either (XEP-0078), a message or presence.
    LoggedIn,
    /// The end of the stream.
    End,
    /// Bytes between elements.
    Raw,
}

/// Appends what an owner sends, and tells what it was. Needs no stream, and so no lock on one.
pub fn encode(framing: Framing, outgoing: Outgoing<'_>, out: &mut Vec<u8>) -> Sent {
    match framing {
        Framing::Tcp => write_piece(outgoing, out),
        Framing::WebSocket => write_message(outgoing, out),
        Framing::LegacyWebSocket => write_text_with(out, |out| write_legacy(outgoing, out)),
    }
    match outgoing {
        Outgoing::Header(_) => Sent::Header,
        Outgoing::Element(element) if negotiation::shows_login(element) => Sent::LoggedIn,
        Outgoing::Element(_) => Sent::Element,
        Outgoing::End(_) => Sent::End,
        Outgoing::Raw(_) => Sent::Raw,
    }
}

/// A piece of an XML stream.
fn write_piece(outgoing: Outgoing<'_>, out: &mut Vec<u8>) {
    match outgoing {
        Outgoing::Header(header) => write_header(header.name(), header.attrs(), out),
        Outgoing::Element(element) => write_element(element, out),
        Outgoing::End(name) => write_end_tag(name, out),
        Outgoing::Raw(bytes) => out.extend_from_slice(bytes),
    }
}

/// A message with a piece of an XML stream. As from `ejabberd_http_ws`, a header has no XML declaration.
fn write_legacy(outgoing: Outgoing<'_>, out: &mut Vec<u8>) {
    match outgoing {
        Outgoing::Header(header) => write_start_tag(header.name(), header.attrs(), out),
        Outgoing::Element(_) | Outgoing::End(_) | Outgoing::Raw(_) => write_piece(outgoing, out),
    }
}

/// A message of RFC 7395.
fn write_message(outgoing: Outgoing<'_>, out: &mut Vec<u8>) {
    match outgoing {
        Outgoing::Header(header) => write_text_with(out, |out| stanza::write_open(header.attrs(), out)),
        Outgoing::Element(element) => write_text_with(out, |out| stanza::write_stanza(element, out)),
        Outgoing::End(_) => write_text_with(out, stanza::write_close),
        Outgoing::Raw(_) => {}
    }
}
