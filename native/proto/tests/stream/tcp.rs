//! Streams over TCP.

use megaphone_proto::stream::{Config, Outgoing, Rate, Stream};
use std::time::Duration;

use crate::driver::{AUTH, Driver, HEADER};

#[test]
fn an_idle_stream_holds_eighty_bytes() {
    assert_eq!(size_of::<Stream>(), 80);
}

#[test]
fn header_stanzas_and_trailer_are_told_one_by_one() {
    let mut driver = Driver::tcp(Config::default());
    let bytes = format!("{HEADER}<a/> <b>x</b></stream:stream>late");
    assert_eq!(driver.receive(bytes.as_bytes()), ["start", "<a/>", "<b>x</b>", "end"]);
    assert!(driver.input.is_empty() && driver.sent.is_empty());
    assert_eq!(driver.end(), [""; 0], "the owner answers, and closes");
    assert!(!driver.stream.is_over());
    driver.close();
    assert!(driver.stream.is_over());
}

#[test]
fn nothing_is_taken_while_an_event_waits() {
    let mut driver = Driver::tcp(Config::default());
    let bytes = format!("{HEADER}<a/>");
    let mut input = bytes.as_bytes();
    driver.stream.handle_input(&mut input, driver.now);
    assert_eq!(input, b"<a/>");
    assert!(driver.stream.has_event());
    assert!(driver.stream.event_bytes() > 50);
    assert_eq!(driver.stream.wanted(driver.now), 0);
    driver.stream.handle_input(&mut input, driver.now);
    assert_eq!(input, b"<a/>");
    driver.stream.poll_event();
    assert_eq!(driver.stream.event_bytes(), 0);
    assert!(driver.stream.wanted(driver.now) > 0);
}

#[test]
fn a_header_that_is_closed_at_once_ends_its_stream_without_more_bytes() {
    let header = HEADER.replace('>', "/>");
    let mut driver = Driver::tcp(Config::default());
    let mut input = header.as_bytes();
    driver.stream.handle_input(&mut input, driver.now);
    assert!(!driver.stream.is_pending(), "the event comes first");
    assert!(driver.stream.poll_event().is_some());
    assert!(driver.stream.is_pending());
    assert_eq!(driver.look(), ["end"]);
    assert!(!driver.stream.is_pending());
}

#[test]
fn white_space_behind_auth_belongs_to_no_stream() {
    for pieces in [&["\n<?xml version='1.0'?>"][..], &["\r\n", "<?xml version='1.0'?>"], &[" ", "\t", "\n"]] {
        let mut driver = Driver::open_tcp(Config::default());
        let first = format!("{AUTH}{}", pieces[0]);
        assert_eq!(driver.receive(first.as_bytes()), [AUTH]);
        assert!(!driver.input.is_empty(), "the barrier is up");
        assert_eq!(driver.stream.wanted(driver.now), 0);
        driver.log_in();
        for piece in &pieces[1..] {
            assert_eq!(driver.receive(piece.as_bytes()), [""; 0]);
        }
        assert_eq!(driver.receive(format!("{HEADER}<iq/>").as_bytes()), ["start", "<iq/>"], "{pieces:?}");
    }
}

#[test]
fn white_space_before_the_first_declaration_is_still_an_error() {
    let mut driver = Driver::tcp(Config::default());
    assert_eq!(driver.receive(format!("\n<?xml version='1.0'?>{HEADER}").as_bytes()), [""; 0]);
    assert!(driver.stream.is_over());
    assert!(driver.said().contains("<not-well-formed "));
}

#[test]
fn a_failed_login_leaves_the_stream_as_it_is() {
    let mut driver = Driver::open_tcp(Config::default());
    assert_eq!(driver.receive(format!("{AUTH}\n<iq/>").as_bytes()), [AUTH]);
    assert_eq!(driver.resume(), ["<iq/>"]);
}

#[test]
fn a_barrier_stays_until_the_owner_has_had_its_event() {
    let mut driver = Driver::open_tcp(Config::default());
    let bytes = format!("{AUTH}<iq/>");
    let mut input = bytes.as_bytes();
    driver.stream.handle_input(&mut input, driver.now);
    driver.stream.resume();
    assert!(driver.stream.poll_event().is_some());
    driver.stream.handle_input(&mut input, driver.now);
    assert_eq!(input, b"<iq/>");
}

#[test]
fn what_may_begin_tls_or_compression_is_a_barrier_too() {
    for element in [
        "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
    ] {
        let mut driver = Driver::open_tcp(Config::default());
        assert_eq!(driver.receive(&[element.as_bytes(), &[22, 3, 1]].concat()), [element]);
        assert_eq!(driver.input, [22, 3, 1]);
    }
}

