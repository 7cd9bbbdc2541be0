//! Where clients connect: `[[listeners]]`.

use super::capacity::MAX_CONNECTIONS;
use super::section::Section;
use super::value;
use megaphone_core::{Network, ProxyProtocol};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;

/// One address where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where. One of IPv6 is for IPv6 only, so that `0.0.0.0` and `[::]` can have the same port.
    pub listen: SocketAddr,
    /// The node's listener that it stands for: the first field of [`Open`](megaphone_proto::link::Open).
    pub node_listener: Box<str>,
    /// Connections that it may have at a time, all workers together. Default: those of the whole.
    pub max_connections: u32,
    /// Backlog of its socket in each worker. Default 4096; the kernel's `somaxconn` is above it.
    pub backlog: i32,
    /// A client that the node has answered keeps its connection when the node is gone, and gets another stream with its next
    /// byte: for HTTP. Default false.
    pub keep: bool,
    /// Its connections begin with a PROXY header, and come from these networks. Default none: they do not.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Reads all. `taken` are the addresses that are in use already, with their lines.
pub(super) fn read(
    root: &mut Section<'_>,
    max_connections: u32,
    taken: &mut Vec<(SocketAddr, usize)>,
) -> Vec<Listener> {
    let example = "listen = \"0.0.0.0:5222\" and for = \"c2s\"";
    let sections = root.tables("listeners", "[[listeners]]", example);
    sections.into_iter().filter_map(|section| listener(section, max_connections, taken)).collect()
}

fn listener(
    mut section: Section<'_>,
    max_connections: u32,
    taken: &mut Vec<(SocketAddr, usize)>,
) -> Option<Listener> {
    let listen = section.required("listen", "\"0.0.0.0:5222\"", value::socket_address);
    let node_listener = section.required("for", "\"c2s\"", value::name);
    let own_max = section.given("max_connections", value::integer(1..=MAX_CONNECTIONS.into()));
    let backlog = section.or("backlog", 4096, value::integer(1..=65_535));
    let keep = section.or("keep", false, value::boolean);
    let networks = section.given("proxy_protocol_from", value::networks);
    let header_timeout = section.given("proxy_header_timeout", value::duration(100..=60_000));
    check_max(&section, own_max.as_ref(), max_connections);
    check_timeout(&section, header_timeout.as_ref());
    if let Some(listen) = &listen {
        check_free(&section, listen, taken);
        check_family(&section, listen.get_ref(), networks.as_ref());
    }
    section.finish();
    Some(Listener {
        listen: listen?.into_inner(),
        node_listener: node_listener?.into_inner(),
        max_connections: own_max.map_or(max_connections, Spanned::into_inner),
        backlog,
        keep,
        proxy_protocol: networks.map(|networks| proxy_protocol(networks.into_inner(), header_timeout)),
    })
}

fn proxy_protocol(
    networks: Vec<(IpAddr, Network)>,
    header_timeout: Option<Spanned<Duration>>,
) -> ProxyProtocol {
    let default = ProxyProtocol::default();
    ProxyProtocol {
        trusted: Some(networks.into_iter().map(|(_, network)| network).collect()),
        header_timeout: header_timeout.map_or(default.header_timeout, Spanned::into_inner),
    }
}

fn check_max(section: &Section<'_>, own: Option<&Spanned<u32>>, all: u32) {
    if let Some(own) = own.filter(|own| *own.get_ref() > all) {
        let message = format!(
            "max_connections: {} is above the {all} of the whole: lower it, or raise max_connections before the tables",
            own.get_ref()
        );
        section.report.add(own.span(), message);
    }
}

/// Without networks it would mean nothing.
fn check_timeout(section: &Section<'_>, timeout: Option<&Spanned<Duration>>) {
    if let Some(timeout) = timeout.filter(|_| !section.has("proxy_protocol_from")) {
        let message =
            "proxy_header_timeout means nothing without proxy_protocol_from: add it, or take this out";
        section.report.add(timeout.span(), message);
    }
}

/// Reports an address that is in use already.
pub(super) fn check_free(
    section: &Section<'_>,
    listen: &Spanned<SocketAddr>,
    taken: &mut Vec<(SocketAddr, usize)>,
) {
    let (address, span) = (*listen.get_ref(), listen.span());
    match taken.iter().find(|(other, _)| overlap(*other, address)) {
        Some((other, line)) => {
            let hint = "change the port, or take one out";
            section.report.add(span, format!("listen: {address} is taken by {other} in line {line}: {hint}"));
        }
        None => taken.push((address, section.report.line(span))),
    }
}

/// The kernel would refuse the second, or split clients between the two.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let is_any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a == b || (is_any && a.port() == b.port() && a.is_ipv4() == b.is_ipv4())
}

/// Who connects to one family comes from it.
fn check_family(
    section: &Section<'_>,
    listen: &SocketAddr,
    networks: Option<&Spanned<Vec<(IpAddr, Network)>>>,
) {
    let Some(networks) = networks else { return };
    let (own, other) = if listen.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
    let span: Range<usize> = networks.span();
    for (address, _) in networks.get_ref().iter().filter(|(address, _)| address.is_ipv4() != listen.is_ipv4())
    {
        let message = format!(
            "proxy_protocol_from: nobody from the {other} network of {address} can connect to {listen}, which is {own} only: \
             take it out, or add a listener for {other}"
        );
        section.report.add(span.clone(), message);
    }
}
