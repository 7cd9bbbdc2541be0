//! What comparisons share: servers, transports in turn, waiting, progress bars.

use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::client::user::Transport;
use crate::compare::options::Options;
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::measure::{Snapshot, beam};
use crate::server::variant::Variant;
use crate::server::{Server, Setup};
use crate::sys;

/// Windows of each variant unless it is said otherwise: few enough to wait for, and a range of five says how far
/// to trust their median.
const WINDOWS: usize = 5;
/// Descriptors that a server needs besides one a user: files, listeners, and second connections of BOSH.
const SPARE_DESCRIPTORS: usize = 400;

/// The transports that are compared.
pub(crate) const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Ws, Transport::Bosh];

/// What the cases share.
pub(crate) struct Lab<'a> {
    pub(crate) options: &'a Options,
    pub(crate) variants: Vec<Variant>,
}

impl Lab<'_> {
    /// `quick` in a quick run, else `full`.
    pub(crate) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.options.quick { quick } else { full }
    }

    /// Starts a server for `users`.
    ///
    /// # Errors
    /// Those of [`Server::start`], or when users need more descriptors than the server may have.
    pub(crate) fn start(&self, variant: &Variant, users: usize) -> Result<Server> {
        self.start_with(variant, users, false)
    }

    /// The same, whose link to a connection manager can be broken.
    ///
    /// # Errors
    /// As [`Lab::start`].
    pub(crate) fn start_breakable(&self, variant: &Variant, users: usize) -> Result<Server> {
        self.start_with(variant, users, true)
    }

    fn start_with(&self, variant: &Variant, users: usize, is_breakable: bool) -> Result<Server> {
        let limit = sys::raise_descriptor_limit()?;
        if variant.ecm.is_none() && (users + SPARE_DESCRIPTORS) as u64 > limit {
            bail!("{users} users are too many for a server that may have {limit} descriptors (ulimit -Hn)");
        }
        let setup = Setup {
            users,
            backlog: if self.options.stock_backlog { 5 } else { 4096 },
            state_root: self.options.results.join("state"),
            is_breakable,
        };
        Server::start(variant, &setup)
    }

    /// Starts one for each variant.
    ///
    /// # Errors
    /// As [`Lab::start`].
    pub(crate) fn start_all(&self, users: usize) -> Result<Vec<Server>> {
        self.variants.iter().map(|variant| self.start(variant, users)).collect()
    }

    /// An empty trial of each variant, for what is there once.
    pub(crate) fn trials(&self) -> Vec<Trial> {
        self.variants.iter().map(|_| Trial::default()).collect()
    }

    /// Gives `outcome` trials of [`Lab::trials`].
    pub(crate) fn keep(&self, outcome: &mut CaseOutcome, trials: Vec<Trial>) {
        self.variants.iter().zip(trials).for_each(|(variant, trial)| outcome.keep(&variant.name, trial));
    }

    /// Windows of each variant.
    pub(crate) fn windows(&self) -> usize {
        self.options.rounds.map_or(WINDOWS, usize::from)
    }

    /// Runs of each variant, where each run has a server of its own.
    pub(crate) fn runs(&self) -> usize {
        self.options.rounds.map_or(self.pick(1, 3), usize::from)
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
        std::thread::sleep(Duration::from_nanos(long.subsec_nanos().into()));
        bar.finish_and_clear();
    }
}
