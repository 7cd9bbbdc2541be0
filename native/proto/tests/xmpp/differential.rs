//! The same bytes give the same terms, or the same refusal, as ejabberd's `fxml_stream` and `fxml`.

use std::cell::RefCell;

use megaphone_proto::xmpp::{ElementBuilder, Limits, element_to_vec, parse_element, write_header};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::corpus::{HEADERS, STANZAS, STRICTER, WHOLE};
use crate::erlang::{Oracle, binary, xmlel};
use crate::oracle::{fxml, fxml_stream, in_erlang, run};

const STOCK_MAX: usize = 100_000;

fn limits() -> Limits {
    Limits { stanza_bytes: STOCK_MAX, ..Limits::default() }
}

fn assert_same_stream(oracle: &mut Oracle, bytes: &[u8]) {
    let (events, error) = run(&[bytes], &limits());
    let expected = fxml_stream(oracle, STOCK_MAX, &[bytes]);
    assert_eq!(in_erlang(&events, error), expected, "{} {error:?}", String::from_utf8_lossy(bytes));
    let bytewise: Vec<_> = bytes.chunks(1).collect();
    assert_eq!(run(&bytewise, &limits()), (events, error), "bytewise {}", String::from_utf8_lossy(bytes));
}

#[test]
fn streams_give_the_same_events_as_fxml_stream() {
    let mut oracle = fxml();
    for header in HEADERS {
        for stanza in STANZAS {
            // What follows shows whether the parser came out of the stanza in the right state.
            assert_same_stream(
                &mut oracle,
                format!("{header}{stanza}<after><q xmlns='z'/></after>").as_bytes(),
            );
        }
        let all_good: String = STANZAS[..29].concat();
        assert_same_stream(&mut oracle, format!("{header}{all_good}").as_bytes());
    }
    for stream in WHOLE {
        assert_same_stream(&mut oracle, stream);
    }
}

#[test]
fn streams_that_rfc_6120_forbids_are_refused_where_fxml_stream_lets_them_pass() {
    let mut oracle = fxml();
    for (stream, condition) in STRICTER {
        let (_, error) = run(&[stream.as_bytes()], &limits());
        assert_eq!(error.map(|error| error.condition.name()), Some(*condition), "{stream}");
        let stock = fxml_stream(&mut oracle, STOCK_MAX, &[stream.as_bytes()]);
        assert!(!stock.contains("error"), "{stream}: not an exception any more: {stock}");
    }
}

#[test]
fn elements_in_one_piece_come_out_as_from_parse_element() {
    let mut oracle = fxml();
    let headers =
        HEADERS.iter().map(|header| header.replacen('>', "/>", usize::from(!header.contains("?>"))));
    let declared = ["<?xml version='1.0' standalone='yes'?><a/>".to_owned()];
    for text in STANZAS.iter().map(|stanza| (*stanza).to_owned()).chain(headers).chain(declared) {
        for text in [text.clone(), format!(" {text} \n")] {
            let ours = parse_element(text.as_bytes(), &limits());
            let answer = oracle.ask(&format!("{{element,{}}}", binary(text.as_bytes())));
            let ours_in_erlang = ours.as_ref().map_or("error".to_owned(), xmlel);
            assert_eq!(ours_in_erlang, answer, "{text} {ours:?}");
        }
    }
}

#[test]
fn a_stanza_as_large_as_the_limit_is_refused_and_one_byte_less_is_not() {
    let mut oracle = fxml();
    for size in [998, 999, 1000, 1001, 5000] {
        let stanza = format!("<a>{}</a>", "x".repeat(size - 7));
        let chunks: [&[u8]; 3] = [b"<s>", stanza.as_bytes(), b"<b/>"];
        let (events, error) = run(&chunks, &Limits { stanza_bytes: 1000, ..Limits::default() });
        assert_eq!(in_erlang(&events, error), fxml_stream(&mut oracle, 1000, &chunks), "{size}");
        assert_eq!(error.is_some(), size >= 1000);
    }
}

#[test]
fn encoding_equals_element_to_binary_and_element_to_header() {
    let mut oracle = fxml();
    let mut compare = |element: &megaphone_proto::xmpp::Element| {
        let term = xmlel(element);
        assert_eq!(binary(&element_to_vec(element)), oracle.ask(&format!("{{encode,{term}}}")));
        let mut header = Vec::new();
        write_header(element.name(), element.attrs(), &mut header);
        assert_eq!(binary(&header), oracle.ask(&format!("{{header,{term}}}")));
    };
    for stanza in STANZAS {
        if let Ok(element) = parse_element(stanza.as_bytes(), &limits()) {
            compare(&element);
        }
    }
    let all_bytes: Vec<u8> = (0..=255).collect();
    let mut builder = ElementBuilder::default();
    builder.start(b"stream:stream");
    builder.attr(b"every", &all_bytes);
    builder.attr(b"", b"");
    builder.text(&all_bytes);
    builder.start(b"empty text");
    builder.text(b"");
    builder.end();
    builder.end();
    compare(&builder.finish().unwrap());
}

/// Trees that stress names: few prefixes and namespaces, so that they meet each other.
fn arbitrary_element() -> impl Strategy<Value = String> {
    let prefix = prop::sample::select(vec!["", "", "", "stream:", "q:", "p:", "xml:"]);
    let uri =
        prop::sample::select(vec!["jabber:client", "http://etherx.jabber.org/streams", "urn:q", "urn:p", ""]);
    let declared = prop::sample::select(vec!["xmlns", "xmlns:stream", "xmlns:q", "xmlns:p"]);
    let attr = prop_oneof![
        3 => (declared, uri).prop_map(|(name, uri)| format!(" {name}='{uri}'")),
        1 => (prefix.clone(), "[a-c]", "[ x&#10;\n]{0,3}").prop_map(|(p, l, v)| format!(" {p}{l}='{}'",
            v.replace('&', "&amp;"))),
    ];
    let head = (prefix, "[a-c]", prop::collection::vec(attr, 0..4))
        .prop_map(|(prefix, local, attrs)| (format!("{prefix}{local}"), attrs.concat()));
    let text =
        prop::sample::select(vec!["", "x", " \n", "&lt;", "<![CDATA[<]]>", "\r\n"]).prop_map(str::to_owned);
    let leaf = (head.clone(), text.clone())
        .prop_map(|((name, attrs), text)| format!("<{name}{attrs}>{text}</{name}>"));
    leaf.prop_recursive(4, 24, 4, move |inner| {
        (head.clone(), prop::collection::vec(prop_oneof![3 => inner, 1 => text.clone()], 0..4))
            .prop_map(|((name, attrs), children)| format!("<{name}{attrs}>{}</{name}>", children.concat()))
    })
}

#[test]
fn arbitrary_stanzas_give_the_same_events_as_fxml_stream() {
    let oracle = RefCell::new(fxml());
    let mut runner = TestRunner::new(ProptestConfig { cases: 1500, ..ProptestConfig::default() });
    let cases = (prop::sample::select(HEADERS), prop::collection::vec(arbitrary_element(), 1..4));
    runner
        .run(&cases, |(header, stanzas)| {
            let bytes = format!("{header}{}", stanzas.concat());
            let (events, error) = run(&[bytes.as_bytes()], &limits());
            let expected = fxml_stream(&mut oracle.borrow_mut(), STOCK_MAX, &[bytes.as_bytes()]);
            prop_assert_eq!(in_erlang(&events, error), expected, "{} {:?}", bytes, error);
            Ok(())
        })
        .unwrap();
}
