//! A whole element in one piece: a WebSocket message or a BOSH body.

use super::element::Element;
use super::error::{Limits, StreamError};
use super::names::Naming;
use super::reader::{Reader, Step};

/// Parses exactly one element, with names as `fxml_stream:parse_element/1` shows them: prefixes and namespace
/// declarations as sent, declarations first.
///
/// White space around the element is allowed, and an XML declaration at the very start. It may name any encoding, as for
/// `fxml_stream`: the bytes are UTF-8 whatever it says, since a WebSocket's text message is (RFC 6455 section 5.6), and
/// an HTTP body's charset outranks it (RFC 7303 section 3). The caller bounds the size; `limits.stanza_bytes` is not
/// looked at.
pub fn parse_element(bytes: &[u8], limits: &Limits) -> Result<Element, StreamError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut rest = super::trim_space_start(bytes);
    let is_spaced = rest.len() < bytes.len();
    let mut reader = Reader::new(Naming::Document);
    let mut element = None;
    loop {
        match reader.step(&mut rest, limits)? {
            Step::Declared if is_spaced => {
                return Err(StreamError::not_well_formed("XML declaration not at start"));
            }
            Step::Element(found) => element = Some(found),
            Step::NeedMore => return element.ok_or(StreamError::not_well_formed("unexpected end")),
            Step::Declared | Step::Header(_) | Step::End => {}
        }
    }
}
