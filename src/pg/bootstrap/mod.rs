//! Prepares a database: creates the runtime login, the schema `extensions` and the control plane's tables,
//! and revokes privileges of PUBLIC.
//!
//! Promises: it may run again at any time and in several processes at once, and writes only what is missing.
//! Roles belong to the server, not to the database, so two databases of one server may bootstrap at the same time:
//! each accepts what the other has created meanwhile.
//!
//! A `REVOKE` without the right to it is only a warning of the server. The privileges are therefore read again, and
//! those that stay are reported ([`Posture::exposures`]). The [`self_test`] then does not read privileges but runs
//! statements that the server must refuse.
//!
//! Statements are unnamed, because a pooler may be in front of the server for either login.

mod error;
mod login;
pub mod privileges;
mod revoke;

use std::cmp::Ordering;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use self::error::{describe, step};
use crate::domain::names::{SchemaName, TenantId};
use crate::migrations::{HISTORY_TABLE, HistoryError, MigrationSet};
use crate::pg::db::Db;
use crate::pg::error::{Failure, server_message};
use crate::pg::rules::{Endpoint, Isolation, RUNTIME_LOGIN};
use crate::pg::schema::create_history_sql;
use crate::pg::schema::error::ApplyError;

pub use error::BootstrapError;
pub use login::{ensure_login_limits, runtime_password};

/// The oldest supported server: PostgreSQL 15 revoked CREATE on `public` from PUBLIC.
const OLDEST_SERVER: u32 = 150_000;

/// What the bootstrap found and did, for the log, `doctor` and the metrics.
#[derive(Debug, Clone)]
pub struct Posture {
    /// The version of the server, such as 150018.
    pub server_version: u32,
    /// How tenants are isolated.
    pub isolation: Isolation,
    /// What defeats the isolation and could not be revoked, one sentence each.
    pub exposures: Vec<String>,
    /// The migrations of the control plane that this start applied.
    pub applied: Vec<String>,
}

/// Creates the runtime login and revokes privileges: the first half of the bootstrap, before any pool is used.
///
/// # Errors
/// [`BootstrapError`], with the statement that would remove the cause.
pub async fn prepare(
    owner: &Endpoint,
    runtime: &Endpoint,
    isolation: Isolation,
) -> Result<Posture, BootstrapError> {
    let client = connect(owner).await.map_err(|error| BootstrapError::Connect {
        at: describe(&owner.config),
        reason: server_message(&error),
    })?;
    let facts = Facts::read(&client).await?;
    check_version(facts.version, &facts.version_text)?;
    if facts.encoding != "UTF8" {
        let (found, database) = (facts.encoding, facts.database);
        return Err(BootstrapError::Encoding { found, database });
    }
    if isolation == Isolation::Role && !facts.may_create_roles {
        return Err(BootstrapError::MayNotCreateRoles { owner: facts.owner });
    }
    login::runtime_login(&client, &facts, runtime).await?;
    extensions(&client).await?;
    let mut exposures = revoke::revoke(&client, &facts).await?;
    exposures.extend(revoke::non_tenant_roles(&client).await?);
    if isolation == Isolation::SearchPath {
        exposures.push(
            "isolation = search_path: a query that names another tenant's schema is not refused"
                .to_owned(),
        );
    }
    Ok(Posture { server_version: facts.version, isolation, exposures, applied: Vec::new() })
}

