//! Finds stanzas in bytes and expected strings in stanzas, without building a tree.
//!
//! It relies on the server sending well-formed XML: it finds where an element ends and what its names,
//! attributes and texts are, as they are written. Entities are left as they are, so that what was read from
//! an attribute or a text can be written back into one.

use crate::client::Failure;

/// What stands at the top level of an XMPP stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An XML declaration or the opening tag of the stream.
    Header,
    /// A whole stanza or other first-level element.
    Element(Element<'a>),
    /// The end of the stream.
    End,
}

/// A complete element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    bytes: &'a [u8],
}

/// Reads one token from the start of `bytes`, leading whitespace included, and says how many bytes it took.
/// `None` until it is complete.
///
/// # Errors
/// [`Failure::Malformed`] for text between stanzas, comments, and closing tags where there is none to close.
pub(crate) fn next(bytes: &[u8]) -> Result<Option<(Token<'_>, usize)>, Failure> {
    let start = whitespace(bytes);
    let rest = &bytes[start..];
    match rest {
        [] | [b'<'] => Ok(None),
        [b'<', b'?' | b'/', ..] => {
            let Some(end) = tag_end(rest) else { return Ok(None) };
            let token = if rest[1] == b'/' { Token::End } else { Token::Header };
            Ok(Some((token, start + end)))
        }
        _ if rest.starts_with(b"<stream:stream") => Ok(tag_end(rest).map(|end| (Token::Header, start + end))),
        _ => match element_end(rest)? {
            Some(end) => Ok(Some((Token::Element(Element { bytes: &rest[..end] }), start + end))),
            None => Ok(None),
        },
    }
}

/// How many bytes of whitespace `bytes` begins with.
pub(crate) fn whitespace(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(bytes.len())
}

impl<'a> Element<'a> {
    /// The element that `bytes` are, whitespace around it aside.
    ///
    /// # Errors
    /// [`Failure::Malformed`] when they are not exactly one element.
    pub(crate) fn whole(bytes: &'a [u8]) -> Result<Self, Failure> {
        let bytes = bytes.trim_ascii();
        match element_end(bytes)? {
            Some(end) if end == bytes.len() => Ok(Self { bytes }),
            _ => Err(Failure::Malformed("XML")),
        }
    }

    /// The name without its prefix.
    pub(crate) fn name(&self) -> &'a str {
        let name = &self.bytes[1..];
        let end = name.iter().position(|byte| !is_name(*byte)).unwrap_or(name.len());
        let name = text(&name[..end]);
        name.rsplit_once(':').map_or(name, |(_, local)| local)
    }

    /// The value of the attribute written as `name`.
    pub(crate) fn attribute(&self, name: &str) -> Option<&'a str> {
        let mut rest = &self.bytes[1..tag_end(self.bytes)?];
        rest = &rest[rest.iter().position(|byte| !is_name(*byte))?..];
        loop {
            rest = &rest[whitespace(rest)..];
            let equals = rest.iter().position(|byte| *byte == b'=')?;
            let found = rest[..equals].trim_ascii_end();
            rest = &rest[equals + 1..];
            rest = &rest[whitespace(rest)..];
            let (quote, value) = rest.split_first()?;
            let end = value.iter().position(|byte| byte == quote)?;
            if found == name.as_bytes() {
                return Some(text(&value[..end]));
            }
            rest = &value[end + 1..];
        }
    }

    /// The first child called `name`, whatever its prefix.
    pub(crate) fn child(&self, name: &str) -> Option<Element<'a>> {
        self.children().find(|child| child.name() == name)
    }

    /// The child elements; text between them is skipped.
    pub(crate) fn children(&self) -> impl Iterator<Item = Element<'a>> + use<'a> {
        let mut rest = self.content();
        std::iter::from_fn(move || {
            let start = rest.iter().position(|byte| *byte == b'<')?;
            let end = start + element_end(&rest[start..]).ok()??;
            let child = Element { bytes: &rest[start..end] };
            rest = &rest[end..];
            Some(child)
        })
    }

    /// All between the opening and the closing tag, as text.
    pub(crate) fn text(&self) -> &'a str {
        text(self.content())
    }

    fn content(&self) -> &'a [u8] {
        let Some(open) = tag_end(self.bytes) else { return &[] };
        let close = self.bytes.iter().rposition(|byte| *byte == b'<').unwrap_or(0);
        self.bytes.get(open..close).unwrap_or(&[])
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn is_name(byte: u8) -> bool {
    !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'>' | b'=')
}

