//! What the engine does when a process has ended: see [`ended`](crate::ended).

use crate::connection::Connection;
use crate::cx::{Cx, Fate};
use crate::ended::{Belongings, Share};
use crate::engine::{Engine, Stored};
use crate::host::{Host, Owned, Sink};
use crate::id::Conn;
use crate::session::BoshSession;
use crate::store::{Busy, Pending};

impl<H: Host> Engine<H> {
    /// Hands over what ends with a process. Takes no longer where that is more.
    pub(crate) fn process_ended(&self, process: H::Process, owned: Belongings) {
        if owned.is_empty() {
            return;
        }
        let only = owned.only().map(|one| self.shard_of(one));
        let share = Share::each(process, owned);
        for (index, shard) in self.shards.iter().enumerate() {
            if only.is_none_or(|only| only == index) {
                shard.hand_over(share());
            }
        }
    }

    /// Whose thread ends it.
    pub(crate) fn shard_of(&self, owned: Owned) -> usize {
        match owned {
            Owned::Connection(conn) | Owned::Session(conn) => conn.shard(),
            Owned::Listener(id) => id.0 as usize % self.shards.len(),
        }
    }

    /// The reactor's: ends something whose process has ended, unless it has another one by now.
    pub(crate) fn end_owned(
        &self,
        owned: Owned,
        process: H::Process,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Busy> {
        match owned {
            Owned::Connection(conn) => self.end_entry::<Connection<H>>(conn, process, sink),
            Owned::Session(id) => self.end_entry::<BoshSession<H>>(id, process, sink),
            Owned::Listener(id) => {
                sink.unwatch(process, owned);
                self.end_listener(id, sink);
                Ok(())
            }
        }
    }

    fn end_entry<T: Stored<H>>(
        &self,
        id: Conn,
        process: H::Process,
        sink: &mut dyn Sink<H>,
    ) -> Result<(), Busy> {
        let Some(shard) = self.shards.get(id.shard()) else { return Ok(()) };
        let Some(guard) = T::store(shard).lock_now(id)? else { return Ok(()) };
        let mut effects = Vec::new();
        let mut cx = Cx { shared: &self.shared, conn: id, sink, effects: &mut effects };
        let stepped =
            self.step_locked(shard, guard, &mut cx, |entry: &mut T, cx| ((), entry.owner_down(cx, process)));
        if let Ok(((), Fate::Look)) = stepped {
            T::store(shard).notify(id.slot(), Pending::LOOK);
        }
        self.carry_out(effects, sink);
        Ok(())
    }
}
