//! Sockets, all of them non-blocking.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags, SocketType,
    sockopt,
};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Duration;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

fn socket(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    net::socket_with(family, SocketType::STREAM, FLAGS, None)
}

/// A listening socket, beside which other workers' listen at the same address. Accepted ones inherit that nothing is held
/// back to fill segments.
pub(crate) fn listen(address: SocketAddr, backlog: i32) -> Result<OwnedFd, Errno> {
    let fd = socket(address)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_reuseport(&fd, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    sockopt::set_tcp_nodelay(&fd, true)?;
    net::bind(&fd, &address)?;
    net::listen(&fd, backlog)?;
    Ok(fd)
}

/// A connection that is being made: when the socket is writable, [`error`] says what came of it.
pub(crate) fn connect(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let fd = socket(address)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    match net::connect(&fd, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error),
    }
}

/// What came of an attempt to connect.
pub(crate) fn error(fd: impl AsFd) -> Result<(), Errno> {
    sockopt::socket_error(fd)?
}

pub(crate) fn accept(fd: impl AsFd) -> Result<(OwnedFd, Option<SocketAddr>), Errno> {
    let (client, address) = net::acceptfrom_with(fd, FLAGS)?;
    Ok((client, address.and_then(to_ip)))
}

fn to_ip(address: SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(address).ok()
}

pub(crate) fn peer(fd: impl AsFd) -> Option<SocketAddr> {
    net::getpeername(fd).ok().flatten().and_then(to_ip)
}

pub(crate) fn local(fd: impl AsFd) -> Option<SocketAddr> {
    net::getsockname(fd).ok().and_then(to_ip)
}

/// `Errno::AGAIN` when nothing is there, 0 bytes at the end.
pub(crate) fn read(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| rustix::io::read(&fd, &mut *buffer))
}

/// As [`read`], but the bytes stay.
pub(crate) fn peek(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| net::recv(&fd, &mut *buffer, RecvFlags::PEEK)).map(|(read, _)| read)
}

/// `Errno::AGAIN` when nothing can be taken.
pub(crate) fn write(fd: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| net::send(&fd, bytes, SendFlags::NOSIGNAL))
}

/// As [`write`], of several pieces one behind the other.
pub(crate) fn write_all(fd: impl AsFd, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    rustix::io::retry_on_intr(|| {
        net::sendmsg(&fd, pieces, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
    })
}

/// The peer is told that nothing more comes. On a connection that is gone there is nobody to tell.
pub(crate) fn shut_write(fd: impl AsFd) {
    let _ = net::shutdown(fd, net::Shutdown::Write);
}

/// The peer is told that the connection broke.
pub(crate) fn reset(fd: OwnedFd) {
    // Fails only on a descriptor that is no socket.
    let _ = sockopt::set_socket_linger(&fd, Some(Duration::ZERO));
    drop(fd);
}
