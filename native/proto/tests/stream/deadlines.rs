//! Who has what until when.

use megaphone_proto::stream::{Config, Rate};
use std::time::Duration;

use crate::client::{Answer, FIN, PONG, TEXT, frame};
use crate::driver::{AUTH, Driver};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_header_has_its_time_whatever_comes_of_it() {
    let mut driver = Driver::tcp(Config::default());
    for _ in 0..12 {
        assert_eq!(driver.receive(b" "), [""; 0]);
        assert!(!driver.stream.is_over());
        driver.pass(seconds(10));
    }
    assert_eq!(driver.pass(seconds(1)), [""; 0]);
    assert!(driver.stream.is_over());
    assert!(driver.said().contains("<connection-timeout "));
}

#[test]
fn each_stanza_has_a_deadline_of_its_own_that_bytes_do_not_move() {
    let mut driver = Driver::open_tcp(Config::default());
    assert_eq!(driver.stream.poll_timeout(), None);
    driver.receive(b"<message>");
    let due = driver.stream.poll_timeout();
    driver.pass(seconds(200));
    driver.receive(b"<body/>");
    assert_eq!(driver.stream.poll_timeout(), due);
    driver.receive(b"</message>");
    assert_eq!(driver.stream.poll_timeout(), None);
    driver.receive(b"<message>");
    assert!(driver.stream.poll_timeout() > due);
    assert_eq!(driver.pass(seconds(299)), [""; 0]);
    assert_eq!(driver.pass(seconds(2)), ["closed"]);
}

#[test]
fn white_space_between_stanzas_owes_nothing() {
    let mut driver = Driver::open_tcp(Config::default());
    driver.receive(b"<a/> \n ");
    assert_eq!(driver.stream.poll_timeout(), None);
}

#[test]
fn a_peer_whose_owner_is_behind_owes_nothing() {
    let mut driver = Driver::open_tcp(Config::default());
    driver.receive(format!("{AUTH}<iq").as_bytes());
    assert_eq!(driver.stream.poll_timeout(), None);
    driver.resume();
    let due = driver.stream.poll_timeout().unwrap();
    driver.now = due;
    driver.stream.handle_delay(driver.now);
    driver.stream.handle_timeout(driver.now);
    assert!(driver.stream.poll_timeout() >= Some(due.after(seconds(299))));
}

#[test]
fn what_a_throttle_holds_up_is_not_the_peers_delay() {
    let mut driver = Driver::open_tcp(Config { max_stanza: 10_000, ..Config::default() });
    driver.stream.set_rate(Some(Rate { bytes_per_second: 100, burst: 100 }), driver.now);
    driver.receive(b"<a>");
    assert_eq!(driver.pass(seconds(399)), [""; 0]);
    assert_eq!(driver.pass(seconds(3)), ["closed"]);
}

#[test]
fn an_owner_has_thirty_seconds_to_close_behind_the_end() {
    for end in [&b"</stream:stream>"[..], b"</x>"] {
        let mut driver = Driver::open_tcp(Config::default());
        assert_eq!(driver.receive(end).len(), 1);
        assert_eq!(driver.pass(seconds(29)), [""; 0]);
        driver.stream.handle_delay(driver.now);
        assert_eq!(driver.pass(seconds(2)), ["closed"]);
        assert!(driver.stream.is_over());
    }
}

#[test]
fn a_silent_websocket_is_pinged_and_then_given_up() {
    let mut driver = Driver::open_websocket(Config::default());
    assert_eq!(driver.pass(seconds(61)), [""; 0]);
    assert_eq!(driver.frames(), [Answer::Ping(vec![])]);
    driver.receive(&frame(FIN | PONG, b""));
    assert_eq!(driver.pass(seconds(59)), [""; 0]);
    assert!(driver.sent.is_empty());
    assert_eq!(driver.pass(seconds(2)), [""; 0]);
    assert_eq!(driver.frames(), [Answer::Ping(vec![])]);
    assert_eq!(driver.pass(seconds(61)), ["closed"]);
    assert!(driver.stream.is_over());
    let close = "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";
    assert_eq!(driver.frames(), [Answer::Text(close.into()), Answer::Close(Some(1000))]);
}

#[test]
fn a_websocket_that_is_not_pinged_is_given_up_all_the_same() {
    let mut driver = Driver::open_websocket(Config { ping_interval: None, ..Config::default() });
    assert_eq!(driver.pass(seconds(290)), [""; 0]);
    driver.receive(&frame(FIN | TEXT, b"<a/>")[..1]);
    assert_eq!(driver.pass(seconds(299)), [""; 0]);
    assert_eq!(driver.pass(seconds(2)), ["closed"]);
}

#[test]
fn a_pong_that_is_not_read_is_not_missing() {
    let mut driver = Driver::open_websocket(Config::default());
    assert_eq!(driver.receive_text(AUTH), [AUTH]);
    assert_eq!(driver.pass(seconds(1000)), [""; 0], "the owner has not answered");
    driver.resume();
    // Before the throttle lets the pong through.
    driver.stream.set_rate(Some(Rate { bytes_per_second: 1, burst: 1 }), driver.now);
    let long = format!("<a>{}</a>", "x".repeat(490));
    assert_eq!(driver.receive_text(&long), [long]);
    assert_eq!(driver.pass(seconds(400)), [""; 0]);
}

#[test]
fn a_header_that_came_in_time_waits_for_its_owner_without_a_deadline() {
    let mut driver = Driver::websocket(Config::default());
    assert_eq!(driver.receive_text(crate::driver::OPEN), ["start"]);
    assert_eq!(driver.stream.poll_timeout(), None);
    driver.stream.attach(driver.now);
    assert!(driver.stream.poll_timeout().is_some());
}
