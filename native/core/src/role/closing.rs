//! How a connection ends once nobody has it: drained, then lingering until the peer has closed as well.

use super::Next;
use crate::cx::Cx;
use crate::host::Host;
use crate::transport::Transport;
use megaphone_proto::time::Time;
use rustix::net::Shutdown;
use std::time::Duration;

/// How long a peer may take to close its side after we closed ours, before unread bytes make us reset.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes that a peer may still send meanwhile.
const LINGER_BYTES: usize = 1024 * 1024;
/// How long a peer may take none of the output that is left.
const DRAIN: Duration = Duration::from_secs(30);
/// How long it may take for all of it, however steadily it does.
const DRAIN_ALL: Duration = Duration::from_secs(300);

pub(crate) enum Closing {
    /// Output leaves.
    Draining { lingers: bool, by: Time },
    /// Our side is closed; what the peer sends is discarded until it closes too.
    Lingering { discarded: usize },
}

impl Closing {
    /// Begins with output that may be queued. To be followed by [`advance`](Self::advance).
    pub(crate) fn begin<H: Host>(transport: &mut Transport<H>, cx: &Cx<'_, H>, lingers: bool) -> Self {
        let all = transport.linger().unwrap_or(DRAIN_ALL);
        let by = cx.deadline(all);
        transport.deadline = Some(due(by, cx.now()));
        transport.flags.flush_again = !transport.outbound.is_empty();
        Self::Draining { lingers, by }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Draining { .. } => "draining",
            Self::Lingering { .. } => "lingering",
        }
    }

    /// Bytes may have left.
    pub(crate) fn advance<H: Host>(&mut self, transport: &mut Transport<H>, cx: &Cx<'_, H>) -> Next<H> {
        let Self::Draining { lingers, by } = *self else { return Next::Keep };
        if !transport.outbound.is_empty() {
            transport.deadline = Some(due(by, cx.now()));
            return Next::look_if(transport.flags.flush_again);
        }
        // Also what came while output left must not make the close a reset.
        let lingers = lingers || transport.flags.readable;
        let is_over = !lingers || transport.flags.ended;
        if is_over || transport.carrier.shutdown(Shutdown::Write).is_err() {
            return Next::Gone;
        }
        *self = Self::Lingering { discarded: 0 };
        transport.set_deadline(cx, LINGER);
        // Whatever came in before is to be discarded, edge or not.
        transport.flags.readable = true;
        Next::Look
    }

    pub(crate) fn on_input<H: Host>(
        &mut self,
        transport: &mut Transport<H>,
        cx: &Cx<'_, H>,
        buffer: &mut [u8],
    ) -> Next<H> {
        let Self::Lingering { discarded } = self else { return self.watch(transport, cx) };
        if transport.may_read() {
            *discarded += transport.read(buffer);
        }
        if transport.flags.ended || *discarded > LINGER_BYTES {
            return Next::Gone;
        }
        Next::look_if(transport.flags.readable)
    }

    /// A peer that is gone takes nothing more.
    fn watch<H: Host>(&mut self, transport: &mut Transport<H>, cx: &Cx<'_, H>) -> Next<H> {
        if transport.fault.is_some() { Next::Gone } else { self.advance_if_empty(transport, cx) }
    }

    fn advance_if_empty<H: Host>(&mut self, transport: &mut Transport<H>, cx: &Cx<'_, H>) -> Next<H> {
        if transport.outbound.is_empty() { self.advance(transport, cx) } else { Next::Keep }
    }
}

/// When draining that moved now is given up, if it does not move again.
fn due(by: Time, now: Time) -> Time {
    by.min(now.after(DRAIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_progress_puts_off_the_end_up_to_the_bound() {
        let by = Time::START.after(DRAIN_ALL);
        let mut now = Time::START;
        while now < by {
            let given_up = due(by, now);
            assert!(given_up > now && given_up <= by);
            assert!(given_up == by || given_up == now.after(DRAIN));
            now = now.after(Time::TICK * 10);
        }
        assert_eq!(by.since(Time::START), DRAIN_ALL + Time::TICK);
    }
}
