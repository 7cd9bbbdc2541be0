//! What carries a connection's bytes: a socket, or a stream of an external connection manager's link. Roles see bytes, never
//! this.

use crate::links::streams::Streams;
use crate::options::Opt;
use crate::stream_end::{SEND_BUFFER, StreamEnd, StreamFd};
use megaphone_proto::proxy;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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

/// What the machine of a link holds for a stream.
const LINK_PLACE: usize = 24;

pub(crate) enum Carrier {
    Socket(OwnedFd),
    /// A stream of a link, whose ends its connection manager knows.
    Stream(StreamFd),
}

impl Carrier {
    /// The socket, where that is what it is.
    pub(crate) fn socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Socket(fd) => Some(fd.as_fd()),
            Self::Stream(_) => None,
        }
    }

    /// It has no urgent data, and may have ancillary data.
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self.local(), Ok(Address::Local(_)))
    }

    /// `Errno::AGAIN` when nothing is there, 0 bytes at the end.
    pub(crate) fn read(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Socket(fd) => uninterrupted(|| rustix::io::read(fd, &mut *buf)),
            Self::Stream(stream) => stream.end().read(buf),
        }
    }

    /// As `read`, but the bytes stay.
    pub(crate) fn peek(&self, buf: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Socket(fd) => rustix::net::recv(fd, buf, rustix::net::RecvFlags::PEEK).map(|(n, _)| n),
            Self::Stream(stream) => stream.end().peek(buf),
        }
    }

    /// `Errno::AGAIN` when nothing can be taken.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::Socket(fd) => {
                uninterrupted(|| rustix::net::send(fd, bytes, rustix::net::SendFlags::NOSIGNAL))
            }
            Self::Stream(stream) => stream.end().write(bytes),
        }
    }

    /// Whether it takes bytes now.
    pub(crate) fn is_writable(&self) -> bool {
        match self {
            Self::Socket(fd) => {
                let mut fds = [PollFd::new(fd, PollFlags::OUT)];
                poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0)
            }
            Self::Stream(stream) => stream.end().is_writable(),
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> Result<(), Errno> {
        match self {
            Self::Socket(fd) => rustix::net::shutdown(fd, how),
            Self::Stream(stream) => stream.end().shutdown(how),
        }
    }

    /// A second hold for one who sends a file, and keeps nothing open by it but what it sends to.
    pub(crate) fn for_sendfile(&self) -> Result<FileTarget, Errno> {
        Ok(match self {
            Self::Socket(fd) => FileTarget::Socket(fd.try_clone().map_err(|_| Errno::MFILE)?),
            Self::Stream(stream) => FileTarget::Stream(Arc::clone(stream.end())),
        })
    }

    /// Bytes of memory, without what the kernel has.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Socket(_) => 0,
            Self::Stream(stream) => StreamEnd::BYTES + Streams::BYTES + LINK_PLACE + stream.end().buffered(),
        }
    }

    pub(crate) fn peer(&self) -> Result<Address, Errno> {
        // Linux knows a unix socket without a name as an address without a path.
        let fd = self.socket().ok_or(Errno::NOTCONN)?;
        rustix::net::getpeername(fd).map(|found| found.map_or(Address::Local(Vec::new()), to_address))
    }

    pub(crate) fn local(&self) -> Result<Address, Errno> {
        rustix::net::getsockname(self.socket().ok_or(Errno::NOTCONN)?).map(to_address)
    }

    pub(crate) fn set(&self, option: Opt) -> Result<(), Errno> {
        match self {
            Self::Socket(fd) => set_socket(fd.as_fd(), option),
            Self::Stream(stream) => set_stream(stream.end(), option),
        }
    }

    /// The value of the option that `like` is one of.
    pub(crate) fn get(&self, like: Opt) -> Result<Opt, Errno> {
        match self {
            Self::Socket(fd) => get_socket(fd.as_fd(), like),
            Self::Stream(stream) => get_stream(stream.end(), like),
        }
    }
}

fn set_socket(fd: BorrowedFd<'_>, option: Opt) -> Result<(), Errno> {
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

fn get_socket(fd: BorrowedFd<'_>, like: Opt) -> Result<Opt, Errno> {
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

/// What is about the kernel's socket succeeds and means nothing: that socket is the connection manager's.
fn set_stream(end: &StreamEnd, option: Opt) -> Result<(), Errno> {
    match option {
        Opt::NoDelay(_)
        | Opt::KeepAlive(_)
        | Opt::RecvBuffer(_)
        | Opt::SendBuffer(_)
        | Opt::ReuseAddr(_)
        | Opt::Tos(_) => {}
        Opt::Linger(linger) => end.set_lingers(!linger.is_some_and(|linger| linger.is_zero())),
        _ => return Err(Errno::INVAL),
    }
    Ok(())
}

fn get_stream(end: &StreamEnd, like: Opt) -> Result<Opt, Errno> {
    Ok(match like {
        Opt::NoDelay(_) => Opt::NoDelay(true),
        Opt::KeepAlive(_) => Opt::KeepAlive(false),
        Opt::RecvBuffer(_) => Opt::RecvBuffer(end.window()),
        Opt::SendBuffer(_) => Opt::SendBuffer(SEND_BUFFER),
        Opt::ReuseAddr(_) => Opt::ReuseAddr(false),
        Opt::Linger(_) => Opt::Linger((!end.lingers()).then_some(Duration::ZERO)),
        Opt::Tos(_) => Opt::Tos(0),
        _ => return Err(Errno::INVAL),
    })
}

/// Where a file goes.
pub(crate) enum FileTarget {
    Socket(OwnedFd),
    Stream(Arc<StreamEnd>),
}

impl FileTarget {
    /// Sends up to `count` bytes of a file from `offset`; 0 at its end. May wait for the disk. `Errno::AGAIN` when nothing can be
    /// taken.
    pub(crate) fn send(&self, file: impl AsFd, mut offset: u64, count: usize) -> Result<usize, Errno> {
        let end = match self {
            Self::Socket(socket) => return rustix::fs::sendfile(socket, file, Some(&mut offset), count),
            Self::Stream(end) => end,
        };
        let mut piece = vec![0; end.room().min(count).max(usize::from(count > 0))];
        match uninterrupted(|| rustix::io::pread(&file, &mut piece[..], offset))? {
            0 => Ok(0),
            n => end.write(&piece[..n]),
        }
    }
}

fn uninterrupted(mut call: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
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
