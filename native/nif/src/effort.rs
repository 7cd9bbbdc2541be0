//! How long a call takes, as far as its arguments tell: what a normal scheduler may do, and what it is charged for.

use megaphone_core::{Delivery, Effort, Received};
use rustler::{Binary, Env, Term};
use smallvec::{SmallVec, smallvec};

/// Bytes of data that a call on a normal scheduler may copy and hand to the kernel.
const BYTES: usize = 64 * 1024;
/// Cells of lists that it may walk through, twice.
const CELLS: usize = 1024;
/// Bytes whose copying takes as long as a cell of a list.
const CELL: usize = 16;
/// Bytes whose copying takes as long as to parse or encode one of XML.
const XML: usize = 4;
/// Bytes whose copying takes a hundredth of a process's turn: some 10 microseconds.
const BYTES_A_PERCENT: usize = 8 * 1024;

/// Takes the time of `data` from the caller's turn. False when it is too much for the effort: then it is left alone. Looks at
/// a bounded part of it.
pub(crate) fn take_on(env: Env<'_>, effort: Effort, data: Term<'_>) -> bool {
    if effort == Effort::Large {
        return true;
    }
    let weight = weight(data);
    charge(env, effort, weight.unwrap_or(CELLS * CELL));
    weight.is_some()
}

/// About how many bytes iodata is worth: none where that is more than a normal effort. What is no iodata weighs nothing.
fn weight(data: Term<'_>) -> Option<usize> {
    let (mut cells, mut bytes) = (0, 0);
    let mut rest: SmallVec<[Term<'_>; 8]> = smallvec![data];
    while let Some(term) = rest.pop() {
        if let Ok((head, tail)) = term.list_get_cell() {
            cells += 1;
            rest.push(tail);
            rest.push(head);
        } else if let Ok(binary) = Binary::from_term(term) {
            bytes += binary.len();
        }
        if cells > CELLS || bytes > BYTES {
            return None;
        }
    }
    Some(bytes + cells * CELL)
}

/// Takes the time of so many bytes from the caller's turn. A dirty scheduler has no turns.
pub(crate) fn charge(env: Env<'_>, effort: Effort, bytes: usize) {
    let percent = (bytes / BYTES_A_PERCENT).min(100) as i32;
    if effort == Effort::Normal && percent > 0 {
        // Whether the turn is over is the VM's to see when the call returns.
        let _ = rustler::schedule::consume_timeslice(env, percent);
    }
}

/// The same for bytes of XML, read or written.
pub(crate) fn charge_stanza(env: Env<'_>, effort: Effort, bytes: usize) {
    charge(env, effort, bytes * XML);
}

/// The same for data that the caller is given, of which a list takes longer than a binary.
pub(crate) fn charge_given(env: Env<'_>, effort: Effort, received: &Received<'_>, delivery: Delivery) {
    let weight = match received {
        Received::Bytes(bytes) if delivery.as_list => bytes.len() * CELL,
        Received::Bytes(bytes) => bytes.len(),
        Received::Packet(_) => 0,
    };
    charge(env, effort, weight);
}
