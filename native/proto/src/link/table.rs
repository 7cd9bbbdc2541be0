//! The streams of a link: 24 bytes each, by number, in pages that come and go with their streams.

use super::frame::Reason;

const PAGE: usize = 1024;
const NONE: u32 = u32::MAX;

/// One stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    /// What we may send.
    pub(super) credit: u32,
    /// What the peer may send.
    pub(super) allowance: u32,
    /// What was granted, and is not yet in a frame.
    pub(super) grant: u32,
    next: [u32; 2],
    flags: u16,
    /// The code of our last frame's reason.
    pub(super) reason: u8,
}

const VACANT: Stream = Stream { credit: 0, allowance: 0, grant: 0, next: [NONE; 2], flags: 0, reason: 0 };
const _: () = assert!(size_of::<Stream>() == 24);

/// Claims about a stream.
#[derive(Clone, Copy)]
pub(super) struct Flag(u16);

impl Flag {
    /// The number is in use.
    const LIVE: Self = Self(1);
    const QUEUED: [Self; 2] = [Self(2), Self(4)];
    /// The owner has something to send.
    pub(super) const WANTS: Self = Self(8);
    /// Our owner has said that it sends no more.
    pub(super) const EOF: Self = Self(16);
    pub(super) const EOF_DUE: Self = Self(32);
    /// Our owner has taken leave.
    pub(super) const CLOSED: Self = Self(64);
    pub(super) const CLOSE_DUE: Self = Self(128);
    pub(super) const PEER_EOF: Self = Self(256);
    pub(super) const PEER_CLOSED: Self = Self(512);
}

impl Stream {
    pub(super) fn new(credit: u32, allowance: u32) -> Self {
        Self { credit, allowance, flags: Flag::LIVE.0, ..VACANT }
    }

    pub(super) fn is(&self, flag: Flag) -> bool {
        self.flags & flag.0 != 0
    }

    pub(super) fn set(&mut self, flag: Flag, is: bool) {
        self.flags = if is { self.flags | flag.0 } else { self.flags & !flag.0 };
    }

    /// Both ends have taken leave, and ours in a frame.
    pub(super) fn is_gone(&self) -> bool {
        self.is(Flag::CLOSED) && !self.is(Flag::CLOSE_DUE) && self.is(Flag::PEER_CLOSED)
    }

    pub(super) fn our_reason(&self) -> Reason {
        Reason::of_code(self.reason).unwrap_or(Reason::Closed)
    }
}

/// Which row a stream waits in.
#[derive(Clone, Copy)]
pub(super) enum Queue {
    /// For its turn to send data.
    Ready,
    /// For room for its small frames.
    Due,
}

struct Page {
    streams: [Stream; PAGE],
    /// Which are in use, or wait in a row although they are gone.
    taken: [u64; PAGE / 64],
    count: u32,
}

/// All streams of a link, and the rows that they wait in.
pub(super) struct Table {
    pages: Vec<Option<Box<Page>>>,
    rows: [(u32, u32); 2],
    most: u32,
    len: usize,
    /// No page before this has room.
    room_from: usize,
}

