//! What carries a connection's bytes. Roles see bytes, never this.
//!
//! Today that is a socket. A stream of a link (the external connection manager's) becomes a second variant.

use crate::options::Opt;
use megaphone_proto::proxy;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::net::SocketAddr;

pub use rustix::net::Shutdown;

/// An end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Internet protocol.
    Ip(SocketAddr),
    /// A unix socket; the path is empty when it has none.
    Local(Vec<u8>),
}

impl From<proxy::Address> for Address {
    fn from(address: proxy::Address) -> Self {
        match address {
            proxy::Address::Ip(ip) => Self::Ip(ip),
            proxy::Address::Unix(path) => Self::Local(path),
        }
    }
}

pub(crate) enum Carrier {
    Socket(OwnedFd),
}

impl Carrier {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        let Self::Socket(fd) = self;
        fd.as_fd()
    }

    /// It has no urgent data, and may have ancillary data.
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.local(), Ok(Address::Local(_)))
    }

    /// `Errno::AGAIN` when nothing is there, 0 bytes at the end.
    pub(crate) fn read(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match rustix::io::read(self.fd(), &mut *buf) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// As `read`, but the bytes stay.
    pub(crate) fn peek(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        rustix::net::recv(self.fd(), buf, rustix::net::RecvFlags::PEEK).map(|(n, _)| n)
    }

    /// `Errno::AGAIN` when nothing can be taken.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        loop {
            match rustix::net::send(self.fd(), bytes, rustix::net::SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        rustix::net::shutdown(self.fd(), how)
    }

    pub(crate) fn peer(&self) -> Result<Address, Errno> {
        // Linux knows a unix socket without a name as an address without a path.
        rustix::net::getpeername(self.fd()).map(|found| found.map_or(Address::Local(Vec::new()), to_address))
    }

    pub(crate) fn local(&self) -> Result<Address, Errno> {
        rustix::net::getsockname(self.fd()).map(to_address)
    }

    pub(crate) fn set(&self, option: Opt) -> Result<(), Errno> {
        let fd = self.fd();
        match option {
            Opt::NoDelay(on) => ignore_on_unix(sockopt::set_tcp_nodelay(fd, on)),
            Opt::KeepAlive(on) => sockopt::set_socket_keepalive(fd, on),
            Opt::RecvBuffer(size) => sockopt::set_socket_recv_buffer_size(fd, size),
            Opt::SendBuffer(size) => sockopt::set_socket_send_buffer_size(fd, size),
            Opt::ReuseAddr(on) => sockopt::set_socket_reuseaddr(fd, on),
            Opt::Linger(linger) => sockopt::set_socket_linger(fd, linger),
            Opt::Tos(tos) => sockopt::set_ip_tos(fd, tos),
            _ => Err(Errno::INVAL),
        }
    }

    /// The value of the option that `like` is one of.
    pub(crate) fn get(&self, like: Opt) -> Result<Opt, Errno> {
        let fd = self.fd();
        Ok(match like {
            Opt::NoDelay(_) => Opt::NoDelay(sockopt::tcp_nodelay(fd)?),
            Opt::KeepAlive(_) => Opt::KeepAlive(sockopt::socket_keepalive(fd)?),
            Opt::RecvBuffer(_) => Opt::RecvBuffer(sockopt::socket_recv_buffer_size(fd)?),
            Opt::SendBuffer(_) => Opt::SendBuffer(sockopt::socket_send_buffer_size(fd)?),
            Opt::ReuseAddr(_) => Opt::ReuseAddr(sockopt::socket_reuseaddr(fd)?),
            Opt::Linger(_) => Opt::Linger(sockopt::socket_linger(fd)?),
            Opt::Tos(_) => Opt::Tos(sockopt::ip_tos(fd)?),
            _ => return Err(Errno::INVAL),
        })
    }
}

/// A unix socket has no Nagle algorithm to turn off; `inet` is silent about it too.
fn ignore_on_unix(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

fn to_address(any: rustix::net::SocketAddrAny) -> Address {
    match SocketAddr::try_from(any.clone()) {
        Ok(address) => Address::Ip(address),
        Err(_) => {
            let path = rustix::net::SocketAddrUnix::try_from(any)
                .ok()
                .and_then(|unix| unix.path_bytes().map(<[u8]>::to_vec));
            Address::Local(path.unwrap_or_default())
        }
    }
}
