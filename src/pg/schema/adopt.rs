//! Turns a schema that another tool made into a tenant's: renames it, makes its role, gives it the owner and the rights
//! of a schema that [`create`](super::create) makes, and its history.
//!
//! The name of the schema comes from an operator; it is quoted by the server. All of it runs in the caller's transaction.

use time::OffsetDateTime;

use super::{create_history_sql, take_over};
use crate::domain::names::SchemaName;
use crate::migrations::{HISTORY_TABLE, MigrationSet};
use crate::pg::error::Failure;
use crate::pg::locks::{Lock, lock};
use crate::pg::rules::Rules;
use crate::pg::schema::ddl::{role_ddl, runtime_role};
use crate::pg::schema::dependents;
use crate::pg::scope::{self, PublicTx};

/// What a schema is before its adoption.
#[derive(Debug, Clone, Default)]
pub struct Candidate {
    /// Whether it exists.
    pub exists: bool,
    /// The slug of the tenant that it became, if it was adopted before.
    pub adopted_as: Option<String>,
    /// The owners of the schema and of its objects that this login cannot act for.
    pub foreign_owners: Vec<String>,
    /// The objects outside of it that depend on it, and extensions in it.
    pub dependents: Vec<String>,
    /// The places that keep its name as text, each as a sentence.
    pub texts: Vec<String>,
}

/// Owners of a schema and of what is in it that the current user cannot act for. `$1` is the schema.
const FOREIGN_OWNERS: &str = "
    WITH schema AS (SELECT oid, nspowner FROM pg_catalog.pg_namespace WHERE nspname = $1)
    SELECT DISTINCT quote_ident(pg_get_userbyid(owner)) AS owner
      FROM (SELECT nspowner AS owner FROM schema
            UNION SELECT relowner FROM pg_catalog.pg_class WHERE relnamespace = (SELECT oid FROM schema)
            -- The constructors of a range type belong to the server's first superuser and go with the type.
            UNION SELECT p.proowner FROM pg_catalog.pg_proc p WHERE p.pronamespace = (SELECT oid FROM schema)
                     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                                      WHERE d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid
                                        AND d.deptype = 'i')
            UNION SELECT typowner FROM pg_catalog.pg_type WHERE typnamespace = (SELECT oid FROM schema)) owners
     WHERE NOT pg_has_role(owner, 'USAGE')
     ORDER BY 1";

/// The query for places that keep the name of a schema as text.
const TEXTS: &str = include_str!("adopt_texts.sql");

/// Takes the lock under which schemas are adopted, and reads what a schema is.
///
/// # Errors
/// [`Failure`].
pub async fn inspect(tx: &PublicTx, name: &str) -> Result<Candidate, Failure> {
    tx.may_take_any_time();
    tx.batch("SET LOCAL statement_timeout = 0").await?;
    lock(tx, Lock::Adoption).await?;
    let row = tx
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1) AS exists,
                    (SELECT t.slug FROM audit_events e JOIN tenants t ON t.id = e.tenant_id
                      WHERE e.action = 'tenant.adopt' AND e.details ->> 'schema' = $1
                      ORDER BY e.at DESC LIMIT 1) AS adopted_as",
            &[&name],
        )
        .await?;
    let mut found = Candidate {
        exists: row.get("exists"),
        adopted_as: row.get("adopted_as"),
        ..Candidate::default()
    };
    if found.exists {
        let owners = tx.query(FOREIGN_OWNERS, &[&name]).await?;
        found.foreign_owners = owners.iter().map(|row| row.get("owner")).collect();
        found.dependents = dependents::find(tx, name, None).await?;
        found.texts = texts(tx, name, name).await?;
    }
    Ok(found)
}

/// Lists the places in a schema that keep a name as text, each as a sentence.
async fn texts(tx: &PublicTx, schema: &str, name: &str) -> Result<Vec<String>, Failure> {
    let escaped: String = name
        .chars()
        .flat_map(|c| (!c.is_alphanumeric() && c != '_').then_some('\\').into_iter().chain([c]))
        .collect();
    // Whole words only: `acme` is not named by `acme_items`.
    let pattern = format!(r"(^|[^[:alnum:]_]){escaped}($|[^[:alnum:]_])");
    let rows = tx.query(TEXTS, &[&schema, &pattern]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            let (object, place): (&str, &str) = (row.get("object"), row.get("place"));
            match row.get::<_, &str>("kind") {
                "d" => format!("the default of {object} names the schema in a text"),
                "r" => format!("{object} is set to {place}"),
                _ => format!("function {object} names the schema in {place}"),
            }
        })
        .collect())
}

