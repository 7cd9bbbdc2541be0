//! Streams, credit, fairness, bounds, and what a peer may not do.

use megaphone_proto::link::{Config, End, GoAway, Link, OpenError, Reason, SendError, Side};
use megaphone_proto::time::Time;

use crate::driver::{client, config, pair, pass, read, write};

fn frame(kind: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&(body.len() as u16).to_be_bytes());
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// What a node with stream 0 open says to bytes.
fn node_says(bytes: &[u8]) -> String {
    let (mut ecm, mut node) = pair(config());
    ecm.open(&client()).unwrap();
    assert_eq!(pass(&mut ecm, &mut node), ["opened 0 c2s"]);
    let told = read(&mut node, bytes, Time::START).join(", ");
    if node.is_over() {
        assert_eq!(pass(&mut node, &mut ecm), ["lost: ended by the peer: protocol error"]);
    }
    told
}

#[test]
fn a_peer_that_breaks_a_rule_ends_the_link() {
    let mut open = Vec::new();
    let (mut ecm, _) = pair(config());
    ecm.open(&client()).unwrap();
    open.extend(write(&mut ecm, usize::MAX));
    let cases: [(Vec<u8>, &str); 13] = [
        (frame(9, 0, b""), "frame of unknown type 9"),
        (frame(2, 0, b""), "frame of wrong length"),
        (frame(2, 0, &[0; 16_385]), "frame of wrong length"),
        (frame(2, 1, b"x"), "frame for stream 1, which is not open"),
        (frame(3, 7, &[1]), "frame for stream 7, which is not open"),
        (frame(2, 0, &[0; 8193]), "more data than granted on stream 0"),
        (frame(4, 0, &[0; 4]), "credit of 0 or too much on stream 0"),
        (frame(4, 0, &[0x7F, 255, 255, 255]), "credit of 0 or too much on stream 0"),
        (frame(0x11, 0, &[0, 0, 0, 0, 0, 0, 0, 1]), "acknowledgement of what was not sent"),
        (frame(0x12, 1, b""), "frame that means nothing"),
        (frame(3, 0, &[99]), "frame that means nothing"),
        (open, "stream 0 opened twice"),
        (frame(1, 1 << 20, &write_open()), "stream 1048576 is beyond the bound"),
    ];
    for (bytes, error) in cases {
        let told = node_says(&bytes);
        assert!(told.ends_with(&format!("lost: the peer broke the protocol: {error}")), "{told} for {error}");
    }
    let twice = [frame(3, 0, &[0]), frame(2, 0, b"x")].concat();
    assert!(node_says(&twice).ends_with("frame for stream 0 after its close"));
}

fn write_open() -> Vec<u8> {
    let (mut ecm, _) = pair(config());
    ecm.open(&client()).unwrap();
    write(&mut ecm, usize::MAX)[7..].to_vec()
}

#[test]
fn a_node_opens_no_streams() {
    let (mut ecm, mut node) = pair(config());
    assert_eq!(node.open(&client()), Err(OpenError::MayNot));
    let told = read(&mut ecm, &frame(1, 0, &write_open()), Time::START);
    assert_eq!(told, ["lost: the peer broke the protocol: stream opened by an end that may not"]);
}

#[test]
fn a_half_closed_stream_goes_on_the_other_way() {
    let (mut ecm, mut node) = pair(config());
    let number = ecm.open(&client()).unwrap();
    ecm.send_data(number, b"question").unwrap();
    ecm.close(number, Reason::Eof);
    assert_eq!(ecm.send_data(number, b"x"), Err(SendError::Closed));
    assert_eq!(pass(&mut ecm, &mut node), ["opened 0 c2s", "data 0 question", "Eof(0)"]);
    node.send_data(number, b"answer").unwrap();
    node.close(number, Reason::Closed);
    assert_eq!(pass(&mut node, &mut ecm), ["data 0 answer", "Closed(0, Closed)"]);
    assert_eq!((ecm.streams(), node.streams()), (1, 1));
    ecm.close(number, Reason::Closed);
    assert!(pass(&mut ecm, &mut node).is_empty());
    assert_eq!((ecm.streams(), node.streams()), (0, 0));
}

