//! Which requests BOSH answers by itself, in what form, and which are left to a handler.

use crate::bosh_client::*;
use crate::common::*;
use megaphone_core::bosh::Config;
use megaphone_core::{ListenerConfig, XmppConfig, stream};
use std::io::Write;
use std::net::TcpStream;

/// Who starts handlers, and a client.
fn served(node: &Node, config: ListenerConfig) -> (Process, TcpStream) {
    let starter = node.spawn();
    let client = node.listen(config, Some(&starter)).connect();
    (starter, client)
}

fn unknown(sid: &str) -> Vec<u8> {
    post(&body(&format!("rid='1' sid='{sid}'"), ""))
}

#[test]
fn an_answer_looks_like_that_of_mod_bosh() {
    let node = bosh_node(Config::default());
    let (_starter, mut client) = served(&node, bosh_listener());
    client.write_all(&post("nonsense")).unwrap();
    let answer = read_answer(&client);
    assert!(answer.head.starts_with("HTTP/1.1 400 "), "{answer:?}");
    assert_eq!(
        answer.head.split_once("\r\n").unwrap().1,
        "Content-Length: 0\r\nAccess-Control-Allow-Headers: Content-Type\r\nAccess-Control-Allow-Origin: *\r\n\
         X-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'; sandbox\r\n\
         Content-Type: text/xml; charset=utf-8\r\n\r\n"
    );
    client.write_all(&post(&body("rid='1'", ""))).unwrap();
    let answer = read_answer(&client);
    assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
    answer.terminates_with("improper-addressing");
}

#[test]
fn bad_requests_that_come_together_are_all_answered() {
    let node = bosh_node(Config::default());
    let (_starter, mut client) = served(&node, bosh_listener());
    client.write_all(&post("nonsense").repeat(50)).unwrap();
    for _ in 0..50 {
        assert!(read_answer(&client).head.starts_with("HTTP/1.1 400 "));
    }
}

#[test]
fn header_lines_of_the_listener_replace_those_of_the_same_name() {
    let node = bosh_node(Config::default());
    let response_headers = b"access-control-allow-origin: https://a.example\r\nX-A: b\r\n".to_vec();
    let (_starter, mut client) = served(&node, ListenerConfig { response_headers, ..bosh_listener() });
    client.write_all(&post("nonsense")).unwrap();
    let head = read_answer(&client).head;
    assert!(head.ends_with("access-control-allow-origin: https://a.example\r\nX-A: b\r\n\r\n"), "{head}");
    assert_eq!(head.to_lowercase().matches("allow-origin").count(), 1, "{head}");
}

#[test]
fn requests_that_are_answered_at_once_are_read_no_faster_than_that() {
    const REQUESTS: usize = 4_000;
    let node = bosh_node(Config::default());
    let (_starter, client) = served(&node, bosh_listener());
    let writer = write_in_background(&client, post(&"nonsense".repeat(64)).repeat(REQUESTS));
    eventually("it is accepted", || !node.system.connections().is_empty());
    let conn = node.system.connections()[0];
    for _ in 0..REQUESTS {
        assert!(read_answer(&client).head.contains(" 400 "));
        let inbound = node.info(conn).inbound;
        assert!(inbound < 256 * 1024, "{inbound}");
    }
    writer.join().unwrap();
}

#[test]
fn the_client_decides_whether_the_connection_stays() {
    for (version, fields, expected) in [
        ("HTTP/1.0", "", Some("Connection: close")),
        ("HTTP/1.0", "Connection: keep-alive\r\n", Some("Connection: keep-alive")),
        ("HTTP/1.1", "Connection: close\r\n", Some("Connection: close")),
        ("HTTP/1.1", "", None),
    ] {
        let node = bosh_node(Config::default());
        let (_starter, mut client) = served(&node, bosh_listener());
        client.write_all(&post_with(version, fields, "nonsense")).unwrap();
        let answer = read_answer(&client);
        assert!(answer.head.starts_with(version), "{answer:?}");
        assert_eq!(answer.head.lines().find(|line| line.starts_with("Connection")), expected);
        if expected == Some("Connection: close") {
            assert_eq!(read_to_end(&client), b"");
            node.emptied();
        } else {
            client.write_all(&post("nonsense")).unwrap();
            assert!(read_answer(&client).head.contains(" 400 "));
        }
    }
}

#[test]
fn the_content_type_is_the_clients_choice() {
    let node = bosh_node(Config::default());
    let (starter, mut client) = served(&node, bosh_listener());
    client.write_all(&post(&body("rid='1' to='localhost' wait='0' content='text/html'", ""))).unwrap();
    assert!(read_answer(&client).head.contains("Content-Type: text/html\r\n"));
    starter.started_xmpp();
}

