//! A connection of another node.

use super::requests;
use crate::control::Control;
use megaphone_proto::dist::{Event, Failure, Local, Peer};
use megaphone_proto::time::Time;
use mio::net::TcpStream;
use rustix::net::sockopt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of one read.
const READ: usize = 16 * 1024;

/// A machine that is gone is noticed after so long without traffic, and after as long when it does not acknowledge.
const GONE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    address: SocketAddr,
    peer: Peer,
    /// What it says that it is called.
    name: Box<str>,
    /// Received, and not a whole message yet.
    input: Vec<u8>,
    /// There may be more to be read.
    is_readable: bool,
}

/// What came of a step.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing more until there is news of the socket.
    Rest,
    /// There may be more to do at once.
    More,
    /// It has the cookie.
    Connected,
    /// The end, and why if it was not the peer's wish.
    Over(Option<Failure>),
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        address: SocketAddr,
        local: Arc<Local>,
        challenge: u32,
        now: Time,
    ) -> Self {
        prepare(&socket).unwrap_or_else(|error| tracing::debug!(%error, "no keepalive for an Erlang node"));
        let peer = Peer::new(local, challenge, now);
        Self { socket, address, peer, name: "".into(), input: Vec::new(), is_readable: true }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) const fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    pub(super) const fn is_connected(&self) -> bool {
        self.peer.is_connected()
    }

    pub(super) const fn due(&self) -> Time {
        self.peer.poll_timeout()
    }

    /// There is news of the socket.
    pub(super) const fn wake(&mut self) {
        self.is_readable = true;
    }

    /// Handles one event at most, so that nobody waits for more than one request of another. `is_known`: whether a node of a name is
    /// connected.
    pub(super) fn step(&mut self, now: Time, is_known: impl Fn(&str) -> bool, control: &dyn Control) -> Step {
        let was_full = !self.peer.wants_input();
        let step = match self.peer.handle_timeout(now) {
            Ok(()) => self.advance(is_known, control),
            Err(failure) => Step::Over(Some(failure)),
        };
        match self.flush(now) {
            Err(_) => Step::Over(None),
            Ok(()) => match (step, self.peer.wants_input()) {
                // Goes on when the socket takes output.
                (Step::More, false) => Step::Rest,
                (Step::Rest, true) if was_full => Step::More,
                (step, _) => step,
            },
        }
    }

    fn advance(&mut self, is_known: impl Fn(&str) -> bool, control: &dyn Control) -> Step {
        let mut input = self.input.as_slice();
        let handled = match self.peer.handle_input(&mut input) {
            Err(failure) => return Step::Over(Some(failure)),
            Ok(None) => None,
            Ok(Some(Event::Introduced(name))) => {
                self.name = name.into();
                self.peer.admit(is_known(name));
                Some(Step::More)
            }
            Ok(Some(Event::Connected)) => Some(Step::Connected),
            Ok(Some(Event::Call { caller, request })) => {
                self.peer.reply(caller, |writer| requests::answer(request, control, writer));
                Some(Step::More)
            }
        };
        let left = input.len();
        self.input.drain(..self.input.len() - left);
        handled.unwrap_or_else(|| self.receive())
    }

    fn receive(&mut self) -> Step {
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        if !self.is_readable || !self.peer.wants_input() {
            return Step::Rest;
        }
        let mut buffer = [0; READ];
        match self.socket.read(&mut buffer) {
            Ok(0) => Step::Over(None),
            Ok(bytes) => {
                self.input.extend_from_slice(&buffer[..bytes]);
                Step::More
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_readable = false;
                Step::Rest
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Step::More,
            Err(_) => Step::Over(None),
        }
    }

    /// Writes what the socket takes.
    fn flush(&mut self, now: Time) -> io::Result<()> {
        while !self.peer.poll_transmit().is_empty() {
            match self.socket.write(self.peer.poll_transmit()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => self.peer.written(bytes, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Requests are short, and a peer's ticks come at an interval that only it knows: so the kernel looks whether it is there.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, GONE)?;
    sockopt::set_tcp_keepintvl(socket, GONE / 6)?;
    sockopt::set_tcp_user_timeout(socket, u32::try_from(GONE.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}
