//! Any bytes on a WebSocket whose owner echoes text.
//!
//! Held to be true: whole, byte by byte or cut anyhow, the same events, answers and end (but of pongs that follow each
//! other the last counts); nothing follows the end; what is sent are whole frames as a server's have to be, a close
//! frame the last of them; an idle connection holds no heap memory, and another no more than a multiple of the
//! largest message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::{heap_bytes, pieces, within_heap, ws};
use megaphone_proto::ws::{Event, WebSocket};

/// A message grows by doubling, and its last event is kept beside it.
const HEAP_FACTOR: usize = 4;
/// A half received frame, and a control frame.
const HEAP_BASE: usize = 1024;

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    events: Vec<Event>,
    frames: Vec<(u8, Vec<u8>)>,
    is_idle: bool,
}

fuzz_target!(|input: (u8, [u8; 4], &[u8])| {
    let (limit, sizes, bytes) = input;
    let max_message = [5000, 30, 150][usize::from(limit % 3)];
    let whole = run([bytes].into_iter(), max_message);
    assert_eq!(whole, run(bytes.chunks(1), max_message));
    assert_eq!(whole, run(pieces(bytes, sizes), max_message));
    let most = HEAP_BASE + HEAP_FACTOR * max_message as usize;
    within_heap(most, || check_heap(pieces(bytes, sizes), max_message));
    check_sent(&whole);
});

fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>, max_message: u32) -> Outcome {
    let mut socket = WebSocket::new(max_message);
    let mut outcome = Outcome::default();
    let mut sent = Vec::new();
    for piece in pieces {
        let mut input = piece;
        while !input.is_empty() {
            let was_closed = socket.is_closed();
            socket.handle_input(&mut input);
            socket.poll_transmit(&mut sent);
            let Some(event) = socket.poll_event() else { break };
            assert!(!was_closed);
            match &event {
                Event::Text(text) => socket.send_text(text, &mut sent),
                Event::Binary(_) => {}
                Event::Closed(_) => assert!(socket.is_closed()),
                Event::Failed(violation) => socket.close(violation.code),
            }
            socket.poll_transmit(&mut sent);
            outcome.events.push(event);
        }
        assert!(input.is_empty());
    }
    for (opcode, payload) in ws::server_frames(&sent) {
        if opcode == ws::PONG {
            outcome.frames.pop_if(|(last, _)| *last == ws::PONG);
        }
        outcome.frames.push((opcode, payload.to_vec()));
    }
    outcome.is_idle = socket.is_idle();
    outcome
}

fn check_heap<'a>(pieces: impl Iterator<Item = &'a [u8]>, max_message: u32) {
    let before = heap_bytes();
    let mut socket = WebSocket::new(max_message);
    for piece in pieces {
        let mut input = piece;
        while !input.is_empty() {
            socket.handle_input(&mut input);
            socket.poll_event();
            // What is sent is the caller's to bound.
            socket.poll_transmit(&mut Vec::new());
        }
        if socket.is_idle() {
            assert_eq!(heap_bytes(), before);
        }
    }
}

fn check_sent(outcome: &Outcome) {
    let mut expected: Vec<(u8, Vec<u8>)> = Vec::new();
    for event in &outcome.events {
        match event {
            Event::Text(text) => {
                assert!(std::str::from_utf8(text).is_ok());
                expected.push((ws::TEXT, text.clone()));
            }
            Event::Binary(_) => {}
            Event::Closed(code) => {
                expected.push((ws::CLOSE, code.iter().flat_map(|code| code.to_be_bytes()).collect()));
            }
            Event::Failed(violation) => expected.push((ws::CLOSE, violation.code.to_be_bytes().to_vec())),
        }
    }
    let others = outcome.frames.iter().filter(|(opcode, _)| *opcode != ws::PONG);
    assert!(others.eq(&expected));
    let is_closed = matches!(outcome.events.last(), Some(Event::Closed(_) | Event::Failed(_)));
    assert_eq!(outcome.frames.last().is_some_and(|(opcode, _)| *opcode == ws::CLOSE), is_closed);
}
