//! Outside of request mode: packet modes and active modes.

use super::read::Found;
use super::{Connection, Cx, Fate, Received};
use crate::Error;
use crate::host::{Event, Host};
use crate::options::{Active, Delivery, SocketOptions};
use bytes::Buf;
use megaphone_proto::packet::{self, Decoded, Mode, Packet};

impl<H: Host> Connection<H> {
    pub(super) fn find_raw(&mut self, wants: usize) -> Found {
        let mode = self.packet_mode();
        if mode != Mode::Raw && wants > 0 {
            return Found::Wrong(Error::Invalid);
        }
        let has_enough = self.inbound.len() >= wants.max(1);
        match mode {
            Mode::Raw if has_enough && wants > 0 => return Found::Bytes(wants),
            Mode::Raw if has_enough => return Found::Bytes(self.inbound.len()),
            Mode::Raw => {}
            _ => match packet::decode(mode, &self.inbound, &self.options().limits) {
                Decoded::Packet { .. } => return Found::Packet,
                Decoded::Invalid => return Found::Wrong(Error::MessageSize),
                Decoded::More(_) => {}
            },
        }
        if !self.flags.ended {
            return Found::Nothing { at_boundary: false };
        }
        // `inet` closes a socket whose peer has closed when its owner learns of it, unless told otherwise.
        Found::End { closes: self.options().exit_on_close }
    }

    pub(super) fn take_packet<R>(
        &mut self,
        take: impl FnOnce(Received<'_>, Delivery) -> R,
    ) -> Result<R, Error> {
        let decoded = packet::decode(self.packet_mode(), &self.inbound, &self.options().limits);
        let Decoded::Packet { packet, len } = decoded else { return Err(Error::MessageSize) };
        let in_headers = in_headers_after(self.options(), self.is_in_headers(), &packet);
        let received = match packet {
            Packet::Line(line) => Received::Bytes(line),
            ref packet => Received::Packet(packet),
        };
        let out = take(received, self.options().delivery());
        if let Some(attached) = &mut self.attached {
            attached.in_headers = in_headers;
        }
        self.inbound.advance(len);
        self.release_inbound();
        Ok(out)
    }

    fn is_in_headers(&self) -> bool {
        self.attached.as_ref().is_some_and(|attached| attached.in_headers)
    }

    /// After a request line `inet` goes on with its header fields by itself.
    fn packet_mode(&self) -> Mode {
        match self.options().packets.mode {
            Mode::Http if self.is_in_headers() => Mode::HttpHeader,
            mode => mode,
        }
    }

    /// Wakes a reader who has what it waits for, or sends to an owner in active mode.
    pub(super) fn settle_raw(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let Some(attached) = &self.attached else { return Fate::Keep };
        if let Some(reader) = &attached.reader {
            let wants = reader.wants;
            if !matches!(self.find_raw(wants), Found::Nothing { .. }) {
                self.wake_reader(cx);
            }
            return Fate::Keep;
        }
        while self.options().active != Active::Off {
            match self.find_raw(0) {
                Found::Bytes(_) | Found::Packet => self.send_packet(cx),
                Found::End { .. } | Found::Refused(_) | Found::Service => return self.send_end(cx),
                Found::Wrong(_) => {
                    self.fail(rustix::io::Errno::MSGSIZE);
                    self.inbound.clear();
                }
                Found::Nothing { .. } => break,
            }
        }
        Fate::Keep
    }

    fn send_packet(&mut self, cx: &mut Cx<'_, H>) {
        let options = *self.options();
        let Some(owner) = self.owner() else { return };
        let conn = cx.conn;
        let sink = &mut *cx.sink;
        let mut send = |packet: &Packet<'_>| {
            sink.emit(Event::Data { to: owner, conn, packet, delivery: options.delivery() });
        };
        if self.packet_mode() == Mode::Raw {
            send(&Packet::Line(&self.inbound));
            self.inbound.clear();
            self.release_inbound();
        } else {
            // Found to be whole just before.
            let _ = self.take_packet(|received, _| match received {
                Received::Bytes(line) => send(&Packet::Line(line)),
                Received::Packet(packet) => send(packet),
            });
        }
        let Some(attached) = &mut self.attached else { return };
        attached.options.active = match attached.options.active {
            Active::On => Active::On,
            Active::Count(n) if n > 1 => Active::Count(n - 1),
            Active::Count(_) => {
                cx.sink.emit(Event::Passive { to: owner, conn });
                Active::Off
            }
            Active::Once | Active::Off => Active::Off,
        };
    }

    fn send_end(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let Some(owner) = self.owner() else { return Fate::Gone };
        let error = match self.end() {
            Error::Os(errno) => Some(errno),
            _ => None,
        };
        cx.sink.emit(Event::Closed { to: owner, conn: cx.conn, error });
        if !self.options().exit_on_close {
            if let Some(attached) = &mut self.attached {
                attached.options.active = Active::Off;
            }
            return Fate::Keep;
        }
        self.begin_close(cx, false)
    }
}

fn in_headers_after(options: &SocketOptions, in_headers: bool, packet: &Packet<'_>) -> bool {
    match packet {
        Packet::Request { .. } | Packet::Response { .. } => options.packets.mode == Mode::Http,
        Packet::EndOfHeader | Packet::HttpError(_) => false,
        Packet::Header { .. } | Packet::Line(_) => in_headers,
    }
}
