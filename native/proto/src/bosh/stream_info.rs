//! What a session's requests said of its stream, in one allocation.

use super::NS_XBOSH;
use super::request::Request;
use crate::xmpp::{ElementBuilder, Event, NS_CLIENT, NS_STREAM};

/// Host, version, language and Content-Type, the last three empty where they were not given. Between them lie zero
/// bytes, which XML cannot hold.
#[derive(Debug)]
pub(super) struct StreamInfo(Box<str>);

impl StreamInfo {
    pub(super) fn new(to: &str, version: Option<&str>, lang: Option<&str>, content: Option<&str>) -> Self {
        let or_empty = Option::unwrap_or_default;
        Self(format!("{to}\0{}\0{}\0{}", or_empty(version), or_empty(lang), or_empty(content)).into())
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
