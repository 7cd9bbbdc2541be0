//! Settings that all XMPP sessions have in common.

use crate::atoms;
use crate::decode::{millis, positive};
use crate::system::system;
use megaphone_core::{XmppConfig, bosh};
use rustler::types::atom::Atom;
use rustler::{Error, MapIterator, NifResult, Term};
use std::collections::HashMap;

/// What the map doesn't say has its default. A node may have thousands of hosts, hence not on a normal scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn xmpp_configure(settings: Term<'_>) -> NifResult<Atom> {
    let mut config = XmppConfig::default();
    for (key, value) in MapIterator::new(settings).ok_or(Error::BadArg)? {
        set(&mut config, key.decode()?, value)?;
    }
    system()?.set_xmpp_config(config);
    Ok(atoms::ok())
}

fn set(config: &mut XmppConfig, key: Atom, value: Term<'_>) -> NifResult<()> {
    if key == atoms::from() {
        config.stream.from = value.decode()?;
    } else if key == atoms::lang() {
        config.stream.lang = value.decode()?;
    } else if key == atoms::header_timeout() {
        config.stream.header_timeout = millis(value)?;
    } else if key == atoms::stanza_timeout() {
        config.stream.stanza_timeout = millis(value)?;
    } else if key == atoms::max_stanza() {
        config.stream.max_stanza = positive(value)?;
    } else if key == atoms::ping_interval() {
        config.stream.ping_interval = Some(millis(value)?).filter(|interval| !interval.is_zero());
    } else if key == atoms::websocket_timeout() {
        config.stream.websocket_timeout = millis(value)?;
    } else if key == atoms::origins() {
        config.origins = value.decode()?;
    } else if key == atoms::bosh_hosts() {
        let hosts: HashMap<String, Term<'_>> = value.decode()?;
        let hosts = hosts.into_iter().map(|(host, settings)| Ok((host.into(), bosh_host(settings)?)));
        config.bosh_hosts = hosts.collect::<NifResult<_>>()?;
    } else {
        return Err(Error::BadArg);
    }
    Ok(())
}

fn bosh_host(settings: Term<'_>) -> NifResult<bosh::Config> {
    let mut config = bosh::Config::default();
    for (key, value) in MapIterator::new(settings).ok_or(Error::BadArg)? {
        let key: Atom = key.decode()?;
        if key == atoms::max_inactivity() {
            config.max_inactivity = millis(value)?;
        } else if key == atoms::max_pause() {
            config.max_pause = millis(value)?;
        } else if key == atoms::max_concat() {
            let is_unlimited = value.is_atom() && value.decode::<Atom>()? == atoms::unlimited();
            config.max_concat = if is_unlimited { None } else { Some(positive(value)?) };
        } else {
            return Err(Error::BadArg);
        }
    }
    Ok(config)
}