#[test]
fn a_stream_without_an_owner_refuses_by_itself() {
    for (bytes, condition) in [("<a", "not-well-formed"), ("GET / HTTP/1.1\r\n\r\n", "not-well-formed")] {
        let mut driver = Driver::tcp(Config::default());
        assert_eq!(driver.receive(format!("{bytes}<").as_bytes()), [""; 0]);
        assert!(driver.stream.is_over() && !driver.stream.has_event());
        let said = driver.said();
        assert!(said.starts_with("<?xml version='1.0'?><stream:stream id='"), "{said}");
        assert!(said.contains(&format!("<stream:error><{condition} ")), "{said}");
        assert!(said.ends_with("</stream:error></stream:stream>"), "{said}");
    }
}

#[test]
fn an_owner_that_cannot_be_started_is_told_to_the_peer() {
    let mut driver = Driver::tcp(Config::default());
    driver.stream.handle_input(&mut HEADER.as_bytes(), driver.now);
    driver.stream.refuse("resource-constraint", "too many");
    assert_eq!(driver.look(), [""; 0]);
    assert!(driver.said().contains("<resource-constraint "));
    assert!(driver.stream.is_over());
}

#[test]
fn an_error_is_told_to_the_owner_that_answers_it() {
    let mut driver = Driver::open_tcp(Config::default());
    assert_eq!(driver.receive(b"<a></b><c/>"), ["error not-well-formed"]);
    assert!(driver.stream.may_send() && !driver.stream.is_over());
    assert_eq!(driver.stream.wanted(driver.now), 0);
    assert!(driver.said().is_empty());
}

#[test]
fn the_end_of_the_peers_bytes_is_told_behind_what_came() {
    let mut driver = Driver::open_tcp(Config::default());
    assert_eq!(driver.receive(b"<a"), [""; 0]);
    assert_eq!(driver.end(), ["closed"]);
    assert!(driver.stream.is_over());
    let mut driver = Driver::tcp(Config::default());
    assert_eq!(driver.receive(b"<stream:stream"), [""; 0]);
    assert_eq!(driver.end(), [""; 0]);
    assert!(driver.stream.is_over() && driver.sent.is_empty());
    let mut driver = Driver::tcp(Config::default());
    driver.stream.handle_input(&mut HEADER.as_bytes(), driver.now);
    driver.stream.handle_end(driver.now);
    driver.stream.attach(driver.now);
    assert_eq!(driver.look(), ["start", "closed"]);
    assert!(driver.stream.is_over());
}

#[test]
fn limits_are_small_before_login() {
    let large = format!("<a>{}</a>", "x".repeat(65_536));
    let mut driver = Driver::open_tcp(Config::default());
    assert_eq!(driver.receive(large.as_bytes()), ["error policy-violation"]);
    let mut driver = Driver::open_tcp(Config::default());
    driver.receive(AUTH.as_bytes());
    driver.log_in();
    assert_eq!(driver.receive(HEADER.as_bytes()), ["start"]);
    assert_eq!(driver.receive(large.as_bytes()), std::slice::from_ref(&large));
    // A login as of XEP-0078, behind which there is no restart.
    for (shown, told) in
        [("<presence from='a'/>", &large[..]), ("<message type='error'/>", "error policy-violation")]
    {
        let mut driver = Driver::open_tcp(Config::default());
        driver.send_element(shown);
        assert_eq!(driver.receive(large.as_bytes()), [told]);
    }
    let mut driver = Driver::open_tcp(Config { max_stanza: 200, ..Config::default() });
    assert_eq!(driver.receive(&large.as_bytes()[..199]), [""; 0]);
    assert_eq!(driver.receive(b"x"), ["error policy-violation"]);
}

#[test]
fn a_throttle_lets_through_what_the_rate_allows() {
    let mut driver = Driver::open_tcp(Config::default());
    driver.stream.set_rate(Some(Rate { bytes_per_second: 1000, burst: 1000 }), driver.now);
    assert_eq!(driver.stream.wanted(driver.now), 1000);
    let stanza = format!("<a>{}</a>", "x".repeat(493));
    let mut passed = driver.receive(stanza.repeat(12).as_bytes()).len();
    assert!(passed <= 3, "{passed}");
    assert_eq!(driver.stream.wanted(driver.now), 0);
    passed += driver.pass(Duration::from_secs(2)).len();
    assert!((5..=7).contains(&passed), "{passed}");
    driver.stream.set_rate(None, driver.now);
    passed += driver.look().len();
    assert_eq!(passed, 12);
}

#[test]
fn bytes_between_elements_are_sent_as_they_are() {
    let mut driver = Driver::open_tcp(Config::default());
    driver.send_header();
    driver.send(Outgoing::Raw(b" "));
    driver.send(Outgoing::End(b"stream:stream"));
    assert!(driver.said().ends_with("id='1'> </stream:stream>"));
}
