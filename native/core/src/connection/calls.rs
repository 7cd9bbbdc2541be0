//! What callers of the socket interface ask of a connection.

use super::Connection;
use crate::attached::{Attached, Monitor, SendfileOutcome, WriteOutcome};
use crate::cx::{Cx, Fate};
use crate::error::Error;
use crate::host::Host;
use crate::options::{Active, MAX_PACKET};
use crate::role::raw::{self, Raw, Taken};
use crate::role::{self, http};
use crate::role::{Next, Role};
use crate::settings::Effort;
use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use rustix::net::Shutdown;
use std::time::Duration;

/// What a read has come to while the connection was locked.
pub(crate) enum Read {
    Data(Taken),
    Wait { park_after: Option<Duration> },
    Large,
}

/// The same for one who does not wait.
pub(crate) enum Polled {
    Data(Taken),
    Large,
    Soon,
    Nothing,
}

impl<H: Host> Connection<H> {
    // --- having it

    /// Somebody was started to have the connection. [`Error::NotOwner`]: somebody else has it already.
    pub(crate) fn handler_started(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
    ) -> (Result<(), Error>, Fate) {
        match self.hand_over(cx, None, process) {
            // It may have answered before it ended.
            Err(Error::Invalid) => (Err(Error::Closed), self.close_with_input(cx)),
            Err(error) => (Err(error), Fate::Keep),
            Ok(fate) => (Ok(()), fate),
        }
    }

    /// Hands the connection from one owner to another. While it has none, whoever it was told to may hand it over.
    pub(crate) fn give(
        &mut self,
        cx: &mut Cx<'_, H>,
        from: H::Process,
        to: H::Process,
    ) -> (Result<(), Error>, Fate) {
        match self.hand_over(cx, Some(from), to) {
            Ok(fate) => (Ok(()), fate),
            Err(error) => (Err(error), Fate::Keep),
        }
    }

    /// [`Error::Invalid`]: `to` has ended already.
    fn hand_over(
        &mut self,
        cx: &mut Cx<'_, H>,
        from: Option<H::Process>,
        to: H::Process,
    ) -> Result<Fate, Error> {
        let attached = self.attached_mut().ok_or(Error::Closed)?;
        if attached.owner.is_some_and(|owner| owner != to && Some(owner) != from) {
            return Err(Error::NotOwner);
        }
        if attached.owner == Some(to) {
            return Ok(Fate::Keep);
        }
        if !attached.hand_to(cx, to) {
            return Err(Error::Invalid);
        }
        let is_active = attached.options.active != Active::Off;
        self.transport.deadline = None;
        // What came before it had an owner is the owner's to have.
        Ok(if is_active { Fate::Look } else { Fate::Keep })
    }

    /// Its starter has been replaced: the new one is told of it, where it waits for an owner. By another name, so that a
    /// process that the former one has started, and not named, can't get in the way of the next. One that has begun to read
    /// or to send can't be taken back, nor found: its connection closes.
    pub(crate) fn ask_again(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        if !self.is_starting() {
            return Fate::Keep;
        }
        let options = self.transport.listener.config.options;
        let id = match &self.role {
            Role::Stream(stream) => Some(stream.id(cx.conn)),
            _ => None,
        };
        if let Some(attached) = self.attached_mut() {
            if attached.is_used {
                return self.close_with_input(cx);
            }
            std::mem::replace(attached, *Attached::new(options)).detach(cx);
        }
        role::ask(&self.transport, cx, id);
        Fate::Keep
    }

    /// Hands a queued connection to `process`.
    pub(crate) fn accepted_by(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> bool {
        if !matches!(self.role, Role::Raw(Raw::Queued)) {
            return false;
        }
        let mut attached = Attached::new(self.transport.listener.config.options);
        let is_alive = attached.hand_to(cx, process);
        if is_alive {
            self.role = Role::Raw(Raw::Attached(attached));
        }
        is_alive
    }

    /// The owner is done: what is queued is sent, then the connection closes.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_, H>) -> (Result<(), Error>, Fate) {
        if self.owner().is_none() && !self.is_starting() {
            // Given up before, or not accepted yet: it isn't the caller's.
            return (Err(Error::Closed), Fate::Keep);
        }
        (Ok(()), self.close_with_input(cx))
    }

    pub(super) fn close_with_input(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let is_unread = self.is_unread();
        self.begin_close(cx, is_unread)
    }

    /// A waiter is woken when the connection is no longer its owner's.
    ///
    /// Nobody tells of the end of a process that monitors, so those that have ended are looked for whenever there are twice
    /// as many as there were.
    pub(crate) fn monitor(&mut self, host: &H, monitor: Monitor<H>) -> Result<(), Error> {
        let monitors = &mut self.attached_mut().ok_or(Error::Closed)?.monitors;
        if monitors.len() == monitors.capacity() {
            monitors.retain(|monitor| host.is_alive(monitor.process));
        }
        monitors.push(monitor);
        Ok(())
    }

