//! Which bodies are read, and as what.

use std::sync::Arc;

use megaphone_proto::bosh::{Condition, Config, Request, RequestError, Session, terminal_body};
use megaphone_proto::time::Time;
use megaphone_proto::xmpp::Limits;

use crate::driver::{body, element, parse, text_of};

fn error(text: &str) -> RequestError {
    Request::parse(text.as_bytes(), &Limits::default()).unwrap_err()
}

fn with_attrs(attrs: &str) -> String {
    format!("<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh' {attrs}/>")
}

#[test]
fn a_request_for_a_session_is_read_whole() {
    let request = parse(
        "<body content='text/html' hold='1' rid='1573741820' to='localhost' ver='1.6' wait='60' ack='1' \
         xml:lang='en' xmpp:version='1.0' xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh'/>",
    );
    assert_eq!(request.rid, 1_573_741_820);
    assert_eq!((request.wait, request.hold, request.ack), (Some(60), Some(1), Some(1)));
    assert_eq!(request.to.as_deref(), Some("localhost"));
    assert_eq!(request.version, Some((1, 6)));
    assert_eq!(request.content.as_deref(), Some("text/html"));
    assert_eq!(request.xmpp_version.as_deref(), Some("1.0"));
    assert_eq!(request.lang.as_deref(), Some("en"));
    assert!(request.payload.is_empty() && !request.is_terminate && !request.is_restart);
}

#[test]
fn payload_comes_out_as_ready_stanzas() {
    let request = body(
        "rid='1' sid='a' type='terminate'",
        "\n<presence xmlns='jabber:client' type='unavailable'/>text<message><body>x &amp; y</body></message>",
    );
    let stanzas: Vec<_> = request.payload.iter().map(text_of).collect();
    assert_eq!(
        stanzas,
        ["<presence xmlns='jabber:client' type='unavailable'/>", "<message><body>x &amp; y</body></message>"]
    );
    assert!(request.is_terminate);
}

#[test]
fn restart_and_version_are_found_by_any_prefix() {
    let request = parse(
        "<body rid='1' b:restart='true' b:version='1.0' xmlns='http://jabber.org/protocol/httpbind' \
         xmlns:b='urn:xmpp:xbosh' xmlns:xmpp='urn:other' xmpp:restart='no'/>",
    );
    assert!(request.is_restart);
    assert_eq!(request.xmpp_version.as_deref(), Some("1.0"));
}

#[test]
fn a_second_prefix_of_the_same_namespace_is_as_good_as_the_first() {
    let request = parse(
        "<body rid='1' b:restart='true' a:version='1.0' xmlns='http://jabber.org/protocol/httpbind' \
         xmlns:a='urn:xmpp:xbosh' xmlns:b='urn:xmpp:xbosh'/>",
    );
    assert!(request.is_restart);
    assert_eq!(request.xmpp_version.as_deref(), Some("1.0"));
}

#[test]
fn what_is_no_body_is_refused() {
    assert_eq!(error("<body xmlns='urn:other' rid='1'/>"), RequestError::NotABody);
    assert_eq!(error("<body rid='1'/>"), RequestError::NotABody);
    assert_eq!(error("<a xmlns='http://jabber.org/protocol/httpbind' rid='1'/>"), RequestError::NotABody);
    for text in ["", "{}", "<body>", "<body/><body/>", "<!DOCTYPE body><body/>", "<body><a></body>"] {
        assert!(matches!(error(text), RequestError::Xml(_)), "{text}");
    }
}

#[test]
fn malformed_attributes_are_refused_by_name() {
    for (attrs, name) in [
        ("", "rid"),
        ("rid=''", "rid"),
        ("rid='0'", "rid"),
        ("rid='-1'", "rid"),
        ("rid='+1'", "rid"),
        ("rid='1.0'", "rid"),
        ("rid='9007199254740992'", "rid"),
        ("rid='99999999999999999999999'", "rid"),
        ("rid='1' wait='x'", "wait"),
        ("rid='1' hold='-1'", "hold"),
        ("rid='1' pause='soon'", "pause"),
        ("rid='1' ack='x'", "ack"),
        ("rid='1' ver='new'", "ver"),
        ("rid='1' xmpp:restart='maybe'", "xmpp:restart"),
        ("rid='1' newkey='abc'", "newkey"),
        ("rid='1' newkey='zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz'", "newkey"),
    ] {
        assert_eq!(error(&with_attrs(attrs)), RequestError::Attribute(name), "{attrs}");
    }
    assert_eq!(parse(&with_attrs("rid='9007199254740991'")).rid, 9_007_199_254_740_991);
    assert_eq!(parse(&with_attrs("rid='1' content='a&#10;Set-Cookie: b'")).content, None);
}

#[test]
fn a_session_needs_a_host() {
    let config = Arc::new(Config::default());
    let created = Session::create(body("rid='1'", ""), "a", 1, config, Time::START);
    assert_eq!(created.err(), Some(Condition::ImproperAddressing));
    let answer = terminal_body(Condition::ImproperAddressing);
    assert_eq!(
        text_of(&element(std::str::from_utf8(&answer).unwrap())),
        "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='improper-addressing'/>"
    );
}

#[test]
fn numbers_beyond_all_numbers_are_the_largest() {
    let digits = "9".repeat(100);
    let attrs =
        format!("rid='1' wait='{digits}' hold='{digits}' pause='{digits}' ack='{digits}' ver='1.{digits}'");
    let request = parse(&with_attrs(&attrs));
    let most = Some(u32::MAX);
    assert_eq!((request.wait, request.hold, request.pause), (most, most, most));
    assert_eq!((request.ack, request.version), (Some(u64::MAX), Some((1, u32::MAX))));
    let zeros = format!("rid='{}17'", "0".repeat(50));
    assert_eq!(parse(&with_attrs(&zeros)).rid, 17);
    assert_eq!(error(&with_attrs("rid='1' ver='+1.2'")), RequestError::Attribute("ver"));
}

#[test]
fn long_attributes_are_taken_where_the_parser_takes_them() {
    let limits = Limits { token_bytes: 200_000, ..Limits::default() };
    let long = "x".repeat(100_000);
    let text = format!(
        "<body xmlns='http://jabber.org/protocol/httpbind' rid='1' to='{long}' content='{long}' xml:lang='{long}' \
         key='{long}' sid='{long}' from='{long}'/>"
    );
    let request = Request::parse(text.as_bytes(), &limits).unwrap();
    assert_eq!(request.to.as_deref(), Some(&*long));
    assert_eq!(request.content, None, "of no use in a header field");
}
