//! Listeners for the links of connection managers, and the links.

use crate::decode::{integer, millis, positive};
use crate::system::system;
use crate::{atoms, terms};
use megaphone_core::link::{self, LinkId, Secret};
use megaphone_core::{LinkInfo, LinkListenerConfig, ListenerId};
use rustler::types::atom::Atom;
use rustler::{Binary, Encoder, Env, Error, NifResult, Term};
use std::sync::Arc;

/// The options of such a listener, which Erlang has checked one by one.
pub(crate) fn listener_config(options: Term<'_>) -> NifResult<LinkListenerConfig> {
    let name: &str = options.map_get(atoms::node_name())?.decode()?;
    let secret: Binary<'_> = options.map_get(atoms::secret())?.decode()?;
    let secret = Secret::new(&secret).map_err(|_| Error::BadArg)?;
    let mut link = link::Config::new(name, secret);
    let mut bounds = LinkListenerConfig::new(Arc::new(link.clone()));
    for (key, value) in rustler::MapIterator::new(options).ok_or(Error::BadArg)? {
        set_option(&mut link, &mut bounds, key.decode()?, value)?;
    }
    Ok(LinkListenerConfig { link: Arc::new(link), ..bounds })
}

fn set_option(
    link: &mut link::Config,
    bounds: &mut LinkListenerConfig,
    key: Atom,
    value: Term<'_>,
) -> NifResult<()> {
    if key == atoms::backlog() {
        bounds.backlog = value.decode()?;
    } else if key == atoms::max_links() {
        bounds.max_links = positive(value)?;
    } else if key == atoms::max_handshakes() {
        bounds.max_handshakes = positive(value)?;
    } else if key == atoms::shut_with_owner() {
        bounds.shut_with_owner = value.decode()?;
    } else {
        set_link_option(link, key, value)?;
    }
    Ok(())
}

fn set_link_option(link: &mut link::Config, key: Atom, value: Term<'_>) -> NifResult<()> {
    if key == atoms::max_streams() {
        link.max_streams = integer(value)?;
    } else if key == atoms::resend_bytes() {
        link.resend_bytes = positive(value)?;
    } else if key == atoms::unsent_bytes() {
        link.unsent_bytes = positive(value)?;
    } else if key == atoms::max_payload() {
        link.max_payload = integer(value)?;
    } else if key == atoms::initial_credit() {
        link.initial_credit = integer(value)?;
    } else if key == atoms::resume_timeout() {
        link.resume_timeout = millis(value)?;
    } else if key == atoms::handshake_timeout() {
        link.handshake_timeout = millis(value)?;
    } else if key == atoms::ping_interval() {
        link.ping_interval = millis(value)?;
    } else if key == atoms::silence_timeout() {
        link.silence_timeout = millis(value)?;
    } else if key == atoms::ack_delay() {
        link.ack_delay = millis(value)?;
    } else if ![atoms::mode(), atoms::node_name(), atoms::secret()].contains(&key) {
        return Err(Error::BadArg);
    }
    Ok(())
}

/// Takes time in proportion to the number of links, which is a listener's option, hence not on a normal scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn links(env: Env<'_>) -> NifResult<Vec<Term<'_>>> {
    Ok(system()?.links().iter().map(|link| link_term(env, link)).collect())
}

fn link_term<'a>(env: Env<'a>, link: &LinkInfo) -> Term<'a> {
    let LinkId(id) = link.id;
    let peer = link.peer.map_or_else(|| atoms::undefined().encode(env), |peer| terms::ip_address(env, peer));
    terms::map(
        env,
        &[
            (atoms::listener(), link.listener.0.encode(env)),
            (atoms::id(), terms::binary(env, &id)),
            (atoms::ecm(), (*link.ecm).encode(env)),
            (atoms::peer(), peer),
            (atoms::connected(), link.is_connected.encode(env)),
            (atoms::streams(), link.streams.encode(env)),
            (atoms::kept_bytes(), link.kept_bytes.encode(env)),
            (atoms::recv_oct(), link.received.encode(env)),
            (atoms::send_oct(), link.sent.encode(env)),
            (atoms::resumed(), link.resumed.encode(env)),
        ],
    )
}

/// Writes to each link's machine, hence not on a normal scheduler.
#[rustler::nif(schedule = "DirtyIo")]
fn links_go_away(env: Env<'_>, id: u32) -> NifResult<Term<'_>> {
    Ok(terms::done(env, system()?.links_go_away(ListenerId(id))))
}

/// As above.
#[rustler::nif(schedule = "DirtyIo")]
fn close_links(env: Env<'_>, id: u32) -> NifResult<Term<'_>> {
    Ok(terms::done(env, system()?.close_links(ListenerId(id))))
}
