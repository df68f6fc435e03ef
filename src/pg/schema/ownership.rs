//! Gives the objects of a schema to the role that migrations run as, for a schema that was made before there was such
//! a role, or by another tool.

use super::ddl::{migrator_ddl, runtime_role};
use crate::domain::names::SchemaName;
use crate::migrations::HISTORY_TABLE;
use crate::pg::error::Failure;
use crate::pg::rules::{MIGRATOR, Rules};
use crate::pg::scope::PublicTx;

/// Selects the statements that make `$2` the owner of each object of the schema `$1` that has an owner of its own, except
/// the history `$3`. Indexes, sequences of columns, row types, array types and multirange types follow their objects.
const CHANGE_OWNERS: &str = "
    WITH schema AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1),
         migrator AS (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2)
    SELECT format('ALTER %s OWNER TO %I', object, $2) AS statement
      FROM (SELECT 1 AS place, c.relowner AS owner,
                   format('%s %s', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                                                  WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'S' THEN 'SEQUENCE'
                                                  WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END,
                          c.oid::regclass) AS object
              FROM pg_catalog.pg_class c
             WHERE c.relnamespace = (SELECT oid FROM schema) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
               AND c.relname <> $3
               AND NOT (c.relkind = 'S' AND EXISTS (
                       SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                          AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')))
            UNION ALL
            SELECT 2, p.proowner,
                   format('%s %s', CASE p.prokind WHEN 'a' THEN 'AGGREGATE' ELSE 'ROUTINE' END, p.oid::regprocedure)
              FROM pg_catalog.pg_proc p
             WHERE p.pronamespace = (SELECT oid FROM schema)
               -- The constructors of a range type belong to the server's first superuser and go with the type.
               AND NOT EXISTS (
                       SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
            UNION ALL
            SELECT 3, t.typowner, format('%s %s', CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, t.oid::regtype)
              FROM pg_catalog.pg_type t
             WHERE t.typnamespace = (SELECT oid FROM schema) AND t.typtype IN ('d', 'e', 'r', 'b')
               AND t.typelem = 0
            UNION ALL
            SELECT 4, o.oprowner, format('OPERATOR %s', o.oid::regoperator)
              FROM pg_catalog.pg_operator o
             WHERE o.oprnamespace = (SELECT oid FROM schema)
            UNION ALL
            SELECT 4, c.collowner, format('COLLATION %s', c.oid::regcollation)
              FROM pg_catalog.pg_collation c
             WHERE c.collnamespace = (SELECT oid FROM schema)
            UNION ALL
            SELECT 4, c.conowner, format('CONVERSION %I.%I', $1, c.conname)
              FROM pg_catalog.pg_conversion c
             WHERE c.connamespace = (SELECT oid FROM schema)
            UNION ALL
            SELECT 4, s.stxowner, format('STATISTICS %I.%I', $1, s.stxname)
              FROM pg_catalog.pg_statistic_ext s
             WHERE s.stxnamespace = (SELECT oid FROM schema)
            UNION ALL
            SELECT 4, d.dictowner, format('TEXT SEARCH DICTIONARY %s', d.oid::regdictionary)
              FROM pg_catalog.pg_ts_dict d
             WHERE d.dictnamespace = (SELECT oid FROM schema)
            UNION ALL
            SELECT 4, c.cfgowner, format('TEXT SEARCH CONFIGURATION %s', c.oid::regconfig)
              FROM pg_catalog.pg_ts_config c
             WHERE c.cfgnamespace = (SELECT oid FROM schema)) AS object
     WHERE owner <> (SELECT oid FROM migrator)
     ORDER BY place, object";

/// Builds the SQL expression that is true if the migrator may create objects in the schema, or if files run as the owner.
///
/// Reads the ACL, as [`history_is_writable`](super::ddl::history_is_writable) does.
pub(super) fn is_taken_over(schema: &SchemaName, rules: &Rules) -> String {
    if rules.migrator().is_none() {
        return "true".to_owned();
    }
    format!(
        "EXISTS (SELECT FROM pg_namespace, aclexplode(nspacl)
                  WHERE nspname = '{schema}' AND grantee = '{MIGRATOR}'::regrole AND privilege_type = 'CREATE')"
    )
}

/// Makes the migrator the owner of all objects of a schema, and gives it the rights that it has in a new schema. The
/// default privileges of the current user there are removed: it creates nothing in a tenant's schema any more. Takes
/// an exclusive lock on each table that changes its owner.
///
/// # Errors
/// [`Failure`]; the transaction is then aborted.
pub async fn take_over(tx: &PublicTx, schema: &SchemaName, rules: &Rules) -> Result<(), Failure> {
    let runtime_role = runtime_role(schema, rules.isolation);
    // First, since an owner must be allowed to create objects in the schema.
    tx.batch(&format!(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} REVOKE ALL ON TABLES FROM {runtime_role};
         ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} REVOKE ALL ON SEQUENCES FROM {runtime_role}; {}",
        migrator_ddl(schema, runtime_role, rules)
    ))
    .await?;
    let owner: String = match rules.migrator() {
        Some(role) => role.to_owned(),
        None => tx.query_one("SELECT current_user::text AS name", &[]).await?.get("name"),
    };
    let rows = tx.query(CHANGE_OWNERS, &[&schema.as_str(), &owner, &HISTORY_TABLE]).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let statements: Vec<&str> = rows.iter().map(|row| row.get("statement")).collect();
    tx.batch(&statements.join(";\n")).await
}
