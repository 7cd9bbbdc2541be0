//! The names that clients have for their sessions.

use crate::id::Conn;

/// Digits of the tag and of the number.
const PART: usize = 16;
/// Digits of the whole.
const LENGTH: usize = 2 * PART + 32;

/// A session id, which is all that a client needs to have the session: hard to guess, and read back without a look into
/// any table. As text 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sid {
    /// Of this start of this node.
    tag: u64,
    pub(crate) session: Conn,
    pub(crate) secret: Secret,
}

/// What nobody but the client knows. Compared as one number, in a time that does not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Secret(u64, u64);

impl Secret {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self(getrandom::u64()?, getrandom::u64()?))
    }

    pub(crate) fn is_the_same(self, other: Self) -> bool {
        (self.0 ^ other.0) | (self.1 ^ other.1) == 0
    }
}

impl Sid {
    pub(crate) fn new(tag: u64, session: Conn, secret: Secret) -> Self {
        Self { tag, session, secret }
    }

    pub(crate) fn text(self) -> String {
        let Self { tag, session, secret: Secret(high, low) } = self;
        format!("{tag:016x}{:016x}{high:016x}{low:016x}", session.as_u64())
    }

    /// Reads one that carries the tag. One that does not was not made here: it may be another node's.
    pub(crate) fn parse(text: &str, tag: u64) -> Option<Self> {
        if text.len() != LENGTH || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let number = |part: usize| u64::from_str_radix(text.get(part * PART..(part + 1) * PART)?, 16).ok();
        let sid = Self {
            tag: number(0)?,
            session: Conn::from_u64(number(1)?)?,
            secret: Secret(number(2)?, number(3)?),
        };
        (sid.tag == tag).then_some(sid)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sid_is_read_back_where_it_was_made() {
        let sid = Sid::new(7, Conn::new(15, 3, 9), Secret::new().unwrap());
        let text = sid.text();
        assert_eq!(text.len(), 64);
        assert_eq!(Sid::parse(&text, 7), Some(sid));
        assert_eq!(Sid::parse(&text, 8), None);
        assert_eq!(Sid::parse(&text[1..], 7), None);
        assert_eq!(Sid::parse(&text.replace('0', "+"), 7), None);
        assert_eq!(Sid::parse(&"é".repeat(32), 7), None);
    }

    #[test]
    fn a_secret_that_differs_in_one_bit_is_another() {
        let secret = Secret(5, 6);
        assert!(secret.is_the_same(Secret(5, 6)));
        assert!(!secret.is_the_same(Secret(4, 6)) && !secret.is_the_same(Secret(5, 7)));
    }
}
