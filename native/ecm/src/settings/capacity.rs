//! How many workers there are, and whether the connections fit into their descriptors.

use super::nodes::Node;
use super::report::Report;
use super::section::Section;
use super::value;
use rustix::process::{Resource, getrlimit};
use std::ops::Range;
use toml::Spanned;

/// The most connections that a file may ask for.
pub const MAX_CONNECTIONS: u32 = 1 << 24;

const DEFAULT_CONNECTIONS: u32 = 100_000;

/// The most workers that there can be.
pub const MAX_WORKERS: u16 = 256;

/// Descriptors of a worker that are no client's, beside its listening sockets, its links and a mailbox for each worker: epoll,
/// signals, standard output, what the first worker's table has of the rest of the program.
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

    /// Clients that one of so many workers has descriptors for.
    pub(crate) fn room(&self, listeners: usize, nodes: &[Node], workers: u16) -> u64 {
        let own = OWN_DESCRIPTORS + listeners as u64 + links(nodes);
        Room { descriptors: self.descriptors, own }.each(workers)
    }

    /// The number that was asked for, or as few as hold the connections. Else what is wrong.
    fn workers(&self, given: Option<u16>, max_connections: u32, sockets: u64) -> Result<u16, String> {
        let room = Room { descriptors: self.descriptors, own: OWN_DESCRIPTORS + sockets };
        let connections = u64::from(max_connections);
        let needed = (1..=MAX_WORKERS).find(|workers| room.of(*workers) >= connections);
        let given = self.workers.or(given);
        match given.or(needed) {
            Some(workers) if room.of(workers) >= connections => Ok(workers),
            _ => Err(room.too_little(given.unwrap_or(MAX_WORKERS), needed, connections)),
        }
    }
}

/// What the file says of it.
pub(super) struct Capacity {
    /// As it is in the settings. The most when what the file says is wrong, so that nothing else is wrong for that.
    pub(super) max_connections: u32,
    is_known: bool,
    at_max: Range<usize>,
    workers: Option<Spanned<u16>>,
}

impl Capacity {
    pub(super) fn read(root: &mut Section<'_>) -> Self {
        let max = root.given("max_connections", value::integer(1..=MAX_CONNECTIONS.into()));
        let workers = root.given("workers", value::integer(1..=MAX_WORKERS.into()));
        let is_known = max.is_some() || !root.has("max_connections");
        let default = if is_known { DEFAULT_CONNECTIONS } else { MAX_CONNECTIONS };
        Self {
            at_max: max.as_ref().map_or(root.span(), Spanned::span),
            max_connections: max.map_or(default, Spanned::into_inner),
            is_known,
            workers,
        }
    }

    /// None after a problem.
    pub(super) fn workers(
        &self,
        report: &Report<'_>,
        environment: &Environment,
        listeners: usize,
        nodes: &[Node],
    ) -> Option<u16> {
        let sockets = listeners as u64 + links(nodes);
        let given = self.workers.as_ref().map(|workers| *workers.get_ref());
        let span = self.workers.as_ref().map_or(self.at_max.clone(), Spanned::span);
        match environment.workers(given, self.max_connections, sockets) {
            Ok(workers) => return Some(workers),
            Err(message) if self.is_known => report.add(span, message),
            Err(_) => {}
        }
        None
    }

    /// Each connection is a stream, and a link has a bound on them. Each worker has links of its own.
    pub(super) fn check_streams(
        &self,
        report: &Report<'_>,
        nodes: &[Node],
        workers: Option<u16>,
        max_streams: u32,
    ) {
        let links = links(nodes) * u64::from(workers.unwrap_or(MAX_WORKERS));
        let (streams, connections) = (links * u64::from(max_streams), self.max_connections);
        if self.is_known && links > 0 && streams < connections.into() {
            let message = format!(
                "max_connections: all links together ({links}) have {streams} streams, not {connections}: raise links or \
                 max_streams, or lower max_connections"
            );
            report.add(self.at_max.clone(), message);
        }
    }
}

fn links(nodes: &[Node]) -> u64 {
    nodes.iter().map(|node| u64::from(node.links)).sum()
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
        let each = self.each(workers);
        let spread = if workers == 1 { 0 } else { 4 * each.isqrt() };
        each.saturating_sub(spread).saturating_mul(workers.into())
    }

    /// Descriptors of one that are left. Each has the mailboxes of all in its table.
    fn each(&self, workers: u16) -> u64 {
        self.descriptors.saturating_sub(self.own + u64::from(workers))
    }

    /// Descriptors that so many workers need for so many clients; `of`, turned round.
    fn limit(&self, workers: u16, connections: u64) -> u64 {
        let each = connections.div_ceil(workers.into());
        let spread = if workers == 1 { 0 } else { 4 * (each + 4).isqrt() + 12 };
        each + spread + self.own + u64::from(workers)
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
        assert_eq!(environment.workers(None, 19_933, 2), Ok(1));
        assert_eq!(environment.workers(None, 19_934, 2), Ok(2));
        assert_eq!(environment.workers(None, 1_000_000, 2), Ok(52));
        assert_eq!(Environment { workers: Some(60), ..environment }.workers(None, 1_000_000, 2), Ok(60));
    }
}
