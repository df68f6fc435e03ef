//! Turns the errors of PostgreSQL into errors sorted by what a caller can do about them.
//!
//! The SQLSTATE decides first. The name of a constraint is optional, and may have a suffix `_<digits>`, which a
//! distributed engine adds to the names on its shards.

mod kind;
mod node;
mod race;

use std::time::Duration;

use tokio_postgres::error::SqlState;

use self::node::without_shards;
use crate::domain::error::{Cause, Conflict, Error, with_causes};
use crate::domain::names::TenantId;
use crate::domain::outage::Outage;

/// The failure of a query or a connection.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The database answered with an error, or the connection broke.
    #[error("the database refused the query, or the connection broke")]
    Postgres(#[from] tokio_postgres::Error),
    /// A tenant cannot be entered, or lacks what a statement names.
    #[error("the database refused the query in tenant {tenant}")]
    InTenant {
        /// The tenant.
        tenant: TenantId,
        /// Whether it could not be entered, so that no statement can be at fault.
        not_entered: bool,
        /// What the database answered.
        error: tokio_postgres::Error,
    },
    /// A lock was not granted within `lock_timeout`.
    #[error("a lock was not granted in time")]
    LockTimeout {
        /// The server's error.
        error: tokio_postgres::Error,
        /// What waited, and the transactions that have locks there; see [`scope`](crate::pg::scope).
        wait: String,
    },
    /// A transaction that may write was refused because the database is read-only.
    #[error("the database is read-only")]
    ReadOnly(tokio_postgres::Error),
    /// No connection could be opened, or not in time.
    #[error("no database connection is available")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// No connection was free in time, and the tenant itself holds some.
    #[error("the tenant's own transactions hold the database connections that it may have")]
    TenantBusy,
    /// No connection was free in time, and other work holds them.
    #[error("no database connection was free in time")]
    NoConnection,
    /// The guard refuses this kind of statement.
    #[error(
        "a tenant transaction runs SELECT, INSERT, UPDATE, DELETE, MERGE, WITH, VALUES and TABLE, not {0:?}"
    )]
    NotAllowed(String),
    /// The guard refuses what this statement names, because it is open in the database.
    #[error("a tenant's statement must not use {0}, which is open in this database")]
    Exposed(String),
    /// The guard cannot read the statement, and something is open in the database.
    #[error("a tenant's statement must be readable while an exposure is open in the database: {0}")]
    Unreadable(String),
    /// The statement was not sent, because the transaction did not begin or its commit was already sent.
    #[error("the transaction did not begin or has ended")]
    NotEntered,
    /// The query returned another number of rows than expected.
    #[error("the query returned an unexpected number of rows")]
    RowCount,
    /// The server did not answer for longer than it lets a statement run: the connection is dead.
    #[error("the database did not answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The transaction did not begin before its deadline.
    #[error("the transaction began too late")]
    Late,
    /// A constraint of an application was violated, which the application gives this code.
    #[error("the present state does not allow it: {0}")]
    Violation(&'static str),
}

