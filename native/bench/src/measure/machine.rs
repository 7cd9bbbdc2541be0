//! Who used the processors while something was measured: the server, the generator, or other programs.
//!
//! What others used is reckoned in two ways, of which the larger counts. One adds up the other processes, whose
//! times are exact. The other is user and system time of the whole machine without our own processes'; it has what
//! is not visible here, but most kernels sample it at their clock's ticks, and a load of short runs that begin with
//! a timer looks up to half a core smaller than it is. Time in interrupts is left out: on loopback it is our own
//! traffic's. Time that a hypervisor gave to other machines (steal) disturbs as other programs do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::measure::process::{Times, ticks_per_second};

/// Watches the processors from some moment on.
pub(crate) struct Meter {
    since: Instant,
    /// None: all children of this process are the generator's.
    servers: Vec<u32>,
    before: Sample,
}

/// What used the processors meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// The length of the window.
    pub(crate) seconds: f64,
    /// Processor seconds of the server's processes and their children.
    pub(crate) server: f64,
    /// Processor seconds of the generator, children included that ended.
    pub(crate) own: f64,
    /// Cores that everything else kept busy on average, a server without load among it.
    pub(crate) others: f64,
}

impl Usage {
    /// Cores that the server kept busy on average.
    pub(crate) fn server_cores(&self) -> f64 {
        self.server / self.seconds
    }

    /// Cores that the generator kept busy on average.
    pub(crate) fn own_cores(&self) -> f64 {
        self.own / self.seconds
    }
}

impl Meter {
    /// Begins to watch. `servers` are the processes of the one under load; without any, all children of this process are the
    /// generator's.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub(crate) fn start(servers: Vec<u32>) -> Result<Self> {
        let before = Sample::take()?;
        Ok(Self { since: Instant::now(), servers, before })
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// What was used since the start.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub(crate) fn stop(&self) -> Result<Usage> {
        let seconds = self.since.elapsed().as_secs_f64().max(f64::EPSILON);
        let after = Sample::take()?;
        Ok(usage(&self.before, &after, std::process::id(), &self.servers, seconds))
    }
}

/// Times in ticks.
#[derive(Debug, Default)]
struct Sample {
    /// User, nice and system time of the machine.
    busy: f64,
    stolen: f64,
    processes: BTreeMap<u32, Times>,
}

/// The parent of all threads of the kernel.
const KTHREADD: u32 = 2;

impl Sample {
    fn take() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let (busy, stolen) = busy_and_stolen(&stat).context("/proc/stat has no cpu line")?;
        let pids = fs::read_dir("/proc").context("reading /proc")?.flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // Some end meanwhile.
        let processes = pids.filter_map(|pid| Some((pid, Times::of(pid).ok()?))).collect();
        Ok(Self { busy, stolen, processes })
    }

    /// `root` and all its descendants.
    fn tree(&self, root: u32) -> BTreeSet<u32> {
        let mut tree = BTreeSet::from([root]);
        loop {
            let before = tree.len();
            let children = self.processes.iter().filter(|(_, times)| tree.contains(&times.parent));
            let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
            tree.extend(children);
            if tree.len() == before {
                return tree;
            }
        }
    }

    fn sum(&self, is_counted: impl Fn(u32, &Times) -> bool) -> f64 {
        let counted = self.processes.iter().filter(|(pid, times)| is_counted(**pid, times));
        counted.map(|(_, times)| times.all).sum()
    }

    /// Ticks of the server's tree, of the generator, and of all other processes that are none of the kernel's.
    fn parts(&self, own: u32, servers: &[u32]) -> [f64; 3] {
        let owns = if servers.is_empty() { self.tree(own) } else { BTreeSet::from([own]) };
        let servers: BTreeSet<u32> = servers.iter().flat_map(|server| self.tree(*server)).collect();
        let is_kernel = |pid, times: &Times| pid == KTHREADD || times.parent == KTHREADD;
        [
            self.sum(|pid, _| servers.contains(&pid)),
            self.sum(|pid, _| owns.contains(&pid)),
            self.sum(|pid, times| !servers.contains(&pid) && !owns.contains(&pid) && !is_kernel(pid, times)),
        ]
    }
}

