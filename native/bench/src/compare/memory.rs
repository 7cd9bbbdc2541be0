//! What a logged-in user with presence costs the server, over each transport.

use std::time::Duration;

use anyhow::Result;

use crate::client::user::Transport;
use crate::compare::Case;
use crate::compare::idle::add_memory;
use crate::compare::lab::Lab;
use crate::compare::outcome::Trial;
use crate::measure::{Snapshot, process};
use crate::server::variant::Variant;

/// The comparison.
pub(crate) struct Memory;

impl Memory {
    fn users(lab: &Lab<'_>) -> usize {
        lab.options.users.unwrap_or(lab.pick(3000, 15_000))
    }

    /// A held poll of BOSH ends after 60 s: memory is measured while each is still in its first.
    fn settle_seconds(lab: &Lab<'_>) -> u64 {
        lab.pick(8, 30)
    }

    fn measure_transport(
        lab: &Lab<'_>,
        variant: &Variant,
        transport: Transport,
        trial: &mut Trial,
    ) -> Result<()> {
        let users = Self::users(lab);
        let mut site = lab.start_with_accounts(variant, transport, users)?;
        lab.settle("before", Duration::from_secs(Self::settle_seconds(lab)));
        let before = Snapshot::take(&mut site.server)?;
        let own = process::Figures::take(std::process::id())?;
        let prefix = format!("{}: ", transport.name());
        let (online, after, own) = site.with_everybody_online(lab, &prefix, trial, |online| {
            let after = lab.settled(online.server, Self::settle_seconds(lab))?;
            Ok((online.users, after, process::Figures::take(std::process::id())?.resident - own.resident))
        })?;
        add_memory(trial, &prefix, &before, &after, online);
        // Memory that an earlier transport's users left to the allocator is used again: an upper bound at first.
        trial.keep(&format!("{prefix}generator's own bytes a user"), own / online as f64);
        Ok(())
    }
}

impl Case for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        format!(
            "{} users with presence on each transport, each figure per user. Measured {} s after the last \
             login, {}.",
            Self::users(lab),
            Self::settle_seconds(lab),
            lab.garbage()
        )
    }

    fn measure(&self, lab: &Lab<'_>, variant: &Variant) -> Result<Trial> {
        Ok(lab
            .each_transport(|lab, transport, trial| Self::measure_transport(lab, variant, transport, trial)))
    }
}
