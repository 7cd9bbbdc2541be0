//! HTTP/1 requests on one connection (RFC 9112): where each begins and ends, and which are refused.
//!
//! [`Requests`] looks at the bytes that a connection received and says when a handler may run, how many
//! bytes are its request, and what of them is left over when it is done. The handler parses the head again;
//! what matters here is that nobody behind us sees other lengths or another number of requests than we do.
//! So whatever could be read in two ways is refused (`framing`), and what a handler's parser would not take
//! is shown to it in a plain form (`rewrite`).

use bytes::{Buf, BytesMut};

mod answer;
mod error;
mod fields;
mod framing;
mod path;
mod rewrite;
mod target;

pub(crate) use answer::has_field;
pub use answer::write_head;
pub use error::RequestError;
pub use fields::RequestHead;
pub use path::Path;
pub use target::of as target;

use framing::{Body, chunked::Chunks};

/// What to write when [`Progress::Body`] asks for it.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Empty lines that may precede a request line; some old clients send one after a body (RFC 9112, 2.2).
const MAX_EMPTY_LINES: u8 = 4;

/// Bounds on one request, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and header fields with the blank line. A longer head is refused with 431. Default
    /// 65,536. Costs up to as much memory a connection while a head is incomplete.
    pub max_head: usize,
    /// A body with Content-Length up to this is collected before the handler runs; a longer one is for the
    /// handler to read. Default 65,536. Costs up to as much memory a connection while it is collected.
    pub max_buffered_body: usize,
    /// Decoded bytes of a chunked body. A longer one is refused with 413. Default 2 MiB; more than
    /// 99,999,999 counts as that. Costs up to as much memory a connection while it is collected.
    pub max_chunked_body: usize,
    /// Bytes of a body that the handler did not read and that are discarded before the next request. When
    /// there are more, the connection closes. Default 65,536. Costs no memory.
    pub max_skipped_body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_head: 64 * 1024,
            max_buffered_body: 64 * 1024,
            max_chunked_body: 2 * 1024 * 1024,
            max_skipped_body: 64 * 1024,
        }
    }
}

/// What the bytes received so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No byte of a next request is there.
    Idle,
    /// Part of a head is there: the deadline for heads runs.
    Head,
    /// The head is whole and its body is being collected, or an earlier body is being discarded.
    Body {
        /// True once in a request: the caller writes [`CONTINUE`] now.
        send_continue: bool,
    },
    /// The handler may run: the head is whole and so is the body, or the body is the handler's to read
    /// because it is over [`Limits::max_buffered_body`] or the client waits for the handler's 100.
    Ready,
    /// Write what [`RequestError::response`] appends and close. The answer stays the same from here on.
    Refused(RequestError),
}

/// One connection's position in its sequence of requests. 32 bytes, no heap.
///
/// The bytes stay in the caller's buffer, which holds exactly what was received and not yet delivered:
/// 1. append what was received, call [`advance`](Self::advance);
/// 2. on [`Progress::Ready`] start a handler; deliver at most [`available`](Self::available) bytes from the
///    front of the buffer, remove them, call [`consumed`](Self::consumed); append more as it arrives;
/// 3. when the handler asks for another request, call [`next_request`](Self::next_request), then `advance`.
#[derive(Clone, Debug)]
pub struct Requests {
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before or in a head: `scanned` bytes of it hold no blank line.
    Head {
        scanned: u32,
        empty_lines: u8,
    },
    /// Collecting a body of known length.
    Collecting {
        request: Request,
    },
    /// Decoding a chunked body; the buffer holds `head` bytes and the body decoded so far.
    Decoding {
        head: u32,
        chunks: Chunks,
        send_continue: bool,
    },
    Ready {
        request: Request,
        begun: bool,
    },
    /// Discarding what the handler left.
    Skipping {
        request: Request,
    },
    Refused(RequestError),
}

/// A request whose extent is known.
#[derive(Clone, Copy, Debug)]
struct Request {
    /// Bytes of head and body that were not delivered, received or not.
    remaining: u64,
    /// Bytes of the body, delivered or not; the head comes first.
    body: u64,
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

impl Requests {
    /// A connection on which nothing was received.
    pub const fn new() -> Self {
        Self { state: State::Head { scanned: 0, empty_lines: 0 } }
    }

