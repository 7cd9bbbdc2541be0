//! Where connections and sessions live: chunks of slots that never move, each with its own lock.
//!
//! The lock protocol. A reactor never waits for a slot: it notes what it has for it as *pending bits* beside the lock,
//! and tries the lock. Where another thread holds it, the reactor goes on; whoever unlocks a slot looks at the bits, and
//! posts the slot to the reactor's mailbox when there are some that nobody has taken. So no bit is lost, and no
//! reactor's turn is as long as another thread's work.

use crate::id::Conn;
use crate::mailbox::{Mail, Mailbox, Place};
use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};

const CHUNK: usize = 1024;

/// What there is to do for a slot's entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending(u8);

impl Pending {
    pub(crate) const NONE: Self = Self(0);
    /// The kernel said that there are bytes.
    pub(crate) const READABLE: Self = Self(1);
    /// The kernel said that it takes bytes.
    pub(crate) const WRITABLE: Self = Self(2);
    /// The kernel said that the peer has closed its side, or that the socket is broken.
    pub(crate) const HUNG_UP: Self = Self(4);
    /// The kernel said that there are urgent data.
    pub(crate) const URGENT: Self = Self(8);
    /// Somebody asked for a look.
    pub(crate) const LOOK: Self = Self(16);
    /// The wheel fired.
    pub(crate) const TIMER: Self = Self(32);
    const WORK: Self = Self(63);
    /// It is in the reactor's queue.
    const QUEUED: Self = Self(64);
    /// It is in the reactor's mailbox.
    const POSTED: Self = Self(128);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

struct Slot<T> {
    /// Written with the lock held.
    generation: AtomicU32,
    pending: AtomicU8,
    value: Mutex<Option<T>>,
}

impl<T> Slot<T> {
    const fn new() -> Self {
        Self { generation: AtomicU32::new(0), pending: AtomicU8::new(0), value: Mutex::new(None) }
    }

    /// Sets bits and returns those that were set before.
    fn set(&self, bits: Pending) -> Pending {
        Pending(self.pending.fetch_or(bits.0, Ordering::SeqCst))
    }

    fn clear(&self, bits: Pending) -> Pending {
        Pending(self.pending.fetch_and(!bits.0, Ordering::SeqCst))
    }
}

/// Another thread has the slot's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

type Chunk<T> = Box<[Slot<T>]>;

/// Slots of one shard. Looking one up takes no lock but the slot's own.
pub(crate) struct Store<T> {
    shard: usize,
    place: fn(u32) -> Place,
    mailbox: Arc<Mailbox>,
    chunks: Box<[OnceLock<Chunk<T>>]>,
    /// Slots below this were used at some time.
    used: AtomicUsize,
    /// First in, first out: a slot rests as long as possible before its generation moves on.
    free: Mutex<VecDeque<u32>>,
}

/// A locked slot with an entry in it. Dropping it unlocks, and sees to what came up meanwhile.
pub(crate) struct Guard<'a, T> {
    store: &'a Store<T>,
    index: u32,
    /// None only while it is being dropped.
    value: Option<MutexGuard<'a, Option<T>>>,
}

impl<T> Store<T> {
    /// Bytes of one slot.
    pub(crate) const SLOT: usize = size_of::<Slot<T>>();

    pub(crate) fn new(shard: usize, place: fn(u32) -> Place, mailbox: Arc<Mailbox>) -> Self {
        Self {
            shard,
            place,
            mailbox,
            chunks: (0..Conn::MAX_SLOTS / CHUNK).map(|_| OnceLock::new()).collect(),
            used: AtomicUsize::new(0),
            free: Mutex::new(VecDeque::new()),
        }
    }

    /// Puts in what `make` makes of the name that it will have; none when all slots are taken or nothing is made. The
    /// guard keeps others out until the caller is done setting up.
    pub(crate) fn insert(&self, make: impl FnOnce(Conn) -> Option<T>) -> Option<(Conn, Guard<'_, T>)> {
        let index = self.take_index()?;
        let slot = self.chunks[index / CHUNK].get_or_init(new_chunk).get(index % CHUNK)?;
        let mut value = slot.value.lock();
        let conn = Conn::new(self.shard, index as u32, slot.generation.load(Ordering::Relaxed));
        *value = make(conn);
        if value.is_none() {
            drop(value);
            self.free.lock().push_back(index as u32);
            return None;
        }
        slot.clear(Pending::WORK);
        Some((conn, Guard { store: self, index: index as u32, value: Some(value) }))
    }

