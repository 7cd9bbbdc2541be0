//! Socket options, by the names that `inet` has for them.

use crate::decode::{conn, integer, timeout};
use crate::host::CallerSink;
use crate::system::system;
use crate::terms::done;
use crate::{atoms, terms};
use megaphone_core::packet::Mode;
use megaphone_core::{Active, Opt, Packets};
use rustler::types::atom::Atom;
use rustler::{Decoder, Encoder, Env, NifResult, Term};
use std::time::Duration;

#[rustler::nif]
fn setopt<'a>(env: Env<'a>, id: u64, name: Atom, value: Term<'a>) -> NifResult<Term<'a>> {
    let Some(option) = decode(name, value) else {
        return Ok(terms::error(env, megaphone_core::Error::Invalid));
    };
    Ok(done(
        env,
        conn(id).and_then(|conn| {
            let system = system().map_err(|_| megaphone_core::Error::Closed)?;
            system.set(conn, option, &mut CallerSink { env })
        }),
    ))
}

#[rustler::nif]
fn getopt<'a>(env: Env<'a>, id: u64, name: Atom) -> NifResult<Term<'a>> {
    let Some(like) = like(name) else {
        return Ok(terms::error(env, megaphone_core::Error::Invalid));
    };
    let system = system()?;
    Ok(match conn(id).and_then(|conn| system.get(conn, like)) {
        Ok(option) => (atoms::ok(), encode(env, option)).encode(env),
        Err(error) => terms::error(env, error),
    })
}

fn decode(name: Atom, value: Term<'_>) -> Option<Opt> {
    fn of<'a, T: Decoder<'a>>(value: Term<'a>, make: impl FnOnce(T) -> Opt) -> Option<Opt> {
        value.decode().ok().map(make)
    }
    match like(name)? {
        Opt::Active(_) => decode_active(value),
        Opt::Packets(_) => decode_packet(value).map(Opt::Packets),
        Opt::AsList(_) => match value.decode::<Atom>().ok()? {
            mode if mode == atoms::list() => Some(Opt::AsList(true)),
            mode if mode == atoms::binary() => Some(Opt::AsList(false)),
            _ => None,
        },
        Opt::SendTimeout(_) => timeout(value).ok().map(Opt::SendTimeout),
        Opt::Linger(_) => {
            let (on, seconds): (bool, u64) = value.decode().ok()?;
            Some(Opt::Linger(on.then(|| Duration::from_secs(seconds))))
        }
        Opt::PacketSize(_) => of(value, Opt::PacketSize),
        Opt::LineLength(_) => of(value, Opt::LineLength),
        Opt::SendTimeoutClose(_) => of(value, Opt::SendTimeoutClose),
        Opt::HighWatermark(_) => of(value, Opt::HighWatermark),
        Opt::LowWatermark(_) => of(value, Opt::LowWatermark),
        Opt::RecvHighWatermark(_) => of(value, Opt::RecvHighWatermark),
        Opt::ExitOnClose(_) => of(value, Opt::ExitOnClose),
        Opt::ShowEconnreset(_) => of(value, Opt::ShowEconnreset),
        Opt::NoDelay(_) => of(value, Opt::NoDelay),
        Opt::KeepAlive(_) => of(value, Opt::KeepAlive),
        Opt::RecvBuffer(_) => of(value, Opt::RecvBuffer),
        Opt::SendBuffer(_) => of(value, Opt::SendBuffer),
        Opt::ReuseAddr(_) => of(value, Opt::ReuseAddr),
        Opt::Tos(_) => integer(value).ok().map(Opt::Tos),
        Opt::ActiveAdd(_) => None,
    }
}

fn decode_active(value: Term<'_>) -> Option<Opt> {
    if value.is_integer() {
        return integer(value).ok().map(Opt::ActiveAdd);
    }
    match value.decode::<Atom>().ok()? {
        active if active == atoms::true_() => Some(Opt::Active(Active::On)),
        active if active == atoms::false_() => Some(Opt::Active(Active::Off)),
        active if active == atoms::once() => Some(Opt::Active(Active::Once)),
        _ => None,
    }
}