    /// Looks at the bytes in `buf`. To be called after bytes were appended and after
    /// [`next_request`](Self::next_request); `buf` holds exactly the bytes received and not yet delivered.
    ///
    /// May rewrite the front of `buf`: empty lines before a request line are dropped, and the leftover of an
    /// earlier request is discarded. Of a request that is not refused,
    /// - the version is 1.0 or 1.1: a higher minor version is made 1.1 (RFC 9110, 2.5);
    /// - no field value has white space at its end;
    /// - an absolute target is replaced by its path and query, and the Host field by its host
    ///   (RFC 9112, 3.2.2);
    /// - a chunked body is replaced by the decoded one, with the head's Transfer-Encoding, Expect and Trailer
    ///   lines removed and a Content-Length line added.
    ///
    /// No byte is scanned for an end twice, so the cost is linear in the bytes received, however they are
    /// split.
    pub fn advance(&mut self, buf: &mut BytesMut, limits: &Limits) -> Progress {
        loop {
            match self.step(buf, limits) {
                Ok(Step::Next(state)) => self.state = state,
                Ok(Step::Stay(state, progress)) => {
                    self.state = state;
                    return progress;
                }
                Err(error) => {
                    self.state = State::Refused(error);
                    return Progress::Refused(error);
                }
            }
        }
    }

    /// How many bytes at the front of a buffer of `buf_len` bytes are the current request's. 0 unless ready.
    pub fn available(&self, buf_len: usize) -> usize {
        usize::try_from(self.remaining()).map_or(buf_len, |remaining| remaining.min(buf_len))
    }

    /// Bytes of the current request, head and body, that were not delivered, received or not. 0 unless
    /// ready.
    pub fn remaining(&self) -> u64 {
        match self.state {
            State::Ready { request, .. } => request.remaining,
            _ => 0,
        }
    }

    /// Bytes of the current request's head that were not delivered; they are in the buffer. 0 unless ready.
    ///
    /// A handler that gets head and body in one piece may take a body that it did not expect for a next
    /// request. `ejabberd_http` 23.01 does: a PATCH whose body is a GET gets two answers. Ending a delivery
    /// where the head ends, and calling [`next_request`](Self::next_request) when it asks again for a
    /// request, prevents that.
    pub fn head_remaining(&self) -> usize {
        match self.state {
            // A head fits in memory: it was found in a buffer.
            State::Ready { request, .. } => request.remaining.saturating_sub(request.body) as usize,
            _ => 0,
        }
    }

    /// The caller delivered `n` bytes and removed them from the front of the buffer; `n` is at most
    /// [`available`](Self::available).
    pub fn consumed(&mut self, n: usize) {
        if let State::Ready { request, begun } = &mut self.state {
            debug_assert!(n as u64 <= request.remaining, "delivered more than the request has");
            request.remaining = request.remaining.saturating_sub(n as u64);
            *begun |= n > 0;
        }
    }

    /// True when the current request was delivered whole, or none has begun to be delivered, also while the
    /// leftover of the one before is discarded. A handler that asks for bytes now waits for a next request.
    pub fn is_between_requests(&self) -> bool {
        match self.state {
            State::Ready { request, begun } => !begun || request.remaining == 0,
            _ => true,
        }
    }

    /// The handler is done with the current request. What was not delivered of it is discarded, now and as
    /// it arrives; when more than [`Limits::max_skipped_body`] bytes of body are left, `advance` refuses with
    /// [`RequestError::UnreadBody`]. Without a current request this does nothing. Call `advance` after it.
    pub fn next_request(&mut self) {
        if let State::Ready { request, .. } = self.state {
            self.state = State::Skipping { request };
        }
    }

    /// True while the leftover of an answered request is being discarded.
    pub fn is_skipping(&self) -> bool {
        matches!(self.state, State::Skipping { .. })
    }