#[test]
fn a_number_is_used_again_only_when_both_ends_have_taken_leave() {
    let (mut ecm, mut node) = pair(config());
    assert_eq!(ecm.open(&client()), Ok(0));
    pass(&mut ecm, &mut node);
    node.close(0, Reason::Policy);
    // Under way when the node takes leave, and passed over.
    ecm.send_data(0, b"late").unwrap();
    ecm.grant(0, 5);
    assert!(pass(&mut ecm, &mut node).is_empty());
    assert_eq!(ecm.open(&client()), Ok(1));
    assert_eq!(pass(&mut node, &mut ecm), ["Closed(0, Policy)"]);
    ecm.close(0, Reason::Closed);
    assert_eq!(ecm.open(&client()), Ok(0));
    assert_eq!(pass(&mut ecm, &mut node), ["opened 1 c2s", "opened 0 c2s"]);
}

#[test]
fn a_stream_without_credit_waits_and_stops_nobody() {
    let (mut ecm, mut node) = pair(Config { initial_credit: 10, ..config() });
    for _ in 0..2 {
        ecm.open(&client()).unwrap();
    }
    pass(&mut ecm, &mut node);
    node.want_to_send(0);
    assert_eq!(node.poll_ready(), Some((0, 10)));
    node.send_data(0, b"0123456789").unwrap();
    node.want_to_send(0);
    node.want_to_send(1);
    assert_eq!(node.poll_ready(), Some((1, 10)));
    assert_eq!(node.poll_ready(), None);
    assert_eq!(node.send_data(0, b"x"), Err(SendError::BeyondQuantum));
    ecm.grant(0, 3);
    pass(&mut ecm, &mut node);
    assert_eq!(node.poll_ready(), Some((0, 3)));
}

#[test]
fn streams_take_turns() {
    let (mut ecm, mut node) = pair(Config { initial_credit: 1 << 20, unsent_bytes: 1 << 30, ..config() });
    for number in 0..5 {
        ecm.open(&client()).unwrap();
        ecm.want_to_send(number);
    }
    for turn in 0..50 {
        let (number, quantum) = ecm.poll_ready().unwrap();
        assert_eq!((number, quantum), (turn % 5, 16_384));
        ecm.send_data(number, &vec![0; quantum]).unwrap();
        ecm.want_to_send(number);
    }
    assert!(pass(&mut ecm, &mut node).len() >= 50);
}

#[test]
fn no_more_is_kept_than_the_bound_and_all_goes_on_behind_it() {
    let bounds = Config {
        max_payload: 1024,
        resend_bytes: 5000,
        unsent_bytes: 5000,
        initial_credit: 1 << 30,
        ..config()
    };
    let (mut ecm, mut node) = pair(bounds);
    ecm.open(&client()).unwrap();
    ecm.want_to_send(0);
    let (mut sent, mut got) = (0, 0);
    for _ in 0..100 {
        while let Some((number, quantum)) = ecm.poll_ready() {
            ecm.send_data(number, &vec![b'x'; quantum]).unwrap();
            sent += quantum;
            ecm.want_to_send(number);
        }
        // Small frames of streams wait too, and come first.
        ecm.grant(0, 1);
        assert!((1..=5000).contains(&ecm.kept_bytes()));
        assert_eq!(ecm.send_data(0, &[0; 1024]), Err(SendError::Full));
        got += pass(&mut ecm, &mut node).iter().map(|told| told.matches('x').count()).sum::<usize>();
        assert_eq!(got, sent);
        pass(&mut node, &mut ecm);
    }
    assert!(sent > 100 * 2048);
}

#[test]
fn a_peer_that_says_so_gets_no_new_streams() {
    let (mut ecm, mut node) = pair(config());
    node.go_away(GoAway::Stopping);
    assert_eq!(pass(&mut node, &mut ecm), ["GoAway(Stopping)"]);
    assert_eq!(ecm.open(&client()), Err(OpenError::MayNot));
}