    /// Takes that back. False when there was none.
    pub(crate) fn demonitor(&mut self, key: u128) -> bool {
        let Some(attached) = self.attached_mut() else { return false };
        let before = attached.monitors.len();
        attached.monitors.retain(|monitor| monitor.key != key);
        attached.monitors.len() < before
    }

    // --- reading

    /// Takes `wants` bytes (0: whatever is there, or a packet), or has `process` wait; without a waiter it only looks.
    pub(crate) fn read(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        (wants, effort): (usize, Effort),
        waiter: Option<impl FnOnce() -> H::Waiter>,
    ) -> (Result<Read, Error>, Fate) {
        if let Err(error) = self.may_read(cx, wants) {
            return (Err(error), Fate::Keep);
        }
        match &mut self.role {
            Role::Http(http) => match http.read(&mut self.transport, cx, (wants, effort)) {
                http::Step::Data(taken) => (Ok(self.taken(taken)), self.look_if_room()),
                http::Step::Large => (Ok(Read::Large), Fate::Keep),
                http::Step::Wait { at_boundary } => {
                    let read = self.wait(process, wants, at_boundary, waiter);
                    (Ok(read), self.look_if_room())
                }
                http::Step::Failed(error, next) => (Err(error), self.fail_with(cx, next)),
            },
            Role::Raw(raw) => match raw.read(&mut self.transport, wants, effort) {
                raw::Step::Data(taken) => (Ok(self.taken(taken)), self.look_if_room()),
                raw::Step::Large => (Ok(Read::Large), Fate::Keep),
                raw::Step::Wait => {
                    let read = self.wait(process, wants, false, waiter);
                    (Ok(read), self.look_if_room())
                }
                raw::Step::Failed(error) => (Err(error), Fate::Keep),
                raw::Step::Ended(error) => (Err(error), self.close_with_input(cx)),
            },
            Role::Proxy | Role::Stream(_) | Role::Closing(_) => (Err(Error::Closed), Fate::Keep),
        }
    }

    fn taken(&mut self, taken: Taken) -> Read {
        self.note_use();
        Read::Data(taken)
    }

    fn note_use(&mut self) {
        self.attached_mut().into_iter().for_each(|attached| attached.is_used = true);
    }

    fn fail_with(&mut self, cx: &mut Cx<'_, H>, next: Next<H>) -> Fate {
        match next {
            Next::Close { lingers: false } => self.close_with_input(cx),
            next => self.apply(cx, next),
        }
    }

    fn wait(
        &mut self,
        process: H::Process,
        wants: usize,
        at_boundary: bool,
        waiter: Option<impl FnOnce() -> H::Waiter>,
    ) -> Read {
        if let (Some(attached), Some(waiter)) = (self.attached_mut(), waiter) {
            attached.wait(process, waiter(), wants, at_boundary);
        }
        Read::Wait { park_after: at_boundary.then_some(self.transport.listener.config.handler_linger) }
    }

