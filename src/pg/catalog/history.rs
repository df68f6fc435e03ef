//! Reads the migration histories of many schemas at once.

use std::collections::HashMap;

use tokio_postgres::error::SqlState;

use super::super::error::Failure;
use super::super::scope::PublicTx;
use crate::domain::names::SchemaName;
use crate::migrations::HISTORY_TABLE;
use crate::pg::db::Db;

/// How many histories one transaction reads. Reading a table holds two locks until the transaction ends, and the
/// whole server shares one lock table.
const READ_BATCH: usize = 100;

/// A schema's migration history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum History {
    /// The history table does not exist.
    Absent,
    /// The table exists but cannot be read; the server's message.
    Unreadable(String),
    /// The login has not the right to read the table; the server's message.
    Denied(String),
    /// The table is on a node of the cluster that is away; the server's message.
    Away(String),
    /// The applied files in the form of
    /// [`MigrationSet::history_text`](crate::migrations::MigrationSet::history_text): one line a file, `version name
    /// checksum`, lowest version first.
    Applied(String),
}

/// Reads the history of each of these schemas.
///
/// # Errors
/// [`Failure`] if the connection is lost.
pub async fn read_all(
    db: &Db,
    schemas: &[SchemaName],
) -> Result<HashMap<String, History>, Failure> {
    let mut all = HashMap::new();
    for some in schemas.chunks(READ_BATCH) {
        // Bound to a variable, so that its connection is released before the next query.
        let found = read(&db.public().await?, some).await;
        match found {
            Ok(found) => all.extend(found),
            Err(failure) if failure.is_unavailable() && !failure.is_node_away() => {
                return Err(failure);
            }
            // One of the histories is malformed, was dropped meanwhile or is on a node that is away.
            Err(_) => {
                for schema in some {
                    all.insert(schema.to_string(), read_one(db, schema).await?);
                }
            }
        }
    }
    Ok(all)
}

/// Reads the history of one schema, even if it is missing or malformed or its node is away.
///
/// # Errors
/// [`Failure`] if the connection is lost.
pub async fn read_one(db: &Db, schema: &SchemaName) -> Result<History, Failure> {
    let found = read(&db.public().await?, std::slice::from_ref(schema)).await;
    match found {
        Ok(mut found) => Ok(found.remove(schema.as_str()).unwrap_or(History::Absent)),
        Err(failure) if failure.is_node_away() => Ok(History::Away(failure.server_message())),
        Err(failure) if failure.is_unavailable() => Err(failure),
        Err(Failure::Postgres(error)) => {
            let message = crate::pg::error::server_message(&error);
            let is_denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
            Ok(if is_denied { History::Denied(message) } else { History::Unreadable(message) })
        }
        Err(failure) => Err(failure),
    }
}

/// Reads the existing histories of these schemas in one statement.
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
