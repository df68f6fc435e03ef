//! Places the schema of a tenant on a node of a Citus cluster, and moves it to another.

use super::error::ApplyError;
use crate::domain::names::SchemaName;
use crate::migrations::HISTORY_TABLE;
use crate::pg::catalog::cluster::{Node, placement};
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::locks::{Lock, lock};
use crate::pg::scope::{Entry, PublicTx};

/// Whether the node of a tenant or vacancy answers. If it does not, the transaction can only be dropped.
///
/// # Errors
/// [`Failure`] for another reason.
pub async fn answers(tx: &PublicTx, schema: &SchemaName) -> Result<bool, Failure> {
    let sql = format!("SELECT version FROM {schema}.{HISTORY_TABLE} LIMIT 1");
    match tx.query(&sql, &[]).await {
        Ok(_) => Ok(true),
        Err(failure) if failure.is_node_away() => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Places a schema whose tables are on the coordinator on a node, with its rows, and returns the number of the node.
/// A schema that is on one stays there.
///
/// # Errors
/// [`Failure`]; nothing is changed then. [`Failure::Late`].
pub async fn distribute(db: &Db, schema: &SchemaName, entry: Entry) -> Result<i32, ApplyError> {
    let tx = db.in_schema(schema, entry).await?;
    tx.begin_with("SELECT 1").await?;
    if let Some(group) = placement(&tx, schema).await? {
        return Ok(group);
    }
    tx.query(
        "SELECT pg_catalog.citus_schema_distribute($1::text::regnamespace)",
        &[&schema.as_str()],
    )
    .await?;
    // The rows are copied, and would stay on the coordinator's disk, out of sight.
    let truncate = "SELECT pg_catalog.truncate_local_data_after_distributing_table(c.oid::regclass)
                      FROM pg_catalog.pg_class c
                      JOIN pg_catalog.pg_dist_partition p ON p.logicalrelid = c.oid
                     WHERE c.relnamespace = $1::text::regnamespace";
    tx.query(truncate, &[&schema.as_str()]).await?;
    let group = placement(&tx, schema).await?.ok_or(Failure::RowCount)?;
    tx.commit().await?;
    Ok(group)
}

/// How the rows of a schema are copied while it is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copying {
    /// Writes go on, and are replicated.
    Logical,
    /// Writes wait until the rows are copied.
    BlockWrites,
}

/// Moves a schema to another node, with its rows. Migrations of it wait. Does not commit.
///
/// # Errors
/// [`Failure`]; the transaction is then aborted, and the schema stays where it is.
pub async fn move_to(
    tx: &PublicTx,
    schema: &SchemaName,
    to: &Node,
    copying: Copying,
) -> Result<(), Failure> {
    tx.batch("SET LOCAL statement_timeout = 0").await?;
    lock(tx, Lock::Schema(schema)).await?;
    let mode = match copying {
        Copying::Logical => "force_logical",
        Copying::BlockWrites => "block_writes",
    };
    // The type of the mode is in a schema that the owner need not be able to use.
    let sql = format!(
        "SELECT pg_catalog.citus_schema_move($1::text::regnamespace, $2::text, $3::int4, '{mode}')"
    );
    tx.query(&sql, &[&schema.as_str(), &to.host, &to.port]).await.map(drop)
}
