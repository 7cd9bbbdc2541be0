//! Cases in the categories of a WebSocket conformance suite, each with what an echo has to answer.

use crate::client::Answer::{Binary, Close, Pong, Text};
use crate::client::{Answer, BINARY, CLOSE, CONT, FIN, PING, PONG, TEXT, frame, frame_with_length, unmasked};

/// Bytes of a message that the echo allows.
pub(crate) const MAX_MESSAGE: u32 = 200_000;

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) input: Vec<u8>,
    pub(crate) expected: Vec<Answer>,
}

fn case(name: impl Into<String>, input: &[Vec<u8>], expected: Vec<Answer>) -> Case {
    Case { name: name.into(), input: input.concat(), expected }
}

pub(crate) fn all_cases() -> Vec<Case> {
    [
        framing(),
        length_encodings(),
        pings_and_pongs(),
        reserved_bits(),
        opcodes(),
        masking(),
        fragmentation(),
        utf8(),
        close_codes(),
        close_handshake(),
        limits(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn text(payload: &[u8]) -> Vec<u8> {
    frame(FIN | TEXT, payload)
}

fn echoed(payload: &[u8]) -> Answer {
    Text(payload.to_vec())
}

fn fails() -> Vec<Answer> {
    vec![Close(Some(1002))]
}

fn framing() -> Vec<Case> {
    let sizes =
        [0, 1, 2, 7, 124, 125, 126, 127, 128, 129, 1000, 65534, 65535, 65536, 65537, 131_071, 131_072];
    let mut cases = Vec::new();
    for size in sizes {
        let payload = vec![b'*'; size];
        cases.push(case(format!("text of {size}"), &[text(&payload)], vec![Text(payload.clone())]));
        let payload: Vec<u8> = (0..size).map(|index| index as u8).collect();
        let input = frame(FIN | BINARY, &payload);
        cases.push(case(format!("binary of {size}"), &[input], vec![Binary(payload)]));
    }
    let hundred: Vec<_> = (0..100).map(|index| text(format!("message {index}").as_bytes())).collect();
    let answers = (0..100).map(|index| echoed(format!("message {index}").as_bytes())).collect();
    cases.push(case("a hundred messages at once", &hundred, answers));
    cases
}

fn length_encodings() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in [0_u16, 1, 124, 125] {
        let input = frame_with_length(FIN | TEXT, 126, &length.to_be_bytes(), &vec![b'*'; length.into()]);
        cases.push(case(format!("16 bit length for {length}"), &[input], fails()));
    }
    for length in [0_u64, 125, 126, 65535] {
        let input = frame_with_length(FIN | BINARY, 127, &length.to_be_bytes(), &vec![b'*'; length as usize]);
        cases.push(case(format!("64 bit length for {length}"), &[input], fails()));
    }
    for length in [1_u64 << 63, u64::MAX] {
        let input = frame_with_length(FIN | BINARY, 127, &length.to_be_bytes(), b"");
        cases.push(case(format!("length {length}"), &[input], fails()));
    }
    cases
}

fn pings_and_pongs() -> Vec<Case> {
    let ping = |payload: &[u8]| frame(FIN | PING, payload);
    let pong = |payload: &[u8]| frame(FIN | PONG, payload);
    let mut cases = Vec::new();
    for size in [0, 1, 5, 124, 125] {
        let payload: Vec<u8> = (0..size).map(|index| 255 - index as u8).collect();
        cases.push(case(format!("ping of {size}"), &[ping(&payload)], vec![Pong(payload)]));
    }
    for size in [126, 127, 65536] {
        for (name, opcode) in [("ping", PING), ("pong", PONG), ("close", CLOSE)] {
            let input = frame(FIN | opcode, &vec![3; size]);
            cases.push(case(format!("{name} of {size}"), &[input], fails()));
        }
    }
    cases.push(case("pong unasked", &[pong(b""), text(b"x")], vec![echoed(b"x")]));
    cases.push(case("pong unasked with payload", &[pong(b"payload"), text(b"x")], vec![echoed(b"x")]));
    cases.push(case("pong, then ping", &[pong(b"a"), ping(b"b")], vec![Pong(b"b".to_vec())]));
    cases.push(case(
        "ten pings",
        &(0..10).map(|index| ping(&[index])).collect::<Vec<_>>(),
        (0..10).map(|index| Pong(vec![index])).collect(),
    ));
    cases.push(case(
        "ping between messages",
        &[text(b"1"), ping(b"p"), text(b"2")],
        vec![echoed(b"1"), Pong(b"p".to_vec()), echoed(b"2")],
    ));
    cases
}

fn reserved_bits() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 1..8_u8 {
        let kinds = [("text", TEXT), ("binary", BINARY), ("close", CLOSE), ("ping", PING), ("pong", PONG)];
        for (name, opcode) in kinds {
            let bad = frame(FIN | bits << 4 | opcode, b"");
            cases.push(case(format!("reserved bits {bits} in {name}"), std::slice::from_ref(&bad), fails()));
            let input = [text(b"before"), bad, text(b"after")];
            let expected = vec![echoed(b"before"), Close(Some(1002))];
            cases.push(case(format!("reserved bits {bits} in {name} after a message"), &input, expected));
        }
    }
    cases
}

fn opcodes() -> Vec<Case> {
    let mut cases = Vec::new();
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        cases.push(case(format!("opcode {opcode}"), &[frame(FIN | opcode, b"")], fails()));
        cases.push(case(format!("opcode {opcode} with payload"), &[frame(FIN | opcode, b"data")], fails()));
        let input = [text(b"before"), frame(opcode, b"data"), text(b"after")];
        let expected = vec![echoed(b"before"), Close(Some(1002))];
        cases.push(case(format!("opcode {opcode} after a message"), &input, expected));
    }
    cases
}

