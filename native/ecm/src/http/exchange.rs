//! One request and its answer, on a connection that ends with it.

use super::metrics;
use crate::control::Control;
use bytes::BytesMut;
use megaphone_proto::http::{Limits, Progress, RequestHead, Requests, write_head};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// For the request, the answer, and the client's end; no byte restarts it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of the longest head. Bodies are not read.
const MAX_HEAD: usize = 8 * 1024;

/// Bytes that a client may send behind its request, so that it is not told of a reset before it has read the answer.
const MAX_LEFT: usize = 64 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";

struct Answer {
    status: &'static str,
    media_type: &'static str,
    body: String,
}

impl Answer {
    fn text(status: &'static str, body: &str) -> Self {
        Self { status, media_type: TEXT, body: format!("{body}\n") }
    }
}

pub(super) fn serve(mut socket: TcpStream, control: &dyn Control) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    let due = Instant::now() + PATIENCE;
    let Some(answer) = answer(&mut socket, due, control)? else { return Ok(()) };
    write(&mut socket, &answer, due)?;
    finish(&mut socket, due)
}

/// None when the client asks for nothing.
fn answer(socket: &mut TcpStream, due: Instant, control: &dyn Control) -> io::Result<Option<Vec<u8>>> {
    let limits =
        Limits { max_head: MAX_HEAD, max_buffered_body: 0, max_chunked_body: MAX_HEAD, max_skipped_body: 0 };
    let (mut requests, mut input) = (Requests::new(), BytesMut::new());
    let mut chunk = [0; 4096];
    loop {
        match requests.advance(&mut input, &limits) {
            Progress::Ready => return Ok(Some(answer_to(&input[..requests.head_remaining()], control))),
            Progress::Refused(error) => {
                let mut out = Vec::new();
                error.response(b"Connection: close\r\n", &mut out);
                return Ok(Some(out));
            }
            Progress::Idle | Progress::Head | Progress::Body { .. } => {}
        }
        match read(socket, &mut chunk, due)? {
            0 => return Ok(None),
            bytes => input.extend_from_slice(&chunk[..bytes]),
        }
    }
}

fn answer_to(head: &[u8], control: &dyn Control) -> Vec<u8> {
    let head = RequestHead::parse(head);
    let answer = match &head {
        Some(head) if matches!(head.method, b"GET" | b"HEAD") => get(head.target, control),
        Some(_) => Answer::text("405 Method Not Allowed", "only GET and HEAD"),
        None => Answer::text("400 Bad Request", "too many fields"),
    };
    let Answer { status, media_type, body } = answer;
    let length = body.len().to_string();
    let mut own =
        vec![("Content-Type", media_type), ("Content-Length", &length), ("Cache-Control", "no-store")];
    own.push(("Connection", "close"));
    if status.starts_with("405") {
        own.push(("Allow", "GET, HEAD"));
    }
    let mut out = Vec::new();
    write_head(head.as_ref().is_none_or(|head| head.is_http_1_1), status, &own, b"", &mut out);
    if head.is_none_or(|head| head.method != b"HEAD") {
        out.extend_from_slice(body.as_bytes());
    }
    out
}

fn get(target: &[u8], control: &dyn Control) -> Answer {
    match target.split(|byte| *byte == b'?').next().unwrap_or_default() {
        b"/healthz" => Answer::text("200 OK", "ok"),
        b"/readyz" if control.is_ready() => Answer::text("200 OK", "ready"),
        b"/readyz" => Answer::text(
            "503 Service Unavailable",
            "not ready: no node takes clients, a listener is closed, or it drains",
        ),
        b"/metrics" => {
            Answer { status: "200 OK", media_type: metrics::MEDIA_TYPE, body: metrics::of(control) }
        }
        _ => Answer::text("404 Not Found", "/healthz, /readyz or /metrics"),
    }
}

fn write(socket: &mut TcpStream, mut answer: &[u8], due: Instant) -> io::Result<()> {
    while !answer.is_empty() {
        socket.set_write_timeout(Some(left(due)?))?;
        match socket.write(answer) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(bytes) => answer = &answer[bytes..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lets the client read before the connection is gone.
fn finish(socket: &mut TcpStream, due: Instant) -> io::Result<()> {
    socket.shutdown(Shutdown::Write)?;
    let (mut chunk, mut come) = ([0; 4096], 0);
    while come < MAX_LEFT {
        match read(socket, &mut chunk, due)? {
            0 => break,
            bytes => come += bytes,
        }
    }
    Ok(())
}

fn read(socket: &mut TcpStream, buffer: &mut [u8], due: Instant) -> io::Result<usize> {
    loop {
        socket.set_read_timeout(Some(left(due)?))?;
        match socket.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Never zero, which would mean for ever.
fn left(due: Instant) -> io::Result<Duration> {
    let left = due.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}
