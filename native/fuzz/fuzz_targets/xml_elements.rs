//! Stanzas that are built node by node, sent over streams, and arrive in pieces.
//!
//! Held to be true: each arrives as it was built, in order, in whatever pieces; white space between stanzas changes
//! nothing; the first that is over a bound is a policy-violation, and none is that isn't; a restarted stream knows nothing
//! of the one before; within a document a stanza reads the same.
#![no_main]

use std::collections::HashSet;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::xml::{WIDE, as_read_back};
use megaphone_proto::xmpp::{
    Condition, Element, ElementBuilder, Event, Item, Limits, Parser, element_to_vec, parse_element,
};

const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
const TRAILER: &str = "</stream:stream>";
const NAMES: [&str; 6] = ["a", "message", "stream:error", "x-1.2_", "\u{e9}l\u{e8}ve", "iq"];
const ATTRS: [&str; 5] = ["a", "to", "xml:lang", "na\u{ef}f", "stream:a"];
const SPACES: [&str; 4] = [" ", "\r\n", "\n\t", "\r"];

const WIDER: Limits = Limits { token_bytes: 1 << 13, ..WIDE };
/// Just enough for the header.
const TIGHT: Limits = Limits {
    stanza_bytes: 150,
    nodes: 12,
    depth: 3,
    attributes: 2,
    namespaces: 2,
    namespace_bytes: 80,
    token_bytes: 32,
};

