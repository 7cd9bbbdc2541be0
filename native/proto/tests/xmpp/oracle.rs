//! ejabberd's own XML code in an Erlang node, asked over a pipe.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use megaphone_proto::xmpp::{Element, Event, Item, Limits, Stream, StreamError};

pub(crate) struct Oracle {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    pub(crate) fn start() -> Self {
        let mut child = Command::new("escript")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/xmpp/oracle.escript"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect(
                "this test compares with Erlang: install erlang-base and erlang-p1-xml (escript not found)",
            );
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut oracle = Self { child, requests, answers };
        let greeting = oracle.read_line();
        assert_eq!(greeting, "ready", "this test compares with Erlang's fast_xml: {greeting}");
        oracle
    }

    pub(crate) fn ask(&mut self, request: &str) -> String {
        let requests = self.requests.as_mut().unwrap();
        writeln!(requests, "{request}.").unwrap();
        requests.flush().unwrap();
        self.read_line()
    }

    pub(crate) fn stream(&mut self, max_size: usize, chunks: &[&[u8]]) -> String {
        let chunks: Vec<_> = chunks.iter().map(|chunk| binary(chunk)).collect();
        self.ask(&format!("{{stream,{max_size},[{}]}}", chunks.join(",")))
    }

    fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the Erlang oracle ended; its own output says why");
        line.trim_end().to_owned()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.requests.take());
        let status = self.child.wait();
        if !std::thread::panicking() {
            assert!(status.unwrap().success());
        }
    }
}

/// A binary as `~w` prints it.
pub(crate) fn binary(bytes: &[u8]) -> String {
    let numbers: Vec<_> = bytes.iter().map(u8::to_string).collect();
    format!("<<{}>>", numbers.join(","))
}

/// An element as `~w` prints its `#xmlel{}`, built from the back as a NIF would build it.
pub(crate) fn xmlel(element: &Element) -> String {
    // Each open level: its children, and its attributes, both complete from some point to the end.
    let mut levels: Vec<(Vec<String>, Vec<String>)> = vec![(Vec::new(), Vec::new())];
    for item in element.items().rev() {
        let (children, attrs) = levels.last_mut().unwrap();
        match item {
            Item::End => levels.push((Vec::new(), Vec::new())),
            Item::Text(text) => children.push(format!("{{xmlcdata,{}}}", binary(text))),
            Item::Attr(name, value) => attrs.push(format!("{{{},{}}}", binary(name), binary(value))),
            Item::Start(name) => {
                let (children, attrs) = levels.pop().unwrap();
                let el = format!("{{xmlel,{},{},{}}}", binary(name), list(attrs), list(children));
                levels.last_mut().unwrap().0.push(el);
            }
        }
    }
    assert_eq!(levels.len(), 1);
    levels.pop().unwrap().0.pop().unwrap()
}

fn list(mut reversed: Vec<String>) -> String {
    reversed.reverse();
    format!("[{}]", reversed.join(","))
}

/// Everything a stream says about the bytes, however they are split.
pub(crate) fn run(chunks: &[&[u8]], limits: &Limits) -> (Vec<Event>, Option<StreamError>) {
    let mut stream = Stream::new();
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
            Event::StreamStart(header) => {
                let el = xmlel(header);
                let body = el.strip_prefix("{xmlel").unwrap().strip_suffix(",[]}").unwrap();
                write!(out, "{{xmlstreamstart{body}}}").unwrap();
            }
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
