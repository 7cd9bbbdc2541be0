//! What a logged-in user with presence costs the server, over each transport, with contacts or without.

use std::slice;

use anyhow::{Result, bail};

use crate::client::user::Transport;
use crate::compare::case::Case;
use crate::compare::figure::Unit;
use crate::compare::idle::{SETTLE_BEFORE, add_memory};
use crate::compare::lab::{Lab, TRANSPORTS};
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::compare::rounds;
use crate::compare::site::{Site, with_everybody_online};
use crate::compare::target::{Bound, Target};
use crate::measure::{beam, process};
use crate::server::variant::{UNPACKED, Variant};

/// The comparison.
pub(crate) struct Memory {
    /// Mutual contacts of each user, all online.
    contacts: usize,
}

const MEGABYTE: f64 = 1024.0 * 1024.0;

/// With contacts a session holds more, and more differs between sessions. Whether packing pays is then the question.
const MOST_OF_UNPACKED: f64 = 0.6;
/// So many sessions are asked whether they know their contacts.
const ASKED: usize = 100;

/// What a user of Megaphone without contacts may cost: the names of the figures, and the most.
fn most(transport: Transport) -> [(&'static str, f64); 3] {
    let resident = if transport == Transport::Bosh { 5200.0 } else { 4700.0 };
    [("Erlang processes", 1.01), ("resident bytes", resident), ("BEAM bytes (own count)", 3400.0)]
}

impl Memory {
    /// Of users who have so many contacts each.
    pub(crate) fn new(contacts: usize) -> Self {
        Self { contacts }
    }

    fn users(lab: &Lab<'_>) -> usize {
        lab.options.users.unwrap_or(lab.pick(3000, 15_000))
    }

    /// Who the users have around them, for descriptions.
    fn company(&self) -> String {
        match self.contacts {
            0 => String::new(),
            contacts => format!(
                " and {contacts} mutual contacts each, who are online and announce their capabilities (XEP-0115),"
            ),
        }
    }

    fn target(&self, transport: Transport) -> Vec<Target> {
        let name = transport.name();
        if self.contacts > 0 {
            let bound = Bound::PartOf(UNPACKED, MOST_OF_UNPACKED);
            return vec![Target::new(format!("{name}: resident bytes"), bound)];
        }
        let targets = most(transport).into_iter();
        targets.map(|(what, most)| Target::new(format!("{name}: {what}"), Bound::AtMost(most))).collect()
    }

    /// Longer than processes that hibernate wait before they do; where contacts' presence has woken them from their first sleep,
    /// longer than they then sleep before they pack (`pack_after`). A held poll of BOSH ends after 60 s, and is followed by the
    /// next one.
    fn settle_seconds(&self, lab: &Lab<'_>) -> u64 {
        if self.contacts > 0 { 130 } else { lab.pick(15, 30) }
    }

    fn measure_transport(
        &self,
        lab: &Lab<'_>,
        variant: &Variant,
        transport: Transport,
        trial: &mut Trial,
    ) -> Result<()> {
        let users = Self::users(lab);
        let mut site = Site::start_with_contacts(lab, variant, transport, users, self.contacts)?;
        let before = lab.settled(&mut site.server, SETTLE_BEFORE)?;
        let own = process::Figures::take(std::process::id())?;
        let prefix = format!("{}: ", transport.name());
        let (sites, trials) = (slice::from_mut(&mut site), slice::from_mut(trial));
        let (online, after, hibernating, contacts, own) =
            with_everybody_online(lab, sites, users, &prefix, trials, |online| {
                let [online] = online else { bail!("one site has no one crowd") };
                let after = lab.settled(online.server, self.settle_seconds(lab))?;
                // Only now: to be asked may wake a process.
                let hibernating = beam::hibernating(online.server)?;
                let own = process::Figures::take(std::process::id())?.resident - own.resident;
                let contacts = match self.contacts {
                    0 => None,
                    _ => Some(online.server.contacts_online(0, ASKED.min(users))?),
                };
                Ok((online.users, after, hibernating, contacts, own))
            })?;
        if let Some(contacts) = contacts {
            trial.add(format!("{prefix}contacts that a session knows"), Unit::Count, contacts);
        }
        let all_in = add_memory(trial, &prefix, &before, &after, online);
        trial.add(format!("{prefix}hibernating processes"), Unit::Count, hibernating / online as f64);
        trial.add(
            format!("{prefix}resident, the whole VM"),
            Unit::Megabytes,
            after.process.resident / MEGABYTE,
        );
        trial.add(format!("{prefix}all-in, all users"), Unit::Megabytes, all_in * online as f64 / MEGABYTE);
        // Memory that an earlier transport's users left to the allocator is used again: an upper bound at first.
        trial.keep(&format!("{prefix}generator's own bytes a user"), own / online as f64);
        Ok(())
    }
}

impl Case for Memory {
    fn name(&self) -> &'static str {
        if self.contacts > 0 { "memory-contacts" } else { "memory" }
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        format!(
            "{} users with presence{} on each transport, each figure per user unless it says otherwise. Measured \
             when the VM's memory no longer changes, at least {} s after the last login, and {SETTLE_BEFORE} s \
             after some first users have gone, {}.",
            Self::users(lab),
            self.company(),
            self.settle_seconds(lab),
            lab.garbage()
        )
    }

    fn targets(&self) -> Vec<Target> {
        TRANSPORTS.iter().flat_map(|transport| self.target(*transport)).collect()
    }

    fn run(&mut self, lab: &Lab<'_>, outcome: &mut CaseOutcome) -> Result<()> {
        rounds::restart(lab, outcome, |variant, trial| {
            for transport in &lab.options.transports {
                if let Err(error) = self.measure_transport(lab, variant, *transport, trial) {
                    trial.lose(transport.name(), &error);
                }
            }
            Ok(())
        });
        Ok(())
    }
}