    /// As `read`, but nobody waits: where the last wait was a short one, this looks into the carrier.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        wants: usize,
        buffer: &mut [u8],
    ) -> (Result<Polled, Error>, Fate) {
        let is_prompt = self.attached().is_some_and(|attached| attached.is_prompt);
        if is_prompt && self.wants_input() {
            self.transport.receive(buffer);
        }
        let (read, fate) = self.read(cx, process, (wants, Effort::Normal), None::<fn() -> H::Waiter>);
        let polled = read.map(|read| match read {
            Read::Data(taken) => Polled::Data(taken),
            Read::Large => Polled::Large,
            Read::Wait { .. } if is_prompt => Polled::Soon,
            Read::Wait { .. } => Polled::Nothing,
        });
        (polled, fate)
    }

    fn may_read(&mut self, cx: &Cx<'_, H>, wants: usize) -> Result<(), Error> {
        if matches!(&self.role, Role::Stream(stream) if stream.owner().is_some()) {
            return Err(Error::Invalid);
        }
        let attached = self.attached_mut().ok_or(Error::Closed)?;
        if attached.options.active != Active::Off {
            return Err(Error::Invalid);
        }
        if wants > MAX_PACKET {
            return Err(Error::TooLarge);
        }
        if attached.has_live_reader(cx) { Err(Error::Already) } else { Ok(()) }
    }

    fn wants_input(&self) -> bool {
        match &self.role {
            Role::Http(http) => http.wants_input(&self.transport),
            Role::Raw(raw) => raw.wants_input(&self.transport),
            Role::Proxy | Role::Stream(_) | Role::Closing(_) => false,
        }
    }

    pub(super) fn look_if_room(&self) -> Fate {
        if self.transport.flags.readable && self.wants_input() { Fate::Look } else { Fate::Keep }
    }

    /// `process` no longer waits, for data or for room. Whether it did.
    pub(crate) fn cancel_wait(&mut self, process: H::Process) -> bool {
        match &mut self.role {
            Role::Stream(stream) => stream.cancel_wait(process),
            _ => self.attached_mut().is_some_and(|attached| attached.cancel_wait(process)),
        }
    }

    /// A handler at a request boundary waited in vain: the connection goes on without it. False when there
    /// is something for it after all.
    pub(crate) fn park(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> (Result<bool, Error>, Fate) {
        let Role::Http(http) = &mut self.role else { return (Err(Error::Closed), Fate::Keep) };
        if http.attached().is_none() {
            return (Err(Error::Closed), Fate::Keep);
        }
        match http.park(&mut self.transport, cx, process) {
            Some(next) => (Ok(true), self.apply(cx, next)),
            None => (Ok(false), Fate::Keep),
        }
    }

    /// Puts bytes back before those that were not read. `front` has room for these. False: they are too many for the effort.
    pub(crate) fn unread(&mut self, mut front: BytesMut, effort: Effort) -> Result<bool, Error> {
        if !matches!(self.role, Role::Raw(Raw::Attached(_))) {
            return Err(Error::Closed);
        }
        if !effort.allows_copy(self.transport.inbound.len(), false) {
            return Ok(false);
        }
        self.note_use();
        front.extend_from_slice(&self.transport.inbound);
        self.transport.inbound = front;
        Ok(true)
    }

    // --- writing

    fn may_write(&mut self) -> Result<(), Error> {
        self.note_use();
        let attached = self.attached().ok_or(Error::Closed)?;
        if self.transport.flags.write_shut { Err(self.transport.end(&attached.options)) } else { Ok(()) }
    }

    /// Sends or queues all of `bytes`, or none of them when too much is queued. `copy` has them where they are many.
    pub(crate) fn write(
        &mut self,
        process: H::Process,
        (bytes, copy): (&[u8], Option<Bytes>),
        waiter: impl FnOnce() -> H::Waiter,
    ) -> (Result<WriteOutcome, Error>, Fate) {
        if let Err(error) = self.may_write() {
            return (Err(error), Fate::Look);
        }
        if self.transport.outbound.len() >= self.options().high_watermark.max(1) {
            self.add_writer(process, waiter());
            return (Ok(WriteOutcome::Wait), Fate::Keep);
        }
        let written = match copy {
            Some(copy) => {
                self.transport.queue_chunk(copy);
                self.transport.flush().map(|_| ())
            }
            None => self.transport.write(bytes),
        };
        match written {
            Ok(()) => (Ok(WriteOutcome::Done), self.transport.look_if_unsent()),
            // Whoever reads has to learn of the end.
            Err(_) => (Err(self.transport.end(self.options())), Fate::Look),
        }
    }

    fn add_writer(&mut self, process: H::Process, waiter: H::Waiter) {
        if let Some(attached) = self.attached_mut() {
            attached.writers.add(process, waiter);
        }
    }

    /// A hold of its own for `sendfile`, so that a slow disk holds up nobody else.
    pub(crate) fn begin_sendfile(
        &mut self,
        process: H::Process,
        waiter: impl FnOnce() -> H::Waiter,
    ) -> Result<SendfileOutcome, Error> {
        self.may_write()?;
        if !self.transport.outbound.is_empty() {
            self.add_writer(process, waiter());
            return Ok(SendfileOutcome::Wait);
        }
        Ok(SendfileOutcome::Go(self.transport.carrier.for_sendfile()?))
    }

    /// Some of a file was sent, or none because the socket is full: then the waiter is registered, unless
    /// there is room again.
    pub(crate) fn end_sendfile(
        &mut self,
        process: H::Process,
        sent: Result<usize, Errno>,
        waiter: impl FnOnce() -> H::Waiter,
    ) -> Result<Option<usize>, Error> {
        match sent {
            Ok(n) => {
                self.transport.traffic.sent += n as u64;
                self.transport.traffic.count_write(n);
                Ok(Some(n))
            }
            Err(Errno::AGAIN) => {
                self.add_writer(process, waiter());
                Ok(None)
            }
            Err(errno @ (Errno::PIPE | Errno::CONNRESET | Errno::TIMEDOUT | Errno::NOTCONN)) => {
                self.transport.fail(errno);
                Err(self.transport.end(self.options()))
            }
            // The file's fault: the connection is as good as before.
            Err(errno) => Err(Error::Os(errno)),
        }
    }

    /// Whether the socket takes bytes now. An edge that came while nobody waited has passed unseen.
    pub(crate) fn is_writable(&self) -> bool {
        self.transport.carrier.is_writable()
    }

    /// Closes one side or both. Queued output leaves first.
    pub(crate) fn shutdown(&mut self, how: Shutdown) -> Result<(), Error> {
        self.attached().ok_or(Error::Closed)?;
        self.note_use();
        self.transport.shutdown(how).map_err(Error::Os)
    }
}