    fn take_index(&self) -> Option<usize> {
        if let Some(slot) = self.free.lock().pop_front() {
            return Some(slot as usize);
        }
        let next = self.used.fetch_add(1, Ordering::Relaxed);
        if next >= Conn::MAX_SLOTS {
            self.used.store(Conn::MAX_SLOTS, Ordering::Relaxed);
            return None;
        }
        Some(next)
    }

    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        self.chunks.get(index as usize / CHUNK)?.get()?.get(index as usize % CHUNK)
    }

    fn guard<'a>(&'a self, index: u32, value: MutexGuard<'a, Option<T>>) -> Option<Guard<'a, T>> {
        // An empty slot's guard still has to see to the bits.
        let guard = Guard { store: self, index, value: Some(value) };
        guard.value.as_ref().is_some_and(|value| value.is_some()).then_some(guard)
    }

    /// Locks an entry, when it is still the one that is meant.
    pub(crate) fn lock(&self, conn: Conn) -> Option<Guard<'_, T>> {
        let slot = self.slot(conn.slot())?;
        let guard = self.guard(conn.slot(), slot.value.lock())?;
        (slot.generation.load(Ordering::Relaxed) == conn.generation()).then_some(guard)
    }

    /// The same for the reactor, which doesn't wait. What is pending stays so.
    pub(crate) fn lock_now(&self, conn: Conn) -> Result<Option<Guard<'_, T>>, Busy> {
        let Some(slot) = self.slot(conn.slot()) else { return Ok(None) };
        let value = slot.value.try_lock().ok_or(Busy)?;
        let guard = self.guard(conn.slot(), value);
        Ok(guard.filter(|_| slot.generation.load(Ordering::Relaxed) == conn.generation()))
    }

    /// For everybody but the reactor: it should step on this entry.
    pub(crate) fn notify(&self, index: u32, bits: Pending) {
        let Some(slot) = self.slot(index) else { return };
        if !slot.set(bits.with(Pending::POSTED)).has(Pending::POSTED) {
            self.mailbox.post(Mail::Step((self.place)(index)));
        }
    }

    /// The reactor's: notes bits. True when the slot has to be put into its queue.
    pub(crate) fn mark(&self, index: u32, bits: Pending) -> bool {
        let Some(slot) = self.slot(index) else { return false };
        !slot.set(bits.with(Pending::QUEUED)).has(Pending::QUEUED)
    }

    /// The reactor's: it took the slot out of its mailbox. True when the slot has to be put into its queue.
    pub(crate) fn received(&self, index: u32) -> bool {
        let Some(slot) = self.slot(index) else { return false };
        slot.clear(Pending::POSTED);
        self.mark(index, Pending::NONE)
    }

    /// The reactor's: it took the slot out of its queue, and has the entry unless another thread does; then that one
    /// puts it back.
    pub(crate) fn try_lock(&self, index: u32) -> Option<(Guard<'_, T>, Pending)> {
        let slot = self.slot(index)?;
        slot.clear(Pending::QUEUED);
        fence(Ordering::SeqCst);
        let value = slot.value.try_lock()?;
        let bits = slot.clear(Pending::WORK);
        Some((self.guard(index, value)?, bits))
    }

    /// What is in it, by name. Takes time in proportion to the slots; locks one at a time.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Conn> {
        let used = 0..self.used.load(Ordering::Relaxed).min(Conn::MAX_SLOTS) as u32;
        used.filter_map(|index| {
            let slot = self.slot(index)?;
            self.guard(index, slot.value.lock()).map(|guard| guard.id())
        })
    }
}

impl<T> Guard<'_, T> {
    /// The entry's name.
    pub(crate) fn id(&self) -> Conn {
        let slot = self.store.slot(self.index);
        let generation = slot.map_or(0, |slot| slot.generation.load(Ordering::Relaxed));
        Conn::new(self.store.shard, self.index, generation)
    }

    pub(crate) fn set_generation(&mut self, conn: Conn) {
        if let Some(slot) = self.store.slot(self.index) {
            slot.generation.store(conn.generation(), Ordering::Relaxed);
        }
    }

    /// Takes the entry out; names that it had are stale from here on.
    pub(crate) fn remove(mut self) -> Option<T> {
        let taken = self.value.as_mut().and_then(|value| value.take());
        let next = self.id().next_generation();
        self.set_generation(next);
        let (store, index) = (self.store, self.index);
        drop(self);
        if taken.is_some() {
            store.free.lock().push_back(index);
        }
        taken
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = Option<T>;

    fn deref(&self) -> &Option<T> {
        self.value.as_deref().unwrap_or(&None)
    }
}

impl<T> Guard<'_, T> {
    /// The entry; guards are only handed out while there is one.
    pub(crate) fn entry(&mut self) -> Option<&mut T> {
        self.value.as_mut().and_then(|value| value.deref_mut().as_mut())
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        fence(Ordering::SeqCst);
        let Some(slot) = self.store.slot(self.index) else { return };
        let bits = Pending(slot.pending.load(Ordering::SeqCst));
        if bits.has(Pending::WORK) && !bits.has(Pending::QUEUED.with(Pending::POSTED)) {
            self.store.notify(self.index, Pending::NONE);
        }
    }
}

