//! Terms for what the core says.

use crate::atoms;
use megaphone_core::packet::{Method, Packet, Scheme, Target};
use megaphone_core::{Address, Conn, Delivery, Errno, Error, ProxyRefusal, Received, XmppId};
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, NewBinary, Term};
use std::net::{IpAddr, SocketAddr};

/// `{'$inet', megaphone_socket, Conn}`.
pub(crate) fn socket_term<'a>(env: Env<'a>, conn: Conn) -> Term<'a> {
    (atoms::dollar_inet(), atoms::megaphone_socket(), conn.as_u64()).encode(env)
}

/// `{Transport, Id}`.
pub(crate) fn session_term(env: Env<'_>, id: XmppId) -> Term<'_> {
    let (tag, conn) = match id {
        XmppId::Tcp(conn) => (atoms::tcp(), conn),
        XmppId::WebSocket(conn) => (atoms::websocket(), conn),
        XmppId::Bosh(conn) => (atoms::http_bind(), conn),
    };
    (tag, conn.as_u64()).encode(env)
}

/// `ok` or `{error, Reason}`.
pub(crate) fn done(env: Env<'_>, result: Result<(), Error>) -> Term<'_> {
    result.map_or_else(|reason| error(env, reason), |()| atoms::ok().encode(env))
}

/// `{ok, Value}` or `{error, Reason}`.
pub(crate) fn answer<'a, T>(
    env: Env<'a>,
    result: Result<T, Error>,
    encode: impl FnOnce(T) -> Term<'a>,
) -> Term<'a> {
    result.map_or_else(|reason| error(env, reason), |value| (atoms::ok(), encode(value)).encode(env))
}

pub(crate) fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    NewBinary::from_slice(env, bytes).into()
}

fn list<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    bytes.encode(env)
}

fn data<'a>(env: Env<'a>, bytes: &[u8], as_list: bool) -> Term<'a> {
    if as_list { list(env, bytes) } else { binary(env, bytes) }
}

/// A map with atoms for keys.
pub(crate) fn map<'a>(env: Env<'a>, pairs: &[(Atom, Term<'a>)]) -> Term<'a> {
    // Fails on a key that is there twice, and ours are not.
    Term::map_from_pairs(env, pairs).unwrap_or_else(|_| rustler::types::map::map_new(env))
}

/// What a read gave.
pub(crate) fn received<'a>(env: Env<'a>, received: &Received<'_>, delivery: Delivery) -> Term<'a> {
    match received {
        Received::Bytes(bytes) => data(env, bytes, delivery.as_list),
        Received::Packet(found) => packet(env, found, delivery),
    }
}

/// Is it one of the packets of HTTP? Their messages have another tag.
pub(crate) fn is_http(packet: &Packet<'_>) -> bool {
    !matches!(packet, Packet::Line(_))
}

/// A packet as `erlang:decode_packet/3` shows it.
pub(crate) fn packet<'a>(env: Env<'a>, packet: &Packet<'_>, delivery: Delivery) -> Term<'a> {
    let text = |bytes: &[u8]| data(env, bytes, !delivery.http_bin);
    match packet {
        Packet::Line(line) => data(env, line, delivery.as_list),
        Packet::Request { method, target: uri, version } => {
            let method = match method {
                Method::Known(name) => atom(env, name),
                Method::Other(name) => text(name),
            };
            (atoms::http_request(), method, target(env, uri, &text), *version).encode(env)
        }
        Packet::Response { version, status, phrase } => {
            (atoms::http_response(), *version, *status, text(phrase)).encode(env)
        }
        Packet::Header { bit, known, name, raw_name, value } => {
            let name = known.map_or_else(|| text(name), |name| atom(env, name));
            (atoms::http_header(), *bit, name, text(raw_name), text(value)).encode(env)
        }
        Packet::EndOfHeader => atoms::http_eoh().encode(env),
        Packet::HttpError(line) => (atoms::http_error(), text(line)).encode(env),
    }
}

fn target<'a>(env: Env<'a>, target: &Target<'_>, text: &dyn Fn(&[u8]) -> Term<'a>) -> Term<'a> {
    match target {
        Target::Star => atoms::any_star().encode(env),
        Target::AbsPath(path) => (atoms::abs_path(), text(path)).encode(env),
        Target::AbsoluteUri { scheme, host, port, path } => {
            let scheme = match scheme {
                Scheme::Http => atoms::http(),
                Scheme::Https => atoms::https(),
            };
            let port = port.map_or(atoms::undefined().encode(env), |port| port.encode(env));
            (atoms::absolute_uri(), scheme, text(host), port, text(path)).encode(env)
        }
        Target::Scheme(scheme, rest) => (atoms::scheme(), text(scheme), text(rest)).encode(env),
        Target::Other(other) => text(other),
    }
}

