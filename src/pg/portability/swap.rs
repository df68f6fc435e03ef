//! Exchanges what is in two tenants: their schemas take each other's name, and the rights follow.
//!
//! First both tenants are closed: requests are answered that they come back in a moment. Requests that have begun end, and
//! all tables of both are locked. A transaction that has read or written in one of the schemas has locks there until it
//! ends, so none sees both contents; one that has not begins with the new content. The closing only keeps the wait for the
//! locks short: what is lost or split does not depend on it.

use time::OffsetDateTime;

use crate::domain::error::Result;
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::error::{During, Failure};
use crate::pg::rules::{Isolation, Rules};
use crate::pg::scope::{Lock, PublicTx};

/// How long tenants stay closed if the process that closed them dies, in seconds. Longer than an attempt.
const CLOSED_FOR: f64 = 5.0;

/// The limits of an attempt to lock both schemas: of the wait for one lock, and of that for all of them.
const ATTEMPT: &str = "SET LOCAL lock_timeout = 150; SET LOCAL statement_timeout = 500";

/// Selects the tables of a schema, the history of its migrations included.
const TABLES: &str = "
    SELECT format('%I.%I', n.nspname, c.relname) AS quoted
      FROM pg_catalog.pg_namespace n
      JOIN pg_catalog.pg_depend d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = n.oid
       AND d.classid = 'pg_catalog.pg_class'::regclass
      JOIN pg_catalog.pg_class c ON c.oid = d.objid
     WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')
     ORDER BY c.relname";

/// Selects the statements that give the rights of the role `$2` on a schema and on what is in it to the role `$3`: those
/// on objects, and those on future objects of each role that creates some. First all are revoked.
const RIGHTS: &str = "
    WITH schema AS (
        SELECT oid, nspname, nspacl FROM pg_catalog.pg_namespace WHERE nspname = $1
    ), old AS (
        SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2
    ), member AS (
        SELECT s.nspname, d.classid, d.objid
          FROM schema s
          JOIN pg_catalog.pg_depend d
            ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND d.refobjid = s.oid
    ), acl AS (
        SELECT 'SCHEMA' AS kind, format('%I', nspname) AS name, '' AS of_column, nspacl AS acl FROM schema
        UNION ALL
        SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, format('%I.%I', m.nspname, c.relname), '', c.relacl
          FROM member m
          JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
        UNION ALL
        SELECT 'TABLE', format('%I.%I', m.nspname, c.relname), format(' (%I)', a.attname), a.attacl
          FROM member m
          JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::regclass AND c.oid = m.objid
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped AND a.attacl IS NOT NULL
        UNION ALL
        SELECT 'ROUTINE', p.oid::regprocedure::text, '', p.proacl
          FROM member m
          JOIN pg_catalog.pg_proc p ON m.classid = 'pg_catalog.pg_proc'::regclass AND p.oid = m.objid
        UNION ALL
        SELECT 'TYPE', format('%I.%I', m.nspname, t.typname), '', t.typacl
          FROM member m
          JOIN pg_catalog.pg_type t ON m.classid = 'pg_catalog.pg_type'::regclass AND t.oid = m.objid
    ), granted AS (
        SELECT a.kind, a.name, x.is_grantable,
               string_agg(x.privilege_type || a.of_column, ', ' ORDER BY x.privilege_type, a.of_column) AS rights
          FROM acl a
         CROSS JOIN aclexplode(a.acl) x
         WHERE x.grantee = (SELECT oid FROM old)
         GROUP BY a.kind, a.name, x.is_grantable
    ), future AS (
        SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I', pg_get_userbyid(d.defaclrole), s.nspname) AS alter,
               CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES'
                                    ELSE 'TYPES' END AS kind,
               x.is_grantable, string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type) AS rights
          FROM schema s
          JOIN pg_catalog.pg_default_acl d ON d.defaclnamespace = s.oid
         CROSS JOIN aclexplode(d.defaclacl) x
         WHERE x.grantee = (SELECT oid FROM old)
         GROUP BY 1, 2, 3
    )
    SELECT 1 AS place, format('REVOKE ALL ON %s %s FROM %I CASCADE', kind, string_agg(DISTINCT name, ', '), $2) AS statement
      FROM granted
     GROUP BY kind
    UNION ALL
    SELECT 1, format('%s REVOKE ALL ON %s FROM %I CASCADE', alter, kind, $2) FROM future GROUP BY alter, kind
    UNION ALL
    SELECT 2, format('GRANT %s ON %s %s TO %I', rights, kind, string_agg(name, ', ' ORDER BY name), $3)
              || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
      FROM granted
     GROUP BY kind, rights, is_grantable
    UNION ALL
    SELECT 2, format('%s GRANT %s ON %s TO %I', alter, rights, kind, $3)
              || CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
      FROM future
     ORDER BY place, statement";

