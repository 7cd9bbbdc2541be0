//! BOSH sessions, where an HTTP listener has a route for them.

use crate::bosh_client::*;
use crate::common::*;
use crate::xmpp_client::*;
use megaphone_core::bosh::Config;
use megaphone_core::{Error, Outgoing, RequestFacts};
use std::io::Write;
use std::time::Duration;

fn both() -> Both {
    Both::new(Config::default())
}

#[test]
fn a_session_from_its_creation_to_its_end() {
    let both = both();
    let poll = both.poll(101);
    both.say(MESSAGE);
    assert_eq!(
        read_answer(&poll).body,
        format!("<body xmlns='http://jabber.org/protocol/httpbind'>{MESSAGE}</body>")
    );
    both.send(&poll, 102, MESSAGE);
    assert_eq!(both.owner.event(), MESSAGE);
    (&both.client).write_all(&both.request(103, "type='terminate'", MESSAGE)).unwrap();
    assert_eq!(both.owner.event(), MESSAGE);
    assert_eq!(both.owner.event(), "end stream:stream");
    assert_eq!(both.owner.event(), "gone");
    assert_eq!(read_answer(&poll).body, EMPTY);
    assert!(read_answer(&both.client).body.contains("type='terminate'"));
    both.forgotten();
    assert_eq!(both.node.system.xmpp_facts(both.id).err(), Some(Error::Closed));
    assert!(both.starter.is_quiet(), "no handler");
}

#[test]
fn a_session_says_where_it_comes_from() {
    let node = bosh_node(Config::default());
    let starter = node.spawn();
    let mut client = node.listen(bosh_listener(), Some(&starter)).connect();
    client
        .write_all(&post_with("HTTP/1.1", "X-Forwarded-For: 192.0.2.1\r\n", &creation("LocalHost")))
        .unwrap();
    let id = starter.started_xmpp();
    let facts = node.system.xmpp_facts(id).unwrap();
    assert_eq!(facts.peer, megaphone_core::Address::Ip(client.local_addr().unwrap()));
    assert_eq!(facts.local, megaphone_core::Address::Ip(client.peer_addr().unwrap()));
    let text = |bytes: &[u8]| bytes.into();
    assert_eq!(
        facts.request,
        Some(RequestFacts {
            host: text(b"chat.example"),
            path: text(b"/bosh"),
            forwarded_for: text(b"192.0.2.1")
        })
    );
    let owner = node.spawn();
    node.own(id, &owner);
    let Message::Stream(megaphone_core::xmpp::Event::StreamStart(header)) = owner.next() else { panic!() };
    assert_eq!(header.attr(b"to"), Some(&b"localhost"[..]), "as mod_bosh prepares it");
    let facts = node.system.xmpp_facts(id).unwrap();
    assert_eq!(
        (facts.peer, facts.request),
        (megaphone_core::Address::Ip(client.local_addr().unwrap()), None)
    );
}

#[test]
fn requests_overtake_each_other_on_two_connections() {
    let both = both();
    let early = both.port.connect();
    both.send(&early, 102, "<presence id='2'/>");
    both.holds(1);
    both.send(&both.client, 101, "<presence id='1'/>");
    assert!(both.owner.event().contains("id='1'"));
    assert!(both.owner.event().contains("id='2'"));
    assert_eq!(read_answer(&both.client).body, EMPTY);
    both.say(MESSAGE);
    assert!(read_answer(&early).body.contains(MESSAGE));
}

#[test]
fn the_answer_of_a_lost_connection_is_kept_for_a_repeated_request() {
    let both = both();
    reset(both.poll(101));
    eventually("its end is noticed", || both.node.system.stats().connections == 1);
    both.say(MESSAGE);
    let repeated = both.poll(101);
    assert!(read_answer(&repeated).body.contains(MESSAGE));
    let again = both.poll(101);
    assert!(read_answer(&again).body.contains(MESSAGE));
}

#[test]
fn an_inactive_session_ends_and_its_owner_gets_back_what_it_sent() {
    let both = Both::new(Config { max_inactivity: Duration::from_secs(1), ..Config::default() });
    both.say(MESSAGE);
    let Message::Undelivered(elements) = both.owner.next() else { panic!("undelivered") };
    assert_eq!(elements, [Box::from(MESSAGE.as_bytes())]);
    assert_eq!(both.owner.event(), "gone");
    both.forgotten();
    let late = both.poll(101);
    read_answer(&late).terminates_with("item-not-found");
}

#[test]
fn a_poll_is_answered_when_it_has_waited_long_enough() {
    let both = Both::new(Config { max_wait: Duration::from_secs(1), ..Config::default() });
    for rid in 101..103 {
        both.send(&both.client, rid, "");
        assert_eq!(read_answer(&both.client).body, EMPTY);
    }
    assert!(both.owner.is_quiet());
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let both = both();
    let requests = [
        both.request(101, "", "<presence id='1'/>"),
        both.request(102, "", "<presence id='2'/>"),
        both.request(103, "type='terminate'", ""),
    ];
    (&both.client).write_all(&requests.concat()).unwrap();
    assert!(both.owner.event().contains("id='1'"));
    assert!(both.owner.event().contains("id='2'"));
    assert_eq!(both.owner.event(), "end stream:stream");
    assert_eq!(both.owner.event(), "gone");
    assert_eq!(read_answer(&both.client).body, EMPTY);
    assert_eq!(read_answer(&both.client).body, EMPTY);
    assert!(read_answer(&both.client).body.contains("type='terminate'"));
}

