//! Bad and late input: the answer reaches the client, whatever else it sent.

use crate::common::*;
use megaphone_core::{Limits, ListenerConfig, Mode};
use std::io::Write;
use std::time::Duration;

fn http() -> ListenerConfig {
    ListenerConfig { mode: Mode::Http, zero_ends_request: true, ..ListenerConfig::default() }
}

/// Sends `bytes` to such a listener and nothing else; the status code of the answer. No handler starts.
#[track_caller]
fn answer_to(bytes: &[u8], config: ListenerConfig) -> String {
    let node = Node::new();
    let starter = node.spawn();
    let mut client = node.listen(config, Some(&starter)).connect();
    client.write_all(bytes).unwrap();
    let answer = String::from_utf8(read_to_end(&client)).unwrap();
    drop(client);
    node.emptied();
    assert!(starter.is_quiet());
    answer.split(' ').nth(1).unwrap_or("").to_owned()
}

#[test]
fn a_bad_head_is_answered_though_more_bytes_came_with_it() {
    for more in [0, 10, 300_000] {
        let mut bytes = b"GET / HTTP/1.1\r\nHost: x\r\nHost : x\r\n\r\n".to_vec();
        bytes.resize(bytes.len() + more, b'x');
        assert_eq!(answer_to(&bytes, http()), "400");
    }
}

#[test]
fn a_head_over_the_limit_is_answered() {
    let mut bytes = b"GET / HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    bytes.resize(200_000, b'x');
    assert_eq!(answer_to(&bytes, http()), "431");
}

#[test]
fn a_chunked_body_over_the_limit_is_answered() {
    let limits = Limits { max_chunked_body: 10, ..Limits::default() };
    let bytes = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n";
    assert_eq!(answer_to(bytes, ListenerConfig { limits, ..http() }), "413");
}

#[test]
fn a_late_head_is_answered() {
    let head_timeout = Duration::from_millis(100);
    assert_eq!(answer_to(b"GET / HTTP/1.1\r\n", ListenerConfig { head_timeout, ..http() }), "408");
}

#[test]
fn a_late_body_is_answered() {
    let body_timeout = Duration::from_millis(100);
    let bytes = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf";
    assert_eq!(answer_to(bytes, ListenerConfig { body_timeout, ..http() }), "408");
}

#[test]
fn a_silent_connection_closes_without_a_word() {
    let idle_timeout = Duration::from_millis(100);
    assert_eq!(answer_to(b"", ListenerConfig { idle_timeout, ..http() }), "");
}

#[test]
fn a_connection_that_was_parked_and_is_silent_closes() {
    let node = Node::new();
    let starter = node.spawn();
    let idle_timeout = Duration::from_millis(200);
    let mut client = node.listen(ListenerConfig { idle_timeout, ..http() }, Some(&starter)).connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let conn = starter.started();
    node.recv(conn, &starter, 0).unwrap();
    node.wait_read(conn, &starter, 0);
    assert_eq!(node.system.park(conn, starter.pid, &mut node.sink()), Ok(true));
    assert_eq!(read_to_end(&client), b"");
    node.emptied();
}

#[test]
fn an_answer_that_is_still_leaving_outlives_the_silence() {
    let node = Node::new();
    let starter = node.spawn();
    let idle_timeout = Duration::from_millis(100);
    let mut client = node.listen(ListenerConfig { idle_timeout, ..http() }, Some(&starter)).connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let conn = starter.started();
    node.recv(conn, &starter, 0).unwrap();
    let answer = pattern(0, 20_000_000);
    node.send(conn, &starter, &answer).unwrap();
    node.wait_read(conn, &starter, 0);
    assert_eq!(node.system.park(conn, starter.pid, &mut node.sink()), Ok(true));
    eventually("the end of the idle time", || {
        let conns = node.system.connections();
        conns.iter().all(|conn| node.system.info(*conn).is_ok_and(|info| info.phase == "draining"))
    });
    assert!(read_to_end(&client) == answer);
    drop(client);
    node.emptied();
}

#[test]
fn bad_bytes_after_a_request_are_refused_when_it_is_their_turn() {
    let node = Node::new();
    let starter = node.spawn();
    let mut client = node.listen(http(), Some(&starter)).connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\x16\x03\x01 not a request").unwrap();
    let conn = starter.started();
    node.recv(conn, &starter, 0).unwrap();
    node.send(conn, &starter, b"first;").unwrap();
    assert_eq!(node.recv(conn, &starter, 0), Err(megaphone_core::Error::Closed));
    let answers = read_to_end(&client);
    assert!(answers.starts_with(b"first;HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answers));
    drop(client);
    node.emptied();
}

#[test]
fn bad_bytes_end_a_wait_for_a_next_request() {
    let node = Node::new();
    let starter = node.spawn();
    let mut client = node.listen(http(), Some(&starter)).connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let conn = starter.started();
    node.recv(conn, &starter, 0).unwrap();
    let wait = node.wait_read(conn, &starter, 0);
    client.write_all(b"\x16\x03\x01").unwrap();
    wait.woken();
    assert!(read_to_end(&client).starts_with(b"HTTP/1.1 400 "));
    assert_eq!(node.try_read(conn, &starter, 0).err(), Some(megaphone_core::Error::Closed));
}

#[test]
fn a_connection_that_nobody_takes_closes_and_the_log_is_told() {
    let node = Node::new();
    let start_timeout = Duration::from_millis(100);
    let port = node.listen(ListenerConfig { mode: Mode::Raw, start_timeout, ..http() }, None);
    let client = port.connect();
    assert_eq!(node.notice(), megaphone_core::Notice::StartTimeout { listener: port.id });
    assert_eq!(read_to_end(&client), b"");
}

#[test]
fn refusals_carry_the_listeners_header_lines_and_where_bosh_is_served_those_for_pages_of_any_origin() {
    let node = Node::new();
    let mut config = http();
    config.response_headers = b"Server: x\r\n".to_vec();
    for (routes, is_for_all) in [(Vec::new(), false), (crate::bosh_client::bosh_listener().routes, true)] {
        let config = ListenerConfig { routes, ..config.clone() };
        let mut client = node.listen(config, Some(&node.spawn())).connect();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let answer = String::from_utf8(read_to_end(&client)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\r\nServer: x\r\n"), "{answer}");
        assert_eq!(answer.contains("\r\nAccess-Control-Allow-Origin: *\r\n"), is_for_all, "{answer}");
    }
}
