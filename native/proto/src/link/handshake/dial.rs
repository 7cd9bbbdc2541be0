//! The ECM's end of a handshake.

use super::Nonce;
use super::course::Course;
use super::message::{self, AUTH, CHALLENGE, Fields, HELLO, MAGIC, REFUSE, WELCOME};
use crate::link::secret::{PROOF, Prover, Transcript};
use crate::link::{Config, Failure, LinkId, Params, Refusal, VERSION};
use crate::time::Time;
use std::sync::Arc;

/// The node has proved that it knows the secret, and takes the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The node's name.
    pub name: String,
    /// Its settings.
    pub params: Params,
    /// What it has received of the link; none for a new link.
    pub received: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Challenge,
    Welcome,
}

/// What an ECM wants of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Dial<'a> {
    /// The node's name, empty for any.
    pub to: &'a str,
    /// The link.
    pub link: LinkId,
    /// 0 for a new link; for one to be resumed, [`Link::next_attempt`](crate::link::Link::next_attempt).
    pub attempt: u32,
    /// What was received of the link: [`Link::received`](crate::link::Link::received).
    pub received: u64,
    /// Of this connection alone.
    pub nonce: Nonce,
    /// A TLS exporter's value for this connection, empty without TLS.
    pub binding: &'a [u8],
}

/// The ECM's end of a connection's handshake. To be called as [`Acceptor`](super::Acceptor) is.
pub struct Dialer {
    config: Arc<Config>,
    transcript: Transcript,
    course: Course,
    phase: Phase,
    to: String,
    is_new: bool,
}

impl Dialer {
    /// A connection was made.
    pub fn new(config: Arc<Config>, dial: Dial<'_>, now: Time) -> Self {
        let Dial { to, link, attempt, received, nonce, binding } = dial;
        let mut body = [VERSION.to_be_bytes(), VERSION.to_be_bytes()].concat();
        body.extend_from_slice(&nonce);
        body.extend_from_slice(&link.0);
        body.extend_from_slice(&attempt.to_be_bytes());
        body.extend_from_slice(&received.to_be_bytes());
        message::push_name(&config.name, &mut body);
        message::push_name(to, &mut body);
        let mut course = Course::new(now.after(config.handshake_timeout));
        course.out.extend_from_slice(MAGIC);
        message::write(HELLO, &body, &mut course.out);
        let mut transcript = Transcript::new(config.secret.clone(), binding);
        transcript.add(&course.out);
        let (to, is_new) = (to.to_owned(), attempt == 0);
        Self { config, transcript, course, phase: Phase::Challenge, to, is_new }
    }

    /// Takes bytes off the front of `input` up to the end of the handshake.
    pub fn handle_input(&mut self, input: &mut &[u8]) -> Result<Option<Welcome>, Failure> {
        let result = self.take(input);
        if !matches!(result, Ok(None)) {
            self.course.end();
        }
        result
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come; earlier does no harm.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), Failure> {
        self.course.handle_timeout(now)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Time> {
        self.course.poll_timeout()
    }

    /// Appends what is to be written. Whether there was any.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>) -> bool {
        self.course.poll_transmit(out)
    }

    fn take(&mut self, input: &mut &[u8]) -> Result<Option<Welcome>, Failure> {
        loop {
            let wanted = match self.phase {
                _ if self.course.is_over() => return Ok(None),
                Phase::Challenge => CHALLENGE,
                Phase::Welcome => WELCOME,
            };
            let Some(message) = self.course.gatherer.take(input, b"", &[wanted, REFUSE])? else {
                return Ok(None);
            };
            match message.first() {
                Some(&REFUSE) => return Err(refused(&message)),
                Some(&CHALLENGE) => self.prove(&message)?,
                _ => return self.read_welcome(&message).map(Some),
            }
        }
    }

    fn prove(&mut self, challenge: &[u8]) -> Result<(), Failure> {
        let mut fields = Fields::of(challenge, b"");
        let version = fields.array().map(u16::from_be_bytes).ok_or(Failure::NotALink)?;
        if version != VERSION {
            return Err(Failure::Version(version, version));
        }
        fields.array::<32>().ok_or(Failure::NotALink)?;
        self.transcript.add(challenge);
        let mut body = Vec::with_capacity(Params::LEN + PROOF);
        self.config.params().encode(&mut body);
        body.resize(Params::LEN + PROOF, 0);
        let mut auth = Vec::new();
        message::write(AUTH, &body, &mut auth);
        let proof_at = auth.len() - PROOF;
        self.transcript.add(&auth[..proof_at]);
        auth[proof_at..].copy_from_slice(&self.transcript.proof(Prover::Ecm));
        self.transcript.add(&auth[proof_at..]);
        self.course.out.append(&mut auth);
        self.phase = Phase::Welcome;
        Ok(())
    }

    fn read_welcome(&mut self, welcome: &[u8]) -> Result<Welcome, Failure> {
        let (said, proof) = message::split_proof(welcome).ok_or(Failure::NotALink)?;
        self.transcript.add(said);
        if !self.transcript.is_proof(Prover::Node, proof) {
            return Err(Failure::NotAuthenticated);
        }
        let mut fields = Fields::of(said, b"");
        let [status] = fields.array().ok_or(Failure::NotALink)?;
        if let Some(refusal) = Refusal::of_code(status) {
            return Err(Failure::Refused(refusal));
        }
        let received = u64::from_be_bytes(fields.array().ok_or(Failure::NotALink)?);
        let params = fields.array().and_then(|bytes| Params::decode(&bytes)).ok_or(Failure::BadParams)?;
        let name = fields.name().ok_or(Failure::NotALink)?;
        if !self.to.is_empty() && name != self.to {
            return Err(Failure::Refused(Refusal::WrongNode));
        }
        if status != u8::from(!self.is_new) {
            return Err(Failure::NotALink);
        }
        Ok(Welcome { name, params, received: (status == 1).then_some(received) })
    }
}

/// Anybody may have said it: it is no reason to give up a link.
fn refused(message: &[u8]) -> Failure {
    match Fields::of(message, b"").array() {
        Some([1, a, b, c, d]) => Failure::Version(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        Some([2, ..]) => Failure::NotBelieved,
        _ => Failure::NotALink,
    }
}
