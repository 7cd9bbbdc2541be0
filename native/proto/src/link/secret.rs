//! What both ends know, and the proofs of it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Bytes of a proof.
pub(super) const PROOF: usize = 32;

/// A secret that the ends of a link share. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

/// A secret of fewer than [`Secret::LEAST`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort;

impl Secret {
    /// Bytes of the shortest secret. Whoever can be taken for a node, or listens to a connection without TLS, can try
    /// secrets at home until one fits what was said: it must not be one that somebody would try.
    pub const LEAST: usize = 32;

    /// A secret, best of 32 bytes or more from a cryptographic source.
    pub fn new(bytes: &[u8]) -> Result<Self, TooShort> {
        if bytes.len() < Self::LEAST { Err(TooShort) } else { Ok(Self(bytes.into())) }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl std::fmt::Display for TooShort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a secret has to have 32 bytes at least")
    }
}

impl std::error::Error for TooShort {}

/// Whose proof it is. Labels differ in their first byte, so that no proof is ever one of the other end.
#[derive(Clone, Copy)]
pub(super) enum Prover {
    Ecm,
    Node,
}

/// All that was said in a handshake so far, and the secret.
pub(super) struct Transcript {
    secret: Secret,
    binding: Box<[u8]>,
    said: Sha256,
}

impl Transcript {
    /// `binding`: what both ends know of the channel below and nobody else has (a TLS exporter's value); empty without
    /// TLS.
    pub(super) fn new(secret: Secret, binding: &[u8]) -> Self {
        Self { secret, binding: binding.into(), said: Sha256::new() }
    }

    /// Messages say how long they are, so that different ones never look the same one behind the other.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        Digest::update(&mut self.said, bytes);
    }

    pub(super) fn proof(&self, prover: Prover) -> [u8; PROOF] {
        self.mac(prover).map(|mac| mac.finalize().into_bytes().into()).unwrap_or_default()
    }

    /// Takes as long whatever differs.
    pub(super) fn is_proof(&self, prover: Prover, proof: &[u8; PROOF]) -> bool {
        self.mac(prover).is_some_and(|mac| mac.verify_slice(proof).is_ok())
    }

    /// There is one: HMAC takes keys of any length.
    fn mac(&self, prover: Prover) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret.0).ok()?;
        let label: &[u8] = match prover {
            Prover::Ecm => b"ecm of megaphone link",
            Prover::Node => b"node of megaphone link",
        };
        mac.update(&Sha256::digest(label));
        mac.update(&Sha256::digest(&self.binding));
        mac.update(&self.said.clone().finalize());
        Some(mac)
    }
}
