//! How busy the machine was with other things while something was measured.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::measure::process::ticks_per_second;

/// Processor time of the whole machine and of this process with its ended children, from some moment.
pub(crate) struct Watch {
    since: Instant,
    machine: f64,
    own: f64,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub(crate) fn start() -> Result<Self> {
        Ok(Self { since: Instant::now(), machine: busy_ticks()?, own: own_ticks()? })
    }

    /// Processors that programs other than this one and its children kept busy since the start, on average.
    /// Children count once they have ended and been waited for.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub(crate) fn others(&self) -> Result<f64> {
        let all = busy_ticks()? - self.machine;
        let own = own_ticks()? - self.own;
        let seconds = self.since.elapsed().as_secs_f64().max(f64::EPSILON);
        Ok(((all - own) / ticks_per_second() / seconds).max(0.0))
    }
}

fn busy_ticks() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    busy(&stat).context("/proc/stat has no cpu line")
}

fn own_ticks() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").context("reading /proc/self/stat")?;
    own(&stat).context("/proc/self/stat is too short")
}

/// All but idle time and waiting for disks, and guests, who are in user time already.
fn busy(stat: &str) -> Option<f64> {
    let fields: Vec<f64> = stat
        .lines()
        .find_map(|line| line.strip_prefix("cpu "))?
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = fields[..] else { return None };
    Some(user + nice + system + irq + softirq)
}

/// Fields 14 to 17: user and system time, own and of children that were waited for.
fn own(stat: &str) -> Option<f64> {
    let fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4);
    let times: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    (times.len() == 4).then(|| times.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_guest_time_is_not_busy() {
        assert_eq!(busy("cpu  10 1 5 1000 50 2 3 0 7 0\ncpu0 1 1 1 1\n"), Some(21.0));
        assert_eq!(busy("cpu  10 1\n"), None);
    }

    #[test]
    fn children_count_with_their_parent() {
        assert_eq!(own("7 (a) b) S 1 7 7 0 -1 4194304 1 2 3 4 10 20 30 40 20 0"), Some(100.0));
    }
}