/// Of a fixed set of names only.
fn atom<'a>(env: Env<'a>, name: &str) -> Term<'a> {
    Atom::from_str(env, name).map_or_else(|_| name.encode(env), |atom| atom.encode(env))
}

/// `{Ip, Port}` or `{local, Path}`.
pub(crate) fn address<'a>(env: Env<'a>, address: &Address) -> Term<'a> {
    match address {
        Address::Ip(address) => ip_address(env, *address),
        Address::Local(path) => (atoms::local(), binary(env, path)).encode(env),
    }
}

/// `{Ip, Port}`.
pub(crate) fn ip_address(env: Env<'_>, address: SocketAddr) -> Term<'_> {
    (ip(env, address.ip()), address.port()).encode(env)
}

/// Why a connection to a listener behind a proxy is refused.
pub(crate) fn proxy_refusal(env: Env<'_>, why: ProxyRefusal) -> Term<'_> {
    match why {
        ProxyRefusal::Untrusted => atoms::not_trusted().encode(env),
        ProxyRefusal::Timeout => atoms::timeout().encode(env),
        ProxyRefusal::Header(error) => atom(env, error.name()),
    }
}

fn ip<'a>(env: Env<'a>, ip: IpAddr) -> Term<'a> {
    let parts: Vec<Term<'a>> = match ip {
        IpAddr::V4(v4) => v4.octets().iter().map(|part| part.encode(env)).collect(),
        IpAddr::V6(v6) => v6.segments().iter().map(|part| part.encode(env)).collect(),
    };
    rustler::types::tuple::make_tuple(env, &parts)
}

/// `{error, Reason}`.
pub(crate) fn error<'a>(env: Env<'a>, error: Error) -> Term<'a> {
    let reason = match error {
        Error::Closed => atoms::closed().encode(env),
        Error::Already => atoms::ealready().encode(env),
        Error::NotOwner => atoms::not_owner().encode(env),
        Error::Invalid => atoms::einval().encode(env),
        Error::TooLarge => atoms::enomem().encode(env),
        Error::MessageSize => atoms::emsgsize().encode(env),
        Error::Os(code) => errno(env, code),
    };
    (atoms::error(), reason).encode(env)
}

/// The name that Erlang has for it.
pub(crate) fn errno<'a>(env: Env<'a>, code: Errno) -> Term<'a> {
    let name = match code {
        Errno::ACCESS => "eacces",
        Errno::ADDRINUSE => "eaddrinuse",
        Errno::ADDRNOTAVAIL => "eaddrnotavail",
        Errno::AGAIN => "eagain",
        Errno::BADF => "ebadf",
        Errno::CONNABORTED => "econnaborted",
        Errno::CONNREFUSED => "econnrefused",
        Errno::CONNRESET => "econnreset",
        Errno::HOSTUNREACH => "ehostunreach",
        Errno::IO => "eio",
        Errno::ISDIR => "eisdir",
        Errno::MFILE => "emfile",
        Errno::MSGSIZE => "emsgsize",
        Errno::NETDOWN => "enetdown",
        Errno::NETUNREACH => "enetunreach",
        Errno::NFILE => "enfile",
        Errno::NOBUFS => "enobufs",
        Errno::NOMEM => "enomem",
        Errno::NOPROTOOPT => "enoprotoopt",
        Errno::NOSPC => "enospc",
        Errno::NOTCONN => "enotconn",
        Errno::NOTSOCK => "enotsock",
        Errno::OPNOTSUPP => "eopnotsupp",
        Errno::OVERFLOW => "eoverflow",
        Errno::PERM => "eperm",
        Errno::PIPE => "epipe",
        Errno::TIMEDOUT => "etimedout",
        _ => "einval",
    };
    atom(env, name)
}
