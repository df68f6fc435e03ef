//! The version of the control plane in the database, and whether a program works with it.
//!
//! While a deployment is replaced, the servers of the version before serve on a control plane that a newer one has
//! migrated. Each of its migrations says which program is the oldest that works with it, and the program that runs a
//! migration stores that beside the history, where a program that does not have the file reads it.

use std::cmp::Ordering;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::migrations::{Applied, HISTORY_TABLE, HistoryError, MigrationSet};
use crate::pg::Row;
use crate::pg::error::Failure;
use crate::pg::schema::error::ApplyError;
use crate::pg::scope::PublicTx;

/// Whether a program works with the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Some of the program's migrations have not run.
    Behind {
        /// The version in the database; 0 for none.
        found: i32,
    },
    /// It has the program's version.
    Same,
    /// A newer program has migrated it, and this one works with it all the same.
    Newer {
        /// The version in the database.
        found: i32,
    },
    /// A newer program has migrated it, and this one does not work with it.
    TooNew {
        /// The version in the database.
        found: i32,
    },
}

impl Fit {
    /// Whether a program may serve.
    #[must_use]
    pub const fn works(self) -> bool {
        matches!(self, Self::Same | Self::Newer { .. })
    }

    /// Compares what is in the database with a program. `oldest` is the oldest program that works with all files that
    /// this one does not have.
    fn compare(found: i32, oldest: Option<i32>, known: i32) -> Self {
        match found.cmp(&known) {
            Ordering::Less => Self::Behind { found },
            Ordering::Equal => Self::Same,
            Ordering::Greater if oldest.is_some_and(|oldest| oldest <= known) => {
                Self::Newer { found }
            }
            Ordering::Greater => Self::TooNew { found },
        }
    }
}

/// Reads whether a program whose newest migration is `known` works with the control plane.
///
/// # Errors
/// [`Failure`].
pub async fn fit(tx: &PublicTx, known: i32) -> Result<Fit, Failure> {
    let sql = format!("SELECT max(version) AS version FROM public.{HISTORY_TABLE}");
    let row = tx.query_one(&sql, &[]).await?;
    let found = row.get::<_, Option<i32>>("version").unwrap_or_default();
    if found <= known {
        return Ok(Fit::compare(found, None, known));
    }
    let row = tx.query_one(&oldest_sql(), &[&known]).await?;
    Ok(Fit::compare(found, row.get("oldest"), known))
}

/// As [`fit`], on a connection outside of a pool.
pub(super) async fn fit_on(client: &Client, known: i32) -> Result<Fit, tokio_postgres::Error> {
    let sql = format!("SELECT max(version) AS version FROM public.{HISTORY_TABLE}");
    let found = client.query_typed_one(&sql, &[]).await?.get::<_, Option<i32>>("version");
    let found = found.unwrap_or_default();
    if found <= known {
        return Ok(Fit::compare(found, None, known));
    }
    let row = client.query_typed_one(&oldest_sql(), &[(&known, Type::INT4)]).await?;
    Ok(Fit::compare(found, row.get("oldest"), known))
}

/// The statement that reads the oldest program that works with all files after one; a file that says nothing works with
/// its own program alone. The table is there wherever a file is newer than what this program has.
fn oldest_sql() -> String {
    format!(
        "SELECT max(coalesce(v.oldest_program, h.version)) AS oldest
           FROM public.{HISTORY_TABLE} h LEFT JOIN public.control_plane_versions v ON v.version = h.version
          WHERE h.version > $1"
    )
}

/// Refuses a newer control plane whose history lacks a file of the set, or has another text for one.
pub(super) async fn require_known_files(
    tx: &PublicTx,
    set: &MigrationSet,
) -> Result<(), ApplyError> {
    let sql = format!(
        "SELECT version, name, checksum FROM public.{HISTORY_TABLE} WHERE version <= $1 ORDER BY version"
    );
    let row = |row: &Row| Applied {
        version: row.get("version"),
        name: row.get("name"),
        checksum: row.get("checksum"),
    };
    let applied: Vec<Applied> = tx.query(&sql, &[&set.version()]).await?.iter().map(row).collect();
    let pending = set.names(&set.pending(&applied)?);
    match pending.first() {
        Some(file) => Err(HistoryError::late(file).into()),
        None => Ok(()),
    }
}

/// Stores the oldest program for each file of the set that names one.
pub(super) async fn record(tx: &PublicTx, set: &MigrationSet) -> Result<(), Failure> {
    let (versions, programs): (Vec<i32>, Vec<i32>) =
        set.oldest_programs().iter().map(|one| (one.version, one.program)).unzip();
    tx.execute(
        "INSERT INTO control_plane_versions (version, oldest_program)
         SELECT version, program FROM unnest($1::int4[], $2::int4[]) AS given (version, program)
         ON CONFLICT (version) DO NOTHING",
        &[&versions, &programs],
    )
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_works_with_its_own_version_and_with_newer_ones_that_say_so() {
        for (found, oldest, known, expected) in [
            (40, None, 40, Fit::Same),
            (39, None, 40, Fit::Behind { found: 39 }),
            (0, None, 40, Fit::Behind { found: 0 }),
            (41, Some(40), 40, Fit::Newer { found: 41 }),
            (41, Some(39), 40, Fit::Newer { found: 41 }),
            (42, Some(41), 40, Fit::TooNew { found: 42 }),
            (41, None, 40, Fit::TooNew { found: 41 }),
        ] {
            assert_eq!(Fit::compare(found, oldest, known), expected);
        }
        assert!(Fit::Same.works() && Fit::Newer { found: 41 }.works());
        assert!(!Fit::Behind { found: 39 }.works() && !Fit::TooNew { found: 42 }.works());
    }
}
