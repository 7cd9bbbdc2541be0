//! How bytes are cut makes no difference, whatever they say.

use megaphone_proto::stream::Config;
use proptest::prelude::*;

use crate::client::{BINARY, CLOSE, CONT, FIN, PONG, TEXT, frame};
use crate::driver::{AUTH, Driver, HEADER, OPEN};

/// What the owner was told and the peer was sent, but for the id of a refusal.
fn outcome(is_tcp: bool, pieces: &[&[u8]]) -> (Vec<String>, Vec<u8>, bool) {
    let config = Config { max_stanza: 400, ..Config::default() };
    let mut driver = if is_tcp { Driver::tcp(config) } else { Driver::websocket(config) };
    let mut events = Vec::new();
    for piece in pieces {
        events.append(&mut driver.receive(piece));
        while events.last().is_some_and(|event| event.starts_with("<auth")) && !driver.input.is_empty() {
            driver.stream.restart();
            events.append(&mut driver.resume());
        }
    }
    let has_ended = driver.stream.is_over();
    let mut sent = driver.sent;
    if let Some(at) = sent.windows(4).position(|window| window == b"id='") {
        let end = sent[at + 4..].iter().position(|byte| *byte == b'\'').unwrap();
        sent.drain(at..at + 4 + end);
        sent.drain(..at);
    }
    (events, sent, has_ended)
}

fn words() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::sample::select(vec![
        HEADER,
        OPEN,
        AUTH,
        "<a>",
        "</a>",
        "<a/>",
        "\n",
        "<?xml version='1.0'?>",
        "</stream:stream>",
        "&amp;",
        "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
        "<",
        "x",
        "\u{20ac}",
        "<!--",
        "]]>",
    ]);
    let first = prop::sample::select(vec![
        FIN | TEXT,
        FIN | TEXT,
        FIN | TEXT,
        TEXT,
        FIN | CONT,
        FIN | BINARY,
        FIN | PONG,
        FIN | CLOSE,
        FIN | 3,
    ]);
    (any::<bool>(), first, prop::collection::vec(text, 1..4)).prop_map(|(is_framed, first, texts)| {
        let payload = texts.concat().into_bytes();
        if is_framed { frame(first, &payload) } else { payload }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
    #[test]
    fn any_split_of_any_words_comes_to_the_same(
        is_tcp in any::<bool>(),
        first in prop::sample::select(vec![HEADER, OPEN, ""]),
        words in prop::collection::vec(words(), 0..10),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut bytes = if is_tcp { first.as_bytes().to_vec() } else { frame(FIN | TEXT, first.as_bytes()) };
        bytes.extend(words.concat());
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let whole = outcome(is_tcp, &[&bytes]);
        prop_assert_eq!(&outcome(is_tcp, &pieces), &whole);
        let single: Vec<_> = bytes.chunks(1).collect();
        prop_assert_eq!(&outcome(is_tcp, &single), &whole);
    }
}
