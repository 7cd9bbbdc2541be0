//! The other end: client frames made by hand, server frames read back.

/// Any masking key does; this one has no byte in common with ASCII text.
pub(crate) const MASK: [u8; 4] = [0xA1, 0x5B, 0x00, 0xFF];

pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONT: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A client frame with its first byte as given and the length in its shortest form.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    match payload.len() {
        0..126 => frame_with_length(first, payload.len() as u8, &[], payload),
        126..65536 => frame_with_length(first, 126, &(payload.len() as u16).to_be_bytes(), payload),
        _ => frame_with_length(first, 127, &(payload.len() as u64).to_be_bytes(), payload),
    }
}

pub(crate) fn frame_with_length(first: u8, short: u8, extended: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | short];
    bytes.extend_from_slice(extended);
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, payload.len() as u8];
    bytes.extend_from_slice(payload);
    bytes
}

/// What a client reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// Reads a server's frames, strictly.
pub(crate) fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert_eq!(first & 0xF0, 0x80, "server frames are final and have no reserved bit");
        assert_eq!(second & 0x80, 0, "server frames are not masked");
        let (length, rest) = match second {
            126 => {
                let (length, rest) = rest.split_first_chunk::<2>().unwrap();
                let length = u64::from(u16::from_be_bytes(*length));
                assert!(length >= 126);
                (length, rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk::<8>().unwrap();
                let length = u64::from_be_bytes(*length);
                assert!(length >= 65536);
                (length, rest)
            }
            short => (u64::from(*short), rest),
        };
        let (payload, rest) = rest.split_at(length as usize);
        bytes = rest;
        answers.push(match first & 0x0F {
            TEXT => Answer::Text(payload.to_vec()),
            BINARY => Answer::Binary(payload.to_vec()),
            PING => Answer::Ping(payload.to_vec()),
            PONG => Answer::Pong(payload.to_vec()),
            CLOSE => Answer::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            opcode => panic!("unexpected opcode {opcode}"),
        });
    }
    assert!(bytes.is_empty());
    answers
}
