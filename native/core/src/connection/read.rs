//! Reading by a caller: `recv`, and waiting for it.

use super::{Connection, Cx, Engine, Fate, Phase, PollOutcome, ReadOutcome, Reader, Received};
use crate::Error;
use crate::host::{Event, Host};
use crate::options::{Active, Delivery, MAX_PACKET};
use bytes::Buf;
use megaphone_proto::http::{CONTINUE, Progress, RequestError};
use std::time::{Duration, Instant};

/// A peer that answers within this is worth looking for: the thread switches of a wait take about as long.
const PROMPT: Duration = Duration::from_micros(100);

/// What a step of a reader comes to.
pub(super) type Step<R> = (Result<ReadOutcome<R>, Error>, Fate);

impl<H: Host> Connection<H> {
    /// Gives `wants` bytes (0: whatever is there, or a packet) to `take`, or has `process` wait; without a
    /// waiter it only looks.
    pub(crate) fn read<R>(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        wants: usize,
        waiter: Option<impl FnOnce() -> H::Waiter>,
        take: impl FnOnce(Received<'_>, Delivery) -> R,
    ) -> Step<R> {
        self.claim(cx, process);
        if let Err(error) = self.may_read(cx, wants) {
            return (Err(error), Fate::Keep);
        }
        let found = if self.requests().is_some() { self.find_request(wants) } else { self.find_raw(wants) };
        match found {
            Found::Bytes(n) => {
                let delivery = self.options().delivery();
                let out = take(Received::Bytes(&self.inbound[..n]), delivery);
                self.consume(n);
                (Ok(ReadOutcome::Data(out)), self.look_if_room())
            }
            Found::Packet => {
                let out = self.take_packet(take);
                (out.map(ReadOutcome::Data), self.look_if_room())
            }
            Found::Nothing { at_boundary } => {
                let park_after = at_boundary.then_some(self.listener.config.handler_linger);
                if let (Some(attached), Some(waiter)) = (&mut self.attached, waiter) {
                    let since = Instant::now();
                    attached.reader = Some(Reader { process, waiter: waiter(), wants, at_boundary, since });
                    self.flags.prompt = false;
                }
                (Ok(ReadOutcome::Wait { park_after }), self.look_if_room())
            }
            Found::End { closes } => {
                let error = self.end();
                (Err(error), if closes { self.close(cx) } else { Fate::Keep })
            }
            Found::Refused(error) => (Err(Error::Closed), self.refuse(cx, error)),
            Found::Service => (Err(Error::Closed), self.take_back(cx)),
            Found::Wrong(error) => (Err(error), Fate::Keep),
        }
    }

    /// As `read`, but nobody waits: where the last wait was a short one, this looks into the source.
    pub(crate) fn poll_read<R>(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        wants: usize,
        buf: &mut [u8],
        take: impl FnOnce(Received<'_>, Delivery) -> R,
    ) -> (Result<PollOutcome<R>, Error>, Fate) {
        self.claim(cx, process);
        if self.flags.prompt && self.phase == Phase::Running && self.wants_input() {
            self.read_source(buf, cx.system.now());
        }
        let (out, fate) = self.read(cx, process, wants, None::<fn() -> H::Waiter>, take);
        let out = out.map(|out| match out {
            ReadOutcome::Data(data) => PollOutcome::Data(data),
            ReadOutcome::Wait { .. } if self.flags.prompt => PollOutcome::Soon,
            ReadOutcome::Wait { .. } => PollOutcome::Nothing,
        });
        (out, fate)
    }

    fn may_read(&mut self, cx: &Cx<'_, H>, wants: usize) -> Result<(), Error> {
        let Some(attached) = self.attached.as_mut().filter(|_| self.phase == Phase::Running) else {
            return Err(Error::Closed);
        };
        if attached.options.active != Active::Off || matches!(self.engine, Engine::Xmpp(_)) {
            return Err(Error::Invalid);
        }
        if wants > MAX_PACKET {
            return Err(Error::TooLarge);
        }
        match &attached.reader {
            // One who was killed while it waited can't take back its wait.
            Some(reader) if cx.system.host().is_alive(reader.process) => Err(Error::Already),
            _ => {
                attached.reader = None;
                Ok(())
            }
        }
    }

    /// In request mode: bytes of the current request, or the next one.
    fn find_request(&mut self, wants: usize) -> Found {
        let zero_ends_request = self.listener.config.zero_ends_request;
        let Some(requests) = self.requests_mut() else { return Found::End { closes: false } };
        let is_in_body = requests.remaining() > 0 && requests.head_remaining() == 0;
        let is_done = requests.remaining() == 0 || (is_in_body && wants == 0 && zero_ends_request);
        if !is_done {
            return self.find_in_request(wants);
        }
        requests.next_request();
        match self.advance() {
            Some(Progress::Ready) if self.service().is_some() => Found::Service,
            Some(Progress::Ready) => self.find_in_request(wants),
            Some(Progress::Refused(error)) => Found::Refused(error),
            Some(_) if self.flags.ended => Found::End { closes: true },
            Some(Progress::Body { send_continue: true }) => {
                self.write_own(CONTINUE);
                Found::Nothing { at_boundary: true }
            }
            _ => Found::Nothing { at_boundary: true },
        }
    }

    fn find_in_request(&mut self, wants: usize) -> Found {
        let Some(requests) = self.requests() else { return Found::End { closes: false } };
        let available = requests.available(self.inbound.len());
        match (wants, requests.head_remaining()) {
            // A head is delivered by itself: who takes a body with it may take it for a next request.
            (0, head @ 1..) => Found::Bytes(head),
            (0, 0) if available > 0 => Found::Bytes(available),
            (1.., _) if available >= wants => Found::Bytes(wants),
            _ if self.flags.ended => Found::End { closes: false },
            _ => Found::Nothing { at_boundary: false },
        }
    }

    fn consume(&mut self, n: usize) {
        self.inbound.advance(n);
        if let Some(requests) = self.requests_mut() {
            requests.consumed(n);
        }
        self.release_inbound();
    }

    pub(super) fn look_if_room(&self) -> Fate {
        if self.should_read() { Fate::Look } else { Fate::Keep }
    }

    /// In request mode with a handler: is there what its reader waits for?
    pub(super) fn settle_reader(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let Some(reader) = self.attached.as_ref().and_then(|attached| attached.reader.as_ref()) else {
            return Fate::Keep;
        };
        let (at_boundary, wants) = (reader.at_boundary, reader.wants.max(1));
        let has_come = if at_boundary {
            match self.advance() {
                Some(Progress::Ready) if self.service().is_some() => return self.take_back(cx),
                Some(Progress::Ready) | None => true,
                Some(Progress::Refused(error)) => return self.refuse(cx, error),
                Some(Progress::Body { send_continue: true }) => {
                    self.write_own(CONTINUE);
                    false
                }
                Some(_) => false,
            }
        } else {
            self.requests().is_none_or(|requests| requests.available(self.inbound.len()) >= wants)
        };
        if has_come || self.flags.ended {
            self.wake_reader(cx);
        }
        Fate::Keep
    }

    pub(super) fn wake_reader(&mut self, cx: &mut Cx<'_, H>) {
        if let Some(reader) = self.attached.as_mut().and_then(|attached| attached.reader.take()) {
            self.flags.prompt = reader.since.elapsed() < PROMPT;
            cx.sink.emit(Event::Wake(reader.waiter));
        }
    }

    /// `process` no longer waits, for data or for room.
    pub(crate) fn cancel_wait(&mut self, process: H::Process) {
        let Some(attached) = &mut self.attached else { return };
        if attached.reader.as_ref().is_some_and(|reader| reader.process == process) {
            attached.reader = None;
        }
        attached.writers.retain(|(writer, _)| *writer != process);
    }

    /// Puts bytes back before those that were not read.
    pub(crate) fn unread(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.phase != Phase::Running || self.requests().is_some() {
            return Err(Error::Closed);
        }
        let rest = std::mem::take(&mut self.inbound);
        self.inbound.reserve(bytes.len() + rest.len());
        self.inbound.extend_from_slice(bytes);
        self.inbound.extend_from_slice(&rest);
        Ok(())
    }
}

/// What is at the front of the input for a reader.
pub(super) enum Found {
    Bytes(usize),
    Packet,
    Nothing {
        at_boundary: bool,
    },
    /// Nothing more comes.
    End {
        closes: bool,
    },
    Refused(RequestError),
    /// A request that is not for a handler.
    Service,
    Wrong(Error),
}
