//! What is answered once a node is connected.

use super::*;
use megaphone_proto::dist::{MAX_MESSAGE, Writer};
use proptest::prelude::*;
use std::time::Duration;

const PID: &[u8] = b"\x58\x77\x03a@b\x00\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x09";
const REFERENCE: &[u8] = b"\x5a\x00\x01\x77\x03a@b\x00\x00\x00\x09\x00\x00\x00\x05";

fn atom(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::new(&mut bytes).atom(text);
    bytes
}

fn tuple(parts: &[&[u8]]) -> Vec<u8> {
    [&[104, u8::try_from(parts.len()).unwrap()][..], &parts.concat()].concat()
}

fn operation(number: u8) -> [u8; 2] {
    [97, number]
}

/// A control message alone.
fn control(parts: &[&[u8]]) -> Vec<u8> {
    long(&[&[131], &tuple(parts)[..]].concat())
}

/// To a name.
fn send(to: &str, message: &[u8]) -> Vec<u8> {
    let control = tuple(&[&operation(6), PID, &atom(""), &atom(to)]);
    long(&[&[131], &control[..], &[131], message].concat())
}

fn call(to: &str, tag: &[u8], request: &[u8]) -> Vec<u8> {
    send(to, &tuple(&[&atom("$gen_call"), &tuple(&[PID, tag]), request]))
}

/// `[alias | Reference]`.
fn alias() -> Vec<u8> {
    [b"\x6c\x00\x00\x00\x01", &atom("alias")[..], REFERENCE].concat()
}

/// What it answers to what is no call.
fn answer(input: &[u8]) -> Vec<u8> {
    let mut peer = connected();
    assert_eq!(peer.handle_input(&mut { input }), Ok(None));
    transmitted(&mut peer)
}

fn reply(tag: &[u8]) -> Vec<u8> {
    let mut peer = connected();
    let input = call("ecm", tag, &atom("stats"));
    let Ok(Some(Event::Call { caller, request })) = peer.handle_input(&mut input.as_slice()) else {
        panic!()
    };
    assert_eq!(request.atom(), Some("stats"));
    peer.reply(caller, |writer| {
        writer.atom("ok");
    });
    transmitted(&mut peer)
}

fn ours() -> Vec<u8> {
    [b"\x58", &atom("ecm@127.0.0.1")[..], b"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x07"].concat()
}

#[test]
fn a_call_is_answered_by_its_alias_or_to_its_process() {
    let by_alias = tuple(&[&operation(33), &ours(), REFERENCE]);
    let to_process = tuple(&[&operation(2), &atom(""), PID]);
    let in_list = [b"\x6c\x00\x00\x00\x01", &alias()[..], &atom("more")].concat();
    let proper = [b"\x6c\x00\x00\x00\x02", &alias()[..], &atom("more"), b"\x6a"].concat();
    // Whatever else begins with the word is no alias.
    let no_reference = [b"\x6c\x00\x00\x00\x01", &atom("alias")[..], &atom("x")].concat();
    let tags = [
        (alias(), &by_alias),
        (in_list, &by_alias),
        (proper, &by_alias),
        (REFERENCE.to_vec(), &to_process),
        (no_reference, &to_process),
    ];
    for (tag, control) in tags {
        let message = tuple(&[&tag, &atom("ok")]);
        assert_eq!(reply(&tag), long(&[&[131], &control[..], &[131], &message].concat()), "{tag:?}");
    }
}

#[test]
fn traced_calls_are_calls() {
    let control = tuple(&[&operation(16), PID, &atom(""), &atom("ecm"), &atom("token")]);
    let message = tuple(&[&atom("$gen_call"), &tuple(&[PID, &alias()]), &atom("stats")]);
    let input = long(&[&[131], &control[..], &[131], &message].concat());
    assert!(matches!(connected().handle_input(&mut input.as_slice()), Ok(Some(Event::Call { .. }))));
}

#[test]
fn pings_are_answered_with_yes() {
    let ping = tuple(&[&atom("is_auth"), &atom("a@b")]);
    let reply = answer(&call("net_kernel", &alias(), &ping));
    assert!(reply.ends_with(&tuple(&[&alias(), &atom("yes")])));
    let reply = answer(&call("net_kernel", &alias(), &atom("x")));
    assert!(reply.ends_with(&tuple(&[&atom("error"), &atom("unknown_request")])));
}

