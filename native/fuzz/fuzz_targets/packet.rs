//! Any bytes in any packet mode.
//!
//! Held to be true: a packet lies within the buffer and is not empty; the same bytes and more give the same
//! packet. Not so in raw mode, and where an empty line was taken because nothing followed it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use megaphone_proto::packet::{Decoded, Mode, Options, decode};

fuzz_target!(|input: (u8, u8, u8, &[u8])| {
    let (mode, packet_size, line_length, bytes) = input;
    let mode = [Mode::Raw, Mode::Line, Mode::Http, Mode::HttpHeader][usize::from(mode % 4)];
    let options = Options { packet_size: packet_size.into(), line_length: line_length.into() };
    let decoded = decode(mode, bytes, &options);
    let Decoded::Packet { packet, len } = &decoded else { return };
    assert!((1..=bytes.len()).contains(len));
    let is_final = match mode {
        Mode::Raw => false,
        Mode::Line => true,
        Mode::Http | Mode::HttpHeader => !matches!(bytes, b"\n" | b"\r\n"),
    };
    if is_final {
        let more = [bytes, b"\r\n x"].concat();
        let again = decode(mode, &more, &options);
        assert_eq!(again, Decoded::Packet { packet: packet.clone(), len: *len });
    }
});