/// Renames a schema to a tenant's, makes the tenant's role and the history table, and takes away all rights of others.
/// Returns whether there was a history before.
///
/// # Errors
/// [`Failure`]; the transaction is then aborted.
pub async fn take(
    tx: &PublicTx,
    from: &str,
    schema: &SchemaName,
    rules: &Rules,
    server_version: u32,
) -> Result<bool, Failure> {
    let quoted = tx.query_one("SELECT quote_ident($1) AS name", &[&from]).await?;
    let quoted: &str = quoted.get("name");
    let role = role_ddl(schema, rules, server_version);
    let runtime_role = runtime_role(schema, rules.isolation);
    tx.batch(&format!(
        "{role} ALTER SCHEMA {quoted} RENAME TO {schema}; ALTER SCHEMA {schema} OWNER TO CURRENT_USER;
         GRANT USAGE ON SCHEMA {schema} TO {runtime_role}"
    ))
    .await?;
    lock(tx, Lock::Schema(schema)).await?;
    let has_history = "SELECT to_regclass($1) IS NOT NULL AS has_history";
    let has_history = tx.query_one(has_history, &[&format!("{schema}.{HISTORY_TABLE}")]).await?;
    let has_history: bool = has_history.get("has_history");
    if !has_history {
        scope::enter_schema(tx, schema, &rules.limits).await?;
        tx.batch(&create_history_sql()).await?;
        scope::leave_schema(tx, &rules.limits).await?;
    }
    tx.batch(&format!("ALTER TABLE {schema}.{HISTORY_TABLE} OWNER TO CURRENT_USER")).await?;
    revoke_all(tx, schema).await?;
    tx.batch(&format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {runtime_role};
         GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {runtime_role};
         REVOKE ALL ON {schema}.{HISTORY_TABLE} FROM {runtime_role}"
    ))
    .await?;
    take_over(tx, schema, rules).await?;
    Ok(has_history)
}

/// Revokes what roles other than the owners have on the schema and its objects. That every role may run a routine and use
/// a type is the server's default, and stays: the schema keeps them out.
async fn revoke_all(tx: &PublicTx, schema: &SchemaName) -> Result<(), Failure> {
    let rows = tx
        .query(
            "WITH schema AS (SELECT oid, nspacl, nspowner FROM pg_catalog.pg_namespace WHERE nspname = $1)
             SELECT DISTINCT format('REVOKE ALL ON %s FROM %s CASCADE', object,
                                    CASE a.grantee WHEN 0 THEN 'PUBLIC'
                                                   ELSE quote_ident(pg_get_userbyid(a.grantee)) END) AS statement
               FROM (SELECT format('SCHEMA %I', $1) AS object, nspowner AS owner, nspacl AS acl, true AS of_public FROM schema
                     UNION ALL
                     SELECT format('%s %s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass),
                            c.relowner, c.relacl, true
                       FROM pg_catalog.pg_class c WHERE c.relnamespace = (SELECT oid FROM schema)
                     UNION ALL
                     SELECT format('TABLE %s', c.oid::regclass), c.relowner, t.attacl, true
                       FROM pg_catalog.pg_class c
                       JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid AND NOT t.attisdropped
                      WHERE c.relnamespace = (SELECT oid FROM schema)
                     UNION ALL
                     SELECT format('ROUTINE %s', p.oid::regprocedure), p.proowner, p.proacl, false
                       FROM pg_catalog.pg_proc p
                      WHERE p.pronamespace = (SELECT oid FROM schema) AND p.prokind <> 'a'
                     UNION ALL
                     SELECT format('TYPE %s', t.oid::regtype), t.typowner, t.typacl, false
                       FROM pg_catalog.pg_type t WHERE t.typnamespace = (SELECT oid FROM schema)) o
              CROSS JOIN LATERAL aclexplode(o.acl) a
              WHERE a.grantee <> o.owner AND (o.of_public OR a.grantee <> 0)
                AND NOT (o.object LIKE 'SCHEMA %' AND pg_get_userbyid(a.grantee)::text IN ($1, $2))",
            &[&schema.as_str(), &crate::pg::rules::RUNTIME_LOGIN],
        )
        .await?;
    let statements: Vec<&str> = rows.iter().map(|row| row.get("statement")).collect();
    tx.batch(&statements.join(";\n")).await
}

/// Records the files of the set as applied, in a history without rows.
///
/// # Errors
/// [`Failure`]; the transaction is then aborted.
pub async fn stamp(
    tx: &PublicTx,
    schema: &SchemaName,
    set: &MigrationSet,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let rows: Vec<String> =
        (0..set.files().len()).map(|at| set.history_row(at, schema, now)).collect();
    tx.batch(&rows.join(";\n")).await
}

/// Returns the history in the schema, one line a file: `version name checksum`.
///
/// # Errors
/// [`Failure`], also for a table of that name with other columns; the transaction is then aborted.
pub async fn history(tx: &PublicTx, schema: &SchemaName) -> Result<String, Failure> {
    let sql = format!(
        "SELECT coalesce(string_agg(concat_ws(' ', version, name, checksum), chr(10) ORDER BY version), '') AS history
           FROM {schema}.{HISTORY_TABLE}"
    );
    Ok(tx.query_one(&sql, &[]).await?.get("history"))
}
