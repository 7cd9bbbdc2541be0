//! Messages of RFC 7395 as stream events, and back.

use megaphone_proto::ws::stanza::{parse_message, write_close, write_open, write_stanza};
use megaphone_proto::xmpp::{Condition, Event, Limits, StreamError, element_to_vec, parse_element};

fn rewritten(stanza: &str) -> String {
    let element = parse_element(stanza.as_bytes(), &Limits::default()).unwrap();
    let mut out = Vec::new();
    write_stanza(&element, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn open_is_the_header_that_a_c2s_expects() {
    let open =
        b"<open to='localhost' xmlns='urn:ietf:params:xml:ns:xmpp-framing' version='1.0' xml:lang='en'/>";
    let Event::StreamStart(header) = parse_message(open, &Limits::default()).unwrap() else { panic!() };
    assert_eq!(
        String::from_utf8(element_to_vec(&header)).unwrap(),
        "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' to='localhost' \
         version='1.0' xml:lang='en'/>"
    );
}

#[test]
fn close_is_the_end_of_the_stream() {
    let close = b" <close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>\n";
    assert_eq!(parse_message(close, &Limits::default()), Ok(Event::StreamEnd("stream:stream".into())));
}

#[test]
fn a_stanza_keeps_its_names() {
    let text = "<message xmlns='jabber:client' to='a'><p:x xmlns:p='urn:p' p:y='1'/></message>";
    let Event::Element(element) = parse_message(text.as_bytes(), &Limits::default()).unwrap() else {
        panic!()
    };
    assert_eq!(String::from_utf8(element_to_vec(&element)).unwrap(), text);
}

#[test]
fn a_message_that_is_not_one_element_is_refused() {
    let limits = Limits::default();
    for message in ["", " ", "text", "<a/><b/>", "<a>", "<a/>x", "<stream:stream>", "<?xml version='1.0'?>"] {
        let error = parse_message(message.as_bytes(), &limits).unwrap_err();
        assert_eq!(error.condition, Condition::NotWellFormed, "{message}");
    }
    assert_eq!(parse_message(b"<!-- -->", &limits).unwrap_err().condition, Condition::RestrictedXml);
    let small = Limits { stanza_bytes: 10, ..limits };
    assert_eq!(parse_message(b"<a>xxx</a>", &small), Err(StreamError::TOO_BIG));
    assert!(parse_message(b"<a>xx</a>", &small).is_ok());
}

#[test]
fn answers_declare_their_own_namespaces() {
    assert_eq!(
        rewritten("<message to='a'><body>x</body></message>"),
        "<message xmlns='jabber:client' to='a'><body>x</body></message>"
    );
    assert_eq!(
        rewritten("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>dj0=</success>"),
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>dj0=</success>"
    );
    let features = "<stream:features xmlns:stream='urn:old'><ver xmlns='urn:xmpp:features:rosterver'/></stream:features>";
    assert_eq!(
        rewritten(features),
        "<stream:features xmlns:stream='http://etherx.jabber.org/streams'>\
         <ver xmlns='urn:xmpp:features:rosterver'/></stream:features>"
    );
}

#[test]
fn header_and_trailer_are_open_and_close() {
    let mut out = Vec::new();
    let attrs: [(&[u8], &[u8]); 4] = [
        (b"xmlns", b"jabber:client"),
        (b"id", b"1'2"),
        (b"xmlns:stream", b"http://etherx.jabber.org/streams"),
        (b"version", b"1.0"),
    ];
    write_open(attrs.into_iter(), &mut out);
    write_close(&mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' id='1&apos;2' version='1.0'/>\
         <close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"
    );
}
