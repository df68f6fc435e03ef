//! Drops a tenant's schema and role; a large schema in batches.
//!
//! Promises: what is outside of the schema stays, unless the caller allowed it to go; each transaction checks that before
//! it drops, with the tables locked that it drops, so that nothing comes to depend on them in between.

use crate::domain::names::SchemaName;
use crate::pg::locks::{Lock, lock};
use crate::pg::schema::dependents::{self, DropError};
use crate::pg::schema::role::{self, RoleOutcome};
use crate::pg::scope::PublicTx;

/// How many tables (or types, or routines) one transaction drops. A drop locks every object that it touches until
/// the transaction ends: one or two dozen locks a table, with its indexes, constraints and TOAST table. The
/// whole server shares one lock table of `max_locks_per_transaction` (64 by default) times the number of
/// connections.
const DROP_BATCH: i64 = 20;

/// Selects statements that drop some relations of a schema. Like the others it finds them by what depends on the schema:
/// the catalogs of objects have no index by schema, and a pass over them grows with the number of tenants. Partitions come before their parent, or one `DROP`
/// would drop them all; sequences of columns are dropped with their tables.
const DROP_RELATIONS: &str = "
    SELECT format('DROP %s IF EXISTS %s CASCADE',
                  CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                                 WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                  c.oid::regclass) AS statement,
           -- Not views: a lock of a view locks the tables that it reads, wherever they are.
           CASE WHEN c.relkind IN ('r', 'p') AND pg_has_role(c.relowner, 'USAGE')
                THEN format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', c.oid::regclass) END AS lock
      FROM pg_catalog.pg_namespace n
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
       AND d.classid = 'pg_catalog.pg_class'::regclass
      JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relnamespace = n.oid
     WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
     ORDER BY CASE WHEN c.relkind IN ('v', 'm') THEN 0
                   WHEN c.relispartition AND c.relkind <> 'p' THEN 1
                   WHEN c.relispartition THEN 2
                   WHEN c.relkind = 'S' THEN 4
                   ELSE 3 END,
              c.oid
     LIMIT $2";

/// Selects statements that drop some types of a schema, except row types of tables and array types.
const DROP_TYPES: &str = "
    SELECT format('DROP TYPE IF EXISTS %s CASCADE', t.oid::regtype) AS statement, NULL::text AS lock
      FROM pg_catalog.pg_namespace n
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
       AND d.classid = 'pg_catalog.pg_type'::regclass
      JOIN pg_catalog.pg_type t ON t.oid = d.objid AND t.typnamespace = n.oid
      LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
     WHERE n.nspname = $1 AND (t.typtype IN ('d', 'e', 'r') OR (t.typtype = 'c' AND c.relkind = 'c'))
     ORDER BY t.oid
     LIMIT $2";

/// Selects statements that drop some routines of a schema.
const DROP_ROUTINES: &str = "
    SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure) AS statement, NULL::text AS lock
      FROM pg_catalog.pg_namespace n
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
       AND d.classid = 'pg_catalog.pg_proc'::regclass
      JOIN pg_catalog.pg_proc p ON p.oid = d.objid AND p.pronamespace = n.oid
     WHERE n.nspname = $1
     ORDER BY p.oid
     LIMIT $2";

/// Drops one batch of the schema's objects, few enough for one transaction's locks; returns whether there was
/// anything to drop. Call it repeatedly, each time in its own transaction, until it returns false; then
/// [`drop`] the rest. Migrations of the same schema wait. Of what is outside of the schema, only `allowed` goes with it.
///
/// # Errors
/// [`DropError`]; the transaction is then to be rolled back.
pub async fn drop_some(
    tx: &PublicTx,
    schema: &SchemaName,
    allowed: &[String],
) -> Result<bool, DropError> {
    lock(tx, Lock::Schema(schema)).await?;
    for find in [DROP_RELATIONS, DROP_TYPES, DROP_ROUTINES] {
        let rows = tx.query(find, &[&schema.as_str(), &DROP_BATCH]).await?;
        if !rows.is_empty() {
            let locks: Vec<&str> = rows.iter().filter_map(|row| row.get("lock")).collect();
            tx.batch(&locks.join("; ")).await?;
            check(tx, schema, allowed).await?;
            let statements: Vec<&str> = rows.iter().map(|row| row.get("statement")).collect();
            tx.batch(&statements.join("; ")).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes sure, before anything is destroyed, that the schema and its role can be dropped to the end, and that of what is
/// outside of the schema only `allowed` goes with them.
///
/// # Errors
/// [`DropError::Stopped`] with what prevents it; the transaction is then to be rolled back.
pub async fn check(
    tx: &PublicTx,
    schema: &SchemaName,
    allowed: &[String],
) -> Result<(), DropError> {
    dependents::check(tx, schema, allowed).await?;
    role::free(tx, schema).await
}

/// Drops the rest of the schema, its lock and the role of its name, each if it exists. Of what is outside of the schema,
/// only `allowed` goes with it.
///
/// # Errors
/// [`DropError`]; the transaction is then to be rolled back.
pub async fn drop(
    tx: &PublicTx,
    schema: &SchemaName,
    allowed: &[String],
) -> Result<RoleOutcome, DropError> {
    check(tx, schema, allowed).await?;
    let lock = Lock::Schema(schema).delete_sql();
    tx.batch(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE; {lock}")).await?;
    role::remove(tx, schema).await
}
