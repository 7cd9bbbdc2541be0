//! Users who are online send and answer for a while: how fast, how late, and what it costs.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::compare::lab::{Lab, Online};
use crate::compare::outcome::{Trial, Unit};
use crate::generator::latency::Summary;
use crate::generator::orders::{Kind, Rate};
use crate::measure::process::cpu_seconds;

/// What is sent, and for how long.
pub(crate) struct Plan<'a> {
    pub(crate) kind: Kind,
    pub(crate) rate: Rate,
    pub(crate) body: &'a str,
    /// How long it is done before it counts: the first messages pay for what is grown once.
    pub(crate) warm: Duration,
    pub(crate) long: Duration,
}

/// What came of it.
pub(crate) struct Flow {
    /// Messages that arrived, or pings that were answered, a second.
    pub(crate) rate: f64,
    pub(crate) latency: Summary,
    /// Processor time of the server for each of them, user and system, in microseconds.
    pub(crate) cpu_each: f64,
    /// Processors that the server kept busy.
    pub(crate) server_cores: f64,
    /// Processors that the generator kept busy.
    pub(crate) own_cores: f64,
}

/// Carries out `plan` with the users who are `online`.
///
/// # Errors
/// When nothing arrived, or the server or a worker is gone; what gets lost on the way is counted by the run.
pub(crate) fn measure(lab: &Lab<'_>, online: &Online<'_>, plan: &Plan<'_>) -> Result<Flow> {
    let (server, run) = (&*online.server, online.run);
    let expected = match plan.rate {
        Rate::Fixed(rate) => (rate * plan.long.as_secs_f64()) as u64,
        Rate::Closed => 0,
    };
    let bar = lab.bar(format!("{}: traffic", online.label), expected);
    let send = |long| run.traffic(plan.kind, plan.rate, long, plan.body, |n| bar.set_position(n));
    send(plan.warm)?;
    // What BOSH clients send right behind the polls that follow the last answers may overtake them (see
    // Client::settle).
    lab.settle("between", Duration::from_secs(1));
    let before = (cpu_seconds(server.pid())?, cpu_seconds(std::process::id())?);
    let report = send(plan.long)?;
    let server_cpu = cpu_seconds(server.pid())? - before.0;
    let own_cpu = cpu_seconds(std::process::id())? - before.1;
    bar.finish_and_clear();
    if report.done == 0 {
        bail!("nothing that was sent arrived");
    }
    let seconds = report.elapsed.as_secs_f64().max(f64::EPSILON);
    Ok(Flow {
        rate: report.done as f64 / seconds,
        latency: Summary::of(&report.latency),
        cpu_each: server_cpu * 1e6 / report.done as f64,
        server_cores: server_cpu / seconds,
        own_cores: own_cpu / seconds,
    })
}

impl Flow {
    /// Adds the readings, under names that begin with `prefix`; what was sent are `things`, one is a `thing`.
    pub(crate) fn report(&self, trial: &mut Trial, prefix: &str, thing: &str) {
        let latency = &self.latency;
        trial.add(format!("{prefix}{thing}s"), Unit::PerSecond, self.rate);
        trial.add(format!("{prefix}latency p50"), Unit::Milliseconds, latency.p50);
        trial.add(format!("{prefix}latency p90"), Unit::Milliseconds, latency.p90);
        trial.add(format!("{prefix}latency p99"), Unit::Milliseconds, latency.p99);
        trial.add(format!("{prefix}latency p99.9"), Unit::Milliseconds, latency.p999);
        trial.add(format!("{prefix}CPU a {thing}"), Unit::Microseconds, self.cpu_each);
        trial.add(format!("{prefix}server's cores in use"), Unit::Cores, self.server_cores);
        trial.add(format!("{prefix}generator's cores in use"), Unit::Cores, self.own_cores);
        trial.keep(&format!("{prefix}latency"), latency);
    }
}
