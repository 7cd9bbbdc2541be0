//! BOSH requests: pings to the server, each the next one's cue, over polls and second connections.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::client::user::Transport;
use crate::compare::Case;
use crate::compare::lab::Lab;
use crate::compare::outcome::{Trial, Unit};
use crate::generator::crowd_run::CrowdRun;
use crate::generator::latency::Summary;
use crate::generator::orders::{Kind, Rate};
use crate::measure::process::cpu_seconds;
use crate::server::variant::Variant;

/// The comparison.
pub(crate) struct Bosh;

const USERS: [usize; 3] = [1, 20, 200];

impl Bosh {
    fn measure_users(lab: &Lab<'_>, variant: &Variant, users: usize, trial: &mut Trial) -> Result<()> {
        let long = Duration::from_secs(lab.pick(4, 15));
        let (server, members) = lab.start_with_accounts(variant, Transport::Bosh, users)?;
        let run = CrowdRun::start(&members)?;
        let online = lab.log_everybody_in(&run, &variant.name, users);
        let bar = lab.bar(format!("{}: pings of {users}", variant.name), 0);
        let ping = |long| run.traffic(Kind::Ping, Rate::Closed, long, "", |n| bar.set_position(n));
        let warmed = ping(Duration::from_secs(1));
        // A ping right behind the polls that follow the last answers may overtake them (see Client::settle).
        lab.settle("between", Duration::from_secs(1));
        let before = cpu_seconds(server.pid());
        let report = ping(long);
        let after = cpu_seconds(server.pid());
        bar.finish_and_clear();
        trial.failed(run.finish()?);
        online.and(warmed)?;
        let (report, cpu) = (report?, after? - before?);
        if report.done == 0 {
            bail!("no ping was answered");
        }
        let rate = report.done as f64 / report.elapsed.as_secs_f64().max(f64::EPSILON);
        let latency = Summary::of(&report.latency);
        trial.add(format!("{users} users: pings"), Unit::PerSecond, rate);
        trial.add(format!("{users} users: p50"), Unit::Milliseconds, latency.p50);
        trial.add(format!("{users} users: p99"), Unit::Milliseconds, latency.p99);
        trial.add(
            format!("{users} users: CPU a ping"),
            Unit::Microseconds,
            cpu * 1e6 / report.done.max(1) as f64,
        );
        trial.keep(&format!("{users} users: latency"), &latency);
        Ok(())
    }
}

impl Case for Bosh {
    fn name(&self) -> &'static str {
        "bosh"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        format!(
            "{USERS:?} users on BOSH ping the server for {} s, each as soon as its last ping is answered: \
             about a request for each ping.",
            lab.pick(4, 15)
        )
    }

    fn measure(&self, lab: &Lab<'_>, variant: &Variant) -> Result<Trial> {
        let mut trial = Trial::default();
        for users in USERS {
            if let Err(error) = Self::measure_users(lab, variant, users, &mut trial) {
                trial.lose(&format!("{users} users"), &error);
            }
        }
        Ok(trial)
    }
}
