//! One node that connected.

use super::error::Failure;
use super::handshake::{Handshake, Local, Progress};
use super::message::{self, Message};
use super::term::Term;
use super::write::Writer;
use crate::time::Time;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of the longest message that is looked at. What is longer is passed over, so that whoever sends it by mistake does not
/// lose the connection.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Until a peer has shown that it knows the cookie; no byte restarts it.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long nothing is sent before a tick is: a quarter of OTP's `net_ticktime`, after which a peer gives up who says nothing.
const QUIET: Duration = Duration::from_secs(15);

/// Output beyond which nothing is read: the peer does not read either.
const MAX_OUTPUT: usize = 64 * 1024;

/// Whom to answer. Lives as long as the input that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    pid: Term<'a>,
    tag: Term<'a>,
}

/// What a peer's owner has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// It says that this is its name, which anybody can say. [`Peer::admit`] is to be called.
    Introduced(&'a str),
    /// It has the cookie. An earlier connection of its name is stale.
    Connected,
    /// A `gen_server:call`. [`Peer::reply`] is to be called; the caller waits for it.
    Call {
        /// Whom to answer.
        caller: Caller<'a>,
        /// What is asked.
        request: Term<'a>,
    },
}

/// One node that connected, from its first byte on.
///
/// 1. What was received goes into [`handle_input`](Self::handle_input), which takes whole messages off its front, until it says
///    neither an event nor a failure; the rest is kept for later. While [`wants_input`](Self::wants_input) says no, nothing is
///    received.
/// 2. [`poll_transmit`](Self::poll_transmit) is written, and [`written`](Self::written) told.
/// 3. At [`poll_timeout`](Self::poll_timeout), [`handle_timeout`](Self::handle_timeout).
///
/// After a [`Failure`] what is to be transmitted is written as far as it goes, and the connection closed.
#[derive(Debug)]
pub struct Peer {
    local: Arc<Local>,
    phase: Phase,
    /// In the handshake its end, later the next tick.
    due: Time,
    out: Vec<u8>,
}

#[derive(Debug)]
enum Phase {
    Handshake(Handshake),
    /// So many bytes of a message that is too long are still to come.
    Connected {
        skip: usize,
    },
}

impl Peer {
    /// A connection that was accepted. `challenge` is from a cryptographic source, and new.
    pub fn new(local: Arc<Local>, challenge: u32, now: Time) -> Self {
        let phase = Phase::Handshake(Handshake::new(challenge));
        Self { local, phase, due: now.after(HANDSHAKE), out: Vec::new() }
    }

    /// Takes what it can off the front of `input`. None when more has to be received.
    pub fn handle_input<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Failure> {
        while self.wants_input() {
            let Phase::Handshake(handshake) = &mut self.phase else { return self.connected(input) };
            match handshake.take(input, &self.local, &mut self.out)? {
                None => break,
                Some(Progress::Going) => {}
                Some(Progress::Introduced(name)) => return Ok(Some(Event::Introduced(name))),
                Some(Progress::Done) => {
                    self.phase = Phase::Connected { skip: 0 };
                    return Ok(Some(Event::Connected));
                }
            }
        }
        Ok(None)
    }

    /// After [`Event::Introduced`]: whether a peer of that name is connected. It is asked then whether that connection is stale.
    pub fn admit(&mut self, is_connected: bool) {
        if let Phase::Handshake(handshake) = &mut self.phase {
            handshake.admit(is_connected, &self.local, &mut self.out);
        }
    }

