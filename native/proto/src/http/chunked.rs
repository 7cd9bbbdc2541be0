//! Decodes one chunked body (RFC 9112, 7.1) in the buffer that it arrived in.
//!
//! Stricter than the RFC lets a recipient be: every line ends with CR LF, a size has no white space around
//! it. Extensions and trailer fields are checked, counted and dropped.

use super::error::RequestError;

/// Bytes of extensions, and again of trailer fields, that one body may have.
const MAX_DROPPED: u32 = 16 * 1024;
/// Sixteen digits are what a u64 holds, so a size can't overflow.
const MAX_DIGITS: u8 = 16;

/// A position in a chunked body. The decoded bytes stay with the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decoder {
    /// While a size is read, its value so far; then the bytes of the chunk that are still to come.
    left: u64,
    decoded: u32,
    /// Bytes of extensions; of trailer fields once the last chunk is there.
    dropped: u32,
    digits: u8,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Size,
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

impl Decoder {
    pub(super) const fn new() -> Self {
        Self { left: 0, decoded: 0, dropped: 0, digits: 0, step: Step::Size }
    }

    /// Bytes of body decoded so far.
    pub(super) fn decoded(&self) -> usize {
        self.decoded as usize
    }

    pub(super) fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// Decodes `buf[start..]`, moving the body's bytes to its front, where they follow those decoded
    /// before. Returns how many bytes of `buf[start..]` belong to the body's coding: all of them unless it
    /// is done. `max` is the largest body, in bytes.
    ///
    /// Fails on anything malformed, and on a chunk whose announced size would exceed `max`.
    pub(super) fn decode(&mut self, buf: &mut [u8], start: usize, max: usize) -> Result<usize, RequestError> {
        let mut read = start;
        let mut write = start;
        while read < buf.len() && !self.is_done() {
            if self.step == Step::Data {
                let available = (buf.len() - read) as u64;
                let n = self.left.min(available) as usize;
                buf.copy_within(read..read + n, write);
                read += n;
                write += n;
                self.data_decoded(n);
            } else {
                self.step = self.framing(buf[read], max)?;
                read += 1;
            }
        }
        Ok(read - start)
    }

    fn data_decoded(&mut self, n: usize) {
        self.left -= n as u64;
        // Sizes are held against the limit before their bytes are taken, and the limit fits.
        self.decoded += n as u32;
        if self.left == 0 {
            self.step = Step::DataCr;
        }
    }

    /// Takes one byte that is not a chunk's data.
    fn framing(&mut self, byte: u8, max: usize) -> Result<Step, RequestError> {
        match self.step {
            Step::Size => self.size(byte),
            Step::Extension if byte == b'\r' => Ok(Step::SizeLf),
            Step::Extension if is_text(byte) => {
                self.drop_byte(Step::Extension, RequestError::ChunkExtensionsTooLarge)
            }
            Step::Extension => Err(RequestError::ChunkExtension),
            Step::SizeLf if byte == b'\n' => self.size_known(max),
            Step::SizeLf => Err(RequestError::ChunkSize),
            Step::DataCr if byte == b'\r' => Ok(Step::DataLf),
            Step::DataLf if byte == b'\n' => Ok(Step::Size),
            Step::DataCr | Step::DataLf => Err(RequestError::ChunkEnd),
            Step::LastLf if byte == b'\n' => Ok(Step::Done),
            Step::TrailerLf if byte == b'\n' => Ok(Step::TrailerStart),
            Step::TrailerStart if byte == b'\r' => Ok(Step::LastLf),
            Step::TrailerValue if byte == b'\r' => Ok(Step::TrailerLf),
            Step::TrailerName if byte == b':' => {
                self.drop_byte(Step::TrailerValue, RequestError::TrailersTooLarge)
            }
            Step::TrailerStart | Step::TrailerName if super::head::is_token(byte) => {
                self.drop_byte(Step::TrailerName, RequestError::TrailersTooLarge)
            }
            Step::TrailerValue if is_text(byte) => {
                self.drop_byte(Step::TrailerValue, RequestError::TrailersTooLarge)
            }
            Step::TrailerStart | Step::TrailerName | Step::TrailerValue | Step::TrailerLf | Step::LastLf => {
                Err(RequestError::Trailer)
            }
            Step::Data | Step::Done => Ok(self.step),
        }
    }

    fn size(&mut self, byte: u8) -> Result<Step, RequestError> {
        match (byte as char).to_digit(16) {
            Some(digit) if self.digits < MAX_DIGITS => {
                self.left = self.left << 4 | u64::from(digit);
                self.digits += 1;
                Ok(Step::Size)
            }
            None if self.digits > 0 && byte == b'\r' => Ok(Step::SizeLf),
            None if self.digits > 0 && byte == b';' => Ok(Step::Extension),
            _ => Err(RequestError::ChunkSize),
        }
    }

    fn size_known(&mut self, max: usize) -> Result<Step, RequestError> {
        self.digits = 0;
        if self.left == 0 {
            self.dropped = 0;
            return Ok(Step::TrailerStart);
        }
        if self.left > (max as u64).saturating_sub(u64::from(self.decoded)) {
            return Err(RequestError::BodyTooLarge);
        }
        Ok(Step::Data)
    }

    fn drop_byte(&mut self, next: Step, too_large: RequestError) -> Result<Step, RequestError> {
        self.dropped += 1;
        if self.dropped > MAX_DROPPED { Err(too_large) } else { Ok(next) }
    }
}

/// What may stand in a field value or an extension: anything but control characters, tab excepted.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// Decodes `input` byte by byte, and at once; both must agree.
    fn decode(input: &[u8], max: usize) -> Result<Option<(Vec<u8>, usize)>, RequestError> {
        let mut whole = input.to_vec();
        let mut decoder = Decoder::new();
        let at_once = decoder
            .decode(&mut whole, 0, max)
            .map(|read| decoder.is_done().then(|| (whole[..decoder.decoded()].to_vec(), read)));
        let mut split = Decoder::new();
        let mut body = Vec::new();
        let mut read = 0;
        let mut failed = None;
        for byte in input {
            let start = body.len();
            body.push(*byte);
            match split.decode(&mut body, start, max) {
                Ok(n) => read += n,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            body.truncate(split.decoded());
        }
        let by_byte = failed.map_or(Ok(split.is_done().then_some((body, read))), Err);
        assert_eq!(at_once, by_byte);
        at_once
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
    fn what_is_malformed_is_named() {
        for (input, error) in [
            (&b"\r\n"[..], RequestError::ChunkSize),
            (b"5 \r\n", RequestError::ChunkSize),
            (b" 5\r\n", RequestError::ChunkSize),
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
        let longer = [&b"1;"[..], &vec![b'x'; 16 * 1024 + 1]].concat();
        assert_eq!(decode(&longer, 10), Err(RequestError::ChunkExtensionsTooLarge));
        let many = b"1;12345678\r\nx\r\n".repeat(16 * 1024 / 8 + 1);
        assert_eq!(decode(&many, 1 << 20), Err(RequestError::ChunkExtensionsTooLarge));
        let trailers = [&b"0\r\n"[..], &b"abc: d\r\n".repeat(16 * 1024 / 6 + 1)].concat();
        assert_eq!(decode(&trailers, 10), Err(RequestError::TrailersTooLarge));
    }
}