fn masking() -> Vec<Case> {
    let kinds = [
        ("text", FIN | TEXT),
        ("binary", FIN | BINARY),
        ("fragment", TEXT),
        ("close", FIN | CLOSE),
        ("ping", FIN | PING),
        ("pong", FIN | PONG),
    ];
    kinds.map(|(name, first)| case(format!("unmasked {name}"), &[unmasked(first, b"data")], fails())).into()
}

fn fragmentation() -> Vec<Case> {
    let first = |payload: &[u8]| frame(TEXT, payload);
    let middle = |payload: &[u8]| frame(CONT, payload);
    let last = |payload: &[u8]| frame(FIN | CONT, payload);
    let ping = |payload: &[u8]| frame(FIN | PING, payload);
    let abc = || echoed(b"abc");
    let pong = |payload: &[u8]| Pong(payload.to_vec());
    let mut cases = vec![
        case("two fragments", &[first(b"a"), last(b"bc")], vec![abc()]),
        case("three fragments", &[first(b"a"), middle(b"b"), last(b"c")], vec![abc()]),
        case("binary fragments", &[frame(BINARY, b"\xFF"), last(b"\0")], vec![Binary(vec![255, 0])]),
        case("empty fragments", &[first(b""), middle(b""), last(b"")], vec![echoed(b"")]),
        case("data in the middle fragment alone", &[first(b""), middle(b"abc"), last(b"")], vec![abc()]),
        case("data in the last fragment alone", &[first(b""), middle(b""), last(b"abc")], vec![abc()]),
        case("ping among fragments", &[first(b"a"), ping(b"p"), last(b"bc")], vec![pong(b"p"), abc()]),
        case(
            "pings among fragments",
            &[first(b"a"), ping(b"1"), middle(b"b"), ping(b"2"), last(b"c"), ping(b"3")],
            vec![pong(b"1"), pong(b"2"), abc(), pong(b"3")],
        ),
        case("pong among fragments", &[first(b"a"), frame(FIN | PONG, b"x"), last(b"bc")], vec![abc()]),
        case("close among fragments", &[first(b"a"), frame(FIN | CLOSE, &[3, 232])], vec![Close(Some(1000))]),
        case("fragmented ping", &[frame(PING, b"a"), frame(FIN | CONT, b"b")], fails()),
        case("fragmented pong", &[frame(PONG, b"a"), frame(FIN | CONT, b"b")], fails()),
        case("fragmented close", &[frame(CLOSE, &[3]), frame(FIN | CONT, &[232])], fails()),
        case("last fragment of nothing", &[last(b"x"), text(b"y")], fails()),
        case("middle fragment of nothing", &[middle(b"x"), last(b"y")], fails()),
        case("empty fragment of nothing", &[last(b"")], fails()),
        case("fragment after a message", &[text(b"1"), last(b"2")], vec![echoed(b"1"), Close(Some(1002))]),
        case(
            "fragment after the last",
            &[first(b"a"), last(b"bc"), last(b"d")],
            vec![abc(), Close(Some(1002))],
        ),
        case("text among fragments", &[first(b"a"), text(b"b"), last(b"c")], fails()),
        case("binary among fragments", &[first(b"a"), frame(FIN | BINARY, b"b")], fails()),
        case("two beginnings", &[first(b"a"), first(b"b"), last(b"c")], fails()),
        case("beginning in a binary message", &[frame(BINARY, b"a"), frame(TEXT, b"b")], fails()),
    ];
    for count in [2, 10, 128, 1000] {
        let mut input: Vec<_> = (0..count).map(|_| middle(b"12")).collect();
        input[0] = first(b"12");
        input.push(last(b"3"));
        let payload = [b"12".repeat(count), b"3".to_vec()].concat();
        cases.push(case(format!("{count} fragments and one"), &input, vec![Text(payload)]));
    }
    cases
}

