//! A connection whose proxy has yet to say whose it is. Until then it has no role, and no other byte is looked at.

use super::{Next, first_role};
use crate::carrier::Address;
use crate::cx::Cx;
use crate::host::{Host, ProxyRefusal};
use crate::listener::Mode;
use crate::transport::Transport;
use bytes::Buf;
use megaphone_proto::proxy;

/// Only a peer that may speak for others is read.
pub(crate) fn begin<H: Host>(transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Next<H> {
    let Some(settings) = &transport.listener.config.proxy_protocol else { return Next::Keep };
    let is_trusted = match transport.carrier.peer() {
        Ok(Address::Ip(peer)) => settings.trusts(peer.ip()),
        Ok(Address::Local(_)) => true,
        // It has reset the connection.
        Err(_) => return Next::Gone,
    };
    if !is_trusted {
        return refuse(transport, cx, ProxyRefusal::Untrusted);
    }
    let timeout = settings.header_timeout;
    transport.set_deadline(cx, timeout);
    Next::Keep
}

pub(crate) fn on_input<H: Host>(
    transport: &mut Transport<H>,
    cx: &mut Cx<'_, H>,
    buffer: &mut [u8],
) -> Next<H> {
    if transport.may_read() {
        transport.receive(buffer);
    }
    match proxy::parse(&transport.inbound) {
        Ok(Some(header)) if !awaits_more(transport, &header) => become_known(transport, cx, header),
        Err(error) => refuse(transport, cx, ProxyRefusal::Header(error)),
        Ok(_) if transport.flags.ended => Next::Gone,
        Ok(_) => Next::look_if(transport.may_read()),
    }
}

/// A connection of the proxy's own is none to be served until it says something, where the listener wants that.
fn awaits_more<H: Host>(transport: &Transport<H>, header: &proxy::Header) -> bool {
    let config = &transport.listener.config;
    let is_local = config.mode == Mode::Raw && header.addresses.is_none();
    config.local_awaits_input && is_local && transport.inbound.len() == header.len
}

/// What is behind the header is the role's.
fn become_known<H: Host>(transport: &mut Transport<H>, cx: &mut Cx<'_, H>, header: proxy::Header) -> Next<H> {
    transport.inbound.advance(header.len);
    transport.release_inbound();
    if let Some(addresses) = header.addresses {
        transport.comes_from(addresses);
    }
    transport.deadline = None;
    Next::Become(first_role(transport, cx))
}

pub(crate) fn on_timeout<H: Host>(transport: &mut Transport<H>, cx: &mut Cx<'_, H>) -> Next<H> {
    match proxy::parse(&transport.inbound) {
        // A check that somebody listens: the proxy knows it now.
        Ok(Some(_)) => Next::Gone,
        _ => refuse(transport, cx, ProxyRefusal::Timeout),
    }
}

fn refuse<H: Host>(transport: &mut Transport<H>, cx: &mut Cx<'_, H>, why: ProxyRefusal) -> Next<H> {
    let peer = match transport.carrier.peer() {
        Ok(Address::Ip(peer)) => Some(peer),
        Ok(Address::Local(_)) | Err(_) => None,
    };
    cx.shared.notices.proxy_refused(cx.sink, transport.listener.id, peer, why);
    Next::Gone
}
