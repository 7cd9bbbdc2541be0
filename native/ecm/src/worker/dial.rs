//! Connections to nodes, from a name to the handshake.

use super::state::Worker;
use super::uplink::{Connection, Uplink};
use crate::net;
use crate::settings::Host;
use getrandom::Error;
use megaphone_proto::link::{Dial, Dialer, LinkId};
use std::mem;
use std::net::{IpAddr, SocketAddr};

impl Worker {
    pub(super) fn link_id() -> Result<LinkId, Error> {
        let mut id = [0; 16];
        getrandom::fill(&mut id)?;
        Ok(LinkId(id))
    }

    /// Does what is due of a connection that is not the link's yet.
    pub(super) fn tend_connection(&mut self, at: usize) {
        let now = self.now;
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        match &mut uplink.connection {
            Connection::None { dial_at } if *dial_at <= now => self.dial(at),
            Connection::Resolving { until, .. } if *until <= now => self.failed(at, "no address in time"),
            Connection::Connecting { until, .. } if *until <= now => self.failed(at, "no connection in time"),
            Connection::Connecting { .. } if uplink.writable => self.connected(at),
            Connection::Shaking { dialer, .. } => {
                if let Err(failure) = dialer.handle_timeout(now) {
                    self.refused(at, failure);
                } else if uplink.writable {
                    self.write_handshake(at);
                }
            }
            _ => {}
        }
    }

    fn dial(&mut self, at: usize) {
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        let Some(node) = self.nodes.get(uplink.node) else { return };
        match &node.settings.host {
            Host::Ip(ip) => {
                let address = SocketAddr::new(*ip, node.settings.port);
                self.connect(at, address);
            }
            Host::Name(name) => {
                self.tickets = self.tickets.wrapping_add(1);
                let (ticket, until) = (self.tickets, self.now.after(self.config.handshake_timeout));
                uplink.connection = Connection::Resolving { ticket, until };
                // There are fewer links than that.
                let number = u16::try_from(at).unwrap_or(u16::MAX);
                if !self.shared.resolver.ask(name, number, ticket, &self.post) {
                    self.failed(at, "too many names are being asked for");
                }
            }
        }
    }

    /// The resolver's answer.
    pub(super) fn resolved(&mut self, at: usize, ticket: u32, found: Result<Vec<IpAddr>, String>) {
        let Some(Some(uplink)) = self.links.get(at) else { return };
        if !matches!(uplink.connection, Connection::Resolving { ticket: own, .. } if own == ticket) {
            return;
        }
        match found {
            // Another address each time, so that one that is dead does not stand for all.
            Ok(addresses) if !addresses.is_empty() => {
                let port = self.nodes.get(uplink.node).map_or(0, |node| node.settings.port);
                let ip = addresses[uplink.pause.failures() as usize % addresses.len()];
                self.connect(at, SocketAddr::new(ip, port));
            }
            Ok(_) => self.failed(at, "it has no address"),
            Err(error) => self.failed(at, &error),
        }
    }

    fn connect(&mut self, at: usize, address: SocketAddr) {
        let until = self.now.after(self.config.handshake_timeout);
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        match net::connect(address) {
            Ok(socket) => {
                (uplink.readable, uplink.writable) = (false, false);
                uplink.connection = Connection::Connecting { socket, until };
                if let Err(error) = self.watch_link(at) {
                    self.failed(at, &error.to_string());
                }
            }
            Err(error) => self.failed(at, &std::io::Error::from(error).to_string()),
        }
    }

    /// The attempt is over; well or not.
    fn connected(&mut self, at: usize) {
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        if let Err(error) = uplink.socket().map_or(Ok(()), net::error) {
            self.failed(at, &std::io::Error::from(error).to_string());
            return;
        }
        let mut nonce = [0; 32];
        if let Err(error) = getrandom::fill(&mut nonce) {
            self.failed(at, &error.to_string());
            return;
        }
        let Some(node) = self.nodes.get(uplink.node) else { return };
        let name = node.settings.name.clone();
        self.shake_hands(at, &name, nonce);
    }

    fn shake_hands(&mut self, at: usize, to: &str, nonce: [u8; 32]) {
        let (now, config) = (self.now, self.config.clone());
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        let Connection::Connecting { socket, .. } = mem::replace(&mut uplink.connection, Connection::Over)
        else {
            return;
        };
        let Uplink { id, link, .. } = uplink;
        let received = link.as_ref().map_or(0, |link| link.received());
        uplink.attempt = link.as_mut().map_or(0, |link| link.next_attempt());
        if link.is_none() {
            uplink.config = config.clone();
        }
        let dial = Dial { to, link: *id, attempt: uplink.attempt, received, nonce, binding: b"" };
        let mut dialer = Box::new(Dialer::new(config, dial, now));
        let mut out = Vec::new();
        dialer.poll_transmit(&mut out);
        uplink.connection = Connection::Shaking { socket, dialer, out };
        self.write_handshake(at);
    }
}