const VALID_UTF8: &[&str] = &[
    "Hello",
    "\u{0}",
    "\u{7f}",
    "\u{80}",
    "\u{7ff}",
    "\u{800}",
    "\u{ffff}",
    "\u{10000}",
    "\u{10ffff}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{fffd}",
    "\u{fffe}",
    "\u{feff}bom",
    "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}",
    "gr\u{fc}\u{df}e \u{4f60}\u{597d} \u{1f44b}",
];

const INVALID_UTF8: &[&[u8]] = &[
    b"\x80",
    b"\xBF",
    b"a\x80",
    b"\x80\xBF\x80",
    b"\xC0\x80",
    b"\xC0\xAF",
    b"\xC1\xBF",
    b"\xC2 ",
    b"\xC3\x28",
    b"\xDF\x7F",
    b"\xE0\x80\x80",
    b"\xE0\x9F\xBF",
    b"\xE2\x28\xA1",
    b"\xE2\x82 ",
    b"\xED\xA0\x80",
    b"\xED\xAF\xBF\xED\xBF\xBF",
    b"\xED\xBF\xBF",
    b"\xEF\xBF ",
    b"\xF0\x80\x80\x80",
    b"\xF0\x8F\xBF\xBF",
    b"\xF0\x28\x8C\xBC",
    b"\xF0\x9F\x98 ",
    b"\xF4\x90\x80\x80",
    b"\xF5\x80\x80\x80",
    b"\xF8\x88\x80\x80\x80",
    b"\xFC\x84\x80\x80\x80\x80",
    b"\xFE",
    b"\xFF",
    b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xED\xA0\x80edited",
];

const TRUNCATED_UTF8: &[&[u8]] =
    &[b"\xC2", b"\xE0\xA0", b"\xE2", b"\xEF\xBF", b"\xF0", b"\xF0\x9F", b"\xF0\x9F\x98", b"ok\xF4\x8F\xBF"];

fn utf8() -> Vec<Case> {
    let invalid = || vec![Close(Some(1007))];
    let split = |bytes: &[u8]| {
        let mut frames: Vec<_> = bytes.iter().map(|byte| frame(CONT, &[*byte])).collect();
        frames[0][0] = TEXT;
        frames.push(frame(FIN | CONT, b""));
        frames
    };
    let mut cases = Vec::new();
    for valid in VALID_UTF8 {
        let bytes = valid.as_bytes();
        cases.push(case(format!("UTF-8 {valid:?}"), &[text(bytes)], vec![echoed(bytes)]));
        cases.push(case(format!("UTF-8 {valid:?} in fragments"), &split(bytes), vec![echoed(bytes)]));
    }
    for bytes in INVALID_UTF8.iter().chain(TRUNCATED_UTF8) {
        cases.push(case(format!("not UTF-8 {bytes:x?}"), &[text(bytes), text(b"after")], invalid()));
        cases.push(case(format!("not UTF-8 {bytes:x?} in fragments"), &split(bytes), invalid()));
    }
    for bytes in INVALID_UTF8 {
        // The message goes on for ever, so that only failing at the first bad byte answers it.
        let input = [frame(TEXT, bytes)];
        cases.push(case(format!("not UTF-8 {bytes:x?} in an unfinished message"), &input, invalid()));
        let input = frame(FIN | BINARY, bytes);
        cases.push(case(format!("binary {bytes:x?}"), &[input], vec![Binary(bytes.to_vec())]));
    }
    cases
}

