//! What a backend is opened for.

/// What a backend is opened for, and so what opening it may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Prepares the database, makes missing secrets and the first admin.
    Serve,
    /// Prepares the database.
    Migrate,
    /// Changes nothing, and refuses a database that is not prepared.
    Operate,
}