/// Closes two tenants for a moment, unless one is closed. Returns whether it did.
pub async fn close(tx: &PublicTx, tenants: [TenantId; 2]) -> Result<bool> {
    let sql = "WITH open AS (
                   SELECT id FROM public.tenants
                    WHERE id IN ($1, $2) AND (closed_until IS NULL OR closed_until <= now())
                    ORDER BY id
                      FOR UPDATE)
               UPDATE public.tenants t SET closed_until = now() + $3 * interval '1 second'
                 FROM open WHERE t.id = open.id";
    let closed = tx.execute(sql, &[&tenants[0], &tenants[1], &CLOSED_FOR]).await;
    Ok(closed.during("close two tenants for a swap")? == 2)
}

/// Keeps two tenants closed that this process has closed.
pub async fn keep_closed(tx: &PublicTx, tenants: [TenantId; 2]) -> Result<()> {
    let sql = "UPDATE public.tenants SET closed_until = now() + $3 * interval '1 second' WHERE id IN ($1, $2)";
    let kept = tx.execute(sql, &[&tenants[0], &tenants[1], &CLOSED_FOR]).await;
    kept.during("keep two tenants closed for a swap").map(drop)
}

/// Opens two tenants.
pub async fn open(tx: &PublicTx, tenants: [TenantId; 2]) -> Result<()> {
    let sql = "UPDATE public.tenants SET closed_until = NULL WHERE id IN ($1, $2)";
    tx.execute(sql, &[&tenants[0], &tenants[1]]).await.during("open two tenants").map(drop)
}

/// Records a swap in the rows of two tenants, and opens them.
pub async fn record(tx: &PublicTx, tenants: [TenantId; 2], now: OffsetDateTime) -> Result<()> {
    let sql = "UPDATE public.tenants
                  SET closed_until = NULL, revision = revision + 1, updated_at = $3 WHERE id IN ($1, $2)";
    tx.execute(sql, &[&tenants[0], &tenants[1], &now]).await.during("record a swap").map(drop)
}

/// Locks two schemas and all their tables until the transaction ends. Returns false if other transactions do not let go of
/// them at once; the transaction can then only be dropped. The limits of an attempt hold until [`exchange`].
///
/// # Errors
/// [`Failure`].
pub async fn lock_all(tx: &PublicTx, schemas: [&SchemaName; 2]) -> Result<bool, Failure> {
    match try_lock_all(tx, schemas).await {
        Ok(()) => Ok(true),
        Err(failure) if failure.is_locked() || failure.is_cancelled() || failure.is_lost_race() => {
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

async fn try_lock_all(tx: &PublicTx, schemas: [&SchemaName; 2]) -> Result<(), Failure> {
    let mut statements = vec![ATTEMPT.to_owned()];
    for schema in schemas {
        let lock = Lock::Schema(schema);
        statements.extend([lock.insert_sql(), lock.select_sql()]);
    }
    tx.batch(&statements.join("; ")).await?;
    let mut tables: Vec<String> = Vec::new();
    for schema in schemas {
        let rows = tx.query(TABLES, &[&schema.as_str()]).await?;
        tables.extend(rows.iter().map(|row| row.get("quoted")));
    }
    if tables.is_empty() {
        return Ok(());
    }
    tx.batch(&format!("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE", tables.join(", ONLY "))).await
}

/// Exchanges the names of two schemas, and the rights of the roles of these names on what is in them.
///
/// # Errors
/// [`Failure`]; the transaction is then aborted.
pub async fn exchange(
    tx: &PublicTx,
    [one, other]: [&SchemaName; 2],
    rules: &Rules,
) -> Result<(), Failure> {
    // A name that no tenant has.
    let between = SchemaName::of(TenantId::generate());
    let lock = rules.limits.lock.as_millis();
    tx.may_take_long();
    tx.batch(&format!(
        "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {lock}; ALTER SCHEMA {one} RENAME TO {between}; ALTER SCHEMA {other} RENAME TO {one}; \
         ALTER SCHEMA {between} RENAME TO {other}"
    ))
    .await?;
    if rules.isolation == Isolation::SearchPath {
        return Ok(()); // one role serves both
    }
    let mut statements: Vec<String> = Vec::new();
    for (schema, old) in [(one, other), (other, one)] {
        let names: [&dyn crate::pg::Param; 3] = [&schema.as_str(), &old.as_str(), &schema.as_str()];
        let rows = tx.query(RIGHTS, &names).await?;
        statements.extend(rows.iter().map(|row| row.get::<_, String>("statement")));
    }
    if statements.is_empty() { Ok(()) } else { tx.batch(&statements.join(";\n")).await }
}
