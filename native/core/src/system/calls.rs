//! What may be asked of one connection. Each call locks that connection and nothing else.

use super::*;
use crate::attached::Monitor;
use crate::connection::{Polled, Read};
use crate::ended::Belongings;
use crate::host::Event;
use crate::outbound::BYTES_A_HOLD;
use crate::role::raw::Taken;
use bytes::{Bytes, BytesMut};
use megaphone_proto::packet::{self, Decoded, Packet};
use rustix::fd::AsFd;

/// Most bytes that one `sendfile` call moves: bounds how long it keeps a thread.
const SENDFILE_BYTES: usize = 1024 * 1024;

impl<H: Host> System<H> {
    /// A step on a connection.
    pub(super) fn with<R>(
        &self,
        conn: Conn,
        sink: &mut dyn Sink<H>,
        step: impl FnOnce(&mut Connection<H>, &mut crate::cx::Cx<'_, H>) -> (R, Fate),
    ) -> Result<R, Error> {
        self.engine.with(conn, sink, step)
    }

    fn peek<R>(&self, conn: Conn, look: impl FnOnce(&mut Connection<H>) -> R) -> Result<R, Error> {
        self.engine.peek(conn, look)
    }

    /// Gives data to `take`, or has `process` wait; without a waiter it only looks. `wants` bytes; 0 is
    /// whatever is there, or one packet. What takes more than the effort is left there.
    pub fn read<R>(
        &self,
        conn: Conn,
        process: H::Process,
        wants: (usize, Effort),
        sink: &mut dyn Sink<H>,
        waiter: Option<impl FnOnce() -> H::Waiter>,
        take: impl FnOnce(Received<'_>, Delivery) -> R,
    ) -> Result<ReadOutcome<R>, Error> {
        let read = self.with(conn, sink, |connection, cx| connection.read(cx, process, wants, waiter))??;
        // What the caller makes of the data takes time, and nobody else waits for it.
        match read {
            Read::Data(taken) => give(taken, take).map(ReadOutcome::Data),
            Read::Wait { park_after } => Ok(ReadOutcome::Wait { park_after }),
            Read::Large => Ok(ReadOutcome::Large),
        }
    }

    /// As [`read`](Self::read), but nobody waits: where the last wait was a short one, this looks into the
    /// source, through `buf`.
    pub fn poll_read<R>(
        &self,
        conn: Conn,
        process: H::Process,
        wants: usize,
        sink: &mut dyn Sink<H>,
        buf: &mut [u8],
        take: impl FnOnce(Received<'_>, Delivery) -> R,
    ) -> Result<PollOutcome<R>, Error> {
        let polled =
            self.with(conn, sink, |connection, cx| connection.poll_read(cx, process, wants, buf))??;
        match polled {
            Polled::Data(taken) => give(taken, take).map(PollOutcome::Data),
            Polled::Large => Ok(PollOutcome::Large),
            Polled::Soon => Ok(PollOutcome::Soon),
            Polled::Nothing => Ok(PollOutcome::Nothing),
        }
    }

    /// `process` no longer waits, for data or for room to send. False: it did not any more, its wake-up has been told to a sink.
    pub fn cancel_wait(
        &self,
        conn: Conn,
        process: H::Process,
        sink: &mut dyn Sink<H>,
    ) -> Result<bool, Error> {
        self.with(conn, sink, |connection, _| (connection.cancel_wait(process), Fate::Keep))
    }

    /// Detaches a handler that waited for a next request. False: there is something to read after all.
    pub fn park(&self, conn: Conn, process: H::Process, sink: &mut dyn Sink<H>) -> Result<bool, Error> {
        self.with(conn, sink, |connection, cx| connection.park(cx, process))?
    }

    /// Sends all of `bytes`, or registers the waiter.
    pub fn write(
        &self,
        conn: Conn,
        process: H::Process,
        bytes: &[u8],
        sink: &mut dyn Sink<H>,
        waiter: impl FnOnce() -> H::Waiter,
    ) -> Result<WriteOutcome, Error> {
        // Copied before the lock, so that it is held no longer for many bytes.
        let copy = (bytes.len() > BYTES_A_HOLD).then(|| Bytes::copy_from_slice(bytes));
        self.with(conn, sink, |connection, _| connection.write(process, (bytes, copy), waiter))?
    }

    /// Sends up to 1 MiB of a file from `offset`. May wait for the disk, never for the peer. `Ok(None)`: the
    /// waiter is registered; `Ok(Some(0))`: the end of the file.
    pub fn sendfile(
        &self,
        conn: Conn,
        process: H::Process,
        (file, offset, count): (impl AsFd, u64, usize),
        sink: &mut dyn Sink<H>,
        waiter: impl Fn() -> H::Waiter,
    ) -> Result<Option<usize>, Error> {
        let begun = self
            .with(conn, sink, |connection, _| (connection.begin_sendfile(process, &waiter), Fate::Keep))??;
        let SendfileOutcome::Go(target) = begun else { return Ok(None) };
        let sent = target.send(file, offset, count.min(SENDFILE_BYTES));
        self.with(conn, sink, |connection, cx| {
            let out = connection.end_sendfile(process, sent, &waiter);
            if out == Ok(None) && connection.is_writable() {
                connection.cancel_wait(process);
                cx.sink.emit(Event::Wake(waiter()));
            }
            let fate = if out.is_err() { Fate::Look } else { Fate::Keep };
            (out, fate)
        })?
    }

    /// The owner's close: what is queued is sent, then the connection closes.
    pub fn close(&self, conn: Conn, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        self.with(conn, sink, |connection, cx| connection.close(cx))?
    }

    /// Closes at once, whoever has it.
    pub fn abort(&self, conn: Conn, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        self.engine.abort(conn, sink)
    }

    /// Closes one side or both.
    pub fn shutdown(&self, conn: Conn, how: Shutdown, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        self.with(conn, sink, |connection, _| (connection.shutdown(how), Fate::Look))?
    }

    /// Sets one option.
    pub fn set(&self, conn: Conn, option: Opt, sink: &mut dyn Sink<H>) -> Result<(), Error> {
        self.with(conn, sink, |connection, cx| match connection.set(cx, option) {
            Ok(fate) => (Ok(()), fate),
            Err(error) => (Err(error), Fate::Keep),
        })?
    }

    /// Gets the option that `like` is one of.
    pub fn get(&self, conn: Conn, like: Opt) -> Result<Opt, Error> {
        self.peek(conn, |connection| connection.get(like))?
    }

    /// Somebody was started to have the connection, and is its owner from here on; it closes when `process` has ended
    /// already. [`Error::NotOwner`]: another has it.
    pub fn handler_started(
        &self,
        conn: Conn,
        process: H::Process,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Error> {
        self.with(conn, sink, |connection, cx| connection.handler_started(cx, process))?
    }

    /// To be called when a watched process has ended, with all that it was watched for. Only hands that over, in the same
    /// time for one as for a million: the shards' threads close what still is the process's. `listeners` are those of it
    /// whose ports are to be free when this returns: who starts the process again opens them.
    pub fn process_ended(&self, process: H::Process, owned: Belongings, listeners: &[ListenerId]) {
        for id in listeners {
            self.engine.listener_owner_ended(*id);
        }
        self.engine.process_ended(process, owned);
    }

    /// Hands the connection from one owner to another. While it has none, whoever was told of it may hand it over.
    /// [`Error::Invalid`]: `to` has ended already.
    pub fn give(
        &self,
        conn: Conn,
        from: H::Process,
        to: H::Process,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Error> {
        self.with(conn, sink, |connection, cx| connection.give(cx, from, to))?
    }

    /// Whoever has the connection; none until it was handed over.
    pub fn owner(&self, conn: Conn) -> Result<Option<H::Process>, Error> {
        self.peek(conn, |connection| connection.owner())
    }

    /// How long a send may wait, and whether the connection closes then.
    pub fn send_timeout(&self, conn: Conn) -> Result<(Option<Duration>, bool), Error> {
        self.peek(conn, |connection| connection.send_timeout())
    }

    /// The other end.
    pub fn peer(&self, conn: Conn) -> Result<Address, Error> {
        self.peek(conn, |connection| connection.transport().peer())?.map_err(Error::Os)
    }

    /// Our end.
    pub fn local(&self, conn: Conn) -> Result<Address, Error> {
        self.peek(conn, |connection| connection.transport().local())?.map_err(Error::Os)
    }

    /// Counters, and the bytes that wait to be sent.
    pub fn traffic(&self, conn: Conn) -> Result<(Traffic, usize), Error> {
        self.peek(conn, |connection| {
            let transport = connection.transport();
            (transport.traffic, transport.outbound.len())
        })
    }

    /// Puts bytes back before those that were not read. False: nothing was done, these are too many for the effort.
    pub fn unread(&self, conn: Conn, bytes: &[u8], effort: Effort) -> Result<bool, Error> {
        // With room for what is in front of most readers.
        let mut front = BytesMut::with_capacity(bytes.len() + 64 * 1024);
        front.extend_from_slice(bytes);
        self.peek(conn, |connection| connection.unread(front, effort))?
    }

    /// Has `waiter`, which is `process`'s, woken when the connection is no longer its owner's.
    pub fn monitor(
        &self,
        conn: Conn,
        process: H::Process,
        key: u128,
        waiter: H::Waiter,
    ) -> Result<(), Error> {
        let monitor = Monitor { key, process, waiter };
        self.peek(conn, |connection| connection.monitor(&self.engine.shared.host, monitor))?
    }

    /// Takes that back. False when there was none.
    pub fn demonitor(&self, conn: Conn, key: u128) -> bool {
        self.peek(conn, |connection| connection.demonitor(key)).unwrap_or(false)
    }

    /// One connection, as it is now.
    pub fn info(&self, conn: Conn) -> Result<ConnectionInfo<H::Process>, Error> {
        self.peek(conn, |connection| connection.info())
    }
}

/// Has the caller make what it wants of what was taken.
fn give<R>(taken: Taken, take: impl FnOnce(Received<'_>, Delivery) -> R) -> Result<R, Error> {
    let Taken { bytes, packet, delivery } = taken;
    let Some((mode, options)) = packet else { return Ok(take(Received::Bytes(&bytes), delivery)) };
    match packet::decode(mode, &bytes, &options) {
        Decoded::Packet { packet: Packet::Line(line), .. } => Ok(take(Received::Bytes(line), delivery)),
        Decoded::Packet { packet, .. } => Ok(take(Received::Packet(&packet), delivery)),
        // It was a packet with the lock held.
        Decoded::More(_) | Decoded::Invalid => Err(Error::MessageSize),
    }
}
