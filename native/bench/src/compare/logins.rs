//! How many users log in a second, and what a login costs the server.

use anyhow::{Result, bail};

use crate::client::user::Transport;
use crate::compare::Case;
use crate::compare::lab::Lab;
use crate::compare::outcome::{Trial, Unit};
use crate::compare::target::{Bound, Target};
use crate::generator::latency::Summary;
use crate::generator::orders::Arrival;
use crate::measure::process::cpu_seconds;
use crate::server::variant::Variant;

/// The comparison.
pub(crate) struct Logins;

/// Logins in progress at any time: enough to keep two cores busy, few enough for a backlog of 5 to be the
/// only thing in their way.
const AT_ONCE: usize = 32;
/// A user who is turned away has failed: to take logins is what is measured.
const ARRIVAL: Arrival = Arrival { ramp: f64::INFINITY, at_once: AT_ONCE, retries: 0 };

impl Logins {
    fn users(lab: &Lab<'_>) -> usize {
        lab.options.users.unwrap_or(lab.pick(2000, 8000))
    }

    fn measure_transport(
        lab: &Lab<'_>,
        variant: &Variant,
        transport: Transport,
        trial: &mut Trial,
    ) -> Result<()> {
        let name = transport.name();
        let users = Self::users(lab);
        let mut site = lab.start_with_accounts(variant, transport, users)?;
        let bar = lab.bar(format!("{}: log in", site.label), users as u64);
        let (report, cpu) = site.with_users(trial, |server, run, _| {
            let before = cpu_seconds(server.pid())?;
            let report = run.log_in(ARRIVAL, |count| bar.set_position(count))?;
            Ok((report, cpu_seconds(server.pid())? - before))
        })?;
        bar.finish_and_clear();
        if report.done == 0 {
            bail!("nobody could log in");
        }
        trial.add(format!("{name}: users who failed"), Unit::Whole, users as f64 - report.done as f64);
        let latency = Summary::of(&report.latency);
        let rate = report.done as f64 / report.elapsed.as_secs_f64().max(f64::EPSILON);
        trial.add(format!("{name}: logins"), Unit::PerSecond, rate);
        trial.add(format!("{name}: CPU a login"), Unit::Microseconds, cpu * 1e6 / report.done.max(1) as f64);
        trial.add(format!("{name}: login p50"), Unit::Milliseconds, latency.p50);
        trial.add(format!("{name}: login p99"), Unit::Milliseconds, latency.p99);
        trial.keep(&format!("{name}: login latency"), &latency);
        Ok(())
    }
}

impl Case for Logins {
    fn name(&self) -> &'static str {
        "logins"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        format!(
            "{} users log in by SASL PLAIN (passwords are stored as they are), {AT_ONCE} at a time, each as \
             soon as another one's initial presence has come back. Nobody tries twice.",
            Self::users(lab)
        )
    }

    fn targets(&self) -> Vec<Target> {
        let least = [(Transport::Tcp, 1.2), (Transport::Ws, 2.0), (Transport::Bosh, 2.0)];
        least
            .map(|(transport, ratio)| {
                Target::new(format!("{}: logins", transport.name()), Bound::RatioAtLeast(ratio))
            })
            .to_vec()
    }

    fn measure(&self, lab: &Lab<'_>, variant: &Variant, trial: &mut Trial) -> Result<()> {
        lab.each_transport(trial, |transport, trial| Self::measure_transport(lab, variant, transport, trial));
        Ok(())
    }
}