#[test]
fn what_is_no_call_is_nobodys() {
    let cast = tuple(&[&atom("$gen_cast"), &atom("stats")]);
    let no_pid = tuple(&[&atom("$gen_call"), &tuple(&[&atom("a"), &atom("b")]), &atom("stats")]);
    for input in [
        send("ecm", &cast),
        send("ecm", &no_pid),
        send("ecm", &atom("x")),
        call("other", &alias(), &atom("x")),
    ] {
        assert_eq!(answer(&input), b"");
    }
    // A send to a process, exits, an end of a monitor, a group leader, what no OTP has so far.
    for number in [2, 3, 7, 8, 20, 22, 24, 26, 33, 36, 255] {
        assert_eq!(answer(&control(&[&operation(number), PID, PID])), b"", "{number}");
    }
}

#[test]
fn monitors_of_others_end_at_once() {
    let of = |name: &str| control(&[&operation(19), PID, &atom(name), REFERENCE]);
    assert_eq!(answer(&of("ecm")), b"");
    assert_eq!(answer(&of("net_kernel")), b"");
    let gone = |what: &[u8]| control(&[&operation(21), what, PID, REFERENCE, &atom("noproc")]);
    assert_eq!(answer(&of("rex")), gone(&atom("rex")));
    assert_eq!(answer(&control(&[&operation(19), PID, &ours(), REFERENCE])), gone(&ours()));
}

#[test]
fn links_and_spawns_are_refused() {
    let link = control(&[&operation(1), PID, &ours()]);
    assert_eq!(answer(&link), control(&[&operation(3), &ours(), PID, &atom("noproc")]));
    let unlink = control(&[&operation(35), &[97, 9], PID, &ours()]);
    assert_eq!(answer(&unlink), control(&[&operation(36), &[97, 9], &ours(), PID]));
    let spawn = control(&[&operation(29), REFERENCE, PID, PID, &atom("mfa"), &[106]]);
    assert_eq!(answer(&spawn), control(&[&operation(31), REFERENCE, PID, &[97, 0], &atom("notsup")]));
}

#[test]
fn a_message_that_is_too_long_is_passed_over() {
    let mut peer = connected();
    let mut long = u32::try_from(MAX_MESSAGE + 1).unwrap().to_be_bytes().to_vec();
    long.resize(4 + MAX_MESSAGE + 1, 112);
    for piece in long.chunks(1000) {
        let mut input = piece;
        assert_eq!(peer.handle_input(&mut input), Ok(None));
        assert!(input.is_empty());
    }
    let next = call("ecm", &alias(), &atom("stats"));
    assert!(matches!(peer.handle_input(&mut next.as_slice()), Ok(Some(Event::Call { .. }))));
}

#[test]
fn what_is_no_message_ends_the_connection() {
    let header = long(b"\x83D\x00");
    let no_header = [&[0, 0, 0, 2, 131], &header[5..]].concat();
    for input in [
        no_header,
        long(b""),
        long(b"\x83"),
        long(b"\x83\x6a"),
        control(&[]),
        control(&[&operation(19), PID]),
    ] {
        assert!(
            matches!(connected().handle_input(&mut input.as_slice()), Err(Failure::Malformed(_))),
            "{input:?}"
        );
    }
}

#[test]
fn ticks_are_sent_and_answered() {
    let mut peer = connected();
    assert_eq!(peer.handle_input(&mut [0; 8].as_slice()), Ok(None));
    assert_eq!(transmitted(&mut peer), [0; 4]);
    let due = peer.poll_timeout();
    assert!(due.since(Time::START) <= Duration::from_secs(16));
    assert_eq!(peer.handle_timeout(due), Ok(()));
    assert_eq!(transmitted(&mut peer), [0; 4]);
}

#[test]
fn who_does_not_read_is_not_read_from() {
    let mut peer = connected();
    let flood = call("net_kernel", &alias(), &atom("x")).repeat(10_000);
    let mut input = flood.as_slice();
    assert_eq!(peer.handle_input(&mut input), Ok(None));
    assert!(!peer.wants_input() && !input.is_empty());
    assert!(peer.poll_transmit().len() < 70 * 1024);
    transmitted(&mut peer);
    let left = input.len();
    assert_eq!(peer.handle_input(&mut input), Ok(None));
    assert!(input.len() < left);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), framed in any::<bool>()) {
        let bytes = if framed { long(&[&[131], &bytes[..]].concat()) } else { bytes };
        for mut peer in [peer(), connected()] {
            let mut input = bytes.as_slice();
            while let Ok(Some(_)) = peer.handle_input(&mut input) {}
            prop_assert!(peer.poll_transmit().len() <= 2 * bytes.len() + 1000);
        }
    }
}

#[test]
fn an_idle_peer_is_small() {
    assert_eq!(size_of::<Peer>(), 56);
}
