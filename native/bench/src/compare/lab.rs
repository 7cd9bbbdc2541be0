//! What comparisons share: servers with accounts, users on them, transports in turn, progress bars.

use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::client::sasl::Auth;
use crate::client::session::Accounts;
use crate::client::user::Transport;
use crate::compare::Options;
use crate::compare::outcome::{Trial, Unit};
use crate::generator::crowd_run::CrowdRun;
use crate::generator::orders::{Arrival, Members};
use crate::measure::{Snapshot, beam};
use crate::server::variant::Variant;
use crate::server::{ACCOUNT_PREFIX, HOST, PASSWORD, Server, Setup};
use crate::sys;

/// The ramp of the comparisons in which logging in is not what is measured, and how many do it at a time.
///
/// A busy stock server turns a few of 10,000 WebSockets away; figures a user need all users to be there.
const ARRIVAL: Arrival = Arrival { ramp: 600.0, at_once: 64, retries: 3 };
/// The ramp of the first users.
const FIRST_ARRIVAL: Arrival = Arrival { ramp: 200.0, at_once: FIRST, retries: 3 };
/// How many these are.
const FIRST: usize = 100;
/// Descriptors that a server needs besides one a user: files, listeners, and second connections of BOSH.
const SPARE_DESCRIPTORS: usize = 400;

/// The transports that are compared.
pub(crate) const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Ws, Transport::Bosh];

/// What the cases share.
pub(crate) struct Lab<'a> {
    pub(crate) options: &'a Options,
}

/// A server with accounts for users, who are all absent yet.
pub(crate) struct Site {
    pub(crate) server: Server,
    members: Members,
    /// The variant and the transport, for progress bars.
    pub(crate) label: String,
}

/// Users who are online.
pub(crate) struct Online<'a> {
    pub(crate) server: &'a mut Server,
    pub(crate) run: &'a CrowdRun,
    /// As that of [`Site`].
    pub(crate) label: &'a str,
    pub(crate) users: usize,
}

impl Site {
    /// Lets `act` have the server and its users. Those who fail are counted in `trial`, also when `act` fails.
    ///
    /// # Errors
    /// Those of `act`, or when a worker of the generator failed as a whole.
    pub(crate) fn with_users<T>(
        &mut self,
        trial: &mut Trial,
        act: impl FnOnce(&mut Server, &CrowdRun, &mut Trial) -> Result<T>,
    ) -> Result<T> {
        let run = CrowdRun::start(&self.members)?;
        let result = act(&mut self.server, &run, trial);
        trial.failed(run.finish()?);
        result
    }

