//! Comparisons: each measures all variants in turn, several times, and says what came out.

mod bosh;
mod chat;
mod flow;
mod http;
mod idle;
mod lab;
mod logins;
mod memory;
mod outcome;
mod plot;
mod publish;
mod report;
mod target;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::client::user::Transport;
use crate::compare::lab::Lab;
use crate::compare::outcome::{CaseOutcome, Trial};
use crate::compare::target::Target;
use crate::measure::machine::Watch;
use crate::server::variant::Variant;

/// Cores in use by other programs above which times can't be trusted.
const DISTURBING: f64 = 0.15;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// Memory of an idle keep-alive HTTP connection.
    Idle,
    /// Requests a second and latency of keep-alive HTTP.
    Http,
    /// Memory of a user with presence, over TCP, WebSocket and BOSH.
    Memory,
    /// Logins a second.
    Logins,
    /// Latency and processor time of messages.
    Chat,
    /// Pings through BOSH.
    Bosh,
    /// Everything.
    All,
}

/// Options of a comparison.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to compare.
    #[arg(value_enum, default_value = "all")]
    pub(crate) choice: Choice,
    /// Users (or idle connections) of the memory comparisons; at most what the server's descriptors allow.
    #[arg(long)]
    pub(crate) users: Option<usize>,
    /// Messages a second of the chat comparison, instead of what --load comes to.
    #[arg(long, value_parser = crate::arguments::rate)]
    pub(crate) rate: Option<f64>,
    /// Percent of all processors that stock ejabberd and the generator together keep busy in the chat comparison.
    #[arg(long, default_value_t = 70, value_parser = clap::value_parser!(u8).range(10..=95))]
    pub(crate) load: u8,
    /// Smaller and shorter, for a look: all of it within 10 minutes.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write docs/benchmarks.md.
    #[arg(long)]
    pub(crate) publish: bool,
    /// The servers, of stock and megaphone; naming one twice shows the noise.
    #[arg(long, value_delimiter = ',', default_value = "stock,megaphone")]
    pub(crate) variants: Vec<String>,
    /// The transports of memory, logins and chat.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tcp,ws,bosh")]
    pub(crate) transports: Vec<Transport>,
    /// Runs of each variant; 3 unless given, 1 with --quick.
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// Leave ejabberd's listen backlog of 5 instead of 4096.
    #[arg(long)]
    pub(crate) stock_backlog: bool,
    /// Let all Erlang processes collect their garbage before memory is measured. Without it memory is what an
    /// operator sees.
    #[arg(long)]
    pub(crate) collect_garbage: bool,
    /// Where results go.
    #[arg(long, default_value = "bench-results")]
    pub(crate) results: PathBuf,
}

/// One kind of comparison.
pub(crate) trait Case {
    /// The name on the command line.
    fn name(&self) -> &'static str;

    /// What is done and counted, in a sentence or two.
    fn describe(&self, lab: &Lab<'_>) -> String;

    /// Finds out what has to be known before any round. Failures and notes go to `trial`; its readings are of no
    /// variant.
    ///
    /// # Errors
    /// When that could not be found out at all.
    fn prepare(&mut self, _lab: &Lab<'_>, _trial: &mut Trial) -> Result<()> {
        Ok(())
    }

    /// What Megaphone's figures are to come to.
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    /// Measures `variant` once; figures and failures of single users go to `trial`.
    ///
    /// # Errors
    /// When not all figures could be got.
    fn measure(&self, lab: &Lab<'_>, variant: &Variant, trial: &mut Trial) -> Result<()>;
}

/// Runs the comparisons that were asked for, prints and saves them. Says whether there were no errors.
///
/// # Errors
/// When a variant does not exist or is not built, or results can't be saved.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let variants = variants(&options.variants)?;
    let lab = Lab { options };
    let outcomes: Vec<CaseOutcome> =
        cases(options.choice).iter_mut().map(|case| run_case(case.as_mut(), &lab, &variants)).collect();
    report::print(&outcomes);
    report::save(&outcomes, options)?;
    if options.publish {
        publish::publish(&outcomes)?;
    }
    Ok(outcomes.iter().all(CaseOutcome::is_clean))
}

fn cases(choice: Choice) -> Vec<Box<dyn Case>> {
    let all: [(Choice, Box<dyn Case>); 6] = [
        (Choice::Idle, Box::new(idle::Idle)),
        (Choice::Http, Box::new(http::Http)),
        (Choice::Memory, Box::new(memory::Memory)),
        (Choice::Logins, Box::new(logins::Logins)),
        (Choice::Chat, Box::new(chat::Chat::default())),
        (Choice::Bosh, Box::new(bosh::Bosh)),
    ];
    all.into_iter()
        .filter(|(name, _)| choice == Choice::All || choice == *name)
        .map(|(_, case)| case)
        .collect()
}

fn variants(names: &[String]) -> Result<Vec<Variant>> {
    let mut variants: Vec<Variant> = Vec::new();
    for name in names {
        let mut variant = Variant::named(name)?;
        let same = variants.iter().filter(|other| other.name.starts_with(name.as_str())).count();
        if same > 0 {
            variant.name = format!("{name}-{}", same + 1);
        }
        variants.push(variant);
    }
    Ok(variants)
}

/// A B A B: what changes on the machine in the meantime touches all variants alike.
fn run_case(case: &mut dyn Case, lab: &Lab<'_>, variants: &[Variant]) -> CaseOutcome {
    let rounds = lab.options.rounds.unwrap_or(lab.pick(1, 3)).max(1);
    let preparation = watched(|trial| case.prepare(lab, trial));
    let mut trials = vec![("preparation".to_owned(), preparation)];
    for round in 1..=rounds {
        for variant in variants {
            eprintln!("{}: {}, round {round} of {rounds}", case.name(), variant.name);
            let mut trial = watched(|trial| case.measure(lab, variant, trial));
            trial.notes.push(format!("listeners {} and {}", variant.c2s_module, variant.http_module));
            trials.push((variant.name.clone(), trial));
        }
    }
    CaseOutcome {
        name: case.name().to_owned(),
        description: case.describe(lab),
        variants: variants.iter().map(|variant| variant.name.clone()).collect(),
        targets: case.targets(),
        trials,
    }
}

/// Measures with `measure` and notes when other programs kept the processors busy meanwhile.
fn watched(measure: impl FnOnce(&mut Trial) -> Result<()>) -> Trial {
    let mut trial = Trial::default();
    let start = Instant::now();
    let watch = Watch::start();
    if let Err(error) = measure(&mut trial) {
        trial.lose("run", &error);
    }
    match watch.and_then(|watch| watch.others()) {
        Ok(others) => {
            trial.keep("cores that other programs kept busy", others);
            // Ticks of the clock are too coarse to say anything of less.
            if others > DISTURBING && start.elapsed() > Duration::from_secs(1) {
                trial.notes.push(format!("disturbed: other programs kept {others:.1} cores busy"));
            }
        }
        Err(error) => trial.lose("watching other programs", &error),
    }
    trial
}
