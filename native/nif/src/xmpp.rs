//! What a process does with an XMPP session.
//!
//! A session is `{tcp, Id}`, `{websocket, Id}` or `{http_bind, Id}`. What flows between is in `xml`, what a session's
//! owner is told in `events`.

pub(crate) mod config;
pub(crate) mod events;

use crate::decode::conn;
use crate::host::{CallerSink, Pid, Waiter};
use crate::info::{info_term, session_info_term};
use crate::system::system;
use crate::terms::{answer, done};
use crate::xml::{self, Packet, ReadError};
use crate::{atoms, effort, terms};
use megaphone_core::{Effort, Error, Facts, Outgoing, Pulled, Rate, WriteOutcome, XmppId};
use rustler::types::atom::Atom;
use rustler::{Encoder, Env, LocalPid, NifResult, Term};
use std::cell::RefCell;

/// A term that has the form of a session may still name none.
fn session(socket: Term<'_>) -> NifResult<Result<XmppId, Error>> {
    let (tag, id): (Atom, u64) = socket.decode()?;
    let named = match tag {
        tag if tag == atoms::tcp() => XmppId::Tcp,
        tag if tag == atoms::websocket() => XmppId::WebSocket,
        tag if tag == atoms::http_bind() => XmppId::Bosh,
        _ => return Err(rustler::Error::BadArg),
    };
    Ok(conn(id).map(named))
}

#[rustler::nif]
fn xmpp_facts<'a>(env: Env<'a>, socket: Term<'a>) -> NifResult<Term<'a>> {
    let system = system()?;
    Ok(answer(env, session(socket)?.and_then(|id| system.xmpp_facts(id)), |facts| facts_term(env, &facts)))
}

fn facts_term<'a>(env: Env<'a>, facts: &Facts) -> Term<'a> {
    let mut pairs = vec![
        (atoms::listener(), facts.listener.0.encode(env)),
        (atoms::peer(), terms::address(env, &facts.peer)),
        (atoms::local(), terms::address(env, &facts.local)),
    ];
    if let Some(request) = &facts.request {
        pairs.extend([
            (atoms::host(), terms::binary(env, &request.host)),
            (atoms::path(), terms::binary(env, &request.path)),
            (atoms::forwarded_for(), terms::binary(env, &request.forwarded_for)),
        ]);
    }
    terms::map(env, &pairs)
}

/// Makes `owner` the owner, who is sent `'$megaphone_recv'` for the events that wait.
#[rustler::nif]
fn xmpp_started<'a>(env: Env<'a>, socket: Term<'a>, owner: LocalPid) -> NifResult<Term<'a>> {
    let system = system()?;
    let started =
        session(socket)?.and_then(|id| system.xmpp_started(id, Pid(owner), &mut CallerSink { env }));
    Ok(done(env, started))
}

/// `ok`, `{wait, Ref}`, or `large` for `xmpp_send_large`.
#[rustler::nif]
fn xmpp_send<'a>(env: Env<'a>, socket: Term<'a>, packet: Term<'a>) -> NifResult<Term<'a>> {
    send(env, socket, packet, Effort::Normal)
}

/// The same for packets that take their time.
#[rustler::nif(schedule = "DirtyCpu")]
fn xmpp_send_large<'a>(env: Env<'a>, socket: Term<'a>, packet: Term<'a>) -> NifResult<Term<'a>> {
    send(env, socket, packet, Effort::Large)
}

fn send<'a>(env: Env<'a>, socket: Term<'a>, packet: Term<'a>, effort: Effort) -> NifResult<Term<'a>> {
    let id = session(socket)?;
    let packet = match xml::packet(packet, effort) {
        Ok(packet) => packet,
        Err(ReadError::NotAPacket) => return Err(rustler::Error::BadArg),
        Err(ReadError::TooMuch) => return Ok(atoms::large().encode(env)),
        Err(ReadError::TooLarge) => return Ok(terms::error(env, Error::TooLarge)),
    };
    let outgoing = match &packet {
        Packet::Header(header) => Outgoing::Header(header),
        Packet::Element(element) => Outgoing::Element(element),
        Packet::End(name) => Outgoing::End(name),
        Packet::Raw(bytes) => Outgoing::Raw(bytes),
    };
    effort::charge_stanza(env, effort, weight(&outgoing));
    let system = system()?;
    let caller = env.pid();
    let mut reference = None;
    let sent = id.and_then(|id| {
        system.xmpp_send(id, Pid(caller), outgoing, &mut CallerSink { env }, || {
            Waiter::wake_up(caller, *reference.insert(env.make_ref()))
        })
    });
    Ok(match sent {
        Ok(WriteOutcome::Done) => atoms::ok().encode(env),
        Ok(WriteOutcome::Wait) => (atoms::wait(), reference.map(|reference| *reference)).encode(env),
        Err(error) => terms::error(env, error),
    })
}

fn weight(outgoing: &Outgoing<'_>) -> usize {
    match outgoing {
        Outgoing::Header(element) | Outgoing::Element(element) => element.own_bytes(),
        Outgoing::End(bytes) | Outgoing::Raw(bytes) => bytes.len(),
    }
}

