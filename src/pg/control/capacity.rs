//! The capacity of the server, and the size of everything that grows with the number of tenants.

use crate::pg::error::Failure;
use crate::pg::rules::{RUNTIME_LOGIN, SERVER_NAME};
use crate::pg::scope::PublicTx;

/// Settings of the server and sizes of the database. Counts are exact; bytes are those of the files.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Such as 150018.
    pub server_version: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: i64,
    /// The connections of the server.
    pub connections: Connections,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: i64,
    /// `shared_buffers` in bytes.
    pub shared_buffers: i64,
    /// `effective_cache_size` in bytes: how much memory of the machine the server is configured to expect.
    pub effective_cache_size: i64,
    /// Whether `autovacuum` and `track_counts` are both on.
    pub autovacuum: bool,
    /// Schemas of tenants.
    pub schemas: i64,
    /// Rows of `pg_class` in this database: tables, indexes, TOAST tables, sequences, views.
    pub relations: i64,
    /// What `pg_dump` of the whole database locks at once: tables, views and sequences outside of the system schemas.
    pub dumped: i64,
    /// Rows of `pg_class` in the tenant schema that has most, with their TOAST tables.
    pub largest_schema: i64,
    /// Rows of `pg_class` in all schemas of tenants.
    pub in_schemas: i64,
    /// Size of the catalogs that grow with each table, with their indexes, in bytes.
    pub catalog_bytes: i64,
    /// Dead rows in those catalogs, in percent of the live ones.
    pub dead_percent: i64,
    /// Roles of the server.
    pub roles: i64,
}

/// The connections that the server gives, and those that the servers of ours on it may open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connections {
    /// `max_connections`.
    pub max: i64,
    /// Those reserved for superusers and, from PostgreSQL 16 on, for `pg_use_reserved_connections`.
    pub reserved: i64,
    /// The lower of the connection limits of the database and of the runtime login, if either has one.
    pub own_limit: Option<i64>,
    /// Servers of ours with an open connection, on all databases of the server.
    pub servers: i64,
    /// The sum of what they may open (`database.max_connections` of each).
    pub budgets: i64,
}

/// Reads how many connections there are, and how many the servers may open that have one open now.
///
/// # Errors
/// [`Failure`].
pub async fn read_connections(tx: &PublicTx) -> Result<Connections, Failure> {
    let row = tx
        .query_one(
            "SELECT current_setting('max_connections')::int8 AS max,
                    current_setting('superuser_reserved_connections')::int8
                        + coalesce(current_setting('reserved_connections', true)::int8, 0) AS reserved,
                    (SELECT nullif(least(d.datconnlimit, r.rolconnlimit), -1)
                       FROM (SELECT nullif(datconnlimit, -1) AS datconnlimit FROM pg_catalog.pg_database
                              WHERE datname = current_database()) d
                       LEFT JOIN (SELECT nullif(rolconnlimit, -1) AS rolconnlimit FROM pg_catalog.pg_roles
                                   WHERE rolname = $1) r ON true)::int8 AS own_limit,
                    s.servers, s.budgets
               FROM (SELECT count(*) AS servers,
                            coalesce(sum(split_part(application_name, '/', 2)::int8), 0)::int8 AS budgets
                       FROM (SELECT DISTINCT application_name FROM pg_catalog.pg_stat_activity
                              WHERE application_name ~ ('^' || $2 || '/[0-9]{1,5}/')) named) s",
            &[&RUNTIME_LOGIN, &SERVER_NAME],
        )
        .await?;
    Ok(Connections {
        max: row.get("max"),
        reserved: row.get("reserved"),
        own_limit: row.get("own_limit"),
        servers: row.get("servers"),
        budgets: row.get("budgets"),
    })
}

/// Reads all of it.
///
/// # Errors
/// [`Failure`].
pub async fn read(tx: &PublicTx) -> Result<Facts, Failure> {
    let row = tx
        .query_one(
            "WITH relation AS MATERIALIZED (
                 SELECT c.relkind, c.relnamespace, n.nspname, n.nspname ~ '^tenant_[0-9a-f]{32}$' AS is_ours,
                        CASE WHEN c.reltoastrelid <> 0 THEN 2 ELSE 0 END AS toast
                   FROM pg_catalog.pg_class c
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             ), schema AS (
                 SELECT count(*) + sum(toast) AS size
                   FROM relation
                  WHERE is_ours
                  GROUP BY relnamespace
             ), growing AS (
                 SELECT unnest('{pg_class,pg_attribute,pg_type,pg_depend,pg_shdepend,pg_index,pg_constraint,
                                 pg_attrdef,pg_statistic}'::text[])::regclass AS oid
             )
             SELECT current_setting('server_version_num')::int4 AS server_version,
                    current_setting('max_locks_per_transaction')::int8 AS max_locks_per_transaction,
                    current_setting('max_prepared_transactions')::int8 AS max_prepared_transactions,
                    pg_size_bytes(current_setting('shared_buffers')) AS shared_buffers,
                    pg_size_bytes(current_setting('effective_cache_size')) AS effective_cache_size,
                    current_setting('autovacuum')::bool AND current_setting('track_counts')::bool AS autovacuum,
                    (SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname ~ '^tenant_[0-9a-f]{32}$')
                        AS schemas,
                    (SELECT count(*) FROM relation) AS relations,
                    (SELECT count(*) FROM relation
                      WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
                        AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')) AS dumped,
                    (SELECT coalesce(max(size), 0)::int8 FROM schema) AS largest_schema,
                    (SELECT coalesce(sum(size), 0)::int8 FROM schema) AS in_schemas,
                    (SELECT sum(pg_total_relation_size(oid))::int8 FROM growing) AS catalog_bytes,
                    (SELECT coalesce(100 * sum(n_dead_tup) / nullif(sum(n_live_tup), 0), 0)::int8
                       FROM pg_catalog.pg_stat_sys_tables
                      WHERE relid IN (SELECT oid FROM growing)) AS dead_percent,
                    (SELECT count(*) FROM pg_catalog.pg_roles) AS roles",
            &[],
        )
        .await?;
    Ok(Facts {
        server_version: u32::try_from(row.get::<_, i32>("server_version")).unwrap_or(0),
        max_locks_per_transaction: row.get("max_locks_per_transaction"),
        connections: read_connections(tx).await?,
        max_prepared_transactions: row.get("max_prepared_transactions"),
        shared_buffers: row.get("shared_buffers"),
        effective_cache_size: row.get("effective_cache_size"),
        autovacuum: row.get("autovacuum"),
        schemas: row.get("schemas"),
        relations: row.get("relations"),
        dumped: row.get("dumped"),
        largest_schema: row.get("largest_schema"),
        in_schemas: row.get("in_schemas"),
        catalog_bytes: row.get("catalog_bytes"),
        dead_percent: row.get("dead_percent"),
        roles: row.get("roles"),
    })
}
