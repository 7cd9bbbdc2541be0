//! A node that answers each client with what it sent, for trying and measuring the manager without ejabberd:
//! `cargo run --example echo_node -- NAME ADDRESS SECRET`. Other services are those of the tests' node, by the listener's `for`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/common/node.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod node;

use megaphone_proto::link::{Config, Secret};
use std::time::Duration;

/// Of nodes that are given no other.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "ejabberd@localhost".to_owned());
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:6280".to_owned());
    let secret = arguments.next().unwrap_or_else(|| SECRET.to_owned());
    let config = Config::new(&name, Secret::new(secret.as_bytes()).expect("32 bytes or more"));
    let node = node::TestNode::with(config, address.parse().expect("address:port"));
    loop {
        std::thread::sleep(Duration::from_secs(5));
        println!("{} at {}: {} links, {} streams", node.name(), node.address(), node.links(), node.streams());
    }
}
