//! Drops what makes the load of rows slow or impossible, and makes it again: indexes and keys of large tables, foreign
//! keys to rows that come later, and triggers.
//!
//! Everything is made again from the server's own definitions, with comments and the mark of `CLUSTER`. The caller
//! compares the catalog with that of the migrations afterwards.

use std::collections::BTreeMap;

use crate::domain::names::SchemaName;
use crate::pg::error::Failure;
use crate::pg::scope::PublicTx;

/// What was dropped, as the statements that make it again, in order.
#[derive(Debug, Default)]
pub struct Dropped {
    /// The indexes and keys of each large table.
    of_tables: BTreeMap<i64, Vec<String>>,
    /// Foreign keys, then triggers.
    last: Vec<String>,
}

/// Statements that drop foreign keys, constraints and indexes, and those that make them again. `$2` are the tables whose
/// indexes and keys are dropped; `$3` is the order in which rows are loaded. A foreign key is dropped if one of its tables
/// is large, or if the rows that it references are loaded later. What belongs to partitions is left alone.
const REBUILD: &str = "
    WITH relation AS (
        SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS quoted, n.nspname,
               c.oid::bigint = ANY ($2::bigint[]) AND NOT c.relispartition AS is_large,
               coalesce(pg_partition_root(c.oid), c.oid)::oid AS root
          FROM pg_catalog.pg_namespace n
          JOIN pg_catalog.pg_depend d
            ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
           AND d.classid = 'pg_catalog.pg_class'::regclass
          JOIN pg_catalog.pg_class c ON c.oid = d.objid
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')
    ), loaded AS (
        SELECT r.root, min(l.place) AS first, max(l.place) AS last
          FROM unnest($3::bigint[]) WITH ORDINALITY AS l (oid, place)
          JOIN relation r ON r.oid::bigint = l.oid
         GROUP BY r.root
    ), key AS (
        SELECT k.oid, r.oid AS of, k.conname, k.contype, r.quoted, r.nspname, k.conindid, pg_get_constraintdef(k.oid) AS definition,
               obj_description(k.oid, 'pg_constraint') AS comment, i.indisclustered
          FROM relation r
          JOIN pg_catalog.pg_constraint k ON k.conrelid = r.oid AND k.conparentid = 0
          LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = k.conindid AND k.contype <> 'f'
          LEFT JOIN relation f ON f.oid = k.confrelid
          LEFT JOIN loaded a ON a.root = r.root
          LEFT JOIN loaded b ON b.root = f.root
         WHERE (k.contype IN ('p', 'u', 'x') AND r.is_large)
            OR (k.contype = 'f'
                AND (r.is_large OR f.is_large OR (f.root <> r.root AND b.last > a.first)))
    ), index AS (
        SELECT i.indexrelid AS oid, r.oid AS of, c.relname, r.quoted, r.nspname, pg_get_indexdef(i.indexrelid) AS definition,
               obj_description(i.indexrelid, 'pg_class') AS comment, i.indisclustered, i.indisreplident
          FROM relation r
          JOIN pg_catalog.pg_index i ON i.indrelid = r.oid
          JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
         WHERE r.is_large AND i.indisvalid AND NOT c.relispartition
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
                            WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
           AND NOT i.indisreplident
    )
    SELECT place, of::bigint, dropping, making FROM (
        SELECT CASE contype WHEN 'f' THEN 1 ELSE 2 END AS place, of, conname AS name,
               format('ALTER TABLE %s DROP CONSTRAINT %I', quoted, conname) AS dropping,
               format('ALTER TABLE %s ADD CONSTRAINT %I %s', quoted, conname, definition)
               || coalesce(format('; COMMENT ON CONSTRAINT %I ON %s IS %L', conname, quoted, comment), '')
               || CASE WHEN indisclustered THEN format('; ALTER TABLE %s CLUSTER ON %I', quoted, conname) ELSE '' END AS making
          FROM key
        UNION ALL
        SELECT 3, of, relname, format('DROP INDEX %I.%I', nspname, relname),
               definition || coalesce(format('; COMMENT ON INDEX %I.%I IS %L', nspname, relname, comment), '')
               || CASE WHEN indisclustered THEN format('; ALTER TABLE %s CLUSTER ON %I', quoted, relname) ELSE '' END
          FROM index) all_of_them
     ORDER BY place, name";

