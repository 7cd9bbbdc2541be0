//! What elements mean for the stream that they are on.

use crate::xmpp::Element;

/// Whether what follows an element may belong to another stream: SASL (RFC 6120 section 6), STARTTLS (section 5) and
/// compression (XEP-0138).
pub(super) fn is_barrier(element: &Element) -> bool {
    let is_one = |uri: &[u8]| {
        matches!(
            uri,
            b"urn:ietf:params:xml:ns:xmpp-sasl"
                | b"urn:ietf:params:xml:ns:xmpp-tls"
                | b"http://jabber.org/protocol/compress"
        )
    };
    element.attr(b"xmlns").is_some_and(is_one)
}

/// Whether only a client gets an element that has logged in.
pub(super) fn shows_login(element: &Element) -> bool {
    let is_sasl = |uri: &[u8]| matches!(uri, b"urn:ietf:params:xml:ns:xmpp-sasl" | b"urn:xmpp:sasl:2");
    match element.name() {
        b"success" => element.attr(b"xmlns").is_some_and(is_sasl),
        b"message" | b"presence" => element.attr(b"type") != Some(b"error"),
        _ => false,
    }
}
