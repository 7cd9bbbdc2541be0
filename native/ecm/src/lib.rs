//! The external connection manager: holds clients' connections outside a node, and carries them to it over links
//! (`docs/link.md`, `docs/ecm.md`).

#![cfg_attr(test, allow(clippy::unwrap_used))]
#![deny(unsafe_code)]

pub mod control;
pub mod erlang_node;
pub mod http;
pub mod logging;
mod mail;
mod net;
mod notes;
pub mod notify;
mod office;
mod resolve;
pub mod service;
mod service_thread;
pub mod settings;
mod sys;
mod worker;
