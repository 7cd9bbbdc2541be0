//! The one system of the VM.

use crate::atoms;
use crate::host::{ErlangHost, Pid, on_down};
use megaphone_core::{Belongings, Config, ListenerId, System};
use rustler::{Error, LocalPid, NifResult};
use std::sync::{Arc, OnceLock};

/// Its threads live as long as the VM: a library that has threads can't be unloaded.
static SYSTEM: OnceLock<Arc<System<ErlangHost>>> = OnceLock::new();

/// The system, when it was started.
pub(crate) fn system() -> NifResult<&'static Arc<System<ErlangHost>>> {
    SYSTEM.get().ok_or_else(|| Error::RaiseTerm(Box::new(atoms::not_started())))
}

/// The same, where its absence is no error.
pub(crate) fn started() -> Option<&'static Arc<System<ErlangHost>>> {
    SYSTEM.get()
}

/// Starts it. Erlang's application controller starts one at a time.
pub(crate) fn start(config: Config) -> std::io::Result<&'static Arc<System<ErlangHost>>> {
    let system = System::start(ErlangHost, config)?;
    on_down(process_down);
    Ok(SYSTEM.get_or_init(|| system))
}

fn process_down(pid: LocalPid, owned: Belongings, listeners: &[ListenerId]) {
    if let Some(system) = SYSTEM.get() {
        system.process_ended(Pid(pid), owned, listeners);
    }
}
