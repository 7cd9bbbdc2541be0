//! How many users log in a second, and what a login costs the server.

use anyhow::{Result, bail};

use crate::client::user::Transport;
use crate::compare::case::Case;
use crate::compare::figure::Unit;
use crate::compare::lab::Lab;
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::compare::rounds;
use crate::compare::site::Site;
use crate::compare::target::{Bound, Target};
use crate::generator::crowd_run::CrowdRun;
use crate::generator::latency::Summary;
use crate::generator::orders::Arrival;
use crate::measure::machine::Meter;

/// The comparison.
pub(crate) struct Logins;

/// Logins in progress at any time: enough to keep two cores busy, few enough for a backlog of 5 to be the
/// only thing in their way.
const AT_ONCE: usize = 32;
/// A user who is turned away has failed: to take logins is what is measured.
const ARRIVAL: Arrival = Arrival { ramp: f64::INFINITY, at_once: AT_ONCE, retries: 0 };
/// Users who log out a second when they have been measured.
const DEPARTURES: f64 = 2000.0;

impl Logins {
    fn users(lab: &Lab<'_>) -> usize {
        lab.options.users.unwrap_or(lab.pick(2000, 6000))
    }

    fn measure(lab: &Lab<'_>, transport: Transport, outcome: &mut CaseOutcome) -> Result<()> {
        let sites = Site::start_all(lab, transport, Self::users(lab))?;
        for site in &sites {
            // Everybody once, so that tables have grown before the first window as they have before the others.
            Self::window(lab, transport, site, &mut Trial::default())?;
        }
        rounds::alternate(lab, transport.name(), outcome, |variant, trial| {
            Self::window(lab, transport, &sites[variant], trial)
        });
        Ok(())
    }

    /// Everybody logs in, which is measured, and out again.
    fn window(lab: &Lab<'_>, transport: Transport, site: &Site, trial: &mut Trial) -> Result<()> {
        let (name, users) = (transport.name(), Self::users(lab));
        let bar = lab.bar(format!("{}: log in", site.label), users as u64);
        let run = CrowdRun::start(&site.crowd(users))?;
        let meter = Meter::start(site.server.pids())?;
        let report = run.log_in(ARRIVAL, |count| bar.set_position(count))?;
        let usage = meter.stop()?;
        bar.finish_and_clear();
        run.log_out(DEPARTURES, |_| ())?;
        trial.failed(run.finish()?);
        trial.disturbed_by(usage.others);
        if report.done == 0 {
            bail!("nobody could log in");
        }
        let latency = Summary::of(&report.latency);
        let rate = report.done as f64 / report.elapsed.as_secs_f64().max(f64::EPSILON);
        trial.add(format!("{name}: users who failed"), Unit::Whole, users as f64 - report.done as f64);
        trial.add(format!("{name}: logins"), Unit::PerSecond, rate);
        let cpu = usage.server * 1e6 / report.done as f64;
        trial.add(format!("{name}: CPU a login"), Unit::Microseconds, cpu);
        trial.add_latency(&format!("{name}: login "), &latency);
        Ok(())
    }
}

impl Case for Logins {
    fn name(&self) -> &'static str {
        "logins"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        format!(
            "In each window {} users log in by SASL PLAIN (passwords are stored as they are), {AT_ONCE} at a \
             time, each as soon as another one's initial presence has come back. Nobody tries twice. They have \
             logged in and out once before.",
            Self::users(lab)
        )
    }

    fn targets(&self) -> Vec<Target> {
        let most = [(Transport::Tcp, 0.7), (Transport::Ws, 0.7), (Transport::Bosh, 0.55)];
        most.map(|(transport, ratio)| {
            Target::new(format!("{}: CPU a login", transport.name()), Bound::RatioAtMost(ratio))
        })
        .to_vec()
    }

    fn run(&mut self, lab: &Lab<'_>, outcome: &mut CaseOutcome) -> Result<()> {
        for transport in &lab.options.transports {
            if let Err(error) = Self::measure(lab, *transport, outcome) {
                outcome.lose(transport.name(), &error);
            }
        }
        Ok(())
    }
}
