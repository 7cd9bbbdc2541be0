//! The Erlang VM's own figures, asked of the node.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::server::Server;

const LIMIT: Duration = Duration::from_secs(30);

/// Counts, and bytes by `erlang:memory/0`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) processes: f64,
    pub(crate) ports: f64,
    /// Sessions of the session manager.
    pub(crate) sessions: f64,
    pub(crate) total: f64,
    pub(crate) in_processes: f64,
    pub(crate) in_binaries: f64,
    pub(crate) in_ets: f64,
    pub(crate) in_system: f64,
    /// What native code has from malloc, which is none of the above.
    pub(crate) malloc: f64,
}

/// Processes of `server` that hibernate. Asking may wake them, so figures of memory are to be taken before.
///
/// # Errors
/// As [`Figures::take`].
pub(crate) fn hibernating(server: &mut Server) -> Result<f64> {
    number(&server.ask("hibernating", LIMIT)?, "hibernating")
}

impl Figures {
    /// Asks `server` for them.
    ///
    /// # Errors
    /// When the node is gone, silent for 30 s, or answers something else.
    pub(crate) fn take(server: &mut Server) -> Result<Self> {
        let answer = server.ask("figures", LIMIT)?;
        let memory = |name: &str| number(&answer["memory"], name);
        Ok(Self {
            processes: number(&answer, "processes")?,
            ports: number(&answer, "ports")?,
            sessions: number(&answer, "sessions")?,
            total: memory("total")?,
            in_processes: memory("processes")?,
            in_binaries: memory("binary")?,
            in_ets: memory("ets")?,
            in_system: memory("system")?,
            malloc: number(&answer, "malloc")?,
        })
    }
}

fn number(answer: &Value, name: &str) -> Result<f64> {
    answer[name].as_f64().with_context(|| format!("the node's answer has no {name}"))
}
