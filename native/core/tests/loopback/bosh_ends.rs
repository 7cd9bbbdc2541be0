//! Clients of BOSH that close one side, or both, or end their session behind a request that is held.

use crate::bosh_client::*;
use crate::common::*;
use crate::xmpp_client::*;
use megaphone_core::Outgoing;
use megaphone_core::bosh::Config;
use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

#[test]
fn a_client_that_closes_its_side_gets_its_answer_and_then_the_end() {
    let both = Both::new(Config::default());
    let poll = both.poll(101);
    both.holds(1);
    poll.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_answer(&poll).body, EMPTY);
    assert_eq!(read_to_end(&poll), b"");
    both.send(&both.client, 102, "<presence id='2'/>");
    assert!(both.owner.event().contains("id='2'"));
}

#[test]
fn the_same_when_its_end_comes_with_the_request() {
    let both = Both::new(Config::default());
    for rid in 101..121 {
        let poll = both.poll(rid);
        poll.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_answer(&poll).body, EMPTY);
        assert_eq!(read_to_end(&poll), b"");
    }
}

#[test]
fn a_request_that_comes_before_its_turn_is_answered_soon_as_well() {
    let both = Both::new(Config::default());
    let early = both.poll(102);
    early.shutdown(Shutdown::Write).unwrap();
    eventually("its end is seen", || both.node.system.stats().connections == 2);
    let first = both.poll(101);
    assert_eq!(read_answer(&first).body, EMPTY);
    assert_eq!(read_answer(&early).body, EMPTY);
    assert_eq!(read_to_end(&early), b"");
}

#[test]
fn a_client_that_closes_its_side_behind_its_first_request_gets_its_session() {
    let node = bosh_node(Config::default());
    let starter = node.spawn();
    let mut client = node.listen(bosh_listener(), Some(&starter)).connect();
    client.write_all(&post(&creation("localhost"))).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (id, owner) = (starter.started_xmpp(), node.spawn());
    node.own(id, &owner);
    assert_eq!(owner.event(), "start stream:stream");
    assert!(node.xmpp_send(id, &owner, Outgoing::Header(&header())).is_none());
    node.say(id, &owner, FEATURES);
    assert!(read_answer(&client).body.contains(" sid='"));
    assert_eq!(read_to_end(&client), b"");
}

#[test]
fn a_client_that_is_gone_keeps_its_session_no_longer_than_one_that_is_silent() {
    for is_reset in [false, true] {
        let both = Both::new(Config { max_inactivity: Duration::from_secs(1), ..Config::default() });
        let poll = both.poll(101);
        both.holds(1);
        if is_reset {
            reset(poll)
        } else {
            drop(poll)
        }
        assert_eq!(both.owner.event(), "gone");
        both.forgotten();
    }
}

#[test]
fn a_client_ends_its_session_behind_a_request_that_is_held() {
    let both = Both::new(Config::default());
    let mut poll = both.poll(101);
    both.holds(1);
    poll.write_all(&both.request(102, "type='terminate'", MESSAGE)).unwrap();
    assert_eq!(both.owner.event(), MESSAGE);
    assert_eq!(both.owner.event(), "end stream:stream");
    assert_eq!(both.owner.event(), "gone");
    assert_eq!(read_answer(&poll).body, EMPTY);
    assert!(read_answer(&poll).body.contains("type='terminate'"));
    both.forgotten();
}

#[test]
fn a_handlers_request_behind_one_that_is_held_waits_for_its_turn() {
    let both = Both::new(Config::default());
    let mut poll = both.poll(101);
    both.holds(1);
    poll.write_all(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let conn = |phase| {
        let all = both.node.system.connections();
        all.into_iter().find(|conn| both.node.info(*conn).phase == phase)
    };
    eventually("it is there", || conn("held").is_some_and(|conn| both.node.info(conn).inbound > 0));
    assert!(both.starter.is_quiet());
    both.say(MESSAGE);
    assert!(read_answer(&poll).body.contains(MESSAGE));
    let conn = both.starter.started();
    assert!(both.node.recv(conn, &both.starter, 0).unwrap().starts_with(b"GET /other "));
}

#[test]
fn bad_bytes_behind_a_request_that_is_held_do_not_hide_the_end() {
    let both = Both::new(Config::default());
    let mut poll = both.poll(101);
    both.holds(1);
    poll.write_all(b"\0 is no request").unwrap();
    poll.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_answer(&poll).body, EMPTY);
    assert!(read_answer(&poll).head.starts_with("HTTP/1.1 400 "));
}