#[derive(Arbitrary, Debug)]
enum Operation<'a> {
    Start(u8),
    Attr(u8, &'a str),
    Text(&'a str),
    End,
    /// White space between stanzas.
    KeepAlive(u8),
    /// So many bytes arrive.
    Deliver(u8),
    /// The client ends its stream.
    Close,
    /// All that was sent has arrived, and a new stream begins.
    Restart,
}

/// A stanza that is being built.
#[derive(Default)]
struct Draft {
    builder: ElementBuilder,
    depth: usize,
    /// Names of the attributes of the element begun last, while more may follow.
    attrs: Option<HashSet<&'static str>>,
}

/// A client with its connection and what is at the other end of it.
struct Connection {
    limits: Limits,
    wire: Vec<u8>,
    taken: usize,
    stream: Parser,
    expected: Vec<Result<Event, Condition>>,
    events: Vec<Result<Event, Condition>>,
    /// Whether the stream has ended or failed, once all has arrived.
    is_over: bool,
}

fuzz_target!(|input: (bool, Vec<Operation>)| {
    let (is_tight, operations) = input;
    let mut connection = Connection::new(if is_tight { TIGHT } else { WIDER });
    let mut draft = Draft::default();
    for operation in operations {
        match operation {
            Operation::Start(name) => draft.start(NAMES[usize::from(name) % NAMES.len()]),
            Operation::Attr(name, value) => draft.attr(ATTRS[usize::from(name) % ATTRS.len()], value),
            Operation::Text(text) => draft.text(text),
            Operation::End => {
                if let Some(stanza) = draft.end() {
                    check_document(&stanza);
                    connection.send(&stanza);
                }
            }
            Operation::KeepAlive(kind) => {
                connection.wire.extend_from_slice(SPACES[usize::from(kind) % SPACES.len()].as_bytes());
            }
            Operation::Deliver(count) => connection.deliver(count.into()),
            Operation::Close => connection.close(),
            Operation::Restart => connection.restart(),
        }
    }
    connection.check();
});

/// What XML can hold (XML section 2.2).
fn as_xml(text: &str) -> String {
    text.chars()
        .filter(|char| matches!(char, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..))
        .collect()
}

impl Draft {
    fn start(&mut self, name: &'static str) {
        self.builder.start(name.as_bytes());
        self.depth += 1;
        self.attrs = Some(HashSet::new());
    }

    fn attr(&mut self, name: &'static str, value: &str) {
        if self.attrs.as_mut().is_some_and(|names| names.insert(name)) {
            self.builder.attr(name.as_bytes(), as_xml(value).as_bytes());
        }
    }

    fn text(&mut self, text: &str) {
        let text = as_xml(text);
        if self.depth > 0 && !text.is_empty() {
            self.builder.text(text.as_bytes());
            self.attrs = None;
        }
    }

    /// Ends an element; the stanza, when it was that.
    fn end(&mut self) -> Option<Element> {
        self.depth = self.depth.checked_sub(1)?;
        self.builder.end();
        self.attrs = None;
        let stanza = (self.depth == 0).then(|| std::mem::take(&mut self.builder).finish());
        stanza.map(|stanza| stanza.expect("starts and ends that pair up"))
    }
}

fn check_document(stanza: &Element) {
    let document = [HEADER.as_bytes(), &element_to_vec(stanza), TRAILER.as_bytes()].concat();
    let stream = parse_element(&document, &WIDER).expect("a document of ours");
    assert_eq!(stream.child_elements(), [as_read_back(stanza)]);
}

/// Whether a stanza may arrive.
fn is_within(limits: &Limits, stanza: &Element, bytes: usize) -> bool {
    let (mut depth, mut deepest, mut attrs, mut most_attrs, mut longest) = (0, 0, 0, 0, 0);
    let mut nodes = 0;
    for item in stanza.items() {
        nodes += if matches!(item, Item::Attr(..)) { 2 } else { 1 };
        match item {
            Item::Start(name) => {
                depth += 1;
                deepest = deepest.max(depth);
                attrs = 0;
                longest = longest.max(name.len());
            }
            Item::Attr(name, value) => {
                attrs += 1;
                most_attrs = most_attrs.max(attrs);
                longest = longest.max(name.len()).max(value.len());
            }
            Item::Text(_) => {}
            Item::End => depth -= 1,
        }
    }
    bytes < limits.stanza_bytes
        && nodes <= limits.nodes
        && deepest <= limits.depth
        && most_attrs <= limits.attributes
        && longest <= limits.token_bytes
}

impl Connection {
    fn new(limits: Limits) -> Self {
        let mut connection = Self {
            limits,
            wire: Vec::new(),
            taken: 0,
            stream: Parser::new(),
            expected: Vec::new(),
            events: Vec::new(),
            is_over: false,
        };
        connection.restart();
        connection
    }

    fn send(&mut self, stanza: &Element) {
        let bytes = element_to_vec(stanza);
        self.wire.extend_from_slice(&bytes);
        if self.is_over {
            return;
        }
        if is_within(&self.limits, stanza, bytes.len()) {
            self.expected.push(Ok(Event::Element(as_read_back(stanza))));
        } else {
            self.expected.push(Err(Condition::PolicyViolation));
            self.is_over = true;
        }
    }

    fn close(&mut self) {
        self.wire.extend_from_slice(TRAILER.as_bytes());
        if !std::mem::replace(&mut self.is_over, true) {
            self.expected.push(Ok(Event::StreamEnd("stream:stream".into())));
        }
    }

    fn restart(&mut self) {
        self.check();
        let document = [HEADER, TRAILER].concat();
        let header = parse_element(document.as_bytes(), &WIDER).expect("a header of ours");
        self.stream = Parser::new();
        self.is_over = false;
        self.wire.extend_from_slice(HEADER.as_bytes());
        self.expected.push(Ok(Event::StreamStart(header)));
    }

    fn deliver(&mut self, count: usize) {
        let piece = &self.wire[self.taken..];
        let mut input = &piece[..count.min(piece.len())];
        self.taken += input.len();
        loop {
            match self.stream.handle_bytes(&mut input, &self.limits) {
                Ok(Some(event)) => self.events.push(Ok(event)),
                Ok(None) => break,
                Err(error) => self.events.push(Err(error.condition)),
            }
        }
    }

    fn check(&mut self) {
        self.deliver(usize::MAX);
        assert_eq!(self.events, self.expected);
        assert!(self.stream.is_idle());
        assert_eq!(self.stream.is_closed(), self.is_over);
    }
}
