//! Options of a connection: those of its owner's, and those of its socket.

use super::Connection;
use crate::cx::{Cx, Fate};
use crate::error::Error;
use crate::host::{Event, Host};
use crate::options::{Active, Opt};
use crate::role::raw::Raw;
use crate::role::{Next, Role};
use crate::settings::Effort;
use megaphone_proto::packet::Mode;
use std::time::Duration;

impl<H: Host> Connection<H> {
    /// Sets one option. A packet mode or an active mode ends request mode for good.
    pub(crate) fn set(&mut self, cx: &mut Cx<'_, H>, option: Opt) -> Result<Fate, Error> {
        let is_framing = matches!(option, Opt::Active(_) | Opt::ActiveAdd(_) | Opt::Packets(_));
        if matches!(&self.role, Role::Stream(stream) if stream.owner().is_some()) {
            return if is_framing {
                Err(Error::Invalid)
            } else {
                self.set_socket(option).map(|()| Fate::Keep)
            };
        }
        let attached = self.attached_mut().ok_or(Error::Closed)?;
        match option {
            Opt::Active(active) => return Ok(self.set_active(cx, active)),
            Opt::ActiveAdd(n) => return self.add_active(cx, n),
            Opt::Packets(packets) => {
                attached.options.packets = packets;
                if packets.mode != Mode::Raw {
                    self.become_raw();
                }
            }
            Opt::RecvBuffer(size) => {
                attached.options.buffer.recbuf_is_set(size);
                self.set_socket(option)?;
            }
            other if attached.options.set(other) => {}
            other => self.set_socket(other)?,
        }
        Ok(self.look_if_room())
    }

    fn set_socket(&mut self, option: Opt) -> Result<(), Error> {
        self.transport.carrier.set(option)?;
        if let Opt::Linger(linger) = option {
            self.transport.flags.lingers_on_close = linger.is_some();
        }
        Ok(())
    }

    fn become_raw(&mut self) {
        if let Role::Http(http) = &mut self.role
            && let Some(mut attached) = http.take_attached()
        {
            attached.is_used = true;
            self.role = Role::Raw(Raw::Attached(attached));
        }
    }

    fn set_active(&mut self, cx: &mut Cx<'_, H>, active: Active) -> Fate {
        let Some(attached) = self.attached_mut() else { return Fate::Keep };
        attached.options.active = active;
        if active == Active::Off {
            return Fate::Keep;
        }
        self.become_raw();
        let Role::Raw(raw) = &mut self.role else { return Fate::Keep };
        match raw.settle(&mut self.transport, cx, Effort::Normal) {
            Next::Keep => self.look_if_room(),
            next => self.apply(cx, next),
        }
    }

    fn add_active(&mut self, cx: &mut Cx<'_, H>, n: i16) -> Result<Fate, Error> {
        let attached = self.attached_mut().ok_or(Error::Closed)?;
        let now = match attached.options.active {
            Active::Count(count) => i32::from(count),
            // `inet` counts from nothing when there was no count.
            Active::Off | Active::On | Active::Once => 0,
        };
        let sum = now + i32::from(n);
        if sum > i32::from(i16::MAX) || sum < i32::from(i16::MIN) {
            return Err(Error::Invalid);
        }
        if sum > 0 {
            return Ok(self.set_active(cx, Active::Count(sum as i16)));
        }
        attached.options.active = Active::Off;
        if let Some(to) = attached.owner {
            cx.sink.emit(Event::Passive { to, conn: cx.conn });
        }
        Ok(Fate::Keep)
    }

    /// The value of the option that `like` is one of.
    pub(crate) fn get(&self, like: Opt) -> Result<Opt, Error> {
        match self.options().get(like) {
            Some(found) => Ok(found),
            None => Ok(self.transport.carrier.get(like)?),
        }
    }

    /// How long a send may wait, and whether the connection closes when it waited in vain.
    pub(crate) fn send_timeout(&self) -> (Option<Duration>, bool) {
        (self.options().send_timeout, self.options().send_timeout_close)
    }
}
