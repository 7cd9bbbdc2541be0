//! The owner of a connection and its handlers, as far as `Requests` can tell; and requests to send to them.
#![allow(dead_code, reason = "each test that has this module uses a part of it")]

use bytes::{Buf, BytesMut};
use megaphone_proto::http::{Limits, Progress, RequestError, Requests};
use proptest::prelude::*;

/// One request as a handler got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// What the handler read.
    pub(crate) bytes: Vec<u8>,
    /// What it could have read, head and body.
    pub(crate) total: u64,
    pub(crate) head: usize,
}

/// Reads a connection and runs a handler for each request, which reads at most so many bytes of it.
pub(crate) struct Server {
    requests: Requests,
    buf: BytesMut,
    limits: Limits,
    /// The n-th handler reads at most the n-th (modulo their number) of these many bytes.
    reads: Vec<u64>,
    running: Option<Served>,
    pub(crate) served: Vec<Served>,
    pub(crate) continues: usize,
    pub(crate) progress: Progress,
}

impl Server {
    pub(crate) fn new(limits: Limits, reads: Vec<u64>) -> Self {
        Self {
            requests: Requests::new(),
            buf: BytesMut::new(),
            limits,
            reads,
            running: None,
            served: Vec::new(),
            continues: 0,
            progress: Progress::Idle,
        }
    }

    /// A server whose handlers read all.
    pub(crate) fn greedy(limits: Limits) -> Self {
        Self::new(limits, vec![u64::MAX])
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
        loop {
            self.progress = self.requests.advance(&mut self.buf, &self.limits);
            self.check();
            match self.progress {
                Progress::Ready => {
                    if !self.serve() {
                        return;
                    }
                    self.requests.next_request();
                }
                Progress::Body { send_continue } => {
                    self.continues += usize::from(send_continue);
                    return;
                }
                _ => return,
            }
        }
    }

    /// Asks for a next request when there is none to be done with; nothing may come of it.
    pub(crate) fn ask_too_early(&mut self) {
        if self.progress != Progress::Ready {
            self.requests.next_request();
        }
    }

    /// The request that is being read, too.
    pub(crate) fn all_served(&self) -> Vec<Served> {
        self.served.iter().chain(&self.running).cloned().collect()
    }

    pub(crate) fn refusal(&self) -> Option<RequestError> {
        match self.progress {
            Progress::Refused(error) => Some(error),
            _ => None,
        }
    }

    /// Reads on; true when the handler is done.
    fn serve(&mut self) -> bool {
        let running = self.running.get_or_insert_with(|| {
            assert!(self.requests.is_between_requests());
            Served {
                bytes: Vec::new(),
                total: self.requests.remaining(),
                head: self.requests.head_remaining(),
            }
        });
        let read = self.reads[self.served.len() % self.reads.len()].min(running.total);
        let wanted = usize::try_from(read).map_or(usize::MAX, |read| read - running.bytes.len());
        let n = self.requests.available(self.buf.len()).min(wanted);
        running.bytes.extend_from_slice(&self.buf[..n]);
        self.buf.advance(n);
        self.requests.consumed(n);
        let delivered = running.bytes.len() as u64;
        assert_eq!(self.requests.remaining(), running.total - delivered);
        assert_eq!(self.requests.is_between_requests(), delivered == 0 || delivered == running.total);
        let is_done = delivered == read;
        if is_done {
            self.served.extend(self.running.take());
        }
        is_done
    }

    /// What holds after every `advance`.
    fn check(&self) {
        let limits = &self.limits;
        match self.progress {
            Progress::Idle => assert!(self.buf.is_empty()),
            Progress::Head => assert!(self.buf.len() < limits.max_head.max(2)),
            Progress::Body { .. } => {
                assert!(
                    self.buf.len() <= limits.max_head + limits.max_buffered_body.max(limits.max_chunked_body)
                );
            }
            Progress::Ready | Progress::Refused(_) => {}
        }
        if self.progress != Progress::Ready {
            assert_eq!(self.requests.remaining(), 0);
            assert_eq!(self.requests.available(self.buf.len()), 0);
            assert!(self.requests.is_between_requests());
        }
    }
}

/// Bytes cut at places given as fractions of 2^16.
pub(crate) fn cut<'a>(bytes: &'a [u8], cuts: &[u16]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) * bytes.len() / (1 << 16)).collect();
    places.sort_unstable();
    places.push(bytes.len());
    let mut from = 0;
    let piece = |to: usize| &bytes[std::mem::replace(&mut from, to)..to];
    places.into_iter().map(piece).collect()
}

/// A well-formed request: how it is sent, and what a handler must get.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    empty_lines: u8,
    line_end: &'static str,
    method: &'static str,
    target: &'static str,
    fields: Vec<(String, String)>,
    body: Body,
    /// The minor version is 1 or higher.
    minor: u8,
    expects_continue: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    None,
    Length(Vec<u8>),
    Chunked { chunks: Vec<Vec<u8>>, extension: &'static str, trailers: &'static str },
}

