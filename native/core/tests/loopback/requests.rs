//! Request mode: a handler starts when a request is whole, and between requests there is none.

use crate::common::*;
use megaphone_core::{Active, Conn, Error, Limits, ListenerConfig, Mode, Opt, Owned};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const READ_BUFFER: usize = 64 * 1024;

fn http() -> ListenerConfig {
    ListenerConfig { mode: Mode::Http, zero_ends_request: true, ..ListenerConfig::default() }
}

/// A listener in request mode, who starts its handlers, and a client.
fn served(node: &Node, config: ListenerConfig) -> (Process, TcpStream) {
    let starter = node.spawn();
    let client = node.listen(config, Some(&starter)).connect();
    (starter, client)
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

fn post(body: &[u8]) -> Vec<u8> {
    let mut request =
        format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend(body);
    request
}

fn chunked(body: &[u8], chunk: usize) -> Vec<u8> {
    let mut request = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in body.chunks(chunk) {
        request.extend(format!("{:x}\r\n", piece.len()).bytes());
        request.extend(piece);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

#[track_caller]
fn park(node: &Node, conn: Conn, process: &Process) -> bool {
    node.system.park(conn, process.pid, &mut node.sink()).expect("park")
}

#[test]
fn no_handler_starts_before_the_request_is_whole() {
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    let request = post(b"body");
    for byte in &request[..request.len() - 1] {
        client.write_all(&[*byte]).unwrap();
    }
    eventually("all but the last byte", || {
        node.system.connections().iter().any(|conn| node.info(*conn).inbound == request.len() - 1)
    });
    assert!(starter.is_quiet());
    client.write_all(b"y").unwrap();
    let conn = starter.started();
    let handler = node.spawn();
    let head = node.recv(conn, &handler, 0).unwrap();
    assert_eq!(head, &request[..request.len() - 4], "a head comes by itself");
    assert_eq!(node.recv(conn, &handler, 4).unwrap(), b"body");
    assert_eq!(node.system.owner(conn), Ok(None), "reading makes nobody its owner");
    node.system.handler_started(conn, handler.pid, &mut node.sink()).unwrap();
    assert_eq!(node.system.owner(conn), Ok(Some(handler.pid)));
}

#[test]
fn a_parked_connection_comes_back_under_another_name() {
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    client.write_all(&get("/1")).unwrap();
    let first = starter.started();
    let handler = node.spawn();
    assert_eq!(node.recv(first, &handler, 0).unwrap(), get("/1"));
    node.send(first, &handler, b"answer").unwrap();
    let (wait, park_after) = node.try_read(first, &handler, 0).unwrap().err().unwrap();
    assert_eq!(park_after, Some(Duration::from_millis(100)));
    let (told, monitor) = waiter();
    node.system.monitor(first, handler.pid, 1, told).unwrap();
    assert!(park(&node, first, &handler));
    monitor.woken();
    assert!(wait.is_dropped());
    assert_eq!(node.watches(), 0);
    assert_eq!(node.try_read(first, &handler, 0).err(), Some(Error::Closed));
    assert_eq!(node.try_send(first, &handler, b"x").err(), Some(Error::Closed));
    assert_eq!(node.system.close(first, &mut node.sink()), Err(Error::Closed));
    node.system.process_ended(handler.pid, [Owned::Connection(first)].into_iter().collect(), &[]);

    client.write_all(&get("/2")).unwrap();
    let second = starter.started();
    assert_ne!(first, second);
    let handler = node.spawn();
    assert_eq!(node.recv(second, &handler, 0).unwrap(), get("/2"));
    assert_eq!(read_exactly(&client, 6), b"answer");
}

#[test]
fn a_connection_with_a_request_is_not_parked() {
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    client.write_all(&get("/1")).unwrap();
    let conn = starter.started();
    node.recv(conn, &starter, 0).unwrap();
    let wait = node.wait_read(conn, &starter, 0);
    client.write_all(&get("/2")).unwrap();
    wait.woken();
    assert!(!park(&node, conn, &starter));
    assert_eq!(node.recv(conn, &starter, 0).unwrap(), get("/2"));
}

#[test]
fn pipelined_requests_are_handled_one_by_one() {
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    let requests = [get("/1"), post(b"two"), chunked(b"three", 2), get("/4")];
    client.write_all(&requests.concat()).unwrap();
    let expected: [(&[u8], &[u8]); 4] =
        [(b"GET /1", b""), (b"POST /", b"two"), (b"POST /", b"three"), (b"GET /4", b"")];
    let conn = starter.started();
    for (line, body) in expected {
        let head = node.recv(conn, &starter, 0).unwrap();
        assert!(head.starts_with(line) && head.ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&head));
        if !body.is_empty() {
            assert_eq!(node.recv(conn, &starter, body.len()).unwrap(), body);
        }
        node.send(conn, &starter, line).unwrap();
    }
    assert_eq!(read_exactly(&client, 24), b"GET /1POST /POST /GET /4");
    let _parked_later = node.wait_read(conn, &starter, 0);
    assert!(starter.is_quiet(), "one start for one stay");
}

#[test]
fn a_body_that_was_not_read_is_skipped() {
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    client.write_all(&[post(b"GET /smuggled HTTP/1.1\r\n\r\n"), get("/next")].concat()).unwrap();
    let conn = starter.started();
    assert!(node.recv(conn, &starter, 0).unwrap().starts_with(b"POST"));
    assert_eq!(node.recv(conn, &starter, 0).unwrap(), get("/next"));
}

#[test]
fn a_large_body_is_read_with_back_pressure() {
    let node = Node::new();
    let (starter, client) = served(&node, http());
    let body = pattern(0, 20 * 1024 * 1024);
    let writer = write_in_background(&client, post(&body));
    let conn = starter.started();
    let mut got = 0;
    let head = node.recv(conn, &starter, 0).unwrap();
    assert!(head.ends_with(b"\r\n\r\n"));
    let watermark = 64 * 1024;
    eventually("input up to the mark", || node.info(conn).inbound >= watermark);
    while got < body.len() {
        assert!(node.info(conn).inbound < watermark + READ_BUFFER);
        let data = node.recv(conn, &starter, (body.len() - got).min(100_000)).unwrap();
        assert!(data == body[got..got + data.len()]);
        got += data.len();
    }
    writer.join().unwrap();
}

#[test]
fn a_client_is_told_to_send_the_chunks_that_it_holds_back() {
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    for _ in 0..2 {
        client
            .write_all(
                b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n",
            )
            .unwrap();
        assert_eq!(read_exactly(&client, 25), b"HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"3\r\nabc\r\n0\r\n\r\n").unwrap();
        let conn = starter.started();
        let head = String::from_utf8(node.recv(conn, &starter, 0).unwrap()).unwrap();
        assert!(head.contains("Content-Length: 3\r\n") && !head.contains("Expect"), "{head}");
        assert_eq!(node.recv(conn, &starter, 3).unwrap(), b"abc");
        node.wait_read(conn, &starter, 0);
        assert!(park(&node, conn, &starter));
    }
}

/// Its decoded body is over the mark at which reading pauses, and all of it is needed.
fn over_the_mark() -> (Vec<u8>, Vec<u8>) {
    let body = pattern(0, 500_000);
    (chunked(&body, 10_000), body)
}

#[test]
fn a_handler_that_waits_gets_a_request_larger_than_the_mark() {
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    client.write_all(&get("/1")).unwrap();
    let conn = starter.started();
    node.recv(conn, &starter, 0).unwrap();
    let wait = node.wait_read(conn, &starter, 0);
    let (request, body) = over_the_mark();
    let writer = write_in_background(&client, request);
    wait.woken();
    node.recv(conn, &starter, 0).unwrap();
    assert!(node.recv(conn, &starter, body.len()).unwrap() == body);
    writer.join().unwrap();
}

#[test]
fn reading_that_paused_goes_on_when_the_connection_is_parked() {
    let node = Node::new();
    let mut config = http();
    config.options.recv_high_watermark = 1;
    let (starter, mut client) = served(&node, config);
    client.write_all(&get("/1")).unwrap();
    let conn = starter.started();
    // It has not asked for more when more comes, so that what is over the mark stays in the kernel.
    let head = node.recv(conn, &starter, 0).unwrap();
    assert_eq!(head, get("/1"));
    let (request, body) = over_the_mark();
    let writer = write_in_background(&client, request);
    eventually("input up to the mark", || node.info(conn).inbound >= 1);
    let _given_up = node.wait_read(conn, &starter, 0);
    // Ready before the handler gave up is as good.
    let conn = if park(&node, conn, &starter) { starter.started() } else { conn };
    node.recv(conn, &starter, 0).unwrap();
    assert!(node.recv(conn, &starter, body.len()).unwrap() == body);
    writer.join().unwrap();
}

#[test]
fn half_a_request_and_an_end_are_nobodys_business() {
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&client), b"");
    node.emptied();
    assert!(starter.is_quiet());
}

#[test]
fn a_client_that_closed_its_side_after_a_request_gets_the_answer() {
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    client.write_all(&[get("/1"), get("/2")].concat()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let conn = starter.started();
    for path in ["/1", "/2"] {
        assert_eq!(node.recv(conn, &starter, 0).unwrap(), get(path));
        node.send(conn, &starter, path.as_bytes()).unwrap();
    }
    assert_eq!(node.recv(conn, &starter, 0), Err(Error::Closed));
    assert_eq!(read_to_end(&client), b"/1/2");
    node.emptied();
}

#[test]
fn a_client_that_closes_its_side_within_a_large_body_gets_the_answer() {
    let node = Node::new();
    let limits = Limits { max_buffered_body: 0, ..Limits::default() };
    let (starter, mut client) = served(&node, ListenerConfig { limits, ..http() });
    client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    let conn = starter.started();
    node.recv(conn, &starter, 0).unwrap();
    let wait = node.wait_read(conn, &starter, 10);
    client.shutdown(Shutdown::Write).unwrap();
    wait.woken();
    assert_eq!(node.recv(conn, &starter, 10), Err(Error::Closed));
    node.send(conn, &starter, b"what was that?").unwrap();
    node.system.close(conn, &mut node.sink()).unwrap();
    assert_eq!(read_to_end(&client), b"what was that?");
    node.emptied();
}

#[test]
fn bytes_after_an_upgrade_are_raw() {
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    let frames = b"\x81\x85 this is no request";
    client.write_all(&[get("/ws"), frames.to_vec()].concat()).unwrap();
    let conn = starter.started();
    node.system.handler_started(conn, starter.pid, &mut node.sink()).unwrap();
    assert_eq!(node.recv(conn, &starter, 0).unwrap(), get("/ws"));
    node.send(conn, &starter, b"101").unwrap();
    node.set(conn, Opt::Active(Active::Once));
    let mut got = Vec::new();
    while got.len() < frames.len() {
        match starter.next() {
            Message::Data { bytes, .. } => got.extend(bytes),
            other => panic!("{other:?}"),
        }
        node.set(conn, Opt::Active(Active::Once));
    }
    assert_eq!(got, frames);
    assert!(!node.info(conn).is_http);
    assert_eq!(node.system.park(conn, starter.pid, &mut node.sink()), Err(Error::Closed));
}

#[test]
fn a_handler_that_died_before_it_began_ends_the_connection() {
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    client.write_all(&get("/")).unwrap();
    let conn = starter.started();
    let handler = node.spawn();
    node.kill(&handler);
    assert_eq!(node.system.handler_started(conn, handler.pid, &mut node.sink()), Err(Error::Closed));
    assert_eq!(read_to_end(&client), b"");
    node.emptied();
}

/// Requests of any kind, cut anywhere, with or without a handler between them: what is delivered is what
/// was sent.
#[test]
fn what_is_delivered_is_what_was_sent() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let node = Node::with(config(1, 10));
        let limits = Limits { max_buffered_body: random.below(5000), ..Limits::default() };
        let mut config = ListenerConfig { limits, ..http() };
        config.options.recv_high_watermark = 1 + random.below(5000);
        let (starter, client) = served(&node, config);
        let bodies: Vec<Vec<u8>> = (0..1 + random.below(10))
            .map(|at| pattern(at, random.below(3).pow(2) * random.below(4000)))
            .collect();
        let mut bytes = Vec::new();
        for body in &bodies {
            let is_chunked = random.below(2) == 0;
            bytes.extend(if is_chunked { chunked(body, 1 + random.below(3000)) } else { post(body) });
        }
        let writer = write_in_pieces(&client, bytes, Random(random.next()));
        let mut conn = starter.started();
        for (at, body) in bodies.iter().enumerate() {
            let head = node.recv(conn, &starter, 0).unwrap();
            assert!(head.starts_with(b"POST / HTTP/1.1\r\n") && head.ends_with(b"\r\n\r\n"));
            let mut got = 0;
            while got < body.len() {
                let wants = 1 + random.below(body.len() - got);
                let data = node.recv(conn, &starter, wants).unwrap();
                assert!(data == body[got..got + wants], "body {at} at {got}");
                got += wants;
            }
            let is_last = at + 1 == bodies.len();
            if !is_last && random.below(2) == 0 && node.waits_for_next(conn, &starter) {
                if park(&node, conn, &starter) {
                    conn = starter.started();
                } else {
                    node.system.cancel_wait(conn, starter.pid, &mut node.sink()).unwrap();
                }
            }
        }
        writer.join().unwrap();
    }
}

