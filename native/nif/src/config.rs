//! Start and end of the system, and its figures.

use crate::host::{CallerSink, ErlangHost};
use crate::{SYSTEM, atoms, terms};
use megaphone_core::{Config, System};
use rustix::process::{Resource, getrlimit};
use rustler::{Decoder, Encoder, Env, Error, LocalPid, NifResult, Term};
use std::sync::Arc;

/// The system, when it was started.
pub(crate) fn system() -> NifResult<&'static Arc<System<ErlangHost>>> {
    SYSTEM.get().ok_or_else(|| Error::RaiseTerm(Box::new(atoms::not_started())))
}

/// An entry of a map of options. None when it isn't there.
pub(crate) fn entry<'a, T: Decoder<'a>>(map: Term<'a>, key: impl Encoder) -> NifResult<Option<T>> {
    map.map_get(key).ok().map(|value| value.decode()).transpose()
}

/// Descriptors that this process may have.
fn descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Room for the VM's own files and sockets.
fn default_max_connections(limit: usize) -> usize {
    limit.saturating_sub((limit / 20).clamp(64, 1024)).min(1 << 27)
}

/// Starts the threads, once a VM; later calls change the rest.
#[rustler::nif(schedule = "DirtyIo")]
fn start<'a>(env: Env<'a>, options: Term<'a>) -> NifResult<Term<'a>> {
    if !options.is_map() {
        return Err(Error::BadArg);
    }
    let limit = descriptor_limit();
    let max_connections =
        entry(options, atoms::max_connections())?.unwrap_or_else(|| default_max_connections(limit));
    let reactors: usize = match entry(options, atoms::reactors())? {
        Some(n) => n,
        None => std::thread::available_parallelism().map_or(1, |cores| (usize::from(cores) / 4).clamp(1, 8)),
    };
    if reactors == 0 || max_connections == 0 {
        return Err(Error::BadArg);
    }
    let system = match SYSTEM.get() {
        Some(system) => system,
        None => {
            let started = System::start(ErlangHost::new(), Config { reactors, max_connections });
            match started {
                // Erlang's application controller starts one at a time.
                Ok(system) => SYSTEM.get_or_init(|| system),
                Err(error) => return Ok((atoms::error(), error.to_string()).encode(env)),
            }
        }
    };
    system.set_max_connections(max_connections);
    if let Some(log) = entry::<LocalPid>(options, atoms::log())? {
        *system.host().log.lock() = Some(log);
    }
    let facts = [
        (atoms::reactors(), system.stats().reactors.encode(env)),
        (atoms::max_connections(), max_connections.encode(env)),
        (atoms::descriptor_limit(), limit.encode(env)),
    ];
    Ok((atoms::ok(), terms::map(env, &facts)).encode(env))
}

/// Closes everything. The threads stay, asleep.
#[rustler::nif(schedule = "DirtyIo")]
fn stop(env: Env<'_>) -> Term<'_> {
    if let Some(system) = SYSTEM.get() {
        system.close_all(&mut CallerSink { env });
    }
    atoms::ok().encode(env)
}

#[rustler::nif]
fn stats(env: Env<'_>) -> NifResult<Term<'_>> {
    let stats = system()?.stats();
    Ok(terms::map(
        env,
        &[
            (atoms::reactors(), stats.reactors.encode(env)),
            (atoms::connections(), stats.connections.encode(env)),
            (atoms::sessions(), stats.sessions.encode(env)),
            (atoms::max_connections(), stats.max_connections.encode(env)),
            (atoms::accepted(), stats.accepted.encode(env)),
            (atoms::listeners(), stats.listeners.encode(env)),
            (atoms::bytes_per_slot(), stats.bytes_per_slot.encode(env)),
            (atoms::bytes_per_session(), stats.bytes_per_session.encode(env)),
        ],
    ))
}

/// All connections. Takes time in proportion to their number, hence not on a normal scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn connections() -> NifResult<Vec<u64>> {
    Ok(system()?.connections().into_iter().map(|conn| conn.as_u64()).collect())
}
