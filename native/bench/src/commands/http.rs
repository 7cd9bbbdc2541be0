//! Plain HTTP requests to a server that somebody else runs.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::arguments::rate;
use crate::commands::{print_verdict, resolve, show};
use crate::generator::http_load::{Load, Plan};
use crate::generator::http_run::HttpRun;
use crate::generator::latency::Summary;

/// Options of `http`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// host:port to connect to.
    #[arg(long)]
    target: String,
    /// What to GET.
    #[arg(long, default_value = "/")]
    path: String,
    /// The Host header; the target unless given.
    #[arg(long)]
    host: Option<String>,
    /// Keep-alive connections.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Connections opened a second.
    #[arg(long, default_value_t = 1000.0, value_parser = rate)]
    ramp: f64,
    /// Seconds of load once all are open.
    #[arg(long, default_value_t = 10)]
    duration: u64,
    /// Requests a second, whatever the server does. Without it, each answer is followed by the next request.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
}

/// Sends requests and reports.
///
/// # Errors
/// When the target has no address, or a worker fails as a whole.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let long = Duration::from_secs(options.duration);
    let host = options.host.as_ref().unwrap_or(&options.target);
    let plan = Plan {
        connections: options.connections,
        ramp: options.ramp,
        request: format!("GET {} HTTP/1.1\r\nHost: {host}\r\n\r\n", options.path).into_bytes(),
        load: options.rate.map_or(Load::Closed(long), |rate| Load::Fixed(rate, long)),
        patience: Duration::from_secs(20),
    };
    let (outcome, causes) = HttpRun::start(&plan, resolve(&options.target)?)?.finish()?;
    let is_clean = print_verdict(&causes);
    let rate = outcome.answered as f64 / outcome.elapsed.as_secs_f64().max(f64::EPSILON);
    println!("{} answers, {rate:.0} a second", outcome.answered);
    println!("latency: {}", show(&Summary::of(&outcome.latency)));
    if options.rate.is_none() {
        let each = outcome.answered / options.connections.max(1) as u64;
        let interval = outcome.elapsed.as_nanos() as u64 / each.max(1);
        let corrected = Summary::of(&outcome.latency.clone_correct(interval.max(1)));
        println!("corrected for requests not sent while waiting, as wrk does: {}", show(&corrected));
    }
    Ok(is_clean)
}
