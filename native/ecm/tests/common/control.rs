//! A program that only has figures.
#![allow(dead_code, reason = "no test binary uses all of it")]

use megaphone_ecm::control::{ConnectionId, ConnectionInfo, Control, ListenerStats, NodeStats, Stats};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Its one connection.
pub(crate) const CONNECTION: ConnectionId = ConnectionId(1 << 40);

#[derive(Default)]
pub(crate) struct Fixed {
    pub(crate) drains: Mutex<Vec<Option<Duration>>>,
    pub(crate) closed: Mutex<Vec<ConnectionId>>,
    pub(crate) is_ready: AtomicBool,
}

pub(crate) fn listen() -> SocketAddr {
    "192.0.2.7:5222".parse().unwrap()
}

impl Control for Fixed {
    fn stats(&self) -> Stats {
        Stats {
            name: "ecm \"1\"\n\\".into(),
            uptime: Duration::from_millis(90_500),
            is_draining: false,
            workers: 2,
            connections: 1,
            max_connections: 10_000,
            accepted: u64::MAX,
            refused: 3,
            received: 1 << 32,
            sent: 300,
            nodes: vec![NodeStats {
                name: "ejabberd@a".into(),
                is_up: true,
                links_up: 1,
                ..NodeStats::default()
            }],
        }
    }

    fn listeners(&self) -> Vec<ListenerStats> {
        vec![ListenerStats {
            listen: listen(),
            node_listener: "c2s".into(),
            connections: 1,
            max_connections: 500,
            accepted: 7,
            is_open: true,
        }]
    }

    fn connection(&self, id: ConnectionId) -> Option<ConnectionInfo> {
        (id == CONNECTION).then(|| ConnectionInfo {
            id,
            client: "198.51.100.1:40000".into(),
            listen: listen(),
            node: None,
            received: 5,
            sent: 6,
        })
    }

    fn close(&self, id: ConnectionId) -> bool {
        self.closed.lock().unwrap().push(id);
        id == CONNECTION
    }

    fn drain(&self, deadline: Option<Duration>) {
        self.drains.lock().unwrap().push(deadline);
    }

    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }
}