impl Failure {
    /// Returns the SQLSTATE if the server answered with an error.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&SqlState> {
        match self {
            Self::Pool(deadpool_postgres::PoolError::Backend(error)) => error.code(),
            other => other.postgres()?.code(),
        }
    }

    /// Returns the error of a statement or of its connection, if that is what failed.
    fn postgres(&self) -> Option<&tokio_postgres::Error> {
        match self {
            Self::Postgres(error)
            | Self::InTenant { error, .. }
            | Self::LockTimeout { error, .. }
            | Self::ReadOnly(error) => Some(error),
            Self::Pool(_)
            | Self::TenantBusy
            | Self::NoConnection
            | Self::NotAllowed(_)
            | Self::Exposed(_)
            | Self::Unreadable(_)
            | Self::NotEntered
            | Self::RowCount
            | Self::Violation(_)
            | Self::NoAnswer(_)
            | Self::Late => None,
        }
    }

    /// Returns the message of the server or of the network.
    #[must_use]
    pub fn server_message(&self) -> String {
        match self {
            Self::LockTimeout { error, wait } => format!("{}; {wait}", server_message(error)),
            Self::Pool(deadpool_postgres::PoolError::Backend(error)) => server_message(error),
            other => other.postgres().map_or_else(|| other.to_string(), server_message),
        }
    }

    /// Returns the message of the server with its detail, its hint and the names of the objects, for the author of a
    /// migration. The detail of an error about data is left out: it quotes the row.
    #[must_use]
    pub(in crate::pg) fn explanation(&self) -> String {
        let message = self.server_message();
        let Some(error) = self.postgres() else { return message };
        let Some(db) = error.as_db_error() else { return message };
        let class = db.code().code().get(..2).unwrap_or_default();
        let quotes_rows = ["22", "23", "P0"].contains(&class);
        let objects = [
            ("table", db.table()),
            ("column", db.column()),
            ("constraint", db.constraint()),
            ("type", db.datatype()),
        ];
        let named = objects.into_iter().filter_map(|(kind, name)| {
            let named = without_shards(db, &format!("{kind} \"{}\"", name?));
            let quoted = named.strip_prefix(kind).unwrap_or(&named).trim_start();
            (!message.contains(quoted)).then_some(named)
        });
        let named: Vec<String> = named.collect();
        let mut text = message.clone();
        if !named.is_empty() {
            text = format!("{text}, {}", named.join(", "));
        }
        for (word, part) in [("detail", db.detail().filter(|_| !quotes_rows)), ("hint", db.hint())]
        {
            if let Some(part) = part {
                let part = without_shards(db, part).replace('\n', ", ");
                text = format!("{text}; {word}: {}", part.trim_end_matches('.'));
            }
        }
        text
    }

    /// Whether the same statements succeed if those before them are committed first: a new value of an enum is used,
    /// or rows of a table are not checked yet.
    #[must_use]
    pub(in crate::pg) fn needs_commit(&self) -> bool {
        self.sqlstate().is_some_and(|state| {
            [
                &SqlState::UNSAFE_NEW_ENUM_VALUE_USAGE,
                &SqlState::OBJECT_IN_USE,
                &SqlState::ACTIVE_SQL_TRANSACTION,
            ]
            .contains(&state)
        })
    }

    /// Returns the number (from 1) of the row of a `COPY` that failed, which the server tells in its context:
    /// `COPY notes, line 3, column id: "x"`.
    #[must_use]
    pub(in crate::pg) fn copied_row(&self) -> Option<usize> {
        let Self::Postgres(error) = self else { return None };
        let context = error.as_db_error()?.where_()?;
        let (_, rest) =
            context.lines().find(|line| line.starts_with("COPY "))?.split_once(", line ")?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..end)?.parse().ok()
    }

    /// Sorts the failure by remedy. `during` names what was being done, as an imperative: `"read tenant row"`.
    #[must_use]
    pub fn during(self, during: &'static str) -> Error {
        if matches!(self, Self::TenantBusy) {
            return Error::TenantBusy { retry_after: Duration::from_secs(1) };
        }
        if let Self::Violation(code) = self {
            return Error::Conflict(Conflict::Own(code));
        }
        if let Self::InTenant { tenant, .. } = self {
            return Error::TenantDamaged { tenant, during, source: self.without_rows() };
        }
        let why = if self.is_locked() {
            Outage::LockTimeout
        } else if self.is_lost_race() {
            Outage::LostRace
        } else if matches!(self, Self::ReadOnly(_)) {
            Outage::ReadOnly
        } else if matches!(self, Self::NoConnection) {
            Outage::NoConnection
        } else if self.is_unavailable() {
            Outage::Away
        } else {
            return Error::internal(during, self.without_rows());
        };
        Error::outage(why, during, self.without_rows())
    }

    /// Returns the failure as text for the log, without PostgreSQL's detail: that quotes the failing row, with
    /// e-mail addresses and password hashes.
    fn without_rows(self) -> Cause {
        match &self {
            Self::Pool(deadpool_postgres::PoolError::Backend(_)) if self.is_server_full() => {
                format!("PostgreSQL has no connection left: {}", self.server_message()).into()
            }
            Self::Postgres(_)
            | Self::InTenant { .. }
            | Self::Pool(deadpool_postgres::PoolError::Backend(_)) => {
                format!("{self}: {}", self.server_message()).into()
            }
            // The error says the rest.
            Self::LockTimeout { .. } | Self::ReadOnly(_) => self.server_message().into(),
            Self::Pool(_)
            | Self::TenantBusy
            | Self::NoConnection
            | Self::NotAllowed(_)
            | Self::Exposed(_)
            | Self::Unreadable(_)
            | Self::NotEntered
            | Self::RowCount
            | Self::Violation(_)
            | Self::NoAnswer(_)
            | Self::Late => self.into(),
        }
    }
}

