//! Bytes that are the owner's business: packet modes and active modes.

use super::{Next, ask_for_owner};
use crate::attached::Attached;
use crate::cx::Cx;
use crate::error::Error;
use crate::host::{Event, Host};
use crate::options::{Active, Delivery};
use crate::settings::Effort;
use crate::transport::Transport;
use bytes::{Buf, BytesMut};
use megaphone_proto::packet::{self, Decoded, Mode, Packet};

/// Bytes that an owner in active mode is sent in one hold of the lock.
const BYTES_A_HOLD: usize = 64 * 1024;
/// Bytes that take as long as a message takes beside its bytes.
const MESSAGE: usize = 1024;
/// Bytes that take as long as an element of a list.
const ELEMENT: usize = 16;

pub(crate) enum Raw<H: Host> {
    /// For an `accept`.
    Queued,
    /// Somebody has it, or the starter was told: then it has no owner yet.
    Attached(Box<Attached<H>>),
}

/// Taken off the input for a reader, who makes of it what it wants once the lock is released.
pub(crate) struct Taken {
    pub(crate) bytes: BytesMut,
    /// They are a packet, which is found again in the same way.
    pub(crate) packet: Option<(Mode, packet::Options)>,
    pub(crate) delivery: Delivery,
}

/// What is at the front of the input.
enum Found {
    Bytes(usize),
    Packet(usize),
    Nothing,
    /// Nothing more comes.
    End,
    /// No packet.
    Wrong(Error),
}

/// What a read comes to.
pub(crate) enum Step {
    Data(Taken),
    Wait,
    /// More than the effort allows.
    Large,
    Failed(Error),
    /// The input has ended, and the connection closes with it.
    Ended(Error),
}

impl<H: Host> Raw<H> {
    pub(crate) fn begin(&self, transport: &mut Transport<H>, cx: &mut Cx<'_, H>) {
        if self.is_starting() {
            ask_for_owner(transport, cx, None);
        }
    }

    pub(crate) fn is_starting(&self) -> bool {
        self.attached().is_some_and(|attached| attached.owner.is_none())
    }

    pub(crate) fn attached(&self) -> Option<&Attached<H>> {
        match self {
            Self::Attached(attached) => Some(attached),
            Self::Queued => None,
        }
    }

    pub(crate) fn attached_mut(&mut self) -> Option<&mut Attached<H>> {
        match self {
            Self::Attached(attached) => Some(attached),
            Self::Queued => None,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Attached(_) if self.is_starting() => "starting",
            Self::Attached(_) => "running",
        }
    }

    /// Bytes are read ahead of the one who wants them, up to the high watermark.
    pub(crate) fn wants_input(&self, transport: &Transport<H>) -> bool {
        let (options, wanted) = match self.attached() {
            None => (&transport.listener.config.options, 0),
            Some(attached) => {
                let wants = attached.reader.as_ref().map_or(0, |reader| reader.wants);
                (&attached.options, wants.max(attached.options.longest_packet()))
            }
        };
        !transport.flags.ended && transport.inbound.len() < options.recv_high_watermark.max(wanted)
    }

    pub(crate) fn on_input(
        &mut self,
        transport: &mut Transport<H>,
        cx: &mut Cx<'_, H>,
        buffer: &mut [u8],
    ) -> Next<H> {
        if transport.may_read() && self.wants_input(transport) {
            transport.receive(buffer);
        }
        match self.settle(transport, cx, Effort::Large) {
            Next::Keep => Next::look_if(transport.may_read() && self.wants_input(transport)),
            next => next,
        }
    }

    /// Wakes a reader who has what it waits for, or sends to an owner in active mode. What comes before there is an owner
    /// is kept for it, and what is more than the effort is left to the reactor.
    pub(crate) fn settle(
        &mut self,
        transport: &mut Transport<H>,
        cx: &mut Cx<'_, H>,
        effort: Effort,
    ) -> Next<H> {
        let Self::Attached(attached) = self else { return Next::Keep };
        if let Some(reader) = &attached.reader {
            if !matches!(find(transport, attached, reader.wants), Found::Nothing) {
                attached.wake_reader(cx);
            }
            return Next::Keep;
        }
        let Some(owner) = attached.owner else { return Next::Keep };
        let mut left = BYTES_A_HOLD;
        while attached.options.active != Active::Off {
            if left == 0 || !effort.allows_search(transport.inbound.len()) {
                return Next::Look;
            }
            let is_list = attached.options.delivery().is_list(packet_mode(attached));
            match find(transport, attached, 0) {
                Found::Bytes(n) | Found::Packet(n) => {
                    let n = n.min(BYTES_A_HOLD.max(attached.options.recv_high_watermark));
                    if !effort.allows_copy(n, is_list) {
                        return Next::Look;
                    }
                    left = left.saturating_sub((if is_list { n * ELEMENT } else { n }).max(MESSAGE));
                    send(transport, (owner, attached), cx, n);
                }
                Found::End => return send_end(transport, (owner, attached), cx),
                Found::Wrong(_) => {
                    transport.fail(rustix::io::Errno::MSGSIZE);
                    transport.inbound.clear();
                }
                Found::Nothing => break,
            }
        }
        Next::Keep
    }

