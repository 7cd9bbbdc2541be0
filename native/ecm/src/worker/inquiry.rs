//! What other threads ask of a worker, and tell it.

use super::client::NO_STREAM;
use super::pace::Pace;
use super::slab::Key;
use super::state::{Draining, Listening, Node, Source, Worker};
use super::uplink::Uplink;
use crate::control::{ConnectionInfo, ListenerStats, NodeStats};
use crate::mail::{Mail, Plan, PlannedListener, Report};
use crate::net;
use crate::settings;
use megaphone_proto::link::{End, GoAway, Reason};
use megaphone_proto::proxy::Address;
use rustix::fd::AsFd;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Clients that are asked to go in a turn.
const ASKED: usize = 1024;
/// How long the links may take for what nodes have yet to hear when the last client is gone.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Worker {
    pub(super) fn handle_mail(&mut self, mail: Mail) {
        // Who has asked may have given up; then nobody takes the answer.
        match mail {
            Mail::Report(reply) => {
                let _ = reply.try_send(self.report());
            }
            Mail::Find(slot, generation, reply) => {
                let _ = reply.try_send(self.find(Key { slot, generation }));
            }
            Mail::Close(slot, generation, reply) => {
                let _ = reply.try_send(self.close(Key { slot, generation }));
            }
            Mail::Apply(plan, reply) => {
                let _ = reply.try_send(self.apply(&plan));
            }
            Mail::Drain(deadline, pace) => self.drain(deadline, pace),
            Mail::Resolved(link, ticket, found) => self.resolved(link.into(), ticket, found),
        }
    }

    fn report(&self) -> Report {
        Report {
            accepted: self.counts.accepted,
            refused: self.counts.refused,
            received: self.counts.received,
            sent: self.counts.sent,
            connections: self.clients.len(),
            nodes: self.node_order.iter().map(|node| self.node_stats(*node)).collect(),
            listeners: self.listener_order.iter().map(|at| listener_stats(&self.listeners[*at])).collect(),
        }
    }

    fn node_stats(&self, node: usize) -> NodeStats {
        let mut stats = self.nodes[node].stats.clone();
        for uplink in self.links.iter().flatten().filter(|uplink| uplink.node == node) {
            stats.is_up |= uplink.is_up() && !uplink.is_leaving;
            stats.links_up += usize::from(uplink.is_up());
            stats.links_suspended += usize::from(uplink.is_suspended());
            stats.streams += uplink.streams();
            stats.kept_bytes += uplink.link.as_ref().map_or(0, |link| link.kept_bytes());
        }
        stats
    }

    fn find(&self, key: Key) -> Option<ConnectionInfo> {
        let client = self.clients.get(key.slot).filter(|_| self.clients.has(key))?;
        let address = match &client.ends {
            Some(ends) => show(&ends.source),
            None => net::peer(&client.socket).map_or_else(String::new, |address| address.to_string()),
        };
        let uplink = self.links.get(usize::from(client.link)).and_then(Option::as_ref);
        let node =
            uplink.filter(|_| client.stream != NO_STREAM).and_then(|uplink| self.nodes.get(uplink.node));
        Some(ConnectionInfo {
            id: key.id(self.index),
            client: address,
            listen: self.listeners.get(usize::from(client.listener))?.plan.settings.listen,
            node: node.map(|node| node.settings.name.to_string()),
            received: client.received,
            sent: client.sent,
        })
    }

    fn close(&mut self, key: Key) -> bool {
        let is_there = self.clients.has(key);
        if is_there {
            self.close_stream(key.slot, Reason::Closed);
            self.leave(key.slot);
        }
        is_there
    }

    // --- configuration

    /// Listens and connects as the plan has it. Which addresses can't be listened at, and why.
    pub(super) fn apply(&mut self, plan: &Plan) -> Vec<String> {
        self.config = plan.link.clone();
        self.balance = plan.balance;
        let room = plan.room(self.workers);
        self.room = usize::try_from(room).unwrap_or(usize::MAX);
        self.drain_pace = plan.drain.pace.div_ceil(self.workers.into());
        self.pace.set(self.shed_rate());
        self.apply_nodes(&plan.nodes);
        self.close_listeners(&plan.listeners);
        let order: Vec<_> = plan.listeners.iter().map(|listener| self.listener_at(listener)).collect();
        let problems = order.iter().filter_map(|at| self.open_listener(*at).err()).collect();
        self.listener_order = order;
        problems
    }

    fn close_listeners(&mut self, planned: &[PlannedListener]) {
        for listener in &mut self.listeners {
            let is_planned =
                planned.iter().any(|other| other.settings.listen == listener.plan.settings.listen);
            if !is_planned {
                listener.socket = None;
            }
        }
    }

    /// A listener keeps its place, for its clients have it.
    fn listener_at(&mut self, planned: &PlannedListener) -> usize {
        let is_same = |listener: &Listening| listener.plan.settings.listen == planned.settings.listen;
        if let Some(at) = self.listeners.iter().position(is_same) {
            self.listeners[at].plan = planned.clone();
            return at;
        }
        self.listeners.push(Listening::new(planned.clone()));
        self.listeners.len() - 1
    }

    fn open_listener(&mut self, at: usize) -> Result<(), String> {
        let settings = self.listeners[at].plan.settings.clone();
        let opened = match &self.listeners[at].socket {
            // Its backlog may be another one.
            Some(socket) => rustix::net::listen(socket, settings.backlog).map_err(Into::into),
            None => self.listen(at, settings.listen, settings.backlog),
        };
        opened.map_err(|error| format!("{}: {error}", settings.listen))
    }

    fn listen(&mut self, at: usize, address: SocketAddr, backlog: i32) -> io::Result<()> {
        let socket = net::listen(address, backlog)?;
        self.watch(socket.as_fd(), Source::Listener(at))?;
        self.listeners[at].socket = Some(socket);
        Ok(())
    }

    fn apply_nodes(&mut self, planned: &[settings::Node]) {
        self.node_order = planned.iter().map(|settings| self.node_at(settings)).collect();
        for at in 0..self.node_order.len() {
            self.apply_links(self.node_order[at]);
        }
        for at in 0..self.links.len() {
            self.leave_removed(at);
        }
    }

    /// A node keeps its place, for its links have it.
    fn node_at(&mut self, settings: &settings::Node) -> usize {
        if let Some(at) = self.nodes.iter().position(|node| is_same(&node.settings, settings)) {
            self.nodes[at].settings = settings.clone();
            return at;
        }
        self.nodes.push(Node::new(settings.clone()));
        self.nodes.len() - 1
    }

    /// As many links as there are to be. What is too much takes no new clients.
    fn apply_links(&mut self, node: usize) {
        let wanted = usize::from(self.nodes[node].settings.links);
        let serves = |uplink: &&mut Uplink| uplink.node == node && !uplink.is_over() && !uplink.is_leaving;
        let there = self.links.iter_mut().flatten().filter(serves).count();
        self.links
            .iter_mut()
            .flatten()
            .filter(serves)
            .skip(wanted)
            .for_each(|uplink| uplink.is_leaving = true);
        if self.draining.is_none() {
            (there..wanted).for_each(|_| self.new_link(node, false));
        }
    }

    /// A node that is no longer wanted is told, if it has clients; else the link goes at once.
    fn leave_removed(&mut self, at: usize) {
        let Some(uplink) = &mut self.links[at] else { return };
        let is_removed = !self.node_order.contains(&uplink.node);
        match &mut uplink.link {
            Some(link) if is_removed => {
                uplink.is_leaving = true;
                link.go_away(GoAway::Draining);
            }
            None if is_removed || uplink.is_leaving => self.links[at] = None,
            _ => {}
        }
    }

    // --- the end

    fn drain(&mut self, deadline: Duration, pace: u32) {
        let until = self.now.after(deadline);
        if let Some(draining) = &mut self.draining {
            draining.until = draining.until.min(until);
            return;
        }
        for listener in &mut self.listeners {
            listener.socket = None;
        }
        self.draining = Some(Draining { until, pace: Pace::new(pace, self.now), next: 0, quiet_until: None });
        for uplink in self.links.iter_mut().flatten() {
            if let Some(link) = &mut uplink.link {
                link.go_away(GoAway::Draining);
            }
        }
    }

    /// Takes leave of clients, so many a second. Whether it is all over.
    pub(super) fn tend_drain(&mut self) -> bool {
        let Some(mut draining) = self.draining.take() else { return false };
        draining.pace.advance(self.now);
        let is_late = draining.until <= self.now;
        for _ in 0..ASKED {
            if draining.next >= self.clients.slots() {
                break;
            }
            if self.clients.get(draining.next).is_some() {
                if !is_late && !draining.pace.take() {
                    break;
                }
                self.send_off(draining.next, is_late);
            }
            draining.next += 1;
        }
        // Those that were asked and are still there.
        if is_late && draining.next >= self.clients.slots() && self.clients.len() > 0 {
            draining.next = 0;
        }
        let is_quiet = self.clients.len() == 0;
        let patience = is_quiet.then(|| *draining.quiet_until.get_or_insert(self.now.after(LAST_WORDS)));
        self.draining = Some(draining);
        is_quiet && (self.end_links() || patience.is_some_and(|until| until <= self.now))
    }

    fn send_off(&mut self, slot: u32, is_late: bool) {
        if is_late {
            self.close_stream(slot, Reason::Closed);
            self.remove(slot);
        } else {
            self.ask_to_go(slot);
        }
    }

    /// Ends the links. Whether none has anything left to write.
    fn end_links(&mut self) -> bool {
        for at in 0..self.links.len() {
            self.end_link(at);
        }
        self.links.iter().flatten().all(|uplink| !uplink.is_up())
    }

    /// What the node has yet to hear goes before the end.
    fn end_link(&mut self, at: usize) {
        self.serve_link(at);
        let Some(Some(uplink)) = self.links.get_mut(at) else { return };
        if let Some(link) = &mut uplink.link
            && uplink.writable
        {
            link.end(End::Done);
            self.serve_link(at);
            self.links[at] = None;
        }
    }
}

impl Listening {
    fn new(plan: PlannedListener) -> Self {
        Self { plan, socket: None, readable: false, paused_until: None, accepted: 0, connections: 0 }
    }
}

impl Node {
    fn new(settings: settings::Node) -> Self {
        let stats = NodeStats { name: settings.name.to_string(), ..NodeStats::default() };
        Self { settings, stats }
    }
}

/// Share and number of links may be others.
fn is_same(a: &settings::Node, b: &settings::Node) -> bool {
    (&a.name, &a.host, a.port) == (&b.name, &b.host, b.port)
}

fn listener_stats(listener: &Listening) -> ListenerStats {
    let settings = &listener.plan.settings;
    ListenerStats {
        listen: settings.listen,
        node_listener: settings.node_listener.to_string(),
        connections: listener.connections,
        max_connections: settings.max_connections as usize,
        accepted: listener.accepted,
        is_open: listener.socket.is_some(),
    }
}

fn show(address: &Address) -> String {
    match address {
        Address::Ip(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.escape_ascii()),
    }
}
