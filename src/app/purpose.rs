//! The purpose of a backend.

/// The purpose of a backend, which decides what opening it may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To serve requests: prepares the database, creates missing secrets and the first admin.
    Serve,
    /// To migrate: prepares the database.
    Migrate,
    /// To run any other command: changes nothing, and refuses a database that is not prepared.
    Operate,
}
