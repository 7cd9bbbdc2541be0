//! Which request targets are for a configured path, and what a request's fields are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::BytesMut;
use megaphone_proto::http::{Limits, Path, Progress, RequestHead, Requests};

/// As `ejabberd_http` 23.01 decides: its functions gave the same answers.
#[test]
fn a_path_is_that_of_the_targets_that_ejabberd_takes_for_it() {
    for (configured, target, expected) in [
        ("/bosh", "/bosh", true),
        ("bosh/", "/bosh", true),
        ("/bosh", "/bosh/", true),
        ("/bosh", "//bosh", true),
        ("/bosh", "/bosh?a=b/c", true),
        ("/bosh", "/bosh/?", true),
        ("/bosh", "/%62osh", true),
        ("/bosh", "/%62os%68?%zz", true),
        ("/bosh", "/bosh%2f", true),
        ("/a/b", "/a%2Fb", true),
        ("/bosh", "/./bosh/.", true),
        ("/bosh", "/x/../bosh", true),
        ("/bosh", "/../../bosh", true),
        ("/bosh", "/x/y/../../bosh/z/..", true),
        ("/bosh", "/%2e%2e/bosh", true),
        ("/bosh", "/x/%2e./bosh", true),
        ("/x/bosh", "/x/y/z/%2e%2e/%2e%2e/bosh", false),
        ("/x/y/bosh", "/x/y/z/%2e%2e/%2e%2e/bosh", true),
        ("/bosh", "/%2e/bosh", false),
        ("/a b", "/a%20b", true),
        ("/a+b", "/a+b", true),
        ("/a\u{5}", "/a%+5", true),
        ("/a%", "/a%", true),
        ("/a%6", "/a%6", true),
        ("/a%", "/a%/", true),
        ("/a%6", "/a%6/", false),
        ("/a", "/a%00", false),
        ("/a", "/a%zz", false),
        ("/%62osh", "/%62osh", false),
        ("/bosh", "/Bosh", false),
        ("/bosh", "/bosh/x", false),
        ("/bosh", "/", false),
        ("/bosh", "/bosh#x", false),
        ("/bosh", "/bosh;x", false),
        ("/", "/", true),
        ("", "//", true),
        ("/", "/x/..", true),
        ("/bosh", "http://a:80/bosh", true),
        ("/bosh", "HTTPS://a/%62osh?x", true),
        ("/", "http://a", true),
        ("/", "http://a?/bosh", true),
        ("/bosh", "ftp://a/bosh", false),
        ("/bosh", "bosh", false),
        ("/b", "b", true),
        ("/*", "*", false),
        ("/", "*", false),
        ("/", "", false),
    ] {
        let is_same = Path::parse(configured.as_bytes()).matches(target.as_bytes());
        assert_eq!(is_same, expected, "{target:?} for {configured:?}");
    }
}

fn advance(request: &str) -> BytesMut {
    let mut buf = BytesMut::from(request);
    let mut requests = Requests::new();
    assert_eq!(requests.advance(&mut buf, &Limits::default()), Progress::Ready);
    buf.truncate(requests.head_remaining());
    buf
}

#[test]
fn a_higher_minor_version_is_1_1_to_those_who_answer_themselves() {
    for (minor, expected) in [(0, false), (1, true), (2, true), (9, true)] {
        let head = advance(&format!("GET / HTTP/1.{minor}\r\nHost: a\r\n\r\n"));
        assert_eq!(RequestHead::parse(&head).unwrap().is_http_1_1, expected);
    }
}

#[test]
fn the_last_of_several_fields_counts() {
    let head = advance(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1, 10.0.0.2\r\nx-forwarded-for: 10.0.0.3 \r\n\r\n",
    );
    let head = RequestHead::parse(&head).unwrap();
    assert_eq!(head.last("X-Forwarded-For"), Some(&b"10.0.0.3"[..]));
    assert_eq!(head.last("cookie"), None);
}

#[test]
fn the_host_of_an_absolute_target_is_the_requests_host() {
    let head = advance("GET http://b:80/c HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = RequestHead::parse(&head).unwrap();
    assert_eq!((head.target, head.last("host")), (&b"/c"[..], Some(&b"b:80"[..])));
}
