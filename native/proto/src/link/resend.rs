//! What was committed to a link and is not acknowledged, by its place in the sequence.

use std::collections::VecDeque;

const BLOCK: usize = 64 << 10;

/// Bytes in order, in blocks of 64 KB that never move. Whoever adds to it keeps its bound.
#[derive(Debug, Default)]
pub(super) struct Resend {
    blocks: VecDeque<Vec<u8>>,
    /// The place of the first block's first byte.
    base: u64,
    start: u64,
    end: u64,
    /// Places of some ends of frames, one in about 64 KB.
    marks: VecDeque<u64>,
    marked: u64,
    spare: Option<Vec<u8>>,
}

impl Resend {
    /// The place of the first byte that is kept.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The place behind the last byte: always the end of a frame.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Adds a frame.
    pub(super) fn push(&mut self, header: &[u8], body: &[u8]) {
        self.push_bytes(header);
        self.push_bytes(body);
        if self.end - self.marked >= BLOCK as u64 {
            self.marked = self.end;
            self.marks.push_back(self.end);
        }
    }

    fn push_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.blocks.back().is_none_or(|block| block.len() == BLOCK) {
                let block = self.spare.take().unwrap_or_else(|| Vec::with_capacity(BLOCK));
                self.blocks.push_back(block);
            }
            let Some(block) = self.blocks.back_mut() else { return };
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - block.len()));
            block.extend_from_slice(now);
            self.end += now.len() as u64;
            bytes = later;
        }
    }

    /// Drops what lies before a place, which lies within.
    pub(super) fn release(&mut self, to: u64) {
        self.start = to.clamp(self.start, self.end);
        while self.start - self.base >= BLOCK as u64 {
            self.base += BLOCK as u64;
            if let Some(mut block) = self.blocks.pop_front() {
                block.clear();
                self.spare = Some(block);
            }
        }
        if self.start == self.end {
            self.restart();
        }
        while self.marks.front().is_some_and(|mark| *mark <= self.start) {
            self.marks.pop_front();
        }
    }

    /// All was released: the last block is used from its beginning again.
    fn restart(&mut self) {
        self.base = self.end;
        if let Some(mut block) = self.blocks.pop_front() {
            block.clear();
            self.spare = Some(block);
        }
    }

    /// The first place behind this one where a frame ends for certain, at most some 128 KB on.
    pub(super) fn boundary_after(&self, place: u64) -> u64 {
        let at = self.marks.partition_point(|mark| *mark <= place);
        self.marks.get(at).copied().unwrap_or(self.end)
    }

    /// The bytes between two places, or those at the front of them that lie in two blocks.
    pub(super) fn slices(&self, from: u64, to: u64) -> [&[u8]; 2] {
        let block = (from - self.base) as usize / BLOCK;
        let at = (from - self.base) as usize % BLOCK;
        let length = to.saturating_sub(from) as usize;
        let first = self.part(block, at, length);
        [first, self.part(block + 1, 0, length - first.len())]
    }

    fn part(&self, block: usize, at: usize, length: usize) -> &[u8] {
        let block = self.blocks.get(block).map(Vec::as_slice).unwrap_or_default();
        let part = block.get(at..).unwrap_or_default();
        &part[..part.len().min(length)]
    }
}
