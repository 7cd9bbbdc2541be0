//! The corpus, and arbitrary input, against an echo.

use megaphone_proto::ws::{Event, Limits, Opcode, Violation, WebSocket, write_frame};
use proptest::prelude::*;

use crate::client::{Answer, BINARY, CLOSE, FIN, PING, TEXT, answers, frame};
use crate::corpus::{LIMITS, all_cases};

/// Echoes messages; what the client reads, and how the connection ended.
fn echo(chunks: &[&[u8]], limits: &Limits) -> (Vec<Answer>, Option<Result<Option<u16>, Violation>>) {
    let mut socket = WebSocket::new();
    let mut out = Vec::new();
    let mut end = None;
    for chunk in chunks {
        let mut input = *chunk;
        loop {
            match socket.handle_bytes(&mut input, limits, &mut out) {
                Ok(Some(Event::Text(text))) => socket.send_text(&text, &mut out),
                Ok(Some(Event::Binary(bytes))) => write_frame(Opcode::Binary, &bytes, &mut out),
                Ok(Some(Event::Ping | Event::Pong(_))) => {}
                Ok(Some(Event::Closed(code))) => end = Some(Ok(code)),
                Ok(None) => break,
                Err(violation) => end = Some(Err(violation)),
            }
        }
        assert!(input.is_empty());
    }
    assert_eq!(socket.is_closed(), end.is_some());
    (answers(&out), end)
}

#[test]
fn every_case_of_the_corpus_is_answered_as_rfc_6455_says() {
    let cases = all_cases();
    let mut names: Vec<_> = cases.iter().map(|case| &case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    assert!(cases.len() >= 200, "{}", cases.len());
    for case in &cases {
        let (whole, end) = echo(&[&case.input], &LIMITS);
        assert_eq!(whole, case.expected, "{}", case.name);
        for size in [1, 2, 3, 7, 997] {
            if case.input.len() / size < 10_000 {
                let chunks: Vec<_> = case.input.chunks(size).collect();
                assert_eq!(echo(&chunks, &LIMITS), (whole.clone(), end), "{} in {size}s", case.name);
            }
        }
    }
}

#[test]
fn an_idle_connection_holds_sixteen_bytes() {
    assert_eq!(size_of::<WebSocket>(), 16);
    let mut socket = WebSocket::new();
    let mut out = Vec::new();
    let bytes =
        [frame(FIN | TEXT, b"hello"), frame(TEXT, b"frag"), frame(FIN | PING, b"p"), frame(FIN, b"ment")];
    let mut idle = Vec::new();
    for bytes in bytes {
        let mut input = &bytes[..];
        while socket.handle_bytes(&mut input, &LIMITS, &mut out).unwrap().is_some() {}
        idle.push(socket.is_idle());
    }
    assert_eq!(idle, [true, false, false, true]);
}

#[test]
fn closing_waits_for_the_client_and_drops_what_it_still_says() {
    let mut socket = WebSocket::new();
    let mut out = Vec::new();
    socket.close(1001, &mut out);
    socket.close(1000, &mut out);
    socket.send_text(b"too late", &mut out);
    let bytes =
        [frame(FIN | TEXT, b"still here"), frame(FIN | PING, b""), frame(FIN | CLOSE, &[3, 232])].concat();
    let mut input = &bytes[..];
    let mut events = Vec::new();
    while let Some(event) = socket.handle_bytes(&mut input, &LIMITS, &mut out).unwrap() {
        events.push(event);
    }
    assert_eq!(events, [Event::Ping, Event::Closed(Some(1000))]);
    assert_eq!(answers(&out), [Answer::Close(Some(1001))]);
}

#[test]
fn pings_of_the_server_are_cut_off_at_125_bytes() {
    let mut out = Vec::new();
    WebSocket::new().send_ping(&[7; 300], &mut out);
    assert_eq!(answers(&out), [Answer::Ping(vec![7; 125])]);
}

proptest! {
    #[test]
    fn any_split_of_any_frames_gives_the_same_answers(
        frames in prop::collection::vec(
            (prop::sample::select(vec![0x80_u8, 0x81, 0x82, 0x89, 0x8A, 0x01, 0x02, 0x00, 0x88, 0xC1]),
             prop_oneof![
                 prop::collection::vec(any::<u8>(), 0..200),
                 "[a-z\u{e9}\u{20ac}]{0,70}".prop_map(String::into_bytes),
             ]),
            0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let chunks: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(echo(&chunks, &LIMITS), echo(&[&bytes], &LIMITS));
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        echo(&[&frame(FIN | BINARY, b"x"), &bytes], &LIMITS);
    }
}
