//! Listeners.

use crate::decode::{entry, ip_address, millis, positive, timeout};
use crate::host::{CallerSink, Pid, Waiter, unwatch_listener, watch_listener};
use crate::system::system;
use crate::{atoms, fd, links, terms};
use megaphone_core::link::MAX_NAME;
use megaphone_core::{
    LinkListenerConfig, ListenerConfig, ListenerId, Mode, Network, Path, ProxyProtocol, Route, Service,
};
use rustler::types::atom::Atom;
use rustler::{Binary, Encoder, Env, Error, LocalPid, NifResult, Term};

/// Networks that a listener may trust. Each is looked at for each connection, and here.
const MAX_NETWORKS: usize = 256;

/// Accepts on a duplicate of the descriptor `number` until `owner` ends or the listener is closed. Options may be long,
/// hence not on a normal scheduler.
#[rustler::nif(schedule = "DirtyIo")]
fn listen<'a>(env: Env<'a>, number: i32, owner: LocalPid, options: Term<'a>) -> NifResult<Term<'a>> {
    let config = any_config(options)?;
    let starter: Option<LocalPid> = entry(options, atoms::starter())?;
    let system = system()?;
    let listening = fd::duplicate(number)
        .map_err(megaphone_core::Error::Os)
        .and_then(|fd| match config {
            AnyConfig::Connections(config) => system.listen(fd, *config, starter.map(Pid)),
            AnyConfig::Links(config) => system.listen_links(fd, config),
        })
        .and_then(|id| {
            if watch_listener(env, owner, id) {
                return Ok(id);
            }
            unwatch_listener(env, id);
            system.close_listener(id, &mut CallerSink { env })?;
            Err(megaphone_core::Error::Closed)
        });
    Ok(match listening {
        Ok(id) => (atoms::ok(), id.0).encode(env),
        Err(error) => terms::error(env, error),
    })
}

/// What is accepted.
enum AnyConfig {
    Connections(Box<ListenerConfig>),
    Links(LinkListenerConfig),
}

fn any_config(options: Term<'_>) -> NifResult<AnyConfig> {
    let mode: Atom = options.map_get(atoms::mode())?.decode()?;
    if mode == atoms::links() {
        return links::listener_config(options).map(AnyConfig::Links);
    }
    listener_config(mode, options).map(|config| AnyConfig::Connections(Box::new(config)))
}

fn listener_config(mode: Atom, options: Term<'_>) -> NifResult<ListenerConfig> {
    let mut config = ListenerConfig { mode: mode_of(mode)?, ..ListenerConfig::default() };
    for (key, value) in rustler::MapIterator::new(options).ok_or(Error::BadArg)? {
        set_listener_option(&mut config, key.decode()?, value)?;
    }
    Ok(config)
}

fn mode_of(mode: Atom) -> NifResult<Mode> {
    Ok(match mode {
        mode if mode == atoms::raw() => Mode::Raw,
        mode if mode == atoms::http() => Mode::Http,
        mode if mode == atoms::xmpp() => Mode::Xmpp,
        mode if mode == atoms::accept() => Mode::Accept,
        _ => return Err(Error::BadArg),
    })
}

fn set_listener_option(config: &mut ListenerConfig, key: Atom, value: Term<'_>) -> NifResult<()> {
    if key == atoms::backlog() {
        config.backlog = value.decode()?;
    } else if key == atoms::max_head() {
        config.limits.max_head = value.decode()?;
    } else if key == atoms::max_chunked_body() {
        config.limits.max_chunked_body = value.decode()?;
    } else if key == atoms::recv_high_watermark() {
        let bytes = value.decode::<usize>()?.max(1);
        config.options.recv_high_watermark = bytes;
        config.limits.max_buffered_body = bytes;
    } else if key == atoms::head_timeout() {
        config.head_timeout = millis(value)?;
    } else if key == atoms::body_timeout() {
        config.body_timeout = millis(value)?;
    } else if key == atoms::idle_timeout() {
        config.idle_timeout = millis(value)?;
    } else if key == atoms::handler_linger() {
        config.handler_linger = millis(value)?;
    } else if key == atoms::start_timeout() {
        config.start_timeout = millis(value)?;
    } else if key == atoms::zero_ends_request() {
        config.zero_ends_request = value.decode()?;
    } else if key == atoms::delivery() {
        config.options.as_list = value.decode::<Atom>()? == atoms::list();
    } else if key == atoms::send_timeout() {
        config.options.send_timeout = timeout(value)?;
    } else if key == atoms::send_timeout_close() {
        config.options.send_timeout_close = value.decode()?;
    } else if key == atoms::shut_with_owner() {
        config.shut_with_owner = value.decode()?;
    } else if key == atoms::max_stanza() {
        config.max_stanza = positive(value)?;
    } else if key == atoms::routes() {
        config.routes = value.decode::<Vec<_>>()?.into_iter().map(route).collect::<NifResult<_>>()?;
    } else if key == atoms::response_headers() {
        config.response_headers = value.decode::<Binary<'_>>()?.to_vec();
    } else if key == atoms::proxy_protocol() {
        config.proxy_protocol = proxy_protocol(value)?;
    } else if key == atoms::link_name() {
        config.name = Some(link_name(value)?);
    } else if key == atoms::local_awaits_input() {
        config.local_awaits_input = value.decode()?;
    } else if key != atoms::mode() && key != atoms::starter() {
        return Err(Error::BadArg);
    }
    Ok(())
}

