//! Options, the owner, and monitors of one connection.

use super::{Connection, Cx, Engine, Fate, Phase};
use crate::Error;
use crate::host::{Event, Host, Owned};
use crate::options::{Active, Opt, SocketOptions};
use megaphone_proto::packet::Mode;
use std::time::Duration;

impl<H: Host> Connection<H> {
    /// Sets one option. A packet mode or an active mode ends request mode for good.
    pub(crate) fn set(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        option: Opt,
    ) -> Result<Fate, Error> {
        self.claim(cx, process);
        let Some(attached) = self.attached.as_mut().filter(|_| self.phase == Phase::Running) else {
            return Err(Error::Closed);
        };
        let options = &mut attached.options;
        let is_framing = matches!(option, Opt::Active(_) | Opt::ActiveAdd(_) | Opt::Packets(_));
        if is_framing && matches!(self.engine, Engine::Xmpp(_)) {
            return Err(Error::Invalid);
        }
        match option {
            Opt::Active(active) => return Ok(self.set_active(cx, active)),
            Opt::ActiveAdd(n) => return self.add_active(cx, n),
            Opt::Packets(packets) => {
                options.packets = packets;
                attached.in_headers = false;
                if packets.mode != Mode::Raw {
                    self.engine = Engine::Raw;
                }
            }
            Opt::PacketSize(size) => options.limits.packet_size = size,
            Opt::LineLength(length) => options.limits.line_length = length,
            Opt::AsList(as_list) => options.as_list = as_list,
            Opt::SendTimeout(timeout) => options.send_timeout = timeout,
            Opt::SendTimeoutClose(close) => options.send_timeout_close = close,
            Opt::HighWatermark(bytes) => options.high_watermark = bytes,
            Opt::LowWatermark(bytes) => options.low_watermark = bytes,
            Opt::RecvHighWatermark(bytes) => options.recv_high_watermark = bytes.max(1),
            Opt::ExitOnClose(close) => options.exit_on_close = close,
            Opt::ShowEconnreset(show) => options.show_econnreset = show,
            Opt::Linger(linger) => {
                self.source.set(option)?;
                self.flags.lingers_on_close = linger.is_some_and(|linger| !linger.is_zero());
            }
            Opt::NoDelay(_)
            | Opt::KeepAlive(_)
            | Opt::RecvBuffer(_)
            | Opt::SendBuffer(_)
            | Opt::ReuseAddr(_)
            | Opt::Tos(_) => self.source.set(option)?,
        }
        Ok(self.look_if_room())
    }

    fn set_active(&mut self, cx: &mut Cx<'_, H>, active: Active) -> Fate {
        let Some(attached) = &mut self.attached else { return Fate::Keep };
        attached.options.active = active;
        if active == Active::Off {
            return Fate::Keep;
        }
        self.engine = Engine::Raw;
        match self.settle_raw(cx) {
            Fate::Keep => self.look_if_room(),
            fate => fate,
        }
    }

    fn add_active(&mut self, cx: &mut Cx<'_, H>, n: i16) -> Result<Fate, Error> {
        let Some(attached) = &mut self.attached else { return Err(Error::Closed) };
        let now = match attached.options.active {
            Active::Count(count) => i32::from(count),
            Active::Off => 0,
            // `inet` counts from nothing when there was no count.
            Active::On | Active::Once => 0,
        };
        let sum = now + i32::from(n);
        if sum > i32::from(i16::MAX) || sum < i32::from(i16::MIN) {
            return Err(Error::Invalid);
        }
        if sum > 0 {
            return Ok(self.set_active(cx, Active::Count(sum as i16)));
        }
        attached.options.active = Active::Off;
        cx.sink.emit(Event::Passive { to: attached.owner, conn: cx.conn });
        Ok(Fate::Keep)
    }

    /// The value of the option that `like` is one of.
    pub(crate) fn get(&self, like: Opt) -> Result<Opt, Error> {
        let options: &SocketOptions = self.options();
        Ok(match like {
            Opt::Active(_) | Opt::ActiveAdd(_) => Opt::Active(options.active),
            Opt::Packets(_) => Opt::Packets(options.packets),
            Opt::PacketSize(_) => Opt::PacketSize(options.limits.packet_size),
            Opt::LineLength(_) => Opt::LineLength(options.limits.line_length),
            Opt::AsList(_) => Opt::AsList(options.as_list),
            Opt::SendTimeout(_) => Opt::SendTimeout(options.send_timeout),
            Opt::SendTimeoutClose(_) => Opt::SendTimeoutClose(options.send_timeout_close),
            Opt::HighWatermark(_) => Opt::HighWatermark(options.high_watermark),
            Opt::LowWatermark(_) => Opt::LowWatermark(options.low_watermark),
            Opt::RecvHighWatermark(_) => Opt::RecvHighWatermark(options.recv_high_watermark),
            Opt::ExitOnClose(_) => Opt::ExitOnClose(options.exit_on_close),
            Opt::ShowEconnreset(_) => Opt::ShowEconnreset(options.show_econnreset),
            other => self.source.get(other)?,
        })
    }

    /// How long a send may wait, and whether the connection closes when it waited in vain.
    pub(crate) fn send_timeout(&self) -> (Option<Duration>, bool) {
        (self.options().send_timeout, self.options().send_timeout_close)
    }

    /// Hands the connection from one owner to another.
    pub(crate) fn give(&mut self, cx: &mut Cx<'_, H>, from: H::Process, to: H::Process) -> Result<(), Error> {
        let Some(attached) = self.attached.as_mut().filter(|_| self.phase == Phase::Running) else {
            return Err(Error::Closed);
        };
        if attached.owner != from {
            return Err(Error::NotOwner);
        }
        if from == to {
            return Ok(());
        }
        if !cx.sink.watch(to, Owned::Connection(cx.conn)) {
            return Err(Error::Invalid);
        }
        attached.owner = to;
        cx.sink.unwatch(from, Owned::Connection(cx.conn));
        Ok(())
    }

    /// `waiter` is woken when the connection is no longer its owner's.
    pub(crate) fn monitor(
        &mut self,
        cx: &mut Cx<'_, H>,
        process: H::Process,
        key: u64,
        waiter: H::Waiter,
    ) -> Result<(), Error> {
        self.claim(cx, process);
        let attached = self.attached.as_mut().ok_or(Error::Closed)?;
        attached.monitors.push((key, waiter));
        Ok(())
    }

    /// Takes that back. False when there was none.
    pub(crate) fn demonitor(&mut self, key: u64) -> bool {
        let Some(attached) = &mut self.attached else { return false };
        let before = attached.monitors.len();
        attached.monitors.retain(|(other, _)| *other != key);
        attached.monitors.len() < before
    }
}