impl Table {
    pub(super) fn new(most: u32) -> Self {
        Self { pages: Vec::new(), rows: [(NONE, NONE); 2], most: most.min(NONE - 1), len: 0, room_from: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn most(&self) -> u32 {
        self.most
    }

    pub(super) fn get(&self, number: u32) -> Option<&Stream> {
        self.slot(number).filter(|stream| stream.is(Flag::LIVE))
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Stream> {
        self.slot_mut(number).filter(|stream| stream.is(Flag::LIVE))
    }

    /// The lowest number that is free.
    pub(super) fn vacant(&mut self) -> Option<u32> {
        loop {
            let page = self.room_from;
            let within = match self.pages.get(page) {
                Some(Some(full)) if full.count as usize == PAGE => None,
                Some(Some(page)) => page.taken.iter().enumerate().find_map(|(word, bits)| {
                    (*bits != u64::MAX).then(|| word * 64 + bits.trailing_ones() as usize)
                }),
                _ => Some(0),
            };
            match within {
                Some(at) => {
                    return u32::try_from(page * PAGE + at).ok().filter(|number| *number < self.most);
                }
                None => self.room_from += 1,
            }
        }
    }

    /// Puts a stream where none is, below the bound.
    pub(super) fn insert(&mut self, number: u32, stream: Stream) {
        let (page, at) = (number as usize / PAGE, number as usize % PAGE);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| {
            Box::new(Page { streams: [VACANT; PAGE], taken: [0; PAGE / 64], count: 0 })
        });
        let slot = &mut page.streams[at];
        // One that is gone may still wait in a row: its place there is this one's.
        let queued = slot.flags & (Flag::QUEUED[0].0 | Flag::QUEUED[1].0);
        *slot = Stream { flags: stream.flags | queued, next: slot.next, ..stream };
        let bit = 1 << (at % 64);
        if page.taken[at / 64] & bit == 0 {
            page.taken[at / 64] |= bit;
            page.count += 1;
        }
        self.len += 1;
    }

    pub(super) fn remove(&mut self, number: u32) {
        if let Some(stream) = self.get_mut(number) {
            stream.flags &= Flag::QUEUED[0].0 | Flag::QUEUED[1].0;
            self.len -= 1;
            self.free_if_gone(number);
        }
    }

    /// Takes any stream out, the rows being of no more use.
    pub(super) fn take_any(&mut self) -> Option<(u32, Stream)> {
        while let Some(last) = self.pages.len().checked_sub(1) {
            let found = self.pages[last].as_mut().and_then(|page| page.take_any());
            let Some((at, stream)) = found else {
                self.pages.pop();
                continue;
            };
            if stream.is(Flag::LIVE) {
                self.len -= 1;
                return u32::try_from(last * PAGE + at).ok().map(|number| (number, stream));
            }
        }
        None
    }

    /// Puts a stream at a row's end, unless it is in it.
    pub(super) fn push(&mut self, queue: Queue, number: u32) {
        let row = queue as usize;
        let Some(stream) = self.slot_mut(number).filter(|stream| !stream.is(Flag::QUEUED[row])) else {
            return;
        };
        stream.set(Flag::QUEUED[row], true);
        stream.next[row] = NONE;
        let last = std::mem::replace(&mut self.rows[row].1, number);
        match self.slot_mut(last) {
            Some(last) => last.next[row] = number,
            None => self.rows[row].0 = number,
        }
    }

    /// The stream at a row's front.
    pub(super) fn first(&mut self, queue: Queue) -> Option<u32> {
        let row = queue as usize;
        loop {
            let number = self.rows[row].0;
            if self.slot(number)?.is(Flag::LIVE) {
                return Some(number);
            }
            self.pop(queue);
        }
    }

    /// Takes the stream at the row's front out of it.
    pub(super) fn pop(&mut self, queue: Queue) {
        let row = queue as usize;
        let number = self.rows[row].0;
        let Some(stream) = self.slot_mut(number) else { return };
        stream.set(Flag::QUEUED[row], false);
        let next = std::mem::replace(&mut stream.next[row], NONE);
        self.rows[row].0 = next;
        if next == NONE {
            self.rows[row].1 = NONE;
        }
        self.free_if_gone(number);
    }

    pub(super) fn is_empty(&self, queue: Queue) -> bool {
        self.rows[queue as usize].0 == NONE
    }

    fn free_if_gone(&mut self, number: u32) {
        let (at, within) = (number as usize / PAGE, number as usize % PAGE);
        let Some(Some(page)) = self.pages.get_mut(at) else { return };
        if page.streams[within].flags != 0 {
            return;
        }
        page.taken[within / 64] &= !(1 << (within % 64));
        page.count -= 1;
        if page.count == 0 {
            self.pages[at] = None;
        }
        self.room_from = self.room_from.min(at);
    }

    fn slot(&self, number: u32) -> Option<&Stream> {
        let page = self.pages.get(number as usize / PAGE)?.as_ref()?;
        Some(&page.streams[number as usize % PAGE])
    }

    fn slot_mut(&mut self, number: u32) -> Option<&mut Stream> {
        let page = self.pages.get_mut(number as usize / PAGE)?.as_mut()?;
        Some(&mut page.streams[number as usize % PAGE])
    }
}

impl Page {
    fn take_any(&mut self) -> Option<(usize, Stream)> {
        let word = self.taken.iter().position(|bits| *bits != 0)?;
        let bit = self.taken[word].trailing_zeros() as usize;
        self.taken[word] &= !(1 << bit);
        let at = word * 64 + bit;
        Some((at, std::mem::replace(&mut self.streams[at], VACANT)))
    }
}
