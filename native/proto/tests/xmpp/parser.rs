//! Behaviour of a stream that needs no comparison: splits, bounds, conditions, memory.

use megaphone_proto::xmpp::{Condition, Event, Limits, Parser, StreamError, parse_element};
use proptest::prelude::*;

use crate::corpus::{HEADERS, STANZAS, WHOLE};
use crate::oracle::run;

const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

fn condition_of(stream: &str, limits: &Limits) -> Option<Condition> {
    run(&[stream.as_bytes()], limits).1.map(|error| error.condition)
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(
        header in prop::sample::select(HEADERS),
        stanzas in prop::collection::vec(prop::sample::select(STANZAS), 0..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        stanza_bytes in prop::sample::select(vec![40_usize, 120, 100_000]),
    ) {
        let bytes = [header, stanzas.concat().as_str()].concat().into_bytes();
        let limits = Limits { stanza_bytes, ..Limits::default() };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let chunks: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(run(&chunks, &limits), run(&[&bytes], &limits));
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(
        start in prop::sample::select(WHOLE),
        bytes in prop::collection::vec(prop_oneof![
            prop::sample::select(b"<>/='\"&;!?[]- \r\nabx:#1".to_vec()),
            any::<u8>(),
        ], 0..200),
    ) {
        let limits = Limits { stanza_bytes: 128, ..Limits::default() };
        run(&[start, &bytes], &limits);
        run(&[b"<s>", &bytes], &limits);
    }
}

#[test]
fn carriage_returns_mean_the_same_after_any_white_space() {
    for spaces in 0..12 {
        for after in ["<a b='\r'/>", "<a>\r\n\r</a>", "\r<a\rb='\r\n'/>"] {
            let stream = format!("<s><a/>{}<b/>{}{after}", " ".repeat(spaces), "\n".repeat(spaces));
            let bytewise: Vec<_> = stream.as_bytes().chunks(1).collect();
            let limits = Limits::default();
            assert_eq!(run(&[stream.as_bytes()], &limits), run(&bytewise, &limits), "{stream:?}");
        }
    }
}

#[test]
fn conditions_are_those_of_rfc_6120() {
    let limits = Limits::default();
    for (stream, condition) in [
        ("<s><a></b>", Condition::NotWellFormed),
        ("<s><p:a/>", Condition::NotWellFormed),
        ("<s><a b='1' b='1'/>", Condition::NotWellFormed),
        ("<s><!-- -->", Condition::RestrictedXml),
        ("<s><?pi x?>", Condition::RestrictedXml),
        ("<!DOCTYPE s>", Condition::RestrictedXml),
        ("<s><a>&copy;</a>", Condition::RestrictedXml),
        ("<s><a>&averylongentityname;</a>", Condition::RestrictedXml),
        ("<?xml version='1.0' encoding='latin1'?>", Condition::UnsupportedEncoding),
    ] {
        assert_eq!(condition_of(stream, &limits), Some(condition), "{stream}");
    }
    assert_eq!(run(&[b"\xFF\xFE<\0"], &limits).1.unwrap().condition, Condition::UnsupportedEncoding);
    assert_eq!(run(&[b"\0<\0s"], &limits).1.unwrap().condition, Condition::UnsupportedEncoding);
}

#[test]
fn bounds_hold_and_one_less_is_allowed() {
    let limits = Limits {
        stanza_bytes: 10_000,
        depth: 5,
        attributes: 6,
        namespaces: 7,
        token_bytes: 100,
        ..Limits::default()
    };
    let nested = |depth: usize| format!("<s>{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    let attrs = |count: usize| {
        let attrs: String = (0..count).map(|index| format!(" a{index}=''")).collect();
        format!("<s><a{attrs}/>")
    };
    let namespaces = |count: usize| {
        let open: String = (0..count).map(|index| format!("<a xmlns:p{index}='u'>")).collect();
        format!("<s>{open}")
    };
    let name = |length: usize| format!("<s><{}/>", "a".repeat(length));
    let value = |length: usize| format!("<s><a b='{}'/>", "a".repeat(length));
    let deep = Limits { depth: 50, ..limits };
    for (most, limits, stream) in [
        (5, &limits, &nested as &dyn Fn(usize) -> String),
        (6, &limits, &attrs),
        (7, &deep, &namespaces),
        (100, &limits, &name),
        (100, &limits, &value),
    ] {
        assert_eq!(condition_of(&stream(most), limits), None, "{}", stream(most));
        assert_eq!(
            condition_of(&stream(most + 1), limits),
            Some(Condition::PolicyViolation),
            "{}",
            stream(most + 1)
        );
    }
}

#[test]
fn a_header_without_a_namespace_takes_no_room_from_its_stanzas() {
    let limits = Limits { namespaces: 2, ..Limits::default() };
    let stream = b"<s:s xmlns:s='u' xmlns=''>text<a xmlns:p='u'/><a xmlns:p='u' xmlns:q='u'/>";
    let bytewise: Vec<_> = stream.chunks(1).collect();
    let (events, error) = run(&bytewise, &limits);
    assert_eq!(events.len(), 2);
    assert_eq!(error.map(|error| error.condition), Some(Condition::PolicyViolation));
    assert_eq!(run(&[stream], &limits), (events, error));
}

#[test]
fn namespaces_do_not_make_a_large_tree_of_a_small_stanza() {
    let limits = Limits { stanza_bytes: 10_000, ..Limits::default() };
    let stream = |uri: usize, elements: usize| {
        let inner = "<c xmlns='w'><p:b/></c>".repeat(elements);
        format!("<s><p:a xmlns:p='{}'>{inner}</p:a>", "u".repeat(uri))
    };
    assert_eq!(condition_of(&stream(100, 300), &limits), None);
    assert_eq!(condition_of(&stream(4000, 7), &limits), None);
    assert_eq!(condition_of(&stream(4000, 200), &limits), Some(Condition::PolicyViolation));
}

#[test]
fn a_header_leaves_no_more_than_its_bound_behind() {
    let limits = Limits::default();
    let header = |count: usize, bytes: usize| {
        let declare = |index: usize| format!(" xmlns:p{index}='{}{index}'", "u".repeat(bytes));
        format!("<s xmlns='jabber:client'{}>", (0..count).map(declare).collect::<String>())
    };
    for (refused, header) in [
        (false, header(60, 50)),
        (false, header(1, 4000)),
        (true, header(1, 4100)),
        (true, header(60, 4000)),
        (true, header(60, 70)),
        (true, format!("<{}>", "s".repeat(4097))),
        (false, format!("<{}>", "s".repeat(4096))),
    ] {
        let mut parser = Parser::new();
        let result = parser.handle_bytes(&mut header.as_bytes(), &limits);
        assert_eq!(result.err().map(|error| error.condition), refused.then_some(Condition::PolicyViolation));
        assert_eq!(parser.handle_bytes(&mut &b""[..], &limits), Ok(None));
        assert!(parser.idle_heap_bytes() <= 4096 + 64 * 40 + 200, "{}", parser.idle_heap_bytes());
    }
}

#[test]
fn namespaces_in_scope_of_a_stanza_have_a_bound_in_bytes() {
    let limits = Limits::default();
    let stanza = |outer: usize, inner: usize| {
        let (outer, inner) = ("u".repeat(outer), "v".repeat(inner));
        format!("{HEADER}<a xmlns:p='{outer}'><p:b xmlns:p='{inner}'/></a><a/><a xmlns='{outer}'/>")
    };
    assert_eq!(condition_of(&stanza(2000, 2094), &limits), None);
    assert_eq!(condition_of(&stanza(2000, 2095), &limits), Some(Condition::PolicyViolation));
    assert_eq!(condition_of(&stanza(65_000, 1), &limits), Some(Condition::PolicyViolation));
    // Beside each other they are not in scope at once.
    let beside = format!("{HEADER}<a>{}</a>", format!("<b xmlns='{}'/>", "u".repeat(4000)).repeat(50));
    assert_eq!(condition_of(&beside, &limits), None);
}

#[test]
fn nodes_of_a_stanza_or_document_have_a_bound() {
    let limits = Limits { nodes: 100, ..Limits::default() };
    let inner = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count));
    let attrs = |count: usize| format!("<a>{}</a>", "<b c='' d=''/>".repeat(count));
    for (most, stanza) in [(49, &inner as &dyn Fn(usize) -> String), (16, &attrs)] {
        let in_stream = |count: usize| format!("{HEADER}{}<a/>{}", stanza(count), stanza(count));
        assert_eq!(condition_of(&in_stream(most), &limits), None);
        assert_eq!(condition_of(&in_stream(most + 1), &limits), Some(Condition::PolicyViolation));
        assert!(parse_element(stanza(most).as_bytes(), &limits).is_ok());
        let refused = parse_element(stanza(most + 1).as_bytes(), &limits).unwrap_err();
        assert_eq!(refused.condition, Condition::PolicyViolation);
    }
    let tiny = inner(65_000);
    assert!(parse_element(tiny.as_bytes(), &Limits::default()).is_err());
}

