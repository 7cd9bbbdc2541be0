//! One record opened, in place.

use super::MAX_PLAINTEXT;
use super::cipher::Cipher;
use super::error::{Error, PeerError};
use super::header::{ContentType, HEADER};
use super::keys::Keys;
use super::suite::{Suite, TAG, Version};
use std::ops::Range;

/// What was in a record, and where in it.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) kind: ContentType,
    pub(super) payload: Range<usize>,
}

/// Opens a whole record, header included, as the next of its direction.
pub(super) fn open(
    suite: Suite,
    keys: &mut Keys,
    cipher: &mut Option<Cipher>,
    record: &mut [u8],
) -> Result<Opened, Error> {
    let cipher = match cipher {
        Some(cipher) => cipher,
        None => cipher.insert(Cipher::new(suite.aead, keys.key(suite)).map_err(|_| Error::Internal)?),
    };
    let opened = match suite.version {
        Version::Tls12 => open_tls12(suite, keys, cipher, record),
        Version::Tls13 => open_tls13(keys, cipher, record),
    }?;
    keys.advance().ok_or(Error::Internal)?;
    Ok(opened)
}

/// RFC 8446 section 5.2: the header is authenticated as it came; the real type follows the data, behind it zeros.
fn open_tls13(keys: &Keys, cipher: &Cipher, record: &mut [u8]) -> Result<Opened, PeerError> {
    let (header, sealed) = record.split_first_chunk_mut::<HEADER>().ok_or(PeerError::BadRecordMac)?;
    let len = cipher.open(keys.nonce(), header, sealed).map_err(|_| PeerError::BadRecordMac)?;
    if len > MAX_PLAINTEXT + 1 {
        return Err(PeerError::RecordTooLong);
    }
    // A record of zeros alone has no type (section 5.4).
    let end = sealed[..len].iter().rposition(|byte| *byte != 0).ok_or(PeerError::Unexpected)?;
    let kind = ContentType::from_byte(sealed[end])?;
    Ok(Opened { kind, payload: HEADER..HEADER + end })
}

/// RFC 5246 section 6.2.3.3.
fn open_tls12(suite: Suite, keys: &Keys, cipher: &Cipher, record: &mut [u8]) -> Result<Opened, PeerError> {
    let kind = ContentType::from_byte(record[0])?;
    let start = HEADER + suite.explicit_len();
    let len = record.len().checked_sub(start + TAG).ok_or(PeerError::BadRecordMac)?;
    let aad = aad_tls12(keys.sequence(), kind, len);
    let (front, sealed) = record.split_at_mut(start);
    let nonce = match &front[HEADER..] {
        [] => keys.nonce(),
        explicit => keys.nonce_with(explicit),
    };
    cipher.open(nonce, &aad, sealed).map_err(|_| PeerError::BadRecordMac)?;
    Ok(Opened { kind, payload: start..start + len })
}

/// What TLS 1.2 authenticates beside a record's text: its number, type, version and length without overhead.
pub(super) fn aad_tls12(sequence: u64, kind: ContentType, len: usize) -> [u8; 13] {
    let mut aad = [0; 13];
    aad[..8].copy_from_slice(&sequence.to_be_bytes());
    aad[8..].copy_from_slice(&super::header::write(kind, len));
    aad
}
