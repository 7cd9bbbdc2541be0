//! Streams over WebSocket.

use megaphone_proto::stream::{Config, Framing, Outgoing};

use crate::client::{Answer, BINARY, CLOSE, CONT, FIN, PING, PONG, TEXT, frame, frame_with_length};
use crate::driver::{AUTH, Driver, HEADER, OPEN};

const CLOSING: &str = "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";

fn text(text: &str) -> Answer {
    Answer::Text(text.into())
}

#[test]
fn messages_are_header_stanzas_and_end() {
    let mut driver = Driver::open_websocket(Config::default());
    assert_eq!(driver.stream.framing(), Framing::WebSocket);
    assert_eq!(driver.receive_text("<message xmlns='jabber:client'/>"), ["<message xmlns='jabber:client'/>"]);
    assert_eq!(driver.receive_text(CLOSING), ["end"]);
    driver.send_element("<message/>");
    driver.send(Outgoing::Raw(b" "));
    driver.close();
    driver.close();
    assert_eq!(
        driver.frames(),
        [text("<message xmlns='jabber:client'/>"), text(CLOSING), Answer::Close(Some(1000))]
    );
}

#[test]
fn the_owners_own_close_is_not_said_twice() {
    let mut driver = Driver::open_websocket(Config::default());
    driver.send(Outgoing::End(b"stream:stream"));
    driver.close();
    assert_eq!(driver.frames(), [text(CLOSING), Answer::Close(Some(1000))]);
}

#[test]
fn a_restarted_stream_has_another_header() {
    let mut driver = Driver::open_websocket(Config::default());
    assert_eq!(driver.receive_text(AUTH), [AUTH]);
    assert_eq!(driver.receive_text(OPEN), [""; 0]);
    driver.log_in();
    assert_eq!(driver.look(), ["start"]);
}

#[test]
fn a_refusal_is_framed() {
    for message in ["<a/>", "", "hello", CLOSING] {
        let mut driver = Driver::websocket(Config::default());
        assert_eq!(driver.receive_text(message), [""; 0]);
        assert!(driver.stream.is_over());
        let frames = driver.frames();
        let [Answer::Text(open), Answer::Text(error), end @ ..] = &frames[..] else { panic!("{frames:?}") };
        assert!(open.starts_with(b"<open xmlns="), "{message}");
        assert!(error.starts_with(b"<stream:error xmlns:stream="), "{message}");
        assert_eq!(end, [text(CLOSING), Answer::Close(Some(1000))]);
    }
}

#[test]
fn a_websocket_from_before_rfc_7395_is_served_in_its_own_framing() {
    for first in [HEADER.to_owned(), format!("<?xml version='1.0'?>{HEADER}"), format!(" \n{HEADER}")] {
        let mut driver = Driver::websocket(Config::default());
        assert_eq!(driver.receive_text(&first), ["start"], "{first}");
        assert!(driver.is_legacy());
        driver.stream.attach(driver.now);
        driver.send_header();
        assert_eq!(driver.receive_text("<a/><b>"), ["<a/>"]);
        assert_eq!(driver.receive_text("x</b> "), ["<b>x</b>"]);
        driver.send_element("<message/>");
        assert_eq!(driver.receive_text("</stream:stream>"), ["end"]);
        driver.close();
        let frames = driver.frames();
        let [Answer::Text(header), rest @ ..] = &frames[..] else { panic!("{frames:?}") };
        assert!(header.starts_with(b"<stream:stream ") && header.ends_with(b"'>"));
        assert_eq!(rest, [text("<message/>"), text("</stream:stream>"), Answer::Close(Some(1000))]);
    }
}

#[test]
fn a_legacy_header_may_come_in_pieces() {
    let mut driver = Driver::websocket(Config::default());
    assert_eq!(driver.receive_text("<?xml version='1.0'?>"), [""; 0]);
    let (front, back) = HEADER.split_at(40);
    assert_eq!(driver.receive_text(front), [""; 0]);
    assert_eq!(driver.receive_text(back), ["start"]);
}

#[test]
fn a_legacy_stream_restarts_behind_its_barrier() {
    let mut driver = Driver::websocket(Config::default());
    assert_eq!(driver.receive_text(HEADER), ["start"]);
    driver.stream.attach(driver.now);
    assert_eq!(driver.receive_text(&format!("{AUTH}\n")), [AUTH]);
    assert!(!driver.stream.is_pending());
    driver.log_in();
    assert!(driver.stream.is_pending());
    assert_eq!(driver.look(), [""; 0]);
    assert_eq!(
        driver.receive_text(&format!("<?xml version='1.0'?>{HEADER}<a/><b/>")),
        ["start", "<a/>", "<b/>"]
    );
}

