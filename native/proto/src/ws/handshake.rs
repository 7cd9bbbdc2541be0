//! The opening handshake, server side (RFC 6455 section 4.2).

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use sha1::{Digest, Sha1};

/// What an upgrade request says, in the terms of whatever parsed it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, as sent.
    pub method: &'a [u8],
    /// Whether the version is HTTP/1.1.
    pub is_http_1_1: bool,
    /// Header fields as sent, in any case and order, white space around values allowed.
    pub headers: &'a [(&'a [u8], &'a [u8])],
}

/// What a server allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy<'a> {
    /// Origins to accept, in lower case; empty accepts all. A request without an Origin does not come from a
    /// browser and is accepted. (ejabberd's `websocket_origin`.)
    pub origins: &'a [&'a str],
    /// The subprotocol to choose when it is among those offered, compared exactly: `"xmpp"` (RFC 7395 section 3.1).
    pub subprotocol: Option<&'a str>,
}

/// Why a request does not become a WebSocket. Always the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not GET, or not HTTP/1.1.
    BadRequest,
    /// The request asks for no WebSocket: an ordinary one, to be answered as such.
    NoUpgrade,
    /// A version other than 13, or none; the answer has to carry `Sec-WebSocket-Version: 13`.
    Version,
    /// No key, more than one, or not 16 bytes in base64.
    Key,
    /// The origin is not among those allowed.
    Origin,
}

impl Refusal {
    /// The status code to answer with. ejabberd shows a page with 200 for [`Refusal::NoUpgrade`].
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::Key => 400,
            Self::NoUpgrade | Self::Version => 426,
            Self::Origin => 403,
        }
    }
}

/// A request that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<'a> {
    key: [u8; ACCEPT_BYTES],
    /// The subprotocol chosen; none when none was offered that the policy knows.
    pub subprotocol: Option<&'a str>,
}

/// SHA-1 in base64.
const ACCEPT_BYTES: usize = 28;

impl Accepted<'_> {
    /// Appends the whole response (status 101). WebSocket frames follow it at once.
    pub fn write_response(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.key);
        if let Some(subprotocol) = self.subprotocol {
            out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            out.extend_from_slice(subprotocol.as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// Judges an upgrade request.
pub fn accept<'a>(request: &Request<'_>, policy: &Policy<'a>) -> Result<Accepted<'a>, Refusal> {
    if !has_token(request, "upgrade", "websocket") || !has_token(request, "connection", "upgrade") {
        return Err(Refusal::NoUpgrade);
    }
    if request.method != b"GET" || !request.is_http_1_1 || values(request, "host").count() != 1 {
        return Err(Refusal::BadRequest);
    }
    if single(request, "sec-websocket-version") != Some(b"13") {
        return Err(Refusal::Version);
    }
    let key = single(request, "sec-websocket-key").filter(|key| is_key(key)).ok_or(Refusal::Key)?;
    if !is_origin_allowed(request, policy.origins) {
        return Err(Refusal::Origin);
    }
    let subprotocol = policy.subprotocol.filter(|wanted| {
        values(request, "sec-websocket-protocol").flat_map(list).any(|offered| offered == wanted.as_bytes())
    });
    Ok(Accepted { key: accept_key(key), subprotocol })
}

fn accept_key(key: &[u8]) -> [u8; ACCEPT_BYTES] {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut accept = [0; ACCEPT_BYTES];
    let encoded = STANDARD.encode_slice(hash.finalize(), &mut accept);
    debug_assert_eq!(encoded.ok(), Some(ACCEPT_BYTES));
    accept
}

fn is_key(key: &[u8]) -> bool {
    // RFC 6455 asks for no more than 16 bytes; some clients leave the unused last bits random.
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    let mut nonce = [0; 18];
    key.len() == 24 && LENIENT.decode_slice(key, &mut nonce) == Ok(16)
}

fn is_origin_allowed(request: &Request<'_>, origins: &[&str]) -> bool {
    origins.is_empty()
        || values(request, "origin")
            .all(|origin| origins.iter().any(|allowed| origin.eq_ignore_ascii_case(allowed.as_bytes())))
}

fn values<'a>(request: &Request<'a>, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    let matching = request.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name.as_bytes()));
    matching.map(|(_, value)| value.trim_ascii())
}

fn single<'a>(request: &Request<'a>, name: &'static str) -> Option<&'a [u8]> {
    let mut values = values(request, name);
    values.next().filter(|_| values.next().is_none())
}

fn has_token(request: &Request<'_>, name: &'static str, token: &str) -> bool {
    values(request, name).flat_map(list).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