    /// Answers a call. `write` writes one term.
    pub fn reply(&mut self, caller: Caller<'_>, write: impl FnOnce(&mut Writer<'_>)) {
        let mut reply = Vec::new();
        write(&mut Writer::new(&mut reply));
        let mut process = Vec::new();
        Writer::new(&mut process).pid(&self.local.name, 1, self.local.creation);
        message::reply(&mut self.out, &process, caller.pid, caller.tag, &reply);
    }

    /// False while the peer does not take what it asked for.
    pub fn wants_input(&self) -> bool {
        self.out.len() < MAX_OUTPUT
    }

    /// It has the cookie.
    pub const fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected { .. })
    }

    /// What is to be written.
    pub fn poll_transmit(&self) -> &[u8] {
        &self.out
    }

    /// So many bytes of it were.
    pub fn written(&mut self, bytes: usize, now: Time) {
        self.out.drain(..bytes.min(self.out.len()));
        if self.is_connected() && bytes > 0 {
            self.due = now.after(QUIET);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub const fn poll_timeout(&self) -> Time {
        self.due
    }

    /// Ends a handshake that takes too long, and says that we are there.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), Failure> {
        if now < self.due {
            return Ok(());
        }
        if !self.is_connected() {
            return Err(Failure::TooLate);
        }
        self.due = now.after(QUIET);
        self.tick();
        Ok(())
    }

    fn tick(&mut self) {
        // What waits to be written is a sign of life as well.
        if self.out.is_empty() {
            self.out.extend_from_slice(&[0; 4]);
        }
    }

    fn connected<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Failure> {
        while self.wants_input() {
            let Some(message) = self.frame(input)? else { break };
            if let Some(event) = self.handle_message(message)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The next message, without its mark. Ticks are answered.
    fn frame<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Failure> {
        loop {
            self.pass_over(input);
            let Some((length, rest)) = input.split_first_chunk() else { return Ok(None) };
            let length = u32::from_be_bytes(*length) as usize;
            if length == 0 {
                *input = rest;
                self.tick();
            } else if length > MAX_MESSAGE {
                *input = rest;
                self.phase = Phase::Connected { skip: length };
            } else {
                let Some((message, rest)) = rest.split_at_checked(length) else { return Ok(None) };
                *input = rest;
                let unmarked = message.strip_prefix(&[112]);
                return unmarked
                    .map(Some)
                    .ok_or(Failure::Malformed("a message with a header, which was not agreed on"));
            }
        }
    }

    fn pass_over(&mut self, input: &mut &[u8]) {
        if let Phase::Connected { skip } = &mut self.phase {
            let (_, rest) = input.split_at((*skip).min(input.len()));
            *skip -= input.len() - rest.len();
            *input = rest;
        }
    }

    fn handle_message<'a>(&mut self, message: &'a [u8]) -> Result<Option<Event<'a>>, Failure> {
        let out = &mut self.out;
        match Message::of(message).ok_or(Failure::Malformed("what is no message"))? {
            Message::Send { to, message } => return Ok(self.handle_send(to, message)),
            Message::Monitor { from, of, reference } => {
                // Ours end with the node, which the peer notices.
                if !of.atom().is_some_and(|name| name == self.local.process || name == NET_KERNEL) {
                    message::no_process(out, of, from, reference);
                }
            }
            Message::Link { from, to } => message::no_link(out, to, from),
            Message::Unlink { id, from, to } => message::unlinked(out, id, to, from),
            Message::Spawn { id, from } => message::not_spawned(out, id, from),
            Message::Other => {}
        }
        Ok(None)
    }

    /// Calls are all that is answered; casts and other messages are nobody's.
    fn handle_send<'a>(&mut self, to: Term<'a>, message: Term<'a>) -> Option<Event<'a>> {
        let (caller, request) = call(message)?;
        let name = to.atom()?;
        if name == self.local.process {
            return Some(Event::Call { caller, request });
        }
        if name == NET_KERNEL {
            self.reply(caller, |writer| answer_net_kernel(request, writer));
        }
        None
    }
}

/// The process of each node that knows the others.
const NET_KERNEL: &str = "net_kernel";

/// `{'$gen_call', {Pid, Tag}, Request}`.
fn call(message: Term<'_>) -> Option<(Caller<'_>, Term<'_>)> {
    let [label, caller, request] = message.tuple()?;
    let [pid, tag] = caller.tuple()?;
    let is_call = label.atom() == Some("$gen_call") && pid.is_pid();
    is_call.then_some((Caller { pid, tag }, request))
}

/// `net_adm:ping` asks `{is_auth, Node}`. Who can ask has the cookie.
fn answer_net_kernel(request: Term<'_>, writer: &mut Writer<'_>) {
    let is_ping = request.tuple().is_some_and(|[label, _]| label.atom() == Some("is_auth"));
    if is_ping {
        writer.atom("yes");
    } else {
        writer.tuple(2).atom("error").atom("unknown_request");
    }
}
