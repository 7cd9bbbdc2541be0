//! Which upgrade requests are accepted, and with what.

use megaphone_proto::ws::{Policy, Refusal, Request, accept, is_upgrade};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const POLICY: Policy<'_> = Policy { origins: &[], subprotocol: Some("xmpp") };

/// A good request with headers replaced, added, or removed where the value is empty.
fn judge(changes: &[(&str, &str)], policy: &Policy<'static>) -> Result<String, Refusal> {
    let good = [
        ("Host", "localhost:5280"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Protocol", "xmpp"),
    ];
    let kept = good.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    let added = changes.iter().filter(|(_, value)| !value.is_empty());
    let headers: Vec<_> =
        kept.chain(added).map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let accepted = accept(&Request { method: b"GET", is_http_1_1: true, headers: &headers }, policy)?;
    let mut response = Vec::new();
    accepted.write_response(&mut response);
    Ok(String::from_utf8(response).unwrap())
}

#[test]
fn the_example_of_rfc_6455_is_answered_as_there() {
    assert_eq!(
        judge(&[], &POLICY).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n"
    );
}

#[test]
fn names_and_tokens_in_any_case_and_list_are_understood() {
    for changes in [
        &[("Connection", "keep-alive, Upgrade")][..],
        &[("Connection", "UPGRADE")],
        &[("Connection", ""), ("connection", "keep-alive"), ("CONNECTION", " upgrade ")],
        &[("Upgrade", "WebSocket")],
        &[("Upgrade", "h2c, websocket")],
        &[("Sec-WebSocket-Key", ""), ("sec-websocket-key", "  dGhlIHNhbXBsZSBub25jZQ== ")],
        // The last digit's unused bits are set.
        &[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZR==")],
    ] {
        assert!(judge(changes, &POLICY).is_ok(), "{changes:?}");
    }
}

#[test]
fn one_subprotocol_is_chosen_and_only_one_that_was_offered() {
    let chosen = |offered: &[(&str, &str)], policy: &Policy<'static>| {
        let response = judge(offered, policy).unwrap();
        response.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: ").map(str::to_owned))
    };
    let name = "Sec-WebSocket-Protocol";
    assert_eq!(chosen(&[(name, "mqtt, xmpp")], &POLICY).as_deref(), Some("xmpp"));
    assert_eq!(chosen(&[(name, ""), (name, "mqtt"), (name, "xmpp")], &POLICY).as_deref(), Some("xmpp"));
    assert_eq!(chosen(&[(name, "mqtt")], &POLICY), None);
    assert_eq!(chosen(&[(name, "XMPP, xmpp-framing")], &POLICY), None);
    assert_eq!(chosen(&[(name, "")], &POLICY), None);
    assert_eq!(chosen(&[], &Policy::default()), None);
}

#[test]
fn what_is_wrong_is_refused_with_its_status() {
    for (changes, refusal) in [
        (&[("Upgrade", "")][..], Refusal::NoUpgrade),
        (&[("Upgrade", "h2c")], Refusal::NoUpgrade),
        (&[("Connection", "close")], Refusal::NoUpgrade),
        (&[("Connection", "")], Refusal::NoUpgrade),
        (&[("Host", "")], Refusal::BadRequest),
        (&[("Sec-WebSocket-Version", "")], Refusal::Version),
        (&[("Sec-WebSocket-Version", "8")], Refusal::Version),
        (&[("Sec-WebSocket-Version", "13, 8")], Refusal::Version),
        (&[("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Version", "8")], Refusal::Version),
        (&[("Sec-WebSocket-Key", "")], Refusal::Key),
        (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j")], Refusal::Key),
        (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZSE=")], Refusal::Key),
        (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25!ZQ==")], Refusal::Key),
        (&[("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Key", KEY)], Refusal::Key),
    ] {
        assert_eq!(judge(changes, &POLICY), Err(refusal), "{changes:?}");
    }
    assert_eq!(Refusal::Version.status(), 426);
    assert_eq!(Refusal::Origin.status(), 403);
    assert_eq!(Refusal::Key.status(), 400);
    for (method, is_http_1_1) in [(&b"POST"[..], true), (b"GET", false)] {
        let headers = [
            (&b"Host"[..], &b"a"[..]),
            (b"Upgrade", b"websocket"),
            (b"Connection", b"upgrade"),
            (b"Sec-WebSocket-Version", b"13"),
            (b"Sec-WebSocket-Key", KEY.as_bytes()),
        ];
        let request = Request { method, is_http_1_1, headers: &headers };
        assert_eq!(accept(&request, &POLICY), Err(Refusal::BadRequest));
    }
}

#[test]
fn an_origin_has_to_be_listed_when_there_is_a_list() {
    let policy = Policy { origins: &["https://a.example", "https://b.example"], subprotocol: None };
    assert!(judge(&[("Origin", "https://b.example")], &policy).is_ok());
    assert!(judge(&[("Origin", "HTTPS://A.example")], &policy).is_ok());
    assert!(judge(&[], &policy).is_ok(), "no browser");
    for origin in ["https://c.example", "https://a.example.evil", "null", "https://a.example:8080"] {
        assert_eq!(judge(&[("Origin", origin)], &policy), Err(Refusal::Origin));
    }
    assert!(judge(&[("Origin", "https://c.example")], &POLICY).is_ok(), "no list");
}

#[test]
fn an_upgrade_of_http_1_0_is_none() {
    let fields = [(&b"Upgrade"[..], &b"websocket"[..]), (b"connection", b"keep-alive, Upgrade")];
    assert!(is_upgrade(&fields, true));
    assert!(!is_upgrade(&fields, false));
    assert!(!is_upgrade(&fields[..1], true) && !is_upgrade(&fields[1..], true));
}

#[test]
fn a_refusal_is_a_whole_answer_in_which_own_lines_replace_ours() {
    let answer = |refusal: Refusal, fields: &[u8]| {
        let mut out = Vec::new();
        refusal.response(fields, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        answer(Refusal::Version, b""),
        "HTTP/1.1 426 Upgrade Required\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(
        answer(Refusal::Origin, b"Server: x\r\nconnection: Close\r\n"),
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nServer: x\r\nconnection: Close\r\n\r\n"
    );
    assert!(answer(Refusal::Key, b"").starts_with("HTTP/1.1 400 Bad Request\r\n"));
}
