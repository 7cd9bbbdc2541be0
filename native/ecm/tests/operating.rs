//! Limits, the PROXY protocol, signals, several workers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::ecm::{Ecm, Plan, connect, echo, free_address, rest, wait_until};
use common::node::TestNode;
use rustix::process::Signal;
use std::io::Write;
use std::net::{Shutdown, SocketAddr};

fn plan(node: &TestNode, service: &str, more: &str) -> (SocketAddr, Plan) {
    let listen = free_address();
    (listen, Plan::default().listener(listen, service, more).node(node, ""))
}

// --- limits

#[test]
fn more_clients_than_may_be_are_refused() {
    let node = TestNode::start("ejabberd@a");
    let (listen, plan) = plan(&node, "echo", "");
    let ecm = Ecm::start(&plan.root("max_connections = 3"));
    let mut clients: Vec<_> = (0..3).map(|_| connect(listen)).collect();
    clients.iter_mut().for_each(|client| echo(client, b"in"));
    for _ in 0..3 {
        assert_eq!(rest(&mut connect(listen)), (Vec::new(), true));
    }
    assert_eq!(ecm.count("client refused"), 1);
    clients.pop();
    wait_until("there is room", || node.streams() == 2);
    echo(&mut connect(listen), b"in again");
}

#[test]
fn a_listener_has_a_bound_of_its_own() {
    let (node, other) = (TestNode::start("ejabberd@a"), free_address());
    let (listen, plan) = plan(&node, "echo", "max_connections = 1");
    let _ecm = Ecm::start(&plan.listener(other, "echo", ""));
    let mut first = connect(listen);
    echo(&mut first, b"in");
    assert_eq!(rest(&mut connect(listen)), (Vec::new(), true));
    echo(&mut connect(other), b"in");
}

#[test]
fn clients_that_waited_in_vain_leave_room_for_others() {
    let listen = free_address();
    let node = "[[nodes]]\nname = \"ejabberd@a\"\naddress = \"127.0.0.1\"\nport = 1";
    let plan = Plan::default().root("max_connections = 2000").listener(listen, "echo", "").tables(node);
    let ecm = Ecm::start(&plan);
    let mut clients: Vec<_> = (0..1024).map(|_| connect(listen)).collect();
    for client in &mut clients {
        assert_eq!(rest(client), (Vec::new(), true));
    }
    ecm.wait_for("no node takes clients", 1);
    assert_eq!(rest(&mut connect(listen)), (Vec::new(), true));
    assert_eq!(ecm.count("too many wait"), 0);
}

// --- proxies

#[test]
fn a_proxy_says_who_the_client_is() {
    let node = TestNode::start("ejabberd@a");
    let (listen, plan) = plan(&node, "describe", "proxy_protocol_from = [\"127.0.0.0/8\"]");
    let _ecm = Ecm::start(&plan);
    let mut client = connect(listen);
    client.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 ").unwrap();
    client.write_all(b"4711 5222\r\n").unwrap();
    let expected = format!("192.0.2.7:4711 198.51.100.1:5222 {}\n", client.local_addr().unwrap());
    assert_eq!(rest(&mut client), (expected.into_bytes(), false));
    let mut unknown = connect(listen);
    unknown.write_all(b"PROXY UNKNOWN\r\n").unwrap();
    let expected = format!("{} {listen} -\n", unknown.local_addr().unwrap());
    assert_eq!(rest(&mut unknown), (expected.into_bytes(), false));
}

/// Version 2's signature, and LOCAL.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[test]
fn what_follows_the_header_is_the_clients() {
    let node = TestNode::start("ejabberd@a");
    let (listen, plan) = plan(&node, "echo", "proxy_protocol_from = [\"127.0.0.0/8\"]");
    let _ecm = Ecm::start(&plan);
    for header in [&b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 5222\r\n"[..], LOCAL] {
        let mut client = connect(listen);
        client.write_all(&[header, b"hello"].concat()).unwrap();
        let mut back = [0; 5];
        std::io::Read::read_exact(&mut client, &mut back).unwrap();
        assert_eq!(&back, b"hello");
    }
}

