//! Checks a schema before its tenant is made: that it is what the migrations make, and depends on no other tenant.

use crate::domain::names::SchemaName;
use crate::pg::catalog::{self, Object};
use crate::pg::error::Failure;
use crate::pg::rules::Isolation;
use crate::pg::scope::PublicTx;

/// Objects of other tenants on which objects of a schema depend. An object belongs to a schema directly, or as a part of
/// one that does: a constraint or the default of a column, the rule of a view.
const LEANING: &str = "
    WITH RECURSIVE own (classid, objid) AS (
        SELECT d.classid, d.objid
          FROM pg_catalog.pg_namespace n
          JOIN pg_catalog.pg_depend d
            ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
         WHERE n.nspname = $1
         UNION
        SELECT d.classid, d.objid
          FROM own o
          JOIN pg_catalog.pg_depend d
            ON d.refclassid = o.classid AND d.refobjid = o.objid AND d.deptype IN ('a', 'i', 'P', 'S')
    ), leaning AS MATERIALIZED (
        SELECT DISTINCT d.classid, d.objid, d.refclassid, d.refobjid
          FROM own o
          JOIN pg_catalog.pg_depend d ON d.classid = o.classid AND d.objid = o.objid
         WHERE d.refclassid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_type'::regclass,
                                'pg_catalog.pg_proc'::regclass)
    )
    SELECT DISTINCT pg_describe_object(l.classid, l.objid, 0) || ' depends on '
           || pg_describe_object(l.refclassid, l.refobjid, 0) AS what
      FROM leaning l
      JOIN pg_catalog.pg_namespace n
        ON n.oid = CASE l.refclassid
                   WHEN 'pg_catalog.pg_class'::regclass
                       THEN (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = l.refobjid)
                   WHEN 'pg_catalog.pg_type'::regclass
                       THEN (SELECT typnamespace FROM pg_catalog.pg_type WHERE oid = l.refobjid)
                   ELSE (SELECT pronamespace FROM pg_catalog.pg_proc WHERE oid = l.refobjid) END
     WHERE n.nspname <> $1 AND n.nspname LIKE 'tenant\\_%'
     ORDER BY 1
     LIMIT 20";

/// Returns the objects of a schema, for a comparison with those that the migrations make.
///
/// # Errors
/// [`Failure`].
pub async fn objects(
    tx: &PublicTx,
    schema: &SchemaName,
    isolation: Isolation,
) -> Result<Vec<Object>, Failure> {
    catalog::set_catalog_wide_limits(tx).await?;
    let found = catalog::objects(tx, std::slice::from_ref(schema), isolation).await?;
    Ok(found.into_values().next().unwrap_or_default())
}

/// Returns which objects of a schema depend on objects of other tenants, each as a sentence.
///
/// # Errors
/// [`Failure`].
pub async fn leaning(tx: &PublicTx, schema: &SchemaName) -> Result<Vec<String>, Failure> {
    let rows = tx.query(LEANING, &[&schema.as_str()]).await?;
    Ok(rows.iter().map(|row| row.get("what")).collect())
}
