//! Users who are online send and answer for a while: how fast, how late, and what it costs.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::compare::figure::Unit;
use crate::compare::lab::Lab;
use crate::compare::outcome::Trial;
use crate::compare::site::Online;
use crate::generator::latency::Summary;
use crate::generator::orders::{Kind, Rate};
use crate::measure::machine::{Meter, Usage};
use crate::measure::process;

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
    /// Messages that arrived, or pings that were answered.
    pub(crate) done: u64,
    /// Those that were sent.
    pub(crate) sent: u64,
    /// Until the last of them.
    pub(crate) seconds: f64,
    pub(crate) latency: Summary,
    /// Who used the processors from the first one that counts until none was waited for, which is later where some
    /// get lost.
    pub(crate) usage: Usage,
    /// How long the server's threads ran in that time, more exactly than in `usage`.
    pub(crate) ran: Duration,
}

/// Between the messages that do not count and those that do. What BOSH clients send right behind the polls that
/// follow the last answers may overtake them (see Client::settle).
const PAUSE: Duration = Duration::from_millis(500);

/// Carries out `plan` with the users who are `online`.
///
/// # Errors
/// When nothing arrived, or the server or a worker is gone; what gets lost on the way is counted by the run.
pub(crate) fn measure(lab: &Lab<'_>, online: &Online<'_>, plan: &Plan<'_>) -> Result<Flow> {
    warm(online, plan)?;
    lab.settle("between", PAUSE);
    timed(lab, online, plan)
}

/// The part of `plan` that does not count.
///
/// # Errors
/// When a worker is gone.
pub(crate) fn warm(online: &Online<'_>, plan: &Plan<'_>) -> Result<()> {
    online.run.traffic(plan.kind, plan.rate, plan.warm, plan.body, |_| ())?;
    Ok(())
}

/// The part of `plan` that counts.
///
/// # Errors
/// As [`measure`].
pub(crate) fn timed(lab: &Lab<'_>, online: &Online<'_>, plan: &Plan<'_>) -> Result<Flow> {
    let expected = match plan.rate {
        Rate::Fixed(rate) => (rate * plan.long.as_secs_f64()) as u64,
        Rate::Closed => 0,
    };
    let bar = lab.bar(format!("{}: traffic", online.label), expected);
    let meter = Meter::start(online.server.pids())?;
    let ran = process::run_time(&online.server.pids())?;
    let report =
        online.run.traffic(plan.kind, plan.rate, plan.long, plan.body, |count| bar.set_position(count))?;
    let ran = process::run_time(&online.server.pids())?.saturating_sub(ran);
    let usage = meter.stop()?;
    bar.finish_and_clear();
    if report.done == 0 {
        bail!("nothing that was sent arrived");
    }
    let seconds = report.elapsed.as_secs_f64().max(f64::EPSILON);
    Ok(Flow {
        done: report.done,
        sent: report.sent,
        seconds,
        latency: Summary::of(&report.latency),
        usage,
        ran,
    })
}

impl Flow {
    /// Adds the readings, under names that begin with `prefix`; what was sent are `things`, one is a `thing`.
    pub(crate) fn report(&self, trial: &mut Trial, prefix: &str, thing: &str) {
        trial.disturbed_by(self.usage.others);
        trial.add(format!("{prefix}{thing}s"), Unit::PerSecond, self.done as f64 / self.seconds);
        trial.add_latency(prefix, &self.latency);
        let cpu = self.usage.server * 1e6 / self.done as f64;
        trial.add(format!("{prefix}CPU a {thing}"), Unit::Microseconds, cpu);
        trial.add(format!("{prefix}server's cores in use"), Unit::Cores, self.usage.server / self.seconds);
        trial.add(format!("{prefix}generator's cores in use"), Unit::Cores, self.usage.own / self.seconds);
    }
}