fn close_codes() -> Vec<Case> {
    let close = |code: u16, reason: &[u8]| frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat());
    let mut cases = Vec::new();
    for code in
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    {
        cases.push(case(format!("close {code}"), &[close(code, b"")], vec![Close(Some(code))]));
        cases.push(case(
            format!("close {code} with reason"),
            &[close(code, b"bye")],
            vec![Close(Some(code))],
        ));
    }
    let invalid = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 65535];
    for code in invalid {
        cases.push(case(format!("close {code}, which is invalid"), &[close(code, b"")], fails()));
    }
    cases
}

fn close_handshake() -> Vec<Case> {
    let close = |payload: &[u8]| frame(FIN | CLOSE, payload);
    let closed = || vec![Close(Some(1000))];
    let normal: &[u8] = &[3, 232];
    let with = |reason: &[u8]| close(&[normal, reason].concat());
    vec![
        case("close without code", &[close(b"")], vec![Close(None)]),
        case("close of one byte", &[close(&[3])], fails()),
        case("close with the longest reason", &[with(&[b'*'; 123])], closed()),
        case("close with a reason in UTF-8", &[with("\u{4f60}".as_bytes())], closed()),
        case("close with a reason not in UTF-8", &[with(b"\xFF\xFE")], vec![Close(Some(1007))]),
        case("close with half a character", &[with(b"\xE4\xBD")], vec![Close(Some(1007))]),
        case("two closes", &[close(normal), close(normal)], closed()),
        case("ping after close", &[close(normal), frame(FIN | PING, b"")], closed()),
        case("text after close", &[close(normal), text(b"x")], closed()),
        case("rubbish after close", &[close(normal), vec![0xFF; 300]], closed()),
        case("text before close", &[text(b"x"), close(normal)], vec![echoed(b"x"), Close(Some(1000))]),
        case(
            "fragment, then close, then the rest",
            &[frame(TEXT, b"a"), close(normal), frame(FIN | CONT, b"b")],
            closed(),
        ),
        case(
            "large message before close",
            &[text(&[b'*'; 65536]), close(normal)],
            vec![Text(vec![b'*'; 65536]), Close(Some(1000))],
        ),
    ]
}

fn limits() -> Vec<Case> {
    let too_big = || vec![Close(Some(1009))];
    let declared = |length: u64| frame_with_length(FIN | BINARY, 127, &length.to_be_bytes(), b"begin");
    let half = vec![b'*'; 100_000];
    vec![
        case("frame over the limit", &[frame(FIN | BINARY, &vec![0; 200_001])], too_big()),
        case("frame declared over the limit", &[declared(200_001)], too_big()),
        case("frame declared to be huge", &[declared((1 << 63) - 1)], too_big()),
        case(
            "message at the limit",
            &[frame(TEXT, &half), frame(FIN | CONT, &half)],
            vec![Text([half.clone(), half.clone()].concat())],
        ),
        case(
            "message over the limit",
            &[frame(TEXT, &half), frame(CONT, &half), frame(FIN | CONT, b"*")],
            too_big(),
        ),
        case(
            "message declared over the limit",
            &[frame(BINARY, &half), frame_with_length(CONT, 127, &100_001_u64.to_be_bytes(), b"")],
            too_big(),
        ),
        case(
            "ping in a message at the limit",
            &[frame(TEXT, &half), frame(CONT, &half), frame(FIN | PING, b"x"), frame(FIN | CONT, b"")],
            vec![Pong(b"x".to_vec()), Text([half.clone(), half.clone()].concat())],
        ),
    ]
}
