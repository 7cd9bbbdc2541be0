//! The commands besides `compare`: load on a server that somebody else runs, and a listener to try it on.

pub(crate) mod hold;
pub(crate) mod http;
pub(crate) mod listen;
pub(crate) mod load;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result};

use crate::generator::latency::Summary;

/// Prints the first line of a report: that all is well, or what failed how often. Says which.
fn print_verdict(causes: &BTreeMap<String, u64>) -> bool {
    if causes.is_empty() {
        println!("No errors.");
    } else {
        let causes: Vec<String> = causes.iter().map(|(cause, count)| format!("{count} x {cause}")).collect();
        println!("ERRORS: {}", causes.join("; "));
    }
    causes.is_empty()
}

fn show(latency: &Summary) -> String {
    format!(
        "p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, max {:.3} ms",
        latency.p50, latency.p90, latency.p99, latency.p999, latency.max
    )
}

fn resolve(target: &str) -> Result<SocketAddr> {
    let mut found = target.to_socket_addrs().with_context(|| format!("the target {target:?}"))?;
    found.next().with_context(|| format!("{target:?} has no address"))
}