fn write_in_pieces(client: &TcpStream, bytes: Vec<u8>, mut random: Random) -> std::thread::JoinHandle<()> {
    let mut client = client.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let most = if random.below(2) == 0 { 20 } else { 5000 };
            let (piece, after) = rest.split_at((1 + random.below(most)).min(rest.len()));
            client.write_all(piece).expect("write");
            rest = after;
        }
    })
}

#[test]
fn a_parked_connection_that_half_closes_gets_the_rest_of_its_answer() {
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    client.write_all(&get("/")).unwrap();
    let conn = starter.started();
    let handler = node.spawn();
    node.recv(conn, &handler, 0).unwrap();
    // More than the kernel takes at once.
    let answer = pattern(0, 20_000_000);
    node.send(conn, &handler, &answer).unwrap();
    assert!(node.try_read(conn, &handler, 0).unwrap().is_err());
    assert!(park(&node, conn, &handler));
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_to_end(&client) == answer);
    node.emptied();
}

#[test]
fn a_quick_peer_is_looked_for_and_a_slow_one_is_waited_for() {
    use megaphone_core::{PollOutcome, Received};
    let node = Node::new();
    let (starter, mut client) = served(&node, http());
    client.write_all(&get("/1")).unwrap();
    let conn = starter.started();
    let handler = node.spawn();
    let poll = || {
        let mut buffer = vec![0; READ_BUFFER];
        let take = |received: Received<'_>, _| match received {
            Received::Bytes(bytes) => bytes.to_vec(),
            Received::Packet(_) => unreachable!("no packet mode"),
        };
        node.system.poll_read(conn, handler.pid, 0, &mut node.sink(), &mut buffer, take).unwrap()
    };
    assert!(matches!(poll(), PollOutcome::Data(head) if head == get("/1")));
    assert!(matches!(poll(), PollOutcome::Nothing), "nothing is known of this peer yet");
    let wait = node.wait_read(conn, &handler, 0);
    client.write_all(&get("/2")).unwrap();
    wait.woken();
    assert!(matches!(poll(), PollOutcome::Data(head) if head == get("/2")));
    client.write_all(&get("/3")).unwrap();
    eventually("the third request", || match poll() {
        PollOutcome::Data(head) => head == get("/3"),
        PollOutcome::Soon | PollOutcome::Nothing | PollOutcome::Large => false,
    });
}
