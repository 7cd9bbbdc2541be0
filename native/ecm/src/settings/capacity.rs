//! How many workers there are, and whether the connections fit into their descriptors.

use rustix::process::{Resource, getrlimit};
use toml::Spanned;

/// The most workers that there can be.
pub const MAX_WORKERS: u16 = 256;

/// Descriptors of a worker that are no client's, beside its listeners' sockets: epoll, timers, links, logs.
const OWN_DESCRIPTORS: u64 = 64;

/// What a file is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Descriptors that a worker can have: the process's hard `RLIMIT_NOFILE`, for each worker has a table of its own.
    pub descriptors: u64,
    /// How many workers, in place of what the file says. 1 to [`MAX_WORKERS`].
    pub workers: Option<u16>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        Self { descriptors: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX), workers: None }
    }

    /// The number that was asked for, or as few as hold the connections. Else what is wrong.
    pub(super) fn workers(
        &self,
        given: Option<&Spanned<u16>>,
        max_connections: u32,
        listeners: usize,
    ) -> Result<u16, String> {
        let room = Room { descriptors: self.descriptors, own: OWN_DESCRIPTORS + listeners as u64 };
        let connections = u64::from(max_connections);
        let needed = (1..=MAX_WORKERS).find(|workers| room.of(*workers) >= connections);
        let given = self.workers.or(given.map(|given| *given.get_ref()));
        match given.or(needed) {
            Some(workers) if room.of(workers) >= connections => Ok(workers),
            _ => Err(room.too_little(given.unwrap_or(MAX_WORKERS), needed, connections)),
        }
    }
}

/// What a worker has room for.
struct Room {
    descriptors: u64,
    own: u64,
}

impl Room {
    /// Clients that so many workers can hold. The kernel spreads connections over their sockets by a hash, so that one has more
    /// than another: room for four standard deviations is left.
    fn of(&self, workers: u16) -> u64 {
        let each = self.descriptors.saturating_sub(self.own);
        let spread = if workers == 1 { 0 } else { 4 * each.isqrt() };
        each.saturating_sub(spread).saturating_mul(workers.into())
    }

    /// Descriptors that so many workers need for so many clients; `of`, turned round.
    fn limit(&self, workers: u16, connections: u64) -> u64 {
        let each = connections.div_ceil(workers.into());
        let spread = if workers == 1 { 0 } else { 4 * (each + 4).isqrt() + 12 };
        each + spread + self.own
    }

    fn too_little(&self, workers: u16, needed: Option<u16>, connections: u64) -> String {
        let (room, limit) = (self.of(workers), self.limit(workers, connections));
        let plural = if workers == 1 { "" } else { "s" };
        let more = needed.map_or_else(String::new, |needed| format!("set workers = {needed}, or "));
        format!(
            "{workers} worker{plural} with {} descriptors each (the hard limit of this process) hold {room} connections, not \
             {connections}: {more}raise the limit to {limit} (LimitNOFILE={limit} in the systemd unit, ulimit -n {limit} in a \
             shell), or lower max_connections",
            self.descriptors
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_is_named_suffices() {
        for workers in [1, 2, 3, 50, MAX_WORKERS] {
            for connections in [1, 2, 5, 100, 9_999, 1_000_000, 16_777_216] {
                let room = Room { descriptors: 0, own: 66 };
                let room = Room { descriptors: room.limit(workers, connections), ..room };
                assert!(room.of(workers) >= connections, "{workers} {connections}");
            }
        }
    }

    #[test]
    fn no_limit_needs_one_worker() {
        let environment = Environment { descriptors: u64::MAX, workers: None };
        assert_eq!(environment.workers(None, 16_777_216, 1), Ok(1));
    }

    #[test]
    fn workers_are_as_few_as_the_limit_allows() {
        let environment = Environment { descriptors: 20_000, workers: None };
        assert_eq!(environment.workers(None, 19_934, 2), Ok(1));
        assert_eq!(environment.workers(None, 19_935, 2), Ok(2));
        assert_eq!(environment.workers(None, 1_000_000, 2), Ok(52));
        assert_eq!(Environment { workers: Some(60), ..environment }.workers(None, 1_000_000, 2), Ok(60));
    }
}
