//! One quiet keep-alive connection that measures its round trips: a request now and then, never two at once.
//!
//! It blocks in a thread of its own, so that no other load of the generator makes it late.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;

use crate::client::http;
use crate::generator::latency;

/// A connection with its request.
pub(crate) struct Probe {
    stream: TcpStream,
    request: Vec<u8>,
    input: Vec<u8>,
}

/// An answer that takes longer is not waited for: it counts as this, and is the last.
const PATIENCE: Duration = Duration::from_secs(10);

impl Probe {
    /// Connects to `target`. `request` is a whole request.
    ///
    /// # Errors
    /// When the connection can't be made.
    pub(crate) fn connect(target: SocketAddr, request: Vec<u8>) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&target, PATIENCE).context("connecting a quiet client")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, request, input: Vec::new() })
    }

    /// Asks every `interval` for `long`; a request whose time comes before the last one is answered is not sent.
    /// Latencies count from sending.
    ///
    /// # Errors
    /// When the server closes the connection, or answers anything but 200.
    pub(crate) fn run(&mut self, interval: Duration, long: Duration) -> Result<Histogram<u64>> {
        let mut latencies = latency::histogram();
        let end = Instant::now() + long;
        let mut due = Instant::now();
        while due < end {
            sleep(due.saturating_duration_since(Instant::now()));
            let answered = self.ask()?;
            latency::record(&mut latencies, answered.unwrap_or(PATIENCE));
            if answered.is_none() {
                break;
            }
            let now = Instant::now();
            while due <= now {
                due += interval;
            }
        }
        Ok(latencies)
    }

    /// `None` when the answer does not come in time.
    fn ask(&mut self) -> Result<Option<Duration>> {
        let since = Instant::now();
        self.stream.write_all(&self.request).context("asking")?;
        self.input.clear();
        let mut part = [0; 4096];
        loop {
            let length = match self.stream.read(&mut part) {
                Ok(0) => bail!("the server closed a quiet connection"),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                other => other.context("waiting for an answer")?,
            };
            self.input.extend_from_slice(&part[..length]);
            match http::response(&self.input) {
                Ok(None) => {}
                Ok(Some(response)) if response.status == 200 => return Ok(Some(since.elapsed())),
                Ok(Some(response)) => bail!("a quiet client was answered {}", response.status),
                Err(failure) => bail!("a quiet client: {failure}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    /// A server that waits `delay` before each of so many answers, and then closes the connection.
    fn server(answers: usize, delay: Duration) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for _ in 0..answers {
                if stream.read(&mut [0; 64]).unwrap_or(0) == 0 {
                    return;
                }
                sleep(delay);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        });
        address
    }

    fn probe(server: SocketAddr) -> Probe {
        Probe::connect(server, b"GET / HTTP/1.1\r\n\r\n".to_vec()).unwrap()
    }

    #[test]
    fn a_slow_server_is_asked_less_often_and_never_twice_at_once() {
        let delay = Duration::from_millis(30);
        let mut probe = probe(server(usize::MAX, delay));
        let latencies = probe.run(Duration::from_millis(10), Duration::from_millis(200)).unwrap();
        assert!((1..=7).contains(&latencies.len()), "{}", latencies.len());
        assert!(latencies.min() >= 29_000_000, "{}", latencies.min());
    }

    #[test]
    fn a_server_that_goes_away_is_an_error() {
        let mut probe = probe(server(1, Duration::ZERO));
        let error = probe.run(Duration::from_millis(1), Duration::from_secs(3600)).unwrap_err();
        assert!(format!("{error:#}").contains("quiet") || format!("{error:#}").contains("ask"), "{error:#}");
    }
}
