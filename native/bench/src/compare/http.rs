//! Requests on keep-alive connections: as many as wrk gets answered, and latency at a fixed rate.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::compare::case::Case;
use crate::compare::figure::Unit;
use crate::compare::lab::Lab;
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::compare::rounds;
use crate::generator::http_load::{Load, Plan};
use crate::generator::http_run::HttpRun;
use crate::generator::latency::Summary;
use crate::measure::machine::Meter;
use crate::server::{HOST, Server};

/// The comparison.
pub(crate) struct Http;

/// A short document that ejabberd makes in memory (XEP-0156): the server's work is nearly all connection
/// handling. A file would mostly measure reading files.
pub(crate) const ROUTE: &str = "/host-meta";

const CONNECTIONS: [usize; 3] = [1, 100, 1000];
/// The rate of the latency measurement, about a quarter of what two cores serve.
const FIXED_RATE: f64 = 5000.0;
const FIXED_CONNECTIONS: usize = 100;
/// Lengths of windows, of a quick run and a full one.
const WRK_SECONDS: (u64, u64) = (2, 6);
const FIXED_SECONDS: (u64, u64) = (3, 10);

/// The request that is measured.
pub(crate) fn request(target: SocketAddr) -> Vec<u8> {
    format!("GET {ROUTE} HTTP/1.1\r\nHost: {HOST}:{}\r\n\r\n", target.port()).into_bytes()
}

impl Case for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        format!(
            "GET {ROUTE} on keep-alive connections. Requests a second: `wrk -t1` with {CONNECTIONS:?} \
             connections in windows of {} s. Latency: {FIXED_RATE} requests a second on {FIXED_CONNECTIONS} \
             connections in windows of {} s, counted from the time at which a request was due.",
            lab.pick(WRK_SECONDS.0, WRK_SECONDS.1),
            lab.pick(FIXED_SECONDS.0, FIXED_SECONDS.1)
        )
    }

    fn run(&mut self, lab: &Lab<'_>, outcome: &mut CaseOutcome) -> Result<()> {
        let servers = lab.start_all(CONNECTIONS.into_iter().max().unwrap_or_default() + FIXED_CONNECTIONS)?;
        // Loads code and grows tables, which is no cost of a request.
        servers.iter().try_for_each(|server| wrk(server.http, FIXED_CONNECTIONS, 1).map(|_| ()))?;
        for connections in CONNECTIONS {
            let label = format!("{connections} connections");
            rounds::alternate(lab, &label, outcome, |variant, trial| {
                most_requests(lab, &servers[variant], connections, trial)
            });
        }
        rounds::alternate(lab, "fixed rate", outcome, |variant, trial| {
            fixed_rate(lab, &servers[variant], trial)
        });
        Ok(())
    }
}

/// As many requests as wrk gets answered.
fn most_requests(lab: &Lab<'_>, server: &Server, connections: usize, trial: &mut Trial) -> Result<()> {
    let meter = Meter::start(server.pids())?;
    let figures = wrk(server.http, connections, lab.pick(WRK_SECONDS.0, WRK_SECONDS.1))?;
    let usage = meter.stop()?;
    trial.disturbed_by(usage.others);
    let each = usage.server * 1e6 / (figures.answered.max(1) as f64);
    trial.add(format!("requests, {connections} connections"), Unit::PerSecond, figures.rate);
    trial.add(format!("CPU a request, {connections} connections"), Unit::Microseconds, each);
    trial.failed(figures.failures());
    trial.keep(&format!("wrk, {connections} connections"), &figures);
    Ok(())
}

fn fixed_rate(lab: &Lab<'_>, server: &Server, trial: &mut Trial) -> Result<()> {
    let plan = Plan {
        connections: FIXED_CONNECTIONS,
        ramp: 1000.0,
        request: request(server.http),
        load: Load::Fixed(FIXED_RATE, Duration::from_secs(lab.pick(FIXED_SECONDS.0, FIXED_SECONDS.1))),
        patience: Duration::from_secs(20),
    };
    let meter = Meter::start(server.pids())?;
    let (outcome, failures) = HttpRun::start(&plan, server.http)?.finish()?;
    let usage = meter.stop()?;
    trial.disturbed_by(usage.others);
    trial.add_latency("fixed rate: ", &Summary::of(&outcome.latency));
    let each = usage.server * 1e6 / (outcome.answered.max(1) as f64);
    trial.add("fixed rate: CPU a request", Unit::Microseconds, each);
    trial.failed(failures);
    Ok(())
}

/// What wrk printed.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Wrk {
    rate: f64,
    answered: u64,
    not_ok: u64,
    socket_errors: u64,
    latency: Vec<(String, String)>,
}

impl Wrk {
    fn failures(&self) -> std::collections::BTreeMap<String, u64> {
        let counts = [("wrk: status is no success", self.not_ok), ("wrk: socket errors", self.socket_errors)];
        counts
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| (what.to_owned(), count))
            .collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut found = Self::default();
        for line in text.lines().map(str::trim) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["Requests/sec:", rate] => found.rate = rate.parse().ok()?,
                ["Non-2xx", .., count] => found.not_ok = count.parse().ok()?,
                ["Socket", "errors:", counts @ ..] => {
                    let numbers =
                        counts.iter().filter_map(|word| word.trim_end_matches(',').parse::<u64>().ok());
                    found.socket_errors = numbers.sum();
                }
                [count, "requests", "in", ..] => found.answered = count.parse().ok()?,
                [percent, value] if percent.ends_with('%') => {
                    found.latency.push(((*percent).to_owned(), (*value).to_owned()));
                }
                _ => {}
            }
        }
        (found.answered > 0).then_some(found)
    }
}

fn wrk(target: SocketAddr, connections: usize, seconds: u64) -> Result<Wrk> {
    let output = Command::new("wrk")
        .args(["-t1", "--latency", "--timeout", "10s", "-c", &connections.to_string()])
        .args(["-d", &format!("{seconds}s"), "-H", &format!("Host: {HOST}")])
        .arg(format!("http://{target}{ROUTE}"))
        .output()
        .context("running wrk; Debian has it in the package wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match Wrk::parse(&text) {
        Some(figures) => Ok(figures),
        None => bail!("wrk said {text}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OUTPUT: &str = "Running 3s test @ http://127.0.0.1:25280/nope\n  1 threads and 50 connections\n  \
        Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     4.12ms    3.03ms  30.42ms   70.50%\n  \
        Latency Distribution\n     50%    3.77ms\n     99%   14.25ms\n  38650 requests in 3.01s, 7.00MB read\n  \
        Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 12\n\
        Requests/sec:  12860.08\nTransfer/sec:      2.33MB\n";

    #[test]
    fn figures_and_errors_of_wrk_are_read() {
        let figures = Wrk::parse(OUTPUT).unwrap();
        assert_eq!((figures.rate, figures.answered), (12860.08, 38650));
        assert_eq!((figures.not_ok, figures.socket_errors), (12, 7));
        assert_eq!(figures.latency, [("50%".into(), "3.77ms".into()), ("99%".into(), "14.25ms".into())]);
        assert_eq!(figures.failures().len(), 2);
    }

    #[test]
    fn a_run_without_answers_gives_no_figures() {
        assert_eq!(Wrk::parse("unable to connect to 127.0.0.1:1"), None);
    }
}