/// Checks that [`prepare`] and [`migrate`] have run on the database, and changes nothing: a command that lists
/// tenants must not create a control plane because of a mistyped URL, nor migrate one that older processes serve.
///
/// # Errors
/// [`BootstrapError`], with the command that would remove the cause.
pub async fn inspect(
    owner: &Endpoint,
    isolation: Isolation,
    set: &MigrationSet,
) -> Result<Posture, BootstrapError> {
    let at = describe(&owner.config);
    let client = connect(owner).await.map_err(|error| BootstrapError::Connect {
        at: at.clone(),
        reason: server_message(&error),
    })?;
    let failed = step("read the version of the control plane");
    let facts = client
        .query_typed_one(
            "SELECT current_setting('server_version_num')::int4 AS server_version,
                    to_regclass($1) IS NOT NULL AS is_prepared",
            &[(&format!("public.{HISTORY_TABLE}"), Type::TEXT)],
        )
        .await
        .map_err(&failed)?;
    let (server_version, is_prepared): (i32, bool) =
        (facts.get("server_version"), facts.get("is_prepared"));
    if !is_prepared {
        return Err(BootstrapError::NotPrepared { at });
    }
    let history =
        format!("SELECT COALESCE(max(version), 0) AS version FROM public.{HISTORY_TABLE}");
    let found: i32 = client.query_typed_one(&history, &[]).await.map_err(&failed)?.get("version");
    let known = set.version();
    match found.cmp(&known) {
        Ordering::Less => Err(BootstrapError::Behind { found, known }),
        Ordering::Greater => Err(ApplyError::from(HistoryError::Ahead { found, known }).into()),
        Ordering::Equal => Ok(Posture {
            server_version: u32::try_from(server_version).unwrap_or(0),
            isolation,
            exposures: Vec::new(),
            applied: Vec::new(),
        }),
    }
}

fn check_version(version: u32, text: &str) -> Result<(), BootstrapError> {
    if version < OLDEST_SERVER {
        return Err(BootstrapError::TooOld { found: text.to_owned() });
    }
    Ok(())
}

/// Migrates the control plane and returns the names of the applied files: the second half of the bootstrap.
///
/// # Errors
/// [`BootstrapError::Migrate`] if a file failed or the database is newer than this program.
pub async fn migrate(db: &Db, set: &MigrationSet) -> Result<Vec<String>, BootstrapError> {
    create_history(db).await?;
    let tx = db.public().await.map_err(ApplyError::from)?;
    // Another process may be migrating, which may take long: this lock is waited for without a limit, unlike
    // those on other tables. Reading the history does not wait for it.
    tx.batch(&format!(
        "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;
         LOCK TABLE public.{HISTORY_TABLE} IN SHARE ROW EXCLUSIVE MODE"
    ))
    .await?;
    let limit = db.rules().limits.lock.as_millis();
    tx.batch(&format!("SET LOCAL lock_timeout = {limit}")).await?;
    let applied = set.apply(&tx).await?;
    tx.commit().await.map_err(ApplyError::from)?;
    Ok(applied)
}

