//! A WebSocket after its handshake, server side: frames to messages, control frames answered.

use super::frame::{CONTROL_BYTES, FrameHeader, HEADER_BYTES, Opcode, Violation, unmask, write_frame};

/// What a client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A text message; valid UTF-8.
    Text(Vec<u8>),
    /// A binary message.
    Binary(Vec<u8>),
    /// The closing handshake is complete: close the connection when what was written is sent.
    /// Carries the client's close code, where it gave one. The last event.
    Closed(Option<u16>),
    /// The client broke the rules, and nothing more of what it sends is looked at. The owner closes, with this code
    /// where it has nothing to say before. The last event.
    Failed(Violation),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A close frame was sent, and the client's is awaited.
    Closing,
    /// The client broke the rules, and no close frame was sent.
    Failed,
    Closed,
}

/// One WebSocket connection.
///
/// Calling protocol: pass what was received to [`handle_input`](Self::handle_input), and take the event where it
/// made one; again and again until no input is left. Then write what [`poll_transmit`](Self::poll_transmit) gives.
/// How the client's bytes are split makes no difference. Pings are answered and pongs dropped without an
/// event; of pings that follow each other before the answer is written, the last is answered (RFC 6455 section 5.5.3).
///
/// Holds 16 bytes, and more only while a frame or message is half received (then what was received of it), an
/// event waits, or something is to be written.
#[derive(Debug)]
pub struct WebSocket {
    work: Option<Box<Work>>,
    max_message: u32,
    state: State,
}

/// What there is to hold of a connection that is not idle.
#[derive(Debug, Default)]
struct Work {
    header: [u8; HEADER_BYTES],
    header_bytes: u8,
    frame: Option<Frame>,
    control: Vec<u8>,
    message: Option<Message>,
    event: Option<Event>,
    /// The payload of a ping that is to be answered.
    pong: Option<Vec<u8>>,
    /// Frames that are to be written.
    out: Vec<u8>,
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

impl WebSocket {
    /// A connection whose handshake was just accepted, with a bound on one message in bytes, all fragments together.
    /// A larger one is refused at the header of the frame that goes beyond, and only what has come is kept.
    pub const fn new(max_message: u32) -> Self {
        Self { work: None, max_message, state: State::Open }
    }

    /// Sets another bound, which frames are held to that begin from here on.
    pub fn set_max_message(&mut self, max_message: u32) {
        self.max_message = max_message;
    }

    /// Whether no frame and no message is half received. A client owes the rest of what is.
    pub fn is_idle(&self) -> bool {
        self.work.as_ref().is_none_or(|work| !work.is_receiving())
    }

    /// Bytes of heap memory held.
    pub fn heap_bytes(&self) -> usize {
        self.work.as_ref().map_or(0, |work| size_of::<Work>() + work.heap_bytes())
    }

    /// Whether the closing handshake is complete, or the connection has failed and a close frame was written.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether no close frame was written yet. Nothing may follow one.
    pub fn may_send(&self) -> bool {
        matches!(self.state, State::Open | State::Failed)
    }

    /// Takes bytes off the front of `input` up to the next event, and none while one waits. After the last event it
    /// takes and ignores all.
    pub fn handle_input(&mut self, input: &mut &[u8]) {
        while !input.is_empty() && !self.has_event() {
            if matches!(self.state, State::Failed | State::Closed) {
                *input = &[];
                return;
            }
            if let Err(violation) = self.take_some(input) {
                self.fail(violation);
            }
        }
    }

    /// What the client did, once.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.work.as_mut()?.event.take();
        self.release();
        event
    }

