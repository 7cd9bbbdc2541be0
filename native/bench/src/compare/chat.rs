//! Messages between users at a fixed rate: how late they arrive, and what they cost the server.

use std::collections::BTreeMap;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::client::user::Transport;
use crate::compare::Case;
use crate::compare::flow::{self, Flow, Plan};
use crate::compare::lab::{Lab, Online};
use crate::compare::outcome::Trial;
use crate::compare::target::{Bound, Target};
use crate::generator::orders::{BODY, Kind, Rate};
use crate::server::variant::{STOCK, Variant};

/// The comparison. It has one rate for each transport, the same for all variants and rounds.
#[derive(Default)]
pub(crate) struct Chat {
    rates: BTreeMap<&'static str, f64>,
}

/// A rate is searched for by so many probes at most,
const PROBES: u32 = 6;
/// until the load is so close to what was asked for, as a part of all processors.
const CLOSE: f64 = 0.03;

/// The part of a rate that has to arrive in time for it to count as kept.
const KEPT: f64 = 0.9;

/// A rate that was tried on stock ejabberd, and what came of it.
#[derive(Debug, Clone, Copy, Serialize)]
struct Probe {
    /// Messages a second.
    rate: f64,
    /// The part of all processors that server and generator kept busy, at least 1 when the rate was not kept.
    load: f64,
    /// The server's part in that.
    server: f64,
}

impl Chat {
    fn users(lab: &Lab<'_>) -> usize {
        lab.options.users.unwrap_or(lab.pick(500, 2000))
    }

    fn plan(rate: f64, seconds: u64) -> Plan<'static> {
        Plan {
            kind: Kind::Chat,
            rate: Rate::Fixed(rate),
            body: BODY,
            warm: Duration::from_secs(2),
            long: Duration::from_secs(seconds),
        }
    }

    fn measure_transport(
        &self,
        lab: &Lab<'_>,
        variant: &Variant,
        transport: Transport,
        trial: &mut Trial,
    ) -> Result<()> {
        let rate = *self.rates.get(transport.name()).context("no rate was found")?;
        let plan = Self::plan(rate, lab.pick(5, 20));
        let mut site = lab.start_with_accounts(variant, transport, Self::users(lab))?;
        let prefix = format!("{}: ", transport.name());
        let flow =
            site.with_everybody_online(lab, &prefix, trial, |online| flow::measure(lab, &online, &plan))?;
        flow.report(trial, &prefix, "message");
        Ok(())
    }

    /// The rate at which stock ejabberd and the generator load the machine as asked for.
    fn calibrate(lab: &Lab<'_>, transport: Transport, trial: &mut Trial) -> Result<f64> {
        let stock = Variant::named(STOCK)?;
        let mut site = lab.start_with_accounts(&stock, transport, Self::users(lab))?;
        let prefix = format!("{}: ", transport.name());
        let aim = f64::from(lab.options.load) / 100.0;
        let found = site.with_everybody_online(lab, &prefix, trial, |online| {
            search(first_rate(transport), aim, |rate| Self::probe(lab, &online, rate))
        })?;
        trial.notes.push(format!(
            "{prefix}{:.0} messages a second load the machine to {:.0} %, of which {:.0} % are the server's",
            found.rate,
            found.load * 100.0,
            found.server * 100.0
        ));
        trial.keep(&format!("{prefix}calibration"), found);
        Ok(found.rate)
    }

    fn probe(lab: &Lab<'_>, online: &Online<'_>, rate: f64) -> Result<Probe> {
        eprintln!("chat: {} at {rate:.0} messages a second", online.label);
        let flow: Flow = flow::measure(lab, online, &Self::plan(rate, lab.pick(4, 8)))?;
        let cores = available_parallelism()?.get() as f64;
        let (server, own) = (flow.server_cores / cores, flow.own_cores / cores);
        // What does not arrive as fast as it is sent is more than the machine can take, also when it looks idle:
        // somebody else has the processors.
        let load = if flow.rate < rate * KEPT { (server + own).max(1.0) } else { server + own };
        Ok(Probe { rate, load, server })
    }
}

