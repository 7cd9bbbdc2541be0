//! Any bytes as a WebSocket message of XMPP.
//!
//! Held to be true: a message over the bound is refused unread; reading takes no more heap memory than a multiple of
//! the message; a stanza written as an answer reads back the same, with its namespace declared; a header written as
//! `<open/>` reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::within_heap;
use megaphone_fuzz::xml::{WIDE, as_read_back, without_declarations};
use megaphone_proto::ws::stanza::{parse_message, write_open, write_stanza};
use megaphone_proto::xmpp::{Element, Event, Limits, NS_CLIENT, NS_STREAM, StreamError};

/// As many bytes of tree and parser come of one byte of a message at most.
const HEAP_FACTOR: usize = 32;
/// A parser, and what is bounded by other limits.
const HEAP_BASE: usize = 24 << 10;

fuzz_target!(|input: (u8, &[u8])| {
    let (limits, message) = input;
    let limits = limits_of(limits);
    let most = HEAP_BASE + 2 * limits.token_bytes + HEAP_FACTOR * limits.stanza_bytes;
    let event = within_heap(most, || parse_message(message, &limits));
    if message.len() >= limits.stanza_bytes {
        assert_eq!(event, Err(StreamError::TOO_BIG));
        return;
    }
    match event {
        Ok(Event::StreamStart(header)) => check_header(&header),
        Ok(Event::Element(element)) => check_stanza(&element),
        Ok(Event::StreamEnd(name)) => assert_eq!(&*name, "stream:stream"),
        Err(error) => assert_ne!(error, StreamError::TOO_BIG),
    }
});

fn limits_of(choice: u8) -> Limits {
    let wide = Limits { stanza_bytes: 2000, token_bytes: 4096, ..Limits::default() };
    match choice % 3 {
        0 => wide,
        1 => Limits { stanza_bytes: 100, ..wide },
        _ => Limits {
            stanza_bytes: 300,
            depth: 3,
            attributes: 3,
            namespaces: 4,
            token_bytes: 24,
            ..Limits::default()
        },
    }
}

fn check_stanza(element: &Element) {
    let mut message = Vec::new();
    write_stanza(element, &mut message);
    let Ok(Event::Element(again)) = parse_message(&message, &WIDE) else {
        panic!("no stanza: {}", message.escape_ascii());
    };
    assert_eq!(without_declarations(&again), without_declarations(element));
    let (name, uri) = match element.attr(b"xmlns") {
        _ if element.name().starts_with(b"stream:") => (&b"xmlns:stream"[..], NS_STREAM.as_bytes()),
        own => (&b"xmlns"[..], own.unwrap_or(NS_CLIENT.as_bytes())),
    };
    assert_eq!(again.attr(name), Some(uri));
    assert_eq!(again.attrs().filter(|(key, _)| *key == name).count(), 1);
}

fn check_header(header: &Element) {
    // Such attributes lose their declaration to the framing's; no c2s sends any.
    if header.attrs().any(|(name, _)| name.starts_with(b"stream:")) {
        return;
    }
    let mut message = Vec::new();
    write_open(header.attrs(), &mut message);
    let again = parse_message(&message, &WIDE);
    assert_eq!(again, Ok(Event::StreamStart(as_read_back(header))));
}