/// Where the tag at the start of `bytes` ends: a `>` within quotes does not count.
fn tag_end(bytes: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'\'' | b'"') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

/// Where the element at the start of `bytes` ends, `None` when not all of it is there.
fn element_end(bytes: &[u8]) -> Result<Option<usize>, Failure> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        let tag = &bytes[at..];
        if !matches!(tag, [] | [b'<']) && !matches!(tag, [b'<', next, ..] if !b"!?".contains(next)) {
            return Err(Failure::Malformed("XML"));
        }
        let Some(length) = tag_end(tag) else { return Ok(None) };
        match tag {
            [b'<', b'/', ..] => depth = depth.checked_sub(1).ok_or(Failure::Malformed("XML"))?,
            _ if tag[length - 2] == b'/' => {}
            _ => depth += 1,
        }
        at += length;
        if depth == 0 {
            return Ok(Some(at));
        }
        match bytes[at..].iter().position(|byte| *byte == b'<') {
            Some(text) => at += text,
            None => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn element(bytes: &str) -> Element<'_> {
        Element::whole(bytes.as_bytes()).unwrap()
    }

    #[test]
    fn a_stream_is_cut_into_tokens_wherever_it_is_split() {
        let stream = "<?xml version='1.0'?><stream:stream id='1' xmlns='jabber:client'>\n<a/> <b x='>'>t<c>u</c></b>\
                      </stream:stream>";
        let mut names = Vec::new();
        let mut unread = Vec::new();
        for byte in stream.bytes() {
            unread.push(byte);
            if let Some((token, used)) = next(&unread).unwrap() {
                names.push(match token {
                    Token::Header => "header".to_owned(),
                    Token::Element(element) => element.name().to_owned(),
                    Token::End => "end".to_owned(),
                });
                unread.drain(..used);
            }
        }
        assert_eq!(names, ["header", "header", "a", "b", "end"]);
        assert!(unread.is_empty());
    }

    #[test]
    fn names_lose_their_prefix() {
        assert_eq!(element("<stream:features/>").name(), "features");
        assert_eq!(element("<iq/>").name(), "iq");
    }

    #[test]
    fn attributes_are_found_by_their_whole_name() {
        let iq = element("<iq xml:id='no' other-id=\"a='b'\" id = 'yes'/>");
        assert_eq!(iq.attribute("id"), Some("yes"));
        assert_eq!(iq.attribute("other-id"), Some("a='b'"));
        assert_eq!(iq.attribute("to"), None);
    }

    #[test]
    fn children_and_texts_are_those_of_the_first_level() {
        let iq = element("<iq><bind xmlns='b'>\n<jid>a@b/c</jid></bind><jid>no</jid></iq>");
        assert_eq!(iq.child("bind").unwrap().child("jid").unwrap().text(), "a@b/c");
        assert_eq!(iq.children().map(|child| child.name()).collect::<Vec<_>>(), ["bind", "jid"]);
        assert_eq!(element("<empty/>").children().count(), 0);
    }

    #[test]
    fn what_xmpp_forbids_is_refused() {
        for bad in ["text", "<!-- c -->", "<a><!-- c --></a>"] {
            assert_eq!(next(bad.as_bytes()).map(|_| ()), Err(Failure::Malformed("XML")), "{bad}");
        }
    }
}
