//! Tests the isolation of tenants by statements that the server must refuse.

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::error::{BootstrapError, step};
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::rules::{Isolation, RUNTIME_LOGIN};

/// Tests the isolation of tenants: tries to read the control plane and a tenant as the runtime login, and one
/// tenant from inside another, and asks the server for the tables of the control plane that either could read or
/// change. Runs a handful of short queries, or two if there are no tenants yet. Returns warnings about what else it
/// found.
///
/// # Errors
/// [`BootstrapError::IsolationBroken`] if the server did not refuse a statement.
pub async fn self_test(db: &Db) -> Result<Vec<String>, BootstrapError> {
    let tenants = two_tenants(db).await?;
    let unguarded = db.unguarded_for_self_test().await?;
    let statement = "SELECT FROM public.users LIMIT 1";
    let outcome = unguarded.query_typed(statement, &[]).await;
    must_be_refused(RUNTIME_LOGIN, statement, outcome.map_err(Failure::from))?;
    let reached = unguarded.query_typed(CONTROL_PLANE_IN_REACH, &[]).await;
    must_be_none(RUNTIME_LOGIN, reached.map_err(Failure::from))?;
    if db.rules().isolation == Isolation::SearchPath {
        return Ok(Vec::new()); // in this mode the runtime login may read every tenant
    }
    let [(_, table), rest @ ..] = tenants.as_slice() else { return Ok(Vec::new()) };
    let statement = format!("SELECT FROM {table} LIMIT 1");
    let outcome = unguarded.query_typed(&statement, &[]).await;
    must_be_refused(RUNTIME_LOGIN, &statement, outcome.map_err(Failure::from))?;
    drop(unguarded);
    let [(other, _)] = rest else { return Ok(Vec::new()) };
    let outcome = db.tenant(*other).await?.query(&statement, &[]).await;
    if outcome.as_ref().is_err_and(|f| f.sqlstate() == Some(&SqlState::INVALID_PARAMETER_VALUE)) {
        return Ok(vec![format!(
            "the tenant {other} has no role and cannot be entered; was it created under isolation = search_path?"
        )]);
    }
    let role = SchemaName::of(*other);
    must_be_refused(role.as_str(), &statement, outcome)?;
    let reached = db.tenant(*other).await?.query_and_commit(CONTROL_PLANE_IN_REACH, &[]).await;
    must_be_none(role.as_str(), reached)?;
    Ok(Vec::new())
}

/// Selects a table of the control plane that the current role may read or change, if there is one. Tables of other
/// owners, such as those of an extension, are no part of the control plane.
const CONTROL_PLANE_IN_REACH: &str = "
    SELECT c.relname::text AS name
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')
       AND c.relowner = (SELECT t.relowner FROM pg_catalog.pg_class t
                          WHERE t.relnamespace = n.oid AND t.relname = 'tenants')
       AND has_schema_privilege(n.oid, 'USAGE')
       AND (has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
            OR has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE'))
     ORDER BY c.relname
     LIMIT 1";

/// Refuses a role that reaches a table of the control plane.
fn must_be_none(role: &str, reached: Result<Vec<Row>, Failure>) -> Result<(), BootstrapError> {
    match reached {
        Ok(rows) => match rows.first() {
            None => Ok(()),
            Some(row) => Err(BootstrapError::IsolationBroken {
                role: role.to_owned(),
                statement: format!("a statement on public.{}", row.get::<_, &str>("name")),
            }),
        },
        Err(Failure::Postgres(error)) => Err(step("test the isolation of tenants")(error)),
        Err(other) => Err(other.into()),
    }
}

/// Returns the two oldest tenants that have a schema, each with the name of a table in it.
async fn two_tenants(db: &Db) -> Result<Vec<(TenantId, String)>, BootstrapError> {
    let tx = db.public().await?;
    let rows = tx
        .query_and_commit(
            "SELECT t.id, format('%I.%I', n.nspname, c.relname) AS table_name
               FROM (SELECT id, created_at FROM tenants ORDER BY created_at, id LIMIT 2) t
               JOIN pg_catalog.pg_namespace n
                 ON n.nspname = 'tenant_' || replace(t.id::text, '-', '')
              CROSS JOIN LATERAL (
                    SELECT relname FROM pg_catalog.pg_class
                     WHERE relnamespace = n.oid AND relkind IN ('r', 'p')
                     ORDER BY relname = 'refinery_schema_history', relname
                     LIMIT 1) c
              ORDER BY t.created_at, t.id",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get("id"), row.get("table_name"))).collect())
}

fn must_be_refused<T>(
    role: &str,
    statement: &str,
    outcome: Result<T, Failure>,
) -> Result<(), BootstrapError> {
    match outcome {
        Err(f) if f.sqlstate() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(()),
        Err(Failure::Postgres(error)) => Err(step("test the isolation of tenants")(error)),
        Err(other) => Err(other.into()),
        Ok(_) => Err(BootstrapError::IsolationBroken {
            role: role.to_owned(),
            statement: statement.to_owned(),
        }),
    }
}