#[test]
fn a_proxys_check_of_health_gets_no_stream() {
    let node = TestNode::start("ejabberd@a");
    let (listen, plan) = plan(&node, "echo", "proxy_protocol_from = [\"127.0.0.0/8\"]");
    let ecm = Ecm::start(&plan);
    for said in [&b""[..], LOCAL] {
        let mut check = connect(listen);
        check.write_all(said).unwrap();
        check.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&mut check), (Vec::new(), false));
    }
    assert_eq!((node.opened(), ecm.count("client refused")), (0, 0));
}

#[test]
fn the_time_for_a_header_is_over_when_it_is_there() {
    let node = TestNode::start("ejabberd@a");
    let more = "proxy_protocol_from = [\"127.0.0.0/8\"]\nproxy_header_timeout = \"3 s\"\nkeep = true";
    let (listen, plan) = plan(&node, "echo", more);
    let ecm = Ecm::start(&plan.tables("[link]\nresume_timeout = \"1 s\""));
    ecm.wait_for("link made", 1);
    let mut client = connect(listen);
    client.write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 5222\r\n").unwrap();
    echo(&mut client, b"before");
    let mut check = connect(listen);
    check.write_all(LOCAL).unwrap();
    node.set_deaf(true);
    node.forget();
    ecm.wait_for("link lost with its clients", 1);
    // A check that says nothing more is closed when the time is over; that of the client was over before.
    assert_eq!(rest(&mut check), (Vec::new(), false));
    node.set_deaf(false);
    echo(&mut client, b"after");
}

#[test]
fn who_is_no_proxy_is_refused() {
    let node = TestNode::start("ejabberd@a");
    let (listen, plan) =
        plan(&node, "echo", "proxy_protocol_from = [\"127.0.0.0/8\"]\nproxy_header_timeout = \"100 ms\"");
    let stranger = free_address();
    let ecm = Ecm::start(&plan.listener(stranger, "echo", "proxy_protocol_from = [\"192.0.2.0/24\"]"));
    let mut client = connect(listen);
    client.write_all(b"<stream:stream").unwrap();
    assert_eq!(rest(&mut client), (Vec::new(), true));
    let mut client = connect(listen);
    client.write_all(b"PROXY TCP4").unwrap();
    assert_eq!(rest(&mut client), (Vec::new(), true));
    assert_eq!(rest(&mut connect(stranger)), (Vec::new(), true));
    ecm.wait_for("it begins with no PROXY header", 1);
    ecm.wait_for("the PROXY header did not come in time", 1);
    ecm.wait_for("it comes from no proxy", 1);
    assert_eq!(node.opened(), 0);
}

// --- the end

#[test]
fn without_clients_it_ends_when_told() {
    for signal in [Signal::TERM, Signal::INT] {
        let node = TestNode::start("ejabberd@a");
        let mut ecm = Ecm::start(&plan(&node, "echo", "").1);
        wait_until("the link is there", || node.links() == 1);
        ecm.signal(signal);
        assert_eq!(ecm.exit_code(), Some(0));
        wait_until("the link is over", || node.links() == 0);
    }
}

#[test]
fn clients_are_taken_leave_of_at_a_pace() {
    let node = TestNode::start("ejabberd@a");
    let (listen, plan) = plan(&node, "echo", "");
    let mut ecm = Ecm::start(&plan.tables("[drain]\ndeadline = \"1 h\"\npace = 20"));
    let mut clients: Vec<_> = (0..40).map(|_| connect(listen)).collect();
    clients.iter_mut().for_each(|client| echo(client, b"hello"));
    ecm.signal(Signal::TERM);
    ecm.wait_for("draining", 1);
    wait_until("nobody listens", || std::net::TcpStream::connect(listen).is_err());
    // The last one is still served.
    echo(&mut clients[39], b"still here");
    for client in &mut clients {
        assert_eq!(rest(client), (Vec::new(), false));
    }
    drop(clients);
    assert_eq!(ecm.exit_code(), Some(0));
    assert_eq!(node.streams(), 0);
}

#[test]
fn at_the_deadline_all_are_closed() {
    let node = TestNode::start("ejabberd@a");
    let (listen, plan) = plan(&node, "sink", "");
    let mut ecm = Ecm::start(&plan.tables("[drain]\ndeadline = \"1 s\"\npace = 1"));
    let mut clients: Vec<_> = (0..40).map(|_| connect(listen)).collect();
    wait_until("all are there", || node.streams() == 40);
    ecm.signal(Signal::TERM);
    for client in &mut clients {
        rest(client);
    }
    assert_eq!(ecm.exit_code(), Some(0));
}

