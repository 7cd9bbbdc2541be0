//! Idle TCP connections, and what they cost the generator.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::arguments::rate;
use crate::commands::{print_verdict, resolve};
use crate::generator::http_load::{Load, Plan};
use crate::generator::http_run::HttpRun;
use crate::measure::process;

/// Options of `hold`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// host:port to connect to.
    #[arg(long)]
    target: String,
    /// Connections to hold.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Connections opened a second.
    #[arg(long, default_value_t = 5000.0, value_parser = rate)]
    ramp: f64,
    /// Seconds to hold them once all are open.
    #[arg(long, default_value_t = 5)]
    hold: u64,
}

/// Opens, holds and reports.
///
/// # Errors
/// When the target has no address, or a worker fails as a whole.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let plan = Plan {
        connections: options.connections,
        ramp: options.ramp,
        request: Vec::new(),
        load: Load::Idle,
        patience: Duration::from_secs(30),
    };
    let run = HttpRun::start(&plan, resolve(&options.target)?)?;
    run.wait_until_open(|_| ());
    thread::sleep(Duration::from_secs(options.hold));
    let opened = run.opened();
    let own = process::Figures::take(std::process::id())?;
    let (_, causes) = run.finish()?;
    let is_clean = print_verdict(&causes);
    let each = own.resident / opened.max(1) as f64;
    println!(
        "{opened} connections held; the generator is {:.1} MB, {each:.0} bytes each",
        own.resident / 1e6
    );
    println!("processor time of the generator: {:.2} s", own.cpu_seconds);
    Ok(is_clean)
}
