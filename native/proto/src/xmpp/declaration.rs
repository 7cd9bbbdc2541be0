//! Where rxml 0.14 wants more of an XML declaration than XML (section 2.8) does: an encoding before `standalone`.
//! Checks nothing; what is no declaration is left to rxml.

/// What rxml has to see in front of `standalone` when the peer has not said it.
pub(super) const ENCODING: &[u8] = b"encoding='utf-8' ";

/// How far the bytes of a document have come towards the place where [`ENCODING`] would belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declaration {
    /// Nothing was received.
    Start,
    /// `<` was received.
    Opened,
    /// `<?` was received, and no value. rxml refuses all but `xml` and a version.
    Named,
    /// In the version's value, which this quote ends.
    Version(u8),
    /// The version was received.
    Versioned,
    /// The place has passed, or there is none.
    Passed,
}

impl Declaration {
    /// Goes past the document's next byte; whether [`ENCODING`] belongs in front of it.
    pub(super) fn pass(&mut self, byte: u8) -> bool {
        let before = *self;
        *self = match (before, byte) {
            (Self::Start, b'<') => Self::Opened,
            (Self::Opened, b'?') => Self::Named,
            (Self::Named, b'\'' | b'"') => Self::Version(byte),
            (Self::Version(quote), _) if byte == quote => Self::Versioned,
            (Self::Named | Self::Version(_), _) => before,
            (Self::Versioned, b' ' | b'\t' | b'\r' | b'\n') => before,
            _ => Self::Passed,
        };
        before == Self::Versioned && byte == b's'
    }
}