    /// Whether an event waits.
    pub fn has_event(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.event.is_some())
    }

    /// Appends pings, pongs and close frames that are to be written; whether there were any.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(work) = &mut self.work else { return false };
        let before = out.len();
        if let Some(payload) = work.pong.take() {
            write_frame(Opcode::Pong, &payload, out);
        }
        out.append(&mut work.out);
        work.out = Vec::new();
        self.release();
        out.len() > before
    }

    /// Appends a text message, unless a close frame went before it.
    pub fn send_text(&self, text: &[u8], out: &mut Vec<u8>) {
        if self.may_send() {
            write_frame(Opcode::Text, text, out);
        }
    }

    /// Pings, with a payload of up to 125 bytes, unless a close frame went before it.
    pub fn ping(&mut self, payload: &[u8]) {
        if self.may_send() {
            write_frame(Opcode::Ping, payload, &mut self.work().out);
        }
    }

    /// Begins the closing handshake, unless it has begun. Messages that still arrive give no events. The
    /// caller sets a deadline for the client's answer, [`Event::Closed`].
    pub fn close(&mut self, code: u16) {
        self.send_close(Some(code));
        if self.state == State::Failed {
            self.state = State::Closed;
        } else if self.state == State::Open {
            self.state = State::Closing;
        }
    }

    fn send_close(&mut self, code: Option<u16>) {
        if !self.may_send() {
            return;
        }
        let work = self.work();
        match code {
            Some(code) => write_frame(Opcode::Close, &code.to_be_bytes(), &mut work.out),
            None => write_frame(Opcode::Close, &[], &mut work.out),
        }
    }

    fn fail(&mut self, violation: Violation) {
        self.state = if self.state == State::Closing { State::Closed } else { State::Failed };
        let work = self.work();
        work.stop_receiving();
        work.event = Some(Event::Failed(violation));
    }

    fn work(&mut self) -> &mut Work {
        self.work.get_or_insert_default()
    }

    /// Drops what is not needed any more.
    fn release(&mut self) {
        self.work.take_if(|work| work.is_empty());
    }

    /// Takes a frame that is there as a whole, without a buffer for it; or what there is of one.
    fn take_some(&mut self, input: &mut &[u8]) -> Result<(), Violation> {
        let is_between_frames = self.work.as_ref().is_none_or(|work| work.is_between_frames());
        if is_between_frames && let Some((header, length)) = FrameHeader::parse(input)? {
            let payload_bytes = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX);
            if let Some(payload) = input[length..].get(..payload_bytes)
                && self.take_whole(&header, payload)?
            {
                *input = &input[length + payload_bytes..];
                return Ok(());
            }
        }
        let max_message = self.max_message;
        if let Some(opcode) = self.work().advance(input, max_message)? {
            self.complete(opcode)?;
        }
        Ok(())
    }

    /// Handles a control frame or a message of one frame; whether it was one.
    fn take_whole(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<bool, Violation> {
        if header.opcode == Opcode::Pong {
            return Ok(true);
        }
        if header.opcode.is_control() {
            let mut bytes = [0; CONTROL_BYTES];
            let bytes = &mut bytes[..payload.len()];
            bytes.copy_from_slice(payload);
            unmask(bytes, header.mask, 0);
            return self.handle_control(header.opcode, bytes).map(|()| true);
        }
        let is_within_message = self.work.as_ref().is_some_and(|work| work.message.is_some());
        let is_message = header.is_final && header.opcode != Opcode::Continuation && !is_within_message;
        if !is_message || header.payload_bytes > u64::from(self.max_message) {
            return Ok(false);
        }
        let mut bytes = payload.to_vec();
        unmask(&mut bytes, header.mask, 0);
        let mut message = Message { is_text: header.opcode == Opcode::Text, bytes, valid: 0 };
        message.check_text(true)?;
        self.handle_message(message);
        Ok(true)
    }

    /// A control frame or a message is complete.
    fn complete(&mut self, opcode: Opcode) -> Result<(), Violation> {
        if opcode.is_control() {
            let payload = std::mem::take(&mut self.work().control);
            self.handle_control(opcode, &payload)?;
        } else if let Some(message) = self.work().message.take() {
            self.handle_message(message);
        }
        self.release();
        Ok(())
    }

    fn handle_message(&mut self, message: Message) {
        if self.state == State::Open {
            let Message { is_text, bytes, .. } = message;
            self.work().event = Some(if is_text { Event::Text(bytes) } else { Event::Binary(bytes) });
        }
    }

    fn handle_control(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Violation> {
        match opcode {
            Opcode::Close => self.handle_close(payload)?,
            Opcode::Ping if self.state == State::Open => {
                let pong = self.work().pong.get_or_insert_default();
                pong.clear();
                pong.extend_from_slice(payload);
            }
            _ => {}
        }
        Ok(())
    }

    fn handle_close(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let code = close_code(payload)?;
        self.send_close(code);
        self.state = State::Closed;
        let work = self.work();
        work.stop_receiving();
        work.event = Some(Event::Closed(code));
        Ok(())
    }
}

/// The code in a close frame, where there is one (RFC 6455 section 7.4, and what IANA has registered since).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::protocol("close frame of one byte")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Violation::protocol("invalid close code"));
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(Violation::invalid("close reason is not UTF-8"));
            }
            Ok(Some(code))
        }
    }
}

impl Work {
    fn is_between_frames(&self) -> bool {
        self.header_bytes == 0 && self.frame.is_none()
    }

    fn is_receiving(&self) -> bool {
        !self.is_between_frames() || self.message.is_some()
    }

    fn is_empty(&self) -> bool {
        !self.is_receiving() && self.event.is_none() && self.pong.is_none() && self.out.is_empty()
    }

    fn heap_bytes(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |message| message.bytes.capacity());
        let event = match &self.event {
            Some(Event::Text(bytes) | Event::Binary(bytes)) => bytes.capacity(),
            _ => 0,
        };
        let pong = self.pong.as_ref().map_or(0, Vec::capacity);
        self.control.capacity() + message + event + pong + self.out.capacity()
    }

    /// Forgets what is half received.
    fn stop_receiving(&mut self) {
        (self.header_bytes, self.frame, self.message) = (0, None, None);
        self.control = Vec::new();
    }

    /// Takes bytes of a header or a payload; the opcode when that completed a control frame or a message.
    fn advance(&mut self, input: &mut &[u8], max_message: u32) -> Result<Option<Opcode>, Violation> {
        if self.frame.is_none() && !self.take_header(input, max_message)? {
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
    fn take_header(&mut self, input: &mut &[u8], max_message: u32) -> Result<bool, Violation> {
        while let Some((&byte, rest)) = input.split_first() {
            self.header[usize::from(self.header_bytes)] = byte;
            self.header_bytes += 1;
            *input = rest;
            let seen = &self.header[..usize::from(self.header_bytes)];
            if let Some((header, _)) = FrameHeader::parse(seen)? {
                self.header_bytes = 0;
                self.begin_frame(header, max_message)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn begin_frame(&mut self, header: FrameHeader, max_message: u32) -> Result<(), Violation> {
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
            if header.payload_bytes > u64::from(max_message).saturating_sub(so_far) {
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