/// Creates the history table of the control plane, which is also its lock, if it is missing. A transaction of its own:
/// of two processes that prepare a new database, one creates the table, and both then lock it.
async fn create_history(db: &Db) -> Result<(), BootstrapError> {
    let tx = db.public().await?;
    let exists = "SELECT to_regclass($1) IS NOT NULL AS exists";
    let exists = tx.query_one(exists, &[&format!("public.{HISTORY_TABLE}")]).await?;
    if exists.get("exists") {
        return Ok(());
    }
    match tx.batch(&create_history_sql()).await {
        Ok(()) => Ok(tx.commit().await?),
        Err(failure) if failure.sqlstate().is_some_and(means_already_exists) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

/// Tests the isolation of tenants: tries to read the control plane and a tenant as the runtime login, and one
/// tenant from inside another. Runs a handful of short queries, or one if there are no tenants yet. Returns
/// warnings about what else it found.
///
/// # Errors
/// [`BootstrapError::IsolationBroken`] if the server did not refuse a statement.
pub async fn self_test(db: &Db) -> Result<Vec<String>, BootstrapError> {
    let tenants = two_tenants(db).await?;
    let unguarded = db.unguarded_for_self_test().await?;
    let statement = "SELECT FROM public.users LIMIT 1";
    let outcome = unguarded.query_typed(statement, &[]).await;
    must_be_refused(RUNTIME_LOGIN, statement, outcome.map_err(Failure::from))?;
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
    must_be_refused(SchemaName::of(*other).as_str(), &statement, outcome)?;
    Ok(Vec::new())
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

/// What the server reports about itself, the database and the owner.
struct Facts {
    version: u32,
    version_text: String,
    encoding: String,
    owner: String,
    may_create_roles: bool,
    database: String,
    runtime_exists: bool,
}

impl Facts {
    async fn read(client: &Client) -> Result<Self, BootstrapError> {
        let row = client
            .query_typed_one(
                "SELECT current_setting('server_version_num')::int4 AS version,
                        current_setting('server_version') AS version_text,
                        quote_ident(current_user) AS owner,
                        rolsuper OR rolcreaterole AS may_create_roles,
                        quote_ident(current_database()) AS database,
                        EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1) AS runtime_exists,
                        current_setting('server_encoding') AS encoding
                   FROM pg_catalog.pg_roles
                  WHERE rolname = current_user",
                &[(&RUNTIME_LOGIN, Type::TEXT)],
            )
            .await
            .map_err(step("read the properties of the server"))?;
        Ok(Self {
            version: u32::try_from(row.get::<_, i32>("version")).unwrap_or(0),
            version_text: row.get("version_text"),
            owner: row.get("owner"),
            may_create_roles: row.get("may_create_roles"),
            database: row.get("database"),
            runtime_exists: row.get("runtime_exists"),
            encoding: row.get("encoding"),
        })
    }
}

/// Runs a statement that changes a role or a privilege. Retries if another session is changing the same one: the
/// server then reports "tuple concurrently updated".
async fn alter(client: &Client, statement: &str) -> Result<(), tokio_postgres::Error> {
    const TRIES: u32 = 10;
    let mut attempt = 1;
    loop {
        match client.batch_execute(statement).await {
            Err(error) if attempt < TRIES && error.code() == Some(&SqlState::INTERNAL_ERROR) => {
                tokio::time::sleep(Duration::from_millis(20 * u64::from(attempt))).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Creates the schema that extensions are installed into: every tenant can read it, none can write to it.
async fn extensions(client: &Client) -> Result<(), BootstrapError> {
    let exists = client
        .query_typed_one("SELECT to_regnamespace('extensions') IS NOT NULL AS exists", &[])
        .await
        .map_err(step("read the schema extensions"))?;
    if exists.get::<_, bool>("exists") {
        return Ok(());
    }
    // One message is one transaction. With an explicit BEGIN, a lost race would leave a failed transaction open.
    match client
        .batch_execute("CREATE SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO PUBLIC")
        .await
    {
        Ok(()) => Ok(()),
        Err(error) if already_exists(&error) => Ok(()),
        Err(error) => Err(step("create the schema extensions")(error)),
    }
}

/// Opens one connection and drives it in the background until the client is dropped.
///
/// # Errors
/// The error of the server or the network.
pub async fn connect(endpoint: &Endpoint) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = endpoint.config.connect(endpoint.tls.clone()).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "a database connection ended");
        }
    });
    Ok(client)
}

/// Whether another session created the same object at the same time.
fn already_exists(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(means_already_exists)
}

fn means_already_exists(state: &SqlState) -> bool {
    [
        &SqlState::DUPLICATE_OBJECT,
        &SqlState::DUPLICATE_SCHEMA,
        &SqlState::DUPLICATE_TABLE,
        &SqlState::UNIQUE_VIOLATION,
    ]
    .contains(&state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_too_old_is_refused_by_its_version() {
        assert!(check_version(150_000, "15.0").is_ok());
        assert!(check_version(180_004, "18.4").is_ok());
        let error = check_version(140_022, "14.22 (Debian)").unwrap_err().to_string();
        assert_eq!(error, "the server is PostgreSQL 14.22 (Debian); rowhouse needs 15 or newer");
    }

    #[test]
    fn the_runtime_password_follows_the_owners() {
        let first = runtime_password(b"one");
        assert_eq!(first, runtime_password(b"one"));
        assert_ne!(first, runtime_password(b"two"));
        assert_eq!(first.len(), 64);
    }
}
