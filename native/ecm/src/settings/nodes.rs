//! Where clients are carried to: `[[nodes]]`.

use super::section::Section;
use super::value::{self, Read};
use std::fmt;
use std::net::IpAddr;
use toml::Spanned;
use toml::de::DeValue;

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its Erlang name, which the handshake asks for.
    pub name: Box<str>,
    /// The machine.
    pub host: Host,
    /// The port of its `megaphone_ecm` listener. Default 6280.
    pub port: u16,
    /// How many links each worker has to it, 1 to 64. Default 1. Each may hold `resend_bytes`, here and there.
    pub links: u16,
    /// Its share of the clients compared to others, 1 to 1000. Default 1.
    pub weight: u16,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// By address.
    Ip(IpAddr),
    /// By a name, to be resolved for each attempt to connect.
    Name(Box<str>),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Reads all.
pub(super) fn read(root: &mut Section<'_>) -> Vec<Node> {
    let example = "name = \"ejabberd@host.example.org\" and address = \"192.0.2.1\"";
    let sections = root.tables("nodes", "[[nodes]]", example);
    let mut seen = Seen::default();
    sections.into_iter().filter_map(|section| node(section, &mut seen)).collect()
}

fn node(mut section: Section<'_>, seen: &mut Seen) -> Option<Node> {
    let name = section.required("name", "\"ejabberd@host.example.org\"", value::node_name);
    let host = section.required("address", "\"192.0.2.1\"", host);
    let port = section.or("port", 6280, value::integer(1..=65_535));
    let links = section.or("links", 1, value::integer(1..=64));
    let weight = section.or("weight", 1, value::integer(1..=1000));
    seen.check(&section, name.as_ref(), host.as_ref(), port);
    section.finish();
    Some(Node { name: name?.into_inner(), host: host?.into_inner(), port, links, weight })
}

/// Names and addresses of the nodes so far, with their lines.
#[derive(Default)]
struct Seen {
    names: Vec<(Box<str>, usize)>,
    addresses: Vec<(Host, u16, usize)>,
}

impl Seen {
    fn check(
        &mut self,
        section: &Section<'_>,
        name: Option<&Spanned<Box<str>>>,
        host: Option<&Spanned<Host>>,
        port: u16,
    ) {
        if let Some(name) = name {
            self.check_name(section, name);
        }
        if let Some(host) = host {
            self.check_address(section, host, port);
        }
    }

    fn check_name(&mut self, section: &Section<'_>, name: &Spanned<Box<str>>) {
        let (own, span) = (name.get_ref(), name.span());
        match self.names.iter().find(|(other, _)| other == own) {
            Some((_, line)) => {
                let hint = "give each node once, and use links for more than one link";
                section.report.add(span, format!("name: {own} is in line {line} already: {hint}"));
            }
            None => self.names.push((own.clone(), section.report.line(span))),
        }
    }

    fn check_address(&mut self, section: &Section<'_>, host: &Spanned<Host>, port: u16) {
        let (own, span) = (host.get_ref(), host.span());
        match self.addresses.iter().find(|(other, its_port, _)| (other, *its_port) == (own, port)) {
            Some((.., line)) => {
                let hint = "two nodes can't have one port, so change address or port";
                section
                    .report
                    .add(span, format!("address: {own} port {port} is in line {line} already: {hint}"));
            }
            None => self.addresses.push((own.clone(), port, section.report.line(span))),
        }
    }
}

fn host(value: &DeValue<'_>) -> Read<Host> {
    let text = value::text(value)?;
    if let Ok(ip) = text.parse() {
        return Ok(Host::Ip(ip));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // Four numbers that are no address are no name either.
    let is_name = text.len() <= 253
        && text.split('.').all(is_label)
        && !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_name {
        return Ok(Host::Name(text));
    }
    Err(format!(
        "{text:?} is neither an IP address nor a host name: write it as \"192.0.2.1\", with the port in port"
    ))
}