fn decode_packet(value: Term<'_>) -> Option<Packets> {
    if value.is_integer() {
        let is_raw = value.decode::<i64>().ok()? == 0;
        return is_raw.then_some(Packets { mode: Mode::Raw, is_bin: false });
    }
    let name: Atom = value.decode().ok()?;
    packet_modes().into_iter().find(|(mode_name, _)| *mode_name == name).map(|(_, packets)| packets)
}

fn packet_modes() -> [(Atom, Packets); 6] {
    let packets = |mode, is_bin| Packets { mode, is_bin };
    [
        (atoms::raw(), packets(Mode::Raw, false)),
        (atoms::line(), packets(Mode::Line, false)),
        (atoms::http(), packets(Mode::Http, false)),
        (atoms::http_bin(), packets(Mode::Http, true)),
        (atoms::httph(), packets(Mode::HttpHeader, false)),
        (atoms::httph_bin(), packets(Mode::HttpHeader, true)),
    ]
}

/// Some value of the option with this name.
fn like(name: Atom) -> Option<Opt> {
    let raw = Packets { mode: Mode::Raw, is_bin: false };
    let options = [
        (atoms::active(), Opt::Active(Active::Off)),
        (atoms::packet(), Opt::Packets(raw)),
        (atoms::packet_size(), Opt::PacketSize(0)),
        (atoms::line_length(), Opt::LineLength(0)),
        (atoms::buffer(), Opt::LineLength(0)),
        (atoms::mode(), Opt::AsList(false)),
        (atoms::send_timeout(), Opt::SendTimeout(None)),
        (atoms::send_timeout_close(), Opt::SendTimeoutClose(false)),
        (atoms::high_watermark(), Opt::HighWatermark(0)),
        (atoms::low_watermark(), Opt::LowWatermark(0)),
        (atoms::recv_high_watermark(), Opt::RecvHighWatermark(0)),
        (atoms::exit_on_close(), Opt::ExitOnClose(true)),
        (atoms::show_econnreset(), Opt::ShowEconnreset(false)),
        (atoms::nodelay(), Opt::NoDelay(false)),
        (atoms::keepalive(), Opt::KeepAlive(false)),
        (atoms::recbuf(), Opt::RecvBuffer(0)),
        (atoms::sndbuf(), Opt::SendBuffer(0)),
        (atoms::reuseaddr(), Opt::ReuseAddr(false)),
        (atoms::linger(), Opt::Linger(None)),
        (atoms::tos(), Opt::Tos(0)),
    ];
    options.into_iter().find(|(option, _)| *option == name).map(|(_, like)| like)
}

fn encode(env: Env<'_>, option: Opt) -> Term<'_> {
    match option {
        Opt::Active(Active::Off) => false.encode(env),
        Opt::Active(Active::On) => true.encode(env),
        Opt::Active(Active::Once) => atoms::once().encode(env),
        Opt::Active(Active::Count(n)) | Opt::ActiveAdd(n) => n.encode(env),
        Opt::Packets(packets) if packets.mode == Mode::Raw => 0.encode(env),
        Opt::Packets(packets) => packet_modes()
            .into_iter()
            .find(|(_, known)| *known == packets)
            .map_or_else(|| 0.encode(env), |(name, _)| name.encode(env)),
        Opt::AsList(as_list) => (if as_list { atoms::list() } else { atoms::binary() }).encode(env),
        Opt::SendTimeout(timeout) => encode_timeout(env, timeout),
        Opt::Linger(linger) => (linger.is_some(), linger.map_or(0, |linger| linger.as_secs())).encode(env),
        Opt::PacketSize(n)
        | Opt::LineLength(n)
        | Opt::HighWatermark(n)
        | Opt::LowWatermark(n)
        | Opt::RecvHighWatermark(n)
        | Opt::RecvBuffer(n)
        | Opt::SendBuffer(n) => n.encode(env),
        Opt::SendTimeoutClose(on)
        | Opt::ExitOnClose(on)
        | Opt::ShowEconnreset(on)
        | Opt::NoDelay(on)
        | Opt::KeepAlive(on)
        | Opt::ReuseAddr(on) => on.encode(env),
        Opt::Tos(tos) => tos.encode(env),
    }
}

/// Milliseconds or `infinity`.
pub(crate) fn encode_timeout(env: Env<'_>, timeout: Option<Duration>) -> Term<'_> {
    match timeout {
        Some(timeout) => u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).encode(env),
        None => atoms::infinity().encode(env),
    }
}
