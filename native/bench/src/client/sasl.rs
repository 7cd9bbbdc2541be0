//! The client's side of SASL: ANONYMOUS (RFC 4505), PLAIN (RFC 4616) and SCRAM-SHA-1 (RFC 5802).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use pbkdf2::hmac::{Hmac, KeyInit, Mac};
use pbkdf2::pbkdf2_hmac_array;
use sha1::{Digest, Sha1};

use crate::client::Failure;

/// How users authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Auth {
    /// Without account; the server makes a name up.
    Anonymous,
    /// With name and password.
    Plain,
    /// With proof of the password; costs the generator a millisecond or two of computing a login.
    ScramSha1,
}

impl Auth {
    /// The mechanism's registered name.
    pub(crate) fn mechanism(self) -> &'static str {
        match self {
            Self::Anonymous => "ANONYMOUS",
            Self::Plain => "PLAIN",
            Self::ScramSha1 => "SCRAM-SHA-1",
        }
    }
}

/// A SCRAM exchange in progress.
#[derive(Debug)]
pub(crate) struct Scram {
    first_bare: String,
    nonce_length: usize,
    server_signature: Option<[u8; 20]>,
}

/// The initial response of PLAIN, in base64.
pub(crate) fn plain(user: &str, password: &str) -> String {
    STANDARD.encode(format!("\0{user}\0{password}"))
}

impl Scram {
    /// Begins an exchange for `user`, a name without `=` and `,`; gives the initial response in base64 too.
    pub(crate) fn start(user: &str, nonce: &str) -> (Self, String) {
        let first_bare = format!("n={user},r={nonce}");
        let response = STANDARD.encode(format!("n,,{first_bare}"));
        (Self { first_bare, nonce_length: nonce.len(), server_signature: None }, response)
    }

    /// Answers the server's challenge, in and out in base64.
    ///
    /// # Errors
    /// [`Failure::Malformed`] for a challenge that RFC 5802 does not allow.
    pub(crate) fn answer(&mut self, challenge: &str, password: &str) -> Result<String, Failure> {
        const MALFORMED: Failure = Failure::Malformed("SCRAM challenge");
        let challenge = decode(challenge).ok_or(MALFORMED)?;
        let field = |name: &str| challenge.split(',').find_map(|field| field.strip_prefix(name));
        let nonce = field("r=").ok_or(MALFORMED)?;
        let salt = field("s=").and_then(|salt| STANDARD.decode(salt).ok()).ok_or(MALFORMED)?;
        let iterations = field("i=").and_then(|count| count.parse().ok()).ok_or(MALFORMED)?;
        let own_nonce = &self.first_bare[self.first_bare.len() - self.nonce_length..];
        if !nonce.starts_with(own_nonce) || nonce.len() == own_nonce.len() {
            return Err(MALFORMED);
        }
        let without_proof = format!("c=biws,r={nonce}");
        let authenticated = format!("{},{challenge},{without_proof}", self.first_bare);
        let salted = pbkdf2_hmac_array::<Sha1, 20>(password.as_bytes(), &salt, iterations);
        let mut proof = hmac(&salted, b"Client Key");
        let signature = hmac(&Sha1::digest(proof), authenticated.as_bytes());
        proof.iter_mut().zip(signature).for_each(|(byte, mask)| *byte ^= mask);
        self.server_signature = Some(hmac(&hmac(&salted, b"Server Key"), authenticated.as_bytes()));
        Ok(STANDARD.encode(format!("{without_proof},p={}", STANDARD.encode(proof))))
    }

    /// Checks the server's final message, in base64: the server must know the password as well.
    ///
    /// # Errors
    /// [`Failure::Rejected`] when it does not.
    pub(crate) fn verify(&self, success: &str) -> Result<(), Failure> {
        let signature = decode(success).and_then(|text| STANDARD.decode(text.strip_prefix("v=")?).ok());
        match (&self.server_signature, signature) {
            (Some(expected), Some(found)) if expected[..] == found[..] => Ok(()),
            _ => Err(Failure::Rejected("the server's SCRAM signature is wrong".to_owned())),
        }
    }
}

fn decode(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 20] {
    match Hmac::<Sha1>::new_from_slice(key) {
        Ok(mac) => mac.chain_update(message).finalize().into_bytes().into(),
        Err(_) => unreachable!("HMAC takes keys of any length"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_exchange_of_rfc_5802_section_5() {
        let (mut scram, first) = Scram::start("user", "fyko+d2lbbFgONRv9qkxdawL");
        assert_eq!(decode(&first).unwrap(), "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        let challenge =
            STANDARD.encode("r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096");
        let answer = scram.answer(&challenge, "pencil").unwrap();
        assert_eq!(
            decode(&answer).unwrap(),
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
        );
        assert_eq!(scram.verify(&STANDARD.encode("v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")), Ok(()));
        assert!(scram.verify(&STANDARD.encode("v=AAAA")).is_err());
    }

    #[test]
    fn a_challenge_with_a_foreign_nonce_is_refused() {
        let (mut scram, _) = Scram::start("user", "mine");
        let challenge = STANDARD.encode("r=yours,s=QSXCR+Q6sek8bf92,i=1");
        assert_eq!(scram.answer(&challenge, "pencil"), Err(Failure::Malformed("SCRAM challenge")));
    }

    #[test]
    fn plain_has_an_empty_authorization_identity() {
        assert_eq!(STANDARD.decode(plain("u", "p")).unwrap(), b"\0u\0p");
    }
}
