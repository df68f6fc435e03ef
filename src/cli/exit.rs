//! The exit codes.

use std::process::ExitCode;

/// The exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything is done.
    Done = 0,
    /// The command failed; the same call can succeed later.
    Failed = 1,
    /// The arguments or the settings are invalid; the same call cannot succeed later.
    Usage = 2,
    /// Only a part is done; the output says which.
    Partly = 3,
    /// The thing does not exist, or the caller may not know of it.
    NotFound = 4,
    /// The command conflicts with the present state: a taken slug, another revision, a tenant that is being deleted.
    Conflict = 5,
    /// The credential is not valid, or a right is missing.
    Denied = 6,
    /// The server or the database is away or overloaded; the same call can succeed later.
    Away = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
