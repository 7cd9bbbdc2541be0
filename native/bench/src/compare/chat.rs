//! Messages between users at a fixed rate: how late they arrive, and what they cost the server.

use std::collections::BTreeMap;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::client::user::Transport;
use crate::compare::case::Case;
use crate::compare::flow::{self, Plan};
use crate::compare::lab::Lab;
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::compare::rounds;
use crate::compare::schedule::DISTURBING;
use crate::compare::site::{Online, Site, with_everybody_online};
use crate::compare::target::{Bound, Target};
use crate::generator::orders::{BODY, Kind, Rate};
use crate::measure::machine::Usage;
use crate::server::variant::{STOCK, Variant};

/// The comparison. It has one rate for each transport, the same for all variants and windows.
#[derive(Default)]
pub(crate) struct Chat {
    rates: BTreeMap<&'static str, f64>,
}

/// Whose trial the search for a rate is, which is no variant's.
const PREPARATION: &str = "preparation";

/// A rate is searched for by so many probes at most,
const PROBES: u32 = 6;
/// until the load is so close to what was asked for, as a part of all processors.
const CLOSE: f64 = 0.03;

/// So many more when other programs disturb some.
const SPARE_PROBES: u32 = 6;

/// A rate that was tried on stock ejabberd, and what came of it.
#[derive(Debug, Clone, Copy, Serialize)]
struct Probe {
    /// Messages a second.
    rate: f64,
    /// The part of all processors that server and generator need for it.
    load: f64,
    /// The server's part in that.
    server: f64,
    /// Cores that other programs kept busy.
    others: f64,
}

impl Chat {
    fn users(lab: &Lab<'_>) -> usize {
        lab.options.users.unwrap_or(lab.pick(500, 2000))
    }

    fn seconds(lab: &Lab<'_>) -> u64 {
        lab.pick(3, 10)
    }

