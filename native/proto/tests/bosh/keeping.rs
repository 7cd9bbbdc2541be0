//! Which answers a session keeps for a client that lost them, and what they cost.

use megaphone_proto::bosh::{Closed, Condition, Config, Session};

use crate::driver::Driver;

/// A message that is answered in a body of so many bytes.
fn message(bytes: usize) -> String {
    let frame =
        "<body xmlns='http://jabber.org/protocol/httpbind'><message xmlns='jabber:client'></message></body>";
    format!("<message xmlns='jabber:client'>{}</message>", "x".repeat(bytes - frame.len()))
}

/// A session whose requests up to this one are answered.
fn answered_up_to(driver: &mut Driver, rid: u64, bytes: usize) {
    for next in 101..=rid {
        driver.poll(next);
        driver.send(&[&message(bytes)]);
    }
}

fn cost(driver: &Driver) -> usize {
    size_of::<Session>() + driver.session.heap_bytes()
}

#[test]
fn an_idle_session_with_a_request_held_and_an_answer_of_100_bytes_kept_takes_320_bytes() {
    let mut driver = Driver::ready("xml:lang='en' wait='60' hold='1'", Config::default());
    answered_up_to(&mut driver, 110, 100);
    driver.poll(111);
    assert_eq!(driver.session.queued_bytes(), 0);
    assert!(cost(&driver) <= 320, "{} + {}", size_of::<Session>(), driver.session.heap_bytes());
}

#[test]
fn a_session_is_no_larger_after_a_request_that_released_another() {
    let mut driver = Driver::ready("xml:lang='en' wait='60' hold='1'", Config::default());
    driver.poll(101);
    driver.send(&[&message(100)]);
    driver.poll(102);
    let before = cost(&driver);
    driver.poll(103);
    assert!(cost(&driver) + 100 <= before, "{} after {before}: the answer is gone", cost(&driver));
}

#[test]
fn a_request_says_that_older_answers_than_may_be_under_way_have_arrived() {
    let mut driver = Driver::ready("wait='60' hold='1'", Config::default());
    answered_up_to(&mut driver, 110, 10_000);
    assert!(cost(&driver) > 20_000, "both may be under way");
    driver.poll(111);
    assert!(cost(&driver) < 11_000);
    assert!(driver.request(7, "rid='110'", "").answer_to(7).contains("xxx"));
    let outcome = driver.request(8, "rid='109'", "");
    assert_eq!(outcome.closed, Some(Closed::Failed(Condition::ItemNotFound)));
}

#[test]
fn an_answer_that_the_client_says_to_lack_is_kept() {
    let mut driver = Driver::ready("wait='60' hold='1' ack='1'", Config::default());
    answered_up_to(&mut driver, 110, 10_000);
    driver.request(111, "rid='111' ack='108'", "");
    assert!(driver.request(7, "rid='109'", "").answer_to(7).contains("xxx"));
    driver.request(112, "rid='112' ack='110'", "");
    assert!(cost(&driver) < 1000);
}

#[test]
fn a_client_that_never_acknowledges_makes_the_session_keep_twice_its_window_at_most() {
    let mut driver = Driver::ready("wait='60' hold='1' ack='1'", Config::default());
    for rid in 101..200 {
        driver.request(rid, &format!("rid='{rid}' ack='99'"), "");
        driver.send(&[&message(1000)]);
        assert!(cost(&driver) < 5000);
    }
}

#[test]
fn a_language_of_unusual_length_is_told_and_not_kept() {
    let lang = "x".repeat(5000);
    let attrs = format!("rid='1' to='a' xmpp:version='1.0' xml:lang='{lang}'");
    let (mut driver, outcome) = Driver::create(&attrs, Config::default());
    assert!(outcome.stream[0].contains(&lang));
    assert!(cost(&driver) < 1000);
    driver.send(&[&message(100)]);
    let outcome = driver.request(2, "rid='2' xmpp:restart='true'", "");
    assert!(outcome.stream[0].contains("to='a'") && outcome.stream[0].contains("version='1.0'"));
}