    /// Lets everybody log in, where that is not what is measured: no faster than any server can take. Then lets
    /// `act` have them as [`Site::with_users`] does.
    ///
    /// Who is turned away tries again. That is no failure: it is a reading, its name beginning with `prefix`.
    ///
    /// # Errors
    /// As [`Site::with_users`], or when nobody could log in.
    pub(crate) fn with_everybody_online<T>(
        &mut self,
        lab: &Lab<'_>,
        prefix: &str,
        trial: &mut Trial,
        act: impl FnOnce(Online<'_>) -> Result<T>,
    ) -> Result<T> {
        let bar = lab.bar(format!("{}: log in", self.label), self.members.count as u64);
        let label = self.label.clone();
        self.with_users(trial, |server, run, trial| {
            let report = run.log_in(ARRIVAL, |count| bar.set_position(count))?;
            bar.finish_and_clear();
            trial.add(format!("{prefix}logins tried again"), Unit::Whole, report.retried as f64);
            match report.done as usize {
                0 => bail!("nobody could log in"),
                users => act(Online { server, run, label: &label, users }),
            }
        })
    }
}

impl Lab<'_> {
    /// `quick` in a quick run, else `full`.
    pub(crate) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.options.quick { quick } else { full }
    }

    /// Starts a server with accounts for `users` on `transport`, and lets a few of them log in and out: the
    /// first ones load code and grow tables, which is no cost of a user.
    ///
    /// # Errors
    /// When the server does not start, or these first users can't log in.
    pub(crate) fn start_with_accounts(
        &self,
        variant: &Variant,
        transport: Transport,
        users: usize,
    ) -> Result<Site> {
        let mut server = self.start_with(variant, users, false)?;
        server.register(users + FIRST)?;
        let (c2s, http) = (server.c2s, server.http);
        let members = |first, count| Members {
            first,
            count,
            transports: vec![transport],
            accounts: Accounts {
                domain: HOST.to_owned(),
                auth: Auth::Plain,
                prefix: ACCOUNT_PREFIX.to_owned(),
                password: PASSWORD.to_owned(),
            },
            c2s,
            http,
        };
        let first = CrowdRun::start(&members(users as u32, FIRST))?;
        let done = first.log_in(FIRST_ARRIVAL, |_| ())?.done;
        first.log_out(500.0, |_| ())?;
        let causes = first.finish()?;
        if done < FIRST as u64 || !causes.is_empty() {
            bail!("{done} of the first {FIRST} users logged in and out: {causes:?}");
        }
        let label = format!("{} {}", variant.name, transport.name());
        Ok(Site { server, members: members(0, users), label })
    }

    /// Starts a server for `users`.
    ///
    /// # Errors
    /// Those of [`Server::start`], or when users need more descriptors than the server may have.
    pub(crate) fn start(&self, variant: &Variant, users: usize) -> Result<Server> {
        self.start_with(variant, users, true)
    }

    fn start_with(&self, variant: &Variant, users: usize, busy_wait: bool) -> Result<Server> {
        let limit = sys::raise_descriptor_limit()?;
        if (users + FIRST + SPARE_DESCRIPTORS) as u64 > limit {
            bail!("{users} users are too many for a server that may have {limit} descriptors (ulimit -Hn)");
        }
        let setup = Setup {
            users,
            backlog: if self.options.stock_backlog { 5 } else { 4096 },
            state_root: self.options.results.join("state"),
            busy_wait,
        };
        Server::start(variant, &setup)
    }

    /// Measures each transport that was asked for with `measure`, which adds to the trial; one that fails is a failure
    /// of the trial and does not keep the others from being measured.
    pub(crate) fn each_transport(
        &self,
        trial: &mut Trial,
        mut measure: impl FnMut(Transport, &mut Trial) -> Result<()>,
    ) {
        for transport in &self.options.transports {
            if let Err(error) = measure(*transport, trial) {
                trial.lose(transport.name(), &error);
            }
        }
    }

    /// Waits `seconds`, and then until the VM's memory no longer changes but at most a minute longer. Takes the
    /// server's figures, after a garbage collection if that was asked for.
    ///
    /// # Errors
    /// When the server is gone or silent.
    pub(crate) fn settled(&self, server: &mut Server, seconds: u64) -> Result<Snapshot> {
        const CHANGE: f64 = 0.005;
        const STEP: Duration = Duration::from_secs(5);
        const STEPS: u32 = 12;
        self.settle("settling", Duration::from_secs(seconds));
        let mut last = beam::Figures::take(server)?.total;
        let mut is_settled = false;
        for _ in 0..STEPS {
            self.settle("settling", STEP);
            let total = beam::Figures::take(server)?.total;
            is_settled = (total - last).abs() < last * CHANGE;
            if is_settled {
                break;
            }
            last = total;
        }
        if self.options.collect_garbage {
            server.ask("collect_garbage", Duration::from_secs(120))?;
        }
        Ok(Snapshot { is_settled, ..Snapshot::take(server)? })
    }

    /// How [`Lab::settled`] treats garbage, for descriptions.
    pub(crate) fn garbage(&self) -> &'static str {
        if self.options.collect_garbage {
            "after a garbage collection of every Erlang process"
        } else {
            "without forcing a garbage collection"
        }
    }

    /// A progress bar of `length`, which is hidden when stderr is no terminal.
    pub(crate) fn bar(&self, what: String, length: u64) -> ProgressBar {
        let bar = ProgressBar::new(length).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg:40} {bar:30} {pos}/{len} {elapsed}") {
            bar.set_style(style);
        }
        bar
    }

    /// Lets time pass, with a bar.
    pub(crate) fn settle(&self, what: &str, long: Duration) {
        let bar = self.bar(what.to_owned(), long.as_secs());
        for _ in 0..long.as_secs() {
            std::thread::sleep(Duration::from_secs(1));
            bar.inc(1);
        }
        bar.finish_and_clear();
    }
}
