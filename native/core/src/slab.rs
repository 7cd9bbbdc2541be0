//! Where connections live: chunks of slots that never move, each with its own lock.

use crate::id::Conn;
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

const CHUNK: usize = 1024;

/// A slot and its content, behind one lock.
pub(crate) struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

pub(crate) type Guard<'a, T> = MutexGuard<'a, Slot<T>>;

type Chunk<T> = Box<[Mutex<Slot<T>>]>;

/// Slots of one shard. Looking one up takes no lock but the slot's own.
pub(crate) struct Slab<T> {
    shard: usize,
    chunks: Box<[OnceLock<Chunk<T>>]>,
    /// Slots below this were used at some time.
    used: AtomicUsize,
    /// First in, first out: a slot rests as long as possible before its generation moves on.
    free: Mutex<VecDeque<u32>>,
}

impl<T> Slab<T> {
    pub(crate) fn new(shard: usize) -> Self {
        Self {
            shard,
            chunks: (0..Conn::MAX_SLOTS / CHUNK).map(|_| OnceLock::new()).collect(),
            used: AtomicUsize::new(0),
            free: Mutex::new(VecDeque::new()),
        }
    }

    /// Puts a value in; none when all slots are taken. The guard keeps others out until the caller is done setting
    /// up.
    pub(crate) fn insert(&self, value: T) -> Option<(Conn, Guard<'_, T>)> {
        self.insert_with(|_| Some(value))
    }

    /// The same for a value that has to know what it will be called. None also when there is no value.
    pub(crate) fn insert_with(&self, make: impl FnOnce(Conn) -> Option<T>) -> Option<(Conn, Guard<'_, T>)> {
        let reused = self.free.lock().pop_front();
        let index = match reused {
            Some(slot) => slot as usize,
            None => {
                let next = self.used.fetch_add(1, Ordering::Relaxed);
                if next >= Conn::MAX_SLOTS {
                    self.used.store(Conn::MAX_SLOTS, Ordering::Relaxed);
                    return None;
                }
                next
            }
        };
        let chunk = self.chunks[index / CHUNK].get_or_init(new_chunk);
        let mut guard = chunk[index % CHUNK].lock();
        let conn = Conn::new(self.shard, index as u32, guard.generation);
        guard.value = make(conn);
        if guard.value.is_none() {
            drop(guard);
            self.free.lock().push_back(index as u32);
            return None;
        }
        Some((conn, guard))
    }

    /// Locks a slot whatever its generation.
    pub(crate) fn lock_slot(&self, slot: u32) -> Option<Guard<'_, T>> {
        let chunk = self.chunks.get(slot as usize / CHUNK)?.get()?;
        let guard = chunk[slot as usize % CHUNK].lock();
        guard.value.is_some().then_some(guard)
    }

    /// Locks a connection, when it is still the one that is meant.
    pub(crate) fn lock(&self, conn: Conn) -> Option<Guard<'_, T>> {
        self.lock_slot(conn.slot()).filter(|guard| guard.generation == conn.generation())
    }

    pub(crate) fn id(&self, slot: u32, guard: &Guard<'_, T>) -> Conn {
        Conn::new(self.shard, slot, guard.generation)
    }

    /// Takes the value out; ids that named it are stale from here on.
    pub(crate) fn remove(&self, slot: u32, mut guard: Guard<'_, T>) -> Option<T> {
        let value = guard.value.take();
        guard.generation = Conn::new(self.shard, slot, guard.generation).next_generation().generation();
        drop(guard);
        self.free.lock().push_back(slot);
        value
    }

    /// What is in it, by name. Takes time in proportion to the slots; locks one at a time.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Conn> {
        self.slots().filter_map(|slot| self.lock_slot(slot).map(|guard| self.id(slot, &guard)))
    }

    /// Slots that may hold something.
    fn slots(&self) -> std::ops::Range<u32> {
        0..self.used.load(Ordering::Relaxed).min(Conn::MAX_SLOTS) as u32
    }
}

impl<T> Slot<T> {
    /// The value; slots are only handed out locked while they have one.
    pub(crate) fn value(&mut self) -> Option<&mut T> {
        self.value.as_mut()
    }

    pub(crate) fn set_generation(&mut self, conn: Conn) {
        self.generation = conn.generation();
    }
}

fn new_chunk<T>() -> Chunk<T> {
    (0..CHUNK).map(|_| Mutex::new(Slot { generation: 0, value: None })).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reused_slot_is_not_mistaken() {
        let slab = Slab::new(2);
        let (first, guard) = slab.insert('a').unwrap();
        drop(guard);
        assert_eq!(slab.remove(first.slot(), slab.lock(first).unwrap()), Some('a'));
        let (second, guard) = slab.insert('b').unwrap();
        drop(guard);
        assert_eq!(second.slot(), first.slot());
        assert!(slab.lock(first).is_none());
        assert_eq!(slab.lock(second).unwrap().value(), Some(&mut 'b'));
    }

    #[test]
    fn slots_that_were_never_used_are_none() {
        let slab = Slab::<()>::new(0);
        assert!(slab.lock(Conn::new(0, 5, 0)).is_none());
        assert!(slab.lock(Conn::new(0, (1 << 24) - 1, 0)).is_none());
    }
}
