//! Any bytes as the body of a BOSH request.
//!
//! Held to be true: reading takes no more heap memory than a multiple of the body; what was read is within the XEP's
//! bounds; a session that it creates answers in XML, tells the c2s of the same host and stanzas, and has a content type
//! that is one header field.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::within_heap;
use megaphone_fuzz::xml::WIDE;
use megaphone_proto::bosh::{Condition, Config, Request, RequestError, Session, terminal_body};
use megaphone_proto::time::Time;
use megaphone_proto::xmpp::{self, Limits, parse_element};

/// As many bytes of tree, parser and copies of children come of one byte of a body at most.
const HEAP_FACTOR: usize = 64;
/// A parser, and what is bounded by other limits.
const HEAP_BASE: usize = 24 << 10;
const TICKET: u64 = 7;

fuzz_target!(|input: (u8, &[u8])| {
    let (limits, bytes) = input;
    let limits = match limits % 2 {
        0 => Limits { stanza_bytes: 2000, token_bytes: 4096, ..Limits::default() },
        _ => Limits {
            stanza_bytes: 300,
            depth: 3,
            attributes: 12,
            namespaces: 4,
            token_bytes: 50,
            ..Limits::default()
        },
    };
    // Bytes over the bound are not read, but by whoever calls.
    let bytes = &bytes[..bytes.len().min(limits.stanza_bytes)];
    let most = HEAP_BASE + 2 * limits.token_bytes + HEAP_FACTOR * limits.stanza_bytes;
    match within_heap(most, || Request::parse(bytes, &limits)) {
        Ok(request) => {
            check_bounds(&request);
            check_session(request);
        }
        Err(RequestError::Attribute(name)) => {
            assert!(
                String::from_utf8_lossy(bytes).contains(name.trim_start_matches("xmpp:")) || name == "rid"
            );
        }
        Err(RequestError::Xml(_) | RequestError::NotABody) => {}
    }
});

fn check_bounds(request: &Request) {
    assert!((1..1 << 53).contains(&request.rid));
    assert!(request.to.as_deref() != Some(""));
    for text in [&request.sid, &request.to, &request.xmpp_version, &request.lang].into_iter().flatten() {
        assert!(!text.contains('\0'));
    }
}

fn check_session(request: Request) {
    let (host, payload) = (request.to.clone(), request.payload.clone());
    let mut session = match Session::create(request, "s1d", TICKET, Arc::new(Config::default()), Time::START)
    {
        Ok(session) => session,
        Err(condition) => {
            assert_eq!((condition, host), (Condition::ImproperAddressing, None));
            assert!(parse_element(&terminal_body(condition), &WIDE).is_ok());
            return;
        }
    };
    let answer = session.poll_answer().unwrap_or_else(|| {
        session.handle_timeout(session.poll_timeout().expect("an open session"));
        session.poll_answer().expect("an answer in time")
    });
    assert!(answer.ticket == TICKET && session.poll_answer().is_none() && session.closed().is_none());
    let is_field = |byte: u8| matches!(byte, b' '..=b'~');
    assert!(answer.content_type.is_none_or(|value| !value.is_empty() && value.bytes().all(is_field)));
    let body = parse_element(&answer.body, &WIDE).expect("an answer in XML");
    assert_eq!(body.attr(b"sid"), Some(&b"s1d"[..]));
    assert_eq!(body.attr(b"from"), host.as_deref().map(str::as_bytes));
    let Some(xmpp::Event::StreamStart(header)) = session.poll_event() else { panic!("no header") };
    assert_eq!(header.attr(b"to"), host.as_deref().map(str::as_bytes));
    for stanza in payload {
        assert_eq!(session.poll_event(), Some(xmpp::Event::Element(stanza)));
    }
    assert!(!session.has_events());
}
