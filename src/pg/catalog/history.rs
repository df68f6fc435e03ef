//! Reads refinery's history in many schemas at once.

use std::collections::HashMap;

use super::super::error::Failure;
use super::super::scope::PublicTx;
use crate::domain::names::SchemaName;
use crate::migrations::HISTORY_TABLE;
use crate::pg::db::Db;

/// Histories that one transaction reads. Reading a table holds two locks until the transaction ends, and the
/// lock table is shared by the whole server.
const READ_AT_ONCE: usize = 100;

/// What a schema's history says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum History {
    /// There is no such table.
    Absent,
    /// It is there and cannot be read: in the server's words.
    Unreadable(String),
    /// What was applied, one line a file: `version name checksum`, lowest version first. As
    /// [`MigrationSet::trail`](crate::migrations::MigrationSet::trail) writes it.
    Applied(String),
}

/// The history of each of these schemas.
///
/// # Errors
/// [`Failure`] where the database is away.
pub async fn read_all(
    db: &Db,
    schemas: &[SchemaName],
) -> Result<HashMap<String, History>, Failure> {
    let mut all = HashMap::new();
    for some in schemas.chunks(READ_AT_ONCE) {
        // Bound, so that its connection is free for what follows.
        let found = read(&db.public().await?, some).await;
        match found {
            Ok(found) => all.extend(found),
            Err(failure) if failure.is_unavailable() => return Err(failure),
            // One of them is not what it should be, or went away meanwhile.
            Err(_) => {
                for schema in some {
                    all.insert(schema.to_string(), read_one(db, schema).await?);
                }
            }
        }
    }
    Ok(all)
}

/// The history of one schema, whatever is wrong with it.
///
/// # Errors
/// [`Failure`] where the database is away.
pub async fn read_one(db: &Db, schema: &SchemaName) -> Result<History, Failure> {
    let found = read(&db.public().await?, std::slice::from_ref(schema)).await;
    match found {
        Ok(mut found) => Ok(found.remove(schema.as_str()).unwrap_or(History::Absent)),
        Err(failure) if failure.is_unavailable() => Err(failure),
        Err(Failure::Postgres(error)) => {
            Ok(History::Unreadable(crate::pg::error::server_message(&error)))
        }
        Err(failure) => Err(failure),
    }
}

/// The histories that there are in these schemas, in one statement.
async fn read(tx: &PublicTx, schemas: &[SchemaName]) -> Result<HashMap<String, History>, Failure> {
    let names: Vec<String> = schemas.iter().map(SchemaName::to_string).collect();
    let there = tx
        .query(
            "SELECT n.nspname::text AS schema
               FROM pg_catalog.pg_namespace n
               JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = $2
              WHERE n.nspname = ANY ($1)",
            &[&names, &HISTORY_TABLE],
        )
        .await?;
    let there: Vec<&str> = there.iter().map(|row| row.get("schema")).collect();
    let parts: Vec<String> = schemas
        .iter()
        .filter(|schema| there.contains(&schema.as_str()))
        .map(|schema| {
            format!(
                "SELECT '{schema}' AS schema, coalesce(string_agg(concat_ws(' ', version, name, checksum), chr(10) \
                 ORDER BY version), '') AS history FROM {schema}.{HISTORY_TABLE}"
            )
        })
        .collect();
    let mut all: HashMap<String, History> =
        names.into_iter().map(|name| (name, History::Absent)).collect();
    if parts.is_empty() {
        return Ok(all);
    }
    for row in tx.query(&parts.join(" UNION ALL "), &[]).await? {
        all.insert(row.get("schema"), History::Applied(row.get("history")));
    }
    Ok(all)
}
