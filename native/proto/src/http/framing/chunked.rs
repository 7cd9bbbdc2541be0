//! Reads the framing of one chunked body (RFC 9112, 7.1).
//!
//! Every line ends with CR LF. White space around a size is taken: some senders pad sizes, and whoever takes
//! it reads the same size. Extensions and trailer fields are checked and counted.

use super::is_token;
use crate::http::RequestError;

/// Bytes of extensions and white space around sizes, and again of trailer fields, that one body may have.
const MAX_DROPPED: u32 = 16 * 1024;
/// Sixteen digits are what a u64 holds, so a size can't overflow.
const MAX_DIGITS: u8 = 16;

/// A position in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Chunks {
    /// While a size is read, its value so far; then the bytes of the chunk that are still to come.
    left: u64,
    /// Bytes of data found so far.
    found: u32,
    /// Bytes of extensions; of trailer fields once the last chunk is there.
    dropped: u32,
    digits: u8,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Size,
    AfterSize,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

impl Chunks {
    pub(in crate::http) const fn new() -> Self {
        Self { left: 0, found: 0, dropped: 0, digits: 0, step: Step::Size }
    }

    /// Bytes of data found so far.
    pub(in crate::http) fn found(&self) -> usize {
        self.found as usize
    }

    /// True when the body has ended.
    pub(in crate::http) fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// Reads the framing at the front of `bytes`, up to a chunk's data, the end of the body or the end of
    /// `bytes`. Returns how many bytes it is. `max` is the largest body, in bytes.
    ///
    /// Fails on anything malformed, and on a chunk whose announced size would exceed `max`.
    pub(in crate::http) fn framing(&mut self, bytes: &[u8], max: usize) -> Result<usize, RequestError> {
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(self.step, Step::Data | Step::Done) {
                return Ok(at);
            }
            self.step = self.after(*byte, max)?;
        }
        Ok(bytes.len())
    }

    /// How many of the next `available` bytes are a chunk's data; they are taken for read.
    pub(in crate::http) fn data(&mut self, available: usize) -> usize {
        if self.step != Step::Data {
            return 0;
        }
        let n = self.left.min(available as u64) as usize;
        self.left -= n as u64;
        // Sizes are held against the limit before their bytes are taken, and the limit fits.
        self.found += n as u32;
        if self.left == 0 {
            self.step = Step::DataCr;
        }
        n
    }

    /// Takes one byte that is not a chunk's data.
    fn after(&mut self, byte: u8, max: usize) -> Result<Step, RequestError> {
        match self.step {
            Step::Size => self.size(byte),
            Step::AfterSize => self.after_size(byte),
            Step::Extension if byte == b'\r' => Ok(Step::SizeLf),
            Step::Extension if is_text(byte) => self.drop_framing(Step::Extension),
            Step::Extension => Err(RequestError::ChunkExtension),
            Step::SizeLf if byte == b'\n' => self.size_known(max),
            Step::SizeLf => Err(RequestError::ChunkSize),
            Step::DataCr if byte == b'\r' => Ok(Step::DataLf),
            Step::DataLf if byte == b'\n' => Ok(Step::Size),
            Step::DataCr | Step::DataLf => Err(RequestError::ChunkEnd),
            Step::Data | Step::Done => Ok(self.step),
            _ => self.trailer(byte),
        }
    }

    fn size(&mut self, byte: u8) -> Result<Step, RequestError> {
        match (byte as char).to_digit(16) {
            Some(digit) if self.digits < MAX_DIGITS => {
                self.left = self.left << 4 | u64::from(digit);
                self.digits += 1;
                Ok(Step::Size)
            }
            Some(_) => Err(RequestError::ChunkSize),
            None if self.digits > 0 => self.after_size(byte),
            None if is_space(byte) => self.drop_framing(Step::Size),
            None => Err(RequestError::ChunkSize),
        }
    }

    fn after_size(&mut self, byte: u8) -> Result<Step, RequestError> {
        match byte {
            b'\r' => Ok(Step::SizeLf),
            b';' => Ok(Step::Extension),
            _ if is_space(byte) => self.drop_framing(Step::AfterSize),
            _ => Err(RequestError::ChunkSize),
        }
    }

    fn size_known(&mut self, max: usize) -> Result<Step, RequestError> {
        self.digits = 0;
        if self.left == 0 {
            self.dropped = 0;
            return Ok(Step::TrailerStart);
        }
        if self.left > (max as u64).saturating_sub(u64::from(self.found)) {
            return Err(RequestError::BodyTooLarge);
        }
        Ok(Step::Data)
    }

    fn trailer(&mut self, byte: u8) -> Result<Step, RequestError> {
        match (self.step, byte) {
            (Step::LastLf, b'\n') => Ok(Step::Done),
            (Step::TrailerLf, b'\n') => Ok(Step::TrailerStart),
            (Step::TrailerStart, b'\r') => Ok(Step::LastLf),
            (Step::TrailerValue, b'\r') => Ok(Step::TrailerLf),
            (Step::TrailerName, b':') => self.drop_trailer(Step::TrailerValue),
            (Step::TrailerStart | Step::TrailerName, _) if is_token(byte) => {
                self.drop_trailer(Step::TrailerName)
            }
            (Step::TrailerValue, _) if is_text(byte) => self.drop_trailer(Step::TrailerValue),
            _ => Err(RequestError::Trailer),
        }
    }

    fn drop_framing(&mut self, next: Step) -> Result<Step, RequestError> {
        self.drop_byte(next, RequestError::ChunkExtensionsTooLarge)
    }

    fn drop_trailer(&mut self, next: Step) -> Result<Step, RequestError> {
        self.drop_byte(next, RequestError::TrailersTooLarge)
    }

    fn drop_byte(&mut self, next: Step, too_large: RequestError) -> Result<Step, RequestError> {
        self.dropped += 1;
        if self.dropped > MAX_DROPPED { Err(too_large) } else { Ok(next) }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// What may stand in a field value or an extension: anything but control characters, tab excepted.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Reads `input` byte by byte, and at once; both must agree.
    fn decode(input: &[u8], max: usize) -> Result<Option<(Vec<u8>, usize)>, RequestError> {
        let at_once = read([input].into_iter(), max);
        assert_eq!(at_once, read(input.chunks(1), max));
        at_once
    }

    fn read<'a>(
        pieces: impl Iterator<Item = &'a [u8]>,
        max: usize,
    ) -> Result<Option<(Vec<u8>, usize)>, RequestError> {
        let mut chunks = Chunks::new();
        let (mut body, mut read) = (Vec::new(), 0);
        for mut piece in pieces {
            while !piece.is_empty() && !chunks.is_done() {
                let framing = chunks.framing(piece, max)?;
                let data = chunks.data(piece.len() - framing);
                body.extend_from_slice(&piece[framing..framing + data]);
                piece = &piece[framing + data..];
                read += framing + data;
            }
        }
        assert_eq!(chunks.found(), body.len());
        Ok(chunks.is_done().then_some((body, read)))
    }

    #[test]
    fn a_body_ends_where_its_trailers_end() {
        let input =
            b"4\r\nWiki\r\n00005;a=\"b c\"\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n0\r\nA: b\r\n\r\nGET";
        let (body, read) = decode(input, 100).unwrap().unwrap();
        assert_eq!(body, b"Wikipedia in\r\n\r\nchunks.");
        assert_eq!(&input[read..], b"GET");
    }

    #[test]
    fn white_space_around_a_size_is_taken() {
        for size in [" 5", "5 ", "\t5 \t ", "5 ;a=b", "5; a = b", "5 ; a = \"b c\" ; d "] {
            let input = format!("{size}\r\nabcde\r\n 0 \r\n\r\n");
            let expected = Some((b"abcde".to_vec(), input.len()));
            assert_eq!(decode(input.as_bytes(), 10), Ok(expected), "{size:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        for (input, error) in [
            (&b"\r\n"[..], RequestError::ChunkSize),
            (b" \r\n", RequestError::ChunkSize),
            (b"5 5\r\n", RequestError::ChunkSize),
            (b"5 \n", RequestError::ChunkSize),
            (b"5\x0b\r\n", RequestError::ChunkSize),
            (b"\r\n5\r\n", RequestError::ChunkSize),
            (b"1\r\na \r\n", RequestError::ChunkEnd),
            (b"+5\r\n", RequestError::ChunkSize),
            (b"0x5\r\n", RequestError::ChunkSize),
            (b"5\n", RequestError::ChunkSize),
            (b"5\rx", RequestError::ChunkSize),
            (b"00000000000000005\r\n", RequestError::ChunkSize),
            (b"5;a\nb\r\n", RequestError::ChunkExtension),
            (b"5;a\0\r\n", RequestError::ChunkExtension),
            (b"1\r\nab\r\n", RequestError::ChunkEnd),
            (b"1\r\na\n", RequestError::ChunkEnd),
            (b"1\r\na\r\r", RequestError::ChunkEnd),
            (b"0\r\n\n", RequestError::Trailer),
            (b"0\r\n x: y\r\n", RequestError::Trailer),
            (b"0\r\nx\r\n", RequestError::Trailer),
            (b"0\r\n:y\r\n", RequestError::Trailer),
            (b"0\r\nx: y\n", RequestError::Trailer),
            (b"0\r\nx: y\r\rz", RequestError::Trailer),
            (b"0\r\n\r\r", RequestError::Trailer),
            (b"b\r\n", RequestError::BodyTooLarge),
            (b"ffffffffffffffff\r\n", RequestError::BodyTooLarge),
            (b"5\r\nabcde\r\n6\r\n", RequestError::BodyTooLarge),
        ] {
            assert_eq!(decode(input, 10), Err(error), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn what_is_dropped_is_bounded() {
        let extension = [&b"1;"[..], &vec![b'x'; 16 * 1024], b"\r\n"].concat();
        assert_eq!(decode(&extension, 10), Ok(None));
        let padding = vec![b' '; 16 * 1024 + 1];
        assert_eq!(decode(&padding, 10), Err(RequestError::ChunkExtensionsTooLarge));
        assert_eq!(decode(&[b"1", &padding[..]].concat(), 10), Err(RequestError::ChunkExtensionsTooLarge));
        let longer = [&b"1;"[..], &vec![b'x'; 16 * 1024 + 1]].concat();
        assert_eq!(decode(&longer, 10), Err(RequestError::ChunkExtensionsTooLarge));
        let many = b"1;12345678\r\nx\r\n".repeat(16 * 1024 / 8 + 1);
        assert_eq!(decode(&many, 1 << 20), Err(RequestError::ChunkExtensionsTooLarge));
        let trailers = [&b"0\r\n"[..], &b"abc: d\r\n".repeat(16 * 1024 / 6 + 1)].concat();
        assert_eq!(decode(&trailers, 10), Err(RequestError::TrailersTooLarge));
    }
}
