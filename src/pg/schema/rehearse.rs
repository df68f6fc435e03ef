//! Runs files one after the other, so that each can be timed and the one that fails is known by itself.
//!
//! The time is the database's own: what the way there takes does not count.

use std::time::Duration;

use futures_util::future::join;
use time::OffsetDateTime;

use crate::domain::names::SchemaName;
use crate::migrations::{MigrationSet, Pending};
use crate::pg::error::Failure;
use crate::pg::rules::Rules;
use crate::pg::schema::error::ApplyError;
use crate::pg::schema::{Entered, Then, catch_up};

/// What came of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrialEnd {
    /// It ran, and took so long.
    Applied(Duration),
    /// It failed.
    Failed {
        /// Where in it, from 1, where the server says.
        line: Option<usize>,
        /// What the server said.
        message: String,
    },
    /// One before it failed.
    NotReached,
}

/// Runs files in the schema that was entered, up to the first that fails, and takes everything back before it
/// tells what came of each, in order.
///
/// # Errors
/// What is no file's fault: a lock that was not given, a database that went away. Nothing is left then either.
pub async fn rehearse(
    entered: Entered,
    schema: &SchemaName,
    set: &MigrationSet,
    files: &Pending,
    rules: &Rules,
    now: OffsetDateTime,
) -> Result<Vec<TrialEnd>, ApplyError> {
    let ends = try_files(&entered, schema, set, files, rules, now).await?;
    // Waited for: the locks are gone when the answer is there.
    entered.tx.roll_back().await?;
    Ok(ends)
}

async fn try_files(
    entered: &Entered,
    schema: &SchemaName,
    set: &MigrationSet,
    files: &Pending,
    rules: &Rules,
    now: OffsetDateTime,
) -> Result<Vec<TrialEnd>, ApplyError> {
    let files = files.each();
    let mut ends = Vec::with_capacity(files.len());
    let mut begun = time_inside(entered).await?;
    for file in &files {
        // Polled in this order and so sent in this order, in one round trip.
        let running = Box::pin(catch_up(entered, schema, set, file, rules, now, Then::Nothing));
        let (ran, ended) = join(running, time_inside(entered)).await;
        match ran {
            Ok(()) => {
                let end = ended?;
                // The database's clock may be put back meanwhile.
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

async fn time_inside(entered: &Entered) -> Result<OffsetDateTime, Failure> {
    Ok(entered.tx.query_one("SELECT clock_timestamp() AS now", &[]).await?.get("now"))
}
