//! A whole element in one piece: a WebSocket message or a BOSH body.

use super::element::Element;
use super::error::{Limits, StreamError};
use super::names::Naming;
use super::reader::{Reader, Step};

/// Parses exactly one element, with names as `fxml_stream:parse_element/1` shows them: prefixes and namespace
/// declarations as sent, declarations first.
///
/// White space around the element is allowed, and an XML declaration at the very start. The caller bounds the
/// size; `limits.stanza_bytes` is not looked at.
pub fn parse_element(bytes: &[u8], limits: &Limits) -> Result<Element, StreamError> {
    let mut reader = Reader::new(Naming::Document, limits);
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut rest = super::trim_space_start(bytes);
    let spaced = rest.len() < bytes.len();
    loop {
        match reader.step(&mut rest, true, limits)? {
            Step::Declared if spaced => {
                return Err(StreamError::not_well_formed("XML declaration not at start"));
            }
            Step::Done => return reader.take_element(),
            Step::NeedMore => return Err(StreamError::not_well_formed("unexpected end")),
            Step::Declared | Step::Entered | Step::Left | Step::Texted => {}
        }
    }
}
