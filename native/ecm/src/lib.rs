//! The external connection manager: holds clients' connections outside a node, and carries them to it over links
//! (`docs/link.md`). So far it reads and checks its configuration (`docs/ecm.md`).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod control;
pub mod erlang_node;
pub mod http;
pub mod logging;
pub mod notify;
pub mod settings;