    fn plan(lab: &Lab<'_>, rate: f64, seconds: u64) -> Plan<'static> {
        Plan {
            kind: Kind::Chat,
            rate: Rate::Fixed(rate),
            body: BODY,
            warm: Duration::from_secs(lab.pick(1, 2)),
            long: Duration::from_secs(seconds),
        }
    }

    /// All variants' users stay online throughout; only one variant's send at a time.
    fn measure(&mut self, lab: &Lab<'_>, transport: Transport, outcome: &mut CaseOutcome) -> Result<()> {
        let users = Self::users(lab);
        let prefix = format!("{}: ", transport.name());
        let mut sites = Site::start_all(lab, transport, users)?;
        let mut trials = lab.trials();
        let result = with_everybody_online(lab, &mut sites, users, &prefix, &mut trials, |online| {
            let rate = Self::rate(lab, transport, online, outcome)?;
            self.rates.insert(transport.name(), rate);
            let plan = Self::plan(lab, rate, Self::seconds(lab));
            rounds::alternate(lab, transport.name(), outcome, |variant, trial| {
                flow::measure(lab, &online[variant], &plan)?.report(trial, &prefix, "message");
                Ok(())
            });
            Ok(())
        });
        lab.keep(outcome, trials);
        result
    }

    /// The rate that was asked for, or that stock ejabberd is found to take among those who are `online`, or by
    /// itself.
    fn rate(
        lab: &Lab<'_>,
        transport: Transport,
        online: &[Online<'_>],
        outcome: &mut CaseOutcome,
    ) -> Result<f64> {
        if let Some(rate) = lab.options.rate {
            return Ok(rate);
        }
        if let Some(stock) = lab.variants.iter().position(|variant| variant.name == STOCK) {
            return Self::calibrate(lab, transport, &online[stock], outcome);
        }
        let users = Self::users(lab);
        let mut site = [Site::start(lab, &Variant::named(STOCK)?, transport, users)?];
        let mut trial = [Trial::default()];
        let result = with_everybody_online(lab, &mut site, users, "", &mut trial, |online| {
            Self::calibrate(lab, transport, &online[0], outcome)
        });
        trial.into_iter().for_each(|trial| outcome.keep(PREPARATION, trial));
        result
    }

    /// The rate at which stock ejabberd and the generator load the machine as asked for.
    fn calibrate(
        lab: &Lab<'_>,
        transport: Transport,
        stock: &Online<'_>,
        outcome: &mut CaseOutcome,
    ) -> Result<f64> {
        let aim = f64::from(lab.options.load) / 100.0;
        let mut spare = SPARE_PROBES;
        let found = search(first_rate(transport), aim, |rate| Self::probe(lab, stock, rate, &mut spare))?;
        let name = transport.name();
        let mut trial = Trial::default();
        trial.notes.push(format!(
            "{name}: {:.0} messages a second load the machine to {:.0} %, of which {:.0} % are the server's; others \
             kept {:.2} cores busy",
            found.rate,
            found.load * 100.0,
            found.server * 100.0,
            found.others
        ));
        trial.keep(&format!("{name}: calibration"), found);
        outcome.keep(PREPARATION, trial);
        if found.others > DISTURBING {
            outcome.doubts.push(format!("Other programs disturbed the search for the rate of {name}."));
        }
        Ok(found.rate)
    }

    /// Tries a rate, and again while other programs disturb and there are `spare` tries.
    fn probe(lab: &Lab<'_>, online: &Online<'_>, rate: f64, spare: &mut u32) -> Result<Probe> {
        let plan = Self::plan(lab, rate, lab.pick(2, 4));
        loop {
            let flow = flow::measure(lab, online, &plan)?;
            let found = Probe::of(rate, flow.done, &flow.usage, available_parallelism()?.get());
            eprintln!(
                "chat: {} at {rate:.0} messages a second: load {:.2}, others {:.2} cores",
                online.label, found.load, found.others
            );
            if found.others <= DISTURBING || *spare == 0 {
                return Ok(found);
            }
            *spare -= 1;
        }
    }
}

impl Probe {
    /// `done` messages arrived when `rate` a second were sent.
    ///
    /// The load is what each of them cost, at that rate. So it does not matter whether others held them up, or
    /// how long the last ones were waited for; and a machine that is full has a load above 1.
    fn of(rate: f64, done: u64, usage: &Usage, cores: usize) -> Self {
        let part = |seconds: f64| seconds / done.max(1) as f64 * rate / cores as f64;
        let server = part(usage.server);
        Self { rate, load: server + part(usage.own), server, others: usage.others }
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
        // A machine that is full is a poor guide to what it needs at another rate.
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
            "{} users send each other messages of {} characters in windows of {} s at a fixed rate a second ({}; \
             {origin}). Latency: from the time at which a message was due until its receiver has read it.",
            Self::users(lab),
            BODY.len(),
            Self::seconds(lab),
            rates.join(", ")
        )
    }

    fn targets(&self) -> Vec<Target> {
        let most = [(Transport::Tcp, 0.5, 0.92), (Transport::Ws, 0.4, 0.75), (Transport::Bosh, 0.4, 0.5)];
        most.into_iter()
            .flat_map(|(transport, latency, cpu)| {
                let name = transport.name();
                [
                    Target::new(format!("{name}: latency p99"), Bound::RatioAtMost(latency)),
                    Target::new(format!("{name}: CPU a message"), Bound::RatioAtMost(cpu)),
                ]
            })
            .collect()
    }

    fn run(&mut self, lab: &Lab<'_>, outcome: &mut CaseOutcome) -> Result<()> {
        for transport in &lab.options.transports {
            if let Err(error) = self.measure(lab, *transport, outcome) {
                outcome.lose(transport.name(), &error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_load_is_what_messages_cost_however_long_they_took() {
        let usage = |seconds| Usage { seconds, server: 0.8, own: 0.2, others: 0.0 };
        for seconds in [1.0, 30.0] {
            let probe = Probe::of(1000.0, 1000, &usage(seconds), 2);
            assert_eq!((probe.load, probe.server), (0.5, 0.4));
        }
        // Two seconds' worth of work was to be done in each.
        assert_eq!(Probe::of(2000.0, 500, &usage(1.0), 2).load, 2.0);
    }

    #[test]
    fn a_search_ends_close_to_its_aim() {
        // Half a fixed cost, half a cost of each message.
        let server = |rate: f64| Ok(Probe { rate, load: 0.1 + rate / 10_000.0, server: 0.0, others: 0.0 });
        let found = search(500.0, 0.7, server).unwrap();
        assert!((found.load - 0.7).abs() <= CLOSE, "{found:?}");
    }

    #[test]
    fn a_search_gets_down_from_a_machine_that_is_full() {
        let server = |rate: f64| Ok(Probe { rate, load: (rate / 1000.0).min(1.0), server: 0.0, others: 0.0 });
        let found = search(4000.0, 0.7, server).unwrap();
        assert!((found.load - 0.7).abs() <= CLOSE, "{found:?}");
    }

    #[test]
    fn a_search_that_finds_nothing_has_the_closest() {
        let mut probes = 0;
        let found = search(1.0, 0.7, |rate| {
            probes += 1;
            Ok(Probe { rate, load: if rate == 2.0 { 0.3 } else { 0.1 }, server: 0.0, others: 0.0 })
        });
        assert_eq!((found.unwrap().rate, probes), (2.0, PROBES));
    }
}
