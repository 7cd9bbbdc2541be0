//! Channel binding: what an authentication inside the connection is bound to (RFC 5056).

use super::cipher::Cipher;
use super::header::ContentType;
use super::keys::{Keys, expand_label};
use super::open;
use super::suite::{MAX_HASH, Suite};
use aws_lc_rs::digest;
use zeroize::Zeroize;

/// A value that both ends of this connection have, and no other connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding<'a> {
    /// `tls-exporter`, RFC 9266: TLS 1.3.
    Exporter(&'a [u8; 32]),
    /// `tls-unique`, RFC 5929 section 3: TLS 1.2.
    Unique(&'a [u8; VERIFY_DATA]),
}

/// Bytes of a Finished message's body in TLS 1.2 (RFC 5246 section 7.4.9).
const VERIFY_DATA: usize = 12;

/// The same, owned. Cleared when dropped.
pub(super) enum Binding {
    None,
    Exporter([u8; 32]),
    Unique([u8; VERIFY_DATA]),
}

impl Binding {
    /// Of an exporter secret of TLS 1.3: its exporter with the label of RFC 9266 section 2, and no context.
    pub(super) fn exporter(suite: Suite, secret: &[u8]) -> Self {
        let hash = match suite.hash_len() {
            48 => &digest::SHA384,
            _ => &digest::SHA256,
        };
        let nothing = digest::digest(hash, &[]);
        let mut derived = [0; MAX_HASH];
        let derived_secret = &mut derived[..suite.hash_len()];
        expand_label(suite, secret, b"EXPORTER-Channel-Binding", nothing.as_ref(), derived_secret);
        let mut value = [0; 32];
        expand_label(suite, derived_secret, b"exporter", nothing.as_ref(), &mut value);
        derived.zeroize();
        Self::Exporter(value)
    }

    /// Of the first Finished message of TLS 1.2, as the record in which it went over the wire: the first under its key.
    pub(super) fn unique(suite: Suite, keys: &Keys, record: &mut [u8]) -> Self {
        let mut keys = keys.renumbered(0);
        let mut cipher: Option<Cipher> = None;
        let Ok(opened) = open::open(suite, &mut keys, &mut cipher, record) else { return Self::None };
        match record[opened.payload].split_first_chunk() {
            // Type and length of a Finished message.
            Some(([20, 0, 0, 12], verify_data)) if opened.kind == ContentType::Handshake => {
                verify_data.try_into().map_or(Self::None, Self::Unique)
            }
            _ => Self::None,
        }
    }

    pub(super) fn get(&self) -> Option<ChannelBinding<'_>> {
        match self {
            Self::None => None,
            Self::Exporter(value) => Some(ChannelBinding::Exporter(value)),
            Self::Unique(value) => Some(ChannelBinding::Unique(value)),
        }
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        match self {
            Self::None => {}
            Self::Exporter(value) => value.zeroize(),
            Self::Unique(value) => value.zeroize(),
        }
    }
}