#[test]
fn told_twice_it_ends_at_once() {
    let node = TestNode::start("ejabberd@a");
    let (listen, plan) = plan(&node, "echo", "");
    let mut ecm = Ecm::start(&plan.tables("[drain]\ndeadline = \"1 h\"\npace = 1"));
    let mut clients: Vec<_> = (0..10).map(|_| connect(listen)).collect();
    clients.iter_mut().for_each(|client| echo(client, b"hello"));
    ecm.signal(Signal::TERM);
    ecm.wait_for("draining", 1);
    ecm.signal(Signal::TERM);
    assert_eq!(ecm.exit_code(), Some(0));
}

// --- the file anew

#[test]
fn listeners_come_and_go_with_the_file() {
    let (node, later) = (TestNode::start("ejabberd@a"), free_address());
    let (listen, plan) = plan(&node, "echo", "");
    let ecm = Ecm::start(&plan);
    let mut first = connect(listen);
    echo(&mut first, b"hello");
    ecm.reload(&Plan::default().listener(later, "describe", "").node(&node, ""));
    ecm.wait_for("configuration read anew", 1);
    assert!(std::net::TcpStream::connect(listen).is_err());
    echo(&mut first, b"still here");
    assert!(rest(&mut connect(later)).0.ends_with(b" -\n"));
    ecm.reload(&Plan::default().listener(listen, "echo", "").node(&node, ""));
    ecm.wait_for("configuration read anew", 2);
    echo(&mut connect(listen), b"back");
}

#[test]
fn a_wrong_file_changes_nothing() {
    let node = TestNode::start("ejabberd@a");
    let (listen, plan) = plan(&node, "echo", "");
    let ecm = Ecm::start(&plan);
    ecm.reload(&Plan::default().root("balance = \"worst\"").listener(listen, "echo", "").node(&node, ""));
    ecm.wait_for("the configuration stays as it was", 1);
    ecm.wait_for("balance: \"worst\" is unknown", 1);
    echo(&mut connect(listen), b"hello");
}

#[test]
fn what_can_not_change_is_said() {
    let node = TestNode::start("ejabberd@a");
    let (listen, plan) = plan(&node, "echo", "");
    let ecm = Ecm::start(&plan);
    let address = free_address();
    let text = plan.tables(&format!("[http]\nlisten = \"{address}\"")).text().replace("\"ecm1\"", "\"ecm2\"");
    ecm.directory.write("ecm.toml", &text, 0o644);
    ecm.signal(Signal::HUP);
    ecm.wait_for("[http] can't change while the program runs", 1);
    ecm.wait_for("name can't change while the program runs", 1);
    echo(&mut connect(listen), b"hello");
}

#[test]
fn a_secret_that_changes_is_that_of_new_links() {
    let node = TestNode::start("ejabberd@a");
    let (listen, plan) = plan(&node, "echo", "");
    let ecm = Ecm::with_secret(&plan, "another secret, and a long one, too");
    ecm.wait_for("no link to a node", 1);
    ecm.directory.write("ecm.secret", common::SECRET, 0o600);
    ecm.signal(Signal::HUP);
    ecm.wait_for("link made", 1);
    echo(&mut connect(listen), b"hello");
}

// --- workers

#[test]
fn workers_share_the_clients() {
    let node = TestNode::start("ejabberd@a");
    let (listen, plan) = plan(&node, "echo", "");
    let mut ecm = Ecm::start(&plan.root("workers = 3").tables("[drain]\npace = 100"));
    ecm.wait_for("link made", 3);
    let mut clients: Vec<_> = (0..60).map(|_| connect(listen)).collect();
    for round in 0..3 {
        clients.iter_mut().for_each(|client| echo(client, format!("round {round}").as_bytes()));
    }
    assert_eq!((node.links(), node.streams()), (3, 60));
    assert!((2..60).contains(&descriptors(&ecm)), "{}", descriptors(&ecm));
    node.cut();
    clients.iter_mut().for_each(|client| echo(client, b"after a cut"));
    ecm.signal(Signal::TERM);
    clients.iter_mut().for_each(|client| assert_eq!(rest(client), (Vec::new(), false)));
    assert_eq!(ecm.exit_code(), Some(0));
}

/// Of the main thread: clients are in the workers' tables.
fn descriptors(ecm: &Ecm) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", ecm.pid().as_raw_nonzero())).unwrap().count()
}
