//! What the targets share: cutting bytes into pieces, a bound on heap memory, and the other end of a protocol.

use std::alloc::System;

use cap::Cap;

pub mod ws;
pub mod xml;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Cuts bytes into pieces of one more than each of `sizes` in turn, again and again.
pub fn pieces(bytes: &[u8], sizes: [u8; 4]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    sizes.into_iter().cycle().map_while(move |size| {
        let (piece, more) = rest.split_at(rest.len().min(usize::from(size) + 1));
        rest = more;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Bytes of heap memory in use.
pub fn heap_bytes() -> usize {
    ALLOCATOR.allocated()
}

/// Runs `work`, and aborts at the allocation by which it would hold more than `most` bytes of heap memory.
pub fn within_heap<T>(most: usize, work: impl FnOnce() -> T) -> T {
    set_limit(heap_bytes() + most);
    let result = work();
    set_limit(usize::MAX);
    result
}

fn set_limit(bytes: usize) {
    assert_eq!(ALLOCATOR.set_limit(bytes), Ok(()), "more in use than allowed");
}
