//! What the program as a whole shows of itself: over HTTP, and to the service manager.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::ecm::{Ecm, PATIENCE, Plan, connect, echo, free_address, wait_until};
use common::node::TestNode;
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;

/// The answer, and none when nobody answers.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn says(address: SocketAddr, path: &str, part: &str) -> bool {
    get(address, path).is_some_and(|answer| answer.contains(part))
}

#[test]
fn readiness_follows_the_nodes_and_metrics_the_clients() {
    let node = TestNode::start("ejabberd@a");
    let (listen, http) = (free_address(), free_address());
    let plan = Plan::default().listener(listen, "echo", "").node(&node, "");
    let ecm = Ecm::start(&plan.tables(&format!("[http]\nlisten = \"{http}\"")));
    wait_until("it is ready", || says(http, "/readyz", " 200 "));
    let mut client = connect(listen);
    echo(&mut client, b"here");
    let metrics = get(http, "/metrics").unwrap();
    assert!(metrics.contains("\nmegaphone_ecm_connections 1\n"), "{metrics}");
    // The one client keeps it draining.
    ecm.signal(Signal::TERM);
    wait_until("it is not ready", || says(http, "/readyz", " 503 "));
    assert!(says(http, "/healthz", " 200 "));
}

#[test]
fn the_service_manager_hears_of_start_reload_life_and_end() {
    let node = TestNode::start("ejabberd@a");
    let plan = Plan::default().listener(free_address(), "echo", "").node(&node, "");
    let directory = common::Directory::new();
    let path = directory.path("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut ecm = Ecm::with_environment(
        &plan,
        &[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")],
    );
    let wait_for = |wanted: &str| {
        let mut said = [0; 200];
        loop {
            let n = manager.recv(&mut said).unwrap();
            if said[..n].starts_with(wanted.as_bytes()) {
                return;
            }
        }
    };
    wait_for("READY=1");
    wait_for("WATCHDOG=1");
    ecm.signal(Signal::HUP);
    wait_for("RELOADING=1");
    wait_for("READY=1");
    ecm.signal(Signal::TERM);
    wait_for("STOPPING=1");
    assert_eq!(ecm.exit_code(), Some(0));
}

#[test]
fn an_address_for_http_that_is_taken_is_an_error_with_its_name() {
    let node = TestNode::start("ejabberd@a");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let plan = Plan::default().listener(free_address(), "echo", "").node(&node, "");
    let mut ecm = Ecm::start(&plan.tables(&format!("[http]\nlisten = \"{listen}\"")));
    ecm.wait_for(&format!("ERROR megaphone_ecm: [http] can't listen on {listen}: "), 1);
    assert_eq!(ecm.exit_code(), Some(2));
}
