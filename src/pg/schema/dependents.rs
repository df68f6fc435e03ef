//! Finds what a drop of a schema and its role would take along outside of the schema, and what keeps the role from
//! being dropped. A drop asks in its own transaction, before it destroys anything.

use crate::domain::error::Error;
use crate::domain::names::SchemaName;
use crate::domain::purge::PurgeProblem;
use crate::pg::error::{During, Failure};
use crate::pg::scope::PublicTx;

const DEPENDENTS: &str = include_str!("dependents.sql");

/// What a role is used by that a `DROP OWNED` in this database does not remove: objects in other databases, by
/// database, and databases or tablespaces that it owns. The words are those of PostgreSQL's own message.
const USES: &str = "
    SELECT CASE WHEN described IS NULL THEN quote_ident(datname) END AS database,
           coalesce('owner of ' || described,
                    count(*) || CASE count(*) WHEN 1 THEN ' object' ELSE ' objects' END
                        || ' in database ' || quote_ident(datname)) AS use,
           shared, bool_or(deptype = 'o') AS is_owner
      FROM (SELECT d.datname, s.deptype,
                   CASE WHEN s.dbid = 0 THEN pg_describe_object(s.classid, s.objid, s.objsubid) END AS described,
                   CASE WHEN s.dbid = 0 THEN (SELECT upper(type) || ' ' || identity
                                                FROM pg_identify_object(s.classid, s.objid, s.objsubid)) END AS shared
              FROM pg_catalog.pg_roles r
              JOIN pg_catalog.pg_shdepend s
                ON s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.refobjid = r.oid
              LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid
             WHERE r.rolname = $1
               AND ((s.dbid = 0 AND s.deptype = 'o') OR d.datname <> current_database())) used
     GROUP BY described, shared, datname
     ORDER BY 1, 2";

/// Why a drop did not happen.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// Something outside of the schema depends on it, or its role is in use elsewhere; nothing was dropped.
    #[error(transparent)]
    Stopped(#[from] PurgeProblem),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Failure),
}

impl<T> During<T> for Result<T, DropError> {
    fn during(self, during: &'static str) -> Result<T, Error> {
        self.map_err(|error| match error {
            DropError::Stopped(problem) => Error::Purge(Box::new(problem)),
            DropError::Database(failure) => failure.during(during),
        })
    }
}

/// Lists what a drop of a schema, and of a role if there is one, would take along outside of the schema: objects of others,
/// or in other schemas.
///
/// # Errors
/// [`Failure`].
pub async fn find(tx: &PublicTx, schema: &str, role: Option<&str>) -> Result<Vec<String>, Failure> {
    // The planner overestimates the recursion, and compiles what takes a few milliseconds to run.
    tx.batch("SET LOCAL jit = off").await?;
    let role = role.map(str::to_owned);
    let rows = tx.query(DEPENDENTS, &[&schema, &role]).await?;
    Ok(rows.iter().map(|row| row.get("object")).collect())
}

/// Lists what a drop of a tenant's schema and role would take along, and fails if it is more than `allowed`, or if the
/// role cannot be dropped.
///
/// # Errors
/// [`DropError::Stopped`] with all of it.
pub async fn check(
    tx: &PublicTx,
    schema: &SchemaName,
    allowed: &[String],
) -> Result<(), DropError> {
    let found = find(tx, schema.as_str(), Some(schema.as_str())).await?;
    let objects: Vec<String> =
        found.into_iter().filter(|object| !allowed.contains(object)).collect();
    if !objects.is_empty() {
        return Err(PurgeProblem::Dependents { schema: schema.to_string(), objects }.into());
    }
    require_unused(tx, schema).await
}

/// Fails if a role has rights or owns objects that only another database, or a statement about a database or a tablespace,
/// can remove.
async fn require_unused(tx: &PublicTx, role: &SchemaName) -> Result<(), DropError> {
    let rows = tx.query(USES, &[&role.as_str()]).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let uses = rows.iter().map(|row| row.get("use")).collect();
    let remedies = rows.iter().map(|row| {
        match (row.get::<_, Option<&str>>("database"), row.get::<_, Option<&str>>("shared")) {
            (Some(database), _) if row.get("is_owner") => format!(
                "run in database {database}: REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role};"
            ),
            (Some(database), _) => {
                format!("run in database {database}: DROP OWNED BY {role};")
            }
            (None, shared) => {
                format!("run: ALTER {} OWNER TO CURRENT_USER;", shared.unwrap_or_default())
            }
        }
    });
    let remedies = remedies.collect();
    Err(PurgeProblem::RoleInUse { role: role.to_string(), uses, remedies }.into())
}

/// Explains why the role could not be dropped after all: since the check, another session gave it rights elsewhere.
pub(super) fn explain(failure: Failure, role: &SchemaName) -> DropError {
    let Failure::Postgres(error) = &failure else { return failure.into() };
    match error.as_db_error() {
        Some(db)
            if *db.code() == tokio_postgres::error::SqlState::DEPENDENT_OBJECTS_STILL_EXIST =>
        {
            let uses: Vec<String> =
                db.detail().unwrap_or(db.message()).lines().map(str::to_owned).collect();
            let remedy = format!("run in each of these databases: DROP OWNED BY {role};");
            PurgeProblem::RoleInUse { role: role.to_string(), uses, remedies: vec![remedy] }.into()
        }
        _ => failure.into(),
    }
}
