//! Users who sleep and now and then get a message: what it costs to wake them, and what they hold meanwhile.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::client::user::Transport;
use crate::compare::case::Case;
use crate::compare::figure::Unit;
use crate::compare::flow::{self, Plan};
use crate::compare::idle::SETTLE_BEFORE;
use crate::compare::lab::Lab;
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::compare::rounds;
use crate::compare::schedule::PATIENCE;
use crate::compare::site::{Online, Site, with_everybody_online};
use crate::compare::target::{Bound, Target};
use crate::generator::orders::{BODY, Kind, Rate, SENDERS};
use crate::measure::{PerUser, Snapshot, beam, process};

/// The comparison.
pub(crate) struct Wake;

/// How often users get a message.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Period {
    name: &'static str,
    /// Users who get messages, in turn.
    among: usize,
    /// Messages a second.
    rate: f64,
    /// Rounds that do not count, before those that do: so that each user has got one before.
    lead: usize,
    /// Whether these users get no message but one in the whole run. They must not be asked anything either.
    is_first: bool,
}

/// What is known of each variant before its users get messages.
struct Rest {
    /// At rest, with nobody there.
    before: Snapshot,
    /// Seconds of processor time that it needs each second while all users sleep.
    cores: f64,
}

/// The most users who get a message a second: so many that all variants can take them.
const BUSIEST: usize = 1000;
/// Seconds after the last login until all users sleep.
const FALL_ASLEEP: u64 = 10;
/// What a window takes beside its messages: figures are taken, and the last messages arrive.
const BETWEEN: Duration = Duration::from_secs(1);
/// What waking a user once a minute may cost, as a part of what the message costs stock ejabberd.
const MOST_A_MINUTE: f64 = 1.10;

impl Wake {
    fn users(lab: &Lab<'_>) -> usize {
        lab.options.users.unwrap_or(lab.pick(3000, 6000))
    }

    /// Long enough for users who get a message a second to get two, and be as awake as they will be.
    fn warm() -> Duration {
        Duration::from_secs(2)
    }

    fn long(lab: &Lab<'_>) -> Duration {
        Duration::from_secs(lab.pick(5, 12))
    }

    /// Seconds of [`Rest::cores`].
    fn quiet_seconds(lab: &Lab<'_>) -> u64 {
        lab.pick(10, 20)
    }

    fn periods(lab: &Lab<'_>) -> [Period; 4] {
        let sending = (Self::warm() + Self::long(lab)).as_secs_f64();
        let round = (sending + BETWEEN.as_secs_f64()) * lab.variants.len() as f64;
        periods(Self::users(lab), &Pace { windows: PATIENCE * lab.windows(), sending, round })
    }

    fn transports(lab: &Lab<'_>) -> Vec<Transport> {
        lab.options.transports.iter().copied().filter(|transport| *transport != Transport::Bosh).collect()
    }

    fn measure(lab: &Lab<'_>, transport: Transport, outcome: &mut CaseOutcome) -> Result<()> {
        let users = Self::users(lab);
        let mut sites = Site::start_all(lab, transport, users)?;
        lab.settle("settling", Duration::from_secs(SETTLE_BEFORE));
        let before = sites.iter_mut().map(|site| Snapshot::take(&mut site.server));
        let before = before.collect::<Result<Vec<Snapshot>>>()?;
        let mut trials = lab.trials();
        let prefix = format!("{}: ", transport.name());
        let result = with_everybody_online(lab, &mut sites, users, &prefix, &mut trials, |online| {
            let rests = Self::rests(lab, online, before)?;
            for period in Self::periods(lab) {
                Self::lead(lab, online, period)?;
                let label = format!("{}, {}", transport.name(), period.name);
                rounds::alternate(lab, &label, outcome, |variant, trial| {
                    let prefix = format!("{}: {}: ", transport.name(), period.name);
                    Self::window(lab, &mut online[variant], &rests[variant], period, &prefix, trial)
                });
            }
            Ok(rests)
        });
        for (trial, rest) in trials.iter_mut().zip(result.iter().flatten()) {
            trial.add(format!("{prefix}CPU a second at rest"), Unit::Microseconds, rest.cores * 1e6);
        }
        lab.keep(outcome, trials);
        result.map(|_| ())
    }

