//! Runs HTTP load on as many workers as its connections need.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::generator::http_load::{HttpLoad, Load, Outcome, Plan};
use crate::generator::io::Io;
use crate::generator::shared::Shared;
use crate::generator::{CONNECTIONS_A_WORKER, latency, shares};
use crate::sys;

/// HTTP load in progress.
pub(crate) struct HttpRun {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<Result<Outcome>>>,
    connections: usize,
    opening_limit: Duration,
}

impl HttpRun {
    /// Starts `plan`, whose connections and rate are those of all workers together.
    ///
    /// # Errors
    /// When threads can't be started.
    pub(crate) fn start(plan: &Plan, target: SocketAddr) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut workers = Vec::new();
        for (number, connections) in shares(plan.connections, CONNECTIONS_A_WORKER).into_iter().enumerate() {
            let part = connections as f64 / plan.connections.max(1) as f64;
            let load = match plan.load {
                Load::Fixed(rate, long) => Load::Fixed(rate * part, long),
                other => other,
            };
            let plan = Plan { connections, ramp: plan.ramp * part, load, ..plan.clone() };
            let shared = Arc::clone(&shared);
            let worker = thread::Builder::new().name(format!("http-{number}"));
            workers.push(worker.spawn(move || work(plan, target, number, &shared))?);
        }
        let opening = Duration::from_secs_f64(plan.connections as f64 / plan.ramp);
        Ok(Self { shared, workers, connections: plan.connections, opening_limit: opening + plan.patience })
    }

    /// Waits until each connection is open or has failed, calling `tick` with their count now and then.
    ///
    /// The workers give up connecting after the plan's patience, so this ends whatever the server does.
    pub(crate) fn wait_until_open(&self, mut tick: impl FnMut(u64)) {
        // A worker that could not even start never counts its connections.
        let deadline = Instant::now() + self.opening_limit + Duration::from_secs(5);
        while self.shared.settled() < self.connections as u64 && Instant::now() < deadline {
            tick(self.shared.settled());
            thread::sleep(Duration::from_millis(50));
        }
        tick(self.shared.settled());
    }

    /// Connections that are open, of those that did not fail.
    pub(crate) fn opened(&self) -> usize {
        self.shared.ready.load(Relaxed) as usize
    }

    /// Ends idle workers, waits for all, and adds their outcomes up; failures by cause come with it.
    ///
    /// # Errors
    /// When a worker failed as a whole.
    pub(crate) fn finish(self) -> Result<(Outcome, BTreeMap<String, u64>)> {
        self.shared.stop.store(true, Relaxed);
        let mut sum = Outcome { latency: latency::histogram(), answered: 0, elapsed: Duration::ZERO };
        for worker in self.workers {
            let outcome = worker.join().map_err(|_| anyhow!("a worker panicked"))??;
            sum.latency.add(&outcome.latency).context("adding latencies")?;
            sum.answered += outcome.answered;
            sum.elapsed = sum.elapsed.max(outcome.elapsed);
        }
        Ok((sum, self.shared.causes()))
    }
}

fn work(plan: Plan, target: SocketAddr, number: usize, shared: &Shared) -> Result<Outcome> {
    sys::own_descriptor_table().context("a descriptor table for a worker")?;
    let mut io = Io::new(plan.connections, number)?;
    let mut load = HttpLoad::new(plan, target, shared);
    io.run(&mut load)?;
    Ok(load.into_outcome())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    fn plan(load: Load) -> Plan {
        Plan {
            connections: 2,
            ramp: f64::INFINITY,
            request: b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            load,
            patience: Duration::from_secs(20),
        }
    }

    /// A server that gives each of two connections `answers` answers, a byte at a time, and closes it.
    fn server(answers: usize) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for _ in 0..2 {
                let (stream, _) = listener.accept().unwrap();
                thread::spawn(move || answer(stream, answers));
            }
        });
        address
    }

    fn answer(mut stream: TcpStream, answers: usize) {
        let mut request = [0; 64];
        for _ in 0..answers {
            if stream.read(&mut request).unwrap_or(0) == 0 {
                return;
            }
            ANSWER.iter().for_each(|byte| stream.write_all(&[*byte]).unwrap());
        }
    }

    #[test]
    fn every_request_of_a_fixed_rate_is_answered_and_counted() {
        let load = Load::Fixed(200.0, Duration::from_millis(200));
        let run = HttpRun::start(&plan(load), server(usize::MAX)).unwrap();
        let (outcome, causes) = run.finish().unwrap();
        assert_eq!((outcome.answered, outcome.latency.len()), (40, 40));
        assert!(causes.is_empty(), "{causes:?}");
    }

    #[test]
    fn a_server_that_goes_away_is_counted_and_ends_the_run() {
        let load = Load::Fixed(1000.0, Duration::from_secs(3600));
        let (outcome, causes) = HttpRun::start(&plan(load), server(3)).unwrap().finish().unwrap();
        // The first request of each connection only shows that it works.
        assert_eq!(outcome.answered, 4);
        let closed: u64 =
            causes.iter().filter(|(cause, _)| !cause.contains("no connection")).map(|c| c.1).sum();
        assert_eq!(closed, 2, "{causes:?}");
    }

    #[test]
    fn refused_connections_are_counted() {
        let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let load = Load::Closed(Duration::from_secs(3600));
        let (_, causes) = HttpRun::start(&plan(load), unused).unwrap().finish().unwrap();
        assert_eq!(causes.get("http: connect failed (connection refused)"), Some(&2), "{causes:?}");
    }
}
