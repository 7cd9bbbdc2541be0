//! Users behind a connection manager while its link to the node breaks, is slow, or has clients that never read.

use std::slice;
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::client::user::Transport;
use crate::compare::case::Case;
use crate::compare::figure::Unit;
use crate::compare::flow::{self, Plan};
use crate::compare::http;
use crate::compare::lab::{Lab, TRANSPORTS};
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::compare::site::{Online, Site, with_everybody_online};
use crate::compare::target::{Bound, Target};
use crate::generator::deaf::Deaf;
use crate::generator::orders::{BODY, Kind, Rate};
use crate::measure::process;
use crate::server::relay::Relay;

/// The comparison. It has one variant.
pub(crate) struct Links;

const USERS: usize = 2001;
/// Messages a second of all users together.
const RATE: f64 = 200.0;
/// How long the link is cut.
const CUTS: [u64; 3] = [1, 10, 25];
/// Before a cut, and after it.
const AROUND: u64 = 2;
/// Bytes a second of a slow link.
const SLOW: f64 = 1e6;
const DEAF: usize = 50;
/// How long users chat beside what disturbs them.
const BESIDE: u64 = 10;
/// What p99 may become beside clients that do not read: unmoved, within what two windows differ by.
const MOST_BESIDE: f64 = 1.5;

impl Links {
    fn measure(lab: &Lab<'_>, outcome: &mut CaseOutcome) -> Result<()> {
        let variant = lab.variants.first().filter(|variant| variant.ecm.is_some());
        let variant = variant.context("links are measured with --ecm")?;
        let users = lab.options.users.unwrap_or(USERS);
        let mut site = Site::start_breakable(lab, variant, &TRANSPORTS, users)?;
        let relay = site.server.take_relay().context("the server has no relay")?;
        let mut once = Trial::default();
        let (sites, trials) = (slice::from_mut(&mut site), slice::from_mut(&mut once));
        let rounds = with_everybody_online(lab, sites, users, "", trials, |online| {
            let [online] = online else { bail!("one site has no one crowd") };
            if online.users < users {
                bail!("{} of {users} users could log in", online.users);
            }
            let rounds = (1..=lab.windows()).map(|round| Self::cuts(lab, online, &relay, round));
            let mut rounds = rounds.collect::<Result<Vec<Trial>>>()?;
            let last = rounds.last_mut().context("no round")?;
            Self::slow(lab, online, &relay, last)?;
            Self::beside_the_deaf(lab, online, last)?;
            Ok(rounds)
        });
        outcome.keep(&variant.name, once);
        rounds?.into_iter().for_each(|trial| outcome.keep(&variant.name, trial));
        Ok(())
    }

    fn cuts(lab: &Lab<'_>, online: &Online<'_>, relay: &Relay, round: usize) -> Result<Trial> {
        let mut trial = Trial::of_window(round);
        for cut in CUTS {
            Self::cut(lab, online, relay, cut, &mut trial)
                .with_context(|| format!("round {round}, the link cut for {cut} s"))?;
        }
        Ok(trial)
    }

    /// Chats for `long` seconds, while `disturb` runs.
    fn chat(
        lab: &Lab<'_>,
        online: &Online<'_>,
        rate: f64,
        long: u64,
        disturb: impl FnOnce() + Send,
    ) -> Result<flow::Flow> {
        let long = Duration::from_secs(long);
        let plan = Plan { kind: Kind::Chat, rate: Rate::Fixed(rate), body: BODY, warm: Duration::ZERO, long };
        thread::scope(|scope| {
            let disturbing = scope.spawn(disturb);
            let flow = flow::timed(lab, online, &plan);
            let disturbed = disturbing.join();
            let flow = flow?;
            if disturbed.is_err() {
                bail!("what disturbs the users has failed");
            }
            if flow.done != flow.sent {
                bail!("{} of {} messages arrived", flow.done, flow.sent);
            }
            Ok(flow)
        })
    }

    fn cut(lab: &Lab<'_>, online: &Online<'_>, relay: &Relay, cut: u64, trial: &mut Trial) -> Result<()> {
        let flow = Self::chat(lab, online, RATE, 2 * AROUND + cut, || {
            sleep(Duration::from_secs(AROUND));
            relay.cut();
            sleep(Duration::from_secs(cut));
            relay.mend();
        })?;
        eprintln!("links: round {}, cut for {cut} s: {} messages, none lost", trial.window, flow.done);
        trial.add(format!("cut for {cut} s: messages"), Unit::Whole, flow.done as f64);
        trial.add_latency(&format!("cut for {cut} s: "), &flow.latency);
        Ok(())
    }

    fn slow(lab: &Lab<'_>, online: &Online<'_>, relay: &Relay, trial: &mut Trial) -> Result<()> {
        relay.slow_down(Some(SLOW));
        let flow = Self::chat(lab, online, RATE, BESIDE, || ())?;
        relay.slow_down(None);
        trial.add("1 MB/s: messages", Unit::Whole, flow.done as f64);
        trial.add_latency("1 MB/s: ", &flow.latency);
        Ok(())
    }

    fn beside_the_deaf(lab: &Lab<'_>, online: &mut Online<'_>, trial: &mut Trial) -> Result<()> {
        let resident = |online: &Online<'_>| {
            Ok::<f64, anyhow::Error>(process::Figures::sum(&online.server.pids())?.resident)
        };
        let request = http::request(online.server.http);
        let alone = Self::chat(lab, online, RATE, BESIDE, || ())?;
        let before = resident(online)?;
        let mut deaf = Deaf::start(online.server.http, DEAF, &request)?;
        let beside = Self::chat(lab, online, RATE, BESIDE, || {
            for _ in 0..BESIDE {
                deaf.ask(&request);
                sleep(Duration::from_secs(1));
            }
        })?;
        let each = (resident(online)? - before) / DEAF as f64;
        trial.add_latency("alone: ", &alone.latency);
        trial.add_latency("beside clients that do not read: ", &beside.latency);
        let ratio = beside.latency.p99 / alone.latency.p99;
        trial.add("p99 beside clients that do not read, of that alone", Unit::Count, ratio);
        trial.add("resident bytes of a client that does not read", Unit::Bytes, each);
        Ok(())
    }
}

impl Case for Links {
    fn name(&self) -> &'static str {
        "links"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        format!(
            "{} users, a third on each of {}, send each other {RATE} messages a second, behind a connection manager whose link \
             to the node is cut for {CUTS:?} seconds in each of {} rounds. A message that is lost or comes twice, or a user who \
             is disconnected, is a failure. Then the link is slowed down to 1 MB/s each way for {BESIDE} s; and at last {DEAF} \
             HTTP clients send requests without reading an answer.",
            lab.options.users.unwrap_or(USERS),
            TRANSPORTS.map(Transport::name).join(", "),
            lab.windows(),
        )
    }

    fn targets(&self) -> Vec<Target> {
        let what = "p99 beside clients that do not read, of that alone";
        vec![Target::new(what, Bound::AtMost(MOST_BESIDE))]
    }

    fn run(&mut self, lab: &Lab<'_>, outcome: &mut CaseOutcome) -> Result<()> {
        Self::measure(lab, outcome)
    }
}
