//! How a node says to the port mapper (epmd) where it listens.

use std::cmp::Ordering;

/// Where epmd listens unless something else is said.
pub const PORT: u16 = 4369;

/// Bytes of the longest answer.
pub const MAX_RESPONSE: usize = 6;

const HIDDEN: u8 = 72;
/// The lowest and the highest version of the handshake: OTP 23's.
const VERSION: [u8; 2] = [0, 6];

/// `ALIVE2_REQ`: `name`, without its host, is reached at `port`. The connection to epmd is kept for as long as it is to be so.
/// What is beyond 255 bytes of the name is left out.
pub fn register(name: &str, port: u16) -> Vec<u8> {
    let name = &name.as_bytes()[..name.floor_char_boundary(255)];
    let [high, low] = port.to_be_bytes();
    let mut request = vec![0, 0, 120, high, low, HIDDEN, 0];
    request.extend_from_slice(&VERSION);
    request.extend_from_slice(&VERSION);
    request.extend_from_slice(&[0, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
    request.extend_from_slice(name);
    request.extend_from_slice(&[0, 0]);
    let length = u16::try_from(request.len() - 2).unwrap_or(u16::MAX);
    request[..2].copy_from_slice(&length.to_be_bytes());
    request
}

/// What epmd says to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// More has to be received.
    Incomplete,
    /// Peers find the node.
    Registered,
    /// Another has the name.
    Refused,
    /// That is no epmd.
    Unknown,
}

/// `ALIVE2_RESP`, with two bytes of creation behind it, or `ALIVE2_X_RESP`, with four.
pub fn answer(received: &[u8]) -> Answer {
    match received {
        [] | [118 | 121] => Answer::Incomplete,
        [118 | 121, (1..), ..] => Answer::Refused,
        [118, _, creation @ ..] => by_creation(creation, 4),
        [121, _, creation @ ..] => by_creation(creation, 2),
        _ => Answer::Unknown,
    }
}

fn by_creation(creation: &[u8], bytes: usize) -> Answer {
    match creation.len().cmp(&bytes) {
        Ordering::Less => Answer::Incomplete,
        Ordering::Equal => Answer::Registered,
        Ordering::Greater => Answer::Unknown,
    }
}
