//! What a session does, step by step.

use std::time::Duration;

use megaphone_proto::bosh::{Closed, Condition, Config};
use sha1::{Digest, Sha1};

use crate::driver::{Driver, Outcome, body, short};

const MESSAGE: &str = "<message xmlns='jabber:client'><body>x</body></message>";

fn ready() -> Driver {
    Driver::ready("wait='60' hold='1'", Config::default())
}

fn message(number: u32) -> String {
    format!("<message xmlns='jabber:client' id='{number}'/>")
}

fn assert_failed(outcome: &Outcome, condition: Condition) {
    assert_eq!(outcome.closed, Some(Closed::Failed(condition)), "{outcome:?}");
    let (_, last) = outcome.answers.last().unwrap();
    assert_eq!(short(last), format!("<body type='terminate' condition='{}'/>", condition.name()));
}

#[test]
fn the_first_answer_waits_for_features_and_creates_the_session() {
    let attrs = "rid='100' to='localhost' wait='60' hold='1' ver='1.6' xml:lang='de' xmpp:version='1.0'";
    let (mut driver, outcome) = Driver::create(attrs, Config::default());
    assert_eq!(
        outcome.stream,
        ["start <stream:stream to='localhost' xmlns='jabber:client' xmlns:xmpp='urn:xmpp:xbosh' \
          xmlns:stream='http://etherx.jabber.org/streams' version='1.0' xml:lang='de'/>"]
    );
    assert!(outcome.answers.is_empty());
    driver.session.queue_header(b"42", b"1.0");
    assert!(driver.flush().is_nothing(), "a header alone is no answer");
    let outcome = driver.send(&["<stream:features xmlns:stream='u'><a xmlns='b'/></stream:features>"]);
    assert_eq!(
        outcome.answer_to(1),
        "<body xmlns:xmpp='urn:xmpp:xbosh' xmlns:stream='http://etherx.jabber.org/streams' sid='s1d' wait='60' \
         ver='1.6' polling='2' inactivity='30' hold='1' xmpp:restartlogic='true' requests='2' secure='true' \
         maxpause='120' from='localhost' authid='42' xmpp:version='1.0'>\
         <stream:features xmlns:stream='u'><a xmlns='b'/></stream:features></body>"
    );
}

#[test]
fn wait_and_hold_are_bounded_by_what_the_server_grants() {
    for (asked, granted) in [
        ("wait='4000' hold='9' ver='2.0'", "wait='300' ver='1.11' polling='2' inactivity='30' hold='1'"),
        ("", "wait='300' ver='1.11' polling='2' inactivity='30' hold='1'"),
        ("hold='1' wait='5' ver='1.2'", "wait='5' ver='1.2' polling='2' inactivity='30' hold='1'"),
    ] {
        let (mut driver, _) = Driver::create(&format!("rid='1' to='a' {asked}"), Config::default());
        let answer = driver.send(&[MESSAGE]).answer_to(1);
        assert!(answer.contains(granted), "{answer}");
        assert!(answer.contains("requests='2'"));
    }
}

#[test]
fn a_held_request_is_answered_by_what_the_server_sends() {
    let mut driver = ready();
    assert!(driver.poll(101).is_nothing());
    let outcome =
        driver.send(&["<message/>", "<iq type='get' xmlns='jabber:server'/>", "<success xmlns='sasl'/>"]);
    assert_eq!(
        outcome.answer_to(101),
        "<body><message xmlns='jabber:client'/><iq xmlns='jabber:client' type='get'/><success xmlns='sasl'/></body>"
    );
    assert!(driver.send(&[MESSAGE]).is_nothing());
    assert_eq!(driver.session.queued_bytes(), MESSAGE.len());
    assert_eq!(driver.poll(102).answer_to(102), format!("<body>{MESSAGE}</body>"));
    assert_eq!(driver.session.queued_bytes(), 0);
}

#[test]
fn a_second_request_releases_the_first() {
    let mut driver = ready();
    driver.poll(101);
    let outcome = driver.request(102, "rid='102'", MESSAGE);
    assert_eq!(outcome.stream, [MESSAGE]);
    assert_eq!(outcome.answer_to(101), "<body/>");
    assert_eq!(driver.send(&[MESSAGE]).tickets(), [102]);
}

