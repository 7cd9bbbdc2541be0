//! A carrier with what is buffered on its both sides: how a connection's bytes come and go, whatever they mean.
//!
//! Everything here runs with the connection locked, on its reactor's thread or a caller's.

use crate::carrier::{Address, Carrier};
use crate::cx::{Cx, Fate};
use crate::error::Error;
use crate::host::Host;
use crate::listener::Ingress;
use crate::options::{Opt, SocketOptions};
use crate::outbound::Outbound;
use crate::stats::Traffic;
use crate::store::Pending;
use crate::waste;
use bytes::{Bytes, BytesMut};
use megaphone_proto::proxy;
use megaphone_proto::time::Time;
use rustix::io::Errno;
use rustix::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, Default)]
pub(crate) struct Flags {
    /// The kernel may have bytes: told by an edge, true until a read says otherwise.
    pub(crate) readable: bool,
    /// A short read is not the last one: the peer closed its side, or the kernel stops reads at marks.
    pub(crate) reads_to_the_end: bool,
    /// The carrier has ended.
    pub(crate) ended: bool,
    /// Our side was or will be closed.
    pub(crate) write_shut: bool,
    /// It is to be closed when the queue is empty.
    pub(crate) shut_after_flush: bool,
    /// The socket has a linger time.
    pub(crate) lingers_on_close: bool,
    /// Output was queued and the socket not tried.
    pub(crate) unflushed: bool,
    /// The socket may take more, and no edge will say so.
    pub(crate) flush_again: bool,
}

pub(crate) struct Transport<H: Host> {
    pub(crate) carrier: Carrier,
    /// Whose it is, and what a proxy has said of it.
    pub(crate) listener: Arc<Ingress<H>>,
    /// Received and not delivered. Nothing is allocated while it is empty.
    pub(crate) inbound: BytesMut,
    pub(crate) outbound: Outbound,
    pub(crate) traffic: Traffic,
    pub(crate) deadline: Option<Time>,
    /// When the wheel will look.
    pub(crate) timer_at: Option<Time>,
    pub(crate) flags: Flags,
    /// How the carrier ended, unless in good order.
    pub(crate) fault: Option<Errno>,
}

impl<H: Host> Transport<H> {
    pub(crate) fn new(carrier: Carrier, listener: Arc<Ingress<H>>) -> Self {
        let flags = Flags {
            reads_to_the_end: carrier.is_unix(),
            lingers_on_close: listener.lingers,
            ..Flags::default()
        };
        Self {
            carrier,
            listener,
            inbound: BytesMut::new(),
            outbound: Outbound::default(),
            traffic: Traffic::default(),
            deadline: None,
            timer_at: None,
            flags,
            fault: None,
        }
    }

    pub(crate) fn note(&mut self, ready: Pending) {
        self.flags.readable |= ready.has(Pending::READABLE);
        // A short read is the last one of a stream socket unless its end follows, or it stopped at urgent data.
        self.flags.reads_to_the_end |= ready.has(Pending::HUNG_UP.with(Pending::URGENT));
    }

    // --- input

