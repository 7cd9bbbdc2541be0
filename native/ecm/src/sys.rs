//! The one thing that the program needs and safe interfaces do not have.
#![allow(unsafe_code, reason = "the crate's one place for it")]

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Gives the calling thread a table of descriptors of its own, with a copy of what is in the shared one. To be called
/// before the thread opens anything.
pub(crate) fn own_descriptors() -> Result<(), Errno> {
    // SAFETY: afterwards, numbers of descriptors that other threads open mean nothing here, and the other way round. A worker
    // opens all of its own behind this call and hands none out, and it is given one from outside, an eventfd, before it:
    // that number is in both tables. What else is shared between threads (channels, counts) has no descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FILES) }
}
