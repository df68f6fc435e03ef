//! Why the server cannot do now what it may do a moment later.

/// The reason why a request is answered 503. The fault is not the caller's, and nothing was changed unless the answer
/// to a commit was lost, or did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Outage {
    /// The database, or something else that the request needs, does not answer or is overloaded.
    #[error("not available")]
    #[strum(serialize = "unavailable")]
    Away,
    /// The time of the request was over while the answer to a commit was still awaited: it may have been done.
    #[error("it is not known whether it was done")]
    OutcomeUnknown,
    /// Other work held the database connections for as long as a request waits for one.
    #[error("no database connection was free in time")]
    NoConnection,
    /// Another transaction kept a lock for longer than `database.lock_timeout`.
    #[error("a lock was not granted in time")]
    LockTimeout,
    /// The transaction conflicted with others each time that it was tried.
    #[error("it conflicted with other transactions each time")]
    #[strum(serialize = "transaction_conflict")]
    LostRace,
    /// What is in the tenant is being exchanged with what is in another one.
    #[error("the tenant is closed for a moment")]
    TenantClosed,
    /// The database accepts no changes: it is a standby, or was set to read-only.
    #[error("the database is read-only")]
    ReadOnly,
}

impl Outage {
    /// Returns the stable code for machines.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.into()
    }
}
