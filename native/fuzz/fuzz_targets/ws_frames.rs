//! A WebSocket's client and owner, doing what they may do in any order.
//!
//! Held to be true: each message and close that is sent whole gives its event, in order; the first rule that
//! is broken ends it with the close code of RFC 6455 section 7.4; messages that arrive once the owner has closed give
//! none; of the pings that were taken since something was written the last is answered with its payload; nothing
//! is sent behind a close frame.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use megaphone_fuzz::ws::{self, BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, server_frames};
use megaphone_proto::ws::{Event, WebSocket};

const MAX_MESSAGE: u32 = 200;

#[derive(Arbitrary, Debug)]
enum Operation<'a> {
    /// A whole message, or the first fragment of one; within a message a breach.
    Begin {
        is_text: bool,
        is_final: bool,
        payload: &'a [u8],
    },
    /// A fragment that is not the first; outside a message a breach.
    Continue {
        is_final: bool,
        payload: &'a [u8],
    },
    /// One with a payload over 125 bytes is a breach.
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    Close(Option<u16>, &'a [u8]),
    /// Some other way to break the rules.
    Break(Breach),
    /// The owner sends.
    SendText(&'a [u8]),
    SendPing(u8),
    SendClose(u16),
    /// What is to be written is.
    Write,
    /// So many bytes arrive.
    Deliver(u8),
    /// All that was sent arrives.
    DeliverAll,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Breach {
    ReservedBits(u8),
    Opcode(u8),
    FragmentedControl(bool),
    Unmasked,
    LengthNotShortest(u8),
    HugeLength,
    TooBig,
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    Closed(Option<u16>),
    Failed(u16),
}

/// What the client has sent, and what it means.
#[derive(Default)]
struct Client {
    wire: Vec<u8>,
    /// Messages, with the bytes on the wire when they are complete.
    events: Vec<(usize, Event)>,
    /// Payloads of pings, with the same.
    pings: Vec<(usize, Vec<u8>)>,
    message: Option<(bool, Vec<u8>)>,
    end: Option<End>,
}

struct Server {
    socket: WebSocket,
    taken: usize,
    events: Vec<Event>,
    end: Option<End>,
    sent: Vec<u8>,
    /// How much was taken each time that something was written.
    writes: Vec<usize>,
    /// What the owner sent and was not too late for.
    own: Vec<(u8, Vec<u8>)>,
    /// The code with which it closed, and how many bytes it had taken by then.
    closed_at: Option<(u16, usize)>,
}

fuzz_target!(|operations: Vec<Operation>| {
    let mut client = Client::default();
    let mut server = Server::new();
    for operation in operations {
        match operation {
            Operation::SendText(text) => server.send_text(text),
            Operation::SendPing(length) => server.send_ping(&vec![b'p'; length.into()]),
            Operation::SendClose(code) => server.send_close(code),
            Operation::Write => server.write(),
            Operation::Deliver(count) => server.take(&client.wire, count.into()),
            Operation::DeliverAll => server.take(&client.wire, usize::MAX),
            operation => client.send(&operation),
        }
    }
    server.take(&client.wire, usize::MAX);
    server.write();
    check(&client, &server);
});

impl Client {
    fn send(&mut self, operation: &Operation) {
        if self.end.is_some() {
            // Nothing that follows is looked at.
            return self.wire.extend_from_slice(&frame(0x80 | TEXT, [0; 4], b"late"));
        }
        match operation {
            Operation::Begin { is_text, is_final, payload } => {
                let opcode = if *is_text { TEXT } else { BINARY };
                let is_allowed = self.message.is_none();
                self.message.get_or_insert((*is_text, Vec::new()));
                self.send_data(opcode, *is_final, payload, is_allowed);
            }
            Operation::Continue { is_final, payload } => {
                let is_allowed = self.message.is_some();
                self.send_data(CONTINUATION, *is_final, payload, is_allowed);
            }
            Operation::Ping(payload) => self.send_ping(payload),
            Operation::Pong(payload) => self.send_pong(payload),
            Operation::Close(code, reason) => self.send_close(*code, reason),
            Operation::Break(breach) => self.break_rules(*breach),
            _ => {}
        }
    }

    fn write(&mut self, first: u8, payload: &[u8]) {
        let mask = [0x37, 0xFA, 0x21, self.wire.len() as u8];
        self.wire.extend_from_slice(&frame(first, mask, payload));
    }

    fn event(&mut self, event: Event) {
        self.events.push((self.wire.len(), event));
    }

    fn send_data(&mut self, opcode: u8, is_final: bool, payload: &[u8], is_allowed: bool) {
        self.write(opcode | u8::from(is_final) << 7, payload);
        let Some((is_text, message)) = self.message.as_mut().filter(|_| is_allowed) else {
            self.end = Some(End::Failed(1002));
            return;
        };
        let is_too_big = message.len() + payload.len() > MAX_MESSAGE as usize;
        message.extend_from_slice(payload);
        let is_wrong = *is_text && !is_utf8(message, is_final);
        if is_too_big || is_wrong {
            self.end = Some(End::Failed(if is_too_big { 1009 } else { 1007 }));
        } else if is_final && let Some((is_text, message)) = self.message.take() {
            self.event(if is_text { Event::Text(message) } else { Event::Binary(message) });
        }
    }

    /// Whether the control frame was within the rules.
    fn send_control(&mut self, opcode: u8, payload: &[u8]) -> bool {
        self.write(0x80 | opcode, payload);
        if payload.len() > 125 {
            self.end = Some(End::Failed(1002));
        }
        payload.len() <= 125
    }

    fn send_ping(&mut self, payload: &[u8]) {
        if self.send_control(PING, payload) {
            self.pings.push((self.wire.len(), payload.to_vec()));
        }
    }

    fn send_pong(&mut self, payload: &[u8]) {
        self.send_control(PONG, payload);
    }

    fn send_close(&mut self, code: Option<u16>, reason: &[u8]) {
        let payload: Vec<u8> = match code {
            Some(code) => code.to_be_bytes().into_iter().chain(reason.iter().copied()).collect(),
            // A reason without a code reads as one that begins with it; one byte alone is neither.
            None => reason.iter().take(1).copied().collect(),
        };
        if self.send_control(CLOSE, &payload) {
            let is_valid = |code: u16| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            self.end = Some(match code {
                Some(code) if is_valid(code) && std::str::from_utf8(reason).is_err() => End::Failed(1007),
                Some(code) if is_valid(code) => End::Closed(Some(code)),
                None if payload.is_empty() => End::Closed(None),
                _ => End::Failed(1002),
            });
        }
    }

    fn break_rules(&mut self, breach: Breach) {
        let big = [0; MAX_MESSAGE as usize + 1];
        // What begins a message or goes on with one, as it has to be here.
        let data = 0x80 | if self.message.is_some() { CONTINUATION } else { BINARY };
        match breach {
            Breach::ReservedBits(bits) => self.write(data | (bits % 7 + 1) << 4, b""),
            Breach::Opcode(opcode) => {
                self.write(0x80 | [3, 4, 5, 6, 7, 11, 12, 13, 14, 15][usize::from(opcode % 10)], b"")
            }
            Breach::FragmentedControl(is_ping) => self.write(if is_ping { PING } else { CLOSE }, b""),
            Breach::Unmasked => self.wire.extend_from_slice(&[data, 0]),
            Breach::LengthNotShortest(length) if length < 126 => {
                self.wire.extend_from_slice(&[data, 0xFE, 0, length])
            }
            Breach::LengthNotShortest(length) => {
                self.wire.extend_from_slice(&[data, 0xFF, 0, 0, 0, 0, 0, 0, length, 0]);
            }
            Breach::HugeLength => self.wire.extend_from_slice(&[data, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            Breach::TooBig => self.write(data, &big),
        }
        self.end = Some(End::Failed(if matches!(breach, Breach::TooBig) { 1009 } else { 1002 }));
    }
}

/// Whether it is UTF-8, up to a character that may be cut off at the end.
fn is_utf8(bytes: &[u8], is_final: bool) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => !is_final && error.error_len().is_none(),
    }
}

impl Server {
    fn new() -> Self {
        Self {
            socket: WebSocket::new(MAX_MESSAGE),
            taken: 0,
            events: Vec::new(),
            end: None,
            sent: Vec::new(),
            writes: vec![0],
            own: Vec::new(),
            closed_at: None,
        }
    }

    fn take(&mut self, wire: &[u8], count: usize) {
        let piece = &wire[self.taken..];
        let mut input = &piece[..count.min(piece.len())];
        self.taken += input.len();
        while !input.is_empty() {
            self.socket.handle_input(&mut input);
            match self.socket.poll_event() {
                None => assert!(input.is_empty()),
                Some(Event::Closed(code)) => self.ended(End::Closed(code)),
                Some(Event::Failed(violation)) => {
                    self.socket.close(violation.code);
                    self.ended(End::Failed(violation.code));
                }
                Some(event) => self.events.push(event),
            }
        }
        assert_eq!(self.socket.is_closed(), self.end.is_some());
    }

    fn write(&mut self) {
        self.socket.poll_transmit(&mut self.sent);
        self.writes.push(self.taken);
    }

    fn ended(&mut self, end: End) {
        assert_eq!(self.end, None);
        self.end = Some(end);
    }

    fn is_open(&self) -> bool {
        self.end.is_none() && self.closed_at.is_none()
    }

    fn send_text(&mut self, text: &[u8]) {
        if self.is_open() {
            self.own.push((TEXT, text.to_vec()));
        }
        // What the machine has to say goes before, so that the order is known.
        self.write();
        self.socket.send_text(text, &mut self.sent);
    }

    fn send_ping(&mut self, payload: &[u8]) {
        if self.is_open() {
            self.own.push((PING, payload[..payload.len().min(125)].to_vec()));
        }
        self.socket.ping(payload);
    }

    fn send_close(&mut self, code: u16) {
        if self.is_open() {
            self.closed_at = Some((code, self.taken));
        }
        self.socket.close(code);
    }

    /// The pongs that are owed: between two writes one, for the last ping, and none for what came after a close.
    fn pongs<'a>(&self, client: &'a Client) -> Vec<&'a [u8]> {
        let until = self.closed_at.map_or(usize::MAX, |(_, taken)| taken);
        let between = |pair: &[usize]| {
            let pings = client.pings.iter().rev();
            let mut owed = pings.filter(|(at, _)| *at > pair[0] && *at <= pair[1] && *at <= until);
            owed.next().map(|(_, payload)| &payload[..])
        };
        self.writes.windows(2).filter_map(between).collect()
    }
}

