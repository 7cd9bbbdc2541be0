//! The corpus, and arbitrary input, against an echo.

use megaphone_proto::ws::{Event, Opcode, Violation, WebSocket, write_frame};
use proptest::prelude::*;

use crate::client::{Answer, BINARY, CLOSE, FIN, PING, PONG, TEXT, answers, frame};
use crate::corpus::{MAX_MESSAGE, all_cases};

type End = Option<Result<Option<u16>, Violation>>;

/// Echoes messages; what the client reads, and how the connection ended.
fn echo(chunks: &[&[u8]]) -> (Vec<Answer>, End) {
    let mut socket = WebSocket::new(MAX_MESSAGE);
    let mut out = Vec::new();
    let mut end = None;
    for chunk in chunks {
        let mut input = *chunk;
        while !input.is_empty() {
            socket.handle_input(&mut input);
            socket.poll_transmit(&mut out);
            match socket.poll_event() {
                Some(Event::Text(text)) => socket.send_text(&text, &mut out),
                Some(Event::Binary(bytes)) => write_frame(Opcode::Binary, &bytes, &mut out),
                Some(Event::Closed(code)) => end = Some(Ok(code)),
                Some(Event::Failed(violation)) => {
                    socket.close(violation.code);
                    end = Some(Err(violation));
                }
                None => assert!(input.is_empty()),
            }
            socket.poll_transmit(&mut out);
        }
    }
    assert_eq!(socket.is_closed(), end.is_some());
    (last_pongs(answers(&out)), end)
}

/// Of pongs that follow each other the last: how many there are depends on when pings come.
fn last_pongs(answers: Vec<Answer>) -> Vec<Answer> {
    let is_pong = |answer: &Answer| matches!(answer, Answer::Pong(_));
    let mut last = Vec::new();
    for answer in answers {
        if is_pong(&answer) && last.last().is_some_and(is_pong) {
            last.pop();
        }
        last.push(answer);
    }
    last
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
        let (whole, end) = echo(&[&case.input]);
        assert_eq!(whole, last_pongs(case.expected.clone()), "{}", case.name);
        for size in [1, 2, 3, 7, 997] {
            if case.input.len() / size < 10_000 {
                let chunks: Vec<_> = case.input.chunks(size).collect();
                assert_eq!(echo(&chunks), (whole.clone(), end), "{} in {size}s", case.name);
            }
        }
    }
}

#[test]
fn an_idle_connection_holds_sixteen_bytes() {
    assert_eq!(size_of::<WebSocket>(), 16);
    let mut socket = WebSocket::new(MAX_MESSAGE);
    let bytes =
        [frame(FIN | TEXT, b"hello"), frame(TEXT, b"frag"), frame(FIN | PING, b"p"), frame(FIN, b"ment")];
    let mut idle = Vec::new();
    for bytes in bytes {
        socket.handle_input(&mut &bytes[..]);
        socket.poll_event();
        socket.poll_transmit(&mut Vec::new());
        idle.push(socket.is_idle());
    }
    assert_eq!(idle, [true, false, false, true]);
}

#[test]
fn nothing_is_taken_while_an_event_waits() {
    let mut socket = WebSocket::new(MAX_MESSAGE);
    let bytes = [frame(FIN | TEXT, b"1"), frame(FIN | TEXT, b"2")].concat();
    let mut input = &bytes[..];
    socket.handle_input(&mut input);
    socket.handle_input(&mut input);
    assert_eq!(input.len(), bytes.len() / 2);
    assert_eq!(socket.poll_event(), Some(Event::Text(b"1".to_vec())));
    assert_eq!(socket.poll_event(), None);
}

#[test]
fn closing_waits_for_the_client_and_drops_what_it_still_says() {
    let mut socket = WebSocket::new(MAX_MESSAGE);
    let mut out = Vec::new();
    socket.close(1001);
    socket.close(1000);
    socket.poll_transmit(&mut out);
    socket.send_text(b"too late", &mut out);
    let bytes =
        [frame(FIN | TEXT, b"still here"), frame(FIN | PING, b""), frame(FIN | CLOSE, &[3, 232])].concat();
    let mut input = &bytes[..];
    socket.handle_input(&mut input);
    assert_eq!(socket.poll_event(), Some(Event::Closed(Some(1000))));
    socket.poll_transmit(&mut out);
    assert!(input.is_empty() && socket.is_closed());
    assert_eq!(answers(&out), [Answer::Close(Some(1001))]);
}

#[test]
fn pings_of_the_server_are_cut_off_at_125_bytes() {
    let mut socket = WebSocket::new(MAX_MESSAGE);
    let mut out = Vec::new();
    socket.ping(&[7; 300]);
    assert!(socket.poll_transmit(&mut out) && !socket.poll_transmit(&mut out));
    assert_eq!(answers(&out), [Answer::Ping(vec![7; 125])]);
}

#[test]
fn of_pings_whose_answers_were_not_written_the_last_is_answered() {
    let mut socket = WebSocket::new(MAX_MESSAGE);
    let mut out = Vec::new();
    let bytes = [frame(FIN | PING, b"1"), frame(FIN | PONG, b"x"), frame(FIN | PING, b"2")].concat();
    socket.handle_input(&mut &bytes[..]);
    socket.poll_transmit(&mut out);
    socket.handle_input(&mut &frame(FIN | PING, b"3")[..]);
    socket.poll_transmit(&mut out);
    assert_eq!(answers(&out), [Answer::Pong(b"2".to_vec()), Answer::Pong(b"3".to_vec())]);
}

#[test]
fn of_a_message_that_is_announced_only_what_has_come_is_kept() {
    let mut socket = WebSocket::new(MAX_MESSAGE);
    let bytes = frame(FIN | TEXT, &[b'x'; 150_000]);
    socket.handle_input(&mut &bytes[..100]);
    assert!(socket.heap_bytes() < 1000, "{}", socket.heap_bytes());
    socket.handle_input(&mut &bytes[100..bytes.len() - 1]);
    assert!(socket.heap_bytes() < 310_000, "{}", socket.heap_bytes());
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
        prop_assert_eq!(echo(&chunks), echo(&[&bytes]));
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        echo(&[&frame(FIN | BINARY, b"x"), &bytes]);
    }
}