/// As long as a link's frame can name.
fn link_name(value: Term<'_>) -> NifResult<String> {
    Some(value.decode::<String>()?).filter(|name| (1..=MAX_NAME).contains(&name.len())).ok_or(Error::BadArg)
}

/// `true`, `false`, or the networks of the proxies: `[{Ip, Length}]`.
fn proxy_protocol(value: Term<'_>) -> NifResult<Option<ProxyProtocol>> {
    if let Ok(is_used) = value.decode::<bool>() {
        return Ok(is_used.then(ProxyProtocol::default));
    }
    if value.list_length()? > MAX_NETWORKS {
        return Err(Error::BadArg);
    }
    let networks = value.decode::<Vec<(Term<'_>, u32)>>()?.into_iter();
    let trusted = networks.map(|(ip, length)| Network::new(ip_address(ip)?, length).ok_or(Error::BadArg));
    let trusted = Some(trusted.collect::<NifResult<_>>()?);
    Ok(Some(ProxyProtocol { trusted, ..ProxyProtocol::default() }))
}

/// `{Path, websocket | bosh}`.
fn route((path, service): (Binary<'_>, Atom)) -> NifResult<Route> {
    let service = match service {
        service if service == atoms::websocket() => Service::WebSocket,
        service if service == atoms::bosh() => Service::Bosh,
        _ => return Err(Error::BadArg),
    };
    Ok(Route { path: Path::parse(&path), service })
}

/// Closes what nobody has accepted, hence not on a normal scheduler.
#[rustler::nif(schedule = "DirtyIo")]
fn close_listener(env: Env<'_>, id: u32) -> NifResult<Term<'_>> {
    let system = system()?;
    unwatch_listener(env, ListenerId(id));
    let closed = system.close_listener(ListenerId(id), &mut CallerSink { env });
    Ok(closed.map_or_else(|error| terms::error(env, error), |()| atoms::ok().encode(env)))
}

/// Looks at all connections, hence not on a normal scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn set_starter(env: Env<'_>, id: u32, starter: LocalPid) -> NifResult<Term<'_>> {
    let set = system()?.set_starter(ListenerId(id), Pid(starter), &mut CallerSink { env });
    Ok(set.map_or_else(|error| terms::error(env, error), |()| atoms::ok().encode(env)))
}

/// Closes all connections and sessions of a listener, hence not on a normal scheduler.
#[rustler::nif(schedule = "DirtyIo")]
fn close_connections(env: Env<'_>, id: u32) -> NifResult<Atom> {
    system()?.close_connections(ListenerId(id), &mut CallerSink { env });
    Ok(atoms::ok())
}

#[rustler::nif]
fn listener_info(env: Env<'_>, id: u32) -> NifResult<Term<'_>> {
    Ok(match system()?.listener_info(ListenerId(id)) {
        Ok(info) => terms::map(
            env,
            &[
                (atoms::accepted(), info.accepted.encode(env)),
                (atoms::connections(), info.connections.encode(env)),
                (atoms::paused(), info.is_paused.encode(env)),
                (atoms::is_open(), info.is_open.encode(env)),
            ],
        ),
        Err(error) => terms::error(env, error),
    })
}

#[rustler::nif]
fn accept(env: Env<'_>, id: u32) -> NifResult<Term<'_>> {
    let caller = env.pid();
    let reference = env.make_ref();
    let waiter = || Waiter::wake_up(caller, reference);
    let accepted = system()?.accept(ListenerId(id), Pid(caller), waiter, &mut CallerSink { env });
    Ok(match accepted {
        Ok(Some(conn)) => (atoms::ok(), conn.as_u64()).encode(env),
        Ok(None) => (atoms::wait(), *reference).encode(env),
        Err(error) => terms::error(env, error),
    })
}

#[rustler::nif]
fn cancel_accept<'a>(env: Env<'a>, id: u32, _reference: Term<'a>) -> NifResult<Atom> {
    let waited = system()?.cancel_accept(ListenerId(id), Pid(env.pid()));
    Ok(if waited { atoms::ok() } else { atoms::sent() })
}
