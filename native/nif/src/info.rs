//! What is known of connections and sessions.

use crate::decode::conn;
use crate::host::Pid;
use crate::system::system;
use crate::terms::answer;
use crate::{atoms, terms};
use megaphone_core::{ConnectionInfo, SessionInfo};
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, NifResult, Term};

#[rustler::nif]
fn info(env: Env<'_>, id: u64) -> NifResult<Term<'_>> {
    let system = system()?;
    Ok(answer(env, conn(id).and_then(|conn| system.info(conn)), |info| info_term(env, &info)))
}

/// What is known of a connection.
pub(crate) fn info_term<'a>(env: Env<'a>, info: &ConnectionInfo<Pid>) -> Term<'a> {
    let name = |name| Atom::from_str(env, name).unwrap_or_else(|_| atoms::undefined());
    let transport = info.transport.map_or(atoms::none(), name);
    terms::map(
        env,
        &[
            (atoms::listener(), info.listener.0.encode(env)),
            (atoms::phase(), name(info.phase).encode(env)),
            (atoms::owner(), owner_term(env, info.owner)),
            (atoms::transport(), transport.encode(env)),
            (atoms::is_http(), info.is_http.encode(env)),
            (atoms::inbound(), info.inbound.encode(env)),
            (atoms::outbound(), info.outbound.encode(env)),
            (atoms::recv_oct(), info.traffic.received.encode(env)),
            (atoms::recv_cnt(), info.traffic.reads.encode(env)),
            (atoms::send_oct(), info.traffic.sent.encode(env)),
            (atoms::send_cnt(), info.traffic.writes.encode(env)),
        ],
    )
}

/// What `info` gives of a BOSH session.
pub(crate) fn session_info_term<'a>(env: Env<'a>, info: &SessionInfo<Pid>) -> Term<'a> {
    let phase = Atom::from_str(env, info.phase).unwrap_or_else(|_| atoms::undefined());
    terms::map(
        env,
        &[
            (atoms::listener(), info.listener.0.encode(env)),
            (atoms::phase(), phase.encode(env)),
            (atoms::owner(), owner_term(env, info.owner)),
            (atoms::transport(), atoms::http_bind().encode(env)),
            (atoms::outbound(), info.outbound.encode(env)),
            (atoms::bytes(), info.bytes.encode(env)),
        ],
    )
}

/// A process, or `undefined`.
pub(crate) fn owner_term(env: Env<'_>, owner: Option<Pid>) -> Term<'_> {
    owner.map_or_else(|| atoms::undefined().encode(env), |owner| owner.0.encode(env))
}
