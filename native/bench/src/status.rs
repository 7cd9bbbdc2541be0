//! What the program ends with.

use std::process::ExitCode;

/// How a command came out when it could be carried out at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Clean,
    /// There were errors of connections or users.
    Failed,
    /// Other programs disturbed what was measured: the figures are not to be trusted.
    Doubtful,
}

impl Status {
    /// Clean, or with errors.
    pub(crate) fn of(is_clean: bool) -> Self {
        if is_clean { Self::Clean } else { Self::Failed }
    }
}

impl From<Status> for ExitCode {
    /// 1 is for commands that could not be carried out.
    fn from(status: Status) -> Self {
        match status {
            Status::Clean => Self::SUCCESS,
            Status::Failed => Self::from(2),
            Status::Doubtful => Self::from(3),
        }
    }
}
