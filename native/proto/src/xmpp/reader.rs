//! Tags and text gathered into elements: the part that streams and documents have in common.

use std::sync::Arc;

use super::builder::ElementBuilder;
use super::declaration;
use super::element::Element;
use super::error::{Limits, StreamError};
use super::head::Name;
use super::lexer::{Lexer, Token};
use super::names::{Names, Naming};
use super::scope::Scope;

/// What became of the bytes given to a [`Reader`].
pub(super) enum Step {
    /// The XML declaration is there.
    Declared,
    /// The header of a stream, an element without content.
    Header(Element),
    /// A first-level element of a stream, or the document's.
    Element(Element),
    /// The stream's end tag.
    End,
    /// All bytes are used up.
    NeedMore,
}

/// A parser with the tree it is building. While it waits for the rest of a stanza it holds that tree and some 600
/// bytes.
pub(super) struct Reader {
    lexer: Lexer,
    names: Names,
    builder: ElementBuilder,
}

/// Bytes of text for which there is room from the start, and nodes: most stanzas need no more.
const USUAL: (usize, usize) = (512, 32);

impl Reader {
    /// For a document of its own or a stream's header.
    pub(super) fn new(naming: Naming) -> Self {
        Self { lexer: Lexer::new(), names: Names::of_document(naming), builder: ElementBuilder::default() }
    }

    /// A reader that stands right behind the header of a stream.
    pub(super) fn inside(scope: Arc<Scope>) -> Self {
        Self { lexer: Lexer::inside(), names: Names::of_stanzas(scope), builder: ElementBuilder::default() }
    }

    /// What the header left for the stanzas.
    pub(super) fn scope(&self) -> Option<&Arc<Scope>> {
        self.names.header()
    }

    /// Takes bytes off the front of `input` up to the next event.
    pub(super) fn step(&mut self, input: &mut &[u8], limits: &Limits) -> Result<Step, StreamError> {
        let (bytes, nodes) = USUAL;
        self.builder.prepare(nodes.min(input.len() / 8), bytes.min(input.len()));
        loop {
            match self.lexer.next(input, limits, &mut self.builder)? {
                Token::Declaration(position) => return self.declared(position),
                Token::Start => {
                    if let Some(header) = self.enter(limits)? {
                        return Ok(header);
                    }
                }
                Token::End(name) => {
                    self.check_end(name)?;
                    if let Some(step) = self.leave(limits)? {
                        return Ok(step);
                    }
                }
                Token::EmptyEnd => {
                    if let Some(step) = self.leave(limits)? {
                        return Ok(step);
                    }
                }
                Token::NeedMore => return Ok(Step::NeedMore),
            }
        }
    }

    fn declared(&mut self, position: usize) -> Result<Step, StreamError> {
        let span = self.builder.span_from(position);
        declaration::check(self.builder.slice(span), self.names.naming() == Naming::Document)?;
        self.builder.truncate(position);
        Ok(Step::Declared)
    }

    /// Enters an element; a stream's header is complete with that.
    fn enter(&mut self, limits: &Limits) -> Result<Option<Step>, StreamError> {
        let is_stream = self.names.naming() == Naming::Stream;
        let is_header = is_stream && self.names.header().is_none();
        let around = self.names.depth() + usize::from(is_stream && !is_header);
        if around > limits.depth {
            return Err(StreamError::policy("elements nested too deep"));
        }
        self.names.enter(&self.lexer.head, limits, &mut self.builder)?;
        self.check_nodes(limits)?;
        if !is_header {
            return Ok(None);
        }
        let scope = Scope::of_header(&self.lexer.head, &self.builder);
        let usual = Scope::usual();
        let scope = if scope == **usual { usual.clone() } else { Arc::new(scope) };
        self.names = Names::of_stanzas(scope);
        self.builder.end();
        self.take().map(|header| Some(Step::Header(header)))
    }

    /// The name of an end tag has to be its start's.
    fn check_end(&mut self, name: Name) -> Result<(), StreamError> {
        let sent = self.builder.slice(name.span);
        let is_right = match (self.names.innermost(), self.names.header()) {
            (Some(start), _) => self.builder.slice(start) == sent,
            (None, Some(header)) => header.name.as_bytes() == sent,
            (None, None) => false,
        };
        self.builder.truncate(name.span.start as usize);
        if is_right { Ok(()) } else { Err(StreamError::not_well_formed("mismatched tag")) }
    }

    fn leave(&mut self, limits: &Limits) -> Result<Option<Step>, StreamError> {
        if self.names.depth() == 0 {
            return Ok(Some(Step::End));
        }
        self.builder.end();
        self.check_nodes(limits)?;
        self.names.leave();
        if self.names.depth() > 0 {
            return Ok(None);
        }
        if self.names.naming() == Naming::Document {
            self.lexer.end_document();
        }
        self.take().map(|element| Some(Step::Element(element)))
    }

    fn check_nodes(&self, limits: &Limits) -> Result<(), StreamError> {
        if self.builder.node_count() > limits.nodes {
            return Err(StreamError::policy("too many elements and attributes"));
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Element, StreamError> {
        self.builder.take().map_err(|_| StreamError::TOO_BIG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_small() {
        assert!(size_of::<Reader>() <= 400, "{}", size_of::<Reader>());
    }
}
