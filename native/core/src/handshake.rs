//! A connection to a link listener that is not a link's yet. It costs its descriptor, and this, until the handshake's deadline.

use crate::host::Host;
use crate::listener::Listener;
use megaphone_proto::link::{Acceptor, Config, Failure, Refusal, Request};
use megaphone_proto::time::Time;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use std::net::SocketAddr;
use std::sync::Arc;

pub(crate) struct Handshake<H: Host> {
    pub(crate) listener: Arc<Listener<H>>,
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Option<SocketAddr>,
    /// In the order of their beginning.
    pub(crate) number: u64,
    machine: Acceptor,
    /// What the socket did not take yet.
    out: Vec<u8>,
    has_said_something: bool,
}

/// What the peer's bytes came to.
pub(crate) enum Progress {
    /// More are to come.
    None,
    /// It has left; the log is told where there is a reason.
    Failed(Option<Failure>),
    /// It knows the secret. What it has sent behind that is the link's.
    Asked(Request, Vec<u8>),
}

/// One who knows the secret, on its way to the reactor of its link.
pub(crate) struct Arrival<H: Host> {
    pub(crate) handshake: Handshake<H>,
    pub(crate) request: Request,
    /// What it has sent behind the handshake.
    pub(crate) rest: Vec<u8>,
}

impl<H: Host> Arrival<H> {
    /// The connection is not wanted: says so, and closes.
    pub(crate) fn refuse(self, refusal: Refusal) -> Result<(), Refusal> {
        self.handshake.refuse(refusal);
        Err(refusal)
    }
}

impl<H: Host> Handshake<H> {
    pub(crate) fn new(
        (listener, config): (Arc<Listener<H>>, Arc<Config>),
        (socket, number): (OwnedFd, u64),
        nonce: [u8; 32],
        now: Time,
    ) -> Self {
        // A unix socket knows no delay and no address.
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
        let peer = rustix::net::getpeername(&socket).ok().flatten();
        Self {
            listener,
            peer: peer.and_then(|peer| SocketAddr::try_from(peer).ok()),
            machine: Acceptor::new(config, nonce, b"", now),
            socket,
            number,
            out: Vec::new(),
            has_said_something: false,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.machine.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) -> Result<(), Failure> {
        self.machine.handle_timeout(now)
    }

    /// The socket may have bytes, or take some. `buffer` is lent for reading.
    pub(crate) fn advance(&mut self, buffer: &mut [u8]) -> Progress {
        self.flush();
        loop {
            let input = match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(0) => return Progress::Failed(self.has_said_something.then_some(Failure::NotALink)),
                Ok(n) => &buffer[..n],
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Progress::None,
                Err(_) => return Progress::Failed(None),
            };
            self.has_said_something = true;
            let mut rest = input;
            // Takes all, up to what the handshake comes to: so this ends.
            let result = self.machine.handle_input(&mut rest);
            self.flush();
            match result {
                Ok(None) => {}
                Ok(Some(request)) => return Progress::Asked(request, rest.to_vec()),
                Err(failure) => return Progress::Failed(Some(failure)),
            }
        }
    }

    /// The connection is the link's, of which so much was received: none for a new one. What is to be written first.
    pub(crate) fn welcome(mut self, received: Option<u64>) -> (OwnedFd, Vec<u8>) {
        self.machine.welcome(received);
        self.machine.poll_transmit(&mut self.out);
        (self.socket, self.out)
    }

    fn refuse(mut self, refusal: Refusal) {
        self.machine.refuse(refusal);
        self.flush();
        // It is as good as closed.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
    }

    /// A new socket takes these few bytes. What it does not take, the peer does not get before it makes room.
    fn flush(&mut self) {
        self.machine.poll_transmit(&mut self.out);
        // A failure shows where the socket is read.
        if !self.out.is_empty()
            && let Ok(n) = rustix::net::send(&self.socket, &self.out, SendFlags::NOSIGNAL)
        {
            self.out.drain(..n);
        }
    }
}
