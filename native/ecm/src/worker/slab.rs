//! Clients by slot, in pages that never move. A slot that is used again has another generation.

use crate::control::ConnectionId;

const PAGE: usize = 1024;
const NONE: u32 = u32::MAX;

/// Slots are numbered with so many bits; that is one more than there may be connections.
pub(super) const SLOT_BITS: u32 = 24;

/// Where something is, and which of those that were there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl Key {
    /// What operators call the client of a worker: all three as one number, small at first.
    pub(super) fn id(self, worker: u8) -> ConnectionId {
        ConnectionId(u64::from(self.generation) << 32 | u64::from(worker) << SLOT_BITS | u64::from(self.slot))
    }
}

/// Worker, slot and generation of a client.
pub(crate) fn locate(id: ConnectionId) -> (usize, u32, u32) {
    let low = id.0 as u32;
    ((low >> SLOT_BITS) as usize, low & ((1 << SLOT_BITS) - 1), (id.0 >> 32) as u32)
}

struct Slot<T> {
    generation: u32,
    /// The next one that is free.
    next: u32,
    value: Option<T>,
}

/// Holds values.
pub(super) struct Slab<T> {
    pages: Vec<Box<[Slot<T>]>>,
    free: u32,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { pages: Vec::new(), free: NONE, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Slots that there are, used or not.
    pub(super) fn slots(&self) -> u32 {
        (self.pages.len() * PAGE) as u32
    }

    /// None when all numbers are in use.
    pub(super) fn insert(&mut self, value: T) -> Option<Key> {
        if self.free == NONE {
            self.grow()?;
        }
        let slot = self.free;
        let entry = self.slot_mut(slot)?;
        entry.value = Some(value);
        let (generation, next) = (entry.generation, entry.next);
        self.free = next;
        self.len += 1;
        Some(Key { slot, generation })
    }

    fn grow(&mut self) -> Option<()> {
        let from = self.slots();
        if from >> SLOT_BITS != 0 {
            return None;
        }
        let vacant = |at: usize| Slot {
            generation: 0,
            next: if at + 1 == PAGE { NONE } else { from + at as u32 + 1 },
            value: None,
        };
        self.pages.push((0..PAGE).map(vacant).collect());
        self.free = from;
        Some(())
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let free = self.free;
        let entry = self.slot_mut(slot)?;
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = free;
        self.free = slot;
        self.len -= 1;
        Some(value)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.pages.get(slot as usize / PAGE)?[slot as usize % PAGE].value.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slot_mut(slot)?.value.as_mut()
    }

    pub(super) fn key(&self, slot: u32) -> Option<Key> {
        let entry = &self.pages.get(slot as usize / PAGE)?[slot as usize % PAGE];
        entry.value.is_some().then_some(Key { slot, generation: entry.generation })
    }

    /// Whether that one is still there.
    pub(super) fn has(&self, key: Key) -> bool {
        self.key(key.slot) == Some(key)
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot<T>> {
        Some(&mut self.pages.get_mut(slot as usize / PAGE)?[slot as usize % PAGE])
    }

    /// Bytes of a slot.
    #[cfg(test)]
    pub(super) const fn slot_bytes() -> usize {
        size_of::<Slot<T>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_used_again_has_another_key() {
        let mut slab = Slab::new();
        let first = slab.insert('a').unwrap();
        assert_eq!(slab.remove(first.slot), Some('a'));
        assert_eq!(slab.remove(first.slot), None);
        let second = slab.insert('b').unwrap();
        assert_eq!(second.slot, first.slot);
        assert!(slab.has(second) && !slab.has(first));
        assert_eq!(slab.get(second.slot), Some(&'b'));
    }

    #[test]
    fn a_clients_number_reads_back() {
        let key = Key { slot: (1 << SLOT_BITS) - 1, generation: u32::MAX };
        assert_eq!(locate(key.id(255)), (255, key.slot, key.generation));
        assert_eq!(Key { slot: 5, generation: 0 }.id(0), ConnectionId(5));
    }

    #[test]
    fn pages_come_as_they_are_needed() {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..2500).map(|value| slab.insert(value).unwrap()).collect();
        assert_eq!((slab.len(), slab.slots()), (2500, 3072));
        assert!(keys.iter().enumerate().all(|(value, key)| slab.get(key.slot) == Some(&value)));
        assert!(keys.iter().all(|key| slab.remove(key.slot).is_some()));
        assert_eq!(slab.len(), 0);
        assert!(slab.get(99_999).is_none());
    }
}
