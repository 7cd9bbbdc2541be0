//! Headers of records (RFC 8446 section 5.1, RFC 5246 section 6.2.1).

use super::MAX_PLAINTEXT;
use super::error::PeerError;
use super::suite::{Suite, Version};

/// Bytes of a record's header.
pub(super) const HEADER: usize = 5;

/// What a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentType {
    ChangeCipherSpec = 20,
    Alert = 21,
    Handshake = 22,
    ApplicationData = 23,
}

impl ContentType {
    pub(super) fn from_byte(byte: u8) -> Result<Self, PeerError> {
        match byte {
            20 => Ok(Self::ChangeCipherSpec),
            21 => Ok(Self::Alert),
            22 => Ok(Self::Handshake),
            23 => Ok(Self::ApplicationData),
            _ => Err(PeerError::Unexpected),
        }
    }
}

/// The version that records carry: that of TLS 1.2, in TLS 1.3 too.
const VERSION: [u8; 2] = [3, 3];

/// The length of a whole record, header included, as soon as its header is there. An error is one as soon as it shows.
pub(super) fn record_len(bytes: &[u8], suite: Suite) -> Result<Option<usize>, PeerError> {
    if let Some(kind) = bytes.first() {
        check_type(*kind, suite)?;
    }
    let Some(&[_, major, minor, high, low]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    // TLS 1.3 ignores the field (section 5.1), but authenticates it.
    if !suite.is_tls13() && [major, minor] != VERSION {
        return Err(PeerError::WrongVersion);
    }
    let payload = usize::from(u16::from_be_bytes([high, low]));
    if payload > suite.max_payload() {
        return Err(PeerError::RecordTooLong);
    }
    Ok(Some(HEADER + payload))
}

/// Protected records of TLS 1.3 all look like data; after the handshake nothing else may come (section 5).
fn check_type(kind: u8, suite: Suite) -> Result<(), PeerError> {
    match (suite.version, ContentType::from_byte(kind)?) {
        (Version::Tls12, _) | (_, ContentType::ApplicationData) => Ok(()),
        _ => Err(PeerError::Unexpected),
    }
}

/// The header of a record with so many bytes behind it.
pub(super) fn write(kind: ContentType, payload: usize) -> [u8; HEADER] {
    debug_assert!(payload <= MAX_PLAINTEXT + 256);
    let [high, low] = (payload as u16).to_be_bytes();
    [kind as u8, VERSION[0], VERSION[1], high, low]
}
