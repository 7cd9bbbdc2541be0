//! Prints how long stanzas of one size and different shapes take to parse:
//! `cargo run --release --example xml_shapes -p megaphone-proto [SHAPE]`, all or those with that in their names.
//!
//! A peer chooses the shape, so that none may cost much more than another of its size. Stanzas beyond a bound say so.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use megaphone_proto::xmpp::{Limits, Parser};

const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
/// Bytes of the large stanzas.
const SIZE: usize = 262_000;

fn main() {
    let limits = Limits::default();
    println!("{:32} {:>8} {:>12}  outcome", "shape", "bytes", "time");
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for (shape, header, stanza) in shapes().into_iter().filter(|(shape, ..)| shape.contains(&wanted)) {
        let header = if header.is_empty() { HEADER } else { header.as_str() };
        let (time, outcome) = measure(header, &stanza, &limits);
        println!("{shape:32} {:8} {:9.1} us  {outcome}", stanza.len(), time.as_secs_f64() * 1e6);
    }
}

/// The fastest of many, which other programs disturb least.
fn measure(header: &str, stanza: &str, limits: &Limits) -> (Duration, String) {
    let rounds = 20 + 2_000_000 / stanza.len();
    let mut best = (Duration::MAX, String::new());
    for _ in 0..rounds.min(2000) {
        let mut parser = Parser::new();
        let mut input = header.as_bytes();
        let started = parser.handle_bytes(&mut input, limits).err();
        let _ = parser.handle_bytes(&mut input, limits);
        let start = Instant::now();
        let mut input = stanza.as_bytes();
        let result = parser.handle_bytes(&mut input, limits);
        let time = start.elapsed();
        if time < best.0 {
            let outcome = match (started, result) {
                (Some(error), _) | (_, Err(error)) => error.to_string(),
                (_, Ok(event)) => if event.is_some() { "element" } else { "nothing" }.to_owned(),
            };
            best = (time, outcome);
        }
    }
    best
}

fn shapes() -> Vec<(&'static str, String, String)> {
    let message = message();
    let within = |inner: String| format!("<a>{inner}</a>");
    let many = |piece: &str| within(piece.repeat(SIZE / piece.len()));
    let attrs: String = (0..60).map(|index| format!(" a{index}=''")).collect();
    let prefixes: String = (0..60).map(|index| format!(" xmlns:p{index}='u{index}'")).collect();
    let prefixed: String = (0..60).map(|index| format!(" p{index}:a=''")).collect();
    let long_prefixed: String = (0..62).map(|index| format!(" p:a{index}=''")).collect();
    let uri = |bytes: usize| "u".repeat(bytes);
    let nested =
        |name: &str| format!("{}{}", format!("<{name}>").repeat(120), format!("</{name}>").repeat(120));
    let header = |declared: String| HEADER.replace('>', &format!("{declared}>"));
    let bound: String = (0..60).map(|index| format!(" xmlns:p{index}='{}'", uri(4000))).collect();
    vec![
        ("ordinary message", String::new(), message.clone()),
        ("ordinary messages", String::new(), many(&message)),
        ("long text", String::new(), many("text of a letter, and so on and on ")),
        ("long text, not ASCII", String::new(), many("текст письма, и так далее ")),
        ("entities", String::new(), many("&lt;&amp;&#65;")),
        ("line ends and brackets", String::new(), many("\r\n]]\r")),
        ("tiny elements", String::new(), many("<a/>")),
        ("tiny elements, within nodes", String::new(), within("<a/>".repeat(16_000))),
        ("nested elements", String::new(), many(&nested("a"))),
        ("many attributes", String::new(), many(&format!("<a{attrs}/>"))),
        ("many declarations", String::new(), many(&format!("<a{prefixes}/>"))),
        ("many prefixed attributes", header(prefixes.clone()), many(&format!("<a{prefixed}/>"))),
        (
            "the same, declared in the stanza",
            String::new(),
            format!("<a{prefixes}>{}</a>", format!("<a{prefixed}/>").repeat(SIZE / prefixed.len() - 10)),
        ),
        (
            "one long namespace",
            String::new(),
            format!(
                "<a xmlns:p='{}'>{}</a>",
                uri(65_000),
                format!("<a{long_prefixed}/>").repeat(196_000 / long_prefixed.len())
            ),
        ),
        (
            "one namespace of 4,000 bytes",
            String::new(),
            format!(
                "<a xmlns:p='{}'>{}</a>",
                uri(4_000),
                format!("<a{long_prefixed}/>").repeat(250_000 / long_prefixed.len())
            ),
        ),
        ("namespaces in turn", String::new(), many("<b xmlns='u'><c xmlns='v'/></b>")),
        ("long namespaces in the header", header(bound), message),
    ]
}

/// 282 bytes, as clients send them.
fn message() -> String {
    let start = "<message to='juliet@capulet.example/balcony' from='romeo@montague.example/orchard' type='chat' \
         id='ab12cd34'><body>";
    let end = "</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>\
         </message>";
    format!("{start}{}{end}", "x".repeat(282 - start.len() - end.len()))
}
