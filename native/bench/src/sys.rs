//! The system calls that need `unsafe` or a raw descriptor: descriptor tables and dialling.
//!
//! This is the only module of the crate with unsafe code.

use std::io;
use std::mem::size_of_val;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::net::TcpStream;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, ipproto, socket_with, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread a descriptor table of its own, holding only stdin, stdout and stderr.
///
/// The limit on open files counts per table, so every worker can open as many sockets as a whole process.
/// To be called first thing in a new thread: descriptors opened elsewhere are not usable in it afterwards.
///
/// # Errors
/// What unshare(2) or close_range(2) said.
pub(crate) fn own_descriptor_table() -> io::Result<()> {
    // SAFETY: callers do this at the start of a thread that was given no descriptor of another thread,
    // and what it opens later never leaves it.
    unsafe { unshare_unsafe(UnshareFlags::FILES)? };
    // The copies of the other threads' descriptors would count against the limit, and would keep their
    // connections open after the other threads have closed them.
    // SAFETY: the thread owns no descriptor above stderr yet, so nothing in use is closed; the table is
    // this thread's alone since the call above.
    let status = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread a descriptor table of its own that starts as a copy of the present one.
///
/// For a thread that goes on using descriptors it was given (a listening socket), which its copy still has.
///
/// # Errors
/// What unshare(2) said.
pub(crate) fn copied_descriptor_table() -> io::Result<()> {
    // SAFETY: the descriptors that the thread was given before this call stay open in the copy under the
    // same numbers, and what it opens later never leaves it.
    unsafe { unshare_unsafe(UnshareFlags::FILES)? };
    Ok(())
}

/// Raises the soft limit on open files to the hard one and returns it.
///
/// # Errors
/// What setrlimit(2) said.
pub(crate) fn raise_descriptor_limit() -> io::Result<u64> {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?;
    Ok(hard.unwrap_or(u64::MAX))
}

/// Starts a connection to `target` without waiting for it, from the address `source` if one is given.
///
/// The source port is chosen when connecting, not when binding, so that each source address offers all its
/// ports to each target.
///
/// # Errors
/// What socket(2), bind(2) or connect(2) said; a connection in progress is no error.
pub(crate) fn dial(target: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(source) = source {
        bind_without_port(&socket)?;
        bind(&socket, &SocketAddr::new(IpAddr::V4(source), 0))?;
    }
    match connect(&socket, &target) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(TcpStream::from_std(StdStream::from(socket)))
}

fn bind_without_port(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the descriptor is open for the duration of the call and the pointer and length describe `on`.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
