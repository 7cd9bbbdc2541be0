//! Handshake messages after the handshake: what they ask for, however they are cut into records.

use super::error::PeerError;
use super::suite::{Side, Version};

/// What a peer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// TLS 1.3: its next record has other keys; and, where it is true, ours are to change, too.
    KeyUpdate { answer: bool },
    /// TLS 1.2: it wants another handshake.
    Renegotiation,
    /// TLS 1.3, at a client: a session ticket, which nobody keeps here.
    Ticket,
}

/// Bytes of a message's type and length.
const HEADER: usize = 4;

/// The longest message that is passed over. None here is as long.
const MAX_SKIPPED: u32 = 1 << 16;

const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// A message that may be half received. Takes 12 bytes, and no heap memory: what is not looked at is counted.
#[derive(Debug, Default)]
pub(super) struct Messages {
    start: [u8; HEADER + 1],
    have: u8,
    /// Bytes of the message that are yet to come, and not looked at.
    skip: u32,
}

impl Messages {
    /// Whether a message is half received: then nothing else may come between (RFC 8446 section 5.1).
    pub(super) fn is_partial(&self) -> bool {
        self.have > 0
    }

    /// Takes bytes off the front of a record's payload, up to the end of a message.
    pub(super) fn take(
        &mut self,
        payload: &mut &[u8],
        version: Version,
        side: Side,
    ) -> Result<Option<Message>, PeerError> {
        while !self.has_start() {
            let Some((byte, rest)) = payload.split_first() else { return Ok(None) };
            *payload = rest;
            self.push(*byte, version, side)?;
        }
        let skipped = payload.len().min(self.skip as usize);
        *payload = &payload[skipped..];
        self.skip -= skipped as u32;
        if self.skip > 0 {
            return Ok(None);
        }
        self.have = 0;
        self.meaning(version, side).map(Some)
    }

    /// Whether all is there that is looked at.
    fn has_start(&self) -> bool {
        let wanted = if self.start[0] == KEY_UPDATE { HEADER + 1 } else { HEADER };
        usize::from(self.have) == wanted
    }

    fn push(&mut self, byte: u8, version: Version, side: Side) -> Result<(), PeerError> {
        self.start[usize::from(self.have)] = byte;
        self.have += 1;
        match usize::from(self.have) {
            1 => check_type(byte, version, side),
            HEADER => self.check_length(),
            _ => Ok(()),
        }
    }

    fn length(&self) -> u32 {
        let [_, a, b, c, _] = self.start;
        u32::from_be_bytes([0, a, b, c])
    }

    fn check_length(&mut self) -> Result<(), PeerError> {
        let length = self.length();
        let is_allowed = match self.start[0] {
            KEY_UPDATE => length == 1,
            HELLO_REQUEST => length == 0,
            _ => length <= MAX_SKIPPED,
        };
        if !is_allowed {
            return Err(PeerError::Malformed);
        }
        self.skip = if self.start[0] == KEY_UPDATE { 0 } else { length };
        Ok(())
    }

    fn meaning(&self, version: Version, side: Side) -> Result<Message, PeerError> {
        match (version, side, self.start[0], self.start[HEADER]) {
            (Version::Tls12, ..) => Ok(Message::Renegotiation),
            (Version::Tls13, _, KEY_UPDATE, 0) => Ok(Message::KeyUpdate { answer: false }),
            (Version::Tls13, _, KEY_UPDATE, 1) => Ok(Message::KeyUpdate { answer: true }),
            (Version::Tls13, _, KEY_UPDATE, _) => Err(PeerError::IllegalValue),
            (Version::Tls13, ..) => Ok(Message::Ticket),
        }
    }
}

/// Whether a message of this type may come at all.
fn check_type(kind: u8, version: Version, side: Side) -> Result<(), PeerError> {
    match (version, side, kind) {
        (Version::Tls13, _, KEY_UPDATE)
        | (Version::Tls13, Side::Client, NEW_SESSION_TICKET)
        | (Version::Tls12, Side::Server, CLIENT_HELLO)
        | (Version::Tls12, Side::Client, HELLO_REQUEST) => Ok(()),
        _ => Err(PeerError::Unexpected),
    }
}

/// A KeyUpdate message (RFC 8446 section 4.6.3).
pub(super) fn key_update(wants_answer: bool) -> [u8; 5] {
    [KEY_UPDATE, 0, 0, 1, u8::from(wants_answer)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(bytes: &[u8], version: Version, side: Side) -> Result<Vec<Message>, PeerError> {
        let mut messages = Messages::default();
        let mut found = Vec::new();
        // Byte by byte, as records of one byte would bring them.
        for byte in bytes {
            let mut payload = std::slice::from_ref(byte);
            found.extend(messages.take(&mut payload, version, side)?);
            assert!(payload.is_empty());
        }
        let mut rest = bytes;
        let mut whole = Vec::new();
        let mut messages = Messages::default();
        while let Some(message) = messages.take(&mut rest, version, side)? {
            whole.push(message);
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(whole, found, "the cut makes no difference");
        Ok(found)
    }

    #[test]
    fn a_key_update_is_read_at_both_ends() {
        for side in [Side::Server, Side::Client] {
            for answer in [false, true] {
                let found = read(&key_update(answer), Version::Tls13, side).unwrap();
                assert_eq!(found, [Message::KeyUpdate { answer }]);
            }
        }
    }

    #[test]
    fn a_message_that_is_not_one_is_refused_as_soon_as_it_shows() {
        let refused: [(&[u8], PeerError); 7] = [
            (&[24, 0, 0, 1, 2], PeerError::IllegalValue),
            (&[24, 0, 0, 2], PeerError::Malformed),
            (&[24, 0, 0, 0], PeerError::Malformed),
            (&[24, 1, 0, 1], PeerError::Malformed),
            (&[1], PeerError::Unexpected),
            (&[4], PeerError::Unexpected),
            (&[11], PeerError::Unexpected),
        ];
        for (bytes, error) in refused {
            assert_eq!(read(bytes, Version::Tls13, Side::Server), Err(error), "{bytes:?}");
        }
        assert_eq!(read(&key_update(false), Version::Tls12, Side::Server), Err(PeerError::Unexpected));
    }

    #[test]
    fn what_is_passed_over_is_counted() {
        let mut hello = vec![1, 0, 1, 4];
        hello.resize(4 + 260, 7);
        hello.extend_from_slice(&hello.clone());
        assert_eq!(read(&hello, Version::Tls12, Side::Server).unwrap(), [Message::Renegotiation; 2]);
        assert_eq!(read(&[0, 0, 0, 0], Version::Tls12, Side::Client).unwrap(), [Message::Renegotiation]);
        let mut ticket = vec![4, 0, 0, 9];
        ticket.resize(4 + 9, 7);
        assert_eq!(read(&ticket, Version::Tls13, Side::Client).unwrap(), [Message::Ticket]);
        assert_eq!(read(&[4, 2, 0, 0], Version::Tls13, Side::Client), Err(PeerError::Malformed));
    }
}
