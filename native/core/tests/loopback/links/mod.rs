//! Links of connection managers: what their streams carry, and what becomes of them.

mod ecm;

mod bounds;
mod carrying;
mod closing;
mod handshakes;
mod listeners;
mod resuming;

use crate::common::*;
use ecm::*;
use megaphone_core::link::Reason;
use megaphone_core::{Conn, ListenerConfig, Mode};

/// A listener that streams ask for by its mode's name.
fn named(name: &str, mode: Mode) -> ListenerConfig {
    ListenerConfig { name: Some(name.to_owned()), mode, ..ListenerConfig::default() }
}

/// A node with a listener `raw`, and a connection manager.
fn linked() -> (Node, Process, Ecm) {
    let node = Node::new();
    let starter = node.spawn();
    node.listen(named("raw", Mode::Raw), Some(&starter));
    let ecm = Ecm::dial(node.listen_links(node_config()));
    (node, starter, ecm)
}

/// A client's connection, that `starter` has.
#[track_caller]
fn connected(node: &Node, starter: &Process, ecm: &mut Ecm) -> (Conn, u32) {
    let number = ecm.open("raw");
    let conn = starter.started();
    node.system.handler_started(conn, starter.pid, &mut node.sink()).expect("handler_started");
    (conn, number)
}
