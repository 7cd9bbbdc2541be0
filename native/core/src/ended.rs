//! Processes that have ended, and what ends with them.
//!
//! Whoever learns of an end must not be kept for as long as it takes to close thousands of connections. So it hands the list
//! over, in a time that does not depend on its length, and each shard's thread works through its own part of it, some a turn.
//! Nothing is lost: what is on a list stays until it was ended. Nothing grows without bound: a list is what was watched for
//! a living process, moved.

use crate::connection::Connection;
use crate::cx::{Cx, Fate};
use crate::engine::{Engine, Stored};
use crate::host::{Host, Owned, Sink};
use crate::id::Conn;
use crate::session::BoshSession;
use crate::store::{Busy, Pending};
use std::collections::LinkedList;
use std::sync::Arc;

/// A process that has ended.
pub(crate) struct Ended<H: Host> {
    process: H::Process,
    owned: Vec<Owned>,
}

/// A list as one shard works through it. What is another shard's is passed over.
pub(crate) struct Share<H: Host> {
    ended: Arc<Ended<H>>,
    next: usize,
}

/// Linked, so that to add one or all of another takes the same time however many there are.
pub(crate) type Shares<H> = LinkedList<Share<H>>;

impl<H: Host> Share<H> {
    pub(crate) fn process(&self) -> H::Process {
        self.ended.process
    }

    /// The next on the list, which is behind it from here on: what panics is not met again.
    pub(crate) fn take(&mut self) -> Option<Owned> {
        let owned = self.ended.owned.get(self.next).copied();
        self.next += usize::from(owned.is_some());
        owned
    }

    /// The last one that was taken comes again.
    pub(crate) fn put_back(&mut self) {
        self.next = self.next.saturating_sub(1);
    }
}

impl<H: Host> Engine<H> {
    /// Hands over what ends with a process. Takes no longer for a longer list.
    pub(crate) fn process_ended(&self, process: H::Process, owned: Vec<Owned>) {
        let only = match owned[..] {
            [] => return,
            [one] => Some(self.shard_of(one)),
            _ => None,
        };
        let ended = Arc::new(Ended { process, owned });
        for (index, shard) in self.shards.iter().enumerate() {
            if only.is_none_or(|only| only == index) {
                shard.hand_over(Share { ended: Arc::clone(&ended), next: 0 });
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
