//! WebSocket peers that send empty pongs without pause and never open an XMPP stream. A pong needs no answer
//! (RFC 6455, section 5.5.3), so nothing but the server's own reading holds them back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::client::ws::{self, WebSocket};
use crate::client::{Failure, Random};
use crate::generator::io::{Gone, Io, Scenario};
use crate::sys;

/// A flood in progress. Dropping it ends it too, without waiting.
pub(crate) struct FloodRun {
    counts: Arc<Counts>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Handshakes that are done.
    begun: AtomicU64,
    /// Pongs that the kernel has taken.
    pongs: AtomicU64,
    /// Connections that the server ended or refused.
    closed: AtomicU64,
    stop: AtomicBool,
}

/// The peers, as a [`Scenario`].
struct Flood<'a> {
    target: SocketAddr,
    host: String,
    peers: Vec<Peer>,
    pongs: Vec<u8>,
    random: Random,
    counts: &'a Counts,
}

enum Peer {
    /// To be connected at this time.
    Away(Instant),
    Shaking(WebSocket),
    Flooding,
}

/// Pongs in one write, of 6 bytes each.
const PONGS: u64 = 2000;
/// What a peer that was closed waits before it comes again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long peers may take to connect.
const PATIENCE: Duration = Duration::from_secs(10);

impl FloodRun {
    /// Starts `peers` of `host` at `target` and waits until as many handshakes are done.
    ///
    /// # Errors
    /// When they do not within 10 s.
    pub(crate) fn start(target: SocketAddr, host: &str, peers: usize) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let (shared, host) = (Arc::clone(&counts), host.to_owned());
        let thread = thread::Builder::new().name("flood".to_owned()).spawn(move || {
            sys::own_descriptor_table().context("a descriptor table for a worker")?;
            let mut io = Io::new(peers, 0)?;
            io.run(&mut Flood::new(target, host, peers, &shared))?;
            Ok(())
        })?;
        let run = Self { counts, thread: Some(thread) };
        let deadline = Instant::now() + PATIENCE;
        while run.counts.begun.load(Relaxed) < peers as u64 {
            if Instant::now() > deadline {
                bail!("only {} of {peers} peers can begin to flood", run.counts.begun.load(Relaxed));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(run)
    }

    /// Pongs sent so far.
    pub(crate) fn pongs(&self) -> u64 {
        self.counts.pongs.load(Relaxed)
    }

    /// Connections that the server ended so far. Their peers have come again.
    pub(crate) fn closed(&self) -> u64 {
        self.counts.closed.load(Relaxed)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the worker failed as a whole.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.counts.stop.store(true, Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| anyhow!("a worker panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for FloodRun {
    fn drop(&mut self) {
        self.counts.stop.store(true, Relaxed);
    }
}

impl<'a> Flood<'a> {
    fn new(target: SocketAddr, host: String, peers: usize, counts: &'a Counts) -> Self {
        let now = Instant::now();
        let mut random = Random::new(1);
        let mut pongs = Vec::new();
        (0..PONGS).for_each(|_| ws::pong(&[], &mut random, &mut pongs));
        let peers = std::iter::repeat_with(|| Peer::Away(now)).take(peers).collect();
        Self { target, host, peers, pongs, random, counts }
    }

    fn lose(&mut self, io: &mut Io, lane: usize) {
        io.close(lane);
        self.peers[lane] = Peer::Away(Instant::now() + AGAIN);
        self.counts.closed.fetch_add(1, Relaxed);
    }

    fn shaken(&mut self, lane: usize, bytes: &[u8]) -> Result<usize, Failure> {
        let Peer::Shaking(socket) = &mut self.peers[lane] else { return Ok(bytes.len()) };
        if socket.shaken(bytes)?.is_none() {
            return Ok(0);
        }
        self.peers[lane] = Peer::Flooding;
        self.counts.begun.fetch_add(1, Relaxed);
        Ok(bytes.len())
    }
}

impl Scenario for Flood<'_> {
    fn connected(&mut self, io: &mut Io, lane: usize) {
        let (mut socket, mut out) = (WebSocket::default(), Vec::new());
        socket.shake(&self.host, "/ws", &mut self.random, &mut out);
        self.peers[lane] = Peer::Shaking(socket);
        io.send(lane, &out);
    }

    /// What the server says behind the handshake is of no interest.
    fn received(&mut self, io: &mut Io, lane: usize, bytes: &[u8]) -> usize {
        self.shaken(lane, bytes).unwrap_or_else(|_| {
            self.lose(io, lane);
            bytes.len()
        })
    }

    fn closed(&mut self, io: &mut Io, lane: usize, _why: Gone) {
        self.lose(io, lane);
    }

    fn turn(&mut self, io: &mut Io, now: Instant) -> Option<Instant> {
        if self.counts.stop.load(Relaxed) {
            return None;
        }
        let mut next = now + AGAIN;
        for lane in 0..self.peers.len() {
            match self.peers[lane] {
                Peer::Away(again) if again <= now => {
                    // Until the handshake begins it must not be connected twice.
                    self.peers[lane] = Peer::Shaking(WebSocket::default());
                    io.open(lane, self.target);
                }
                Peer::Flooding if io.is_drained(lane) => {
                    io.send(lane, &self.pongs);
                    self.counts.pongs.fetch_add(PONGS, Relaxed);
                    next = now;
                }
                _ => {}
            }
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    /// Answers a handshake and says what came then, up to `length` bytes; then closes the connection.
    fn serve(mut stream: TcpStream, length: usize) -> Vec<u8> {
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            said.push(byte[0]);
        }
        let said = String::from_utf8(said).unwrap();
        let key = said.split("Sec-WebSocket-Key: ").nth(1).unwrap().split('\r').next().unwrap();
        let accept = ws::accept(key);
        write!(stream, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").unwrap();
        let mut sent = vec![0; length];
        stream.read_exact(&mut sent).unwrap();
        sent
    }

    #[test]
    fn peers_send_masked_empty_pongs_and_come_again_when_they_are_closed() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let next = || serve(listener.accept().unwrap().0, 60_000);
            [next(), next()]
        });
        let run = FloodRun::start(address, "localhost", 1).unwrap();
        for sent in server.join().unwrap() {
            assert!(sent.chunks(6).all(|pong| pong[..2] == [0x8a, 0x80]));
        }
        assert!(run.pongs() >= 20_000 && run.closed() >= 1, "{} {}", run.pongs(), run.closed());
        run.finish().unwrap();
    }
}
