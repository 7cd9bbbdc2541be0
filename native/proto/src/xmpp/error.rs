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

// rxml tells these apart by text only; a test of each in tests/xmpp_stream.rs would notice another wording.
const RXML_ENCODING: &str = "only utf-8 encoding is allowed";
const RXML_LONG_TOKEN: &str = "long name or reference";
const RXML_BAD_MARKUP: &str = "malformed cdata or comment section start";

impl From<rxml::Error> for StreamError {
    fn from(error: rxml::Error) -> Self {
        use rxml::Error;
        let (condition, text) = match error {
            Error::RestrictedXml(RXML_ENCODING) => (Condition::UnsupportedEncoding, RXML_ENCODING),
            Error::RestrictedXml(RXML_LONG_TOKEN) => (Condition::PolicyViolation, RXML_LONG_TOKEN),
            Error::InvalidSyntax(RXML_BAD_MARKUP) => (Condition::RestrictedXml, "DTD"),
            Error::RestrictedXml(text) => (Condition::RestrictedXml, text),
            Error::UndeclaredEntity => (Condition::RestrictedXml, "undefined entity"),
            Error::InvalidEof(_) => (Condition::NotWellFormed, "unexpected end"),
            Error::InvalidChar(..) => (Condition::NotWellFormed, "invalid character"),
            Error::UnexpectedChar(..) | Error::UnexpectedByte(..) => {
                (Condition::NotWellFormed, "unexpected character")
            }
            Error::InvalidSyntax(text) => (Condition::NotWellFormed, text),
            Error::UnexpectedToken(..) => (Condition::NotWellFormed, "unexpected token"),
            Error::DuplicateAttribute => (Condition::NotWellFormed, "duplicate attribute"),
            Error::ElementMismatch => (Condition::NotWellFormed, "mismatched tag"),
            Error::MultiColonName(_) | Error::EmptyNamePart(_) | Error::InvalidLocalName(_) => {
                (Condition::NotWellFormed, "invalid qualified name")
            }
            Error::UndeclaredNamespacePrefix(_) => (Condition::NotWellFormed, "unbound prefix"),
            Error::ReservedNamespacePrefix => (Condition::NotWellFormed, "reserved prefix"),
            Error::ReservedNamespaceName => (Condition::NotWellFormed, "reserved namespace name"),
            Error::EmptyNamespaceUri => (Condition::NotWellFormed, "must not undeclare prefix"),
            Error::InvalidUtf8Byte(_) => (Condition::NotWellFormed, "invalid UTF-8"),
        };
        Self { condition, text }
    }
}

/// Bounds on what a stream's peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a stanza, stream header or message; as large is already too large, as `max_stanza_size` has it.
    /// The tree made of it may hold four times as many. Default 262,144, which is what ejabberd's example
    /// configuration gives a client.
    pub stanza_bytes: usize,
    /// Elements within each other, a stanza being the first. Default 128.
    pub depth: usize,
    /// Attributes of one element, namespace declarations included. Default 64.
    pub attributes: usize,
    /// Namespace declarations in scope, the stream header's included. Default 128.
    pub namespaces: usize,
    /// Bytes of one name or attribute value. As much is set aside while bytes are parsed, and given back while the
    /// peer lets a stanza wait; much more than the default of 65,536 makes the allocator ask the kernel each time.
    pub token_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { stanza_bytes: 262_144, depth: 128, attributes: 64, namespaces: 128, token_bytes: 65_536 }
    }
}
