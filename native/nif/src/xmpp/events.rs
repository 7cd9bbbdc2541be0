//! What the owner of an XMPP session is told, in the messages that `xmpp_stream_in` knows from `fxml_stream`.

use crate::terms::binary;
use crate::{atoms, xml};
use megaphone_core::XmppEvent;
use megaphone_core::stream::{Condition, StreamError};
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, Term};

/// The message.
pub(crate) fn message<'a>(env: Env<'a>, event: &XmppEvent<'_>) -> Term<'a> {
    match event {
        XmppEvent::Stream(event) => (atoms::dollar_gen_event(), xml::stream_event(env, event)).encode(env),
        XmppEvent::Error(error) => stream_error(env, error),
        XmppEvent::Undelivered(elements) => {
            let elements: Vec<Term<'a>> = elements.iter().map(|bytes| binary(env, bytes)).collect();
            (atoms::dollar_undelivered(), elements).encode(env)
        }
        XmppEvent::Closed => (atoms::dollar_gen_event(), atoms::closed()).encode(env),
    }
}

/// `xmpp_stream_in` takes two conditions from a parser: policy-violation by this one text, and not-well-formed with any
/// other. The rest is told in a message of our own.
fn stream_error<'a>(env: Env<'a>, error: &StreamError) -> Term<'a> {
    let text = binary(env, error.text.as_bytes());
    let as_parsed =
        |reason: Term<'a>| (atoms::dollar_gen_event(), (atoms::xmlstreamerror(), reason)).encode(env);
    match error.condition {
        _ if *error == StreamError::TOO_BIG => as_parsed(text),
        // A parser's own number, which nobody looks at.
        Condition::NotWellFormed => as_parsed((0, text).encode(env)),
        other => {
            // Of four names.
            let condition = Atom::from_str(env, other.name()).unwrap_or_else(|_| atoms::undefined());
            (atoms::dollar_stream_error(), condition, text).encode(env)
        }
    }
}
