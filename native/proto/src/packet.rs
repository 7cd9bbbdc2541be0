//! Packet modes of Erlang sockets: what `erlang:decode_packet/3` makes of the bytes at the front of a buffer.
//!
//! Everything that is accepted here is what OTP 25 answers for the same bytes; a test holds the two against
//! each other, and sequences of packets against a socket of `gen_tcp`'s. OTP lets numbers wrap around at 32
//! bits (a version, a status, a port); such a line is a [`Packet::HttpError`] here, and so is a port over
//! 65,535.

use std::borrow::Cow;

mod header;
mod start_line;

/// How bytes are cut into packets. The `_bin` modes of Erlang differ only in the terms built later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Whatever is there (`raw`, `0`).
    Raw,
    /// Up to a line feed (`line`).
    Line,
    /// A request line or a status line (`http`, `http_bin`). After one the caller goes on in
    /// [`Mode::HttpHeader`], as `inet` does.
    Http,
    /// A header field (`httph`, `httph_bin`). After [`Packet::EndOfHeader`] the caller goes back to
    /// [`Mode::Http`], as `inet` does, or reads a body.
    HttpHeader,
}

impl Mode {
    /// The mode to decode the next packet in, on a socket in this mode. `in_headers` is what
    /// [`in_headers_after`](Self::in_headers_after) said after the packet before, at first false.
    pub fn of_next(self, in_headers: bool) -> Self {
        match self {
            Self::Http if in_headers => Self::HttpHeader,
            mode => mode,
        }
    }

    /// Whether header fields are next after `packet` on a socket in this mode, when they were or weren't before it.
    /// As with `inet`, a line that is no header field leaves that as it is, and so does a change of the mode.
    pub fn in_headers_after(self, packet: &Packet<'_>, in_headers: bool) -> bool {
        match (self, packet) {
            (Self::Http, Packet::Request { .. } | Packet::Response { .. }) => true,
            (Self::Http, Packet::EndOfHeader) => false,
            _ => in_headers,
        }
    }
}

/// The size of `inet`'s buffer for a socket, which bounds a packet: what [`Options::line_length`] is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffer {
    size: usize,
    is_set: bool,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { size: 1460, is_set: false }
    }
}

impl Buffer {
    /// Bytes; 1460 at first, never 0.
    pub fn size(self) -> usize {
        self.size
    }

    /// The option `buffer` is set. `inet` takes 0 for 1.
    pub fn set(&mut self, size: usize) {
        *self = Self { size: size.max(1), is_set: true };
    }

    /// The option `recbuf` is set: the buffer becomes at least as large, unless its size was set.
    pub fn recbuf_is_set(&mut self, size: usize) {
        if !self.is_set {
            self.size = self.size.max(size);
        }
    }
}

/// Bounds on a packet, in bytes, as the socket options of these names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// A longer line or header field is [`Decoded::Invalid`]. 0 is no limit.
    pub packet_size: usize,
    /// In [`Mode::Line`] a longer line is cut into pieces of this size, and it is their length that `packet_size`
    /// bounds then, as with a socket, whose buffer holds no more. In the HTTP modes it stands in for `packet_size`
    /// when that is 0. 0 is no limit.
    pub line_length: usize,
}

