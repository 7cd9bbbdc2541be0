//! A connection's owner and its handlers, doing what they may do in any order.
//!
//! Held to be true: a count of what was delivered agrees with the position; nothing is delivered before a
//! request is ready; the buffer is empty when idle and within the limits while a request is incomplete; a
//! refusal is final; advancing twice says the same as once, a due 100 apart.
#![no_main]

use arbitrary::Arbitrary;
use bytes::{Buf, BytesMut};
use libfuzzer_sys::fuzz_target;
use megaphone_proto::http::{Limits, Progress, Requests};

const LIMITS: Limits =
    Limits { max_head: 200, max_buffered_body: 50, max_chunked_body: 60, max_skipped_body: 40 };

#[derive(Arbitrary, Debug)]
enum Operation {
    Append(Vec<u8>),
    AppendPiece(u8),
    Deliver(u8),
    DeliverAll,
    NextRequest,
}

/// What random bytes seldom make.
const PIECES: [&str; 16] = [
    "GET / HTTP/1.1\r\nHost: a\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 45\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 55\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    "POST http://b HTTP/1.2\nHost:\nTransfer-Encoding:chunked \n\n",
    "Host: b\r\n",
    "Content-Length: 1\r\n",
    "\r\n",
    "\n",
    "5\r\nabcde\r\n",
    " 20 ;x=y\r\n",
    "0123456789abcdef0123456789abcdef\r\n",
    "0\r\n",
    "0\r\nA: b\r\n\r\n",
    "\r",
];

#[derive(Default)]
struct Connection {
    requests: Requests,
    buf: BytesMut,
    /// Bytes of the current request that were delivered, and all that it has.
    current: Option<(u64, u64)>,
    refused: Option<Progress>,
}

fuzz_target!(|operations: Vec<Operation>| {
    let mut connection = Connection::default();
    for operation in operations {
        match operation {
            Operation::Append(bytes) => connection.append(&bytes),
            Operation::AppendPiece(n) => connection.append(PIECES[usize::from(n) % PIECES.len()].as_bytes()),
            Operation::Deliver(n) => connection.deliver(usize::from(n)),
            Operation::DeliverAll => connection.deliver(usize::MAX),
            Operation::NextRequest => connection.next_request(),
        }
        connection.check_position();
    }
});

impl Connection {
    fn append(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
        self.advance();
    }

    fn deliver(&mut self, most: usize) {
        let n = self.requests.available(self.buf.len()).min(most);
        assert!(n == 0 || self.current.is_some());
        self.buf.advance(n);
        self.requests.consumed(n);
        if let Some((delivered, _)) = &mut self.current {
            *delivered += n as u64;
        }
    }

    fn next_request(&mut self) {
        self.current = None;
        self.requests.next_request();
        self.advance();
    }

    fn advance(&mut self) {
        let progress = self.requests.advance(&mut self.buf, &LIMITS);
        let again = self.requests.advance(&mut self.buf, &LIMITS);
        match progress {
            Progress::Body { .. } => assert_eq!(again, Progress::Body { send_continue: false }),
            _ => assert_eq!(again, progress),
        }
        assert!(self.refused.is_none_or(|refused| refused == progress));
        match progress {
            Progress::Idle => assert!(self.buf.is_empty()),
            Progress::Head => assert!(self.buf.len() < LIMITS.max_head),
            Progress::Body { .. } => {
                assert!(
                    self.buf.len() <= LIMITS.max_head + LIMITS.max_buffered_body.max(LIMITS.max_chunked_body)
                );
            }
            Progress::Ready => {
                self.current.get_or_insert((0, self.requests.remaining()));
            }
            Progress::Refused(_) => self.refused = Some(progress),
        }
        assert_eq!(self.current.is_some(), progress == Progress::Ready);
    }

    fn check_position(&self) {
        let (delivered, total) = self.current.unwrap_or_default();
        let remaining = total - delivered;
        assert_eq!(self.requests.remaining(), remaining);
        assert_eq!(self.requests.is_between_requests(), delivered == 0 || remaining == 0);
        assert!(self.requests.head_remaining() <= self.requests.available(self.buf.len()));
    }
}