    /// Lets all users fall asleep and watches all servers for a while, all at once.
    fn rests(lab: &Lab<'_>, online: &[Online<'_>], before: Vec<Snapshot>) -> Result<Vec<Rest>> {
        let run_times = || online.iter().map(|online| process::run_time(&online.server.pids()));
        lab.settle("falling asleep", Duration::from_secs(FALL_ASLEEP));
        let first = run_times().collect::<Result<Vec<Duration>>>()?;
        let long = Duration::from_secs(Self::quiet_seconds(lab));
        lab.settle("at rest", long);
        let last = run_times().collect::<Result<Vec<Duration>>>()?;
        let ran = first.iter().zip(last).map(|(first, last)| last.saturating_sub(*first));
        let cores = ran.map(|ran| ran.as_secs_f64() / long.as_secs_f64());
        Ok(before.into_iter().zip(cores).map(|(before, cores)| Rest { before, cores }).collect())
    }

    /// The rounds that do not count.
    fn lead(lab: &Lab<'_>, online: &[Online<'_>], period: Period) -> Result<()> {
        let plan = Self::plan(lab, period);
        let whole = Plan { warm: plan.warm + plan.long, ..plan };
        for _ in 0..period.lead {
            for online in online {
                flow::warm(online, &whole)?;
                lab.settle("between", BETWEEN);
            }
        }
        Ok(())
    }

    fn plan(lab: &Lab<'_>, period: Period) -> Plan<'static> {
        Plan {
            kind: Kind::Wake { among: period.among },
            rate: Rate::Fixed(period.rate),
            body: BODY,
            warm: Self::warm(),
            long: Self::long(lab),
        }
    }

    fn window(
        lab: &Lab<'_>,
        online: &mut Online<'_>,
        rest: &Rest,
        period: Period,
        prefix: &str,
        trial: &mut Trial,
    ) -> Result<()> {
        let plan = Self::plan(lab, period);
        flow::warm(online, &plan)?;
        let flow = flow::timed(lab, online, &plan)?;
        trial.disturbed_by(flow.usage.others);
        let after = Snapshot::take(online.server)?;
        trial.add(format!("{prefix}messages"), Unit::PerSecond, flow.done as f64 / flow.seconds);
        let cost = cost(flow.ran.as_secs_f64(), rest.cores, flow.usage.seconds, flow.done);
        trial.add(format!("{prefix}CPU a message"), Unit::Microseconds, cost * 1e6);
        trial.add_latency(prefix, &flow.latency);
        let each = PerUser::between(&rest.before, &after, online.users);
        trial.add(format!("{prefix}resident bytes"), Unit::Bytes, each.resident);
        if !period.is_first {
            // Only now, and not where users are to be asleep since long: to be asked may wake a process.
            let hibernating = beam::hibernating(online.server)? / online.users as f64;
            trial.add(format!("{prefix}hibernating processes"), Unit::Count, hibernating);
        }
        Ok(())
    }
}

/// In which time messages are sent, in seconds.
struct Pace {
    /// Windows of each variant in one period, at most.
    windows: usize,
    /// Of a window, in which messages are sent.
    sending: f64,
    /// From a window of a variant to its next one.
    round: f64,
}

impl Pace {
    /// How many users get a message a minute by the clock, of `rate` a second while they are sent.
    fn among(&self, rate: f64) -> usize {
        (rate * 60.0 * self.sending / self.round).round() as usize
    }

    /// How many rounds it takes for each of them to get one.
    fn lead(&self) -> usize {
        (60.0 / self.round).ceil() as usize
    }
}

/// The periods for so many users, in the order in which they are measured.
fn periods(users: usize, pace: &Pace) -> [Period; 4] {
    let sleepers = users - SENDERS.min(users / 2);
    let a_minute = sleepers as f64 / 60.0;
    let among = sleepers.min(BUSIEST);
    let most = sleepers as f64 / (pace.sending * pace.windows as f64);
    [
        // Before the others, so that nobody has been woken yet.
        Period { name: "an hour", among: sleepers, rate: a_minute.min(most), lead: 0, is_first: true },
        Period {
            name: "a minute",
            among: pace.among(a_minute).clamp(1, sleepers),
            rate: a_minute,
            lead: pace.lead(),
            is_first: false,
        },
        Period { name: "2 seconds", among, rate: among as f64 / 2.0, lead: 0, is_first: false },
        Period { name: "a second", among, rate: among as f64, lead: 0, is_first: false },
    ]
}

