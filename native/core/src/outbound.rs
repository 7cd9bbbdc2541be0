//! Output that the socket did not take at once.

use crate::carrier::Carrier;
use crate::waste;
use bytes::{Buf, Bytes, BytesMut};
use rustix::io::Errno;
use std::collections::VecDeque;

/// Bytes that one hold of a connection's lock may hand to the kernel: as many take some 50 microseconds.
pub(crate) const BYTES_A_HOLD: usize = 256 * 1024;

/// Queued output, oldest first. Nothing is allocated while it is empty.
#[derive(Default)]
pub(crate) struct Outbound {
    queue: Option<Box<Queue>>,
}

#[derive(Default)]
struct Queue {
    /// What was queued as a whole, or before that.
    chunks: VecDeque<Bytes>,
    /// What came in small pieces since.
    tail: BytesMut,
    len: usize,
}

impl Outbound {
    pub(crate) fn len(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.len)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_none()
    }

    /// Writes what the socket takes, at most [`BYTES_A_HOLD`], and keeps the rest. Returns how many bytes were written.
    /// Much goes through [`queue_chunk`](Self::queue_chunk), which does not copy.
    pub(crate) fn write(&mut self, carrier: &Carrier, bytes: &[u8]) -> Result<usize, Errno> {
        let mut written = 0;
        if self.is_empty() {
            while written < bytes.len().min(BYTES_A_HOLD) {
                match carrier.write(&bytes[written..bytes.len().min(BYTES_A_HOLD)]) {
                    Ok(n) => written += n,
                    Err(Errno::AGAIN) => break,
                    Err(errno) => return Err(errno),
                }
            }
        }
        if written < bytes.len() {
            self.queue(&bytes[written..]);
        }
        Ok(written)
    }

    /// Keeps bytes for the next [`flush`](Self::flush).
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let queue = self.queue.get_or_insert_default();
            queue.tail.extend_from_slice(bytes);
            queue.len += bytes.len();
        }
    }

    /// The same without a copy.
    pub(crate) fn queue_chunk(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            let queue = self.queue.get_or_insert_default();
            queue.len += bytes.len();
            if !queue.tail.is_empty() {
                queue.chunks.push_back(std::mem::take(&mut queue.tail).freeze());
            }
            queue.chunks.push_back(bytes);
        }
    }

    /// Writes from the queue until it is empty, the socket takes no more, or [`BYTES_A_HOLD`] were written: then the
    /// socket may take more, and no edge will say so.
    pub(crate) fn flush(&mut self, carrier: &Carrier) -> Result<usize, Errno> {
        let Some(queue) = &mut self.queue else { return Ok(0) };
        let mut written = 0;
        while queue.len > 0 && written < BYTES_A_HOLD {
            match carrier.write(queue.front(BYTES_A_HOLD - written)) {
                Ok(n) => {
                    queue.advance(n);
                    written += n;
                }
                Err(Errno::AGAIN) => return Ok(written),
                Err(errno) => return Err(errno),
            }
        }
        if queue.len == 0 {
            self.queue = None;
        }
        Ok(written)
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            waste::discard(queue.len, queue);
        }
    }
}

impl Queue {
    /// At most `most` bytes of the oldest piece.
    fn front(&self, most: usize) -> &[u8] {
        let front = self.chunks.front().map_or(&self.tail[..], |chunk| chunk);
        &front[..front.len().min(most)]
    }

    fn advance(&mut self, n: usize) {
        self.len -= n;
        match self.chunks.front_mut() {
            Some(chunk) if chunk.len() == n => drop(self.chunks.pop_front()),
            Some(chunk) => chunk.advance(n),
            None => self.tail.advance(n),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};

    fn pair() -> (Carrier, rustix::fd::OwnedFd) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        sockopt::set_socket_send_buffer_size(&ours, 8 * 1024 * 1024).unwrap();
        (Carrier::Socket(ours), theirs)
    }

    #[test]
    fn a_chunk_is_queued_without_a_copy_and_in_its_order() {
        let (carrier, theirs) = pair();
        let mut outbound = Outbound::default();
        let chunk = Bytes::from(vec![b'b'; 100_000]);
        outbound.queue(b"a");
        outbound.queue_chunk(chunk.clone());
        outbound.queue(b"c");
        let queue = outbound.queue.as_ref().unwrap();
        assert_eq!(queue.chunks.back().unwrap().as_ptr(), chunk.as_ptr());
        assert_eq!(outbound.len(), 100_002);
        assert_eq!(outbound.flush(&carrier), Ok(100_002));
        assert!(outbound.is_empty());
        let mut got = vec![0; 200_000];
        let mut n = 0;
        while n < 100_002 {
            n += rustix::io::read(&theirs, &mut got[n..]).unwrap();
        }
        assert_eq!((got[0], got[1], got[100_000], got[100_001]), (b'a', b'b', b'b', b'c'));
    }

    /// What holds a chunk's bytes tells where it was freed.
    struct Owner(Vec<u8>, std::sync::mpsc::Sender<std::thread::ThreadId>);

    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Owner {
        fn drop(&mut self) {
            self.1.send(std::thread::current().id()).unwrap();
        }
    }

    #[test]
    fn much_output_that_is_given_up_is_not_freed_by_who_gives_it_up() {
        let (sender, freed) = std::sync::mpsc::channel();
        for (bytes, is_freed_here) in [(1000, true), (1024 * 1024, false)] {
            let mut outbound = Outbound::default();
            outbound.queue_chunk(Bytes::from_owner(Owner(vec![0; bytes], sender.clone())));
            drop(outbound);
            assert_eq!(freed.recv().unwrap() == std::thread::current().id(), is_freed_here);
        }
    }

    #[test]
    fn one_call_hands_no_more_than_its_measure_to_the_kernel() {
        let (carrier, _theirs) = pair();
        let mut outbound = Outbound::default();
        outbound.queue_chunk(Bytes::from(vec![b'x'; 4 * BYTES_A_HOLD]));
        let written = outbound.flush(&carrier).unwrap();
        assert!(written <= BYTES_A_HOLD, "{written}");
        assert_eq!(outbound.len(), 4 * BYTES_A_HOLD - written);
        let mut outbound = Outbound::default();
        let (carrier, _theirs) = pair();
        let written = outbound.write(&carrier, &vec![b'x'; 2 * BYTES_A_HOLD]).unwrap();
        assert!(written <= BYTES_A_HOLD, "{written}");
    }
}
