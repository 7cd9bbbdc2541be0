//! What the owner of an XMPP session is told, in the terms that `xmpp_stream_in` knows from `fxml_stream`, or ours.

use crate::terms::binary;
use crate::{atoms, xml};
use megaphone_core::XmppEvent;
use megaphone_core::xmpp::{Condition, StreamError};
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, Term};

/// The event.
pub(crate) fn term<'a>(env: Env<'a>, event: &XmppEvent) -> Term<'a> {
    match event {
        XmppEvent::Stream(event) => xml::stream_event(env, event),
        XmppEvent::Error(error) => stream_error(env, error),
        XmppEvent::Undelivered(elements) => {
            let elements: Vec<Term<'a>> = elements.iter().map(|bytes| binary(env, bytes)).collect();
            (atoms::dollar_undelivered(), elements).encode(env)
        }
        XmppEvent::Closed => atoms::closed().encode(env),
    }
}

/// `xmpp_stream_in` takes two conditions from a parser: policy-violation by this one text, and not-well-formed with any
/// other. The rest is told in a term of our own.
fn stream_error<'a>(env: Env<'a>, error: &StreamError) -> Term<'a> {
    let text = binary(env, error.text.as_bytes());
    match error.condition {
        _ if *error == StreamError::TOO_BIG => (atoms::xmlstreamerror(), text).encode(env),
        // A parser's own number, which nobody looks at.
        Condition::NotWellFormed => (atoms::xmlstreamerror(), (0, text)).encode(env),
        other => {
            // Of four names.
            let condition = Atom::from_str(env, other.name()).unwrap_or_else(|_| atoms::undefined());
            (atoms::dollar_stream_error(), condition, text).encode(env)
        }
    }
}
