//! Sessions begun, used and ended at random, by several threads at once, with no regard for whose they are: in the end
//! nothing is left of them.

use crate::bosh_client::*;
use crate::common::*;
use crate::xmpp_client::*;
use megaphone_core::bosh::Config;
use megaphone_core::{Outgoing, Rate, XmppId};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

const THREADS: u64 = 4;
const SESSIONS: usize = 200;
const STEPS: usize = 12;

#[test]
fn nothing_is_left_of_sessions_that_came_and_went() {
    let node = bosh_node(Config { max_inactivity: Duration::from_secs(1), ..Config::default() });
    let owners: Vec<Process> = std::thread::scope(|scope| {
        let run = |seed| {
            let node = &node;
            scope.spawn(move || Worker::new(node, seed).run())
        };
        let threads: Vec<_> = (0..THREADS).map(run).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a worker")).collect()
    });
    eventually("nothing left", || {
        owners.iter().for_each(Process::drain);
        let stats = node.system.stats();
        let is_empty = node.system.sessions().is_empty() && node.system.connections().is_empty();
        (stats.sessions, stats.connections, node.watches()) == (0, 0, 0) && is_empty
    });
    assert_eq!(node.notices(), [], "no panic, and nobody waited for an owner");
}

struct Worker<'a> {
    node: &'a Node,
    starter: Process,
    port: Port,
    random: Random,
    clients: Vec<TcpStream>,
}

impl<'a> Worker<'a> {
    fn new(node: &'a Node, seed: u64) -> Self {
        let starter = node.spawn();
        let port = node.listen(bosh_listener(), Some(&starter));
        Self { node, starter, port, random: Random(seed), clients: Vec::new() }
    }

    /// The owners of its sessions, some of which live on.
    fn run(mut self) -> Vec<Process> {
        let mut owners = Vec::new();
        for _ in 0..SESSIONS {
            let client = self.port.connect();
            (&client).write_all(&post(&creation("localhost"))).unwrap();
            let (id, owner) = (self.starter.started_xmpp(), self.node.spawn());
            self.node.own(id, &owner);
            self.say(id, &owner, FEATURES);
            let answer = read_answer(&client).body;
            self.clients.push(client);
            // Another thread may have ended it by now.
            if let Some(sid) = answer.split(" sid='").nth(1).and_then(|rest| rest.split('\'').next()) {
                let mut rid = 100;
                for _ in 0..STEPS {
                    self.step(id, &owner, sid, &mut rid);
                }
                self.clients.truncate(8);
            }
            owners.push(owner);
        }
        owners
    }

    /// What fails because somebody has ended the session is no failure.
    fn step(&mut self, id: XmppId, owner: &Process, sid: &str, rid: &mut u64) {
        let sink = &mut self.node.sink();
        if self.random.below(2) == 0 {
            owner.drain();
        }
        match self.random.below(14) {
            0..4 => {
                *rid += 1;
                self.request(*rid, sid, "", "<presence/>");
            }
            4 => self.request(*rid, sid, "", ""),
            5 => self.request(*rid + 2, sid, "", ""),
            6 | 7 => self.say(id, owner, MESSAGE),
            8 => {
                let at = self.random.below(self.clients.len());
                self.clients.swap_remove(at);
                self.clients.push(self.port.connect());
            }
            9 => {
                let rate = Rate { bytes_per_second: 1000, burst: 1 };
                let _ = self.node.system.xmpp_shaper(id, owner.pid, Some(rate), sink);
            }
            10 if self.random.below(4) == 0 => self.node.kill(owner),
            11 if self.random.below(4) == 0 => drop(self.node.system.xmpp_close(id, owner.pid, sink)),
            12 if self.random.below(4) == 0 => self.request(*rid + 1, sid, "type='terminate'", ""),
            13 if self.random.below(4) == 0 => self.abort_any(),
            _ => {}
        }
    }

    /// Over an old connection or a new one, whatever that is still waiting for.
    fn request(&mut self, rid: u64, sid: &str, attrs: &str, payload: &str) {
        let request = post(&body(&format!("rid='{rid}' sid='{sid}' {attrs}"), payload));
        if self.random.below(2) == 0 {
            self.clients.insert(0, self.port.connect());
        }
        let at = self.random.below(self.clients.len());
        let _ = (&self.clients[at]).write_all(&request);
    }

    fn say(&self, id: XmppId, owner: &Process, xml: &str) {
        let (waiter, _wait) = waiter();
        let sink = &mut self.node.sink();
        let outgoing = element(xml);
        let outgoing = Outgoing::Element(&outgoing);
        let _ = self.node.system.xmpp_send(id, owner.pid, outgoing, sink, || waiter);
        let _ = self.node.system.xmpp_flush(id, owner.pid, sink);
    }

    fn abort_any(&mut self) {
        let all = self.node.system.sessions();
        if all.is_empty() {
            return;
        }
        let id = all[self.random.below(all.len())];
        // One that has yet to begin would never be told to its starter, for which its test waits.
        if self.node.system.session_info(id).is_ok_and(|info| info.phase == "running") {
            let _ = self.node.system.xmpp_abort(XmppId::Bosh(id), &mut self.node.sink());
        }
    }
}