/// Probes rates, from `first` on, until one comes close to the load `aim`; the closest of all.
///
/// The load is no straight line: the busier a server, the more it does at a time.
fn search(first: f64, aim: f64, mut probe: impl FnMut(f64) -> Result<Probe>) -> Result<Probe> {
    let distance = |probe: &Probe| (probe.load - aim).abs();
    let mut best = probe(first)?;
    let mut last = best;
    for _ in 1..PROBES {
        if distance(&best) <= CLOSE {
            break;
        }
        // A machine that is full shows no load above 1, however far the rate is beyond it.
        let factor = (aim / last.load.max(0.01)).clamp(0.5, 2.0);
        last = probe((last.rate * factor).round())?;
        if distance(&last) < distance(&best) {
            best = last;
        }
    }
    Ok(best)
}

/// Messages a second to begin the search with: well within what two cores can take.
fn first_rate(transport: Transport) -> f64 {
    match transport {
        Transport::Tcp => 3000.0,
        Transport::Ws => 2500.0,
        Transport::Bosh => 1000.0,
    }
}

impl Case for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        let rates: Vec<String> =
            self.rates.iter().map(|(transport, rate)| format!("{transport} {rate:.0}")).collect();
        let origin = match lab.options.rate {
            Some(_) => "as asked for".to_owned(),
            None => format!(
                "at which stock ejabberd and the generator together keep about {} % of all processors busy",
                lab.options.load
            ),
        };
        format!(
            "{} users send each other messages of {} characters for {} s at a fixed rate a second ({}; {origin}). \
             Latency: from the time at which a message was due until its receiver has read it.",
            Self::users(lab),
            BODY.len(),
            lab.pick(5, 20),
            rates.join(", ")
        )
    }

    fn prepare(&mut self, lab: &Lab<'_>, trial: &mut Trial) -> Result<()> {
        lab.each_transport(trial, |transport, trial| {
            let rate = match lab.options.rate {
                Some(rate) => rate,
                None => Self::calibrate(lab, transport, trial)?,
            };
            self.rates.insert(transport.name(), rate);
            Ok(())
        });
        Ok(())
    }

    fn targets(&self) -> Vec<Target> {
        let most = [(Transport::Tcp, 1.0), (Transport::Ws, 0.5), (Transport::Bosh, 0.5)];
        most.into_iter()
            .flat_map(|(transport, most)| {
                let name = transport.name();
                [
                    Target::new(format!("{name}: latency p99"), Bound::RatioAtMost(most)),
                    Target::new(format!("{name}: CPU a message"), Bound::RatioAtMost(1.0)),
                ]
            })
            .collect()
    }

    fn measure(&self, lab: &Lab<'_>, variant: &Variant, trial: &mut Trial) -> Result<()> {
        lab.each_transport(trial, |transport, trial| self.measure_transport(lab, variant, transport, trial));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_search_ends_close_to_its_aim() {
        // Half a fixed cost, half a cost of each message.
        let server = |rate: f64| Ok(Probe { rate, load: 0.1 + rate / 10_000.0, server: 0.0 });
        let found = search(500.0, 0.7, server).unwrap();
        assert!((found.load - 0.7).abs() <= CLOSE, "{found:?}");
    }

    #[test]
    fn a_search_gets_down_from_a_machine_that_is_full() {
        let server = |rate: f64| Ok(Probe { rate, load: (rate / 1000.0).min(1.0), server: 0.0 });
        let found = search(4000.0, 0.7, server).unwrap();
        assert!((found.load - 0.7).abs() <= CLOSE, "{found:?}");
    }

    #[test]
    fn a_search_that_finds_nothing_has_the_closest() {
        let mut probes = 0;
        let found = search(1.0, 0.7, |rate| {
            probes += 1;
            Ok(Probe { rate, load: if rate == 2.0 { 0.3 } else { 0.1 }, server: 0.0 })
        });
        assert_eq!((found.unwrap().rate, probes), (2.0, PROBES));
    }
}
