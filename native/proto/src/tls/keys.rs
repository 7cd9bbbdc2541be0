//! What one direction of a connection needs to seal or to open, as bytes.

use super::suite::{MAX_HASH, NONCE, Suite};
use aws_lc_rs::hmac;
use zeroize::Zeroize;

/// Key material of one direction, cleared when dropped.
///
/// The key could be derived from the secret whenever bytes flow, which would save 88 bytes a connection and cost 2 to 4 us (SHA-384)
/// where the rest of setting up a cipher costs 0.13.
pub(super) struct Keys {
    /// TLS 1.3 only: the traffic secret, which the next key comes from.
    secret: [u8; MAX_HASH],
    key: [u8; 32],
    iv: [u8; NONCE],
    sequence: u64,
}

impl Keys {
    /// Keys as a handshake left them; `None` when they are longer than any that is known.
    pub(super) fn new(secret: &[u8], key: &[u8], iv: &[u8], sequence: u64) -> Option<Self> {
        let mut keys = Self::empty();
        keys.secret.get_mut(..secret.len())?.copy_from_slice(secret);
        keys.key.get_mut(..key.len())?.copy_from_slice(key);
        keys.iv = iv.try_into().ok()?;
        keys.sequence = sequence;
        Some(keys)
    }

    /// The first keys of a traffic secret of TLS 1.3 (RFC 8446 section 7.3).
    pub(super) fn from_secret(suite: Suite, secret: &[u8]) -> Option<Self> {
        let mut keys = Self::empty();
        keys.secret.get_mut(..secret.len())?.copy_from_slice(secret);
        keys.derive(suite);
        Some(keys)
    }

    /// Of TLS 1.3 a traffic secret, of TLS 1.2 key and nonce in one.
    pub(super) fn from_bare(suite: Suite, bytes: &[u8]) -> Option<Self> {
        if suite.is_tls13() {
            return Self::from_secret(suite, bytes).filter(|_| bytes.len() == suite.hash_len());
        }
        let (key, iv) = bytes.split_at_checked(suite.aead.key_len())?;
        Self::new(&[], key, iv, 0)
    }

    const fn empty() -> Self {
        Self { secret: [0; MAX_HASH], key: [0; 32], iv: [0; NONCE], sequence: 0 }
    }

    /// Goes on to the next traffic secret (RFC 8446 section 7.2).
    pub(super) fn update(&mut self, suite: Suite) {
        let mut next = [0; MAX_HASH];
        let len = suite.hash_len();
        expand_label(suite, &self.secret[..len], b"traffic upd", &[], &mut next[..len]);
        self.secret = next;
        next.zeroize();
        self.derive(suite);
    }

    fn derive(&mut self, suite: Suite) {
        let secret = &self.secret[..suite.hash_len()];
        expand_label(suite, secret, b"key", &[], &mut self.key[..suite.aead.key_len()]);
        expand_label(suite, secret, b"iv", &[], &mut self.iv);
        self.sequence = 0;
    }

    pub(super) fn key(&self, suite: Suite) -> &[u8] {
        &self.key[..suite.aead.key_len()]
    }

    /// Whether the two seal alike, whatever was sealed.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.key == other.key && self.iv == other.iv
    }

    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The same keys at another record.
    pub(super) fn renumbered(&self, sequence: u64) -> Self {
        Self { secret: self.secret, key: self.key, iv: self.iv, sequence }
    }

    /// The nonce of the next record (RFC 8446 section 5.3; also RFC 7905, and ours for what RFC 5288 leaves open).
    pub(super) fn nonce(&self) -> [u8; NONCE] {
        let mut nonce = self.iv;
        let (_, counter) = nonce.split_at_mut(NONCE - 8);
        counter.iter_mut().zip(self.sequence.to_be_bytes()).for_each(|(byte, part)| *byte ^= part);
        nonce
    }

    /// The nonce of a record that says the rest of it (RFC 5288 section 3).
    pub(super) fn nonce_with(&self, explicit: &[u8]) -> [u8; NONCE] {
        let mut nonce = self.iv;
        nonce[NONCE - explicit.len()..].copy_from_slice(explicit);
        nonce
    }

    /// Counts a record; `None` when its number was the last (RFC 8446 section 5.3: they never wrap).
    pub(super) fn advance(&mut self) -> Option<()> {
        self.sequence = self.sequence.checked_add(1)?;
        Some(())
    }

    /// Forgets the keys, where no record will use them any more.
    pub(super) fn clear(&mut self) {
        self.secret.zeroize();
        self.key.zeroize();
        self.iv.zeroize();
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.clear();
    }
}

/// HKDF-Expand-Label (RFC 8446 section 7.1) of at most one block, which one HMAC is (RFC 5869 section 2.3).
pub(super) fn expand_label(suite: Suite, secret: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) {
    debug_assert!(out.len() <= suite.hash_len());
    let mut info = Vec::with_capacity(80);
    info.extend_from_slice(&(out.len() as u16).to_be_bytes());
    info.push(6 + label.len() as u8);
    info.extend_from_slice(b"tls13 ");
    info.extend_from_slice(label);
    info.push(context.len() as u8);
    info.extend_from_slice(context);
    info.push(1); // The number of the block.
    let mut block = [0; MAX_HASH];
    let tag = hmac::sign(&hmac::Key::new(suite.hmac(), secret), &info);
    block[..tag.as_ref().len()].copy_from_slice(tag.as_ref());
    out.copy_from_slice(&block[..out.len()]);
    block.zeroize();
}