/// The generator is the process `own`.
fn usage(before: &Sample, after: &Sample, own: u32, servers: &[u32], seconds: f64) -> Usage {
    let (first, last) = (before.parts(own, servers), after.parts(own, servers));
    let [server, own, others] = [0, 1, 2].map(|part| last[part] - first[part]);
    let unaccounted = after.busy - before.busy - server - own;
    let stolen = after.stolen - before.stolen;
    let ticks = ticks_per_second();
    Usage {
        seconds,
        server: server / ticks,
        own: own / ticks,
        others: (unaccounted.max(others).max(0.0) + stolen) / ticks / seconds,
    }
}

/// Guests' time is in user time already.
fn busy_and_stolen(stat: &str) -> Option<(f64, f64)> {
    let fields: Vec<f64> = stat
        .lines()
        .find_map(|line| line.strip_prefix("cpu "))?
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    let [user, nice, system, _idle, _iowait, _irq, _softirq, stolen, ..] = fields[..] else { return None };
    Some((user + nice + system, stolen))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OWN: u32 = 10;
    const SERVER: u32 = 20;

    /// The generator 10 with the servers 20, which has a child, and 30; the shell 5, and a thread of the kernel.
    fn sample(busy: f64, [own, server, child, idle, shell, kernel]: [f64; 6]) -> Sample {
        let processes = [
            (OWN, 5, own),
            (SERVER, OWN, server),
            (21, SERVER, child),
            (30, OWN, idle),
            (5, 1, shell),
            (9, KTHREADD, kernel),
        ];
        let processes = processes.map(|(pid, parent, all)| (pid, Times { parent, all, own: all }));
        Sample { busy, stolen: 0.0, processes: processes.into() }
    }

    fn cores(ticks: f64, seconds: f64) -> f64 {
        ticks / ticks_per_second() / seconds
    }

    #[test]
    fn interrupts_and_idle_time_are_not_busy() {
        assert_eq!(busy_and_stolen("cpu  10 1 5 1000 50 2 3 7 9 0\ncpu0 1 1 1 1\n"), Some((16.0, 7.0)));
        assert_eq!(busy_and_stolen("cpu  10 1\n"), None);
    }

    #[test]
    fn a_server_counts_with_its_children_and_a_server_without_load_as_a_disturbance() {
        let before = sample(1000.0, [0.0; 6]);
        let after = sample(1210.0, [50.0, 100.0, 20.0, 40.0, 0.0, 0.0]);
        let usage = usage(&before, &after, OWN, &[SERVER], 2.0);
        assert_eq!((usage.server, usage.own), (cores(120.0, 1.0), cores(50.0, 1.0)));
        assert_eq!(usage.others, cores(40.0, 2.0));
    }

    #[test]
    fn without_a_server_all_children_are_ours() {
        let after = sample(210.0, [50.0, 100.0, 20.0, 40.0, 0.0, 0.0]);
        let usage = usage(&sample(0.0, [0.0; 6]), &after, OWN, &[], 1.0);
        assert_eq!((usage.own, usage.others), (cores(210.0, 1.0), 0.0));
    }

    #[test]
    fn others_are_found_where_interrupts_count_among_our_own_time() {
        // 30 ticks of ours were spent in interrupts, so that the machine's user and system time hides the shell.
        let after = sample(100.0, [100.0, 0.0, 0.0, 0.0, 30.0, 500.0]);
        let usage = usage(&sample(0.0, [0.0; 6]), &after, OWN, &[SERVER], 1.0);
        assert_eq!(usage.others, cores(30.0, 1.0));
    }

    #[test]
    fn what_is_not_visible_and_what_is_stolen_disturbs() {
        let mut after = sample(180.0, [100.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        after.stolen = 20.0;
        let usage = usage(&sample(0.0, [0.0; 6]), &after, OWN, &[SERVER], 1.0);
        assert_eq!(usage.others, cores(100.0, 1.0));
    }

    #[test]
    fn this_process_is_seen_to_work() {
        let meter = Meter::start(Vec::new()).unwrap();
        while meter.stop().unwrap().own < 0.05 {}
        let usage = meter.stop().unwrap();
        assert!(
            usage.own <= 2.0 * usage.seconds * std::thread::available_parallelism().unwrap().get() as f64
        );
    }
}