#[test]
fn a_tree_takes_few_times_the_bytes_that_it_was_sent_in() {
    let long = format!("<a xmlns:p='{}'>{}</a>", "u".repeat(4000), "<p:b/>".repeat(250));
    let in_turn = format!("<a xmlns='{}'>{}</a>", "u".repeat(50), "<b xmlns='v'/>".repeat(1000));
    for stanza in [
        format!("<a>{}</a>", "<b/>".repeat(16_000)),
        format!("<a>{}</a>", "<b c=''/>".repeat(8000)),
        format!("<a>{}</a>", "x<b/>".repeat(10_000)),
        long,
        in_turn,
    ] {
        let stream = format!("{HEADER}{stanza}");
        let (events, error) = run(&[stream.as_bytes()], &Limits::default());
        assert_eq!(error, None);
        let Some(Event::Element(element)) = events.last() else { panic!("{events:?}") };
        assert!(element.heap_bytes() <= stanza.len() * 6, "{} of {}", element.heap_bytes(), stanza.len());
    }
}

#[test]
fn bounds_before_login_are_small_and_enough_to_log_in_and_register() {
    let limits = Limits::before_login(262_144);
    assert_eq!((limits.stanza_bytes, Limits::before_login(1000).stanza_bytes), (65_536, 1000));
    let default = Limits::default();
    assert!(limits.nodes < default.nodes && limits.depth < default.depth);
    assert!(limits.namespace_bytes < default.namespace_bytes && limits.namespaces < default.namespaces);
    let fields = "<field var='name' type='text-single' label='A name'><required/><value>x</value></field>";
    for stanza in [
        format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{}</auth>",
            "A".repeat(4000)
        ),
        format!(
            "<iq type='set' id='1'><query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>{}\
             </x></query></iq>",
            fields.repeat(60)
        ),
    ] {
        assert_eq!(condition_of(&format!("{HEADER}{stanza}"), &limits), None);
    }
}

