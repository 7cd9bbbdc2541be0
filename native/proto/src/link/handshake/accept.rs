//! The node's end of a handshake.

use super::Nonce;
use super::course::Course;
use super::message::{self, AUTH, CHALLENGE, Fields, HELLO, MAGIC, REFUSE, WELCOME};
use crate::link::secret::{Prover, Transcript};
use crate::link::{Config, Failure, LinkId, Params, Refusal, VERSION};
use crate::time::Time;
use std::sync::Arc;

/// The ECM that has proved that it knows the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name. Links are known by it and their id.
    pub name: String,
    /// Its settings.
    pub params: Params,
}

/// What an authenticated ECM wants: to be answered by [`Acceptor::welcome`] or [`Acceptor::refuse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who it is.
    pub peer: Peer,
    /// The link.
    pub link: LinkId,
    /// 0 for a new link; else the number of the connection that resumes it, which grows.
    pub attempt: u32,
    /// What it has received of the link.
    pub received: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Hello,
    Auth,
    /// The owner is to answer.
    Asked,
}

/// The node's end of a connection's handshake.
///
/// Calling protocol: what was received goes to [`handle_input`](Self::handle_input), which takes bytes up to the end of
/// the handshake and no further; after each call [`poll_transmit`](Self::poll_transmit) is asked for what to write. When
/// there is a [`Request`] the owner looks for its link and answers, and writes. Then the connection's bytes, both ways, are
/// the [`Link`](crate::link::Link)'s. After a [`Failure`] what there is is written, and the connection closed.
///
/// Keeps at most 411 bytes of what the peer sends, and nothing of it is believed before the request.
pub struct Acceptor {
    config: Arc<Config>,
    nonce: Nonce,
    transcript: Transcript,
    course: Course,
    phase: Phase,
    hello: Option<(LinkId, u32, u64, String, String)>,
}

impl Acceptor {
    /// A connection was accepted. `binding`: a TLS exporter's value for this connection, empty without TLS.
    pub fn new(config: Arc<Config>, nonce: Nonce, binding: &[u8], now: Time) -> Self {
        Self {
            transcript: Transcript::new(config.secret.clone(), binding),
            course: Course::new(now.after(config.handshake_timeout)),
            config,
            nonce,
            phase: Phase::Hello,
            hello: None,
        }
    }

    /// Takes bytes off the front of `input` up to a request or failure.
    pub fn handle_input(&mut self, input: &mut &[u8]) -> Result<Option<Request>, Failure> {
        let result = self.take(input);
        if result.is_err() {
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

    /// The connection is the link's, of which so much was received: none for a new one.
    pub fn welcome(&mut self, received: Option<u64>) {
        self.answer(u8::from(received.is_some()), received.unwrap_or_default());
    }

    /// The connection is not wanted.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.answer(refusal.code(), 0);
    }

    fn take(&mut self, input: &mut &[u8]) -> Result<Option<Request>, Failure> {
        loop {
            let (magic, wanted): (&[u8], _) = match self.phase {
                _ if self.course.is_over() => return Ok(None),
                Phase::Hello => (MAGIC, HELLO),
                Phase::Auth => (b"", AUTH),
                Phase::Asked => return Ok(None),
            };
            let Some(message) = self.course.gatherer.take(input, magic, &[wanted])? else {
                return Ok(None);
            };
            if self.phase == Phase::Auth {
                return self.authenticate(&message);
            }
            self.challenge(&message)?;
        }
    }

    fn challenge(&mut self, hello: &[u8]) -> Result<(), Failure> {
        let mut fields = Fields::of(hello, MAGIC);
        let (lowest, highest) = versions(&mut fields).ok_or(Failure::NotALink)?;
        if !(lowest..=highest).contains(&VERSION) {
            let [a, b] = VERSION.to_be_bytes();
            message::write(REFUSE, &[1, a, b, a, b], &mut self.course.out);
            return Err(Failure::Version(lowest, highest));
        }
        self.hello = Some(read_hello(&mut fields).ok_or(Failure::NotALink)?);
        self.transcript.add(hello);
        let body = [&VERSION.to_be_bytes()[..], &self.nonce].concat();
        message::write(CHALLENGE, &body, &mut self.course.out);
        self.transcript.add(&self.course.out);
        self.phase = Phase::Auth;
        Ok(())
    }

    fn authenticate(&mut self, auth: &[u8]) -> Result<Option<Request>, Failure> {
        let (said, proof) = message::split_proof(auth).ok_or(Failure::NotALink)?;
        self.transcript.add(said);
        if !self.transcript.is_proof(Prover::Ecm, proof) {
            message::write(REFUSE, &[2, 0, 0, 0, 0], &mut self.course.out);
            return Err(Failure::NotAuthenticated);
        }
        self.transcript.add(proof);
        let params = Fields::of(said, b"").array().and_then(|bytes| Params::decode(&bytes));
        let params = params.ok_or(Failure::BadParams)?;
        let (link, attempt, received, name, to) = self.hello.take().ok_or(Failure::NotALink)?;
        self.phase = Phase::Asked;
        if !to.is_empty() && to != self.config.name {
            self.refuse(Refusal::WrongNode);
            return Err(Failure::Refused(Refusal::WrongNode));
        }
        Ok(Some(Request { peer: Peer { name, params }, link, attempt, received }))
    }

    fn answer(&mut self, status: u8, received: u64) {
        if self.phase != Phase::Asked || self.course.is_over() {
            return;
        }
        self.course.end();
        let mut body = vec![status];
        body.extend_from_slice(&received.to_be_bytes());
        self.config.params().encode(&mut body);
        message::push_name(&self.config.name, &mut body);
        let end = body.len();
        body.resize(end + crate::link::secret::PROOF, 0);
        let from = self.course.out.len();
        message::write(WELCOME, &body, &mut self.course.out);
        let proof_at = self.course.out.len() - crate::link::secret::PROOF;
        self.transcript.add(&self.course.out[from..proof_at]);
        self.course.out[proof_at..].copy_from_slice(&self.transcript.proof(Prover::Node));
    }
}

fn versions(fields: &mut Fields<'_>) -> Option<(u16, u16)> {
    let [a, b, c, d] = fields.array()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// What a later version adds lies behind, and is passed over.
fn read_hello(fields: &mut Fields<'_>) -> Option<(LinkId, u32, u64, String, String)> {
    fields.array::<32>()?;
    let link = LinkId(fields.array()?);
    let attempt = u32::from_be_bytes(fields.array()?);
    let received = u64::from_be_bytes(fields.array()?);
    let name = fields.name().filter(|name| !name.is_empty())?;
    Some((link, attempt, received, name, fields.name()?))
}
