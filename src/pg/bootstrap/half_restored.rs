//! Finds tenants that cannot be entered, as after a restore of the database without the roles, which belong to the server.

use super::error::BootstrapError;
use crate::pg::db::Db;
use crate::pg::rules::{Isolation, RUNTIME_LOGIN};

/// Counts the tenants that lack their schema, and those whose role is missing or cannot be used by the runtime login,
/// and names the oldest ones. A purge that runs takes both away.
const UNREACHABLE: &str = "
    SELECT count(*) FILTER (WHERE lacks_schema) AS without_schema,
           count(*) FILTER (WHERE lacks_role AND NOT lacks_schema) AS without_role,
           count(*) AS tenants,
           coalesce((array_agg(slug ORDER BY created_at, id) FILTER (WHERE lacks_schema OR lacks_role))[1:3], '{}')
               AS examples
      FROM (SELECT t.slug, t.created_at, t.id, n.oid IS NULL AS lacks_schema,
                   $1 AND NOT EXISTS (
                       SELECT FROM pg_catalog.pg_auth_members m
                        WHERE m.roleid = r.oid
                          AND m.member = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2)) AS lacks_role
              FROM tenants t
              LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'tenant_' || replace(t.id::text, '-', '')
              LEFT JOIN pg_catalog.pg_roles r ON r.rolname = 'tenant_' || replace(t.id::text, '-', '')
             WHERE t.purge_started_at IS NULL) AS tenant";

/// Returns a sentence if there are tenants that cannot be entered.
///
/// # Errors
/// [`BootstrapError`].
pub async fn half_restored(db: &Db) -> Result<Option<String>, BootstrapError> {
    let by_role = db.rules().isolation == Isolation::Role;
    let tx = db.public().await?;
    tx.batch("SET LOCAL statement_timeout = 0; SET LOCAL jit = off").await?;
    let found = tx.query_one(UNREACHABLE, &[&by_role, &RUNTIME_LOGIN]).await?;
    let count = |column: &str| found.get::<_, i64>(column);
    let (schemas, roles) = (count("without_schema"), count("without_role"));
    if schemas + roles == 0 {
        return Ok(None);
    }
    let examples: Vec<String> = found.get("examples");
    Ok(Some(format!(
        "{} of {} tenants cannot be entered, {} among them: {schemas} have no schema, {roles} have no role that the \
         server can use, as after a restore without the roles; `rowhouse doctor` lists them, and `rowhouse doctor --fix` \
         makes the roles again",
        schemas + roles,
        count("tenants"),
        examples.join(", ")
    )))
}
