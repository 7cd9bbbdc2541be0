//! A WebSocket after its handshake, server side: frames to messages, control frames answered.

use super::frame::{FrameHeader, HEADER_BYTES, Opcode, Violation, unmask, write_frame};

/// Bounds on what a client may send. Exceeding one fails the connection with close code 1009.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Payload bytes of one data frame. Default 1 MiB.
    pub frame_bytes: u64,
    /// Bytes of one message, all fragments together. Default 1 MiB. A listener for XMPP sets both above its
    /// `max_stanza_size`, so that a stanza too big is answered by a stream error and not by this.
    pub message_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame_bytes: 1 << 20, message_bytes: 1 << 20 }
    }
}

/// What a client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A text message; valid UTF-8.
    Text(Vec<u8>),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping. Its pong is written already.
    Ping,
    /// A pong with its payload.
    Pong(Vec<u8>),
    /// The closing handshake is complete: close the connection when what was written is sent.
    /// Carries the client's close code, where it gave one.
    Closed(Option<u16>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A close frame was sent, and the client's is awaited.
    Closing,
    Closed,
}

/// One WebSocket connection.
///
/// Calling protocol: pass what was received to [`handle_bytes`](Self::handle_bytes), again and again with what it
/// left of the input, until it returns `Ok(None)`; it has then used everything up. What it and the other methods
/// append to `out` is to be sent, in order. How the client's bytes are split makes no difference. After an error (its
/// close frame is in `out`) and after [`Event::Closed`] later bytes are ignored.
///
/// Holds 16 bytes, and more only while a frame or message is half received: then what was received of it.
#[derive(Debug)]
pub struct WebSocket {
    partial: Option<Box<Partial>>,
    state: State,
}

/// A frame or message that is half received.
#[derive(Debug, Default)]
struct Partial {
    header: [u8; HEADER_BYTES],
    header_bytes: u8,
    frame: Option<Frame>,
    control: Vec<u8>,
    message: Option<Message>,
}

#[derive(Debug)]
struct Frame {
    header: FrameHeader,
    taken: u64,
}

#[derive(Debug)]
struct Message {
    is_text: bool,
    bytes: Vec<u8>,
    /// How many of the bytes are known to be whole UTF-8 characters.
    valid: usize,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self::new()
    }
}

impl WebSocket {
    /// A connection whose handshake was just accepted.
    pub const fn new() -> Self {
        Self { partial: None, state: State::Open }
    }

