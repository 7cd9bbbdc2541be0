//! XMPP users on a server that somebody else runs.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::rate;
use crate::client::sasl::Auth;
use crate::client::session::Accounts;
use crate::client::user::Transport;
use crate::commands::{print_verdict, resolve, show};
use crate::generator::crowd_run::CrowdRun;
use crate::generator::latency::Summary;
use crate::generator::orders::{Arrival, BODY, Kind, Members, PhaseReport, Rate};
use crate::measure::{kernel, process};

/// Options of `load`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// host:port of the XMPP listener, or of the HTTP listener with --transport ws or bosh.
    #[arg(long)]
    target: String,
    /// host:port of the HTTP listener, with --transport mix.
    #[arg(long)]
    http_target: Option<String>,
    /// What carries the sessions.
    #[arg(long, value_enum, default_value = "tcp")]
    transport: Carriers,
    /// Users.
    #[arg(long, default_value_t = 100)]
    users: usize,
    /// Logins begun a second.
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    ramp: f64,
    /// Logins in progress at any time, at most; those that have to wait for it are late.
    #[arg(long, default_value_t = usize::MAX)]
    at_once: usize,
    /// Seconds to stay online.
    #[arg(long, default_value_t = 10)]
    hold: u64,
    /// Messages a second while online, all users together; none unless given.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// What is sent at that rate.
    #[arg(long, value_enum, default_value = "chat")]
    kind: Kind,
    /// How often to log in again after logging out.
    #[arg(long, default_value_t = 0)]
    reconnect: u32,
    /// How users authenticate.
    #[arg(long, value_enum, default_value = "plain")]
    auth: Auth,
    /// The vhost.
    #[arg(long, default_value = "localhost")]
    domain: String,
    /// Users are called this and a number from 0.
    #[arg(long, default_value = "user")]
    prefix: String,
    /// The password of all users.
    #[arg(long, default_value = "secret")]
    password: String,
    /// Announce capabilities (XEP-0115), as real clients do.
    #[arg(long)]
    caps: bool,
    /// A server process on this machine to measure.
    #[arg(long)]
    pid: Option<u32>,
}

/// The transports of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Carriers {
    Tcp,
    Ws,
    Bosh,
    /// A third of the users on each.
    Mix,
}

/// Puts the users on the server and reports.
///
/// # Errors
/// When the target has no address, the pid is none, or a worker fails as a whole.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let members = members(options)?;
    let before = Machine::take(options.pid)?;
    let run = CrowdRun::start(&members)?;
    let mut lines = Vec::new();
    let result = (0..=options.reconnect).try_for_each(|_| cycle(&run, options, &before, &mut lines));
    let causes = run.finish();
    let is_clean = print_verdict(&causes?);
    lines.iter().for_each(|line| println!("{line}"));
    result?;
    Ok(is_clean)
}

fn members(options: &Options) -> Result<Members> {
    let target = resolve(&options.target)?;
    let http = options.http_target.as_deref().map_or(Ok(target), resolve)?;
    let transports = match options.transport {
        Carriers::Tcp => vec![Transport::Tcp],
        Carriers::Ws => vec![Transport::Ws],
        Carriers::Bosh => vec![Transport::Bosh],
        Carriers::Mix => {
            options.http_target.as_ref().context("--transport mix needs --http-target")?;
            vec![Transport::Tcp, Transport::Ws, Transport::Bosh]
        }
    };
    Ok(Members {
        first: 0,
        count: options.users,
        transports,
        accounts: Accounts {
            domain: options.domain.clone(),
            auth: options.auth,
            prefix: options.prefix.clone(),
            password: options.password.clone(),
            caps: options.caps,
        },
        c2s: target,
        http,
    })
}

/// Log in, hold, log out.
fn cycle(run: &CrowdRun, options: &Options, before: &Machine, lines: &mut Vec<String>) -> Result<()> {
    let bar = bar("log in", options.users as u64);
    let arrival = Arrival { ramp: options.ramp, at_once: options.at_once, retries: 0 };
    let report = run.log_in(arrival, |count| bar.set_position(count))?;
    bar.finish_and_clear();
    lines.push(line("logged in", &report));
    let long = Duration::from_secs(options.hold);
    if let Some(rate) = options.rate {
        let bar = self::bar("traffic", (rate * options.hold as f64) as u64);
        let report =
            run.traffic(options.kind, Rate::Fixed(rate), long, BODY, |count| bar.set_position(count))?;
        bar.finish_and_clear();
        lines.push(format!("sent {}, {}", report.sent, line("answered", &report)));
    } else {
        let until = Instant::now() + long;
        let bar = self::bar("hold", options.hold);
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(100).min(long));
            bar.set_position(
                options.hold.saturating_sub(until.saturating_duration_since(Instant::now()).as_secs()),
            );
        }
        bar.finish_and_clear();
    }
    lines.extend(Machine::take(options.pid)?.since(before, options.users));
    let report = run.log_out(options.ramp.max(1000.0), |_| ())?;
    lines.push(line("logged out", &report));
    Ok(())
}

fn line(what: &str, report: &PhaseReport) -> String {
    let rate = report.done as f64 / report.elapsed.as_secs_f64().max(f64::EPSILON);
    format!("{what} {}, {rate:.0} a second, {}", report.done, show(&Summary::of(&report.latency)))
}

fn bar(what: &'static str, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg:10} {bar:40} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar
}

/// What is measured around a run.
struct Machine {
    own: process::Figures,
    server: Option<process::Figures>,
    kernel: kernel::Figures,
}

impl Machine {
    fn take(pid: Option<u32>) -> Result<Self> {
        Ok(Self {
            own: process::Figures::take(std::process::id())?,
            server: pid.map(process::Figures::take).transpose()?,
            kernel: kernel::Figures::take()?,
        })
    }

    fn since(&self, before: &Self, users: usize) -> Vec<String> {
        let each = |bytes: f64| bytes / users.max(1) as f64;
        let mut lines = vec![format!(
            "generator: {:.0} bytes a user, {:.2} s of processor time",
            each(self.own.resident - before.own.resident),
            self.own.cpu_seconds - before.own.cpu_seconds
        )];
        if let (Some(server), Some(before)) = (&self.server, &before.server) {
            lines.push(format!(
                "server: {:.0} resident bytes a user (proportional {:.0}), {:.2} s of processor time",
                each(server.resident - before.resident),
                each(server.proportional - before.proportional),
                server.cpu_seconds - before.cpu_seconds
            ));
        }
        lines.push(format!(
            "kernel: {:.0} bytes a user on the server's side, by {:?}",
            each(self.kernel.server_share_since(&before.kernel)),
            self.kernel.source
        ));
        lines
    }
}
