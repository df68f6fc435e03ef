//! Reads a schema's history, and rewrites rows of it as the owner of the table.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::names::SchemaName;
use crate::migrations::repair::Change;
use crate::migrations::{Applied, HISTORY_TABLE};
use crate::pg::Row;
use crate::pg::error::Failure;
use crate::pg::scope::PublicTx;

/// Reads the history of a schema, lowest version first; empty if it has none.
///
/// # Errors
/// [`Failure`].
pub async fn read(tx: &PublicTx, schema: &SchemaName) -> Result<Vec<Applied>, Failure> {
    let table = format!("{schema}.{HISTORY_TABLE}");
    let sql = "SELECT to_regclass($1) IS NOT NULL AS is_there";
    if !tx.query_one(sql, &[&table]).await?.get::<_, bool>("is_there") {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT {COLUMNS} FROM {table} ORDER BY version");
    Ok(tx.query(&sql, &[]).await?.iter().map(of_row).collect())
}

/// The columns of a history, for [`of_row`].
pub(super) const COLUMNS: &str =
    "version::int4 AS version, name::text AS name, checksum::text AS checksum";

/// Returns a row of a history. refinery's table takes NULL in all columns but the version.
pub(super) fn of_row(row: &Row) -> Applied {
    let text = |column| row.get::<_, Option<String>>(column).unwrap_or_default();
    Applied { version: row.get("version"), name: text("name"), checksum: text("checksum") }
}

/// Changes rows of a history. A row that is renamed or accepted keeps the time when it was applied. The caller has
/// locked the schema.
///
/// # Errors
/// [`Failure`]; the transaction is then aborted.
pub async fn rewrite(
    tx: &PublicTx,
    schema: &SchemaName,
    changes: &[Change],
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let table = format!("{schema}.{HISTORY_TABLE}");
    let now = now.format(&Rfc3339).unwrap_or_default();
    // All are deleted before any is inserted: two rows may take each other's version.
    let mut inserted = Vec::new();
    for change in changes {
        let (from, to) = match change {
            Change::Rename { from, to } | Change::Accept { from, to } => (Some(from), Some(to)),
            Change::Stamp(file) => (None, Some(file)),
            Change::Forget(row) => (Some(row), None),
        };
        let mut applied_on = now.clone();
        if let Some(from) = from {
            let delete = format!(
                "DELETE FROM {table} WHERE version = $1 AND name = $2 AND checksum = $3 RETURNING applied_on"
            );
            let row = tx.query_one(&delete, &[&from.version, &from.name, &from.checksum]).await?;
            applied_on = row.get::<_, Option<String>>("applied_on").unwrap_or(applied_on);
        }
        inserted.extend(to.map(|to| (to, applied_on)));
    }
    let insert = format!(
        "INSERT INTO {table} (version, name, applied_on, checksum) VALUES ($1, $2, $3, $4)"
    );
    for (Applied { version, name, checksum }, applied_on) in inserted {
        tx.execute(&insert, &[version, name, &applied_on, checksum]).await?;
    }
    Ok(())
}
