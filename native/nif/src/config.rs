//! Start and end of the system, and its figures.

use crate::decode::entry;
use crate::host::{CallerSink, send_deferred, set_log, waker_fd};
use crate::system::{self, started, system};
use crate::{atoms, terms};
use megaphone_core::Config;
use rustix::process::{Resource, getrlimit};
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, Error, LocalPid, NifResult, Term};

/// Descriptors that this process may have.
fn descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// What the node needs beside its connections: files, the database, uploads, links to other servers, code that is loaded.
/// Half of a small limit, at most 4,096.
fn reserve(limit: usize) -> usize {
    (limit / 8).clamp(128.min(limit / 2), 4096)
}

/// Starts the threads, once a VM; later calls change the rest.
#[rustler::nif(schedule = "DirtyIo")]
fn start<'a>(env: Env<'a>, options: Term<'a>) -> NifResult<Term<'a>> {
    if !options.is_map() {
        return Err(Error::BadArg);
    }
    let limit = descriptor_limit();
    // The kernel gives the lowest descriptor that is free: what is open already counts by itself.
    let max_descriptor = limit.saturating_sub(reserve(limit));
    let max_connections =
        entry(options, atoms::max_connections())?.unwrap_or_else(|| max_descriptor.min(1 << 27));
    let reactors: usize = match entry(options, atoms::reactors())? {
        Some(n) => n,
        None => std::thread::available_parallelism().map_or(1, |cores| (usize::from(cores) / 4).clamp(1, 8)),
    };
    if reactors == 0 || max_connections == 0 {
        return Err(Error::BadArg);
    }
    let system = match started() {
        Some(system) => system,
        None => match system::start(Config { reactors, max_connections, max_descriptor }) {
            Ok(system) => system,
            Err(error) => return Ok((atoms::error(), error.to_string()).encode(env)),
        },
    };
    system.set_bounds(max_connections, max_descriptor);
    if let Some(log) = entry::<LocalPid>(options, atoms::log())? {
        set_log(env, log);
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
    if let Some(system) = started() {
        system.close_all(&mut CallerSink { env });
    }
    atoms::ok().encode(env)
}

/// Takes time in proportion to the number of listeners, which is small.
#[rustler::nif]
fn set_process_room(room: usize) -> NifResult<Atom> {
    system()?.set_process_room(room);
    Ok(atoms::ok())
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

/// `{ok, Fd}`: a descriptor that has a byte to read when there is something for `wake`.
#[rustler::nif]
fn waker(env: Env<'_>) -> Term<'_> {
    terms::answer(env, waker_fd().map_err(megaphone_core::Error::Os), |fd| fd.encode(env))
}

/// Sends messages for the library's threads. `more`: there are others.
#[rustler::nif]
fn wake(env: Env<'_>) -> Atom {
    if send_deferred(env) { atoms::more() } else { atoms::ok() }
}
