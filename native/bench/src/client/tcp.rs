//! XMPP streams over TCP (RFC 6120): stanzas one after the other, cut by the scanner.

use crate::client::session::Reply;

/// Writes what the session wants sent.
pub(crate) fn write(reply: &Reply, domain: &str, element: &[u8], out: &mut Vec<u8>) {
    match reply {
        Reply::Nothing => {}
        Reply::Open => out.extend_from_slice(
            format!(
                "<?xml version='1.0'?><stream:stream to='{domain}' xmlns='jabber:client' \
                 xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
            )
            .as_bytes(),
        ),
        Reply::Element => out.extend_from_slice(element),
        Reply::Close => out.extend_from_slice(b"</stream:stream>"),
    }
}
