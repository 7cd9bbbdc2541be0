//! What bounds a BOSH session: an owner that is behind, a client that is away, a rate.

use crate::bosh_client::*;
use crate::common::*;
use crate::xmpp_client::*;
use megaphone_core::bosh::Config;
use megaphone_core::{Outgoing, Rate};
use std::io::Write;
use std::net::TcpStream;

/// So slow that what has to wait waits for the whole test.
const SLOW: Rate = Rate { bytes_per_second: 1, burst: 1 };

fn both() -> Both {
    Both::new(Config::default())
}

fn shape(both: &Both, rate: Option<Rate>) {
    both.node.system.xmpp_shaper(both.id, both.owner.pid, rate, &mut both.node.sink()).unwrap();
}

#[test]
fn requests_wait_for_an_owner_that_does_not_ask() {
    let both = both();
    let many: String = (0..40).map(|id| format!("<presence id='{id}'/>")).collect();
    both.send(&both.client, 101, &many);
    assert!(both.owner.event().contains("'0'"));
    assert_eq!(both.owner.events(), 31, "a measure at a time");
    let next = both.port.connect();
    both.send(&next, 102, "<presence id='next'/>");
    both.holds(2);
    for id in 1..32 {
        assert!(both.owner.event().contains(&format!("'{id}'")));
    }
    assert!(both.owner.is_told_nothing(), "it has not asked");
    for id in 32..40 {
        assert!(both.owner.event().contains(&format!("'{id}'")));
    }
    assert!(both.owner.event().contains("'next'"), "what came meanwhile is next");
    assert_eq!(read_answer(&both.client).body, EMPTY);
}

#[test]
fn an_owner_waits_for_a_client_that_is_away() {
    let both = both();
    let long = element(&format!("<message><body>{}</body></message>", "x".repeat(40_000)));
    let wait = (0..100)
        .find_map(|_| both.node.xmpp_send(both.id, &both.owner, Outgoing::Element(&long)))
        .expect("to have to wait");
    let queued = both.info().outbound;
    assert!((256 * 1024..256 * 1024 + 50_000).contains(&queued), "{queued}");
    assert!(wait.is_pending());
    let answer = read_answer(&both.poll(101));
    assert!(answer.body.len() > queued);
    wait.woken();
    assert!(both.node.xmpp_send(both.id, &both.owner, Outgoing::Element(&long)).is_none());
}

#[test]
fn an_owner_that_gave_up_waiting_is_not_woken() {
    let both = both();
    let long = element(&format!("<message><body>{}</body></message>", "x".repeat(300_000)));
    assert!(both.node.xmpp_send(both.id, &both.owner, Outgoing::Element(&long)).is_none());
    let send = || both.node.xmpp_send(both.id, &both.owner, Outgoing::Element(&long)).expect("a wait");
    let given_up = send();
    both.node.system.xmpp_cancel_wait(both.id, both.owner.pid, &mut both.node.sink()).unwrap();
    assert!(given_up.is_dropped());
    let waits = send();
    both.node.kill(&both.owner);
    waits.woken();
}

#[test]
fn a_throttled_request_is_answered_late() {
    let both = both();
    shape(&both, Some(SLOW));
    let late = both.port.connect();
    both.send(&late, 101, "<presence id='1'/>");
    both.holds(1);
    assert!(both.owner.is_quiet());
    shape(&both, None);
    assert!(both.owner.event().contains("id='1'"));
    both.say(MESSAGE);
    assert!(read_answer(&late).body.contains(MESSAGE));
}

#[test]
fn a_throttle_lets_requests_pass_in_the_end() {
    let both = both();
    shape(&both, Some(Rate { bytes_per_second: 2000, burst: 1 }));
    both.send(&both.client, 101, "<presence id='1'/>");
    assert!(both.owner.event().contains("id='1'"));
}

#[test]
fn a_throttled_request_of_a_lost_connection_is_forgotten() {
    let both = both();
    shape(&both, Some(SLOW));
    let lost = both.port.connect();
    both.send(&lost, 101, "<presence id='lost'/>");
    both.holds(1);
    reset(lost);
    eventually("its end is noticed", || both.node.system.stats().connections == 1);
    both.send(&both.client, 101, "<presence id='again'/>");
    both.holds(1);
    shape(&both, None);
    assert!(both.owner.event().contains("id='again'"));
    assert!(both.owner.is_quiet());
}

#[test]
fn more_requests_than_the_window_end_a_throttled_session() {
    let both = both();
    shape(&both, Some(SLOW));
    let connect = |rid| {
        let client = both.port.connect();
        both.send(&client, rid, "");
        client
    };
    let waiting: Vec<TcpStream> = (101..105).map(connect).collect();
    both.holds(4);
    read_answer(&connect(105)).terminates_with("policy-violation");
    for client in &waiting {
        read_answer(client).terminates_with("other-request");
    }
    assert_eq!(both.owner.event(), "gone");
    both.forgotten();
}

#[test]
fn a_client_that_reads_no_answers_gets_no_more_of_them() {
    let both = both();
    let mut client = &both.client;
    // With less, every window update waits for a timer of the kernel's.
    rustix::net::sockopt::set_socket_recv_buffer_size(client, 128 * 1024).unwrap();
    let long = format!("<message><body>{}</body></message>", "x".repeat(100_000));
    client.write_all(&both.request(101, "", "")).unwrap();
    // Until the kernel takes no more.
    let full = (102..200).find(|rid| {
        both.say(&long);
        client.write_all(&both.request(*rid, "", "")).unwrap();
        let conn = both.node.system.connections()[0];
        eventually("the request is there", || {
            both.node.info(conn).phase == "held" || both.node.info(conn).inbound > 0
        });
        both.node.info(conn).phase != "held"
    });
    let next = full.expect("the kernel to be full");
    // An answer may carry several.
    let mut messages = 0;
    while messages < next - 101 {
        messages += read_answer(client).body.matches("<message").count() as u64;
    }
    both.holds(1);
    both.say(MESSAGE);
    assert!(read_answer(client).body.contains(MESSAGE));
}

#[test]
fn there_are_no_more_sessions_than_there_may_be_connections() {
    let node = bosh_node(Config::default());
    node.system.set_bounds(2, usize::MAX);
    let starter = node.spawn();
    let mut client = node.listen(bosh_listener(), Some(&starter)).connect();
    let create = post(&body("rid='1' to='localhost' wait='0'", ""));
    for _ in 0..2 {
        client.write_all(&create).unwrap();
        assert!(read_answer(&client).body.contains(" sid='"));
    }
    client.write_all(&create).unwrap();
    read_answer(&client).terminates_with("internal-server-error");
    assert_eq!(node.system.stats().sessions, 2);
}

#[test]
fn a_request_for_a_session_that_its_owner_has_yet_to_see_ending_is_turned_away() {
    let both = both();
    let mut poll = both.poll(101);
    both.holds(1);
    poll.write_all(&both.request(102, "type='terminate'", MESSAGE)).unwrap();
    assert_eq!(read_answer(&poll).body, EMPTY);
    assert!(read_answer(&poll).body.contains("type='terminate'"));
    // The owner has not taken the message.
    read_answer(&both.poll(103)).terminates_with("item-not-found");
    assert_eq!(both.owner.event(), MESSAGE);
    assert_eq!(both.owner.event(), "end stream:stream");
    assert_eq!(both.owner.event(), "gone");
    both.forgotten();
}
