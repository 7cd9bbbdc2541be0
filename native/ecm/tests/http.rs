//! Health and metrics, as monitoring asks for them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::control::Fixed;
use megaphone_ecm::http::{self, Handle};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn start() -> (Handle, Arc<Fixed>) {
    let control = Arc::new(Fixed::default());
    (http::start("127.0.0.1:0".parse().unwrap(), control.clone()).unwrap(), control)
}

/// All that is said to these bytes.
fn say(handle: &Handle, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(handle.address()).unwrap();
    socket.write_all(bytes).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn get(handle: &Handle, path: &str) -> String {
    say(handle, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn health_is_that_it_runs_and_readiness_that_it_takes_clients() {
    let (handle, control) = start();
    assert_eq!(status(&get(&handle, "/healthz")), "200");
    assert_eq!(status(&get(&handle, "/readyz")), "503");
    control.is_ready.store(true, Ordering::Relaxed);
    assert_eq!(status(&get(&handle, "/readyz?verbose")), "200");
    assert!(get(&handle, "/healthz").ends_with("\r\n\r\nok\n"));
}

#[test]
fn other_paths_and_methods_are_refused() {
    let (handle, _) = start();
    assert_eq!(status(&get(&handle, "/")), "404");
    assert_eq!(status(&get(&handle, "/metricss")), "404");
    let post = say(&handle, b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert!(post.starts_with("HTTP/1.1 405") && post.contains("Allow: GET, HEAD\r\n"), "{post}");
    let head = say(&handle, b"HEAD /healthz HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.0 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("Content-Length: 3\r\n"), "{head}");
}

#[test]
fn what_is_no_request_is_refused_within_bounds() {
    let (handle, _) = start();
    assert_eq!(status(&say(&handle, b"\x00\x01\r\n\r\n")), "400");
    let long = [b"GET / HTTP/1.1\r\nHost: ", &[b'a'; 20_000][..], b"\r\n\r\n"].concat();
    assert_eq!(status(&say(&handle, &long)), "431");
    // Nothing at all, and half a head that goes on.
    drop(TcpStream::connect(handle.address()).unwrap());
    assert_eq!(say(&handle, b"GET /healthz HT"), "");
    assert_eq!(status(&get(&handle, "/healthz")), "200");
}

#[test]
fn connections_are_bounded_and_those_of_silent_clients_end() {
    let (handle, _) = start();
    let connect = |_| TcpStream::connect(handle.address()).unwrap();
    let mut silent = (0..40).map(connect).collect::<Vec<_>>();
    for socket in &mut silent {
        assert_eq!(socket.read(&mut [0]).unwrap_or(0), 0);
    }
    assert_eq!(status(&get(&handle, "/healthz")), "200");
}

#[test]
fn metrics_are_in_the_text_format() {
    let (handle, _) = start();
    let answer = get(&handle, "/metrics");
    assert!(answer.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    let (_, page) = answer.split_once("\r\n\r\n").unwrap();
    for line in [
        "# TYPE megaphone_ecm_connections gauge",
        "megaphone_ecm_connections 1",
        "# TYPE megaphone_ecm_accepted_total counter",
        "megaphone_ecm_accepted_total 18446744073709551615",
        "megaphone_ecm_uptime_seconds 90",
        "megaphone_ecm_ready 0",
        "megaphone_ecm_node_up{node=\"ejabberd@a\"} 1",
        "megaphone_ecm_listener_connections{listen=\"192.0.2.7:5222\",for=\"c2s\"} 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in {page}");
    }
    assert!(page.contains("megaphone_ecm_info{name=\"ecm \\\"1\\\"\\n\\\\\",version="), "{page}");
    check(page);
}

/// Each metric once, with help and type before its samples.
fn check(page: &str) {
    assert!(page.ends_with('\n'));
    let mut seen = Vec::new();
    for line in page.lines() {
        let words = line.split([' ', '{']).collect::<Vec<_>>();
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().unwrap().to_owned();
            assert!(!seen.contains(&name), "{line}");
            seen.push(name);
        } else if line.starts_with("# TYPE ") {
            assert_eq!(seen.last().unwrap(), words[2]);
            assert_eq!(words[3] == "counter", words[2].ends_with("_total"), "{line}");
        } else {
            assert_eq!(seen.last().unwrap(), words[0]);
            assert!(line.rsplit(' ').next().unwrap().parse::<u64>().is_ok(), "{line}");
        }
    }
}

#[test]
fn the_address_is_free_once_it_has_ended_and_taken_before() {
    let (handle, control) = start();
    let address = handle.address();
    let error = http::start(address, control.clone()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("[http] can't listen on {address}: ")), "{error}");
    handle.stop();
    http::start(address, control).unwrap().stop();
}
