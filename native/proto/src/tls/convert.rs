//! From what rustls hands over to [`Records`].

use super::binding::Binding;
use super::capture::Captured;
use super::keys::Keys;
use super::records::Records;
use super::suite::{Aead, Side, Suite, Version};
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion, SupportedCipherSuite};
use std::fmt;

/// Why a connection cannot be taken over. All are ours: of a configuration, or of a rustls that does things another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvertError {
    /// A version or cipher that is not known here.
    Suite,
    /// The traffic secrets don't go with the keys.
    Secrets,
}

/// The first Finished message of a handshake of TLS 1.2, as it went over the wire.
pub(super) struct Finished {
    pub(super) from: Side,
    pub(super) record: Vec<u8>,
}

/// Takes over a connection from its keys and what its key log was told.
pub(super) fn convert(
    side: Side,
    suite: SupportedCipherSuite,
    extracted: &ExtractedSecrets,
    captured: &Captured,
    finished: Option<Finished>,
) -> Result<Records, ConvertError> {
    let suite = read_suite(suite, &extracted.tx.1).ok_or(ConvertError::Suite)?;
    let (rx_secret, tx_secret) = match side {
        Side::Server => (&captured.client, &captured.server),
        Side::Client => (&captured.server, &captured.client),
    };
    let rx = read_keys(suite, &extracted.rx, rx_secret.get())?;
    let tx = read_keys(suite, &extracted.tx, tx_secret.get())?;
    let binding = match (suite.version, finished) {
        (Version::Tls13, _) => Binding::exporter(suite, captured.exporter.get()),
        (Version::Tls12, None) => Binding::None,
        (Version::Tls12, Some(mut finished)) => {
            let keys = if finished.from == side { &tx } else { &rx };
            Binding::unique(suite, keys, &mut finished.record)
        }
    };
    Ok(Records::new(suite, side, rx, tx, binding))
}

fn read_suite(suite: SupportedCipherSuite, secrets: &ConnectionTrafficSecrets) -> Option<Suite> {
    let version = match suite.version().version {
        ProtocolVersion::TLSv1_2 => Version::Tls12,
        ProtocolVersion::TLSv1_3 => Version::Tls13,
        _ => return None,
    };
    let aead = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { .. } => Aead::Aes128Gcm,
        ConnectionTrafficSecrets::Aes256Gcm { .. } => Aead::Aes256Gcm,
        ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => Aead::Chacha20Poly1305,
        _ => return None,
    };
    Some(Suite { version, aead })
}

/// One direction's keys. In TLS 1.3 they are those of its first traffic secret, which is checked: a KeyUpdate that rustls had seen
/// would show here, and not as a connection that breaks at the next.
fn read_keys(
    suite: Suite,
    (sequence, secrets): &(u64, ConnectionTrafficSecrets),
    secret: &[u8],
) -> Result<Keys, ConvertError> {
    let (key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key.as_ref(), iv.as_ref()),
        _ => return Err(ConvertError::Suite),
    };
    let secret = if suite.is_tls13() { secret } else { &[] };
    let keys = Keys::new(secret, key, iv, *sequence).ok_or(ConvertError::Suite)?;
    let is_right = !suite.is_tls13()
        || secret.len() == suite.hash_len()
            && Keys::from_secret(suite, secret).is_some_and(|derived| derived.is_like(&keys));
    if is_right { Ok(keys) } else { Err(ConvertError::Secrets) }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Suite => "TLS version or cipher suite is not supported by the records",
            Self::Secrets => "TLS traffic secrets don't belong to the keys",
        })
    }
}

impl std::error::Error for ConvertError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tls::keys::expand_label;
    use rustls::crypto::cipher::{AeadKey, Iv};

    #[test]
    fn a_secret_that_is_not_the_keys_is_noticed() {
        let suite = Suite { version: Version::Tls13, aead: Aead::Aes256Gcm };
        let (right, wrong) = ([3; 48], [4; 48]);
        let (mut key, mut iv) = ([0; 32], [0; 12]);
        expand_label(suite, &right, b"key", &[], &mut key);
        expand_label(suite, &right, b"iv", &[], &mut iv);
        let secrets = ConnectionTrafficSecrets::Aes256Gcm { key: AeadKey::from(key), iv: Iv::new(iv) };
        let extracted = (2, secrets);
        assert_eq!(read_keys(suite, &extracted, &right).map(|keys| keys.sequence()).ok(), Some(2));
        for secret in [&wrong[..], &right[..32], &[]] {
            assert_eq!(read_keys(suite, &extracted, secret).err(), Some(ConvertError::Secrets));
        }
    }
}