#[test]
fn an_endless_stanza_header_or_text_is_cut_off_at_the_limit() {
    let limits = Limits { stanza_bytes: 1000, ..Limits::default() };
    for start in ["", "<s ", "<s>", "<s><a>", "<s><a b='", "<s>text"] {
        let mut stream = Parser::new();
        let mut error = None;
        let mut input = start.as_bytes();
        while let Ok(Some(_)) = stream.handle_bytes(&mut input, &limits) {}
        for _ in 0..200 {
            let mut input = &b"aaaaaaaaaa"[..];
            if let Err(found) = stream.handle_bytes(&mut input, &limits) {
                error = Some(found);
                break;
            }
        }
        let error = error.unwrap_or_else(|| panic!("{start} goes on for ever"));
        if start.is_empty() {
            assert_eq!(error.condition, Condition::NotWellFormed);
        } else {
            assert_eq!(error, StreamError::TOO_BIG, "{start}");
        }
    }
}

#[test]
fn white_space_between_stanzas_is_free_and_leaves_the_stream_idle() {
    let limits = Limits { stanza_bytes: 100, ..Limits::default() };
    let mut stream = Parser::new();
    let mut input = HEADER.as_bytes();
    assert!(matches!(stream.handle_bytes(&mut input, &limits), Ok(Some(Event::StreamStart(_)))));
    for _ in 0..1000 {
        let mut input = &b" \n"[..];
        assert_eq!(stream.handle_bytes(&mut input, &limits), Ok(None));
        assert!(stream.is_idle() && stream.is_open());
    }
    let mut input = &b"\n<presence/> "[..];
    assert!(matches!(stream.handle_bytes(&mut input, &limits), Ok(Some(Event::Element(_)))));
    assert_eq!(stream.handle_bytes(&mut input, &limits), Ok(None));
    assert!(stream.is_idle());
}

#[test]
fn an_idle_stream_holds_a_few_dozen_bytes() {
    assert_eq!(size_of::<Parser>(), 24);
    for (header, heap) in [(HEADER, 0), ("<s:s xmlns:s='urn:something' xmlns='jabber:client'>", 200)] {
        let mut stream = Parser::new();
        let bytes = format!("{header}<message><body>x</body></message>");
        let mut input = bytes.as_bytes();
        while let Some(event) = stream.handle_bytes(&mut input, &Limits::default()).unwrap() {
            drop(event);
        }
        assert!(stream.is_idle());
        assert!(stream.idle_heap_bytes() <= heap, "{}", stream.idle_heap_bytes());
    }
}

#[test]
fn nothing_follows_the_end_of_a_stream_or_an_error() {
    let limits = Limits::default();
    let mut stream = Parser::new();
    let mut input = &b"<s></s><s><a/>"[..];
    assert!(matches!(stream.handle_bytes(&mut input, &limits), Ok(Some(Event::StreamStart(_)))));
    assert_eq!(stream.handle_bytes(&mut input, &limits), Ok(Some(Event::StreamEnd("s".into()))));
    assert_eq!(stream.handle_bytes(&mut input, &limits), Ok(None));
    let mut failed = Parser::new();
    let mut input = &b"<s></t><s>"[..];
    assert!(failed.handle_bytes(&mut input, &limits).is_ok());
    assert!(failed.handle_bytes(&mut input, &limits).is_err());
    for later in [&b"<s>"[..], b" \n<s>", b"\xEF\xBB\xBF<s>", b"", b"text"] {
        assert_eq!(failed.handle_bytes(&mut &*later, &limits), Ok(None));
        assert!(failed.is_closed() && failed.is_idle());
    }
}
