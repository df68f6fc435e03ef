//! Runs files one after the other, so that each can be timed and the one that fails is known by itself.
//!
//! The time is the database's own: what the way there takes does not count.

use std::sync::OnceLock;
use std::time::Duration;

use time::OffsetDateTime;

use super::{Entered, catch_up};
use crate::domain::names::SchemaName;
use crate::pg::error::Failure;
use crate::pg::migrations::{HERE, MigrationError, MigrationSet, Pending};
use crate::pg::pool::Rules;

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
) -> Result<Vec<TrialEnd>, MigrationError> {
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
) -> Result<Vec<TrialEnd>, MigrationError> {
    let files = files.each();
    let mut ends = Vec::with_capacity(files.len());
    let mut begun = time_inside(entered).await?;
    for file in &files {
        let ended = OnceLock::new();
        let check = async {
            let _ = ended.set(time_inside(entered).await?);
            Ok(())
        };
        match Box::pin(catch_up(entered, schema, set, file, rules, now, check)).await {
            Ok(()) => {
                let end = ended.into_inner().unwrap_or(begun);
                // The database's clock may be put back meanwhile.
                ends.push(TrialEnd::Applied((end - begun).try_into().unwrap_or_default()));
                begun = end;
            }
            Err(MigrationError::Failed { line, message, .. }) => {
                ends.push(TrialEnd::Failed { line, message });
                break;
            }
            Err(error) => return Err(error),
        }
    }
    ends.resize(files.len(), TrialEnd::NotReached);
    Ok(ends)
}

/// What time it is, where the transaction still stands where it was entered.
async fn time_inside(entered: &Entered) -> Result<OffsetDateTime, Failure> {
    let row = entered.tx.query_one(&format!("{HERE}, clock_timestamp()"), &[]).await?;
    if row.get::<_, &str>(0) == entered.here { Ok(row.get(1)) } else { Err(Failure::NotEntered) }
}
