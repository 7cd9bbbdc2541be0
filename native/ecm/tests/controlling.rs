//! What operators may ask of the running program, in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::ecm::{Plan, connect, echo, free_address, rest, wait_until};
use common::node::TestNode;
use common::{Directory, ENVIRONMENT};
use megaphone_ecm::control::{ConnectionId, Control};
use megaphone_ecm::service::{Notice, Service};
use megaphone_ecm::settings;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Workers get copies of the descriptors that the process has at their start: another test's clients would stay open.
static ALONE: Mutex<()> = Mutex::new(());

const PULSE: Duration = Duration::from_millis(10);

struct Running {
    control: Arc<dyn Control>,
    thread: JoinHandle<Result<(), String>>,
    notices: Arc<Mutex<Vec<Notice>>>,
    _directory: Directory,
    _alone: MutexGuard<'static, ()>,
}

fn start(plan: &Plan) -> Running {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = Directory::new();
    let file = directory.write("ecm.toml", &plan.text(), 0o644);
    let settings = settings::load(&file, &ENVIRONMENT).unwrap();
    let service = Service::start(&file, settings, &ENVIRONMENT).unwrap();
    let (control, notices) = (service.control(), Arc::<Mutex<Vec<Notice>>>::default());
    let seen = Arc::clone(&notices);
    let thread = std::thread::spawn(move || {
        service.wait(Some(PULSE), &mut |notice| seen.lock().unwrap().push(notice))
    });
    Running { control, thread, notices, _directory: directory, _alone: alone }
}

fn clients(listen: SocketAddr, number: usize) -> Vec<TcpStream> {
    let mut clients: Vec<_> = (0..number).map(|_| connect(listen)).collect();
    clients.iter_mut().for_each(|client| echo(client, b"hello"));
    clients
}

/// One worker's clients have small numbers.
fn ids(control: &dyn Control, workers: u64) -> Vec<ConnectionId> {
    let all = (0..workers).flat_map(|worker| (0..64).map(move |slot| ConnectionId(worker << 24 | slot)));
    all.filter(|id| control.connection(*id).is_some()).collect()
}

#[test]
fn figures_are_those_of_all_workers() {
    let (node, listen, other) = (TestNode::start("ejabberd@a"), free_address(), free_address());
    let plan = Plan::default().root("workers = 2").listener(listen, "echo", "").listener(other, "sink", "");
    let running = start(&plan.node(&node, ""));
    wait_until("it is ready", || running.control.is_ready());
    let clients = clients(listen, 20);
    let stats = running.control.stats();
    assert_eq!((&*stats.name, stats.workers, stats.is_draining), ("ecm1", 2, false));
    assert_eq!((stats.connections, stats.accepted, stats.refused, stats.max_connections), (20, 20, 0, 1000));
    assert_eq!((stats.received, stats.sent), (100, 100));
    let [of_node] = &stats.nodes[..] else { panic!("{:?}", stats.nodes) };
    assert_eq!((&*of_node.name, of_node.is_up, of_node.streams), ("ejabberd@a", true, 20));
    assert_eq!((of_node.links_suspended, of_node.cuts, of_node.lost), (0, 0, 0));
    let [first, second] = &running.control.listeners()[..] else { panic!("two listeners") };
    assert_eq!(
        (first.listen, &*first.node_listener, first.connections, first.is_open),
        (listen, "echo", 20, true)
    );
    assert_eq!((second.listen, second.accepted, second.max_connections), (other, 0, 1000));
    node.cut();
    wait_until("cuts are counted", || running.control.stats().nodes[0].cuts > 0);
    wait_until("links are resumed", || running.control.stats().nodes[0].resumed > 0);
    drop(clients);
    wait_until("clients are counted off", || running.control.stats().connections == 0);
}

#[test]
fn a_connection_is_found_and_closed() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let running = start(&Plan::default().root("workers = 2").listener(listen, "echo", "").node(&node, ""));
    wait_until("it is ready", || running.control.is_ready());
    wait_until("it is alive", || running.notices.lock().unwrap().contains(&Notice::Alive));
    let mut clients = clients(listen, 4);
    let ids = ids(&*running.control, 2);
    assert_eq!(ids.len(), 4);
    let info = running.control.connection(ids[0]).unwrap();
    assert_eq!((info.id, info.listen, info.node.as_deref()), (ids[0], listen, Some("ejabberd@a")));
    assert_eq!((info.received, info.sent), (5, 5));
    let is_its = |client: &&mut TcpStream| client.local_addr().unwrap().to_string() == info.client;
    let client = clients.iter_mut().find(is_its).unwrap();
    assert!(running.control.close(ids[0]));
    assert_eq!(rest(client), (Vec::new(), false));
    client.shutdown(std::net::Shutdown::Both).unwrap();
    wait_until("it is gone", || running.control.connection(ids[0]).is_none());
    assert!(!running.control.close(ids[0]));
    assert_eq!(running.control.connection(ConnectionId(u64::MAX)), None);
    // The next one in its slot is another.
    wait_until("it is gone at the node", || node.streams() == 3);
}

#[test]
fn it_drains_when_told_and_says_so() {
    let (node, listen) = (TestNode::start("ejabberd@a"), free_address());
    let running = start(&Plan::default().listener(listen, "echo", "").node(&node, ""));
    let mut clients = clients(listen, 3);
    running.control.drain(Some(Duration::from_secs(3600)));
    assert!(!running.control.is_ready());
    assert!(running.control.stats().is_draining);
    // The earlier deadline holds.
    running.control.drain(Some(Duration::ZERO));
    clients.iter_mut().for_each(|client| {
        rest(client);
    });
    assert_eq!(running.thread.join().unwrap(), Ok(()));
    let mut notices = running.notices.lock().unwrap().clone();
    notices.retain(|notice| *notice != Notice::Alive);
    assert_eq!(notices, [Notice::Ready, Notice::Stopping]);
    // Whoever asks afterwards gets the last figures.
    assert!(running.control.stats().is_draining);
}
