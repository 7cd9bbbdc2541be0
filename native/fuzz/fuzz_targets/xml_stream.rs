//! Any bytes on an XML stream.
//!
//! Held to be true: whole, byte by byte or cut anyhow, the same events and the same error end it; a header comes first
//! and once; nothing follows the end or an error; an idle stream holds what it says, and a busy one no more than a
//! multiple of the largest stanza; an element that is written behind its header reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::xml::{WIDE, as_read_back, is_readable};
use megaphone_fuzz::{heap_bytes, pieces, within_heap};
use megaphone_proto::xmpp::{
    Element, Event, Limits, Parser, StreamError, parse_element, write_element, write_end_tag, write_start_tag,
};

/// As many bytes of tree and parser come of one byte of a stanza at most.
const HEAP_FACTOR: usize = 24;
/// A parser, and what is bounded by other limits.
const HEAP_BASE: usize = 12 << 10;

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    events: Vec<Event>,
    error: Option<StreamError>,
    is_idle: bool,
}

fuzz_target!(|input: (u8, [u8; 4], &[u8])| {
    let (limits, sizes, bytes) = input;
    let limits = limits_of(limits);
    let whole = run([bytes].into_iter(), &limits);
    assert_eq!(whole, run(bytes.chunks(1), &limits));
    assert_eq!(whole, run(pieces(bytes, sizes), &limits));
    let most = HEAP_BASE + HEAP_FACTOR * limits.stanza_bytes;
    within_heap(most, || check_heap(pieces(bytes, sizes), &limits));
    if let Some((Event::StreamStart(header), rest)) = whole.events.split_first() {
        rest.iter().for_each(|event| check_event(header, event));
    }
});

fn limits_of(choice: u8) -> Limits {
    let wide = Limits { stanza_bytes: 2000, token_bytes: 4096, ..Limits::default() };
    match choice % 4 {
        0 => wide,
        1 => Limits { stanza_bytes: 100, nodes: 12, namespace_bytes: 60, ..wide },
        2 => Limits {
            stanza_bytes: 300,
            depth: 3,
            attributes: 3,
            namespaces: 4,
            token_bytes: 24,
            ..Limits::default()
        },
        _ => Limits { stanza_bytes: 1, ..wide },
    }
}

fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: &Limits) -> Outcome {
    let mut stream = Parser::new();
    let mut outcome = Outcome::default();
    for piece in pieces {
        let mut input = piece;
        loop {
            let was_closed = stream.is_closed();
            match stream.handle_bytes(&mut input, limits) {
                Ok(None) => break,
                result => {
                    assert!(!was_closed);
                    outcome.take(result, &stream);
                }
            }
        }
        assert!(input.is_empty());
    }
    outcome.is_idle = stream.is_idle();
    outcome
}

impl Outcome {
    fn take(&mut self, result: Result<Option<Event>, StreamError>, stream: &Parser) {
        let is_end = matches!(result, Ok(Some(Event::StreamEnd(_))) | Err(_));
        assert_eq!(stream.is_closed(), is_end);
        match result {
            Ok(event) => self.events.extend(event),
            Err(error) => self.error = Some(error),
        }
        if let Some(last) = self.events.last() {
            assert_eq!(matches!(last, Event::StreamStart(_)), self.events.len() == 1);
        }
    }
}

fn check_heap<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: &Limits) {
    let before = heap_bytes();
    let mut stream = Parser::new();
    for piece in pieces {
        let mut input = piece;
        // An error is final: the next call says so.
        while !matches!(stream.handle_bytes(&mut input, limits), Ok(None)) {}
        if stream.is_idle() {
            assert_eq!(heap_bytes() - before, stream.idle_heap_bytes());
        }
    }
}

fn check_event(header: &Element, event: &Event) {
    match event {
        Event::StreamEnd(name) => assert_eq!(name.as_bytes(), header.name()),
        Event::Element(element) if is_readable(element) => {
            let mut bytes = Vec::new();
            write_start_tag(header.name(), header.attrs(), &mut bytes);
            write_element(element, &mut bytes);
            write_end_tag(header.name(), &mut bytes);
            let stream = parse_element(&bytes, &WIDE).expect("written by us");
            assert_eq!(stream.child_elements(), [as_read_back(element)]);
        }
        Event::Element(_) => {}
        Event::StreamStart(_) => unreachable!("checked while running"),
    }
}