thread_local! {
    /// One a scheduler: what is read is parsed before anything else is.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// What has come, for the owner: `{Events, more | wait}`, or `large` for `xmpp_recv_large`. With `more` it asks again when it
/// has dealt with these; with `wait` it is sent `'$megaphone_recv'` when there is more.
#[rustler::nif]
fn xmpp_recv<'a>(env: Env<'a>, socket: Term<'a>) -> NifResult<Term<'a>> {
    recv(env, socket, Effort::Normal)
}

/// The same for an event that takes its time.
#[rustler::nif(schedule = "DirtyCpu")]
fn xmpp_recv_large<'a>(env: Env<'a>, socket: Term<'a>) -> NifResult<Term<'a>> {
    recv(env, socket, Effort::Large)
}

fn recv<'a>(env: Env<'a>, socket: Term<'a>, effort: Effort) -> NifResult<Term<'a>> {
    let id = session(socket)?;
    let system = system()?;
    let caller = Pid(env.pid());
    let pulled = id.and_then(|id| {
        BUFFER.with_borrow_mut(|buffer| system.xmpp_recv(id, caller, effort, buffer, &mut CallerSink { env }))
    });
    Ok(match pulled {
        Ok(Pulled { is_large: true, events, .. }) if events.is_empty() => atoms::large().encode(env),
        Ok(pulled) => {
            effort::charge_stanza(env, effort, pulled.bytes());
            let events: Vec<Term<'a>> = pulled.events.iter().map(|event| events::term(env, event)).collect();
            let next = if pulled.has_more { atoms::more() } else { atoms::wait() };
            (events, next).encode(env)
        }
        Err(error) => terms::error(env, error),
    })
}

/// Writes what is queued.
#[rustler::nif]
fn xmpp_flush<'a>(env: Env<'a>, socket: Term<'a>) -> NifResult<Term<'a>> {
    let system = system()?;
    let caller = Pid(env.pid());
    let flushed = session(socket)?.and_then(|id| system.xmpp_flush(id, caller, &mut CallerSink { env }));
    Ok(done(env, flushed))
}

#[rustler::nif]
fn xmpp_cancel_wait<'a>(env: Env<'a>, socket: Term<'a>) -> NifResult<Atom> {
    let system = system()?;
    // Nobody waits on a session that is gone.
    let _ =
        session(socket)?.and_then(|id| system.xmpp_cancel_wait(id, Pid(env.pid()), &mut CallerSink { env }));
    Ok(atoms::ok())
}

#[rustler::nif]
fn xmpp_reset<'a>(env: Env<'a>, socket: Term<'a>) -> NifResult<Term<'a>> {
    let system = system()?;
    let caller = Pid(env.pid());
    Ok(done(env, session(socket)?.and_then(|id| system.xmpp_reset(id, caller))))
}

/// `none` or `{BytesPerSecond, Burst}`.
#[rustler::nif]
fn xmpp_shaper<'a>(env: Env<'a>, socket: Term<'a>, shaper: Term<'a>) -> NifResult<Term<'a>> {
    let rate = rate(shaper)?;
    let system = system()?;
    let caller = Pid(env.pid());
    let shaped =
        session(socket)?.and_then(|id| system.xmpp_shaper(id, caller, rate, &mut CallerSink { env }));
    Ok(done(env, shaped))
}

fn rate(shaper: Term<'_>) -> NifResult<Option<Rate>> {
    if shaper.is_atom() && shaper.decode::<Atom>()? == atoms::none() {
        return Ok(None);
    }
    let (rate, burst): (u64, u64) = shaper.decode()?;
    if rate == 0 || burst == 0 {
        return Err(rustler::Error::BadArg);
    }
    // 4 GiB a second is no bound at all.
    let clamp = |number| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Some(Rate { bytes_per_second: clamp(rate), burst: clamp(burst) }))
}

/// What is queued is sent in the background.
#[rustler::nif]
fn xmpp_close<'a>(env: Env<'a>, socket: Term<'a>) -> NifResult<Term<'a>> {
    let system = system()?;
    Ok(done(
        env,
        session(socket)?.and_then(|id| system.xmpp_close(id, Pid(env.pid()), &mut CallerSink { env })),
    ))
}

/// What is queued is lost.
#[rustler::nif]
fn xmpp_abort<'a>(env: Env<'a>, socket: Term<'a>) -> NifResult<Term<'a>> {
    let system = system()?;
    Ok(done(env, session(socket)?.and_then(|id| system.xmpp_abort(id, &mut CallerSink { env }))))
}

#[rustler::nif]
fn xmpp_peername<'a>(env: Env<'a>, socket: Term<'a>) -> NifResult<Term<'a>> {
    let system = system()?;
    let facts = session(socket)?.and_then(|id| system.xmpp_facts(id));
    Ok(answer(env, facts, |facts| terms::address(env, &facts.peer)))
}

#[rustler::nif]
fn xmpp_sockname<'a>(env: Env<'a>, socket: Term<'a>) -> NifResult<Term<'a>> {
    let system = system()?;
    let facts = session(socket)?.and_then(|id| system.xmpp_facts(id));
    Ok(answer(env, facts, |facts| terms::address(env, &facts.local)))
}

#[rustler::nif]
fn xmpp_info<'a>(env: Env<'a>, socket: Term<'a>) -> NifResult<Term<'a>> {
    let system = system()?;
    let info = session(socket)?.and_then(|id| match id {
        XmppId::Tcp(conn) | XmppId::WebSocket(conn) => system.info(conn).map(|info| info_term(env, &info)),
        XmppId::Bosh(id) => system.session_info(id).map(|info| session_info_term(env, &info)),
    });
    Ok(answer(env, info, |info| info))
}
