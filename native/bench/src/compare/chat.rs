//! Messages between users at a fixed rate: how late they arrive, and what they cost the server.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::client::user::Transport;
use crate::compare::Case;
use crate::compare::lab::{Lab, TRANSPORTS};
use crate::compare::outcome::{Trial, Unit};
use crate::generator::crowd_run::CrowdRun;
use crate::generator::latency::Summary;
use crate::generator::orders::{Kind, Rate};
use crate::measure::process::cpu_seconds;
use crate::server::variant::Variant;

/// The comparison.
pub(crate) struct Chat;

/// Forty characters, about what people write.
pub(crate) const BODY: &str = "It is forty characters that people write";

impl Chat {
    fn users(lab: &Lab<'_>) -> usize {
        lab.options.users.unwrap_or(lab.pick(500, 2000))
    }

    fn measure_transport(
        lab: &Lab<'_>,
        variant: &Variant,
        transport: Transport,
        trial: &mut Trial,
    ) -> Result<()> {
        let name = transport.name();
        let users = Self::users(lab);
        let rate = lab.options.rate.unwrap_or_else(|| default_rate(transport));
        let long = Duration::from_secs(lab.pick(5, 20));
        let (server, members) = lab.start_with_accounts(variant, transport, users)?;
        let run = CrowdRun::start(&members)?;
        let online = lab.log_everybody_in(&run, &format!("{} {name}", variant.name), users);
        let bar = lab.bar(format!("{} {name}: chat", variant.name), (rate * long.as_secs_f64()) as u64);
        let chat = |long| run.traffic(Kind::Chat, Rate::Fixed(rate), long, BODY, |n| bar.set_position(n));
        // The first messages pay for what is grown once.
        let warmed = chat(Duration::from_secs(2));
        lab.settle("between", Duration::from_secs(1));
        let before = (cpu_seconds(server.pid()), cpu_seconds(std::process::id()));
        let report = chat(long);
        let after = (cpu_seconds(server.pid()), cpu_seconds(std::process::id()));
        bar.finish_and_clear();
        trial.failed(run.finish()?);
        online.and(warmed)?;
        let (report, server_cpu, own_cpu) = (report?, after.0? - before.0?, after.1? - before.1?);
        if report.done == 0 {
            bail!("no message arrived");
        }
        let seconds = report.elapsed.as_secs_f64().max(f64::EPSILON);
        let latency = Summary::of(&report.latency);
        let each = server_cpu * 1e6 / report.done.max(1) as f64;
        trial.add(format!("{name}: messages"), Unit::PerSecond, report.done as f64 / seconds);
        trial.add(format!("{name}: latency p50"), Unit::Milliseconds, latency.p50);
        trial.add(format!("{name}: latency p99"), Unit::Milliseconds, latency.p99);
        trial.add(format!("{name}: CPU a message"), Unit::Microseconds, each);
        trial.add(format!("{name}: server's cores in use"), Unit::Cores, server_cpu / seconds);
        trial.add(format!("{name}: generator's cores in use"), Unit::Cores, own_cpu / seconds);
        trial.keep(&format!("{name}: latency"), &latency);
        Ok(())
    }
}

/// Messages a second that keep two cores about 70 % busy with stock ejabberd and the generator together.
fn default_rate(transport: Transport) -> f64 {
    match transport {
        Transport::Tcp => 6000.0,
        Transport::Ws => 5000.0,
        Transport::Bosh => 2100.0,
    }
}

impl Case for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn describe(&self, lab: &Lab<'_>) -> String {
        let rates = TRANSPORTS.map(|transport| {
            format!("{} {}", transport.name(), lab.options.rate.unwrap_or_else(|| default_rate(transport)))
        });
        format!(
            "{} users send each other messages of {} characters for {} s at a fixed rate a second ({}). \
             Latency: from the time at which a message was due until its receiver has read it.",
            Self::users(lab),
            BODY.len(),
            lab.pick(5, 20),
            rates.join(", ")
        )
    }

    fn measure(&self, lab: &Lab<'_>, variant: &Variant) -> Result<Trial> {
        Ok(lab
            .each_transport(|lab, transport, trial| Self::measure_transport(lab, variant, transport, trial)))
    }
}