impl Sent {
    pub(crate) fn on_the_wire(&self) -> Vec<u8> {
        let mut wire = self.line_end.repeat(usize::from(self.empty_lines)).into_bytes();
        let mut fields = self.fields.clone();
        let at = fields.len() / 2;
        match &self.body {
            Body::None => {}
            Body::Length(body) => fields.insert(at, ("Content-Length".into(), format!("{} ", body.len()))),
            Body::Chunked { .. } => fields.insert(at, ("transfer-encoding".into(), "Chunked".into())),
        }
        if self.expects_continue {
            fields.insert(at, ("EXPECT".into(), "100-Continue".into()));
        }
        wire.extend(self.head(self.target, self.minor, &fields));
        match &self.body {
            Body::None => {}
            Body::Length(body) => wire.extend(body),
            Body::Chunked { chunks, extension, trailers } => {
                for chunk in chunks {
                    wire.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
                    wire.extend(chunk);
                    wire.extend(b"\r\n");
                }
                wire.extend(format!("000{extension}\r\n{trailers}\r\n").bytes());
            }
        }
        wire
    }

    /// Head and body as a handler must get them.
    pub(crate) fn delivered(&self) -> (Vec<u8>, Vec<u8>) {
        let mut fields = self.fields.clone();
        let at = fields.len() / 2;
        let (body, last) = match &self.body {
            Body::None => (Vec::new(), None),
            Body::Length(body) => {
                fields.insert(at, ("Content-Length".into(), body.len().to_string()));
                (body.clone(), None)
            }
            Body::Chunked { chunks, .. } => (chunks.concat(), Some(chunks.concat().len())),
        };
        if self.expects_continue && last.is_none() {
            fields.insert(at, ("EXPECT".into(), "100-Continue".into()));
        }
        for (name, value) in &mut fields {
            let trimmed = value.trim_end_matches([' ', '\t']).len();
            value.truncate(trimmed);
            if name == "Host" && self.target.starts_with("http:") {
                *value = "a.b:80".into();
            }
        }
        let mut head = self.head(self.target.trim_start_matches("http://a.b:80"), 1, &fields);
        let blank = head.len() - self.line_end.len();
        head.splice(
            blank..blank,
            last.map(|n| format!("Content-Length: {n}\r\n")).unwrap_or_default().bytes(),
        );
        (head, body)
    }

    pub(crate) fn body_len(&self) -> usize {
        match &self.body {
            Body::None => 0,
            Body::Length(body) => body.len(),
            Body::Chunked { chunks, .. } => chunks.iter().map(Vec::len).sum(),
        }
    }

    pub(crate) fn is_chunked(&self) -> bool {
        matches!(self.body, Body::Chunked { .. })
    }

    fn head(&self, target: &str, minor: u8, fields: &[(String, String)]) -> Vec<u8> {
        let line_end = self.line_end;
        let mut head = format!("{} {target} HTTP/1.{minor}{line_end}", self.method);
        for (name, value) in fields {
            head += &format!("{name}:{value}{line_end}");
        }
        head += line_end;
        head.into_bytes()
    }
}

pub(crate) fn sent() -> impl Strategy<Value = Sent> {
    let fields =
        proptest::collection::vec(("[A-Za-z][A-Za-z0-9_-]{0,8}-x", "[ \t]{0,2}([!-~é][ -~é]{0,12})?"), 0..5);
    let line_end = prop_oneof![4 => Just("\r\n"), 1 => Just("\n")];
    let method = proptest::sample::select(vec!["GET", "POST", "put", "CONNECT", "OPTIONS"]);
    let target = proptest::sample::select(vec!["/", "*", "/a?b=c", "http://a.b:80/c", "a.b:443", "/\u{e9}"]);
    let host = proptest::sample::select(vec!["a", " a.b:80", " [::1] ", ""]);
    let minor = prop_oneof![4 => Just(1), 1 => 2..10u8];
    (0..3u8, line_end, method, target, host, fields, body(), minor, any::<bool>()).prop_map(
        |(empty_lines, line_end, method, target, host, mut fields, body, minor, expects_continue)| {
            fields.insert(fields.len() / 3, ("Host".into(), host.into()));
            Sent { empty_lines, line_end, method, target, fields, body, minor, expects_continue }
        },
    )
}

fn body() -> impl Strategy<Value = Body> {
    let bytes = |size| proptest::collection::vec(any::<u8>(), size);
    let chunks = proptest::collection::vec(bytes(1..30), 0..5);
    let extension = proptest::sample::select(vec!["", " ", ";", " ;a=b", ";a=\"b;\tc\""]);
    let trailers = proptest::sample::select(vec!["", "A: b\r\n", "Content-Length: 5\r\nB:\r\n"]);
    prop_oneof![
        1 => Just(Body::None),
        2 => bytes(0..100).prop_map(Body::Length),
        2 => (chunks, extension, trailers)
            .prop_map(|(chunks, extension, trailers)| Body::Chunked { chunks, extension, trailers }),
    ]
}
