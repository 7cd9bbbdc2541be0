//! One connection: a transport, and the role that its bytes play.
//!
//! Everything here runs with the connection locked, on its reactor's thread or on that of a caller. What callers of the
//! socket interface ask for is in `calls`, what owners of streams and sessions do in `exchange`.

mod calls;
mod exchange;
mod options;

pub(crate) use calls::{Polled, Read};

use crate::attached::Attached;
use crate::carrier::Carrier;
use crate::cx::{Cx, Fate};
use crate::entry::Entry;
use crate::host::{Event, Host, Owned};
use crate::id::Conn;
use crate::listener::Ingress;
use crate::options::{Active, SocketOptions};
use crate::role::closing::Closing;
use crate::role::raw::Raw;
use crate::role::stream::StreamRole;
use crate::role::{Next, Role, first_role, proxy};
use crate::stats::ConnectionInfo;
use crate::store::{Pending, Store};
use crate::transport::Transport;
use megaphone_proto::time::Time;
use std::sync::Arc;

/// A connection's record. Its size is what a parked connection costs.
pub(crate) struct Connection<H: Host> {
    transport: Transport<H>,
    role: Role<H>,
}

impl<H: Host> Drop for Connection<H> {
    fn drop(&mut self) {
        self.transport.discard_inbound();
    }
}

impl<H: Host> Connection<H> {
    pub(crate) fn new(carrier: Carrier, ingress: Arc<Ingress<H>>, cx: &Cx<'_, H>) -> Self {
        // A connection manager has read the header of the proxy before it.
        let is_unknown = ingress.ends().is_none() && ingress.config.proxy_protocol.is_some();
        let transport = Transport::new(carrier, ingress);
        let role = if is_unknown { Role::Proxy } else { first_role(&transport, cx) };
        Self { transport, role }
    }

    pub(crate) fn transport(&self) -> &Transport<H> {
        &self.transport
    }

    pub(crate) fn owner(&self) -> Option<H::Process> {
        match &self.role {
            Role::Stream(stream) => stream.owner(),
            _ => self.attached().and_then(|attached| attached.owner),
        }
    }

    fn attached(&self) -> Option<&Attached<H>> {
        match &self.role {
            Role::Http(http) => http.attached(),
            Role::Raw(raw) => raw.attached(),
            Role::Proxy | Role::Stream(_) | Role::Closing(_) => None,
        }
    }

    fn attached_mut(&mut self) -> Option<&mut Attached<H>> {
        match &mut self.role {
            Role::Http(http) => http.attached_mut(),
            Role::Raw(raw) => raw.attached_mut(),
            Role::Proxy | Role::Stream(_) | Role::Closing(_) => None,
        }
    }

    fn options(&self) -> &SocketOptions {
        self.attached().map_or(&self.transport.listener.config.options, |attached| &attached.options)
    }

    fn is_starting(&self) -> bool {
        match &self.role {
            Role::Http(http) => http.is_starting(),
            Role::Raw(raw) => raw.is_starting(),
            Role::Stream(stream) => stream.is_starting(),
            Role::Proxy | Role::Closing(_) => false,
        }
    }

    pub(crate) fn info(&self) -> ConnectionInfo<H::Process> {
        ConnectionInfo {
            listener: self.transport.listener.id,
            phase: match &self.role {
                Role::Http(http) => http.name(),
                Role::Stream(stream) => stream.name(),
                Role::Raw(raw) => raw.name(),
                Role::Closing(closing) => closing.name(),
                Role::Proxy => "proxy",
            },
            owner: self.owner(),
            is_http: matches!(self.role, Role::Http(_)),
            transport: match &self.role {
                Role::Stream(stream) => Some(stream.transport_name()),
                Role::Proxy | Role::Http(_) | Role::Raw(_) | Role::Closing(_) => None,
            },
            inbound: self.transport.inbound.len(),
            outbound: self.transport.outbound.len(),
            bytes: Store::<Self>::SLOT
                + self.transport.listener.bytes()
                + self.transport.carrier.bytes()
                + match &self.role {
                    Role::Http(http) => http.bytes(),
                    Role::Stream(_) => size_of::<StreamRole<H>>(),
                    Role::Raw(raw) => raw.attached().map_or(0, size_of_val),
                    Role::Proxy | Role::Closing(_) => 0,
                },
            traffic: self.transport.traffic,
        }
    }

    /// The first step of a new connection, on its reactor's or the acceptor's thread.
    pub(crate) fn begin(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let next = match &mut self.role {
            Role::Http(http) => http.settle(&mut self.transport, cx),
            Role::Stream(stream) => stream.on_input(&mut self.transport, cx, &mut []),
            Role::Raw(raw) => {
                raw.begin(&mut self.transport, cx);
                Next::Keep
            }
            Role::Proxy => proxy::begin(&mut self.transport, cx),
            Role::Closing(_) => Next::Keep,
        };
        self.apply(cx, next)
    }

    fn on_input(&mut self, cx: &mut Cx<'_, H>, buffer: &mut [u8]) -> Fate {
        let transport = &mut self.transport;
        let next = match &mut self.role {
            Role::Http(http) => http.on_input(transport, cx, buffer),
            Role::Stream(stream) => stream.on_input(transport, cx, buffer),
            Role::Raw(raw) => raw.on_input(transport, cx, buffer),
            Role::Proxy => proxy::on_input(transport, cx, buffer),
            Role::Closing(closing) => closing.on_input(transport, cx, buffer),
        };
        self.apply(cx, next)
    }