/// Processor seconds of one of `done` messages, when a server ran for `ran` seconds meanwhile and needs `rest` a second
/// without them.
fn cost(ran: f64, rest: f64, seconds: f64, done: u64) -> f64 {
    (ran - rest * seconds) / done.max(1) as f64
}

impl Case for Wake {
    fn name(&self) -> &'static str {
        "wake"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        let [hour, minute, _, second] = Self::periods(lab);
        format!(
            "{} users are online; {SENDERS} of them send the others messages of {} characters in windows of {} s. \
             *A minute*: {:.0} messages a second to {} of them in turn, who get one a minute by the clock, since the \
             windows of others lie between theirs; each has got one before the windows begin. *A second*: one a \
             second to each of {}. That is too often for Megaphone's sessions to hibernate, who wait a second \
             (hibernate_after). *2 seconds*: half as many to the same; they hibernate before each. *An hour*: a \
             message an hour for each would be too few to measure. So {:.0} a second go to users who have got none \
             since they logged in, to each one in the whole run. CPU a message is the server's processor time during \
             the window, by the scheduler's own count, less what it needs in the same time while all users sleep. The \
             session of the sender is in it. Resident bytes a user are taken right after the last message of each \
             window, hibernating processes after them. BOSH is left out: its polls end and begin in waves, which cost \
             more than the messages.",
            Self::users(lab),
            BODY.len(),
            Self::long(lab).as_secs(),
            minute.rate,
            minute.among,
            second.among,
            hour.rate,
        )
    }

    fn targets(&self) -> Vec<Target> {
        let transports = [Transport::Tcp, Transport::Ws];
        let name = |transport: Transport| format!("{}: a minute: CPU a message", transport.name());
        transports.map(|transport| Target::new(name(transport), Bound::RatioAtMost(MOST_A_MINUTE))).to_vec()
    }

    fn run(&mut self, lab: &Lab<'_>, outcome: &mut CaseOutcome) -> Result<()> {
        let transports = Self::transports(lab);
        if transports.is_empty() {
            bail!("waking is measured over tcp and ws");
        }
        for transport in transports {
            if let Err(error) = Self::measure(lab, transport, outcome) {
                outcome.lose(transport.name(), &error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_costs_what_the_server_does_besides_resting() {
        assert_eq!(cost(0.25, 0.01, 10.0, 1000), 0.00015);
        assert_eq!(cost(1.0, 0.0, 10.0, 0), 1.0);
    }

    fn pace(windows: usize, sending: f64) -> Pace {
        Pace { windows, sending, round: 3.0 * (sending + 1.0) }
    }

    #[test]
    fn who_sleeps_since_long_is_woken_once_in_a_run() {
        for (users, windows, sending) in [(6000, 10, 14.0), (3000, 10, 7.0), (50, 100, 10.0)] {
            let [hour, minute, two, second] = periods(users, &pace(windows, sending));
            let all = hour.rate * sending * windows as f64;
            assert!(hour.is_first && all <= hour.among as f64 + 1e-6, "{hour:?}");
            assert!(hour.rate <= minute.rate);
            assert_eq!(second.rate, second.among as f64);
            assert_eq!((two.among, two.rate * 2.0), (second.among, second.rate));
        }
    }

    #[test]
    fn each_gets_a_message_a_minute_by_the_clock() {
        for (users, sending) in [(6000, 14.0), (3000, 7.0)] {
            let pace = pace(10, sending);
            let minute = periods(users, &pace)[1];
            let rounds = minute.among as f64 / (minute.rate * sending);
            assert!((rounds * pace.round - 60.0).abs() < 0.5, "{minute:?}");
            assert!(minute.rate * sending * minute.lead as f64 >= minute.among as f64 - 0.5, "{minute:?}");
        }
    }

    #[test]
    fn senders_are_not_woken() {
        let [hour, minute, _, second] = periods(6000, &pace(10, 14.0));
        assert_eq!((hour.among, second.among), (5980, BUSIEST));
        assert!(minute.among < hour.among);
        assert_eq!(periods(10, &pace(10, 14.0))[0].among, 5);
    }
}
