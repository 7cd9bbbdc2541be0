//! Messages of RFC 7395 as stream events, and back.

use megaphone_proto::ws::stanza::{parse_message, write_close, write_open, write_stanza};
use megaphone_proto::xmpp::{Condition, Event, Limits, StreamError, element_to_vec, parse_element};

use crate::erlang::{Oracle, binary, xmlel, xmlstreamstart};

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
    for message in [
        "",
        " ",
        "text",
        "<a/><b/>",
        "<a>",
        "<a>\r",
        "<a b='\r",
        "<a/>x",
        "<stream:stream>",
        "<?xml version='1.0'?>",
        "<?xml version='1.0'?>\r",
    ] {
        let error = parse_message(message.as_bytes(), &limits).unwrap_err();
        assert_eq!(error.condition, Condition::NotWellFormed, "{message}");
    }
    assert!(parse_message(b"<a>\r</a>\r", &limits).is_ok());
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

/// An event as `ejabberd_http_ws` hands it to the c2s.
fn in_erlang(event: &Result<Event, StreamError>) -> String {
    match event {
        Ok(Event::StreamStart(header)) => format!("[{}]", xmlstreamstart(header)),
        Ok(Event::Element(element)) => format!("[{}]", xmlel(element)),
        Ok(Event::StreamEnd(name)) => format!("[{{xmlstreamend,{}}}]", binary(name.as_bytes())),
        Err(_) => "error".to_owned(),
    }
}

#[test]
fn messages_reach_the_c2s_as_from_ejabberd_http_ws() {
    let mut oracle = Oracle::start("ws/oracle.escript");
    for message in [
        "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0' xml:lang='en'/>",
        "<open to='a' xmlns:stream='urn:other' id='1'/>",
        "<open/>",
        " <close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/> ",
        "<close><a/></close>",
        "<x:open xmlns:x='urn:ietf:params:xml:ns:xmpp-framing'/>",
        "<message xmlns='jabber:client' to='a'><p:x xmlns:p='urn:p' p:y='1'>&amp;</p:x></message>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>",
        "<iq type='get'><query xmlns='jabber:iq:roster'/></iq>",
        "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>",
        "<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>",
        "<a/><b/>",
        "<a></b>",
        "<p:a/>",
        "text",
        "",
        " ",
    ] {
        let ours = in_erlang(&parse_message(message.as_bytes(), &Limits::default()));
        assert_eq!(ours, oracle.ask(&format!("{{received,{}}}", binary(message.as_bytes()))), "{message}");
    }
}

#[test]
fn answers_reach_the_client_as_from_ejabberd_http_ws() {
    let mut oracle = Oracle::start("ws/oracle.escript");
    for text in [
        "<message to='a'><body>x &lt; y</body></message>",
        "<message xmlns='' to='a'/>",
        "<message to='a' xmlns='jabber:server'/>",
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>dj0=</success>",
        "<stream:features xmlns:stream='urn:old' a='b'><ver xmlns='urn:xmpp:features:rosterver'/></stream:features>",
        "<stream:error xmlns:stream='urn:old'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        "<r xmlns='urn:xmpp:sm:3'/>",
    ] {
        let element = parse_element(text.as_bytes(), &Limits::default()).unwrap();
        let mut ours = Vec::new();
        write_stanza(&element, &mut ours);
        let answer = oracle.ask(&format!("{{send,{{xmlstreamelement,{}}}}}", xmlel(&element)));
        assert_eq!(binary(&ours), answer, "{text}");
    }
    let header =
        "<stream:stream xmlns='jabber:client' version='1.0' xmlns:stream='s' id='1&quot;' from='a'/>";
    let header = parse_element(header.as_bytes(), &Limits::default()).unwrap();
    let mut ours = Vec::new();
    write_open(header.attrs(), &mut ours);
    assert_eq!(binary(&ours), oracle.ask(&format!("{{send,{}}}", xmlstreamstart(&header))));
    let mut ours = Vec::new();
    write_close(&mut ours);
    assert_eq!(binary(&ours), oracle.ask("{send,{xmlstreamend,<<\"stream:stream\">>}}"));
}
