//! What connections and sessions cost while nothing happens on them, in bytes of Rust.

use crate::bosh_client::*;
use crate::common::*;
use megaphone_core::bosh::Config;

#[test]
fn a_slot_is_within_its_budget() {
    let bytes = Node::new().system.stats().bytes_per_slot;
    assert!(bytes <= 200, "{bytes} bytes");
}

#[test]
fn an_idle_stream_is_within_its_budget() {
    let node = Node::new();
    let (_id, _owner, _client) = crate::streams::session(&node);
    let bytes = node.info(node.system.connections()[0]).bytes;
    assert!(bytes <= 360, "{bytes} bytes");
}

#[test]
fn an_idle_bosh_session_with_its_connection_is_within_its_budget() {
    let both = Both::new(Config::default());
    let first = both.poll(101);
    both.holds(1);
    both.send(&both.client, 102, "");
    assert_eq!(read_answer(&first).body, EMPTY);
    drop(first);
    eventually("one is left", || both.node.system.stats().connections == 1);
    both.holds(1);
    let connection = both.node.info(both.node.system.connections()[0]).bytes;
    let session = both.info().bytes;
    println!("{connection} bytes of a connection that holds a request, {session} of its session");
    assert!(connection + session <= 700, "{connection} and {session} bytes");
}