#[test]
fn a_request_waits_no_longer_than_agreed() {
    let mut driver = ready();
    driver.poll(101);
    let (after, outcome) = driver.time_out();
    assert_eq!((after, outcome.answer_to(101).as_str()), (60, "<body/>"));
    let (after, outcome) = driver.time_out();
    assert_eq!((after, outcome.closed), (30, Some(Closed::Inactive)));
    assert_eq!(driver.session.poll_timeout(), None);
}

#[test]
fn early_requests_wait_for_their_turn() {
    let config = Config { max_hold: 3, ..Config::default() };
    let mut driver = Driver::ready("wait='60' hold='3'", config);
    assert!(driver.request(3, "rid='103'", &message(3)).is_nothing());
    assert!(driver.request(2, "rid='102'", &message(2)).is_nothing());
    let outcome = driver.request(1, "rid='101'", &message(1));
    assert_eq!(outcome.stream, [message(1), message(2), message(3)]);
    assert!(outcome.answers.is_empty());
    assert_eq!(driver.send(&[MESSAGE]).answer_to(1), format!("<body>{MESSAGE}</body>"), "in order of ids");
    assert_eq!(driver.poll(104).tickets(), [] as [u64; 0]);
    assert_eq!(driver.poll(105).tickets(), [2]);
}

#[test]
fn ids_beyond_the_window_end_the_session() {
    let mut driver = ready();
    driver.poll(101);
    let outcome = driver.poll(104);
    assert_eq!(outcome.tickets(), [101, 104]);
    assert_eq!(short(&outcome.answers[0].1), "<body type='terminate' condition='other-request'/>");
    assert_failed(&outcome, Condition::ItemNotFound);
    assert_eq!(driver.poll(102).answer_to(102), "<body type='terminate' condition='item-not-found'/>");
}

#[test]
fn a_repeated_request_gets_the_kept_answer_and_an_older_one_ends_the_session() {
    let mut driver = ready();
    driver.poll(101);
    driver.send(&[&message(1)]);
    driver.poll(102);
    driver.send(&[&message(2)]);
    for (rid, number) in [(101, 1), (102, 2), (101, 1)] {
        let outcome = driver.request(7, &format!("rid='{rid}'"), MESSAGE);
        assert_eq!(outcome.stream, [] as [&str; 0], "its stanzas were processed before");
        assert!(outcome.answer_to(7).contains(&format!("id='{number}'")));
    }
    assert_failed(&driver.poll(100), Condition::ItemNotFound);
}

#[test]
fn a_repeated_request_takes_the_place_of_the_held_one() {
    let mut driver = ready();
    driver.poll(101);
    assert_eq!(driver.request(7, "rid='101'", "").answer_to(101), "<body type='error'/>");
    driver.request(8, "rid='103'", &message(3));
    assert_eq!(driver.request(9, "rid='103'", &message(3)).answer_to(8), "<body type='error'/>");
    let outcome = driver.request(10, "rid='102'", &message(2));
    assert_eq!(outcome.stream, [message(2), message(3)]);
    assert_eq!(outcome.tickets(), [7, 10]);
    assert_eq!(driver.send(&[MESSAGE]).tickets(), [9]);
}

#[test]
fn what_a_lost_connection_would_have_carried_is_not_lost() {
    let mut driver = ready();
    driver.poll(101);
    driver.disconnect(101);
    assert!(driver.send(&[MESSAGE]).is_nothing());
    assert_eq!(driver.request(7, "rid='101'", "").answer_to(7), format!("<body>{MESSAGE}</body>"));
    driver.poll(102);
    driver.disconnect(102);
    driver.send(&[MESSAGE]);
    assert_eq!(driver.poll(103).answer_to(103), format!("<body>{MESSAGE}</body>"));
    assert_eq!(driver.request(7, "rid='102'", "").answer_to(7), "<body/>");
}

