//! What a session's requests said of its stream, in one allocation.

use super::NS_XBOSH;
use super::request::Request;
use crate::xmpp::{ElementBuilder, Event, NS_CLIENT, NS_STREAM};

/// Longest version and language that is kept, in bytes.
const MAX_KEPT: usize = 255;

/// Host, version, language and Content-Type, the last three empty where they were not given. Between them lie zero
/// bytes, which XML cannot hold.
#[derive(Debug)]
pub(super) struct StreamInfo(Box<str>);

impl StreamInfo {
    pub(super) fn new(to: &str, version: Option<&str>, lang: Option<&str>, content: Option<&str>) -> Self {
        let or_empty = Option::unwrap_or_default;
        Self(format!("{to}\0{}\0{}\0{}", or_empty(version), or_empty(lang), or_empty(content)).into())
    }

    /// None when the request for a session says no host.
    pub(super) fn of_session(request: &Request) -> Option<Self> {
        let to = request.to.as_deref()?;
        let (version, lang) = (request.xmpp_version.as_deref(), request.lang.as_deref());
        Some(Self::new(to, version, lang, request.content.as_deref()))
    }

    /// Forgets a version and a language of unusual length, which would be needed for nothing but a restart that says
    /// neither: they stay for as long as the session.
    pub(super) fn keep_short(&mut self) {
        let is_short = |text: &&str| text.len() <= MAX_KEPT;
        if !self.version().iter().chain(&self.lang()).all(is_short) {
            let version = self.version().filter(is_short);
            *self = Self::new(self.to(), version, self.lang().filter(is_short), self.content());
        }
    }

    /// After a restart by a request that may say some of it anew.
    pub(super) fn restarted(&self, request: &Request) -> Self {
        Self::new(
            request.to.as_deref().unwrap_or(self.to()),
            request.xmpp_version.as_deref().or(self.version()),
            request.lang.as_deref().or(self.lang()),
            self.content(),
        )
    }

    pub(super) fn to(&self) -> &str {
        self.field(0).unwrap_or_default()
    }

    pub(super) fn content(&self) -> Option<&str> {
        self.field(3)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.0.len()
    }

    /// The stream header that a c2s expects.
    pub(super) fn start(&self) -> Event {
        let mut header = ElementBuilder::default();
        header.start(b"stream:stream");
        header.attr(b"to", self.to().as_bytes());
        header.attr(b"xmlns", NS_CLIENT.as_bytes());
        header.attr(b"xmlns:xmpp", NS_XBOSH.as_bytes());
        header.attr(b"xmlns:stream", NS_STREAM.as_bytes());
        if let Some(version) = self.version() {
            header.attr(b"version", version.as_bytes());
        }
        if let Some(lang) = self.lang() {
            header.attr(b"xml:lang", lang.as_bytes());
        }
        header.end();
        Event::StreamStart(header.finish().unwrap_or_default())
    }

    fn version(&self) -> Option<&str> {
        self.field(1)
    }

    fn lang(&self) -> Option<&str> {
        self.field(2)
    }

    fn field(&self, index: usize) -> Option<&str> {
        self.0.split('\0').nth(index).filter(|field| !field.is_empty())
    }
}
