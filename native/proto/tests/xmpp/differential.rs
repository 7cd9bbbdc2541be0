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
fn characters_are_those_of_fxml_stream() {
    let mut oracle = fxml();
    let planes = (0..=0xFFFF).step_by(0x1000).map(|from| (from, from + 0xFFF));
    let beyond = [0x1_0000, 0x1_FFF0, 0x2_0000, 0x2_F800, 0xE_FFF0, 0x10_FFF0].map(|from| (from, from + 15));
    for (from, to) in planes.chain(beyond) {
        let ours: Vec<_> = (from..=to).map(|code| classes(code).to_string()).collect();
        let answer = oracle.ask(&format!("{{chars,{from},{to}}}"));
        let theirs: Vec<_> = answer.trim_matches(['[', ']']).split(',').collect();
        assert_eq!(ours.len(), theirs.len());
        for ((code, ours), theirs) in (from..=to).zip(ours).zip(theirs) {
            assert_eq!(ours, theirs, "U+{code:04X}");
        }
    }
}

/// What the oracle says of a character, of ours.
fn classes(code: u32) -> u32 {
    let is_element = |before: &str, behind: &str| {
        let bytes = [before.as_bytes(), &utf8(code), behind.as_bytes()].concat();
        u32::from(parse_element(&bytes, &limits()).is_ok())
    };
    is_element("<", "/>") + 2 * is_element("<a", "/>") + 4 * is_element("<a>", "</a>")
}

/// UTF-8 of any number, surrogates too.
fn utf8(code: u32) -> Vec<u8> {
    match char::from_u32(code) {
        Some(char) => char.to_string().into_bytes(),
        None => [0xE0 | code >> 12, 0x80 | (code >> 6 & 0x3F), 0x80 | (code & 0x3F)]
            .map(|byte| u8::try_from(byte).unwrap())
            .to_vec(),
    }
}

#[test]
fn a_document_may_declare_any_encoding_and_is_utf_8_all_the_same() {
    let mut oracle = fxml();
    for declaration in [
        "encoding='utf-16'",
        "encoding='UTF-16LE' standalone='no'",
        "encoding='utf8'",
        "encoding='ISO-8859-1' standalone='yes'",
        "encoding='x'",
        "encoding='8'",
        "encoding=''",
        "encoding='utf 8'",
        "standalone='no'",
        "standalone='maybe'",
    ] {
        let text = format!("<?xml version='1.0' {declaration}?><a>\u{e9}</a>");
        let ours = parse_element(text.as_bytes(), &limits()).map_or("error".to_owned(), |el| xmlel(&el));
        let theirs = oracle.ask(&format!("{{element,{}}}", binary(text.as_bytes())));
        assert_eq!(ours, theirs, "{text}");
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
fn encoding_equals_element_to_binary_and_element_to_header_but_for_carriage_returns_in_text() {
    let mut oracle = fxml();
    let mut compare = |element: &megaphone_proto::xmpp::Element| {
        let term = xmlel(element);
        // Theirs are carriage returns as they are only in text.
        let theirs = with_references(&oracle.ask(&format!("{{encode,{term}}}")));
        assert_eq!(binary(&element_to_vec(element)), theirs);
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

/// A binary as it is printed, with references for its carriage returns.
fn with_references(binary: &str) -> String {
    let bytes = binary.trim_matches(['<', '>']).split(',');
    let bytes: Vec<_> = bytes.map(|byte| if byte == "13" { "38,35,120,68,59" } else { byte }).collect();
    format!("<<{}>>", bytes.join(","))
}

#[test]
fn what_is_written_reads_back_the_same() {
    let mut builder = ElementBuilder::default();
    builder.start(b"a");
    builder.attr(b"b", b" \t\r\n<>&'\"");
    builder.text(b"\rone\r\ntwo\n\rthree <>&'\" ]]> \t\r");
    builder.end();
    let element = builder.finish().unwrap();
    assert_eq!(parse_element(&element_to_vec(&element), &limits()), Ok(element));
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
