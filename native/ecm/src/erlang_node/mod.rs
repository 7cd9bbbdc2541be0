//! The ECM as a hidden Erlang node: what operators ask from an Erlang shell. `docs/ecm.md` has the requests.
//!
//! One thread with a poll, since there are few connections and each asks little. Other nodes connect, this one never does.

mod connection;
mod node;
mod quiet;
mod registration;
mod requests;

pub use crate::service_thread::Handle;

use crate::control::Control;
use crate::settings::ErlangNode;
use megaphone_proto::dist::{Local, epmd};
use node::Node;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The process of the node that is asked: `{ecm, 'ecm1@edge.example.org'}`.
pub const PROCESS: &str = "ecm";

/// Starts the node in a thread of its own. When its handle is dropped, nodes that are connected notice at once, and epmd forgets
/// the name.
///
/// Without epmd it is not found, but runs: epmd is asked until it answers. `ERL_EPMD_PORT` says where it is, as to Erlang.
///
/// # Errors
/// The port mapper's port is no number, or no socket can be had.
pub fn start(config: &ErlangNode, control: Arc<dyn Control>) -> io::Result<Handle> {
    start_at(config, epmd_address()?, control)
}

/// As [`start`], with an epmd elsewhere.
///
/// # Errors
/// No socket can be had.
pub fn start_at(config: &ErlangNode, epmd: SocketAddr, control: Arc<dyn Control>) -> io::Result<Handle> {
    let is_over = Arc::new(AtomicBool::new(false));
    let creation = random()?.max(4);
    let local = Local {
        name: config.name.clone(),
        cookie: config.cookie.expose().into(),
        creation,
        process: PROCESS,
    };
    let listen = config.listen.unwrap_or_else(|| listen_address(&config.name));
    let node = Node::listen(local, listen, epmd, control, is_over.clone())?;
    let (waker, address) = (node.waker()?, node.address());
    let handle =
        Handle::spawn(("the Erlang node", "ecm_erlang"), address, (is_over, waker), move || node.run())?;
    tracing::info!(name = &*config.name, %address, "Erlang node listens");
    Ok(handle)
}

/// All addresses, unless the name says that it is one: `ecm@127.0.0.1`, `ecm@localhost`.
fn listen_address(name: &str) -> SocketAddr {
    let host = name.split_once('@').map_or("", |(_, host)| host);
    let address = match host {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => host.parse::<IpAddr>(),
    };
    SocketAddr::new(address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), 0)
}

fn epmd_address() -> io::Result<SocketAddr> {
    let port = match std::env::var("ERL_EPMD_PORT") {
        Ok(port) => port.parse().map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("ERL_EPMD_PORT=\"{port}\" is no port: correct it, or leave it out"),
            )
        })?,
        Err(_) => epmd::PORT,
    };
    Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
}

fn random() -> io::Result<u32> {
    getrandom::u32().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_an_address_is_listened_for_there_alone() {
        let listen = |name| listen_address(name).to_string();
        assert_eq!(listen("ecm@127.0.0.1"), "127.0.0.1:0");
        assert_eq!(listen("ecm@localhost"), "127.0.0.1:0");
        assert_eq!(listen("ecm@::1"), "[::1]:0");
        assert_eq!(listen("ecm@edge.example.org"), "0.0.0.0:0");
    }
}
