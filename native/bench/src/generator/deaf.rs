//! HTTP clients that ask and ask, and never read an answer.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result};

/// Connections on which nothing is read. Dropping them closes them.
pub(crate) struct Deaf(Vec<TcpStream>);

/// What each of them asks at most.
const MOST: usize = 16 << 20;

impl Deaf {
    /// Connects `count` of them to `target`, and has each send `request` until nobody takes any more.
    ///
    /// # Errors
    /// When they can't connect.
    pub(crate) fn start(target: SocketAddr, count: usize, request: &[u8]) -> Result<Self> {
        let requests = request.repeat(64 * 1024 / request.len().max(1) + 1);
        let connect = |_| {
            let mut stream = TcpStream::connect(target).context("connecting a client that does not read")?;
            stream.set_nonblocking(true)?;
            ask(&mut stream, &requests);
            Ok(stream)
        };
        Ok(Self((0..count).map(connect).collect::<Result<Vec<TcpStream>>>()?))
    }

    /// Each asks again, where it is heard.
    pub(crate) fn ask(&mut self, request: &[u8]) {
        self.0.iter_mut().for_each(|stream| ask(stream, request));
    }
}

/// A part of a request may be left: then the rest of its answers are errors, which nobody reads either.
fn ask(stream: &mut TcpStream, requests: &[u8]) {
    let mut sent = 0;
    while sent < MOST {
        match stream.write(requests) {
            Ok(n) => sent += n,
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn they_ask_until_nobody_takes_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut deaf = Deaf::start(listener.local_addr().unwrap(), 2, b"ask").unwrap();
        assert_eq!(deaf.0.len(), 2);
        assert!(deaf.0[0].write(b"more").is_err());
        deaf.ask(b"and more");
    }
}
