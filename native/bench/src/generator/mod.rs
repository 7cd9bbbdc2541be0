//! The load generator: workers, each a thread with sockets and a descriptor table of its own.

pub(crate) mod crowd;
pub(crate) mod crowd_run;
pub(crate) mod deaf;
pub(crate) mod flood;
pub(crate) mod http_load;
pub(crate) mod http_run;
pub(crate) mod io;
pub(crate) mod latency;
pub(crate) mod orders;
pub(crate) mod pace;
pub(crate) mod phase;
pub(crate) mod probe;
pub(crate) mod shared;
pub(crate) mod solo;

/// Connections that one worker takes, within the usual hard limit of 20,000 descriptors a table.
pub(crate) const CONNECTIONS_A_WORKER: usize = 18_000;

/// How `total` is divided over workers of at most `most` each, as evenly as can be.
pub(crate) fn shares(total: usize, most: usize) -> Vec<usize> {
    let workers = total.div_ceil(most).max(1);
    (0..workers).map(|worker| total / workers + usize::from(worker < total % workers)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_keep_the_bound() {
        for (total, most) in [(0, 5), (1, 5), (5, 5), (6, 5), (17, 5), (100_000, CONNECTIONS_A_WORKER)] {
            let shares = shares(total, most);
            assert_eq!(shares.iter().sum::<usize>(), total);
            assert!(shares.iter().all(|share| *share <= most));
        }
    }
}