#[test]
fn a_link_that_ends_tells_its_streams() {
    let (mut ecm, mut node) = pair(config());
    for _ in 0..2000 {
        ecm.open(&client()).unwrap();
    }
    assert_eq!(pass(&mut ecm, &mut node).len(), 2000);
    node.close(7, Reason::Reset);
    ecm.end(End::Done);
    assert_eq!(pass(&mut ecm, &mut node), ["lost: ended by the peer: done"]);
    let mut lost: Vec<_> = std::iter::from_fn(|| node.poll_lost()).collect();
    lost.sort_unstable();
    assert_eq!(lost, (0..2000).filter(|number| *number != 7).collect::<Vec<_>>());
}

#[test]
fn a_silent_connection_is_asked_and_then_given_up() {
    let (mut ecm, mut node) = pair(config());
    let at = node.poll_timeout().unwrap();
    node.handle_timeout(at);
    assert_eq!(read(&mut ecm, &write(&mut node, 100), at), [""; 0]);
    let pong = write(&mut ecm, 100);
    assert_eq!(pong, frame(0x13, 0, b""));
    read(&mut node, &pong, at);
    let heard = at;
    while node.is_connected() {
        let at = node.poll_timeout().unwrap();
        node.handle_timeout(at);
        assert!(node.is_connected() || at.since(heard).as_secs() >= 30);
    }
    let until = node.poll_timeout().unwrap();
    node.handle_timeout(until);
    assert!(node.is_over() && !Link::is_connected(&node));
}

#[test]
fn acknowledgements_do_not_acknowledge_each_other() {
    let (mut ecm, mut node) = pair(config());
    ecm.open(&client()).unwrap();
    pass(&mut ecm, &mut node);
    let at = node.poll_timeout().unwrap();
    assert!(at.since(Time::START).as_millis() <= 400);
    node.handle_timeout(at);
    pass(&mut node, &mut ecm);
    assert_eq!(ecm.kept_bytes(), 0);
    assert!(write(&mut ecm, 100).is_empty() && write(&mut node, 100).is_empty());
}

/// Run with `--ignored --nocapture` for a figure.
#[test]
#[ignore = "a measurement"]
fn a_million_streams_take_24_bytes_each() {
    let config = std::sync::Arc::new(config());
    let rss = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let mut node = Link::new(config.clone(), Side::Node, config.params(), Time::START);
    let body = write_open();
    let before = rss();
    for number in 0..1_000_000 {
        let bytes = frame(1, number, &body);
        assert!(node.handle_input(&mut &bytes[..], Time::START).is_some());
    }
    println!("{:.1} bytes a stream", (rss() - before) as f64 / 1e6);
}

/// Run with `--release --ignored --nocapture` for a figure.
#[test]
#[ignore = "a measurement"]
fn frames_of_200_bytes() {
    let (mut ecm, mut node) = pair(Config { initial_credit: 1 << 30, ..config() });
    for _ in 0..1000 {
        ecm.open(&client()).unwrap();
    }
    pass(&mut ecm, &mut node);
    let (mut sending, mut receiving) = (0, 0);
    for _ in 0..2000 {
        let start = std::time::Instant::now();
        (0..1000).for_each(|number| ecm.want_to_send(number));
        while let Some((number, _)) = ecm.poll_ready() {
            ecm.send_data(number, &[7; 200]).unwrap();
        }
        sending += start.elapsed().as_nanos();
        let bytes = write(&mut ecm, usize::MAX);
        let start = std::time::Instant::now();
        let mut rest = &bytes[..];
        while node.handle_input(&mut rest, Time::START).is_some() {}
        receiving += start.elapsed().as_nanos();
        let acks = write(&mut node, usize::MAX);
        read(&mut ecm, &acks, Time::START);
    }
    println!("{} ns to send a frame, {} ns to receive one", sending / 2_000_000, receiving / 2_000_000);
}
