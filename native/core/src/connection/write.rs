//! Sending, and waiting for room to send.

use super::{Connection, Cx, DRAIN, Fate, Phase, SendfileOutcome, WriteOutcome};
use crate::Error;
use crate::host::{Event, Host};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::Shutdown;

impl<H: Host> Connection<H> {
    /// Sends or queues all of `bytes`, or none of them when too much is queued.
    pub(crate) fn write(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        bytes: &[u8],
        waiter: impl FnOnce() -> H::Waiter,
    ) -> Result<WriteOutcome, Error> {
        self.claim(cx, process);
        self.may_write()?;
        let high_watermark = self.options().high_watermark.max(1);
        if self.outbound.len() >= high_watermark {
            self.add_writer(process, waiter());
            return Ok(WriteOutcome::Wait);
        }
        self.traffic.count_write(bytes.len());
        match self.outbound.write(&self.source, bytes) {
            Ok(written) => {
                self.traffic.sent += written as u64;
                Ok(WriteOutcome::Done)
            }
            Err(errno) => {
                self.fail(errno);
                Err(self.end())
            }
        }
    }

    fn may_write(&self) -> Result<(), Error> {
        match self.phase {
            Phase::Running if self.flags.write_shut => Err(self.end()),
            Phase::Running => Ok(()),
            _ => Err(Error::Closed),
        }
    }

    pub(super) fn add_writer(&mut self, process: H::Process, waiter: H::Waiter) {
        if let Some(attached) = &mut self.attached {
            attached.writers.push((process, waiter));
        }
    }

    /// A descriptor of its own for `sendfile`, so that a slow disk holds up nobody else.
    pub(crate) fn begin_sendfile(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        waiter: impl FnOnce() -> H::Waiter,
    ) -> Result<SendfileOutcome, Error> {
        self.claim(cx, process);
        self.may_write()?;
        if !self.outbound.is_empty() {
            self.add_writer(process, waiter());
            return Ok(SendfileOutcome::Wait);
        }
        Ok(SendfileOutcome::Go(self.source.fd().try_clone_to_owned().map_err(|_| Error::Os(Errno::MFILE))?))
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
                self.traffic.sent += n as u64;
                self.traffic.count_write(n);
                Ok(Some(n))
            }
            Err(Errno::AGAIN) => {
                self.add_writer(process, waiter());
                Ok(None)
            }
            Err(errno @ (Errno::PIPE | Errno::CONNRESET | Errno::TIMEDOUT | Errno::NOTCONN)) => {
                self.fail(errno);
                Err(self.end())
            }
            // The file's fault: the connection is as good as before.
            Err(errno) => Err(Error::Os(errno)),
        }
    }

    /// Whether the socket takes bytes now. An edge that came while nobody waited has passed unseen.
    pub(crate) fn is_writable(&self) -> bool {
        let fd = self.source.fd();
        let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0)
    }

    /// The reactor's: the socket takes bytes again.
    pub(super) fn flush(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        match self.outbound.flush(&self.source) {
            Ok(written) => {
                self.traffic.sent += written as u64;
                if written > 0 && matches!(self.phase, Phase::Draining { .. }) {
                    self.deadline = cx.system.deadline(DRAIN);
                }
            }
            Err(errno) => self.fail(errno),
        }
        if self.outbound.len() <= self.options().low_watermark {
            self.wake_writers(cx);
        }
        if !self.outbound.is_empty() {
            return Fate::Keep;
        }
        if std::mem::take(&mut self.flags.shut_after_flush)
            && let Err(errno) = self.source.shutdown(Shutdown::Write)
        {
            self.fail(errno);
        }
        self.finish_drain(cx)
    }

    pub(super) fn wake_writers(&mut self, cx: &mut Cx<'_, H>) {
        let Some(attached) = &mut self.attached else { return };
        for (_, waiter) in attached.writers.drain(..) {
            cx.sink.emit(Event::Wake(waiter));
        }
    }

    /// Closes one side or both. Queued output leaves first.
    pub(crate) fn shutdown(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        how: Shutdown,
    ) -> Result<(), Error> {
        self.claim(cx, process);
        if self.phase != Phase::Running {
            return Err(Error::Closed);
        }
        if how != Shutdown::Read {
            self.flags.write_shut = true;
            if !self.outbound.is_empty() {
                self.flags.shut_after_flush = true;
                if how == Shutdown::Write {
                    return Ok(());
                }
                return self.source.shutdown(Shutdown::Read).map_err(Error::Os);
            }
        }
        self.source.shutdown(how).map_err(Error::Os)
    }
}
