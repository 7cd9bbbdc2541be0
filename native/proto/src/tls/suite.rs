//! What a handshake has agreed on, as far as records depend on it.

use aws_lc_rs::{aead, hmac};

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It accepted the connection.
    Server,
    /// It made the connection.
    Client,
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2, RFC 5246.
    Tls12,
    /// TLS 1.3, RFC 8446.
    Tls13,
}

/// How records are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aead {
    /// AES-GCM with a key of 128 bits.
    Aes128Gcm,
    /// AES-GCM with a key of 256 bits.
    Aes256Gcm,
    /// RFC 8439, and RFC 7905 for TLS 1.2.
    Chacha20Poly1305,
}

/// Version and cipher of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Version of the protocol.
    pub version: Version,
    /// How records are protected.
    pub aead: Aead,
}

/// Bytes of an authentication tag; the same for all.
pub(super) const TAG: usize = 16;

/// Bytes of a nonce; the same for all.
pub(super) const NONCE: usize = 12;

/// Bytes of the nonce that a record of TLS 1.2 with AES-GCM carries (RFC 5288 section 3).
pub(super) const EXPLICIT_NONCE: usize = 8;

/// The most bytes of a hash, and so of a secret.
pub(super) const MAX_HASH: usize = 48;

/// Records that one AES-GCM key seals. RFC 8446 section 5.5 allows 2^24.5 full ones; rustls draws the line here, too.
const GCM_RECORDS: u64 = 1 << 24;

impl Aead {
    pub(super) fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::Chacha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    pub(super) fn key_len(self) -> usize {
        self.algorithm().key_len()
    }

    fn is_gcm(self) -> bool {
        self != Self::Chacha20Poly1305
    }

    /// Records that one key may seal. The last sequence number is kept for an alert, and so never used twice.
    pub(super) fn record_limit(self) -> u64 {
        if self.is_gcm() { GCM_RECORDS } else { u64::MAX - 1 }
    }
}

impl Suite {
    pub(super) fn is_tls13(self) -> bool {
        self.version == Version::Tls13
    }

    /// Bytes between a record's header and its ciphertext.
    pub(super) fn explicit_len(self) -> usize {
        if !self.is_tls13() && self.aead.is_gcm() { EXPLICIT_NONCE } else { 0 }
    }

    /// The most bytes that may follow a record's header: more, and its plaintext is beyond the bound too.
    pub(super) fn max_payload(self) -> usize {
        match self.version {
            Version::Tls12 => self.explicit_len() + super::MAX_PLAINTEXT + TAG,
            Version::Tls13 => super::MAX_PLAINTEXT + 256, // RFC 8446 section 5.2.
        }
    }

    /// The hash of the key schedule of TLS 1.3, which its suites pair with the cipher (RFC 8446 appendix B.4).
    pub(super) fn hmac(self) -> hmac::Algorithm {
        match self.aead {
            Aead::Aes256Gcm => hmac::HMAC_SHA384,
            Aead::Aes128Gcm | Aead::Chacha20Poly1305 => hmac::HMAC_SHA256,
        }
    }

    /// Bytes of that hash.
    pub(super) fn hash_len(self) -> usize {
        match self.aead {
            Aead::Aes256Gcm => 48,
            Aead::Aes128Gcm | Aead::Chacha20Poly1305 => 32,
        }
    }
}