/// Statements that disable the triggers and rules of migrations, and those that set them back to what they were.
const TRIGGERS: &str = "
    SELECT format('ALTER TABLE ONLY %I.%I DISABLE %s %I', n.nspname, c.relname, t.kind, t.name) AS dropping,
           format('ALTER TABLE ONLY %I.%I %s %s %I', n.nspname, c.relname,
                  CASE t.enabled WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE' END,
                  t.kind, t.name) AS making
      FROM pg_catalog.pg_namespace n
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
       AND d.classid = 'pg_catalog.pg_class'::regclass
      JOIN pg_catalog.pg_class c ON c.oid = d.objid
     CROSS JOIN LATERAL (
           SELECT 'TRIGGER' AS kind, tgname AS name, tgenabled AS enabled
             FROM pg_catalog.pg_trigger
            WHERE tgrelid = c.oid AND NOT tgisinternal
            UNION ALL
           SELECT 'RULE', rulename, ev_enabled FROM pg_catalog.pg_rewrite WHERE ev_class = c.oid) t
     WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND t.enabled <> 'D'
     ORDER BY c.oid, t.kind, t.name";

/// Statements that refresh the materialized views, each after those that it reads: those are older.
const VIEWS: &str = "
    SELECT format('REFRESH MATERIALIZED VIEW %I.%I', n.nspname, c.relname) AS making
      FROM pg_catalog.pg_namespace n
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
       AND d.classid = 'pg_catalog.pg_class'::regclass
      JOIN pg_catalog.pg_class c ON c.oid = d.objid
     WHERE n.nspname = $1 AND c.relkind = 'm' AND c.relispopulated
     ORDER BY c.oid";

/// Disables triggers, and drops what is slow or in the way. `large` are the tables that get many rows, `order` all tables
/// in the order in which they get them.
///
/// # Errors
/// [`Failure`]; the transaction is then aborted.
pub async fn drop_some(
    tx: &PublicTx,
    schema: &SchemaName,
    large: &[i64],
    order: &[i64],
) -> Result<Dropped, Failure> {
    let triggers = tx.query(TRIGGERS, &[&schema.as_str()]).await?;
    let rows = tx.query(REBUILD, &[&schema.as_str(), &large.to_vec(), &order.to_vec()]).await?;
    let dropping: Vec<&str> = triggers.iter().chain(&rows).map(|row| row.get("dropping")).collect();
    if !dropping.is_empty() {
        tx.batch(&dropping.join(";\n")).await?;
    }
    let mut dropped = Dropped::default();
    // An index that no key has is made before the keys, and foreign keys last of all.
    for row in rows.iter().rev() {
        let is_foreign_key = row.get::<_, i32>("place") == 1;
        let of_table = dropped.of_tables.entry(row.get("of")).or_default();
        let list = if is_foreign_key { &mut dropped.last } else { of_table };
        list.push(row.get("making"));
    }
    dropped.last.extend(triggers.iter().map(|row| row.get::<_, String>("making")));
    Ok(dropped)
}

/// Makes the indexes and keys of a table again that has its rows; those of all other tables remain.
///
/// # Errors
/// [`Failure`], also if the rows violate a key; the transaction is then aborted.
pub async fn make_indexes(tx: &PublicTx, dropped: &mut Dropped, table: i64) -> Result<(), Failure> {
    for statement in dropped.of_tables.remove(&table).unwrap_or_default() {
        tx.batch(&statement).await?;
    }
    Ok(())
}

/// Makes again what is still dropped, one statement after the other, and refreshes the materialized views.
///
/// # Errors
/// [`Failure`], also if the rows violate a key; the transaction is then aborted.
pub async fn make_again(
    tx: &PublicTx,
    schema: &SchemaName,
    dropped: Dropped,
) -> Result<(), Failure> {
    for statement in dropped.of_tables.into_values().flatten().chain(dropped.last) {
        tx.batch(&statement).await?;
    }
    for row in tx.query(VIEWS, &[&schema.as_str()]).await? {
        tx.batch(row.get("making")).await?;
    }
    Ok(())
}