fn new_chunk<T>() -> Chunk<T> {
    (0..CHUNK).map(|_| Slot::new()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn store(poll: &mio::Poll) -> Store<char> {
        Store::new(2, Place::Connection, Arc::new(Mailbox::new(poll.registry()).unwrap()))
    }

    #[test]
    fn a_reused_slot_is_not_mistaken() {
        let store = store(&mio::Poll::new().unwrap());
        let (first, guard) = store.insert(|_| Some('a')).unwrap();
        assert_eq!(guard.remove(), Some('a'));
        let (second, guard) = store.insert(|_| Some('b')).unwrap();
        drop(guard);
        assert_eq!(second.slot(), first.slot());
        assert!(store.lock(first).is_none());
        assert_eq!(store.lock(second).unwrap().entry(), Some(&mut 'b'));
    }

    #[test]
    fn slots_that_were_never_used_are_none() {
        let store = store(&mio::Poll::new().unwrap());
        assert!(store.lock(Conn::new(0, 5, 0)).is_none());
        assert!(store.lock(Conn::new(0, (1 << 24) - 1, 0)).is_none());
    }

    #[test]
    fn whoever_unlocks_posts_what_the_reactor_could_not_take() {
        let store = store(&mio::Poll::new().unwrap());
        let (conn, guard) = store.insert(|_| Some('a')).unwrap();
        assert!(store.mark(conn.slot(), Pending::READABLE), "to be queued");
        assert!(!store.mark(conn.slot(), Pending::WRITABLE), "once");
        assert!(store.try_lock(conn.slot()).is_none(), "and the reactor goes on");
        assert!(store.mailbox.take().is_empty());
        drop(guard);
        assert!(matches!(store.mailbox.take()[..], [Mail::Step(Place::Connection(_))]));
        assert!(store.received(conn.slot()));
        let (guard, bits) = store.try_lock(conn.slot()).unwrap();
        assert_eq!(
            bits.with(Pending::POSTED),
            Pending::READABLE.with(Pending::WRITABLE).with(Pending::POSTED)
        );
        drop(guard);
        assert!(store.mailbox.take().is_empty(), "nothing is left");
    }

    #[test]
    fn one_who_does_not_wait_learns_that_another_has_the_lock() {
        let store = store(&mio::Poll::new().unwrap());
        let (conn, guard) = store.insert(|_| Some('a')).unwrap();
        assert_eq!(store.lock_now(conn).err(), Some(Busy));
        drop(guard);
        store.notify(conn.slot(), Pending::LOOK);
        let guard = store.lock_now(conn).unwrap().unwrap();
        assert_eq!(guard.remove(), Some('a'));
        assert!(store.lock_now(conn).unwrap().is_none(), "it is another's name");
        assert_eq!(store.mailbox.take().len(), 1, "what was pending still is");
    }

    /// What the reactor and others do at the same time: each piece of work is seen, and the reactor never waits.
    #[test]
    fn nothing_is_lost_between_those_who_ask_and_those_who_have_the_lock() {
        const THREADS: usize = 3;
        const ROUNDS: usize = 20_000;
        let mut poll = mio::Poll::new().unwrap();
        let store: Store<usize> =
            Store::new(0, Place::Connection, Arc::new(Mailbox::new(poll.registry()).unwrap()));
        let (conn, guard) = store.insert(|_| Some(0)).unwrap();
        drop(guard);
        let slot = conn.slot();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        *store.lock(conn).unwrap().entry().unwrap() += 1;
                        store.notify(slot, Pending::LOOK);
                    }
                });
            }
            let mut events = mio::Events::with_capacity(8);
            let (mut done, mut marked, mut queued) = (0, 0, VecDeque::new());
            while done < THREADS * ROUNDS || marked > 0 {
                if queued.is_empty() && marked == 0 {
                    poll.poll(&mut events, Some(std::time::Duration::from_secs(30))).unwrap();
                }
                // The kernel has something for it, as often as not while another thread has the lock.
                if store.mark(slot, Pending::READABLE) {
                    queued.push_back(slot);
                }
                marked = 1;
                for mail in store.mailbox.take() {
                    assert!(matches!(mail, Mail::Step(Place::Connection(at)) if at == slot));
                    queued.extend(store.received(slot).then_some(slot));
                }
                while let Some(slot) = queued.pop_front() {
                    let Some((mut guard, bits)) = store.try_lock(slot) else { continue };
                    marked = usize::from(marked == 1 && !bits.has(Pending::READABLE));
                    done += std::mem::take(guard.entry().unwrap());
                }
                if queued.is_empty() && marked == 1 {
                    // Whoever had the lock tells when it is free.
                    poll.poll(&mut events, Some(std::time::Duration::from_secs(30))).unwrap();
                    assert!(!events.is_empty(), "a bit was lost");
                }
            }
            assert_eq!(done, THREADS * ROUNDS);
        });
    }

    #[test]
    fn many_who_ask_are_in_the_mailbox_once() {
        let store = store(&mio::Poll::new().unwrap());
        let (conn, guard) = store.insert(|_| Some('a')).unwrap();
        store.notify(conn.slot(), Pending::LOOK);
        store.notify(conn.slot(), Pending::LOOK);
        drop(guard);
        assert_eq!(store.mailbox.take().len(), 1);
    }
}
