//! BOSH requests: pings to the server, each the next one's cue, over polls and second connections.

use std::time::Duration;

use anyhow::Result;

use crate::client::user::Transport;
use crate::compare::case::Case;
use crate::compare::flow::{self, Plan};
use crate::compare::lab::Lab;
use crate::compare::outcome::CaseOutcome;
use crate::compare::rounds;
use crate::compare::site::{Site, with_everybody_online};
use crate::generator::orders::{Kind, Rate};

/// The comparison.
pub(crate) struct Bosh;

const USERS: [usize; 3] = [1, 20, 200];

impl Bosh {
    fn seconds(lab: &Lab<'_>) -> u64 {
        lab.pick(2, 5)
    }

    fn measure(lab: &Lab<'_>, sites: &mut [Site], users: usize, outcome: &mut CaseOutcome) -> Result<()> {
        let plan = Plan {
            kind: Kind::Ping,
            rate: Rate::Closed,
            body: "",
            warm: Duration::from_secs(1),
            long: Duration::from_secs(Self::seconds(lab)),
        };
        let prefix = format!("{users} users: ");
        let mut trials = lab.trials();
        let result = with_everybody_online(lab, sites, users, &prefix, &mut trials, |online| {
            rounds::alternate(lab, &format!("{users} users"), outcome, |variant, trial| {
                flow::measure(lab, &online[variant], &plan)?.report(trial, &prefix, "ping");
                Ok(())
            });
            Ok(())
        });
        lab.keep(outcome, trials);
        result
    }
}

impl Case for Bosh {
    fn name(&self) -> &'static str {
        "bosh"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        format!(
            "{USERS:?} users on BOSH ping the server in windows of {} s, each as soon as its last ping is \
             answered: about a request for each ping.",
            Self::seconds(lab)
        )
    }

    fn run(&mut self, lab: &Lab<'_>, outcome: &mut CaseOutcome) -> Result<()> {
        let most = USERS.into_iter().max().unwrap_or_default();
        let mut sites = Site::start_all(lab, Transport::Bosh, most)?;
        for users in USERS {
            if let Err(error) = Self::measure(lab, &mut sites, users, outcome) {
                outcome.lose(&format!("{users} users"), &error);
            }
        }
        Ok(())
    }
}
