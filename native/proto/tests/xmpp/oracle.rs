//! Streams through our parser and through ejabberd's.

use std::fmt::Write as _;

use megaphone_proto::xmpp::{Event, Limits, Parser, StreamError};

use crate::erlang::{Oracle, binary, xmlel, xmlstreamstart};

pub(crate) fn fxml() -> Oracle {
    Oracle::start("xmpp/oracle.escript")
}

/// What `fxml_stream` says of the bytes.
pub(crate) fn fxml_stream(oracle: &mut Oracle, max_size: usize, chunks: &[&[u8]]) -> String {
    let chunks: Vec<_> = chunks.iter().map(|chunk| binary(chunk)).collect();
    oracle.ask(&format!("{{stream,{max_size},[{}]}}", chunks.join(",")))
}

/// Everything a stream says about the bytes, however they are split.
pub(crate) fn run(chunks: &[&[u8]], limits: &Limits) -> (Vec<Event>, Option<StreamError>) {
    let mut stream = Parser::new();
    let mut events = Vec::new();
    for chunk in chunks {
        let mut input = *chunk;
        loop {
            match stream.handle_bytes(&mut input, limits) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert!(input.is_empty());
    }
    (events, None)
}

/// What [`run`] gave, in the words of the oracle.
pub(crate) fn in_erlang(events: &[Event], error: Option<StreamError>) -> String {
    let mut out = String::from("[");
    for event in events {
        if out.len() > 1 {
            out.push(',');
        }
        match event {
            Event::StreamStart(header) => out.push_str(&xmlstreamstart(header)),
            Event::Element(el) => write!(out, "{{xmlstreamelement,{}}}", xmlel(el)).unwrap(),
            Event::StreamEnd(name) => write!(out, "{{xmlstreamend,{}}}", binary(name.as_bytes())).unwrap(),
        }
    }
    if error.is_some() {
        out.push_str(if out.len() > 1 { ",error" } else { "error" });
    }
    out.push(']');
    out
}
