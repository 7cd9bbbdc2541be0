//! The client's side of WebSocket (RFC 6455) with the subprotocol of XMPP (RFC 7395).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::client::session::Reply;
use crate::client::{Failure, Random, http};

/// A WebSocket. It remembers its key until the server has answered the handshake.
#[derive(Debug, Default)]
pub(crate) struct WebSocket {
    key: Option<Box<str>>,
}

/// What the server sends once the handshake is done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// With its code, 1005 when it says none (RFC 6455, section 7.1.5).
    Close(u16),
}

/// A frame longer than this is an error rather than an allocation.
const LONGEST_FRAME: u64 = 16 * 1024 * 1024;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";

impl WebSocket {
    /// Writes the handshake for `path` on `host`.
    pub(crate) fn shake(&mut self, host: &str, path: &str, random: &mut Random, out: &mut Vec<u8>) {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&random.next().to_ne_bytes());
        key[8..].copy_from_slice(&random.next().to_ne_bytes());
        let key = STANDARD.encode(key);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n"
        );
        out.extend_from_slice(request.as_bytes());
        self.key = Some(key.into());
    }

    /// Whether the answer to the handshake is still to come.
    pub(crate) fn is_shaking(&self) -> bool {
        self.key.is_some()
    }

    /// Checks the answer to the handshake; says how long it is, or `None` until it is complete.
    ///
    /// # Errors
    /// When the server does not switch protocols, or did not answer this handshake.
    pub(crate) fn shaken(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        let Some(answer) = http::head(bytes)? else { return Ok(None) };
        if answer.status != 101 {
            return Err(Failure::Status(answer.status));
        }
        let expected = self.key.take().map(|key| accept(&key)).unwrap_or_default();
        if http::header(bytes, "Sec-WebSocket-Accept") != Some(expected.as_bytes()) {
            return Err(Failure::Malformed("WebSocket handshake"));
        }
        Ok(Some(answer.head))
    }
}

/// Writes what the session wants sent, one message each (RFC 7395, section 3.3).
pub(crate) fn write(reply: &Reply, domain: &str, element: &[u8], random: &mut Random, out: &mut Vec<u8>) {
    let open;
    let message = match reply {
        Reply::Nothing => return,
        Reply::Open => {
            open = format!("<open xmlns='{FRAMING}' to='{domain}' version='1.0'/>");
            open.as_bytes()
        }
        Reply::Element => element,
        Reply::Close => b"<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
    };
    frame(TEXT, message, random, out);
}

/// Writes the answer to a ping.
pub(crate) fn pong(payload: &[u8], random: &mut Random, out: &mut Vec<u8>) {
    frame(PONG, payload, random, out);
}

/// Reads one frame from the start of `bytes`, and says how long it is; `None` until it is complete.
///
/// # Errors
/// [`Failure::Malformed`] for masked, fragmented and binary frames, which no XMPP server has reason to send.
pub(crate) fn next(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Failure> {
    const MALFORMED: Failure = Failure::Malformed("WebSocket frame");
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let (length, start) = match (second, rest) {
        (0..=125, _) => (u64::from(*second), 2),
        (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10),
        (126 | 127, _) => return Ok(None),
        _ => return Err(MALFORMED),
    };
    if length > LONGEST_FRAME {
        return Err(MALFORMED);
    }
    let end = start + length as usize;
    let Some(payload) = bytes.get(start..end) else { return Ok(None) };
    // FIN must be set, and no reserved bit.
    let frame = match first.checked_sub(0x80) {
        Some(TEXT) => Frame::Text(payload),
        Some(CLOSE) => Frame::Close(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))),
        Some(PING) => Frame::Ping(payload),
        Some(PONG) => Frame::Pong,
        _ => return Err(MALFORMED),
    };
    Ok(Some((frame, end)))
}

fn frame(opcode: u8, payload: &[u8], random: &mut Random, out: &mut Vec<u8>) {
    const MASKED: u8 = 0x80;
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.push(MASKED | length as u8),
        length @ 126..=0xffff => {
            out.push(MASKED | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(MASKED | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = (random.next() as u32).to_ne_bytes();
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The answer that proves a handshake with `key` understood (RFC 6455, section 4.2.2).
pub(crate) fn accept(key: &str) -> String {
    STANDARD
        .encode(Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_handshake_of_rfc_6455_section_1_3() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nrest";
        let mut socket = WebSocket { key: Some("dGhlIHNhbXBsZSBub25jZQ==".into()) };
        assert_eq!(socket.shaken(&answer[..40]).unwrap(), None);
        assert_eq!(socket.shaken(answer).unwrap(), Some(answer.len() - 4));
        assert!(!socket.is_shaking());
        let mut other = WebSocket { key: Some("another".into()) };
        assert_eq!(other.shaken(answer), Err(Failure::Malformed("WebSocket handshake")));
    }

    #[test]
    fn frames_of_all_lengths_are_masked_and_measured() {
        for length in [0, 125, 126, 0xffff, 0x1_0000] {
            let payload = vec![b'x'; length];
            let mut out = Vec::new();
            frame(TEXT, &payload, &mut Random::new(5), &mut out);
            // As the server would send it: without the mask, at the end of the header.
            let header = out.len() - length - 4;
            let mask: Vec<u8> = out.drain(header..header + 4).collect();
            out[1] &= 0x7f;
            for (at, byte) in out[header..].iter_mut().enumerate() {
                *byte ^= mask[at % 4];
            }
            assert_eq!(next(&out[..out.len() - 1]).unwrap(), None, "{length}");
            assert_eq!(next(&out).unwrap(), Some((Frame::Text(&payload), out.len())), "{length}");
        }
    }

    #[test]
    fn a_close_has_its_code() {
        assert_eq!(next(&[0x88, 2, 3, 0xea]).unwrap(), Some((Frame::Close(1002), 4)));
        assert_eq!(next(&[0x88, 0]).unwrap(), Some((Frame::Close(1005), 2)));
    }

    #[test]
    fn frames_that_a_server_must_not_send_are_refused() {
        for bad in [[0x81, 0x80], [0x01, 0x00], [0x82, 0x00], [0xc1, 0x00]] {
            assert_eq!(next(&bad), Err(Failure::Malformed("WebSocket frame")), "{bad:x?}");
        }
    }
}
