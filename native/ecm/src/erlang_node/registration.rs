//! The entry at epmd, by which other nodes find the port. It lasts as long as the connection to epmd.

use megaphone_proto::dist::epmd::{self, Answer};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between an attempt that failed and the next.
const RETRY: Duration = Duration::from_secs(1);

/// For epmd to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Registration {
    epmd: SocketAddr,
    token: Token,
    request: Vec<u8>,
    state: State,
    /// What was logged last, so that it is said once.
    said: Option<String>,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Asking { socket: TcpStream, written: usize, received: Vec<u8>, due: Instant },
    Registered { socket: TcpStream },
}

impl Registration {
    /// `name` is without its host. Begins at the first [`step`](Self::step).
    pub(super) fn new(epmd: SocketAddr, token: Token, name: &str, port: u16) -> Self {
        let request = epmd::register(name, port);
        Self { epmd, token, request, state: State::Waiting { until: Instant::now() }, said: None }
    }

    /// When a step is due without news of the socket.
    pub(super) const fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting { until: due } | State::Asking { due, .. } => Some(*due),
            State::Registered { .. } => None,
        }
    }

    /// After news of its socket, and when it is due.
    pub(super) fn step(&mut self, registry: &Registry) {
        match self.advance(registry) {
            Ok(Some(State::Registered { socket })) => {
                tracing::info!(epmd = %self.epmd, "registered with epmd");
                self.said = None;
                self.state = State::Registered { socket };
                // Its end may have come with the answer, and is not told again.
                self.step(registry);
            }
            Ok(Some(state)) => self.state = state,
            Ok(None) => {}
            Err(problem) => self.fail(problem),
        }
    }

    fn advance(&mut self, registry: &Registry) -> Result<Option<State>, String> {
        match &mut self.state {
            State::Waiting { until } if Instant::now() < *until => Ok(None),
            State::Waiting { .. } => {
                self.connect(registry).map(Some).map_err(|error| self.unreachable(&error))
            }
            State::Asking { socket, written, received, due } => {
                let asked = ask(socket, &self.request, written, received);
                let late = Instant::now() >= *due;
                match asked.map_err(|error| self.unreachable(&error))? {
                    Answer::Incomplete if late => Err("epmd does not answer: restart it".into()),
                    Answer::Incomplete => Ok(None),
                    Answer::Registered => Ok(self.registered()),
                    Answer::Refused => {
                        Err("epmd has another node of this name: end that, or change the name".into())
                    }
                    Answer::Unknown => {
                        Err(format!("what listens on {} is no epmd: see ERL_EPMD_PORT", self.epmd))
                    }
                }
            }
            State::Registered { socket } => {
                is_open(socket).then_some(None).ok_or_else(|| "epmd ended".into())
            }
        }
    }

    fn connect(&self, registry: &Registry) -> io::Result<State> {
        let mut socket = TcpStream::connect(self.epmd)?;
        registry.register(&mut socket, self.token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(State::Asking { socket, written: 0, received: Vec::new(), due: Instant::now() + PATIENCE })
    }

    fn registered(&mut self) -> Option<State> {
        let until = Instant::now();
        match std::mem::replace(&mut self.state, State::Waiting { until }) {
            State::Asking { socket, .. } => Some(State::Registered { socket }),
            other => Some(other),
        }
    }

    fn unreachable(&self, error: &io::Error) -> String {
        format!("epmd can't be reached at {} ({error}): start it, with epmd -daemon", self.epmd)
    }

    /// Closes the connection, which ends the entry, and tries again.
    fn fail(&mut self, problem: String) {
        if self.said.as_ref() != Some(&problem) {
            tracing::warn!("Erlang nodes do not find this one: {problem}. Trying again every second");
            self.said = Some(problem);
        }
        self.state = State::Waiting { until: Instant::now() + RETRY };
    }
}

/// Writes what is left of the request, and reads what is there of the answer.
fn ask(
    socket: &mut TcpStream,
    request: &[u8],
    written: &mut usize,
    received: &mut Vec<u8>,
) -> io::Result<Answer> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    while *written < request.len() {
        match socket.write(&request[*written..]) {
            Ok(bytes) => *written += bytes,
            Err(error) if is_pending(&error) => return Ok(Answer::Incomplete),
            Err(error) => return Err(error),
        }
    }
    let mut buffer = [0; epmd::MAX_RESPONSE + 1];
    // News is told once: until it is read, there is none.
    while epmd::answer(received) == Answer::Incomplete {
        match socket.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::ConnectionAborted.into()),
            Ok(bytes) => received.extend_from_slice(&buffer[..bytes]),
            Err(error) if is_pending(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(epmd::answer(received))
}

/// epmd says nothing more: whatever can be read is its end.
fn is_open(socket: &mut TcpStream) -> bool {
    matches!(socket.read(&mut [0; 16]), Err(error) if is_pending(&error))
}

/// It will be told when there is more, or when the connection is made. No call of a socket that does not wait is interrupted.
fn is_pending(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::net::TcpListener;

    fn turn(poll: &mut Poll, registration: &mut Registration) {
        let mut events = Events::with_capacity(4);
        let timeout = registration.due().map(|due| due.saturating_duration_since(Instant::now()));
        poll.poll(&mut events, timeout).unwrap();
        registration.step(poll.registry());
    }

    #[test]
    fn an_end_that_comes_with_the_answer_is_noticed() {
        let epmd = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut poll = Poll::new().unwrap();
        let mut registration = Registration::new(epmd.local_addr().unwrap(), Token(0), "ecm", 5000);
        registration.step(poll.registry());
        let (mut asked, _) = epmd.accept().unwrap();
        while matches!(&registration.state, State::Asking { written: 0, .. }) {
            turn(&mut poll, &mut registration);
        }
        asked.read_exact(&mut vec![0; registration.request.len()]).unwrap();
        asked.write_all(b"v\0\0\0\0\x01").unwrap();
        drop(asked);
        // Both are there before it looks.
        while matches!(&registration.state, State::Asking { socket, .. } if socket.peek(&mut [0; 8]).is_err())
        {
        }
        while !matches!(registration.state, State::Waiting { .. }) {
            turn(&mut poll, &mut registration);
        }
        assert_eq!(registration.said.as_deref(), Some("epmd ended"));
    }
}
