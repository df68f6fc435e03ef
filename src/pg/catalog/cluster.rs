//! Reads the catalogs of a Citus cluster: its nodes, and which of them has the schema of a tenant.

use std::collections::HashMap;

use crate::domain::names::{SchemaName, TenantId};
use crate::pg::error::Failure;
use crate::pg::scope::PublicTx;

/// A server of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The number by which the others know it; 0 is the coordinator.
    pub group: i32,
    /// Its host as the others know it.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Whether it takes part; an operator may have disabled it.
    pub is_active: bool,
    /// Whether schemas are placed on it.
    pub takes_schemas: bool,
    /// Whether it answered.
    pub answers: bool,
}

impl Node {
    /// Returns host and port, which name it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether it is the coordinator, which has the control plane.
    #[must_use]
    pub const fn is_coordinator(&self) -> bool {
        self.group == 0
    }
}

/// Lists the nodes, the coordinator first, and asks each whether it is there.
///
/// # Errors
/// [`Failure`].
pub async fn nodes(tx: &PublicTx) -> Result<Vec<Node>, Failure> {
    let sql = "SELECT n.groupid, n.nodename, n.nodeport, n.isactive, n.shouldhaveshards,
                      coalesce(r.success, false) AS answers
                 FROM pg_catalog.pg_dist_node n
                 LEFT JOIN pg_catalog.run_command_on_all_nodes('SELECT 1', true, true) r ON r.nodeid = n.nodeid
                WHERE n.noderole = 'primary'
                ORDER BY n.groupid, n.nodeid";
    let node = |row: &crate::pg::Row| Node {
        group: row.get("groupid"),
        host: row.get("nodename"),
        port: row.get("nodeport"),
        is_active: row.get("isactive"),
        takes_schemas: row.get("shouldhaveshards"),
        answers: row.get("answers"),
    };
    Ok(tx.query(sql, &[]).await?.iter().map(node).collect())
}

/// Selects the schema of each tenant and vacancy with the number of its node; NULL for one that is not distributed. Each
/// has the history of its migrations.
const PLACEMENTS: &str = "
    SELECT n.nspname::text AS schema, substr(n.nspname, 8)::uuid AS id, p.groupid
      FROM pg_catalog.pg_namespace n
      LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'refinery_schema_history'
      LEFT JOIN pg_catalog.pg_dist_shard s ON s.logicalrelid = c.oid
      LEFT JOIN pg_catalog.pg_dist_placement p ON p.shardid = s.shardid
     WHERE n.nspname ~ '^tenant_[0-9a-f]{32}$'";

/// Returns the number of the node of each tenant and vacancy; `None` for one that is not distributed.
///
/// # Errors
/// [`Failure`].
pub async fn placements(tx: &PublicTx) -> Result<HashMap<TenantId, Option<i32>>, Failure> {
    let rows = tx.query(PLACEMENTS, &[]).await?;
    Ok(rows.iter().map(|row| (row.get("id"), row.get("groupid"))).collect())
}

/// Returns the number of the node of one tenant or vacancy; `None` if it is not distributed.
///
/// # Errors
/// [`Failure`].
pub async fn placement(tx: &PublicTx, schema: &SchemaName) -> Result<Option<i32>, Failure> {
    let sql = format!("{PLACEMENTS} AND n.nspname = $1");
    let row = tx.query_opt(&sql, &[&schema.as_str()]).await?;
    Ok(row.and_then(|row| row.get("groupid")))
}

/// Returns the bytes that the tables of tenants and vacancies have on each node that answers, by its number.
///
/// # Errors
/// [`Failure`].
pub async fn bytes(tx: &PublicTx) -> Result<HashMap<i32, i64>, Failure> {
    let sql = "SELECT p.groupid, sum(z.size)::int8 AS bytes
                 FROM pg_catalog.citus_shard_sizes() z
                 JOIN pg_catalog.pg_dist_placement p ON p.shardid = z.shard_id
                GROUP BY p.groupid";
    let rows = tx.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| (row.get("groupid"), row.get("bytes"))).collect())
}

/// Whether all tables of a schema can be replicated while they are written to: each has a primary key, or an identity
/// that was set for it. A partition is replicated by itself, and not the table that it is a part of.
///
/// # Errors
/// [`Failure`].
pub async fn can_be_replicated(tx: &PublicTx, schema: &SchemaName) -> Result<bool, Failure> {
    let sql = "SELECT NOT EXISTS (
                   SELECT FROM pg_catalog.pg_class c
                     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relreplident = 'd'
                      AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i
                                       WHERE i.indrelid = c.oid AND i.indisprimary)) AS can_be";
    Ok(tx.query_one(sql, &[&schema.as_str()]).await?.get("can_be"))
}

/// A schema that is being moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The tenant.
    pub tenant: TenantId,
    /// Host and port of the node that has it.
    pub from: String,
    /// Host and port of the node that gets it.
    pub to: String,
    /// Its bytes on the old node.
    pub source_bytes: i64,
    /// Its bytes on the new node so far.
    pub target_bytes: i64,
}

/// Lists the moves that run now.
///
/// # Errors
/// [`Failure`].
pub async fn moves(tx: &PublicTx) -> Result<Vec<Move>, Failure> {
    let sql = "SELECT substr(n.nspname, 8)::uuid AS id,
                      format('%s:%s', m.sourcename, m.sourceport) AS source,
                      format('%s:%s', m.targetname, m.targetport) AS target,
                      sum(m.source_shard_size)::int8 AS source_bytes, sum(m.target_shard_size)::int8 AS target_bytes
                 FROM pg_catalog.get_rebalance_progress() m
                 JOIN pg_catalog.pg_class c ON c.oid = m.table_name
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname ~ '^tenant_[0-9a-f]{32}$'
                GROUP BY 1, 2, 3
                ORDER BY 1";
    let rows = tx.query(sql, &[]).await?;
    let read = |row: &crate::pg::Row| Move {
        tenant: row.get("id"),
        from: row.get("source"),
        to: row.get("target"),
        source_bytes: row.get::<_, Option<i64>>("source_bytes").unwrap_or_default(),
        target_bytes: row.get::<_, Option<i64>>("target_bytes").unwrap_or_default(),
    };
    Ok(rows.iter().map(read).collect())
}
