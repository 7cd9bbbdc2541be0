//! Socket options that are kept here, with the names and defaults of `inet`.

use megaphone_proto::packet;
use std::time::Duration;

/// The most that one read may ask for, and the longest packet, as with `inet`.
pub(crate) const MAX_PACKET: usize = 64 * 1024 * 1024;

/// Whether data are sent to the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Active {
    /// No: they wait for a `recv`.
    Off,
    /// All of them.
    On,
    /// One packet.
    Once,
    /// So many packets, at least one.
    Count(i16),
}

/// How bytes become packets, and packets terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    /// Cutting.
    pub mode: packet::Mode,
    /// `http_bin` and `httph_bin`: binaries instead of lists in the packets.
    pub is_bin: bool,
}

/// What the owner gets instead of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Lists instead of binaries.
    pub as_list: bool,
    /// The packet mode was one of the HTTP ones, in binaries.
    pub http_bin: bool,
}

impl Delivery {
    /// Whether the text of what comes in this mode is in lists.
    pub(crate) fn is_list(self, mode: packet::Mode) -> bool {
        match mode {
            packet::Mode::Raw | packet::Mode::Line => self.as_list,
            _ => !self.http_bin,
        }
    }
}

/// Options of one connection. They exist while somebody has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Whether data are sent to the owner. Default off.
    pub active: Active,
    /// How bytes become packets. Default raw.
    pub packets: Packets,
    /// Longest packet. Default 0, no limit.
    pub packet_size: usize,
    /// `inet`'s buffer, which bounds a line. Default 1,460 bytes.
    pub buffer: packet::Buffer,
    /// Give lists instead of binaries.
    pub as_list: bool,
    /// How long a send may wait; none is for ever, the default.
    pub send_timeout: Option<Duration>,
    /// Close when that has passed.
    pub send_timeout_close: bool,
    /// Bytes of queued output from which senders wait. Default 8 KB. Costs as much memory while a peer is
    /// slow.
    pub high_watermark: usize,
    /// Bytes of queued output at which they go on. Default 4 KB.
    pub low_watermark: usize,
    /// Bytes of input from which nothing more is read from the network. Default 64 KB. Costs as much
    /// memory while nobody takes them.
    pub recv_high_watermark: usize,
    /// Close when the peer has closed its side. Default true.
    pub exit_on_close: bool,
    /// Tell `econnreset` from an ordinary close. Default false.
    pub show_econnreset: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            active: Active::Off,
            packets: Packets { mode: packet::Mode::Raw, is_bin: false },
            packet_size: 0,
            buffer: packet::Buffer::default(),
            as_list: false,
            send_timeout: None,
            send_timeout_close: false,
            high_watermark: 8 * 1024,
            low_watermark: 4 * 1024,
            recv_high_watermark: 64 * 1024,
            exit_on_close: true,
            show_econnreset: false,
        }
    }
}

impl SocketOptions {
    /// Bytes that may have to be there before a packet is whole, and one more. 0 without packets.
    pub(crate) fn longest_packet(&self) -> usize {
        match self.packets.mode {
            packet::Mode::Raw => 0,
            _ => self.packet_size.max(self.buffer.size()).saturating_add(1),
        }
    }

    /// The bounds on a packet.
    pub(crate) fn limits(&self) -> packet::Options {
        packet::Options { packet_size: self.packet_size, line_length: self.buffer.size() }
    }

    /// Sets an option that is kept here. False when it is the socket's.
    pub(crate) fn set(&mut self, option: Opt) -> bool {
        match option {
            Opt::PacketSize(size) => self.packet_size = size,
            Opt::LineLength(length) => self.buffer.set(length),
            Opt::AsList(as_list) => self.as_list = as_list,
            Opt::SendTimeout(timeout) => self.send_timeout = timeout,
            Opt::SendTimeoutClose(close) => self.send_timeout_close = close,
            Opt::HighWatermark(bytes) => self.high_watermark = bytes,
            Opt::LowWatermark(bytes) => self.low_watermark = bytes,
            Opt::RecvHighWatermark(bytes) => self.recv_high_watermark = bytes.max(1),
            Opt::ExitOnClose(close) => self.exit_on_close = close,
            Opt::ShowEconnreset(show) => self.show_econnreset = show,
            _ => return false,
        }
        true
    }

    /// The value of the option that `like` is one of, where it is kept here.
    pub(crate) fn get(&self, like: Opt) -> Option<Opt> {
        Some(match like {
            Opt::Active(_) | Opt::ActiveAdd(_) => Opt::Active(self.active),
            Opt::Packets(_) => Opt::Packets(self.packets),
            Opt::PacketSize(_) => Opt::PacketSize(self.packet_size),
            Opt::LineLength(_) => Opt::LineLength(self.buffer.size()),
            Opt::AsList(_) => Opt::AsList(self.as_list),
            Opt::SendTimeout(_) => Opt::SendTimeout(self.send_timeout),
            Opt::SendTimeoutClose(_) => Opt::SendTimeoutClose(self.send_timeout_close),
            Opt::HighWatermark(_) => Opt::HighWatermark(self.high_watermark),
            Opt::LowWatermark(_) => Opt::LowWatermark(self.low_watermark),
            Opt::RecvHighWatermark(_) => Opt::RecvHighWatermark(self.recv_high_watermark),
            Opt::ExitOnClose(_) => Opt::ExitOnClose(self.exit_on_close),
            Opt::ShowEconnreset(_) => Opt::ShowEconnreset(self.show_econnreset),
            _ => return None,
        })
    }

    pub(crate) fn delivery(&self) -> Delivery {
        Delivery { as_list: self.as_list, http_bin: self.packets.is_bin }
    }
}

/// One option and its value, to set or as got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of inet:setopts/2")]
pub enum Opt {
    Active(Active),
    /// Added to a count that is running; the outcome must stay within 16 bits.
    ActiveAdd(i16),
    Packets(Packets),
    PacketSize(usize),
    LineLength(usize),
    AsList(bool),
    SendTimeout(Option<Duration>),
    SendTimeoutClose(bool),
    HighWatermark(usize),
    LowWatermark(usize),
    RecvHighWatermark(usize),
    ExitOnClose(bool),
    ShowEconnreset(bool),
    NoDelay(bool),
    KeepAlive(bool),
    RecvBuffer(usize),
    SendBuffer(usize),
    ReuseAddr(bool),
    Linger(Option<Duration>),
    Tos(u8),
}