    fn step(&self, buf: &mut BytesMut, limits: &Limits) -> Result<Step, RequestError> {
        match self.state {
            State::Head { scanned, empty_lines } => find_head(buf, limits, scanned, empty_lines),
            State::Collecting { request } if (buf.len() as u64) < request.remaining => {
                Ok(Step::Stay(self.state, Progress::Body { send_continue: false }))
            }
            State::Collecting { request } => Ok(Step::Next(State::Ready { request, begun: false })),
            State::Decoding { head, chunks, send_continue } => {
                decode(buf, limits, head, chunks, send_continue)
            }
            State::Ready { .. } => Ok(Step::Stay(self.state, Progress::Ready)),
            State::Skipping { request } => skip(buf, limits, request),
            State::Refused(error) => Err(error),
        }
    }
}

enum Step {
    /// This state may have something to do at once.
    Next(State),
    /// This state needs more bytes, or the caller.
    Stay(State, Progress),
}

fn find_head(
    buf: &mut BytesMut,
    limits: &Limits,
    scanned: u32,
    empty_lines: u8,
) -> Result<Step, RequestError> {
    match buf[..] {
        [] => return Ok(Step::Stay(State::Head { scanned: 0, empty_lines }, Progress::Idle)),
        [b'\n', ..] => return drop_empty_line(buf, 1, empty_lines),
        [b'\r', b'\n', ..] => return drop_empty_line(buf, 2, empty_lines),
        [b'\r'] => return Ok(Step::Stay(State::Head { scanned: 0, empty_lines }, Progress::Head)),
        [b'\r', ..] => return Err(RequestError::BareCr),
        [first, ..] if !framing::is_token(first) => return Err(RequestError::NotHttp),
        _ => {}
    }
    // Positions are kept in 32 bits.
    let max_head = limits.max_head.min(u32::MAX as usize);
    let window = &buf[..buf.len().min(max_head)];
    match framing::find_end(window, scanned as usize) {
        Some(end) => Ok(Step::Next(after_head(buf, end, limits)?)),
        None if buf.len() >= max_head => Err(RequestError::HeadTooLarge),
        None => Ok(Step::Stay(State::Head { scanned: buf.len() as u32, empty_lines }, Progress::Head)),
    }
}

fn drop_empty_line(buf: &mut BytesMut, length: usize, empty_lines: u8) -> Result<Step, RequestError> {
    if empty_lines == MAX_EMPTY_LINES {
        return Err(RequestError::EmptyLines);
    }
    buf.advance(length);
    Ok(Step::Next(State::Head { scanned: 0, empty_lines: empty_lines + 1 }))
}

/// What follows the whole head in `buf[..end]`.
fn after_head(buf: &mut BytesMut, end: usize, limits: &Limits) -> Result<State, RequestError> {
    rewrite::plain_version(&mut buf[..end]);
    let framing = framing::parse(&buf[..end])?;
    let head = rewrite::plain_head(buf, end);
    match framing.body {
        Body::Chunked => Ok(State::Decoding {
            head: head as u32,
            chunks: Chunks::new(),
            send_continue: framing.expects_continue,
        }),
        // No overflow: a length is less than 2^63, a head less than 2^32.
        Body::Length(body) => {
            let request = Request { remaining: head as u64 + body, body };
            if framing.expects_continue || body > limits.max_buffered_body as u64 {
                Ok(State::Ready { request, begun: false })
            } else {
                Ok(State::Collecting { request })
            }
        }
    }
}

fn decode(
    buf: &mut BytesMut,
    limits: &Limits,
    head: u32,
    mut chunks: Chunks,
    send_continue: bool,
) -> Result<Step, RequestError> {
    let head_len = head as usize;
    rewrite::decode(buf, head_len, &mut chunks, limits.max_chunked_body.min(rewrite::MAX_BODY))?;
    if !chunks.is_done() {
        let state = State::Decoding { head, chunks, send_continue: false };
        return Ok(Step::Stay(state, Progress::Body { send_continue }));
    }
    let body = chunks.found();
    let head_len = rewrite::chunked_to_length(buf, head_len, body);
    let request = Request { remaining: (head_len + body) as u64, body: body as u64 };
    Ok(Step::Next(State::Ready { request, begun: false }))
}

fn skip(buf: &mut BytesMut, limits: &Limits, request: Request) -> Result<Step, RequestError> {
    if request.remaining.min(request.body) > limits.max_skipped_body as u64 {
        return Err(RequestError::UnreadBody);
    }
    let n = usize::try_from(request.remaining).map_or(buf.len(), |remaining| remaining.min(buf.len()));
    buf.advance(n);
    let remaining = request.remaining - n as u64;
    if remaining == 0 {
        return Ok(Step::Next(State::Head { scanned: 0, empty_lines: 0 }));
    }
    let state = State::Skipping { request: Request { remaining, ..request } };
    Ok(Step::Stay(state, Progress::Body { send_continue: false }))
}

// A parked connection keeps one of these.
const _: () = assert!(size_of::<Requests>() <= 40);
