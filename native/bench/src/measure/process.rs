//! Memory and processor time of a process, from /proc.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// Memory in bytes, time in seconds since the process started.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) resident: f64,
    pub(crate) proportional: f64,
    pub(crate) cpu_seconds: f64,
}

impl Figures {
    /// Of all `pids` together.
    ///
    /// # Errors
    /// As [`Figures::take`].
    pub(crate) fn sum(pids: &[u32]) -> Result<Self> {
        let none = Self { resident: 0.0, proportional: 0.0, cpu_seconds: 0.0 };
        pids.iter().try_fold(none, |sum, pid| {
            let one = Self::take(*pid)?;
            Ok(Self {
                resident: sum.resident + one.resident,
                proportional: sum.proportional + one.proportional,
                cpu_seconds: sum.cpu_seconds + one.cpu_seconds,
            })
        })
    }

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
            cpu_seconds: Times::of(pid)?.own / ticks_per_second(),
        })
    }
}

/// Processor time of a process with all its threads, user and system, in ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Times {
    /// The pid of the parent.
    pub(crate) parent: u32,
    /// The process' own.
    pub(crate) own: f64,
    /// With its children that have ended and been waited for.
    pub(crate) all: f64,
}

impl Times {
    /// Reads stat of `pid`.
    ///
    /// # Errors
    /// When there is no such process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        Self::parse(&stat).with_context(|| format!("understanding {path}"))
    }

    /// Fields 4 and 14 to 17, counted after the command's name, which may hold anything but ends at the last
    /// `)`.
    fn parse(stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let ticks: Vec<f64> = fields.skip(9).take(4).filter_map(|field| field.parse().ok()).collect();
        let [user, system, children_user, children_system] = ticks[..] else { return None };
        let own = user + system;
        Some(Self { parent, own, all: own + children_user + children_system })
    }
}

/// How long the threads of `pids` have run, those that ended aside: by the scheduler's count, which has no ticks.
///
/// # Errors
/// When there is no such process, or the kernel counts nothing (CONFIG_SCHED_INFO).
pub(crate) fn run_time(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|pid| run_time_of(*pid)).sum()
}

fn run_time_of(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&path).with_context(|| format!("reading {path}"))?.flatten();
    // Some end meanwhile.
    let counts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    let times: Vec<u64> = counts.filter_map(|count| first_number(&count)).collect();
    if times.is_empty() {
        bail!("{path} says nothing of how long threads ran");
    }
    Ok(Duration::from_nanos(times.iter().sum()))
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// The unit of times in /proc.
pub(crate) fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
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
        let stat = "7 (a) b (c) S 3 7 7 0 -1 4194304 1 2 3 4 150 50 30 10 20 0 1 0 100 1000 10";
        assert_eq!(Times::parse(stat), Some(Times { parent: 3, own: 200.0, all: 240.0 }));
        assert_eq!(Times::parse("7 (a) S 3 7"), None);
    }

    #[test]
    fn the_time_that_this_process_ran_grows_with_its_work() {
        let own = [std::process::id()];
        let first = run_time(&own).unwrap();
        while run_time(&own).unwrap() < first + Duration::from_millis(5) {}
        assert!(run_time(&[own[0], u32::MAX]).is_err());
    }

    #[test]
    fn this_process_has_figures() {
        let figures = Figures::take(std::process::id()).unwrap();
        assert!(figures.resident >= figures.proportional && figures.proportional > 0.0);
    }
}
