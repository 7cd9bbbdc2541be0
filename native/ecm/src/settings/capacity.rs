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
        let own = OWN_DESCRIPTORS + listeners as u64;
        let (connections, room) = (u64::from(max_connections), self.descriptors.saturating_sub(own));
        let given = self.workers.or(given.map(|given| *given.get_ref())).map(u64::from);
        let needed = connections.checked_div(room).map(|_| connections.div_ceil(room));
        let workers = given.or(needed.filter(|needed| *needed <= MAX_WORKERS.into()));
        if let Some(workers) = workers.filter(|workers| workers.saturating_mul(room) >= connections) {
            return Ok(u16::try_from(workers).unwrap_or(MAX_WORKERS));
        }
        let most = given.unwrap_or(MAX_WORKERS.into());
        let holds = format!(
            "{most} workers with {} descriptors each (the hard limit of this process) hold {} connections",
            self.descriptors,
            most * room
        );
        let limit = connections.div_ceil(most) + own;
        let more = match needed.filter(|needed| *needed <= MAX_WORKERS.into()) {
            Some(needed) => format!("set workers = {needed}, or "),
            None => String::new(),
        };
        Err(format!(
            "max_connections: {holds}, not {max_connections}: {more}raise the limit to {limit} (LimitNOFILE={limit} in the \
             systemd unit, ulimit -n {limit} in a shell), or lower max_connections"
        ))
    }
}
