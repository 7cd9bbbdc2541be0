//! The accepting end of the handshake, version 6. Messages have two bytes of length before them.

use super::error::Failure;
use super::flags;
use md5::{Digest as _, Md5};
use std::fmt;

/// Bytes of the longest message: a name of a node, with what is around it.
const MAX_MESSAGE: usize = 512;

/// Bytes of the longest name of a node.
const MAX_NAME: usize = 255;

/// This node.
#[derive(Clone, PartialEq, Eq)]
pub struct Local {
    /// Its name, with the host.
    pub name: Box<str>,
    /// What peers have to know. Not shown by `Debug`.
    pub cookie: Box<str>,
    /// Tells its processes from those of an earlier node of its name. Not 0.
    pub creation: u32,
    /// The process that answers calls, and has to be asked for by this name.
    pub process: &'static str,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Name,
    /// The owner's answer, whether it is connected.
    Admission,
    /// The peer's, whether it wants another connection in place of the one there is.
    Choice,
    Proof,
}

/// What came of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress<'a> {
    /// It says that this is its name. No more is known.
    Introduced(&'a str),
    Going,
    /// It has the cookie, and is told that we have.
    Done,
}

#[derive(Debug)]
pub(super) struct Handshake {
    awaited: Awaited,
    challenge: u32,
}

impl Handshake {
    pub(super) const fn new(challenge: u32) -> Self {
        Self { awaited: Awaited::Name, challenge }
    }

    /// None until a message is whole, or while the owner has to say something.
    pub(super) fn take<'a>(
        &mut self,
        input: &mut &'a [u8],
        local: &Local,
        out: &mut Vec<u8>,
    ) -> Result<Option<Progress<'a>>, Failure> {
        if self.awaited == Awaited::Admission {
            return Ok(None);
        }
        let Some(message) = message(input)? else { return Ok(None) };
        match self.awaited {
            Awaited::Name => self.name(message, out).map(Some),
            Awaited::Choice => self.choice(message, local, out).map(Some),
            _ => self.proof(message, local, out).map(Some),
        }
    }

    /// After [`Progress::Introduced`].
    pub(super) fn admit(&mut self, is_connected: bool, local: &Local, out: &mut Vec<u8>) {
        if self.awaited != Awaited::Admission {
            return;
        }
        if is_connected {
            self.awaited = Awaited::Choice;
            write(out, &[b"salive"]);
        } else {
            write(out, &[b"sok"]);
            self.challenge(local, out);
        }
    }

    fn name<'a>(&mut self, message: &'a [u8], out: &mut Vec<u8>) -> Result<Progress<'a>, Failure> {
        let Some((flags, name)) = introduction(message) else {
            return Err(refuse(Failure::Malformed("no name at first"), out));
        };
        let flags = flags::expand(flags);
        if flags & flags::NAME_ME != 0 || flags & flags::REQUIRED != flags::REQUIRED {
            return Err(refuse(Failure::Unsupported, out));
        }
        if !is_name(name) {
            return Err(refuse(Failure::Malformed("a name that is none"), out));
        }
        self.awaited = Awaited::Admission;
        Ok(Progress::Introduced(name))
    }

    fn choice(
        &mut self,
        message: &[u8],
        local: &Local,
        out: &mut Vec<u8>,
    ) -> Result<Progress<'static>, Failure> {
        match message {
            b"strue" => self.challenge(local, out),
            b"sfalse" => return Err(Failure::Declined),
            _ => return Err(Failure::Malformed("no choice of a connection")),
        }
        Ok(Progress::Going)
    }

    fn challenge(&mut self, local: &Local, out: &mut Vec<u8>) {
        self.awaited = Awaited::Proof;
        let length = u16::try_from(local.name.len()).unwrap_or(u16::MAX);
        let (flags, creation) = (flags::OURS.to_be_bytes(), local.creation.to_be_bytes());
        let challenge = self.challenge.to_be_bytes();
        write(out, &[b"N", &flags, &challenge, &creation, &length.to_be_bytes(), local.name.as_bytes()]);
    }

    fn proof(&self, message: &[u8], local: &Local, out: &mut Vec<u8>) -> Result<Progress<'static>, Failure> {
        let parts = message.split_first_chunk().filter(|(tag, _)| *tag == b"r");
        let parts = parts.and_then(|(_, rest)| rest.split_first_chunk());
        let Some((theirs, proof)) = parts.filter(|(_, proof)| proof.len() == 16) else {
            return Err(Failure::Malformed("no answer to the challenge"));
        };
        if !is_same(proof, &digest(&local.cookie, self.challenge)) {
            return Err(Failure::WrongCookie);
        }
        write(out, &[b"a", &digest(&local.cookie, u32::from_be_bytes(*theirs))]);
        Ok(Progress::Done)
    }
}

/// The message at the front, when it is whole.
fn message<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Failure> {
    let Some((length, rest)) = input.split_first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > MAX_MESSAGE {
        return Err(Failure::Malformed("a message that is too long"));
    }
    let Some((message, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    *input = rest;
    Ok(Some(message))
}

/// Flags and name. Nodes before OTP 23 say `n`, and nodes since then say it only to those.
fn introduction(message: &[u8]) -> Option<(u64, &str)> {
    let (_, rest) = message.split_first_chunk().filter(|(tag, _)| *tag == b"N")?;
    let (flags, rest) = rest.split_first_chunk()?;
    let (_creation, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk()?;
    let name = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
    Some((u64::from_be_bytes(*flags), std::str::from_utf8(name).ok()?))
}

fn is_name(name: &str) -> bool {
    let has_parts = name.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    has_parts && name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

fn refuse(failure: Failure, out: &mut Vec<u8>) -> Failure {
    write(out, &[b"snot_allowed"]);
    failure
}

fn write(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// What proves the cookie for a challenge.
pub(super) fn digest(cookie: &str, challenge: u32) -> [u8; 16] {
    Md5::new().chain_update(cookie).chain_update(challenge.to_string()).finalize().into()
}

/// Takes as long wherever they differ.
fn is_same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}
