//! BOSH's requests on one connection, and their answers.

use megaphone_proto::bosh::{Exchange, Response, is_bosh};
use megaphone_proto::http::RequestHead;

const PIPELINING: &str = "POST /bosh HTTP/1.1\r\nHost: a\r\n\r\n";
const CLOSING: &str = "POST /bosh HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const OLD: &str = "POST /bosh HTTP/1.0\r\nHost: a\r\n\r\n";
const OLD_KEEPING: &str = "POST /bosh HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n";

fn head(text: &str) -> RequestHead<'_> {
    RequestHead::parse(text.as_bytes()).unwrap()
}

fn ok(body: &str) -> Response<'_> {
    Response { status: "200 OK", content_type: "text/xml; charset=utf-8", fields: b"", body: body.as_bytes() }
}

fn written(exchange: &mut Exchange) -> String {
    let mut out = Vec::new();
    assert_eq!(exchange.poll_transmit(&mut out), !out.is_empty());
    String::from_utf8(out).unwrap()
}

/// What is written, as the last line of each answer.
fn bodies(exchange: &mut Exchange) -> Vec<String> {
    let text = written(exchange);
    text.split("HTTP/1.1 200 OK").skip(1).map(|one| one.rsplit("\r\n").next().unwrap().to_owned()).collect()
}

#[test]
fn an_answer_has_the_fields_that_pages_of_any_origin_need_and_none_can_misuse() {
    let mut exchange = Exchange::new();
    let number = exchange.begin(&head(PIPELINING));
    exchange.handle_answer(number, &ok("<body/>"));
    assert_eq!(
        written(&mut exchange),
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nAccess-Control-Allow-Headers: Content-Type\r\n\
         Access-Control-Allow-Origin: *\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Security-Policy: default-src 'none'; sandbox\r\nContent-Type: text/xml; charset=utf-8\r\n\r\n<body/>"
    );
    assert!(exchange.is_idle() && !exchange.is_last());
    assert!(written(&mut exchange).is_empty());
}

#[test]
fn errors_have_the_same_fields_and_a_listeners_own_replace_them() {
    let mut exchange = Exchange::new();
    let number = exchange.begin(&head(PIPELINING));
    let fields = b"access-control-allow-origin: https://b\r\nX-Own: 1\r\nCONTENT-SECURITY-POLICY: none\r\n";
    let refusal = Response { status: "400 malformed", fields, ..ok("") };
    exchange.handle_answer(number, &refusal);
    assert_eq!(
        written(&mut exchange),
        "HTTP/1.1 400 malformed\r\nContent-Length: 0\r\nAccess-Control-Allow-Headers: Content-Type\r\n\
         X-Content-Type-Options: nosniff\r\nContent-Type: text/xml; charset=utf-8\r\n\
         access-control-allow-origin: https://b\r\nX-Own: 1\r\nCONTENT-SECURITY-POLICY: none\r\n\r\n"
    );
}

#[test]
fn answers_leave_in_the_order_of_the_requests() {
    let mut exchange = Exchange::new();
    let numbers: Vec<u8> = (0..3).map(|_| exchange.begin(&head(PIPELINING))).collect();
    exchange.handle_answer(numbers[2], &ok("<c/>"));
    exchange.handle_answer(numbers[1], &ok("<b/>"));
    assert!(written(&mut exchange).is_empty());
    exchange.handle_answer(numbers[1], &ok("<again/>"));
    exchange.handle_answer(numbers[0], &ok("<a/>"));
    assert_eq!(bodies(&mut exchange), ["<a/>", "<b/>", "<c/>"]);
    assert!(exchange.is_idle());
    exchange.handle_answer(numbers[0], &ok("<late/>"));
    assert!(written(&mut exchange).is_empty());
}

#[test]
fn only_so_many_requests_are_under_way() {
    let mut exchange = Exchange::new();
    let mut numbers = Vec::new();
    while exchange.has_room() {
        numbers.push(exchange.begin(&head(PIPELINING)));
    }
    assert_eq!(numbers.len(), Exchange::MAX_UNDER_WAY);
    for _ in 0..100 {
        exchange.handle_answer(numbers.remove(0), &ok("<a/>"));
        assert_eq!(bodies(&mut exchange).len(), 1);
        let number = exchange.begin(&head(PIPELINING));
        assert!(number < 32 && !numbers.contains(&number) && !exchange.has_room());
        numbers.push(number);
    }
}

#[test]
fn a_request_that_closes_the_connection_is_the_last() {
    for (text, start) in [
        (CLOSING, "HTTP/1.1 200 OK\r\nConnection: close\r\n"),
        (OLD, "HTTP/1.0 200 OK\r\nConnection: close\r\n"),
    ] {
        let mut exchange = Exchange::new();
        let first = exchange.begin(&head(PIPELINING));
        let number = exchange.begin(&head(text));
        assert!(exchange.is_last() && !exchange.has_room());
        exchange.handle_answer(number, &ok("<b/>"));
        assert!(!exchange.is_idle() && written(&mut exchange).is_empty());
        exchange.handle_answer(first, &ok("<a/>"));
        assert!(written(&mut exchange).contains(start));
        assert!(exchange.is_idle() && exchange.is_last());
    }
}

#[test]
fn an_old_client_that_asks_for_it_keeps_its_connection() {
    let mut exchange = Exchange::new();
    let number = exchange.begin(&head(OLD_KEEPING));
    exchange.handle_answer(number, &ok("<a/>"));
    assert!(written(&mut exchange).starts_with("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"));
    assert!(exchange.has_room() && exchange.is_idle());
}

#[test]
fn a_request_whose_body_is_not_read_ends_the_connection_after_those_before_it() {
    let mut exchange = Exchange::new();
    let first = exchange.begin(&head(PIPELINING));
    let second = exchange.begin(&head(PIPELINING));
    exchange.begin(&head(PIPELINING));
    exchange.close_after(second);
    exchange.handle_answer(second, &Response { status: "403 Request Too Large", ..ok("") });
    exchange.handle_answer(first, &ok("<a/>"));
    let text = written(&mut exchange);
    assert_eq!(text.matches("HTTP/1.1 ").count(), 2);
    assert!(text.contains("<a/>HTTP/1.1 403 Request Too Large\r\nConnection: close\r\n"));
    assert!(exchange.is_idle() && exchange.is_last());
}

#[test]
fn one_request_under_way_costs_less_than_64_bytes() {
    let mut exchange = Exchange::new();
    exchange.begin(&head(PIPELINING));
    let bytes = size_of::<Exchange>() + exchange.heap_bytes();
    assert!(bytes <= 64, "{bytes}");
}

#[test]
fn posts_that_are_not_json_are_for_bosh() {
    let with_type = |value: &str| {
        let text = format!("POST /b HTTP/1.1\r\nHost: a\r\nContent-Type: {value}\r\n\r\n");
        is_bosh(&head(&text))
    };
    assert!(is_bosh(&head(PIPELINING)) && with_type("text/xml; charset=utf-8") && with_type("json"));
    assert!(!with_type("application/json") && !with_type("application/json; charset=utf-8"));
    assert!(!is_bosh(&head("GET /b HTTP/1.1\r\nHost: a\r\n\r\n")));
    assert!(!is_bosh(&head("POST /b HTTP/1.0\r\n\r\n")));
}