    /// Reads once. How many bytes came; none: see `flags` and `fault`.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        match self.carrier.read(buffer) {
            Ok(0) => self.flags.ended = true,
            Ok(n) => {
                self.flags.readable = n == buffer.len() || self.flags.reads_to_the_end;
                self.traffic.count_read(n);
                return n;
            }
            Err(Errno::AGAIN) => self.flags.readable = false,
            Err(errno) => self.fail(errno),
        }
        0
    }

    /// Reads once, and keeps what came.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) {
        let n = self.read(buffer);
        self.inbound.extend_from_slice(&buffer[..n]);
    }

    /// There are bytes that were not read, or the end.
    pub(crate) fn may_read(&self) -> bool {
        self.flags.readable && !self.flags.ended
    }

    pub(crate) fn release_inbound(&mut self) {
        release(&mut self.inbound);
    }

    /// The carrier broke: nothing more comes, nothing more goes.
    pub(crate) fn fail(&mut self, errno: Errno) {
        self.fault.get_or_insert(errno);
        self.flags.ended = true;
        self.flags.write_shut = true;
        self.flags.flush_again = false;
        self.outbound = Outbound::default();
    }

    /// The end of the input, as the one who reads is told.
    pub(crate) fn end(&self, options: &SocketOptions) -> Error {
        match self.fault {
            Some(Errno::CONNRESET) if options.show_econnreset => Error::Os(Errno::CONNRESET),
            Some(errno) if errno != Errno::CONNRESET && errno != Errno::PIPE => Error::Os(errno),
            _ => Error::Closed,
        }
    }

    // --- output

    /// Output of ours, which no sender waits for.
    pub(crate) fn write_own(&mut self, bytes: &[u8]) {
        match self.outbound.write(&self.carrier, bytes) {
            Ok(written) => self.count_sent(written),
            Err(errno) => self.fail(errno),
        }
    }

    /// Writes or queues all of `bytes`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.traffic.count_write(bytes.len());
        match self.outbound.write(&self.carrier, bytes) {
            Ok(written) => {
                self.count_sent(written);
                Ok(())
            }
            Err(errno) => {
                self.fail(errno);
                Err(errno)
            }
        }
    }

    /// Queues what was copied, or encoded, before the lock was taken.
    pub(crate) fn queue_chunk(&mut self, bytes: Bytes) {
        self.traffic.count_write(bytes.len());
        self.outbound.queue_chunk(bytes);
        self.flags.unflushed = true;
    }

    fn count_sent(&mut self, written: usize) {
        self.traffic.sent += written as u64;
        // What is queued behind a full measure may find room.
        self.flags.flush_again |= written >= crate::outbound::BYTES_A_HOLD && !self.outbound.is_empty();
    }

    /// Writes what is queued, as far as the socket takes it and one hold of the lock allows. How much was written.
    pub(crate) fn flush(&mut self) -> Result<usize, Errno> {
        self.flags.unflushed = false;
        self.flags.flush_again = false;
        let flushed = self.outbound.flush(&self.carrier);
        match flushed {
            Ok(written) => self.count_sent(written),
            Err(errno) => self.fail(errno),
        }
        if self.outbound.is_empty()
            && std::mem::take(&mut self.flags.shut_after_flush)
            && let Err(errno) = self.carrier.shutdown(Shutdown::Write)
        {
            self.fail(errno);
        }
        flushed
    }

    /// The same where something was queued and the socket not tried.
    pub(crate) fn push(&mut self) -> Result<(), Error> {
        if self.flags.unflushed {
            self.flush().map_err(|_| Error::Closed)?;
        }
        Ok(())
    }

    /// The reactor has to go on with the output.
    pub(crate) fn look_if_unsent(&self) -> Fate {
        if self.flags.flush_again { Fate::Look } else { Fate::Keep }
    }

    /// Closes one side or both. Queued output leaves first.
    pub(crate) fn shutdown(&mut self, how: Shutdown) -> Result<(), Errno> {
        // Who reads meets the end, which no edge tells of where there is no socket.
        self.flags.readable |= how != Shutdown::Write;
        if how != Shutdown::Read {
            self.flags.write_shut = true;
            if !self.outbound.is_empty() {
                self.flags.shut_after_flush = true;
                return if how == Shutdown::Write { Ok(()) } else { self.carrier.shutdown(Shutdown::Read) };
            }
        }
        self.carrier.shutdown(how)
    }

    // --- the rest

    /// What was not read is nobody's any more.
    pub(crate) fn discard_inbound(&mut self) {
        let inbound = std::mem::take(&mut self.inbound);
        waste::discard(inbound.capacity(), inbound);
    }

    pub(crate) fn set_deadline(&mut self, cx: &Cx<'_, H>, after: Duration) {
        self.deadline = Some(cx.deadline(after));
    }

    /// A proxy has said so.
    pub(crate) fn comes_from(&mut self, addresses: proxy::Addresses) {
        self.listener = Arc::new(self.listener.proxied(addresses));
    }

    /// The client's end.
    pub(crate) fn peer(&self) -> Result<Address, Errno> {
        match self.listener.ends() {
            Some(ends) => Ok(ends.peer.clone()),
            None => self.carrier.peer(),
        }
    }

    /// The end that the client has connected to.
    pub(crate) fn local(&self) -> Result<Address, Errno> {
        match self.listener.ends() {
            Some(ends) => Ok(ends.local.clone()),
            None => self.carrier.local(),
        }
    }

    pub(crate) fn addresses(&self) -> Result<(Address, Address), Error> {
        match (self.peer(), self.local()) {
            (Ok(peer), Ok(local)) => Ok((peer, local)),
            // A peer that has reset the connection has no address any more.
            (Err(Errno::NOTCONN), _) => Err(Error::Closed),
            (Err(errno), _) | (_, Err(errno)) => Err(Error::Os(errno)),
        }
    }

    /// How long our side waits for the peer to take the output, where the socket says so.
    pub(crate) fn linger(&self) -> Option<Duration> {
        if !self.flags.lingers_on_close {
            return None;
        }
        match self.carrier.get(Opt::Linger(None)) {
            Ok(Opt::Linger(linger)) => linger,
            _ => None,
        }
    }

    /// A descriptor with a linger time would hold up the thread that closes it; one without any time resets at once, as
    /// it should.
    pub(crate) fn never_block_on_close(&self) {
        if self.linger().is_some_and(|linger| !linger.is_zero()) {
            // Fails only on a descriptor that is no socket.
            let _ = self.carrier.set(Opt::Linger(None));
        }
    }
}

/// Gives back the memory of a buffer without bytes; also of one without capacity, which may share it with what was split off.
fn release(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_split_off_is_not_kept_by_an_empty_buffer() {
        let mut buffer = BytesMut::from(&b"a whole request"[..]);
        let request = buffer.split_to(buffer.len()).freeze();
        assert!(!request.is_unique());
        release(&mut buffer);
        assert!(request.is_unique());
    }
}
