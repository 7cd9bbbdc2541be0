//! What a server costs: memory of the process, of the Erlang VM and of the kernel, and processor time.

pub(crate) mod beam;
pub(crate) mod kernel;
pub(crate) mod machine;
pub(crate) mod process;

use anyhow::Result;
use serde::Serialize;

use crate::server::Server;

/// All figures of a server at one time.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Snapshot {
    /// Of all of its processes together.
    pub(crate) process: process::Figures,
    /// Resident bytes of its connection manager, where it has one.
    pub(crate) ecm: Option<f64>,
    pub(crate) beam: beam::Figures,
    pub(crate) kernel: kernel::Figures,
    /// Whether memory was known to have come to rest before.
    pub(crate) is_settled: bool,
}

impl Snapshot {
    /// Takes the figures of `server` now.
    ///
    /// # Errors
    /// When the server is gone or /proc can't be read.
    pub(crate) fn take(server: &mut Server) -> Result<Self> {
        // The node's own answer first: giving it may touch memory.
        let beam = beam::Figures::take(server)?;
        let process = process::Figures::sum(&server.pids())?;
        let ecm = server.ecm_pid().map(process::Figures::take).transpose()?.map(|figures| figures.resident);
        Ok(Self { process, ecm, beam, kernel: kernel::Figures::take()?, is_settled: false })
    }
}

/// What one user (or connection) adds to a server.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PerUser {
    /// Erlang processes.
    pub(crate) processes: f64,
    /// Erlang ports.
    pub(crate) ports: f64,
    /// Bytes by the Erlang VM's own count (`erlang:memory(total)`).
    pub(crate) beam: f64,
    /// Bytes of that in processes.
    pub(crate) beam_processes: f64,
    /// Resident bytes of the VM, and of the connection manager where there is one.
    pub(crate) resident: f64,
    /// Of these, the connection manager's.
    pub(crate) ecm: Option<f64>,
    /// Bytes that native code (Rust) has from malloc.
    pub(crate) malloc: f64,
    /// Proportional resident bytes of the VM (shared pages divided by their users).
    pub(crate) proportional: f64,
    /// The server's share of kernel memory.
    pub(crate) kernel: f64,
    /// Resident and kernel bytes together.
    pub(crate) all_in: f64,
}

impl PerUser {
    /// The growth from `before` to `after` over `users`, who have `sockets` server-side sockets between them.
    pub(crate) fn between(before: &Snapshot, after: &Snapshot, users: usize) -> Self {
        let each = |from: f64, to: f64| (to - from) / users.max(1) as f64;
        let resident = each(before.process.resident, after.process.resident);
        let kernel = after.kernel.server_share_since(&before.kernel) / users.max(1) as f64;
        Self {
            processes: each(before.beam.processes, after.beam.processes),
            ports: each(before.beam.ports, after.beam.ports),
            beam: each(before.beam.total, after.beam.total),
            beam_processes: each(before.beam.in_processes, after.beam.in_processes),
            resident,
            ecm: before.ecm.zip(after.ecm).map(|(before, after)| each(before, after)),
            malloc: each(before.beam.malloc, after.beam.malloc),
            proportional: each(before.process.proportional, after.process.proportional),
            kernel,
            all_in: resident + kernel,
        }
    }
}
