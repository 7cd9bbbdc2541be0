//! Names of connections and listeners.

/// Names one connection for as long as one handler has it.
///
/// 59 bits, so that it is a small integer in Erlang: `shard:4 slot:24 generation:31`. The generation changes
/// when the slot is reused and when a connection is parked, so that a handler which is done can't reach what
/// comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conn(u64);

const GENERATION_BITS: u32 = 31;
const SLOT_BITS: u32 = 24;
const SHARD_BITS: u32 = 4;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

impl Conn {
    /// Slots of one shard.
    pub(crate) const MAX_SLOTS: usize = 1 << SLOT_BITS;
    /// Shards of one system.
    pub(crate) const MAX_SHARDS: usize = 1 << SHARD_BITS;

    pub(crate) fn new(shard: usize, slot: u32, generation: u32) -> Self {
        let place = (shard as u64) << SLOT_BITS | u64::from(slot);
        Self(place << GENERATION_BITS | u64::from(generation & GENERATION_MASK))
    }

    /// The number; `None` when no connection can have it.
    pub fn from_u64(number: u64) -> Option<Self> {
        (number < 1 << (SHARD_BITS + SLOT_BITS + GENERATION_BITS)).then_some(Self(number))
    }

    /// The number that names it outside.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    pub(crate) fn shard(self) -> usize {
        (self.0 >> (SLOT_BITS + GENERATION_BITS)) as usize
    }

    pub(crate) fn slot(self) -> u32 {
        (self.0 >> GENERATION_BITS) as u32 & ((1 << SLOT_BITS) - 1)
    }

    pub(crate) fn generation(self) -> u32 {
        self.0 as u32 & GENERATION_MASK
    }

    /// The same place for the next handler.
    pub(crate) fn next_generation(self) -> Self {
        Self::new(self.shard(), self.slot(), self.generation().wrapping_add(1))
    }
}

/// Names one listener, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_from_the_number() {
        let conn = Conn::new(15, (1 << 24) - 1, GENERATION_MASK);
        assert_eq!((conn.shard(), conn.slot(), conn.generation()), (15, (1 << 24) - 1, GENERATION_MASK));
        assert_eq!(Conn::from_u64(conn.as_u64()), Some(conn));
        assert!(conn.as_u64() < 1 << 59, "must be a small integer in Erlang");
        assert_eq!(Conn::from_u64(1 << 59), None);
    }

    #[test]
    fn generation_wraps_without_touching_the_place() {
        let next = Conn::new(3, 7, GENERATION_MASK).next_generation();
        assert_eq!((next.shard(), next.slot(), next.generation()), (3, 7, 0));
    }
}