/// Whether a tenant whose statement fails like this may be damaged: its schema, its role, a table or a right is missing.
pub(in crate::pg) fn means_damage(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|state| {
        [
            &SqlState::INVALID_PARAMETER_VALUE, // the role does not exist
            &SqlState::INSUFFICIENT_PRIVILEGE,
            &SqlState::UNDEFINED_OBJECT,
            &SqlState::INVALID_SCHEMA_NAME,
            &SqlState::UNDEFINED_TABLE,
            &SqlState::UNDEFINED_COLUMN,
        ]
        .contains(&state)
    })
}

/// Returns the message of the server or of the network, which tokio-postgres's own text hides.
#[must_use]
pub fn server_message(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", without_shards(db, db.message()), db.code().code());
    }
    with_causes(error)
}

/// Returns the line of `sql` (from 1) that the server reports, if it gives a position inside it.
pub(in crate::pg) fn line_of(failure: &Failure, sql: &str) -> Option<usize> {
    line_at(sql, offset_of(failure, sql)?)
}

/// Returns the line of `sql` (from 1) at an offset in bytes.
pub(in crate::pg) fn line_at(sql: &str, offset: usize) -> Option<usize> {
    Some(1 + sql.get(..offset)?.matches('\n').count())
}

/// Returns the offset in bytes in `sql` that the server reported for an error, if it is in this text.
pub(in crate::pg) fn offset_of(failure: &Failure, sql: &str) -> Option<usize> {
    let Failure::Postgres(error) = failure else { return None };
    let Some(tokio_postgres::error::ErrorPosition::Original(at)) = error.as_db_error()?.position()
    else {
        return None;
    };
    let at = usize::try_from(*at).ok()?;
    sql.char_indices().nth(at.saturating_sub(1)).map(|(offset, _)| offset)
}

/// Adds `.during("read tenant row")` to the result of a query.
pub trait During<T> {
    /// Sorts a failure by remedy; see [`Failure::during`].
    ///
    /// # Errors
    /// The failure as an [`Error`].
    fn during(self, during: &'static str) -> Result<T, Error>;
}

impl<T> During<T> for Result<T, Failure> {
    fn during(self, during: &'static str) -> Result<T, Error> {
        self.map_err(|failure| failure.during(during))
    }
}

/// Adds `.on_violation("notes_title_key", "title_taken")` to the result of a query.
pub trait OnViolation {
    /// Answers the violation of a unique or foreign key constraint by 409 with a code; any other failure stays as it is.
    ///
    /// ```no_run
    /// # async fn add(tx: rowhouse::TenantTx) -> Result<(), rowhouse::Problem> {
    /// use rowhouse::OnViolation;
    ///
    /// tx.execute("INSERT INTO tags (name) VALUES ($1)", &[&"work"])
    ///     .await
    ///     .on_violation("tags_name_key", "name_taken")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    fn on_violation(self, constraint: &str, code: &'static str) -> Self;
}

impl<T> OnViolation for Result<T, Failure> {
    fn on_violation(self, constraint: &str, code: &'static str) -> Self {
        self.map_err(
            |failure| {
                if failure.violates(constraint) { Failure::Violation(code) } else { failure }
            },
        )
    }
}

/// For the handlers of an application, which use `?` on their own queries. A column that the tenant lacks, or a right, may
/// be a mistake in such a query; a table is missed in the tenant that lacks it.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        const DURING: &str = "run a query of the application";
        let lacks_table = [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME];
        match failure {
            Failure::InTenant { not_entered: false, error, .. }
                if error.code().is_none_or(|state| !lacks_table.contains(&state)) =>
            {
                Failure::Postgres(error).during(DURING)
            }
            other => other.during(DURING),
        }
    }
}