fn check(client: &Client, server: &Server) {
    let is_heard = |at: usize| server.closed_at.is_none_or(|(_, taken)| at <= taken);
    let expected = client.events.iter().filter(|(at, _)| is_heard(*at)).map(|(_, event)| event);
    assert!(expected.eq(&server.events));
    assert_eq!(client.end, server.end);
    let sent = server_frames(&server.sent);
    let (pongs, others): (Vec<_>, Vec<_>) = sent.iter().partition(|(opcode, _)| *opcode == PONG);
    assert!(pongs.into_iter().map(|(_, payload)| payload).eq(server.pongs(client)));
    let closing = match (server.closed_at, &server.end) {
        (Some((code, _)), _) => Some(Some(code)),
        (None, Some(End::Closed(code))) => Some(*code),
        (None, Some(End::Failed(code))) => Some(Some(*code)),
        (None, None) => None,
    };
    let close = closing.map(|code| (CLOSE, code.into_iter().flat_map(u16::to_be_bytes).collect()));
    let expected: Vec<(u8, Vec<u8>)> = server.own.iter().cloned().chain(close.clone()).collect();
    assert!(others.iter().map(|(opcode, payload)| (*opcode, payload.to_vec())).eq(expected));
    assert_eq!(sent.last().is_some_and(|(opcode, _)| *opcode == ws::CLOSE), close.is_some());
}
