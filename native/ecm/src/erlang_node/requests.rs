//! What may be asked, and the terms of the answers.

use crate::control::{ConnectionId, ConnectionInfo, Control, ListenerStats, NodeStats, Stats};
use megaphone_proto::dist::{Term, Writer};
use std::time::Duration;

/// Seconds of the longest deadline: a day, as in the file.
const MAX_DRAIN: u64 = 24 * 60 * 60;

/// Told to whoever asks for something else.
const HELP: &str =
    "stats | listeners | {connection, Id} | {close, Id} | drain | {drain, Seconds}, Seconds from 0 to 86400";

#[derive(Clone, Copy)]
enum Request {
    Stats,
    Listeners,
    Connection(ConnectionId),
    Close(ConnectionId),
    Drain(Option<Duration>),
}

impl Request {
    fn of(term: Term<'_>) -> Option<Self> {
        match term.atom() {
            Some("stats") => return Some(Self::Stats),
            Some("listeners") => return Some(Self::Listeners),
            Some("drain") => return Some(Self::Drain(None)),
            _ => {}
        }
        let [label, argument] = term.tuple()?;
        let number = argument.unsigned()?;
        match label.atom()? {
            "connection" => Some(Self::Connection(ConnectionId(number))),
            "close" => Some(Self::Close(ConnectionId(number))),
            "drain" if number <= MAX_DRAIN => Some(Self::Drain(Some(Duration::from_secs(number)))),
            _ => None,
        }
    }
}

/// Does what is asked, and writes the answer. Waits as long as [`Control`] does.
pub(super) fn answer(request: Term<'_>, control: &dyn Control, writer: &mut Writer<'_>) {
    match Request::of(request) {
        Some(Request::Stats) => write_stats(writer, &control.stats()),
        Some(Request::Listeners) => {
            writer.list(&control.listeners(), write_listener);
        }
        Some(Request::Connection(id)) => match control.connection(id) {
            Some(info) => write_connection(writer, &info),
            None => write_not_found(writer),
        },
        Some(Request::Close(id)) if !control.close(id) => write_not_found(writer),
        Some(Request::Close(_)) => {
            writer.atom("ok");
        }
        Some(Request::Drain(deadline)) => {
            control.drain(deadline);
            writer.atom("ok");
        }
        None => {
            writer.tuple(2).atom("error").tuple(2).atom("unknown_request").binary(HELP);
        }
    }
}

fn write_not_found(writer: &mut Writer<'_>) {
    writer.tuple(2).atom("error").atom("not_found");
}

fn write_stats(writer: &mut Writer<'_>, stats: &Stats) {
    writer.map(11);
    writer.atom("name").binary(&stats.name);
    writer.atom("uptime").unsigned(stats.uptime.as_secs());
    writer.atom("draining").boolean(stats.is_draining);
    number(writer, "workers", stats.workers);
    number(writer, "connections", stats.connections);
    number(writer, "max_connections", stats.max_connections);
    writer.atom("accepted").unsigned(stats.accepted);
    writer.atom("refused").unsigned(stats.refused);
    writer.atom("received").unsigned(stats.received);
    writer.atom("sent").unsigned(stats.sent);
    writer.atom("nodes").list(&stats.nodes, write_node);
}

fn write_node(writer: &mut Writer<'_>, node: &NodeStats) {
    writer.map(9);
    writer.atom("name").binary(&node.name);
    writer.atom("up").boolean(node.is_up);
    number(writer, "links_up", node.links_up);
    number(writer, "links_suspended", node.links_suspended);
    number(writer, "streams", node.streams);
    number(writer, "kept_bytes", node.kept_bytes);
    writer.atom("cuts").unsigned(node.cuts);
    writer.atom("resumed").unsigned(node.resumed);
    writer.atom("lost").unsigned(node.lost);
}

fn write_listener(writer: &mut Writer<'_>, listener: &ListenerStats) {
    writer.map(6);
    writer.atom("listen").binary(&listener.listen.to_string());
    writer.atom("for").binary(&listener.node_listener);
    number(writer, "connections", listener.connections);
    number(writer, "max_connections", listener.max_connections);
    writer.atom("accepted").unsigned(listener.accepted);
    writer.atom("open").boolean(listener.is_open);
}

fn write_connection(writer: &mut Writer<'_>, info: &ConnectionInfo) {
    writer.map(6);
    writer.atom("id").unsigned(info.id.0);
    writer.atom("client").binary(&info.client);
    writer.atom("listen").binary(&info.listen.to_string());
    writer.atom("node");
    match &info.node {
        Some(node) => writer.binary(node),
        None => writer.atom("undefined"),
    };
    writer.atom("received").unsigned(info.received);
    writer.atom("sent").unsigned(info.sent);
}

fn number(writer: &mut Writer<'_>, key: &str, value: usize) {
    // Wider than any usize there is.
    writer.atom(key).unsigned(value as u64);
}
