//! What a visit to a link is given.

use crate::engine::Engine;
use crate::host::{Host, Sink};
use crate::mailbox::Place;
use crate::shard::Shard;
use crate::store::Pending;
use megaphone_proto::time::Time;
use std::collections::VecDeque;
use std::time::Instant;

/// Tokens from here on are links.
pub(crate) const LINKS: usize = 1 << 33;

pub(crate) struct Turn<'a, H: Host> {
    pub(crate) engine: &'a Engine<H>,
    /// The shard.
    pub(crate) index: usize,
    pub(crate) sink: &'a mut dyn Sink<H>,
    /// The reactor's queue.
    pub(crate) fresh: &'a mut VecDeque<Place>,
    pub(crate) now: Time,
    /// When others have theirs.
    pub(crate) end: Instant,
}

impl<H: Host> Turn<'_, H> {
    pub(crate) fn shard(&self) -> &Shard<H> {
        &self.engine.shards[self.index]
    }

    /// A stream's connection is readable or the like.
    pub(crate) fn mark(&mut self, slot: u32, bits: Pending) {
        if self.shard().connections.mark(slot, bits) {
            self.fresh.push_back(Place::Connection(slot));
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }
}