#[test]
fn a_lost_connection_starts_the_time_of_inactivity() {
    let mut driver = ready();
    driver.poll(101);
    driver.pass(Duration::from_secs(10));
    driver.disconnect(101);
    let (after, outcome) = driver.time_out();
    assert_eq!((after, outcome.closed), (30, Some(Closed::Inactive)));
}

#[test]
fn a_request_that_waits_for_an_earlier_one_is_answered_when_the_session_ends() {
    let mut driver = ready();
    driver.request(7, "rid='102'", "");
    let (_, outcome) = driver.time_out();
    assert_eq!(outcome.answer_to(7), "<body type='terminate' condition='item-not-found'/>");
    assert_eq!(outcome.closed, Some(Closed::Inactive));
}

#[test]
fn polling_is_answered_at_once_and_not_too_often() {
    for attrs in ["wait='0' hold='0'", "wait='60' hold='0'", "wait='0' hold='1'"] {
        let mut driver = Driver::ready(attrs, Config::default());
        assert!(driver.session.queued_bytes() > 0, "{attrs}: the first answer did not wait for features");
        assert!(driver.poll(101).answer_to(101).contains("features"));
        driver.pass(Duration::from_secs(2));
        driver.send(&[MESSAGE]);
        assert_eq!(driver.poll(102).answer_to(102), "<body>".to_owned() + MESSAGE + "</body>");
        driver.pass(Duration::from_millis(1900));
        assert_eq!(driver.request(103, "rid='103'", MESSAGE).answer_to(103), "<body/>", "not empty");
        assert_eq!(driver.poll(104).answer_to(104), "<body/>", "the one before was not empty");
        driver.pass(Duration::from_millis(1900));
        assert_failed(&driver.poll(105), Condition::PolicyViolation);
    }
}

#[test]
fn a_poll_may_come_at_once_after_one_that_was_answered_with_a_payload() {
    for attrs in ["wait='0' hold='0'", "wait='60' hold='0'", "wait='0' hold='1'"] {
        let config = Config { max_concat: Some(1), ..Config::default() };
        let mut driver = Driver::ready(attrs, config);
        driver.send(&[MESSAGE]);
        assert!(driver.poll(101).answer_to(101).contains("features"));
        assert_eq!(driver.poll(102).answer_to(102), format!("<body>{MESSAGE}</body>"));
        assert_eq!(driver.poll(103).answer_to(103), "<body/>");
        driver.send(&[MESSAGE]);
        assert_failed(&driver.poll(104), Condition::PolicyViolation);
    }
}

#[test]
fn polls_that_overtake_each_other_are_too_frequent_unless_the_first_gets_a_payload() {
    let mut driver = Driver::ready("wait='0' hold='1'", Config::default());
    assert!(driver.poll(102).is_nothing());
    let outcome = driver.poll(101);
    assert_eq!((outcome.tickets(), outcome.closed), (vec![101, 102], None));
    assert!(short(&outcome.answers[0].1).contains("features"));
    assert_eq!(short(&outcome.answers[1].1), "<body/>");
    assert_failed(&driver.poll(103), Condition::PolicyViolation);

    let mut driver = Driver::ready("wait='0' hold='1'", Config::default());
    assert!(driver.poll(101).answer_to(101).contains("features"));
    assert!(driver.poll(103).is_nothing());
    assert_failed(&driver.poll(102), Condition::PolicyViolation);
}

#[test]
fn empty_requests_of_a_session_that_holds_may_follow_each_other() {
    let mut driver = ready();
    for rid in 101..120 {
        assert_eq!(driver.poll(rid).closed, None);
    }
}

