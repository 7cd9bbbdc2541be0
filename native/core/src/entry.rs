//! What a store's entries have in common: connections, and BOSH sessions.

use crate::cx::{Cx, Fate};
use crate::host::{Host, Owned};
use crate::id::Conn;
use crate::store::Pending;
use megaphone_proto::time::Time;

pub(crate) trait Entry<H: Host>: Sized {
    /// What it is called where both kinds are meant.
    fn owned(id: Conn) -> Owned;

    /// The reactor's step. `buffer` is lent for reading.
    fn serve(&mut self, cx: &mut Cx<'_, H>, ready: Pending, buffer: &mut [u8]) -> Fate;

    /// The nearest deadline.
    fn deadline(&self) -> Option<Time>;

    /// When the wheel will look.
    fn timer_at(&mut self) -> &mut Option<Time>;

    /// A process has ended: if it has this, so does this.
    fn owner_down(&mut self, cx: &mut Cx<'_, H>, process: H::Process) -> Fate;

    /// Ends it at once, whoever has it.
    fn abort(&mut self, cx: &mut Cx<'_, H>) -> Fate;

    /// The last step, before it is taken out of its store: who waits is woken, who has it is told.
    fn detach(&mut self, cx: &mut Cx<'_, H>);

    /// When the wheel should look, if it should and does not. The wheel holds hints, the truth is here: so to move a
    /// deadline back is a store.
    fn timer_wanted(&mut self) -> Option<Time> {
        let deadline = self.deadline()?;
        let is_known = self.timer_at().is_some_and(|at| at <= deadline);
        (!is_known).then_some(deadline)
    }

    /// The wheel looked. Whether the deadline is over.
    fn timer_fired(&mut self, now: Time) -> bool {
        let timer_at = self.timer_at();
        if timer_at.is_some_and(|at| at <= now) {
            *timer_at = None;
        }
        self.deadline().is_some_and(|deadline| deadline <= now)
    }
}