    /// Gives `wants` bytes (0: whatever is there, or a packet).
    pub(crate) fn read(&mut self, transport: &mut Transport<H>, wants: usize, effort: Effort) -> Step {
        let Self::Attached(attached) = self else { return Step::Failed(Error::Closed) };
        let delivery = attached.options.delivery();
        let mode = packet_mode(attached);
        if mode != Mode::Raw && !effort.allows_search(transport.inbound.len()) {
            return Step::Large;
        }
        match find(transport, attached, wants) {
            Found::Bytes(n) | Found::Packet(n) if !effort.allows_copy(n, delivery.is_list(mode)) => {
                Step::Large
            }
            Found::Bytes(n) => {
                Step::Data(Taken { bytes: take_front(&mut transport.inbound, n), packet: None, delivery })
            }
            Found::Packet(n) => {
                let framing = (packet_mode(attached), attached.options.limits());
                note_headers(transport, attached);
                let bytes = take_packet(&mut transport.inbound, framing.0, n);
                transport.release_inbound();
                Step::Data(Taken { bytes, packet: Some(framing), delivery })
            }
            Found::Nothing => Step::Wait,
            // `inet` closes a socket whose peer has closed when its owner learns of it, unless told otherwise.
            Found::End if attached.options.exit_on_close => Step::Ended(transport.end(&attached.options)),
            Found::End => Step::Failed(transport.end(&attached.options)),
            Found::Wrong(error) => Step::Failed(error),
        }
    }
}

/// The first `n` bytes, without a copy where that is all.
pub(crate) fn take_front(inbound: &mut BytesMut, n: usize) -> BytesMut {
    if n == inbound.len() { std::mem::take(inbound) } else { inbound.split_to(n) }
}

/// The packet of `n` bytes at the front. Whether a header field ends with its line, the byte behind it tells.
fn take_packet(inbound: &mut BytesMut, mode: Mode, n: usize) -> BytesMut {
    if mode == Mode::Line {
        return take_front(inbound, n);
    }
    let packet = BytesMut::from(&inbound[..inbound.len().min(n + 1)]);
    inbound.advance(n);
    packet
}

fn find<H: Host>(transport: &Transport<H>, attached: &Attached<H>, wants: usize) -> Found {
    let mode = packet_mode(attached);
    if mode != Mode::Raw && wants > 0 {
        return Found::Wrong(Error::Invalid);
    }
    let has_enough = transport.inbound.len() >= wants.max(1);
    match mode {
        Mode::Raw if has_enough && wants > 0 => return Found::Bytes(wants),
        Mode::Raw if has_enough => return Found::Bytes(transport.inbound.len()),
        Mode::Raw => {}
        _ => match packet::decode(mode, &transport.inbound, &attached.options.limits()) {
            Decoded::Packet { len, .. } => return Found::Packet(len),
            Decoded::Invalid => return Found::Wrong(Error::MessageSize),
            Decoded::More(_) => {}
        },
    }
    if transport.flags.ended { Found::End } else { Found::Nothing }
}

/// After a request line `inet` goes on with its header fields by itself.
fn packet_mode<H: Host>(attached: &Attached<H>) -> Mode {
    attached.options.packets.mode.of_next(attached.in_headers)
}

/// Remembers what comes behind the packet at the front.
fn note_headers<H: Host>(transport: &Transport<H>, attached: &mut Attached<H>) {
    let decoded = packet::decode(packet_mode(attached), &transport.inbound, &attached.options.limits());
    if let Decoded::Packet { packet, .. } = decoded {
        attached.in_headers = attached.options.packets.mode.in_headers_after(&packet, attached.in_headers);
    }
}

fn send<H: Host>(
    transport: &mut Transport<H>,
    (to, attached): (H::Process, &mut Attached<H>),
    cx: &mut Cx<'_, H>,
    n: usize,
) {
    let (conn, delivery) = (cx.conn, attached.options.delivery());
    let mode = packet_mode(attached);
    if mode == Mode::Raw {
        let packet = &Packet::Line(&transport.inbound[..n]);
        cx.sink.emit(Event::Data { to, conn, packet, delivery });
    } else if let Decoded::Packet { packet, .. } =
        packet::decode(mode, &transport.inbound, &attached.options.limits())
    {
        attached.in_headers = attached.options.packets.mode.in_headers_after(&packet, attached.in_headers);
        cx.sink.emit(Event::Data { to, conn, packet: &packet, delivery });
    }
    transport.inbound.advance(n);
    transport.release_inbound();
    attached.options.active = match attached.options.active {
        Active::On => Active::On,
        Active::Count(n) if n > 1 => Active::Count(n - 1),
        Active::Count(_) => {
            cx.sink.emit(Event::Passive { to, conn });
            Active::Off
        }
        Active::Once | Active::Off => Active::Off,
    };
}

fn send_end<H: Host>(
    transport: &mut Transport<H>,
    (to, attached): (H::Process, &mut Attached<H>),
    cx: &mut Cx<'_, H>,
) -> Next<H> {
    let error = match transport.end(&attached.options) {
        Error::Os(errno) => Some(errno),
        _ => None,
    };
    cx.sink.emit(Event::Closed { to, conn: cx.conn, error });
    if attached.options.exit_on_close {
        return Next::Close { lingers: false };
    }
    attached.options.active = Active::Off;
    Next::Keep
}
