//! Any bytes on a WebSocket whose owner echoes text.
//!
//! Held to be true: whole, byte by byte or cut anyhow, the same events, answers and end; nothing follows the end; what
//! is sent are whole frames as a server's have to be, a close frame the last of them; an idle connection holds no
//! heap memory, and another no more than a multiple of the largest message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::{heap_bytes, pieces, within_heap, ws};
use megaphone_proto::ws::{Event, Limits, Violation, WebSocket};

/// A message grows by doubling, and its last event is kept beside it.
const HEAP_FACTOR: usize = 4;
/// A half received frame, and a control frame.
const HEAP_BASE: usize = 1024;

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    events: Vec<Event>,
    violation: Option<Violation>,
    sent: Vec<u8>,
    is_idle: bool,
}

fuzz_target!(|input: (u8, [u8; 4], &[u8])| {
    let (limits, sizes, bytes) = input;
    let limits = match limits % 3 {
        0 => Limits { frame_bytes: 5000, message_bytes: 5000 },
        1 => Limits { frame_bytes: 20, message_bytes: 30 },
        _ => Limits { frame_bytes: 200, message_bytes: 150 },
    };
    let whole = run([bytes].into_iter(), &limits);
    assert_eq!(whole, run(bytes.chunks(1), &limits));
    assert_eq!(whole, run(pieces(bytes, sizes), &limits));
    let most = HEAP_BASE + HEAP_FACTOR * limits.message_bytes as usize;
    within_heap(most, || check_heap(pieces(bytes, sizes), &limits));
    check_sent(&whole);
});

fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: &Limits) -> Outcome {
    let mut socket = WebSocket::new();
    let mut outcome = Outcome::default();
    for piece in pieces {
        let mut input = piece;
        loop {
            let was_closed = socket.is_closed();
            match socket.handle_bytes(&mut input, limits, &mut outcome.sent) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    assert_eq!(socket.is_closed(), matches!(event, Event::Closed(_)));
                    if let Event::Text(text) = &event {
                        socket.send_text(text, &mut outcome.sent);
                    }
                    outcome.events.push(event);
                }
                Err(violation) => {
                    assert!(socket.is_closed());
                    outcome.violation = Some(violation);
                }
            }
            assert!(!was_closed);
        }
        assert!(input.is_empty());
    }
    outcome.is_idle = socket.is_idle();
    outcome
}

fn check_heap<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: &Limits) {
    let before = heap_bytes();
    let mut socket = WebSocket::new();
    for piece in pieces {
        let mut input = piece;
        // What is sent is the caller's to bound.
        while !matches!(socket.handle_bytes(&mut input, limits, &mut Vec::new()), Ok(None)) {}
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
            // The payload is not in the event.
            Event::Ping => expected.push((ws::PONG, Vec::new())),
            Event::Closed(code) => {
                expected.push((ws::CLOSE, code.iter().flat_map(|code| code.to_be_bytes()).collect()))
            }
            Event::Binary(_) | Event::Pong(_) => {}
        }
    }
    if let Some(violation) = outcome.violation {
        expected.push((ws::CLOSE, violation.code.to_be_bytes().to_vec()));
    }
    let sent = ws::server_frames(&outcome.sent);
    assert_eq!(sent.len(), expected.len());
    for ((opcode, payload), (expected_opcode, expected_payload)) in sent.into_iter().zip(expected) {
        assert_eq!(opcode, expected_opcode);
        assert!(opcode == ws::PONG || payload == expected_payload);
    }
}
