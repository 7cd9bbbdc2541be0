//! Messages of the handshake: type (1), length (2), body. Before the first comes [`MAGIC`].

use super::super::{Failure, MAX_NAME, secret::PROOF};

/// What a connection begins with.
pub(super) const MAGIC: &[u8; 8] = b"MGPHLINK";
/// Bytes of the longest body.
pub(super) const MAX_BODY: usize = 400;

pub(super) const HELLO: u8 = 0x81;
pub(super) const CHALLENGE: u8 = 0x82;
pub(super) const AUTH: u8 = 0x83;
pub(super) const WELCOME: u8 = 0x84;
pub(super) const REFUSE: u8 = 0x85;

const HEAD: usize = 3;

/// Gathers messages as they come. Holds no more than one, and nothing of one that is not wanted.
#[derive(Default)]
pub(super) struct Gatherer(Vec<u8>);

impl Gatherer {
    /// Takes bytes up to the end of the next message, whose type has to be one of `wanted`; behind `magic`.
    /// Gives all of it, magic and head included.
    pub(super) fn take(
        &mut self,
        input: &mut &[u8],
        magic: &[u8],
        wanted: &[u8],
    ) -> Result<Option<Vec<u8>>, Failure> {
        while let Some((byte, rest)) = input.split_first() {
            let at = self.0.len();
            let is_wanted = match at.checked_sub(magic.len()) {
                None => magic[at] == *byte,
                Some(0) => wanted.contains(byte),
                Some(_) => true,
            };
            if !is_wanted {
                return Err(Failure::NotALink);
            }
            *input = rest;
            self.0.push(*byte);
            if let Some(length) = self.length(magic.len())?
                && self.0.len() == magic.len() + HEAD + length
            {
                return Ok(Some(std::mem::take(&mut self.0)));
            }
        }
        Ok(None)
    }

    fn length(&self, from: usize) -> Result<Option<usize>, Failure> {
        let Some([_, a, b]) = self.0.get(from..).and_then(|bytes| bytes.first_chunk::<HEAD>()) else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([*a, *b]));
        if length > MAX_BODY { Err(Failure::NotALink) } else { Ok(Some(length)) }
    }
}

/// Appends a message.
pub(super) fn write(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&(body.len() as u16).to_be_bytes());
    out.extend_from_slice(body);
}

/// A whole message without its proof, and the proof.
pub(super) fn split_proof(message: &[u8]) -> Option<(&[u8], &[u8; PROOF])> {
    let (said, proof) = message.split_last_chunk::<PROOF>()?;
    (said.len() >= HEAD).then_some((said, proof))
}

/// Reads a body field by field.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8], magic: &[u8]) -> Self {
        Self(message.get(magic.len() + HEAD..).unwrap_or_default())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*bytes)
    }

    pub(super) fn name(&mut self) -> Option<String> {
        let [length] = self.array()?;
        let (bytes, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        let is_short = bytes.len() <= MAX_NAME;
        std::str::from_utf8(bytes).ok().filter(|_| is_short).map(str::to_owned)
    }
}

/// Appends a name, cut to its bound.
pub(super) fn push_name(name: &str, out: &mut Vec<u8>) {
    let bytes = &name.as_bytes()[..name.len().min(MAX_NAME)];
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}
