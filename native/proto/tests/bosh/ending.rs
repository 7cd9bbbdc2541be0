//! How a client pauses and ends a session, also beyond the requests that it may have under way.

use std::time::Duration;

use megaphone_proto::bosh::{Closed, Condition, Config};

use crate::driver::{Driver, Outcome, short};

const MESSAGE: &str = "<message xmlns='jabber:client'><body>x</body></message>";
const FEATURES: &str = "<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>";

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
fn a_client_may_end_the_session_by_one_request_beyond_its_window() {
    let mut driver = ready();
    assert!(driver.request(3, "rid='103' type='terminate'", MESSAGE).is_nothing());
    assert!(driver.poll(102).is_nothing());
    let outcome = driver.poll(101);
    assert_eq!(outcome.stream, [MESSAGE, "end"]);
    assert_eq!(outcome.tickets(), [101, 102, 3]);
    assert_eq!(short(&outcome.answers[2].1), "<body type='terminate'/>");
    assert_eq!(outcome.closed, Some(Closed::ByClient));
}

#[test]
fn a_client_may_pause_by_one_request_beyond_its_window() {
    let mut driver = ready();
    assert!(driver.request(3, "rid='103' pause='60'", MESSAGE).is_nothing());
    driver.poll(102);
    let outcome = driver.poll(101);
    assert_eq!((outcome.tickets(), outcome.closed), (vec![101, 102, 3], None));
    assert_eq!(outcome.stream, [MESSAGE]);
    assert_eq!(driver.request(7, "rid='101'", "").answer_to(7), "<body/>", "all that was under way is kept");
}

#[test]
fn only_one_request_may_be_beyond_the_window_and_only_to_end_or_to_pause() {
    for (rid, attrs) in
        [(103, ""), (103, "xmpp:restart='true'"), (104, "type='terminate'"), (104, "pause='9'")]
    {
        let outcome = ready().request(1, &format!("rid='{rid}' {attrs}"), "");
        assert_eq!(outcome.closed, Some(Closed::Failed(Condition::ItemNotFound)), "{rid} {attrs}");
    }
}

#[test]
fn the_answer_to_a_pause_carries_no_payload() {
    let mut driver = ready();
    driver.queue(MESSAGE);
    assert_eq!(driver.request(101, "rid='101' pause='60'", "").answer_to(101), "<body/>");
    driver.pass(Duration::from_secs(50));
    assert_eq!(driver.poll(102).answer_to(102), format!("<body>{MESSAGE}</body>"), "and none is lost");
}

#[test]
fn requests_that_wait_carry_what_is_there_when_the_client_pauses() {
    let mut driver = ready();
    driver.poll(101);
    driver.queue(MESSAGE);
    let outcome = driver.request(102, "rid='102' pause='60'", "");
    assert_eq!(outcome.tickets(), [101, 102]);
    assert_eq!(short(&outcome.answers[0].1), format!("<body>{MESSAGE}</body>"));
    assert_eq!(short(&outcome.answers[1].1), "<body/>");
}

#[test]
fn a_pause_makes_the_time_of_inactivity_no_shorter() {
    for seconds in [0, 5] {
        let mut driver = ready();
        driver.request(101, &format!("rid='101' pause='{seconds}'"), "");
        let (after, outcome) = driver.time_out();
        assert_eq!((after, outcome.closed), (30, Some(Closed::Inactive)));
    }
}

#[test]
fn a_client_that_pauses_after_the_stream_has_ended_hears_of_it() {
    let mut driver = ready();
    driver.queue(MESSAGE);
    driver.session.queue_end(None);
    let outcome = driver.request(101, "rid='101' pause='60'", "");
    assert_eq!(outcome.answer_to(101), format!("<body type='terminate'>{MESSAGE}</body>"));
    assert_eq!(outcome.closed, Some(Closed::ByServer));
}