/// One packet, in terms of the buffer that it was decoded from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// A line with its line feed, or a piece of a longer one without; in [`Mode::Raw`] all there is.
    Line(&'a [u8]),
    /// A request line. A line without a version is `(0, 9)`.
    Request {
        /// The first word.
        method: Method<'a>,
        /// The second word.
        target: Target<'a>,
        /// Major and minor.
        version: (u32, u32),
    },
    /// A status line.
    Response {
        /// Major and minor.
        version: (u32, u32),
        /// 0 when there is none.
        status: u32,
        /// May be empty.
        phrase: &'a [u8],
    },
    /// A header field.
    Header {
        /// The second element of Erlang's tuple: 1 to 52 for a known field, else 0.
        bit: u32,
        /// The atom for a known field.
        known: Option<&'static str>,
        /// The name as Erlang shows it: names of up to 50 bytes with capitals after hyphens only.
        name: Cow<'a, [u8]>,
        /// The name as it came.
        raw_name: &'a [u8],
        /// Without white space before it, and with what is after it; a folded one with its line ends.
        value: &'a [u8],
    },
    /// The empty line after the header fields.
    EndOfHeader,
    /// A line, with its end, that is none of these.
    HttpError(&'a [u8]),
}

/// The method of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method<'a> {
    /// One that Erlang shows as an atom.
    Known(&'static str),
    /// Any other, as it came.
    Other(&'a [u8]),
}

/// The scheme of an absolute target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

/// The target of a request, in the forms that Erlang tells apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// `*`
    Star,
    /// `http://host:port/path`
    AbsoluteUri {
        /// Told by the prefix, in any letter case.
        scheme: Scheme,
        /// Up to the first colon; not checked.
        host: &'a [u8],
        /// `None` also for 0 and for what is not a number.
        port: Option<u16>,
        /// From the first slash, query included; `/` when there is none.
        path: Cow<'a, [u8]>,
    },
    /// What is before and after the first colon, when it is none of the others.
    Scheme(&'a [u8], &'a [u8]),
    /// Begins with a slash, or is one byte long.
    AbsPath(&'a [u8]),
    /// Anything else.
    Other(&'a [u8]),
}

/// What [`decode`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decoded<'a> {
    /// The packet is not whole. With a number when its length is known; in these modes it never is.
    More(Option<usize>),
    /// A packet, and how many bytes at the front of the buffer it takes.
    Packet {
        /// The packet.
        packet: Packet<'a>,
        /// Bytes, line end included.
        len: usize,
    },
    /// The packet is over a limit.
    Invalid,
}

/// Decodes the packet at the front of `buf`.
pub fn decode<'a>(mode: Mode, buf: &'a [u8], options: &Options) -> Decoded<'a> {
    let extent = match mode {
        Mode::Raw if buf.is_empty() => Extent::More,
        Mode::Raw => Extent::Whole(buf.len()),
        Mode::Line => line_extent(buf, options),
        Mode::Http => http_extent(buf, options, false),
        Mode::HttpHeader => http_extent(buf, options, true),
    };
    let len = match extent {
        Extent::More => return Decoded::More(None),
        Extent::Invalid => return Decoded::Invalid,
        Extent::Whole(len) => len,
    };
    let bytes = &buf[..len];
    let line = bytes.strip_suffix(b"\r\n").or(bytes.strip_suffix(b"\n")).unwrap_or(bytes);
    let packet = match mode {
        Mode::Raw | Mode::Line => Packet::Line(bytes),
        Mode::Http => start_line::parse(line).unwrap_or(Packet::HttpError(bytes)),
        Mode::HttpHeader => header::parse(line).unwrap_or(Packet::HttpError(bytes)),
    };
    Decoded::Packet { packet, len }
}

enum Extent {
    More,
    Whole(usize),
    Invalid,
}

/// No byte after a piece is looked at, so it doesn't matter how many have come.
fn line_extent(buf: &[u8], options: &Options) -> Extent {
    let piece = if options.line_length == 0 { usize::MAX } else { options.line_length };
    let window = &buf[..buf.len().min(piece)];
    let line = memchr::memchr(b'\n', window).map(|at| at + 1);
    let len = line.unwrap_or(window.len());
    if is_over(len, options.packet_size) {
        Extent::Invalid
    } else if line.is_some() || len == piece {
        Extent::Whole(len)
    } else {
        Extent::More
    }
}

/// A line; with `folds`, also the lines after it that begin with white space, so that it isn't known to be
/// whole before the next byte is there. A buffer that holds just an empty line is taken whatever the limit.
fn http_extent(buf: &[u8], options: &Options, folds: bool) -> Extent {
    if matches!(buf, b"\n" | b"\r\n") {
        return Extent::Whole(buf.len());
    }
    let max = if options.packet_size == 0 { options.line_length } else { options.packet_size };
    for at in memchr::memchr_iter(b'\n', buf) {
        let len = at + 1;
        let is_folded = match buf.get(len) {
            _ if !folds => false,
            Some(next) => is_space(*next) && len > 2,
            None if is_over(len, max) => return Extent::Invalid,
            None => return Extent::More,
        };
        if !is_folded {
            return if is_over(len, max) { Extent::Invalid } else { Extent::Whole(len) };
        }
    }
    if max != 0 && buf.len() >= max { Extent::Invalid } else { Extent::More }
}

fn is_over(len: usize, limit: usize) -> bool {
    limit != 0 && len > limit
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Splits off the white space at the front; `None` when there is none.
fn spaces(bytes: &[u8]) -> Option<&[u8]> {
    let (first, rest) = bytes.split_first()?;
    is_space(*first).then(|| skip_spaces(rest))
}

fn skip_spaces(bytes: &[u8]) -> &[u8] {
    bytes.iter().position(|byte| !is_space(*byte)).map_or(&[], |at| &bytes[at..])
}

/// Splits off the word that Erlang takes for a method or a field name; it may be empty. Unlike in RFC 9110,
/// DEL may be part of it.
fn token(bytes: &[u8]) -> (&[u8], &[u8]) {
    let is_part = |byte: &u8| {
        matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9')
            || matches!(byte, b'A'..=b'Z' | b'^'..=b'z' | b'|' | b'~' | 0x7f)
    };
    bytes.split_at(bytes.iter().position(|byte| !is_part(byte)).unwrap_or(bytes.len()))
}
