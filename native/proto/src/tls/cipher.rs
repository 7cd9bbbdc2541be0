//! Cipher contexts: an expanded key, made when bytes flow and dropped when none do.

use super::suite::{Aead, NONCE, TAG};
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes of heap memory that a context takes, behind the allocator of the cryptographic library (measured).
pub(super) const HEAP: usize = 640;

/// An expanded key. The library clears it when it is dropped. That no nonce comes twice is its user's care, because the contexts of
/// one key come and go.
pub(super) struct Cipher(LessSafeKey);

/// A record was not sealed with this key, nonce and additional data; or the library has failed.
#[derive(Debug)]
pub(super) struct Failed;

impl Cipher {
    pub(super) fn new(aead: Aead, key: &[u8]) -> Result<Self, Failed> {
        let key = UnboundKey::new(aead.algorithm(), key).map_err(|_| Failed)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals in place; the tag is to follow.
    pub(super) fn seal(&self, nonce: [u8; NONCE], aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG], Failed> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), text).map_err(|_| Failed)?;
        tag.as_ref().try_into().map_err(|_| Failed)
    }

    /// Opens in place what ends with its tag. Returns the length of the plaintext, which is in front.
    pub(super) fn open(&self, nonce: [u8; NONCE], aad: &[u8], sealed: &mut [u8]) -> Result<usize, Failed> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place(nonce, Aad::from(aad), sealed).map(|text| text.len()).map_err(|_| Failed)
    }
}
