//! What is wrong with a stream, in the words of RFC 6120 section 4.9.3, and the bounds on what is parsed.

use std::fmt;

/// A stream error condition of RFC 6120 section 4.9.3. All of them are the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// XML or namespace rules are broken, UTF-8 included.
    NotWellFormed,
    /// A comment, processing instruction, DTD, or an entity other than the predefined five.
    RestrictedXml,
    /// The XML declaration names, or the first byte shows, another encoding than UTF-8.
    UnsupportedEncoding,
    /// A bound of [`Limits`] is exceeded.
    PolicyViolation,
}

impl Condition {
    /// The element name that stands for the condition in `<stream:error/>`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotWellFormed => "not-well-formed",
            Self::RestrictedXml => "restricted-xml",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::PolicyViolation => "policy-violation",
        }
    }
}

/// Why a stream cannot go on. Nothing follows it.
///
/// `xmpp_stream_in` understands `{xmlstreamerror, Text}` with the text of [`TOO_BIG`](Self::TOO_BIG), which it
/// answers with policy-violation, and `{xmlstreamerror, {Code, Text}}`, which it answers with not-well-formed. Any
/// other condition has to be sent to it as a `#stream_error{}`, after a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// What the peer is told.
    pub condition: Condition,
    /// What is wrong, for the log and the `<text/>` element.
    pub text: &'static str,
}

impl StreamError {
    /// A stanza of more bytes than allowed, in the words by which `xmpp_stream_in` recognises it.
    pub const TOO_BIG: Self = Self { condition: Condition::PolicyViolation, text: "XML stanza is too big" };

    pub(super) const fn not_well_formed(text: &'static str) -> Self {
        Self { condition: Condition::NotWellFormed, text }
    }

    pub(super) const fn restricted(text: &'static str) -> Self {
        Self { condition: Condition::RestrictedXml, text }
    }

    pub(super) const fn policy(text: &'static str) -> Self {
        Self { condition: Condition::PolicyViolation, text }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.condition.name(), self.text)
    }
}

impl std::error::Error for StreamError {}

/// Bounds on what a stream's peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a stanza, stream header or message; as large is already too large, as `max_stanza_size` has it.
    /// The terms made of it may hold four times as many. Default 262,144, which is what ejabberd's example
    /// configuration gives a client.
    pub stanza_bytes: usize,
    /// Nodes of a stanza, header or message: two an element, two an attribute, one a text between them. Each takes
    /// 8 bytes. Default 32,768.
    pub nodes: usize,
    /// Elements within each other, a stanza being the first. Default 128.
    pub depth: usize,
    /// Attributes of one element, namespace declarations included. Default 64.
    pub attributes: usize,
    /// Namespace declarations in scope, the stream header's included. Default 128.
    pub namespaces: usize,
    /// Bytes of the prefixes and names that a stream header declares, its own name included, which a stream holds as
    /// long as it lives; and of those in scope anywhere in a stanza or message, the header's aside. Default 4,096.
    pub namespace_bytes: usize,
    /// Bytes of one name or attribute value. Default 65,536.
    pub token_bytes: usize,
}

impl Limits {
    /// Bounds for a peer that has not authenticated itself: enough to do that and to register, in a stanza of 64 KB or,
    /// where that is less, `stanza_bytes`.
    pub const fn before_login(stanza_bytes: usize) -> Self {
        Self {
            stanza_bytes: if stanza_bytes < 65_536 { stanza_bytes } else { 65_536 },
            nodes: 1024,
            depth: 16,
            attributes: 32,
            namespaces: 32,
            namespace_bytes: 2048,
            token_bytes: 16_384,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stanza_bytes: 262_144,
            nodes: 32_768,
            depth: 128,
            attributes: 64,
            namespaces: 128,
            namespace_bytes: 4096,
            token_bytes: 65_536,
        }
    }
}
