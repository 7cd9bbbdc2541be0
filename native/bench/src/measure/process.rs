//! Memory and processor time of a process, from /proc.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// Memory in bytes, time in seconds since the process started.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) resident: f64,
    pub(crate) proportional: f64,
    pub(crate) cpu_seconds: f64,
}

impl Figures {
    /// Reads smaps_rollup and stat of `pid`.
    ///
    /// # Errors
    /// When there is no such process or it belongs to somebody else.
    pub(crate) fn take(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let rollup = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let kilobytes = |name| field(&rollup, name).with_context(|| format!("{path} has no {name}"));
        Ok(Self {
            resident: kilobytes("Rss:")? * 1024.0,
            proportional: kilobytes("Pss:")? * 1024.0,
            cpu_seconds: cpu_seconds(pid)?,
        })
    }
}

/// Processor seconds, user and system, of `pid` and all its threads.
///
/// # Errors
/// When there is no such process.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    ticks(&stat).map(|ticks| ticks / ticks_per_second()).with_context(|| format!("reading {path}"))
}

/// The unit of times in /proc.
pub(crate) fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// Fields 14 and 15, counted after the command's name, which may hold anything but ends at the last `)`.
fn ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn field(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_command_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 100 1000 10";
        assert_eq!(ticks(stat), Some(200.0));
    }

    #[test]
    fn this_process_has_figures() {
        let figures = Figures::take(std::process::id()).unwrap();
        assert!(figures.resident >= figures.proportional && figures.proportional > 0.0);
    }
}
