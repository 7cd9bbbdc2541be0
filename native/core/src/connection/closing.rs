//! How a connection ends: drained, lingering, at once, or at its deadline.

use super::*;
use crate::options::Opt;
use crate::xmpp::XmppEvent;

impl<H: Host> Connection<H> {
    /// The owner is done: what is queued is sent, then the connection closes.
    pub(crate) fn close(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let is_unread = !self.inbound.is_empty()
            || self.requests().is_some_and(|requests| requests.remaining() > 0)
            || self.flags.readable;
        self.begin_close(cx, is_unread)
    }

    /// `lingers`: closing with unread input would reset the connection and destroy what was sent last.
    pub(super) fn begin_close(&mut self, cx: &mut Cx<'_, H>, lingers: bool) -> Fate {
        // A client that has not heard of the end of its stream yet may be sending.
        let lingers = lingers || self.link().is_some();
        self.end_stream();
        self.detach(cx);
        self.inbound = BytesMut::new();
        self.phase = Phase::Draining { lingers };
        self.deadline = cx.system.deadline(DRAIN);
        self.finish_drain(cx)
    }

    pub(super) fn finish_drain(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        let Phase::Draining { lingers } = self.phase else { return Fate::Keep };
        if !self.outbound.is_empty() {
            return Fate::Look;
        }
        // Also what came while output left must not make the close a reset.
        let lingers = lingers || self.flags.readable;
        if !lingers || self.flags.ended || self.source.shutdown(Shutdown::Write).is_err() {
            return Fate::Gone;
        }
        self.phase = Phase::Lingering { discarded: 0 };
        self.deadline = cx.system.deadline(LINGER);
        // Whatever came in before is to be discarded, edge or not.
        self.flags.readable = true;
        Fate::Look
    }

    /// The owner died.
    pub(crate) fn owner_down(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> Fate {
        if self.owner() == Some(process) { self.close(cx) } else { Fate::Keep }
    }

    /// Closes at once, whoever has it. The owner in active mode is told.
    pub(crate) fn abort(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        if let (Some(to), Some(_)) = (self.owner(), self.link()) {
            cx.sink.emit(Event::Xmpp { to, event: XmppEvent::Closed });
        } else if let Some(attached) = &self.attached
            && attached.options.active != Active::Off
        {
            cx.sink.emit(Event::Closed { to: attached.owner, conn: cx.conn, error: None });
        }
        self.detach(cx);
        Fate::Gone
    }

    /// The wheel looked at `tick`. Returns whether the deadline is over.
    pub(crate) fn timer_fired(&mut self, tick: Tick) -> bool {
        if self.timer_at != tick {
            return false; // an entry that a nearer one replaced
        }
        self.timer_at = 0;
        self.deadline != 0 && self.deadline <= tick
    }

    /// When the wheel should look, if it should and does not.
    pub(crate) fn timer_wanted(&self) -> Option<Tick> {
        let is_late = self.timer_at == 0 || self.deadline < self.timer_at;
        (self.deadline != 0 && is_late).then_some(self.deadline)
    }

    pub(crate) fn timer_set(&mut self, at: Tick) {
        self.timer_at = at;
    }

    fn is_skipping(&self) -> bool {
        self.requests().is_some_and(Requests::is_skipping)
    }

    /// A descriptor with a linger time would hold up the thread that closes it.
    pub(crate) fn never_block_on_close(&self) {
        if self.flags.lingers_on_close {
            // Fails only on a descriptor that is no socket.
            let _ = self.source.set(Opt::Linger(None));
        }
    }

    /// The deadline is over.
    pub(crate) fn timed_out(&mut self, cx: &mut Cx<'_, H>) -> Fate {
        self.deadline = 0;
        match self.phase {
            Phase::Waiting(_) if self.link().is_some() => self.header_timed_out(cx),
            Phase::Waiting(Stage::Head) => self.refuse(cx, RequestError::HeadTimeout),
            // The request of a body that is being discarded has had its answer.
            Phase::Waiting(Stage::Body) if self.is_skipping() => self.begin_close(cx, true),
            Phase::Waiting(Stage::Body | Stage::Service) => self.refuse(cx, RequestError::BodyTimeout),
            Phase::Starting => {
                cx.system.notices().start_timeout(cx.sink, self.listener.id);
                Fate::Gone
            }
            Phase::Running => self.stream_timed_out(cx),
            // A slow client may be silent because it is still receiving.
            Phase::Waiting(Stage::New | Stage::Idle) => self.begin_close(cx, false),
            _ => Fate::Gone,
        }
    }
}
