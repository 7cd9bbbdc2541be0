//! What HTTP clients notice of WebSocket peers that send pongs without pause.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::compare::case::Case;
use crate::compare::figure::Unit;
use crate::compare::lab::Lab;
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::compare::target::{Bound, Target};
use crate::compare::{http, rounds};
use crate::generator::flood::FloodRun;
use crate::generator::latency::Summary;
use crate::generator::probe::Probe;
use crate::measure::machine::{Meter, Usage};
use crate::server::variant::Variant;
use crate::server::{HOST, Server};

/// The comparison.
pub(crate) struct Flood;

const PEERS: usize = 40;
/// Of the quiet client's requests.
const INTERVAL: Duration = Duration::from_millis(5);
/// Until buffers between peers and server are full.
const RISE: Duration = Duration::from_millis(500);
/// How long a server is watched after a flood until it is idle, and what is idle, in cores.
const FALL: Duration = Duration::from_secs(5);
const IDLE: f64 = 0.05;

impl Flood {
    fn seconds(lab: &Lab<'_>) -> u64 {
        lab.pick(2, 5)
    }

    /// Round trips without the flood and then with it. Says whether the server was soon idle again.
    fn window(lab: &Lab<'_>, server: &Server, trial: &mut Trial) -> Result<bool> {
        let (usage, latency) = Self::round_trips(lab, server)?;
        trial.disturbed_by(usage.others);
        trial.add_latency("quiet: ", &latency);
        let flood = FloodRun::start(server.http, HOST, PEERS)?;
        sleep(RISE);
        let (since, pongs, closed) = (Instant::now(), flood.pongs(), flood.closed());
        let (usage, latency) = Self::round_trips(lab, server)?;
        let seconds = since.elapsed().as_secs_f64();
        let (pongs, closed) = (flood.pongs() - pongs, flood.closed() - closed);
        flood.finish()?;
        trial.disturbed_by(usage.others);
        trial.add_latency("flood: ", &latency);
        trial.add("flood: round trips", Unit::PerSecond, latency.count as f64 / seconds);
        trial.add("flood: pongs taken", Unit::PerSecond, pongs as f64 / seconds);
        trial.add("flood: peers closed by the server", Unit::Whole, closed as f64);
        trial.add("flood: server's cores in use", Unit::Cores, usage.server_cores());
        trial.add("flood: generator's cores in use", Unit::Cores, usage.own_cores());
        let fall = Self::wait_until_idle(server)?;
        trial.add("flood: busy afterwards (watched for 5 s)", Unit::Milliseconds, fall.as_secs_f64() * 1e3);
        Ok(fall < FALL)
    }

    fn round_trips(lab: &Lab<'_>, server: &Server) -> Result<(Usage, Summary)> {
        let mut probe = Probe::connect(server.http, http::request(server.http))?;
        let meter = Meter::start(server.pids())?;
        let latencies = probe.run(INTERVAL, Duration::from_secs(Self::seconds(lab)))?;
        Ok((meter.stop()?, Summary::of(&latencies)))
    }

    /// How long the server is still busy, [`FALL`] at most.
    fn wait_until_idle(server: &Server) -> Result<Duration> {
        let since = Instant::now();
        while since.elapsed() < FALL {
            let (busy, meter) = (since.elapsed(), Meter::start(server.pids())?);
            sleep(Duration::from_millis(250));
            if meter.stop()?.server_cores() < IDLE {
                return Ok(busy);
            }
        }
        Ok(FALL)
    }

    /// A server that has answered some requests, so that it has loaded its code.
    fn start(lab: &Lab<'_>, variant: &Variant) -> Result<Server> {
        let server = lab.start(variant, PEERS)?;
        Probe::connect(server.http, http::request(server.http))?.run(INTERVAL, RISE)?;
        Ok(server)
    }
}

impl Case for Flood {
    fn name(&self) -> &'static str {
        "flood"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        format!(
            "A client GETs {} every {} ms for {} s on one keep-alive connection; when the last answer is late, \
             it skips a turn. Then it does the same while {PEERS} WebSocket peers on the same listener send empty \
             pongs of 6 bytes without pause, before any stream header. Peers that the server closes come again \
             after 0.1 s. Latency counts from sending; an answer later than 10 s \
             counts as 10 s and is the last. A server that is still busy {} s after the flood is replaced \
             by a fresh one.",
            http::ROUTE,
            INTERVAL.as_millis(),
            Self::seconds(lab),
            FALL.as_secs()
        )
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target::new("flood: latency p50", Bound::AtMost(5.0))]
    }

    fn run(&mut self, lab: &Lab<'_>, outcome: &mut CaseOutcome) -> Result<()> {
        let servers = lab.variants.iter().map(|variant| Self::start(lab, variant).map(Some));
        let mut servers = servers.collect::<Result<Vec<Option<Server>>>>()?;
        rounds::alternate(lab, "flood", outcome, |position, trial| {
            let variant = &lab.variants[position];
            let server = match servers[position].take() {
                Some(server) => server,
                None => Self::start(lab, variant)?,
            };
            // A server that is still busy would disturb the other's windows.
            if Self::window(lab, &server, trial)? {
                servers[position] = Some(server);
            } else {
                drop(server);
                servers[position] = Some(Self::start(lab, variant)?);
            }
            Ok(())
        });
        Ok(())
    }
}