#[test]
fn a_legacy_refusal_is_a_piece_of_a_stream() {
    let mut driver = Driver::websocket(Config::default());
    assert_eq!(driver.receive_text("<stream:stream xmlns:stream='a' <"), [""; 0]);
    let frames = driver.frames();
    let [Answer::Text(header), Answer::Text(_), end @ ..] = &frames[..] else { panic!("{frames:?}") };
    assert!(header.starts_with(b"<stream:stream "));
    assert_eq!(end, [text("</stream:stream>"), Answer::Close(Some(1000))]);
}

#[test]
fn a_stanza_too_big_is_answered_by_a_stream_error_before_it_has_come() {
    let announced = |bytes: u64| frame_with_length(FIN | TEXT, 127, &bytes.to_be_bytes(), b"<a>");
    for bytes in [65_537, 262_145, 1_310_720, 1 << 40] {
        let mut driver = Driver::open_websocket(Config::default());
        assert_eq!(driver.receive(&announced(bytes)), ["error policy-violation"]);
        assert!(driver.stream.may_send(), "the owner says so");
        driver.send_element("<stream:error xmlns:stream='http://etherx.jabber.org/streams'/>");
        driver.close();
        assert_eq!(driver.frames().last(), Some(&Answer::Close(Some(1009))));
        let mut driver = Driver::websocket(Config::default());
        driver.receive(&announced(bytes));
        assert!(driver.stream.is_over());
        let frames = driver.frames();
        assert!(matches!(&frames[1], Answer::Text(error) if error.starts_with(b"<stream:error ")));
        assert_eq!(frames.last(), Some(&Answer::Close(Some(1009))));
    }
    let mut driver = Driver::open_websocket(Config::default());
    let half = "x".repeat(40_000);
    assert_eq!(driver.receive(&frame(TEXT, half.as_bytes())), [""; 0]);
    assert_eq!(driver.receive(&frame(CONT, half.as_bytes())), ["error policy-violation"]);
    driver = Driver::open_websocket(Config::default());
    driver.receive_text(AUTH);
    driver.log_in();
    let large = format!("<a>{half}{half}</a>");
    assert_eq!(driver.receive_text(&large), [large]);
}

#[test]
fn the_rules_of_websockets_end_the_stream() {
    let mut driver = Driver::open_websocket(Config::default());
    assert_eq!(driver.receive(&frame(FIN | 3, b"")), ["closed"]);
    assert!(driver.stream.is_over() && !driver.stream.may_send());
    driver.close();
    assert_eq!(driver.frames(), [Answer::Close(Some(1002))]);
    let mut driver = Driver::websocket(Config::default());
    assert_eq!(driver.receive(&frame(FIN | TEXT, b"\xFF")), [""; 0]);
    assert!(driver.stream.is_over());
    assert_eq!(driver.frames(), [Answer::Close(Some(1007))]);
}

#[test]
fn a_close_frame_is_answered_and_nothing_follows() {
    for code in [1000_u16, 1001, 1012, 1013, 1014] {
        let mut driver = Driver::open_websocket(Config::default());
        assert_eq!(driver.receive(&frame(FIN | CLOSE, &code.to_be_bytes())), ["closed"]);
        assert!(!driver.stream.may_send());
        driver.close();
        assert_eq!(driver.frames(), [Answer::Close(Some(code))]);
    }
}

#[test]
fn of_pings_that_follow_each_other_the_last_is_answered() {
    let mut driver = Driver::open_websocket(Config::default());
    let pings: Vec<u8> = (0..100).flat_map(|number| frame(FIN | PING, &[number])).collect();
    assert_eq!(driver.receive(&pings), [""; 0]);
    assert_eq!(driver.frames(), [Answer::Pong(vec![99])]);
    driver.receive(&frame(FIN | PONG, b"unasked"));
    assert!(driver.sent.is_empty());
}

#[test]
fn binary_messages_are_stanzas_too() {
    let mut driver = Driver::open_websocket(Config::default());
    assert_eq!(driver.receive(&frame(FIN | BINARY, b"<a/>")), ["<a/>"]);
}
