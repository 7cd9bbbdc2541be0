//! Output that the socket did not take at once.

use crate::source::Source;
use bytes::{Buf, BytesMut};
use rustix::io::Errno;

/// Queued output, oldest first. Nothing is allocated while it is empty.
#[derive(Default)]
pub(crate) struct Outbound {
    queue: Option<Box<BytesMut>>,
}

impl Outbound {
    pub(crate) fn len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_none()
    }

    /// Writes what the socket takes and keeps the rest. Returns how many bytes were written.
    pub(crate) fn write(&mut self, source: &Source, bytes: &[u8]) -> Result<usize, Errno> {
        let mut written = 0;
        if self.is_empty() {
            while written < bytes.len() {
                match source.write(&bytes[written..]) {
                    Ok(n) => written += n,
                    Err(Errno::AGAIN) => break,
                    Err(errno) => return Err(errno),
                }
            }
        }
        if written < bytes.len() {
            self.queue.get_or_insert_default().extend_from_slice(&bytes[written..]);
        }
        Ok(written)
    }

    /// Keeps bytes for the next [`flush`](Self::flush).
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        self.queue.get_or_insert_default().extend_from_slice(bytes);
    }

    /// Writes from the queue until it is empty or the socket takes no more.
    pub(crate) fn flush(&mut self, source: &Source) -> Result<usize, Errno> {
        let Some(queue) = &mut self.queue else { return Ok(0) };
        let mut written = 0;
        while !queue.is_empty() {
            match source.write(queue) {
                Ok(n) => {
                    queue.advance(n);
                    written += n;
                }
                Err(Errno::AGAIN) => return Ok(written),
                Err(errno) => return Err(errno),
            }
        }
        self.queue = None;
        Ok(written)
    }
}
