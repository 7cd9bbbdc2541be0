//! One record sealed.

use super::cipher::Cipher;
pub(super) use super::cipher::Failed;
use super::header::{self, ContentType, HEADER};
use super::keys::Keys;
use super::open::aad_tls12;
use super::suite::{EXPLICIT_NONCE, NONCE, Suite, TAG, Version};

/// Bytes that a record adds to its plaintext.
pub(super) fn overhead(suite: Suite) -> usize {
    match suite.version {
        Version::Tls12 => HEADER + suite.explicit_len() + TAG,
        Version::Tls13 => HEADER + 1 + TAG,
    }
}

/// Appends a record of at most [`MAX_PLAINTEXT`](super::MAX_PLAINTEXT) bytes, the next of its direction. On failure nothing is
/// appended, and the keys are not to be used again.
pub(super) fn seal(
    suite: Suite,
    keys: &mut Keys,
    cipher: &mut Option<Cipher>,
    kind: ContentType,
    text: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Failed> {
    let cipher = match cipher {
        Some(cipher) => cipher,
        None => cipher.insert(Cipher::new(suite.aead, keys.key(suite))?),
    };
    let before = out.len();
    out.reserve(text.len() + overhead(suite));
    let tag = match suite.version {
        Version::Tls12 => seal_tls12(suite, keys, cipher, kind, text, out),
        Version::Tls13 => seal_tls13(keys, cipher, kind, text, out),
    };
    let Ok(tag) = tag else {
        out.truncate(before);
        return Err(Failed);
    };
    out.extend_from_slice(&tag);
    keys.advance().ok_or(Failed)
}

/// RFC 8446 section 5.2. No padding: the lengths of stanzas say little that their times don't.
fn seal_tls13(
    keys: &Keys,
    cipher: &Cipher,
    kind: ContentType,
    text: &[u8],
    out: &mut Vec<u8>,
) -> Result<[u8; TAG], Failed> {
    let header = header::write(ContentType::ApplicationData, text.len() + 1 + TAG);
    out.extend_from_slice(&header);
    let start = out.len();
    out.extend_from_slice(text);
    out.push(kind as u8);
    cipher.seal(keys.nonce(), &header, &mut out[start..])
}

/// RFC 5246 section 6.2.3.3. The nonce that is sent is the last part of the one that TLS 1.3 would use, as rustls does it, and so
/// never one that the handshake's record had.
fn seal_tls12(
    suite: Suite,
    keys: &Keys,
    cipher: &Cipher,
    kind: ContentType,
    text: &[u8],
    out: &mut Vec<u8>,
) -> Result<[u8; TAG], Failed> {
    let nonce = keys.nonce();
    out.extend_from_slice(&header::write(kind, suite.explicit_len() + text.len() + TAG));
    if suite.explicit_len() > 0 {
        out.extend_from_slice(&nonce[NONCE - EXPLICIT_NONCE..]);
    }
    let start = out.len();
    out.extend_from_slice(text);
    cipher.seal(nonce, &aad_tls12(keys.sequence(), kind, text.len()), &mut out[start..])
}
