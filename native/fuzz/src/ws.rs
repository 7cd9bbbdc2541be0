//! The client's end of a WebSocket: frames out, and the server's frames in.

/// Opcodes of RFC 6455 section 5.2.
pub const CONTINUATION: u8 = 0;
/// Text.
pub const TEXT: u8 = 1;
/// Binary.
pub const BINARY: u8 = 2;
/// Close.
pub const CLOSE: u8 = 8;
/// Ping.
pub const PING: u8 = 9;
/// Pong.
pub const PONG: u8 = 10;

/// A masked frame, its first byte as given and its length in the shortest form.
pub fn frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        medium @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Reads whole frames of a server, strictly: opcode and payload of each.
pub fn server_frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert_eq!(first & 0xF0, 0x80, "final and without reserved bits");
        let (length, rest) = match second {
            0..126 => (u64::from(*second), rest),
            126 => {
                let (length, rest) = rest.split_first_chunk().expect("length");
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk().expect("length");
                (u64::from_be_bytes(*length), rest)
            }
            128.. => panic!("masked"),
        };
        let is_shortest = match second {
            127 => length > 0xFFFF,
            126 => length > 125,
            _ => true,
        };
        assert!(is_shortest);
        let (payload, rest) = rest.split_at(length as usize);
        assert!(first & 0x0F < CLOSE || payload.len() <= 125);
        frames.push((first & 0x0F, payload));
        bytes = rest;
    }
    assert!(bytes.is_empty());
    frames
}
