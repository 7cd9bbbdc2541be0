//! The peer's bytes as frames, however they were cut, also by the end of a connection.

use super::frame::{End, GoAway, HEADER, Kind, MAX_CREDIT, Reason};
use super::{Open, PeerError};

/// A frame, or a piece of the data in one.
pub(super) enum Frame<'a> {
    Open(u32, Box<Open>),
    /// So much data follows.
    Start(u32, u32),
    Data(u32, &'a [u8]),
    Close(u32, Reason),
    Credit(u32, u32),
    GoAway(GoAway),
    Ack(u64),
    Ping,
    Pong,
    End(End),
}

/// Takes all that is there, and keeps at most a header and a description of a client.
///
/// What it has of a frame in the sequence outlives the connection: the next one goes on with the byte behind it.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    head: [u8; HEADER],
    /// How much of the header is there.
    have: usize,
    /// How much data is to come.
    rest: usize,
    body: Vec<u8>,
    received: u64,
    max_payload: u16,
}

impl Decoder {
    pub(super) fn new(max_payload: u16) -> Self {
        Self { max_payload, ..Self::default() }
    }

    /// Bytes of the sequence that were received.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The connection is gone: what has come of a frame that is not in the sequence will not come again.
    pub(super) fn cut(&mut self) {
        if self.have > 0 && !self.kind().is_some_and(Kind::is_sequenced) {
            self.have = 0;
            self.body.clear();
        }
    }

    /// Takes bytes up to the end of the next frame, or of a piece of data.
    pub(super) fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, PeerError> {
        if self.rest > 0 {
            return Ok(self.take_data(input));
        }
        if self.have < HEADER {
            let Some(kind) = self.take_header(input)? else { return Ok(None) };
            if kind == Kind::Data {
                self.rest = self.length().into();
                return Ok(Some(Frame::Start(self.stream(), self.length().into())));
            }
        }
        self.take_body(input)
    }

    fn take_data<'a>(&mut self, input: &mut &'a [u8]) -> Option<Frame<'a>> {
        let bytes = self.take(input, self.rest);
        self.rest -= bytes.len();
        if self.rest == 0 {
            self.have = 0;
        }
        (!bytes.is_empty()).then_some(Frame::Data(self.stream(), bytes))
    }

    fn take_header(&mut self, input: &mut &[u8]) -> Result<Option<Kind>, PeerError> {
        if self.have == 0 {
            let Some(first) = input.first() else { return Ok(None) };
            self.head[0] = *first;
        }
        let kind = self.kind().ok_or(PeerError::UnknownFrame(self.head[0]))?;
        let bytes = self.take(input, HEADER - self.have);
        self.head[self.have..self.have + bytes.len()].copy_from_slice(bytes);
        self.have += bytes.len();
        if self.have < HEADER {
            return Ok(None);
        }
        if !kind.may_have(self.length(), self.max_payload) {
            return Err(PeerError::BadLength);
        }
        if !kind.has_stream() && self.stream() != 0 {
            return Err(PeerError::BadFrame);
        }
        Ok(Some(kind))
    }

    fn take_body<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, PeerError> {
        let length = usize::from(self.length());
        let bytes = self.take(input, length - self.body.len());
        let frame = if bytes.len() == length {
            self.frame(bytes)
        } else {
            self.body.extend_from_slice(bytes);
            if self.body.len() < length {
                return Ok(None);
            }
            let body = std::mem::take(&mut self.body);
            self.frame(&body)
        };
        self.have = 0;
        frame.map(Some)
    }

    fn frame(&self, body: &[u8]) -> Result<Frame<'static>, PeerError> {
        let stream = self.stream();
        let code = body.first().copied().unwrap_or_default();
        let frame = match self.kind() {
            Some(Kind::Open) => Open::decode(body).map(|open| Frame::Open(stream, Box::new(open))),
            Some(Kind::Close) => Reason::of_code(code).map(|reason| Frame::Close(stream, reason)),
            Some(Kind::Credit) => return self.credit(body),
            Some(Kind::GoAway) => GoAway::of_code(code).map(Frame::GoAway),
            Some(Kind::Ack) => body.first_chunk().map(|place| Frame::Ack(u64::from_be_bytes(*place))),
            Some(Kind::Ping) => Some(Frame::Ping),
            Some(Kind::Pong) => Some(Frame::Pong),
            Some(Kind::End) => End::of_code(code).map(Frame::End),
            Some(Kind::Data) | None => None,
        };
        frame.ok_or(PeerError::BadFrame)
    }

    fn credit(&self, body: &[u8]) -> Result<Frame<'static>, PeerError> {
        let stream = self.stream();
        let bytes = body.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).unwrap_or_default();
        let is_valid = (1..=MAX_CREDIT).contains(&bytes);
        if is_valid { Ok(Frame::Credit(stream, bytes)) } else { Err(PeerError::BadCredit(stream)) }
    }

    /// Takes at most so many bytes, and counts them where they are in the sequence.
    fn take<'a>(&mut self, input: &mut &'a [u8], most: usize) -> &'a [u8] {
        let (bytes, rest) = input.split_at(most.min(input.len()));
        *input = rest;
        if self.kind().is_some_and(Kind::is_sequenced) {
            self.received += bytes.len() as u64;
        }
        bytes
    }

    fn kind(&self) -> Option<Kind> {
        Kind::of_code(self.head[0])
    }

    fn length(&self) -> u16 {
        u16::from_be_bytes([self.head[1], self.head[2]])
    }

    fn stream(&self) -> u32 {
        u32::from_be_bytes([self.head[3], self.head[4], self.head[5], self.head[6]])
    }
}