    fn on_timeout(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let transport = &mut self.transport;
        let next = match &mut self.role {
            Role::Http(http) => http.on_timeout(transport, cx),
            Role::Stream(stream) => stream.on_timeout(transport, cx),
            Role::Raw(raw) if raw.is_starting() => {
                cx.shared.notices.start_timeout(cx.sink, transport.listener.id);
                Next::Gone
            }
            Role::Raw(_) => {
                transport.deadline = None;
                Next::Keep
            }
            Role::Proxy => proxy::on_timeout(transport, cx),
            Role::Closing(_) => Next::Gone,
        };
        self.apply(cx, next)
    }

    /// The reactor's: the socket takes bytes again.
    fn flush(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        // Also where nothing is queued: who sends a file waits for room in the socket. A failure shows in the transport, where whoever reads learns of it.
        let _ = self.transport.flush();
        let low_watermark = self.options().low_watermark;
        let has_room = self.transport.outbound.len() <= low_watermark;
        let next = match &mut self.role {
            Role::Closing(closing) => closing.advance(&mut self.transport, cx),
            Role::Stream(stream) => {
                stream.on_room(&mut self.transport, cx);
                Next::Keep
            }
            Role::Proxy | Role::Http(_) | Role::Raw(_) => {
                if has_room {
                    self.attached_mut().into_iter().for_each(|attached| attached.writers.wake(cx));
                }
                Next::Keep
            }
        };
        self.apply(cx, next)
    }

    /// Carries out what a role's step comes to.
    fn apply(&mut self, cx: &mut Cx<'_, H>, next: Next<H>) -> Fate {
        match next {
            // A role that has written leaves what was too much for one hold of the lock to the reactor.
            Next::Keep => self.transport.look_if_unsent(),
            Next::Look => Fate::Look,
            Next::Gone => Fate::Gone,
            Next::Close { lingers } => self.begin_close(cx, lingers),
            Next::Become(role) => {
                self.role = role;
                self.begin(cx).or(Fate::Look)
            }
        }
    }

    /// `lingers`: closing with unread input would reset the connection and destroy what was sent last.
    fn begin_close(&mut self, cx: &mut Cx<'_, H>, mut lingers: bool) -> Fate {
        if let Role::Stream(stream) = &mut self.role {
            // A client that has not heard of the end of its stream yet may be sending.
            lingers = true;
            stream.say_goodbye(&mut self.transport);
        }
        self.let_go(cx);
        self.transport.discard_inbound();
        if self.transport.fault.is_some() {
            return Fate::Gone;
        }
        let mut closing = Closing::begin(&mut self.transport, cx, lingers);
        let next = closing.advance(&mut self.transport, cx);
        self.role = Role::Closing(closing);
        self.apply(cx, next)
    }

    /// Takes the connection from whoever has it.
    fn let_go(&mut self, cx: &mut Cx<'_, H>) {
        match &mut self.role {
            Role::Http(http) => http.detach(cx),
            Role::Stream(stream) => stream.detach(cx),
            Role::Raw(raw) => {
                if let Raw::Attached(attached) = std::mem::replace(raw, Raw::Queued) {
                    attached.detach(cx);
                }
            }
            Role::Proxy | Role::Closing(_) => {}
        }
    }

    fn is_unread(&self) -> bool {
        let is_in_request = matches!(&self.role, Role::Http(http) if http.is_unread());
        is_in_request || !self.transport.inbound.is_empty() || self.transport.flags.readable
    }
}

impl<H: Host> Entry<H> for Connection<H> {
    fn owned(id: Conn) -> Owned {
        Owned::Connection(id)
    }

    fn serve(&mut self, cx: &mut Cx<'_, H>, ready: Pending, buffer: &mut [u8]) -> Fate {
        self.transport.note(ready);
        let mut fate = Fate::Keep;
        if ready.has(Pending::WRITABLE) || self.transport.flags.flush_again {
            fate = self.flush(cx);
        }
        if fate != Fate::Gone && ready.has(Pending::TIMER) && self.timer_fired(cx.now()) {
            fate = fate.or(self.on_timeout(cx));
        }
        if fate == Fate::Gone { fate } else { fate.or(self.on_input(cx, buffer)) }
    }

    fn deadline(&self) -> Option<Time> {
        self.transport.deadline
    }

    fn timer_at(&mut self) -> &mut Option<Time> {
        &mut self.transport.timer_at
    }

    fn owner_down(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> Fate {
        if self.owner() == Some(process) { self.close_with_input(cx) } else { Fate::Keep }
    }

    /// The owner in active mode, or of a stream, is told.
    fn abort(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        if let Role::Stream(stream) = &mut self.role {
            stream.tell_of_end(cx);
        } else if let Some(attached) = self.attached()
            && let Some(to) = attached.owner
            && attached.options.active != Active::Off
        {
            cx.sink.emit(Event::Closed { to, conn: cx.conn, error: None });
        }
        Fate::Gone
    }

    fn detach(&mut self, cx: &mut Cx<'_, H>) {
        self.let_go(cx);
    }
}