fn sha1_hex(text: &str) -> String {
    Sha1::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn keys_are_checked_in_any_case_and_can_be_renewed() {
    let keys = |seed: &str| {
        let mut keys = vec![sha1_hex(seed)];
        for _ in 0..3 {
            keys.push(sha1_hex(keys.last().unwrap()));
        }
        keys
    };
    let first = keys("seed");
    let second = keys("another seed");
    let mut driver = Driver::ready(&format!("newkey='{}'", first[3].to_uppercase()), Config::default());
    assert_eq!(driver.request(1, &format!("rid='101' key='{}'", first[2]), "").closed, None);
    assert_eq!(driver.request(2, &format!("rid='102' key='{}'", first[1]), "").closed, None);
    let renewed = format!("rid='103' key='{}' newkey='{}'", first[0], second[3]);
    assert_eq!(driver.request(3, &renewed, "").closed, None);
    assert_eq!(driver.request(4, &format!("rid='104' key='{}'", second[2]), "").closed, None);
    assert_failed(&driver.request(5, &format!("rid='105' key='{}'", second[2]), ""), Condition::ItemNotFound);
}

#[test]
fn a_missing_wrong_or_last_key_ends_the_session() {
    let newkey = sha1_hex("key");
    for attrs in ["", "key=''", "key='nonsense'", &format!("key='{newkey}'")] {
        let mut driver = Driver::ready(&format!("newkey='{newkey}'"), Config::default());
        assert_failed(&driver.request(1, &format!("rid='101' {attrs}"), MESSAGE), Condition::ItemNotFound);
    }
    let mut driver = Driver::ready(&format!("newkey='{newkey}'"), Config::default());
    assert_eq!(driver.request(1, "rid='101' key='key'", "").closed, None);
    assert_failed(&driver.request(2, "rid='102' key='key'", ""), Condition::ItemNotFound);
}

#[test]
fn acknowledgements_are_given_to_those_who_ask() {
    let config = Config { max_hold: 2, ..Config::default() };
    let (mut driver, _) = Driver::create("rid='100' to='a' hold='2' ack='1'", config);
    assert!(driver.send(&[MESSAGE]).answer_to(1).contains(" ack='100'"));
    driver.poll(101);
    driver.poll(102);
    assert_eq!(driver.poll(103).answer_to(101), "<body ack='103'/>");
    assert_eq!(driver.send(&[MESSAGE]).answer_to(102), format!("<body ack='103'>{MESSAGE}</body>"));
    assert_eq!(driver.send(&[MESSAGE]).answer_to(103), format!("<body>{MESSAGE}</body>"), "the last of all");
    let mut unasked = ready();
    unasked.poll(101);
    assert_eq!(unasked.poll(102).answer_to(101), "<body/>");
}

#[test]
fn acknowledged_answers_are_not_kept() {
    let (mut driver, _) = Driver::create("rid='100' to='a' ack='1'", Config::default());
    driver.send(&[&format!("<message><body>{}</body></message>", "x".repeat(1000))]);
    let before = driver.session.heap_bytes();
    driver.request(101, "rid='101' ack='100'", "");
    assert!(driver.session.heap_bytes() + 1000 < before);
    assert_failed(&driver.poll(100), Condition::ItemNotFound);
}

#[test]
fn answers_that_are_not_acknowledged_are_kept() {
    let (mut driver, _) = Driver::create("rid='100' to='a' ack='1'", Config::default());
    driver.send(&[MESSAGE]);
    driver.request(101, "rid='101' ack='99'", "");
    assert!(driver.request(2, "rid='100'", "").answer_to(2).ends_with(&format!("{MESSAGE}</body>")));
}

#[test]
fn the_content_type_is_the_clients_choice() {
    for (attrs, chosen) in
        [("", None), ("content='text/html; charset=utf-8'", Some("text/html; charset=utf-8"))]
    {
        let mut driver = Driver::ready(attrs, Config::default());
        driver.session.handle_request(body("rid='101' type='terminate'", ""), 101, driver.now);
        assert_eq!(driver.session.poll_answer().unwrap().content_type.as_deref(), chosen);
    }
}

#[test]
fn a_restart_gives_the_c2s_a_new_header() {
    let mut driver = ready();
    let outcome = driver.request(101, "rid='101' xmpp:restart='true' to='other' xml:lang='fr'", MESSAGE);
    let header = "start <stream:stream to='other' xmlns='jabber:client' xmlns:xmpp='urn:xmpp:xbosh' \
                  xmlns:stream='http://etherx.jabber.org/streams' version='1.0' xml:lang='fr'/>";
    assert_eq!(outcome.stream, [header]);
    driver.session.queue_header(b"2", b"1.0");
    let features = "<stream:features xmlns:stream='u'/>";
    assert_eq!(
        driver.send(&[features]).answer_to(101),
        format!(
            "<body xmlns:xmpp='urn:xmpp:xbosh' xmlns:stream='http://etherx.jabber.org/streams' authid='2' \
             xmpp:version='1.0'>{features}</body>"
        )
    );
    let outcome = driver.request(102, "rid='102' xmpp:restart='1'", "");
    assert_eq!(outcome.stream, [header], "host and language stay");
}

#[test]
fn a_stream_error_ends_the_session_in_a_waiting_request() {
    let mut driver = ready();
    driver.poll(101);
    let error =
        "<stream:error xmlns:stream='http://etherx.jabber.org/streams'><conflict xmlns='e'/></stream:error>";
    driver.queue(MESSAGE);
    driver.queue(error);
    driver.session.queue_end(None);
    let outcome = driver.flush();
    assert_eq!(
        outcome.answer_to(101),
        format!(
            "<body xmlns:stream='http://etherx.jabber.org/streams' type='terminate' \
             condition='remote-stream-error'>{MESSAGE}{error}</body>"
        )
    );
    assert_eq!(outcome.closed, Some(Closed::ByServer));
}

#[test]
fn the_end_of_the_stream_waits_for_a_request_to_tell_it() {
    let mut driver = ready();
    driver.session.queue_end(Some(Condition::SystemShutdown));
    assert!(driver.flush().is_nothing());
    assert!(driver.send(&[MESSAGE]).is_nothing(), "nothing is sent after the end");
    let outcome = driver.request(101, "rid='101'", MESSAGE);
    assert_eq!(outcome.stream, [] as [&str; 0], "there is no c2s any more");
    assert_eq!(outcome.answer_to(101), "<body type='terminate' condition='system-shutdown'/>");
    assert_eq!(outcome.closed, Some(Closed::ByServer));

    let mut never_told = ready();
    never_told.queue(MESSAGE);
    never_told.session.queue_end(None);
    let (after, outcome) = never_told.time_out();
    assert_eq!((after, outcome.closed), (30, Some(Closed::Inactive)));
    assert_eq!(never_told.session.undelivered().collect::<Vec<_>>(), [MESSAGE.as_bytes()]);
}

#[test]
fn stanzas_in_one_answer_are_bounded_where_configured() {
    let mut driver = Driver::ready("", Config { max_concat: Some(2), ..Config::default() });
    let messages: Vec<_> = (0..5).map(message).collect();
    driver.send(&messages.iter().map(String::as_str).collect::<Vec<_>>());
    for (rid, count) in [(101, 2), (102, 2), (103, 1)] {
        let outcome = driver.poll(rid);
        assert_eq!(outcome.tickets(), [rid]);
        assert_eq!(outcome.answers[0].1.child_elements().len(), count);
    }
    assert!(driver.poll(104).is_nothing());
}

#[test]
fn a_request_that_is_kept_back_keeps_the_session_alive() {
    let mut driver = ready();
    driver.pass(Duration::from_secs(20));
    driver.session.handle_delay(driver.now);
    assert_eq!(driver.time_out().0, 30);
}

#[test]
fn an_aborted_session_answers_all_its_requests() {
    let mut driver = ready();
    driver.poll(102);
    driver.poll(101);
    let (held, early) = (driver.poll(103), driver.poll(105));
    assert_eq!((held.tickets(), early.tickets()), (vec![102], vec![]));
    driver.queue(MESSAGE);
    driver.session.abort(Condition::SystemShutdown);
    let outcome = driver.outcome();
    assert_eq!(outcome.closed, Some(Closed::ByServer));
    assert_eq!(outcome.tickets(), [103, 105]);
    for (_, answer) in &outcome.answers {
        assert_eq!(short(answer), "<body type='terminate' condition='system-shutdown'/>");
    }
    assert_eq!(driver.session.undelivered().collect::<Vec<_>>(), [MESSAGE.as_bytes()]);
    assert_eq!(driver.session.poll_timeout(), None);
}