#[test]
fn what_is_not_for_native_bosh_goes_to_the_handler() {
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    let tag = "0".repeat(64);
    for request in [
        unknown("6b1a2f"),
        unknown(&tag),
        post(&creation("other.example")),
        post(""),
        post_with("HTTP/1.1", json, &creation("localhost")),
        b"GET /bosh HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"OPTIONS /bosh HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"POST /bosh/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n ".to_vec(),
        b"POST /bosh HTTP/1.0\r\nContent-Length: 1\r\n\r\n ".to_vec(),
    ] {
        let node = bosh_node(Config::default());
        let (starter, mut client) = served(&node, bosh_listener());
        client.write_all(&request).unwrap();
        let conn = starter.started();
        let head = node.recv(conn, &starter, 0).unwrap();
        let rest = request.len() - head.len();
        let body = if rest > 0 { node.recv(conn, &starter, rest).unwrap() } else { Vec::new() };
        assert_eq!([head, body].concat(), request, "the handler has all of it");
    }
}

#[test]
fn a_handler_at_a_boundary_leaves_a_request_of_bosh() {
    let both = Both::new(Config::default());
    let mut client = both.port.connect();
    client.write_all(&unknown("6b1a2f")).unwrap();
    let conn = both.starter.started();
    let head = both.node.recv(conn, &both.starter, 0).unwrap();
    both.node.recv(conn, &both.starter, unknown("6b1a2f").len() - head.len()).unwrap();
    let wait = both.node.wait_read(conn, &both.starter, 0);
    both.send(&client, 101, "<presence id='1'/>");
    wait.woken();
    assert!(both.owner.event().contains("id='1'"));
    both.say(MESSAGE);
    assert!(read_answer(&client).body.contains(MESSAGE));
    assert_eq!(both.node.watches(), 1, "the handler has nothing any more");
}

#[test]
fn a_session_of_ours_that_is_gone_or_another_secret_is_not_found() {
    let both = Both::new(Config::default());
    let (known, secret) = both.sid.split_at(32);
    let other_secret = secret.chars().map(|digit| if digit == '0' { '1' } else { '0' });
    let other_session = |digit: &str| format!("{}{digit}{}", &known[..31], secret);
    let sids = [
        known.chars().chain(other_secret).collect(),
        other_session(if known.ends_with('1') { "2" } else { "1" }),
    ];
    for sid in sids {
        let mut client = both.port.connect();
        client.write_all(&unknown(&sid)).unwrap();
        read_answer(&client).terminates_with("item-not-found");
    }
    assert_eq!(both.node.system.stats().sessions, 1);
    assert!(both.owner.is_quiet() && both.starter.is_quiet());
}

#[test]
fn a_long_body_is_read_as_a_short_one() {
    let both = Both::new(Config::default());
    let long = format!("<message><body>{}</body></message>", "x".repeat(200_000));
    let mut client = both.port.connect();
    let request = both.request(101, "", &long);
    write_in_background(&client, request).join().unwrap();
    assert!(both.owner.event().contains("xxxxx"));
    both.node.xmpp_flush(both.id, &both.owner);
    both.say(MESSAGE);
    assert!(read_answer(&client).body.contains(MESSAGE));

    let request = body(&format!("rid='102' sid='{}'", both.sid), &long);
    let head = format!(
        "POST /bosh HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        request.len()
    );
    client.write_all(head.as_bytes()).unwrap();
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(read_exactly(&client, go_on.len()), go_on);
    write_in_background(&client, request.into_bytes()).join().unwrap();
    assert!(both.owner.event().contains("xxxxx"));
    both.node.xmpp_flush(both.id, &both.owner);

    let chunk = body(&format!("rid='103' sid='{}'", both.sid), "<presence id='3'/>");
    let chunked = format!(
        "POST /bosh HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n",
        chunk.len()
    );
    both.port.connect().write_all(chunked.as_bytes()).unwrap();
    assert!(both.owner.event().contains("id='3'"));
}

#[test]
fn a_body_over_the_bound_is_refused_before_it_comes() {
    let node = bosh_node(Config::default());
    let bosh_hosts = [("localhost".into(), Config::default())].into();
    let stream = stream::Config { max_stanza: 70_000, ..stream::Config::default() };
    node.system.set_xmpp_config(XmppConfig { stream, bosh_hosts, ..XmppConfig::default() });
    let (starter, client) = served(&node, bosh_listener());
    let mut exact = creation("localhost");
    exact.push_str(&" ".repeat(70_000 - exact.len()));
    write_in_background(&client, post(&exact)).join().unwrap();
    let owner = node.spawn();
    node.own(starter.started_xmpp(), &owner);
    let (_starter, mut client) = served(&node, bosh_listener());
    client.write_all(b"POST /bosh HTTP/1.1\r\nHost: x\r\nContent-Length: 70001\r\n\r\n").unwrap();
    let answer = read_answer(&client);
    assert!(answer.head.starts_with("HTTP/1.1 403 Request Too Large\r\nConnection: close\r\n"), "{answer:?}");
    assert_eq!(read_to_end(&client), b"");
}
