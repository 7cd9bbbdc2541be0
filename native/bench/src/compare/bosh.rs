//! BOSH requests: pings to the server, each the next one's cue, over polls and second connections.

use std::time::Duration;

use anyhow::Result;

use crate::client::user::Transport;
use crate::compare::Case;
use crate::compare::flow::{self, Plan};
use crate::compare::lab::Lab;
use crate::compare::outcome::Trial;
use crate::generator::orders::{Kind, Rate};
use crate::server::variant::Variant;

/// The comparison.
pub(crate) struct Bosh;

const USERS: [usize; 3] = [1, 20, 200];

impl Bosh {
    fn measure_users(lab: &Lab<'_>, variant: &Variant, users: usize, trial: &mut Trial) -> Result<()> {
        let plan = Plan {
            kind: Kind::Ping,
            rate: Rate::Closed,
            body: "",
            warm: Duration::from_secs(1),
            long: Duration::from_secs(lab.pick(4, 15)),
        };
        let mut site = lab.start_with_accounts(variant, Transport::Bosh, users)?;
        let prefix = format!("{users} users: ");
        let flow =
            site.with_everybody_online(lab, &prefix, trial, |online| flow::measure(lab, &online, &plan))?;
        flow.report(trial, &prefix, "ping");
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

    fn measure(&self, lab: &Lab<'_>, variant: &Variant, trial: &mut Trial) -> Result<()> {
        for users in USERS {
            if let Err(error) = Self::measure_users(lab, variant, users, trial) {
                trial.lose(&format!("{users} users"), &error);
            }
        }
        Ok(())
    }
}
