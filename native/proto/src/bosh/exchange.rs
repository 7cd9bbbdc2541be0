//! BOSH's HTTP side on one connection: which requests are under way, and their answers in the order of the requests.
//!
//! Knows nothing of sessions, nor where requests end.

use crate::http::{RequestHead, has_field, write_head};

/// What goes with every answer, unless the listener's own header lines say otherwise. `mod_bosh` sends the first two, so
/// that pages of any origin may read it. A client chooses the Content-Type and most of the body: the others keep a
/// browser from taking that for a page of this origin.
const FIELDS: [(&str, &str); 4] = [
    ("Access-Control-Allow-Headers", "Content-Type"),
    ("Access-Control-Allow-Origin", "*"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; sandbox"),
];

/// Numbers of requests; more than are under way.
const NUMBERS: u8 = 32;

/// Whether it is a request that BOSH in XML answers, by all but its path. `mod_bosh` takes for JSON what is something
/// slash `json`, and `ejabberd_http` wants to know the host.
pub fn is_bosh(head: &RequestHead<'_>) -> bool {
    let is_json = head.values("content-type").any(|value| {
        let first = value.split(|byte| *byte == b';').find(|part| !part.is_empty()).unwrap_or_default();
        let parts = first.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        matches!(parts.collect::<Vec<_>>()[..], [_, b"json"])
    });
    head.method == b"POST" && !is_json && head.values("host").next().is_some()
}

/// The header lines by which a page of any origin may read an answer, but for those that `fields`, the listener's own, has.
pub fn cors_fields(fields: &[u8]) -> Vec<u8> {
    let missing = FIELDS[..2].iter().filter(|(name, _)| !has_field(fields, name));
    missing.flat_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes()).collect()
}

/// What a request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// Code and phrase, such as `200 OK`.
    pub status: &'a str,
    /// The type of the body.
    pub content_type: &'a str,
    /// The listener's own header lines, each with its CR LF. They replace those of the same name.
    pub fields: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// The BOSH requests of one connection that are not answered.
///
/// Calling protocol: while there [is room](Self::has_room), the owner looks at the connection's input. A request that was
/// received whole, or that is refused by its head, [begins](Self::begin) and gets a number. Its
/// [answer](Self::handle_answer) may come at any time; [`poll_transmit`](Self::poll_transmit) gives what is to be
/// written, in the order of the requests (RFC 9112 section 9.3.2). When nothing is under way
/// ([`is_idle`](Self::is_idle)) it can be dropped, and the connection is to be closed if the request
/// [was the last](Self::is_last).
///
/// No more input is needed to answer a request: one end of the connection may be closed.
///
/// Holds 32 bytes, and for each request under way 24 and its answer when that has to wait for others.
#[derive(Debug, Default)]
pub struct Exchange {
    /// In the order of the requests.
    under_way: Vec<UnderWay>,
    next: u8,
    is_last: bool,
}

#[derive(Debug)]
struct UnderWay {
    number: u8,
    is_http_1_1: bool,
    keeps_alive: bool,
    /// With its head.
    answer: Option<Box<[u8]>>,
}

impl Exchange {
    /// Most requests that are under way at once.
    pub const MAX_UNDER_WAY: usize = 8;

    /// Of a connection without a request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether another request may begin. Until then the input behind is not to be looked at.
    pub fn has_room(&self) -> bool {
        !self.is_last && self.under_way.len() < Self::MAX_UNDER_WAY
    }

    /// A request is there that is to be answered. Its number, unique among those under way: 0 to 31, wrapping.
    pub fn begin(&mut self, head: &RequestHead<'_>) -> u8 {
        let closes = head.has_word("connection", "close");
        let keeps_alive = !closes && (head.is_http_1_1 || head.has_word("connection", "keep-alive"));
        let number = self.next;
        self.next = (number + 1) % NUMBERS;
        self.is_last |= !keeps_alive;
        self.under_way.reserve_exact(1);
        self.under_way.push(UnderWay { number, is_http_1_1: head.is_http_1_1, keeps_alive, answer: None });
        number
    }

    /// The answer to that request is the last on the connection, as when its body was not read whole. To be called before
    /// it is answered. Requests that began after it get no answer.
    pub fn close_after(&mut self, number: u8) {
        let Some(index) = self.under_way.iter().position(|request| request.number == number) else { return };
        self.under_way.truncate(index + 1);
        self.is_last = true;
        if let Some(request) = self.under_way.last_mut() {
            request.keeps_alive = false;
        }
    }

    /// The answer to a request, kept until its turn. Of several only the first counts; one to a request that is not under
    /// way is dropped.
    pub fn handle_answer(&mut self, number: u8, answer: &Response<'_>) {
        let request = self.under_way.iter_mut().find(|request| request.number == number);
        if let Some(request) = request.filter(|request| request.answer.is_none()) {
            request.answer = Some(request.encode(answer));
        }
    }

    /// Appends the answers whose turn it is. Whether there were any.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        let ready = self.under_way.iter().take_while(|request| request.answer.is_some()).count();
        for answer in self.under_way.drain(..ready).filter_map(|request| request.answer) {
            out.extend_from_slice(&answer);
        }
        if self.under_way.is_empty() {
            self.under_way = Vec::new();
        }
        ready > 0
    }

    /// Whether nothing is under way and nothing is to be written. Only then may an interim response (100) be written to a
    /// request that has yet to begin.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether the connection is to be closed once this is idle, because the client wants it or an answer needs it.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// Bytes of heap memory that it holds.
    pub fn heap_bytes(&self) -> usize {
        let answers = self.under_way.iter().filter_map(|request| request.answer.as_deref());
        self.under_way.capacity() * size_of::<UnderWay>() + answers.map(<[u8]>::len).sum::<usize>()
    }
}

impl UnderWay {
    fn encode(&self, answer: &Response<'_>) -> Box<[u8]> {
        let mut out = Vec::with_capacity(512 + answer.fields.len() + answer.body.len());
        self.write_head(answer, &mut out);
        out.extend_from_slice(answer.body);
        out.into()
    }

    fn write_head(&self, answer: &Response<'_>, out: &mut Vec<u8>) {
        let length = answer.body.len().to_string();
        let mut own = Vec::with_capacity(FIELDS.len() + 3);
        if !self.keeps_alive {
            own.push(("Connection", "close"));
        } else if !self.is_http_1_1 {
            own.push(("Connection", "keep-alive"));
        }
        own.push(("Content-Length", &*length));
        own.extend(FIELDS);
        own.push(("Content-Type", answer.content_type));
        write_head(self.is_http_1_1, answer.status, &own, answer.fields, out);
    }
}
