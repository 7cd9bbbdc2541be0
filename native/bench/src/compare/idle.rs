//! What an idle keep-alive HTTP connection costs the server.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::compare::case::Case;
use crate::compare::figure::Unit;
use crate::compare::lab::Lab;
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::compare::{http, rounds};
use crate::generator::http_load::{Load, Plan};
use crate::generator::http_run::HttpRun;
use crate::measure::{PerUser, Snapshot};
use crate::server::variant::Variant;

/// The comparison.
pub(crate) struct Idle;

/// Kernel bytes of an established socket without data: nothing in user space can be cheaper.
pub(crate) const KERNEL_BYTES_A_SOCKET: f64 = 3800.0;

const CONNECTIONS: usize = 10_000;

/// Seconds until a node that has just started gives nothing more back.
pub(crate) const SETTLE_BEFORE: u64 = 20;

impl Idle {
    fn settle_seconds(lab: &Lab<'_>) -> u64 {
        lab.pick(5, 20)
    }

    fn measure(lab: &Lab<'_>, variant: &Variant, trial: &mut Trial) -> Result<()> {
        let connections = lab.options.users.unwrap_or(CONNECTIONS);
        let mut server = lab.start(variant, connections)?;
        let target = server.http;
        let plan = |connections| Plan {
            connections,
            ramp: 1500.0,
            request: http::request(target),
            load: Load::Idle,
            patience: Duration::from_secs(20),
        };
        // The first connections load code and grow tables; that is no cost of a connection.
        let warm = HttpRun::start(&plan(200), target)?;
        warm.wait_until_open(|_| ());
        trial.failed(warm.finish()?.1);
        // Also in a quick run: what the node gives back of its start-up meanwhile is no gain of the connections.
        let before = lab.settled(&mut server, SETTLE_BEFORE)?;
        let run = HttpRun::start(&plan(connections), target)?;
        let bar = lab.bar(format!("{} idle connections", variant.name), connections as u64);
        run.wait_until_open(|count| bar.set_position(count));
        bar.finish_and_clear();
        let after = lab.settled(&mut server, Self::settle_seconds(lab));
        let opened = run.opened();
        trial.failed(run.finish()?.1);
        let after = after?;
        if opened == 0 {
            bail!("no connection could be opened: {:?}", trial.failures);
        }
        add_memory(trial, "", &before, &after, opened);
        Ok(())
    }
}

impl Case for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        format!(
            "{} keep-alive HTTP connections, each idle after one answered request. Memory is measured \
             when the VM's memory no longer changes, at least {} s after the last connection, and {SETTLE_BEFORE} s after some first ones have gone, {}.",
            lab.options.users.unwrap_or(CONNECTIONS),
            Self::settle_seconds(lab),
            lab.garbage()
        )
    }

    fn run(&mut self, lab: &Lab<'_>, outcome: &mut CaseOutcome) -> Result<()> {
        rounds::restart(lab, outcome, |variant, trial| Self::measure(lab, variant, trial));
        Ok(())
    }
}

/// Adds what each of `users` added to the server, under names that begin with `prefix`.
/// Says how many bytes that is all-in.
pub(crate) fn add_memory(
    trial: &mut Trial,
    prefix: &str,
    before: &Snapshot,
    after: &Snapshot,
    users: usize,
) -> f64 {
    let each = PerUser::between(before, after, users);
    trial.add(format!("{prefix}Erlang processes"), Unit::Count, each.processes);
    trial.add(format!("{prefix}Erlang ports"), Unit::Count, each.ports);
    trial.add(format!("{prefix}BEAM bytes (own count)"), Unit::Bytes, each.beam);
    trial.add(format!("{prefix}resident bytes"), Unit::Bytes, each.resident);
    if let Some(ecm) = each.ecm {
        trial.add(format!("{prefix}resident bytes of the connection manager"), Unit::Bytes, ecm);
    }
    trial.add(format!("{prefix}bytes from malloc (Rust)"), Unit::Bytes, each.malloc);
    trial.add(format!("{prefix}kernel bytes"), Unit::Bytes, each.kernel).against(KERNEL_BYTES_A_SOCKET);
    trial.add(format!("{prefix}all-in bytes"), Unit::Bytes, each.all_in).against(KERNEL_BYTES_A_SOCKET);
    trial.notes.push(format!("kernel memory by {:?}", after.kernel.source));
    for (when, snapshot) in [("before", before), ("after", after)] {
        if !snapshot.is_settled {
            trial.notes.push(format!("{prefix}memory {when} they came had not come to rest"));
        }
    }
    trial.keep(&format!("{prefix}before"), before);
    trial.keep(&format!("{prefix}after"), after);
    each.all_in
}