    /// Whether no frame and no message is half received. A client owes the rest of what is.
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Whether the closing handshake is complete or the connection has failed.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Takes bytes off the front of `input` up to the next event; `None` when all are used up without one.
    pub fn handle_bytes(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event>, Violation> {
        let result = self.next_event(input, limits, out);
        if let Err(violation) = result {
            self.send_close(Some(violation.code), b"", out);
            self.state = State::Closed;
        }
        if self.is_closed() {
            self.partial = None;
            *input = &[];
        }
        result
    }

    /// Writes a text message, unless a close frame went before it.
    pub fn send_text(&self, text: &[u8], out: &mut Vec<u8>) {
        self.send(Opcode::Text, text, out);
    }

    /// Writes a ping of up to 125 bytes, unless a close frame went before it.
    pub fn send_ping(&self, payload: &[u8], out: &mut Vec<u8>) {
        self.send(Opcode::Ping, payload, out);
    }

    /// Begins the closing handshake, unless it has begun. Messages that still arrive give no events. The
    /// caller sets a deadline for the client's answer, [`Event::Closed`].
    pub fn close(&mut self, code: u16, out: &mut Vec<u8>) {
        self.send_close(Some(code), b"", out);
    }

    fn send(&self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
        if self.state == State::Open {
            write_frame(opcode, payload, out);
        }
    }

    fn send_close(&mut self, code: Option<u16>, reason: &[u8], out: &mut Vec<u8>) {
        if self.state == State::Open {
            let mut payload = Vec::with_capacity(2 + reason.len());
            payload.extend(code.into_iter().flat_map(u16::to_be_bytes));
            payload.extend_from_slice(reason);
            write_frame(Opcode::Close, &payload, out);
            self.state = State::Closing;
        }
    }

    fn next_event(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event>, Violation> {
        while !input.is_empty() && !self.is_closed() {
            let mut partial = self.partial.take().unwrap_or_default();
            let complete = partial.advance(input, limits)?;
            let event = match complete {
                Some(opcode) => self.complete(&mut partial, opcode, out)?,
                None => None,
            };
            if !partial.is_empty() {
                self.partial = Some(partial);
            }
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// A frame is complete: what it means, unless it is a fragment.
    fn complete(
        &mut self,
        partial: &mut Partial,
        opcode: Opcode,
        out: &mut Vec<u8>,
    ) -> Result<Option<Event>, Violation> {
        let payload = if opcode.is_control() { std::mem::take(&mut partial.control) } else { Vec::new() };
        match opcode {
            Opcode::Close => self.handle_close(&payload, out).map(Some),
            Opcode::Ping => {
                self.send(Opcode::Pong, &payload, out);
                Ok(Some(Event::Ping))
            }
            Opcode::Pong => Ok(Some(Event::Pong(payload))),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                let message = partial.message.take().filter(|_| self.state == State::Open);
                Ok(message.map(|message| {
                    if message.is_text { Event::Text(message.bytes) } else { Event::Binary(message.bytes) }
                }))
            }
        }
    }

    fn handle_close(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<Event, Violation> {
        let code = match payload {
            [] => None,
            [_] => return Err(Violation::protocol("close frame of one byte")),
            [high, low, reason @ ..] => {
                let code = u16::from_be_bytes([*high, *low]);
                if !matches!(code, 1000..=1003 | 1007..=1011 | 3000..=4999) {
                    return Err(Violation::protocol("invalid close code"));
                }
                if std::str::from_utf8(reason).is_err() {
                    return Err(Violation::invalid("close reason is not UTF-8"));
                }
                Some(code)
            }
        };
        self.send_close(code, b"", out);
        self.state = State::Closed;
        Ok(Event::Closed(code))
    }
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.header_bytes == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// Takes bytes of a header or a payload; the opcode when that completed a control frame or a message.
    fn advance(&mut self, input: &mut &[u8], limits: &Limits) -> Result<Option<Opcode>, Violation> {
        if self.frame.is_none() && !self.take_header(input, limits)? {
            return Ok(None);
        }
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let (header, offset) = (frame.header, frame.taken);
        let missing = usize::try_from(header.payload_bytes - offset).unwrap_or(usize::MAX);
        let (bytes, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        frame.taken += bytes.len() as u64;
        let is_complete = frame.taken == header.payload_bytes;
        let buffer = match &mut self.message {
            Some(message) if !header.opcode.is_control() => &mut message.bytes,
            _ => &mut self.control,
        };
        let start = buffer.len();
        buffer.extend_from_slice(bytes);
        unmask(&mut buffer[start..], header.mask, offset);
        if is_complete {
            self.frame = None;
        }
        let completes = is_complete && header.is_final;
        if !header.opcode.is_control()
            && let Some(message) = &mut self.message
        {
            message.check_text(completes)?;
        }
        Ok(completes.then_some(header.opcode))
    }

    /// Whether a frame's header is complete.
    fn take_header(&mut self, input: &mut &[u8], limits: &Limits) -> Result<bool, Violation> {
        while let Some((&byte, rest)) = input.split_first() {
            self.header[usize::from(self.header_bytes)] = byte;
            self.header_bytes += 1;
            *input = rest;
            let seen = &self.header[..usize::from(self.header_bytes)];
            if let Some((header, _)) = FrameHeader::parse(seen)? {
                self.header_bytes = 0;
                self.begin_frame(header, limits)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn begin_frame(&mut self, header: FrameHeader, limits: &Limits) -> Result<(), Violation> {
        if !header.opcode.is_control() {
            match (&self.message, header.opcode) {
                (None, Opcode::Continuation) => return Err(Violation::protocol("continuation of nothing")),
                (Some(_), Opcode::Text | Opcode::Binary) => {
                    return Err(Violation::protocol("message within a message"));
                }
                (None, opcode) => {
                    let is_text = opcode == Opcode::Text;
                    self.message = Some(Message { is_text, bytes: Vec::new(), valid: 0 });
                }
                (Some(_), _) => {}
            }
            let so_far = self.message.as_ref().map_or(0, |message| message.bytes.len() as u64);
            if header.payload_bytes > limits.frame_bytes {
                return Err(Violation::too_big("frame too big"));
            }
            if header.payload_bytes > limits.message_bytes.saturating_sub(so_far) {
                return Err(Violation::too_big("message too big"));
            }
        }
        self.frame = Some(Frame { header, taken: 0 });
        Ok(())
    }
}

impl Message {
    /// Fails on the first byte that cannot be UTF-8, and on half a character at the end.
    fn check_text(&mut self, is_complete: bool) -> Result<(), Violation> {
        if !self.is_text {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.valid..]) {
            Ok(text) => self.valid += text.len(),
            Err(error) if error.error_len().is_none() && !is_complete => self.valid += error.valid_up_to(),
            Err(_) => return Err(Violation::invalid("text is not UTF-8")),
        }
        Ok(())
    }
}
