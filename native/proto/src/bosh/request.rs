//! The `<body/>` of a client's request.

use std::fmt;

use sha1::{Digest, Sha1};

use super::{NS_HTTP_BIND, NS_XBOSH};
use crate::xmpp::{Element, Limits, StreamError, parse_element};

/// A SHA-1 hash, as the keys of XEP-0124 section 15 are.
pub(super) type KeyHash = [u8; 20];

/// The largest request id: JavaScript's largest exact integer (XEP-0124 section 14.1).
const MAX_RID: u64 = (1 << 53) - 1;

/// What a request says. Attributes that the XEPs do not know are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The request id.
    pub rid: u64,
    /// The session; none asks for a new one.
    pub sid: Option<Box<str>>,
    /// The host, of a new session or a restarted stream.
    pub to: Option<Box<str>>,
    /// Seconds to wait at most.
    pub wait: Option<u32>,
    /// Requests to hold at most.
    pub hold: Option<u32>,
    /// The version of XEP-0124, major and minor.
    pub version: Option<(u32, u32)>,
    /// The Content-Type that answers should have.
    pub content: Option<Box<str>>,
    /// In the request for a session: acknowledgements are wanted. Later: answers up to this request have arrived.
    pub ack: Option<u64>,
    /// Seconds to pause.
    pub pause: Option<u32>,
    /// Whether the session should end.
    pub is_terminate: bool,
    /// Whether the stream should start anew (XEP-0206 section 5).
    pub is_restart: bool,
    /// The stream's version.
    pub xmpp_version: Option<Box<str>>,
    /// The stream's language.
    pub lang: Option<Box<str>>,
    /// The stanzas, with names and declarations as sent.
    pub payload: Vec<Element>,
    pub(super) key: Option<Box<str>>,
    pub(super) new_key: Option<KeyHash>,
}

/// Why a body is none. To be answered with status 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Not XML as XMPP allows it, or over a bound.
    Xml(StreamError),
    /// Not a `<body/>` of XEP-0124.
    NotABody,
    /// A missing or malformed attribute.
    Attribute(&'static str),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xml(error) => error.fmt(f),
            Self::NotABody => f.write_str("unexpected payload"),
            Self::Attribute(name) => write!(f, "missing or invalid \"{name}\" attribute"),
        }
    }
}

impl std::error::Error for RequestError {}

impl Request {
    /// Reads a request's whole body. The caller bounds its size; ejabberd refuses more than `max_stanza_size` with
    /// status 403.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, RequestError> {
        let body = parse_element(bytes, limits).map_err(RequestError::Xml)?;
        if body.name() != b"body" || body.attr(b"xmlns") != Some(NS_HTTP_BIND.as_bytes()) {
            return Err(RequestError::NotABody);
        }
        let rid = number(&body, "rid")?
            .filter(|rid| (1..=MAX_RID).contains(rid))
            .ok_or(RequestError::Attribute("rid"))?;
        Ok(Self {
            rid,
            sid: text(&body, "sid"),
            to: text(&body, "to").filter(|to| !to.is_empty()),
            wait: small_number(&body, "wait")?,
            hold: small_number(&body, "hold")?,
            version: text(&body, "ver").as_deref().map(version).transpose()?,
            content: text(&body, "content").filter(|content| is_content_type(content)),
            ack: number(&body, "ack")?,
            pause: small_number(&body, "pause")?,
            is_terminate: body.attr(b"type") == Some(b"terminate"),
            is_restart: restart(&body)?,
            xmpp_version: xbosh_attr(&body, "version").map(lossless),
            lang: text(&body, "xml:lang"),
            key: text(&body, "key"),
            new_key: text(&body, "newkey")
                .map(|hex| key_hash(&hex).ok_or(RequestError::Attribute("newkey")))
                .transpose()?,
            payload: body.child_elements(),
        })
    }

    /// Whether a client may send it beyond the requests that it may have under way: to pause or to end the session
    /// (XEP-0124 section 11).
    pub(super) fn may_be_extra(&self) -> bool {
        self.is_terminate || self.pause.is_some()
    }

    /// Whether it carries nothing that would ask for an answer sooner than a poll does.
    pub(super) fn is_empty_poll(&self) -> bool {
        self.payload.is_empty() && !self.is_terminate && !self.is_restart && self.pause.is_none()
    }
}

/// What a key has to have been announced as.
pub(super) fn hash_of_key(key: &str) -> KeyHash {
    Sha1::digest(key.as_bytes()).into()
}

fn text(body: &Element, name: &str) -> Option<Box<str>> {
    body.attr(name.as_bytes()).map(lossless)
}

/// Parsed XML is UTF-8 already.
fn lossless(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}

fn number(body: &Element, name: &'static str) -> Result<Option<u64>, RequestError> {
    body.attr(name.as_bytes()).map(|text| clamped(text).ok_or(RequestError::Attribute(name))).transpose()
}

fn small_number(body: &Element, name: &'static str) -> Result<Option<u32>, RequestError> {
    Ok(number(body, name)?.map(small))
}

/// The number that these digits are. More than fits is more than any bound that it is compared with.
fn clamped(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    is_number.then(|| digits.iter().fold(0, add))
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn version(text: &str) -> Result<(u32, u32), RequestError> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    match (clamped(major.as_bytes()), clamped(minor.as_bytes())) {
        (Some(major), Some(minor)) => Ok((small(major), small(minor))),
        _ => Err(RequestError::Attribute("ver")),
    }
}

fn restart(body: &Element) -> Result<bool, RequestError> {
    match xbosh_attr(body, "restart") {
        Some(b"true" | b"1") => Ok(true),
        None | Some(b"false" | b"0") => Ok(false),
        Some(_) => Err(RequestError::Attribute("xmpp:restart")),
    }
}

/// An attribute in the namespace of XEP-0206, by whatever prefix.
fn xbosh_attr<'a>(body: &'a Element, local: &str) -> Option<&'a [u8]> {
    let prefixes = body.attrs().filter(|(_, value)| *value == NS_XBOSH.as_bytes());
    let mut prefixes = prefixes.filter_map(|(name, _)| name.strip_prefix(b"xmlns:"));
    prefixes.find_map(|prefix| body.attr(&[prefix, b":", local.as_bytes()].concat()))
}

/// The content type becomes a header field of answers, so that it may hold nothing that ends one.
fn is_content_type(content: &str) -> bool {
    (1..=100).contains(&content.len()) && content.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// A hash from its 40 hexadecimal digits, in either case.
pub(super) fn key_hash(hex: &str) -> Option<KeyHash> {
    let mut hash = KeyHash::default();
    if hex.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(hash)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
