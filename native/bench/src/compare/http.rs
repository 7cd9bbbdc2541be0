//! Requests on keep-alive connections: as many as wrk gets answered, and latency at a fixed rate.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::compare::Case;
use crate::compare::lab::Lab;
use crate::compare::outcome::{Trial, Unit};
use crate::generator::http_load::{Load, Plan};
use crate::generator::http_run::HttpRun;
use crate::generator::latency::Summary;
use crate::measure::process::cpu_seconds;
use crate::server::HOST;
use crate::server::variant::Variant;

/// The comparison.
pub(crate) struct Http;

/// A short document that ejabberd makes in memory (XEP-0156): the server's work is nearly all connection
/// handling. A file would mostly measure reading files.
pub(crate) const ROUTE: &str = "/host-meta";

const CONNECTIONS: [usize; 3] = [1, 100, 1000];
/// The rate of the latency measurement, about a quarter of what two cores serve.
const FIXED_RATE: f64 = 5000.0;
const FIXED_CONNECTIONS: usize = 100;

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
             connections for {} s each. Latency: {FIXED_RATE} requests a second on {FIXED_CONNECTIONS} \
             connections for {} s, counted from the time at which a request was due.",
            lab.pick(4, 15),
            lab.pick(5, 15)
        )
    }

    fn measure(&self, lab: &Lab<'_>, variant: &Variant, trial: &mut Trial) -> Result<()> {
        let server = lab.start(variant, 2000)?;
        for connections in CONNECTIONS {
            let bar = lab.bar(format!("{}: wrk, {connections} connections", variant.name), 1);
            let cpu = cpu_seconds(server.pid())?;
            let figures = wrk(server.http, connections, lab.pick(4, 15))?;
            let cpu = cpu_seconds(server.pid())? - cpu;
            bar.finish_and_clear();
            let each = cpu * 1e6 / (figures.answered.max(1) as f64);
            trial.add(format!("requests, {connections} connections"), Unit::PerSecond, figures.rate);
            trial.add(format!("CPU a request, {connections} connections"), Unit::Microseconds, each);
            trial.failed(figures.failures());
            trial.keep(&format!("wrk, {connections} connections"), &figures);
        }
        fixed_rate(trial, lab, variant, server.http)?;
        Ok(())
    }
}

fn fixed_rate(trial: &mut Trial, lab: &Lab<'_>, variant: &Variant, target: SocketAddr) -> Result<()> {
    let long = Duration::from_secs(lab.pick(5, 15));
    let plan = Plan {
        connections: FIXED_CONNECTIONS,
        ramp: 1000.0,
        request: request(target),
        load: Load::Fixed(FIXED_RATE, long),
        patience: Duration::from_secs(20),
    };
    let bar = lab.bar(format!("{}: {FIXED_RATE} requests a second", variant.name), 1);
    let (outcome, failures) = HttpRun::start(&plan, target)?.finish()?;
    bar.finish_and_clear();
    let latency = Summary::of(&outcome.latency);
    trial.add("latency p50 at a fixed rate", Unit::Milliseconds, latency.p50);
    trial.add("latency p99 at a fixed rate", Unit::Milliseconds, latency.p99);
    trial.failed(failures);
    trial.keep("latency at a fixed rate", &latency);
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
