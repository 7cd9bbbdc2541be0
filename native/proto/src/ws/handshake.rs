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

    /// Appends the whole answer, after which the connection closes. `fields` are the listener's own header lines, each
    /// with its line break; one of them replaces ours of that name.
    pub fn response(self, fields: &[u8], out: &mut Vec<u8>) {
        let reason = match self {
            Self::BadRequest | Self::Key => "Bad Request",
            Self::NoUpgrade | Self::Version => "Upgrade Required",
            Self::Origin => "Forbidden",
        };
        out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", self.status()).as_bytes());
        for line in self.lines().iter().filter(|line| !has_line(fields, line)) {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(fields);
        out.extend_from_slice(b"\r\n");
    }

    fn lines(self) -> &'static [&'static str] {
        match self {
            // RFC 9110 section 15.5.22 wants to hear what to upgrade to, RFC 6455 section 4.4 which version of it.
            Self::NoUpgrade | Self::Version => &[
                "Connection: close, upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Content-Length: 0",
            ],
            Self::BadRequest | Self::Key | Self::Origin => &["Connection: close", "Content-Length: 0"],
        }
    }
}

/// Whether one of the header lines in `fields` has the name of `line`.
fn has_line(fields: &[u8], line: &str) -> bool {
    let name = |line: &[u8]| line.split(|byte| *byte == b':').next().unwrap_or_default().to_ascii_lowercase();
    let wanted = name(line.as_bytes());
    fields.split(|byte| *byte == b'\n').any(|field| name(field) == wanted)
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

/// Whether a request asks for a WebSocket, so that [`accept`] is to judge it. One of HTTP/1.0 cannot, whatever its fields say
/// (RFC 9110 section 7.8): proxies send such ones that were not told to speak 1.1.
pub fn is_upgrade(headers: &[(&[u8], &[u8])], is_http_1_1: bool) -> bool {
    is_http_1_1 && has_token(headers, "upgrade", "websocket") && has_token(headers, "connection", "upgrade")
}

/// Judges an upgrade request.
pub fn accept<'a>(request: &Request<'_>, policy: &Policy<'a>) -> Result<Accepted<'a>, Refusal> {
    if !is_upgrade(request.headers, true) {
        return Err(Refusal::NoUpgrade);
    }
    if request.method != b"GET" || !request.is_http_1_1 || values(request.headers, "host").count() != 1 {
        return Err(Refusal::BadRequest);
    }
    if single(request.headers, "sec-websocket-version") != Some(b"13") {
        return Err(Refusal::Version);
    }
    let key = single(request.headers, "sec-websocket-key").filter(|key| is_key(key)).ok_or(Refusal::Key)?;
    if !is_origin_allowed(request, policy.origins) {
        return Err(Refusal::Origin);
    }
    let subprotocol = policy.subprotocol.filter(|wanted| {
        values(request.headers, "sec-websocket-protocol")
            .flat_map(list)
            .any(|offered| offered == wanted.as_bytes())
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
        || values(request.headers, "origin")
            .all(|origin| origins.iter().any(|allowed| origin.eq_ignore_ascii_case(allowed.as_bytes())))
}

fn values<'a>(headers: &[(&'a [u8], &'a [u8])], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    let matching = headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name.as_bytes()));
    matching.map(|(_, value)| value.trim_ascii())
}

fn single<'a>(headers: &[(&'a [u8], &'a [u8])], name: &'static str) -> Option<&'a [u8]> {
    let mut values = values(headers, name);
    values.next().filter(|_| values.next().is_none())
}

fn has_token(headers: &[(&[u8], &[u8])], name: &'static str, token: &str) -> bool {
    values(headers, name).flat_map(list).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}
