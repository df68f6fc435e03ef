//! Runs files one after the other and rolls back, so that each file is timed and the failing one is known.
//!
//! Times are the database's own; network latency is not included.

use std::time::Duration;

use futures_util::future::join;
use time::OffsetDateTime;

use crate::domain::names::SchemaName;
use crate::migrations::{MigrationSet, Pending};
use crate::pg::error::Failure;
use crate::pg::rules::Rules;
use crate::pg::schema::error::ApplyError;
use crate::pg::schema::{Completion, MigrationTx, catch_up};

/// The result of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrialEnd {
    /// It ran; the time it took.
    Applied(Duration),
    /// It failed.
    Failed {
        /// The line, from 1, if the server reported one.
        line: Option<usize>,
        /// The server's message.
        message: String,
    },
    /// An earlier file failed.
    NotReached,
}

/// Runs files in the schema that was entered, up to the first that fails, and rolls back; then returns the result of
/// each file, in order.
///
/// # Errors
/// A failure that no file caused: a lock that was not granted, a lost connection. Nothing is kept then either.
pub async fn rehearse(
    migration: MigrationTx,
    schema: &SchemaName,
    set: &MigrationSet,
    files: &Pending,
    rules: &Rules,
    now: OffsetDateTime,
) -> Result<Vec<TrialEnd>, ApplyError> {
    let ends = try_files(&migration, schema, set, files, rules, now).await?;
    // Waits for the ROLLBACK, so that the locks are released when the result is returned.
    migration.tx.roll_back().await?;
    Ok(ends)
}

async fn try_files(
    migration: &MigrationTx,
    schema: &SchemaName,
    set: &MigrationSet,
    files: &Pending,
    rules: &Rules,
    now: OffsetDateTime,
) -> Result<Vec<TrialEnd>, ApplyError> {
    let files = files.each();
    let mut ends = Vec::with_capacity(files.len());
    let mut begun = time_inside(migration).await?;
    for file in &files {
        // Polled in this order and so sent in this order, in one round trip.
        let running =
            Box::pin(catch_up(migration, schema, set, file, rules, now, Completion::KeepOpen));
        let (ran, ended) = join(running, time_inside(migration)).await;
        match ran {
            Ok(()) => {
                let end = ended?;
                // The difference is negative if the database's clock was set back meanwhile.
                ends.push(TrialEnd::Applied((end - begun).try_into().unwrap_or_default()));
                begun = end;
            }
            Err(ApplyError::Failed { line, message, .. }) => {
                ends.push(TrialEnd::Failed { line, message });
                break;
            }
            Err(error) => return Err(error),
        }
    }
    ends.resize(files.len(), TrialEnd::NotReached);
    Ok(ends)
}

async fn time_inside(migration: &MigrationTx) -> Result<OffsetDateTime, Failure> {
    Ok(migration.tx.query_one("SELECT clock_timestamp() AS now", &[]).await?.get("now"))
}
