//! Descriptors by number: the one place with unsafe code in this crate.

use rustix::fd::{BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;

/// A descriptor of our own for the same open file.
pub(crate) fn duplicate(number: RawFd) -> Result<OwnedFd, Errno> {
    if number < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: it is borrowed for one `fcntl` only, which answers EBADF when the number is not open. Erlang,
    // whose descriptor it is, keeps the port or file open during the call, as the caller holds it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_dupfd_cloexec(borrowed, 0)
}
