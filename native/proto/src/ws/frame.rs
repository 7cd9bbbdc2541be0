//! Frames of RFC 6455 section 5.2: headers in and out, and unmasking.

use std::fmt;

/// A frame's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next fragment of a message.
    Continuation = 0,
    /// A text message, or its first fragment.
    Text = 1,
    /// A binary message, or its first fragment.
    Binary = 2,
    /// Close; control frame.
    Close = 8,
    /// Ping; control frame.
    Ping = 9,
    /// Pong; control frame.
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    pub(super) fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// What the peer did wrong, with the close code (RFC 6455 section 7.4) that tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// 1002 protocol error, 1007 invalid data, 1009 too big.
    pub code: u16,
    /// For the log.
    pub text: &'static str,
}

impl Violation {
    pub(super) const fn protocol(text: &'static str) -> Self {
        Self { code: 1002, text }
    }

    pub(super) const fn invalid(text: &'static str) -> Self {
        Self { code: 1007, text }
    }

    pub(super) const fn too_big(text: &'static str) -> Self {
        Self { code: 1009, text }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

impl std::error::Error for Violation {}

/// Most bytes that a control frame carries.
pub(super) const CONTROL_BYTES: usize = 125;
/// Bytes of the longest frame header.
pub(super) const HEADER_BYTES: usize = 14;

/// The header of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Whether it ends its message.
    pub(super) is_final: bool,
    /// The type.
    pub(super) opcode: Opcode,
    /// The masking key.
    pub(super) mask: [u8; 4],
    /// Payload bytes.
    pub(super) payload_bytes: u64,
}

impl FrameHeader {
    /// Reads a header off the front of `bytes`: it and its length, or `None` when more bytes are needed.
    /// What the bytes that are there violate is found even when others are missing.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation::protocol("reserved bit set"));
        }
        let opcode = Opcode::from_bits(first & 0x0F).ok_or(Violation::protocol("unknown opcode"))?;
        let is_final = first & 0x80 != 0;
        if opcode.is_control() && !is_final {
            return Err(Violation::protocol("fragmented control frame"));
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Violation::protocol("unmasked frame"));
        }
        let short = second & 0x7F;
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES {
            return Err(Violation::protocol("control frame too long"));
        }
        let Some((payload_bytes, length_bytes)) = parse_length(short, &bytes[2..])? else { return Ok(None) };
        let Some(mask) = bytes[2 + length_bytes..].first_chunk::<4>() else { return Ok(None) };
        Ok(Some((Self { is_final, opcode, mask: *mask, payload_bytes }, 6 + length_bytes)))
    }
}

/// The payload's length and how many bytes it took, the short one apart.
fn parse_length(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let (length, bytes, least) = match short {
        126 => {
            let Some(length) = rest.first_chunk::<2>() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*length)), 2, 126)
        }
        127 => {
            let Some(length) = rest.first_chunk::<8>() else { return Ok(None) };
            (u64::from_be_bytes(*length), 8, 1 << 16)
        }
        _ => (u64::from(short), 0, 0),
    };
    if length < least {
        return Err(Violation::protocol("length not in its shortest form"));
    }
    if length >> 63 != 0 {
        return Err(Violation::protocol("length with its highest bit set"));
    }
    Ok(Some((length, bytes)))
}

/// Whether these are whole pings and pongs of a client, and nothing else.
pub(crate) fn are_pings(mut bytes: &[u8]) -> bool {
    while let [first, second, ..] = *bytes {
        let is_ping = first == 0x80 | Opcode::Ping as u8 || first == 0x80 | Opcode::Pong as u8;
        let length = usize::from(second & 0x7F);
        match bytes.get(6 + length..) {
            Some(rest) if is_ping && second & 0x80 != 0 && length <= CONTROL_BYTES => bytes = rest,
            _ => return false,
        }
    }
    bytes.is_empty()
}

/// Appends an unfragmented server frame. A control frame's payload is cut off at 125 bytes.
pub fn write_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    let most = if opcode.is_control() { CONTROL_BYTES } else { usize::MAX };
    let payload = &payload[..payload.len().min(most)];
    let (header, header_bytes) = server_header(opcode, payload.len());
    out.extend_from_slice(&header[..header_bytes]);
    out.extend_from_slice(payload);
}

/// Appends a text message that `write` appends, without a buffer of its own.
pub(crate) fn write_text_with(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    // As for the length that most messages have.
    const USUAL: usize = 4;
    let start = out.len();
    out.extend_from_slice(&[0; USUAL]);
    write(out);
    let (header, header_bytes) = server_header(Opcode::Text, out.len() - start - USUAL);
    if header_bytes == USUAL {
        out[start..start + USUAL].copy_from_slice(&header[..USUAL]);
    } else {
        out.splice(start..start + USUAL, header[..header_bytes].iter().copied());
    }
}

/// The header of a whole message or control frame with so many bytes of payload, and its length.
fn server_header(opcode: Opcode, payload_bytes: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = 0x80 | opcode as u8;
    let length = match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
        (Ok(short), _) if short < 126 => {
            header[1] = short;
            2
        }
        (_, Ok(medium)) => {
            header[1] = 126;
            header[2..4].copy_from_slice(&medium.to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            10
        }
    };
    (header, length)
}

/// Unmasks bytes that lie `offset` bytes into their frame's payload (RFC 6455 section 5.3).
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    // Sixteen bytes of mask at a time are what the compiler makes vector code of.
    let key: [u8; 16] = std::array::from_fn(|index| mask[((offset & 3) as usize + index) & 3]);
    let mut blocks = bytes.chunks_exact_mut(16);
    for block in &mut blocks {
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
    for (byte, key) in blocks.into_remainder().iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn pings_are_told_from_anything_else_by_their_heads() {
        let ping = [0x89, 0x81, 1, 2, 3, 4, 9];
        let pong = [0x8A, 0x80, 1, 2, 3, 4];
        assert!(are_pings(&[]) && are_pings(&ping) && are_pings(&[&ping[..], &pong].concat()));
        for other in [&ping[..6], &[0x89], &[0x81, 0x80, 1, 2, 3, 4], &[0x88, 0x80, 1, 2, 3, 4], &[0x8A, 0]] {
            assert!(!are_pings(&[&pong[..], other].concat()), "{other:?}");
        }
    }

    #[test]
    fn a_message_written_in_place_is_the_same_frame() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; length];
            let (mut whole, mut in_place) = (b"before".to_vec(), b"before".to_vec());
            write_frame(Opcode::Text, &payload, &mut whole);
            write_text_with(&mut in_place, |out| out.extend_from_slice(&payload));
            assert!(whole == in_place, "{length}");
        }
    }

    #[test]
    fn unmasking_in_parts_equals_unmasking_at_once() {
        let mask = [1, 2, 4, 8];
        let plain: Vec<u8> = (0..100).collect();
        let masked: Vec<u8> = plain.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
        for cut in 0..=masked.len() {
            let mut bytes = masked.clone();
            let (front, back) = bytes.split_at_mut(cut);
            unmask(front, mask, 0);
            unmask(back, mask, cut as u64);
            assert_eq!(bytes, plain);
        }
    }
}
