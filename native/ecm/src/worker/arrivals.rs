//! Clients that come, until a node has them.

use super::choice::affinity;
use super::client::{Client, Flags, Phase};
use super::slab::{Key, Slab};
use super::state::{LINGER, Source, Worker};
use super::timers::Timer;
use super::uplink::Uplink;
use crate::net;
use crate::settings::Balance;
use megaphone_proto::link::{Open, OpenError, Reason};
use megaphone_proto::proxy::{self, Address, Header, MAX_V2};
use megaphone_proto::time::Time;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Connections of one listener that are accepted before others have their turn.
const ACCEPTS: usize = 64;
/// Clients that may wait for a node, and for how long.
const MOST_WAITING: usize = 1024;
const WAIT: Duration = Duration::from_secs(5);
/// How long a client that says nothing keeps its connection when its node is gone.
const KEEP: Duration = Duration::from_secs(300);
/// Those of them that are tried in a turn.
const PLACED: usize = 64;
/// How long nothing is accepted when there are no descriptors.
const SHORTAGE: Duration = Duration::from_secs(1);

impl Worker {
    /// Accepts, if the listener may have something.
    pub(super) fn accept(&mut self, at: usize) {
        let now = self.now;
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get_mut(at) else { return };
            listener.paused_until = listener.paused_until.filter(|until| *until > now);
            let may_accept = listener.readable && listener.paused_until.is_none();
            let Some(socket) = listener.socket.as_ref().filter(|_| may_accept) else { return };
            match net::accept(socket) {
                Ok((client, address)) => self.admit(at, client, address),
                Err(Errno::AGAIN) => listener.readable = false,
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    self.pause(at, error);
                }
                // The client is gone again.
                Err(_) => {}
            }
        }
        self.is_busy = true;
    }

    fn pause(&mut self, at: usize, error: Errno) {
        let until = self.now.after(SHORTAGE);
        let Some(listener) = self.listeners.get_mut(at) else { return };
        listener.paused_until = Some(until);
        let listen = listener.plan.settings.listen;
        if let Some(more) = self.note("shortage", &listen.to_string()) {
            let error = std::io::Error::from(error);
            tracing::error!(%listen, %error, more, "no client can be accepted for a second");
        }
    }

    fn admit(&mut self, at: usize, socket: OwnedFd, address: Option<SocketAddr>) {
        self.counts.accepted += 1;
        let (is_full, has_no_room) = (self.is_full(), self.clients.len() >= self.room);
        let Some(listener) = self.listeners.get_mut(at) else { return };
        listener.accepted += 1;
        let settings = listener.plan.settings.clone();
        let is_trusted = settings
            .proxy_protocol
            .as_ref()
            .is_none_or(|proxy| address.is_some_and(|address| proxy.trusts(address.ip())));
        let refusal = if !is_trusted {
            Some("it comes from no proxy of proxy_protocol_from")
        } else if is_full {
            Some("there are max_connections clients")
        } else if has_no_room {
            Some("the worker's descriptors are in use, but for those that links need")
        } else if listener.plan.connections.load(Ordering::Relaxed) >= settings.max_connections as usize {
            Some("the listener has max_connections clients")
        } else {
            None
        };
        match refusal {
            Some(why) => self.turn_away(at, socket, why),
            None => {
                self.take_in(at, socket, settings.proxy_protocol.as_ref().map(|proxy| proxy.header_timeout))
            }
        }
    }

    /// Workers that look at the same time may each take one too many.
    fn is_full(&self) -> bool {
        let shared = &self.shared;
        shared.connections.load(Ordering::Relaxed) >= shared.max_connections.load(Ordering::Relaxed)
    }

    fn turn_away(&mut self, at: usize, socket: OwnedFd, why: &'static str) {
        net::reset(socket);
        self.log_refusal(at, why);
    }

    fn log_refusal(&mut self, at: usize, why: &'static str) {
        self.counts.refused += 1;
        let Some(listener) = self.listeners.get(at) else { return };
        let listen = listener.plan.settings.listen;
        if let Some(more) = self.note(why, &listen.to_string()) {
            tracing::warn!(%listen, why, more, "client refused");
        }
    }

    fn take_in(&mut self, at: usize, socket: OwnedFd, header_timeout: Option<Duration>) {
        // There are at most so many listeners.
        let listener = u16::try_from(at).unwrap_or(u16::MAX);
        let phase = if header_timeout.is_some() { Phase::Header } else { Phase::Waiting };
        let Some(key) = self.clients.insert(Client::new(socket, listener, phase)) else { return };
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        if let Some(listener) = self.listeners.get_mut(at) {
            listener.connections += 1;
            listener.plan.connections.fetch_add(1, Ordering::Relaxed);
        }
        let watched = match self.clients.get(key.slot) {
            Some(client) => self.watch(client.socket.as_fd(), Source::Client(key)),
            None => Ok(()),
        };
        if let Err(error) = watched {
            tracing::debug!(%error, "a client's connection can't be watched");
            self.refuse(key.slot, "its connection can't be watched");
        } else if let Some(timeout) = header_timeout {
            self.set_timer(key, Timer::Header, timeout);
        } else {
            self.place_or_wait(key, WAIT);
        }
    }

    // --- PROXY headers

    /// Looks whether the header is whole; what follows it stays in the socket.
    pub(super) fn read_header(&mut self, slot: u32) {
        let Some(client) = self.clients.get_mut(slot) else { return };
        client.set(Flags::READABLE, false);
        let most = MAX_V2.min(self.buffer.len());
        let Ok(seen) = net::peek(&client.socket, &mut self.buffer[..most]) else { return };
        let at = usize::from(client.listener);
        match proxy::parse(&self.buffer[..seen]) {
            Ok(Some(header)) => self.take_header(slot, header),
            // It has closed the connection without a word, as checks of health do.
            Ok(None) if seen == 0 => {
                self.remove(slot);
            }
            Ok(None) if client.is(Flags::HUNG_UP) => self.refuse(slot, "the PROXY header is not whole"),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(listener = at, %error, "bad PROXY header");
                self.refuse(slot, "it begins with no PROXY header");
            }
        }
    }

    fn take_header(&mut self, slot: u32, header: Header) {
        let Some(key) = self.clients.key(slot) else { return };
        let Some(client) = self.clients.get_mut(slot) else { return };
        // All of it is there.
        if net::read(&client.socket, &mut self.buffer[..header.len]) != Ok(header.len) {
            self.break_off(slot);
            return;
        }
        client.set(Flags::READABLE, true);
        let is_proxys_own = is_local(&self.buffer[..header.len]);
        client.ends = header.addresses.map(Box::new);
        if is_proxys_own {
            // A check of the proxy's: it gets a stream when it says something.
            client.phase = Phase::Kept;
            let listener = self.listeners.get(usize::from(client.listener));
            let patience = listener.and_then(|listener| listener.plan.settings.proxy_protocol.as_ref());
            let patience = patience.map_or(KEEP, |proxy| proxy.header_timeout);
            self.set_timer(key, Timer::Keep, patience);
            self.look_at(key);
        } else {
            self.place_or_wait(key, WAIT);
        }
    }

    /// The client is reset, and that is logged.
    pub(super) fn refuse(&mut self, slot: u32, why: &'static str) {
        let at = self.clients.get(slot).map_or(0, |client| usize::from(client.listener));
        self.break_off(slot);
        self.log_refusal(at, why);
    }

    // --- nodes

    /// A client whose stream is gone, or goes now, keeps its connection if its listener says so and the node owes it nothing.
    /// Whether it does.
    pub(super) fn keep(&mut self, slot: u32) -> bool {
        let Some(key) = self.clients.key(slot) else { return false };
        let Some(client) = self.clients.get(slot) else { return false };
        let listener = self.listeners.get(usize::from(client.listener));
        let is_between = !client.is(Flags::UNANSWERED)
            && !client.is(Flags::CLIENT_EOF)
            && !client.is(Flags::NODE_EOF)
            && client.is_flushed();
        if !is_between || !listener.is_some_and(|listener| listener.plan.settings.keep) {
            return false;
        }
        self.close_stream(slot, Reason::Closed);
        if let Some(client) = self.clients.get_mut(slot) {
            client.phase = Phase::Kept;
        }
        self.set_timer(key, Timer::Keep, KEEP);
        // It may have said something that was not read.
        self.again.push(key);
        true
    }

    /// A client that has no stream may have said something: that is for a node.
    pub(super) fn wake(&mut self, key: Key) {
        let Some(client) = self.clients.get_mut(key.slot) else { return };
        match net::peek(&client.socket, &mut self.buffer[..1]) {
            Ok(0) => {
                self.remove(key.slot);
            }
            // Its node may be starting anew.
            Ok(_) => self.place_or_wait(key, self.config.resume_timeout.max(WAIT)),
            Err(Errno::AGAIN) => client.set(Flags::READABLE, false),
            Err(_) => self.break_off(key.slot),
        }
    }

    /// Finds a node for a client; if there is none, the client waits a while.
    fn place_or_wait(&mut self, key: Key, patience: Duration) {
        if let Some(client) = self.clients.get_mut(key.slot) {
            client.phase = Phase::Waiting;
        }
        if self.place(key) {
            return;
        }
        if self.waiting.len() >= MOST_WAITING {
            // Others may have gone meanwhile.
            let clients = &self.clients;
            self.waiting.retain(|other| is_waiting(clients, *other));
        }
        if self.waiting.len() >= MOST_WAITING {
            self.refuse(key.slot, "no node takes clients, and too many wait");
            return;
        }
        self.waiting.push_back(key);
        self.set_timer(key, Timer::Wait, patience);
    }

    /// Tries again for those who wait.
    pub(super) fn place_waiting(&mut self) {
        if !std::mem::take(&mut self.may_place) {
            return;
        }
        for _ in 0..self.waiting.len().min(PLACED) {
            let Some(key) = self.waiting.pop_front() else { return };
            if is_waiting(&self.clients, key) && !self.place(key) {
                self.waiting.push_back(key);
            } else {
                // There may be room for more than were tried.
                self.may_place = true;
            }
        }
    }

    /// Opens a stream for a client where it belongs. False when it has to wait; true as well when it is gone.
    fn place(&mut self, key: Key) -> bool {
        let Some(open) = self.describe(key.slot) else {
            self.break_off(key.slot);
            return true;
        };
        let ip = match &open.client {
            Address::Ip(address) => Some(address.ip()),
            Address::Unix(_) => None,
        };
        for at in self.candidates(ip) {
            let Some(Some(Uplink { link: Some(link), .. })) = self.links.get_mut(at) else { continue };
            match link.open(&open) {
                Ok(stream) => {
                    let id = key.id(self.index);
                    tracing::debug!(%id, client = ?open.client, listener = %open.listener, "client carried");
                    self.carry(key, at, stream);
                    return true;
                }
                Err(OpenError::Full) => return false,
                Err(OpenError::TooMany | OpenError::MayNot) => {}
                Err(OpenError::Invalid) => {
                    self.refuse(key.slot, "its addresses can't be told to a node");
                    return true;
                }
            }
        }
        false
    }

    fn carry(&mut self, key: Key, at: usize, stream: u32) {
        if let Some(Some(uplink)) = self.links.get_mut(at) {
            uplink.set_client(stream, key.slot);
        }
        if let Some(client) = self.clients.get_mut(key.slot) {
            client.phase = Phase::Carried;
            client.stream = stream;
            // There are fewer links.
            client.link = u16::try_from(at).unwrap_or(u16::MAX);
            client.ungranted = 0;
            client.due = None;
            client.set(Flags::UNANSWERED, false);
            self.look_at(key);
        }
    }

    /// What a node is told of a client. None when the connection is gone.
    fn describe(&self, slot: u32) -> Option<Open> {
        let client = self.clients.get(slot)?;
        let peer = Address::Ip(net::peer(&client.socket)?);
        let listener = self.listeners.get(usize::from(client.listener))?.plan.settings.node_listener.clone();
        Some(match &client.ends {
            None => {
                Open { listener, client: peer, local: Address::Ip(net::local(&client.socket)?), via: None }
            }
            Some(ends) => Open {
                listener,
                client: ends.source.clone(),
                local: ends.destination.clone(),
                via: Some(peer),
            },
        })
    }

    /// Links for a client of this address, the best one first: of nodes that have a connection, the one whose turn it is;
    /// of its links, the one with the fewest streams.
    fn candidates(&self, client: Option<IpAddr>) -> Vec<usize> {
        let mut found: Vec<_> = self
            .links
            .iter()
            .enumerate()
            .filter_map(|(at, uplink)| {
                let uplink = uplink.as_ref()?;
                let takes = uplink.link.is_some() && !uplink.is_over() && !uplink.is_leaving;
                (takes && !self.is_removed(uplink.node)).then_some((at, uplink))
            })
            .collect();
        let rank = |uplink: &Uplink| (!self.is_node_usable(uplink.node), -self.claim(uplink.node, client));
        found.sort_by(|(_, a), (_, b)| {
            let ((a_is_down, a_claim), (b_is_down, b_claim)) = (rank(a), rank(b));
            let by_node =
                a_is_down.cmp(&b_is_down).then(a_claim.total_cmp(&b_claim)).then(a.node.cmp(&b.node));
            by_node.then((!a.is_up()).cmp(&!b.is_up())).then(a.streams().cmp(&b.streams()))
        });
        found.into_iter().map(|(at, _)| at).collect()
    }

    fn is_node_usable(&self, node: usize) -> bool {
        self.links.iter().flatten().any(|uplink| uplink.node == node && uplink.is_usable(self.now))
    }

    /// The node with the highest claim gets the client.
    fn claim(&self, node: usize, client: Option<IpAddr>) -> f64 {
        let Some(settings) = self.nodes.get(node).map(|node| &node.settings) else { return 0.0 };
        match self.balance {
            Balance::Address => affinity(client, &settings.name, settings.weight),
            Balance::Least => {
                let streams: usize = self
                    .links
                    .iter()
                    .flatten()
                    .filter(|uplink| uplink.node == node)
                    .map(Uplink::streams)
                    .sum();
                -(streams as f64) / f64::from(settings.weight)
            }
        }
    }

    /// A client that was not placed or did not say who it is in time, and so on.
    pub(super) fn handle_timer(&mut self, at: Time, timer: Timer, key: Key) {
        if !self.clients.has(key) {
            return;
        }
        let Some(client) = self.clients.get_mut(key.slot).filter(|client| client.due == Some(at)) else {
            return;
        };
        // One that was set before may have the same time: the phase tells them apart.
        match (timer, client.phase) {
            (Timer::Header, Phase::Header) => self.refuse(key.slot, "the PROXY header did not come in time"),
            // Or a check that said nothing.
            (Timer::Keep, Phase::Kept) => {
                self.remove(key.slot);
            }
            (Timer::Wait, Phase::Waiting) => self.refuse(key.slot, "no node takes clients"),
            (Timer::Go, Phase::Carried) => {
                self.close_stream(key.slot, Reason::Closed);
                self.leave(key.slot);
            }
            (Timer::Linger, Phase::Leaving) => {
                let made_progress = std::mem::take(&mut client.ungranted) > 0;
                if made_progress && !client.is_flushed() {
                    self.set_timer(key, Timer::Linger, LINGER);
                } else {
                    self.remove(key.slot);
                }
            }
            _ => {}
        }
    }
}

fn is_waiting(clients: &Slab<Client>, key: Key) -> bool {
    clients.has(key) && clients.get(key.slot).is_some_and(|client| client.phase == Phase::Waiting)
}

/// Version 2's LOCAL: the connection is the proxy's own (`proxy-protocol.txt`, section 2.2).
fn is_local(header: &[u8]) -> bool {
    header.first() != Some(&b'P') && header.get(12) == Some(&0x20)
}