#[test]
fn the_death_of_the_owner_is_told_to_a_waiting_client() {
    let both = both();
    let poll = both.poll(101);
    both.node.kill(&both.owner);
    read_answer(&poll).terminates_with("internal-server-error");
    both.forgotten();
}

#[test]
fn the_death_of_the_owner_waits_for_a_client_that_is_away() {
    let both = both();
    both.node.kill(&both.owner);
    eventually("the end", || (both.info().phase, both.info().owner) == ("ending", None));
    read_answer(&both.poll(101)).terminates_with("internal-server-error");
    both.forgotten();
}

#[test]
fn an_owner_that_had_died_before_ends_the_session() {
    let node = bosh_node(Config::default());
    let starter = node.spawn();
    let mut client = node.listen(bosh_listener(), Some(&starter)).connect();
    client.write_all(&post(&creation("localhost"))).unwrap();
    let (id, owner) = (starter.started_xmpp(), node.spawn());
    node.kill(&owner);
    assert_eq!(node.system.xmpp_started(id, owner.pid, &mut node.sink()), Err(Error::Closed));
    read_answer(&client).terminates_with("internal-server-error");
    assert_eq!(node.system.stats().sessions, 0);
}

#[test]
fn a_close_delivers_what_was_said_before() {
    let both = both();
    let error = "<stream:error xmlns:stream='http://etherx.jabber.org/streams'/>";
    assert!(both.node.xmpp_send(both.id, &both.owner, Outgoing::Element(&element(MESSAGE))).is_none());
    assert!(both.node.xmpp_send(both.id, &both.owner, Outgoing::Element(&element(error))).is_none());
    assert!(both.node.xmpp_send(both.id, &both.owner, Outgoing::End(b"stream:stream")).is_none());
    both.node.xmpp_close(both.id, &both.owner);
    let sink = &mut both.node.sink();
    assert_eq!(both.node.system.xmpp_flush(both.id, both.owner.pid, sink), Err(Error::Closed));
    let answer = read_answer(&both.poll(101));
    assert!(answer.body.contains(MESSAGE));
    answer.terminates_with("remote-stream-error");
    both.forgotten();
    assert!(both.owner.is_quiet(), "it is no longer the owner");
}

#[test]
fn a_client_restarts_its_stream() {
    let both = both();
    let sink = &mut both.node.sink();
    both.node.system.xmpp_reset(both.id, both.owner.pid).unwrap();
    assert_eq!(both.node.system.xmpp_reset(both.id, both.starter.pid), Err(Error::Closed));
    let restart = "xmlns:xmpp='urn:xmpp:xbosh' xmpp:restart='true' to='localhost'";
    (&both.client).write_all(&both.request(101, restart, "")).unwrap();
    assert_eq!(both.owner.event(), "start stream:stream");
    both.say(FEATURES);
    assert!(read_answer(&both.client).body.contains("<stream:features"));
    both.node.system.xmpp_abort(both.id, sink).unwrap();
    assert_eq!(both.owner.event(), "gone");
}

#[test]
fn no_owner_in_time_ends_the_session() {
    let node = bosh_node(Config::default());
    let starter = node.spawn();
    let start_timeout = Duration::from_millis(1);
    let port =
        node.listen(megaphone_core::ListenerConfig { start_timeout, ..bosh_listener() }, Some(&starter));
    let mut client = port.connect();
    client.write_all(&post(&creation("localhost"))).unwrap();
    read_answer(&client).terminates_with("internal-server-error");
    assert_eq!(node.notice(), megaphone_core::Notice::StartTimeout { listener: port.id });
    let (id, owner) = (starter.started_xmpp(), node.spawn());
    assert_eq!(node.system.xmpp_started(id, owner.pid, &mut node.sink()), Err(Error::Closed));
    assert_eq!((node.system.stats().sessions, node.watches()), (0, 0));
}

#[test]
fn a_listener_ends_without_its_sessions_and_a_node_with_them() {
    let both = both();
    let poll = both.poll(101);
    both.holds(1);
    both.node.system.close_listener(both.port.id, &mut both.node.sink()).unwrap();
    both.say(MESSAGE);
    assert!(read_answer(&poll).body.contains(MESSAGE));
    both.send(&poll, 102, "<presence id='2'/>");
    assert!(both.owner.event().contains("id='2'"));
    both.node.system.close_all(&mut both.node.sink());
    read_answer(&poll).terminates_with("system-shutdown");
    assert_eq!(both.owner.event(), "gone");
    both.forgotten();
    both.node.emptied();
}

#[test]
fn a_thousand_sessions_leave_nothing() {
    let both = both();
    for _ in 0..1000 {
        let client = both.port.connect();
        let (id, owner, sid) = log_in(&both.node, &both.starter, &client);
        let end = post(&body(&format!("rid='101' sid='{sid}' type='terminate'"), ""));
        (&client).write_all(&end).unwrap();
        assert_eq!((owner.event(), owner.event()), ("end stream:stream".into(), "gone".into()));
        assert!(read_answer(&client).body.contains("type='terminate'"));
        assert!(both.node.system.session_info(session_of(id)).is_err());
    }
    assert_eq!((both.node.system.stats().sessions, both.node.watches()), (1, 1));
    eventually("their connections are gone", || both.node.system.stats().connections == 1);
}
