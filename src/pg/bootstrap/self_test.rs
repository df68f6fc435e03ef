//! Tests the isolation of tenants by statements that the server must refuse.

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::error::BootstrapError;
use crate::domain::names::{SchemaName, TenantId};
use crate::pg::db::Db;
use crate::pg::error::Failure;
use crate::pg::rules::exposure::ExposureName;
use crate::pg::rules::{Isolation, RUNTIME_LOGIN};

/// Tests the isolation of tenants: tries to read the control plane and a tenant as the runtime login, and one
/// tenant from inside another, and asks the server for the tables of the control plane that either could read or
/// change. On a cluster it also calls a function that no tenant may call, in a query on a table of one tenant of each
/// node: that node runs the function. Runs a handful of short queries, or two if there are no tenants yet. Returns
/// warnings about what else it found.
///
/// # Errors
/// [`BootstrapError::IsolationBroken`] if the server did not refuse a statement.
pub async fn self_test(db: &Db) -> Result<Vec<String>, BootstrapError> {
    let tenants = two_tenants(db).await.map_err(failed)?;
    let unguarded = db.unguarded_for_self_test().await.map_err(failed)?;
    let statement = "SELECT FROM public.users LIMIT 1";
    let outcome = unguarded.query_typed(statement, &[]).await;
    must_be_refused(RUNTIME_LOGIN, statement, outcome.map_err(Failure::from))?;
    let reached = unguarded.query_typed(CONTROL_PLANE_IN_REACH, &[]).await;
    must_be_none(RUNTIME_LOGIN, reached.map_err(Failure::from))?;
    // Under search_path the runtime login may read every tenant.
    let tenants: &[(TenantId, String)] = match db.rules().isolation {
        Isolation::SearchPath => &[],
        Isolation::Role => tenants.as_slice(),
    };
    let statement = tenants.first().map(|(_, table)| format!("SELECT FROM {table} LIMIT 1"));
    if let Some(statement) = &statement {
        let outcome = unguarded.query_typed(statement, &[]).await;
        must_be_refused(RUNTIME_LOGIN, statement, outcome.map_err(Failure::from))?;
    }
    // What follows takes a connection for a tenant: several that test at once must not wait for each other.
    drop(unguarded);
    let mut warnings = nodes(db).await?;
    let (Some(statement), [_, (other, _)]) = (statement, tenants) else { return Ok(warnings) };
    let outcome = db.tenant(*other).await.map_err(failed)?.query(&statement, &[]).await;
    if outcome.as_ref().is_err_and(lacks_role) {
        warnings.push(without_role(*other));
        return Ok(warnings);
    }
    let role = SchemaName::of(*other);
    must_be_refused(role.as_str(), &statement, outcome)?;
    let other = db.tenant(*other).await.map_err(failed)?;
    let reached = other.query_and_commit(CONTROL_PLANE_IN_REACH, &[]).await;
    must_be_none(role.as_str(), reached)?;
    Ok(warnings)
}

/// Whether a tenant could not be entered because it has no role.
fn lacks_role(failure: &Failure) -> bool {
    failure.sqlstate() == Some(&SqlState::INVALID_PARAMETER_VALUE)
}

/// The warning that a tenant has no role.
fn without_role(tenant: TenantId) -> String {
    format!(
        "the tenant {tenant} has no role and cannot be entered; was it created under isolation = search_path?"
    )
}

/// The error that the isolation of tenants could not be tested.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn failed(failure: Failure) -> BootstrapError {
    let reason = failure.server_message();
    BootstrapError::Step { during: "test the isolation of tenants", reason }
}

/// Calls `set_config` in a query on a table of one tenant of each node. The coordinator does not look at the privileges of
/// a function that a node runs. Returns a warning for each node that is away.
async fn nodes(db: &Db) -> Result<Vec<String>, BootstrapError> {
    let rules = db.rules();
    // What is accepted as open is no breach.
    if !rules.engine.has_nodes() || rules.open.contains(ExposureName::SetConfig) {
        return Ok(Vec::new());
    }
    let mut warnings = Vec::new();
    let has_roles = rules.isolation == Isolation::Role;
    let tx = db.public().await.map_err(failed)?;
    let rows = tx.query_and_commit(ONE_TENANT_OF_EACH_NODE, &[&has_roles]).await;
    for row in rows.map_err(failed)? {
        let (node, tenant): (&str, TenantId) = (row.get("node"), row.get("id"));
        let table: &str = row.get("table_name");
        let statement = format!(
            "SELECT pg_catalog.set_config('rowhouse.self_test', '', true) FROM {table} LIMIT 1"
        );
        // With the rights of the tenant, and without its guard: what the server refuses is tested.
        let tx = db.tenant(tenant).await.map_err(failed)?;
        match tx.query(&statement, &[]).await {
            Err(failure) if failure.is_node_away() => {
                warnings.push(format!("the node {node} is away, and was not tested"));
            }
            Err(failure) if lacks_role(&failure) => warnings.push(without_role(tenant)),
            // Any tenant may hold it, and none may keep a server from starting.
            Err(Failure::LockTimeout { wait, .. }) => {
                warnings.push(format!("the node {node} was not tested: {wait}"));
            }
            outcome => {
                must_be_refused(&format!("a tenant on the node {node}"), &statement, outcome)?;
            }
        }
    }
    Ok(warnings)
}

/// Selects for each node of the cluster the oldest tenant on it, with a table that its role may read. Where tenants have
/// roles (`$1`), one that lost its role cannot be entered, and keeps no server from starting.
const ONE_TENANT_OF_EACH_NODE: &str = "
    SELECT DISTINCT ON (p.groupid) format('%s:%s', d.nodename, d.nodeport) AS node, t.id,
           format('%I.%I', n.nspname, c.relname) AS table_name
      FROM public.tenants t
      JOIN pg_catalog.pg_namespace n ON n.nspname = 'tenant_' || replace(t.id::text, '-', '')
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind = 'r'
       AND c.relname <> 'refinery_schema_history'
      JOIN pg_catalog.pg_dist_shard s ON s.logicalrelid = c.oid
      JOIN pg_catalog.pg_dist_placement p ON p.shardid = s.shardid
      JOIN pg_catalog.pg_dist_node d ON d.groupid = p.groupid AND d.noderole = 'primary'
     WHERE t.status <> 'deleting' AND (NOT $1 OR to_regrole(n.nspname::text) IS NOT NULL)
     ORDER BY p.groupid, t.created_at, t.id, c.relname";

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
        Err(failure) => Err(failed(failure)),
    }
}

/// Returns the two oldest tenants that have a schema, each with the name of a table in it.
async fn two_tenants(db: &Db) -> Result<Vec<(TenantId, String)>, Failure> {
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
        Err(failure) => Err(failed(failure)),
        Ok(_) => Err(BootstrapError::IsolationBroken {
            role: role.to_owned(),
            statement: statement.to_owned(),
        }),
    }
}
