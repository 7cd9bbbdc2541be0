//! Which connection a monitor is of: `inet:cancel_monitor/1` names no socket.
//!
//! An entry lives as long as the message that the monitor would send: until it fires, or is cancelled.

use megaphone_core::Conn;
use parking_lot::Mutex;
use rustler::{LocalPid, Term};
use std::collections::HashMap;
use std::sync::LazyLock;

/// By who has made it, who alone can take it back, and by its number.
static MONITORS: LazyLock<Mutex<HashMap<(LocalPid, u128), Conn>>> = LazyLock::new(Mutex::default);

/// An entry, which goes when this is dropped.
pub(crate) struct Entry {
    process: LocalPid,
    number: u128,
}

impl Entry {
    pub(crate) fn new(process: LocalPid, number: u128, conn: Conn) -> Self {
        MONITORS.lock().insert((process, number), conn);
        Self { process, number }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut monitors = MONITORS.lock();
        monitors.remove(&(self.process, self.number));
        if monitors.is_empty() {
            monitors.shrink_to_fit();
        }
    }
}

/// The connection of a monitor that is on.
pub(crate) fn find(process: LocalPid, number: u128) -> Option<Conn> {
    MONITORS.lock().get(&(process, number)).copied()
}

/// What tells a reference of this node from every other: its last three words, in the external term format.
pub(crate) fn number(reference: Term<'_>) -> u128 {
    let external = reference.to_binary();
    external.iter().rev().take(12).rev().fold(0, |number, byte| number << 8 | u128::from(*byte))
}