#[test]
fn what_the_client_never_got_is_its_stanzas_alone() {
    let mut driver = ready();
    let error =
        "<stream:error xmlns:stream='http://etherx.jabber.org/streams'><conflict xmlns='e'/></stream:error>";
    for text in
        [FEATURES, "<success xmlns='sasl'/>", "<iq xmlns='jabber:server'/>", "<r xmlns='urn:xmpp:sm:3'/>"]
    {
        driver.queue(text);
    }
    driver.queue(MESSAGE);
    driver.queue(error);
    driver.time_out();
    let undelivered: Vec<_> = driver.session.undelivered().collect();
    assert_eq!(undelivered, [&b"<iq xmlns='jabber:client'/>"[..], MESSAGE.as_bytes()]);
}

#[test]
fn events_and_answers_can_be_taken_after_the_end() {
    let mut driver = ready();
    driver.session.handle_request(crate::driver::body("rid='101'", MESSAGE), 1, driver.now);
    driver.session.abort(Condition::SystemShutdown);
    assert_eq!(driver.session.closed(), Some(Closed::ByServer));
    assert!(driver.session.has_events());
    let outcome = driver.outcome();
    assert_eq!(outcome.stream, [MESSAGE]);
    assert_eq!(outcome.answer_to(1), "<body type='terminate' condition='system-shutdown'/>");
}

#[test]
fn pause_answers_everything_and_moves_the_deadline_until_the_next_request() {
    let mut driver = ready();
    driver.poll(101);
    let outcome = driver.request(102, "rid='102' pause='120'", "");
    assert_eq!(outcome.tickets(), [101, 102]);
    driver.pass(Duration::from_secs(119));
    driver.session.handle_timeout(driver.now);
    assert!(driver.outcome().is_nothing());
    driver.poll(103);
    driver.send(&[MESSAGE]);
    let (after, outcome) = driver.time_out();
    assert_eq!((after, outcome.closed), (30, Some(Closed::Inactive)));

    let mut paused = ready();
    paused.request(101, "rid='101' pause='100'", "");
    let (after, outcome) = paused.time_out();
    assert_eq!((after, outcome.closed), (100, Some(Closed::Inactive)));
    assert_failed(&ready().request(101, "rid='101' pause='121'", ""), Condition::PolicyViolation);
    let mut unheard = ready();
    unheard.request(101, "rid='101' pause='100'", "");
    assert_eq!(unheard.request(7, "rid='101' pause='100'", "").answer_to(7), "<body/>");
    let (after, _) = unheard.time_out();
    assert_eq!(after, 100, "asking again for the answer does not end the pause");
}

#[test]
fn the_client_ends_the_session_with_its_last_stanzas() {
    let mut driver = ready();
    driver.poll(101);
    driver.queue(MESSAGE);
    let outcome = driver.request(102, "rid='102' type='terminate'", "<presence type='unavailable'/>");
    assert_eq!(outcome.stream, ["<presence type='unavailable'/>", "end"]);
    assert_eq!(outcome.tickets(), [101, 102]);
    assert_eq!(short(&outcome.answers[0].1), format!("<body>{MESSAGE}</body>"));
    assert_eq!(short(&outcome.answers[1].1), "<body type='terminate'/>");
    assert_eq!(outcome.closed, Some(Closed::ByClient));
    assert_eq!(driver.poll(103).answer_to(103), "<body type='terminate' condition='item-not-found'/>");
}

#[test]
fn ending_a_session_takes_no_account_of_the_most_stanzas_in_an_answer() {
    let mut driver = Driver::ready("", Config { max_concat: Some(1), ..Config::default() });
    for number in 0..3 {
        driver.queue(&message(number));
    }
    let outcome = driver.request(101, "rid='101' type='terminate'", "");
    assert_eq!(outcome.answers[0].1.child_elements().len(), 3);
    assert!(outcome.answer_to(101).starts_with("<body type='terminate'>"));
}
