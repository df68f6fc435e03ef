//! Prepares a database: creates the runtime login, the schema `extensions` and the control plane's tables,
//! and revokes privileges of PUBLIC.
//!
//! Promises: it may run again at any time and in several processes at once, and writes only what is missing.
//! Roles belong to the server, not to the database, so two databases of one server may bootstrap at the same time:
//! each accepts what the other has created meanwhile.
//!
//! A `REVOKE` without the right to it is only a warning of the server. The privileges are therefore read again, and
//! those that stay are reported ([`Posture::exposures`]); a server starts only if the settings accept each of them
//! ([`Posture::require_accepted`]). The `self_test` then does not read privileges but runs statements that the
//! server must refuse.
//!
//! Statements are unnamed, because a pooler may be in front of the server for either login.

mod citus;
pub mod control_plane;
mod error;
mod exposure;
mod facts;
mod half_restored;
mod login;
mod migrator;
mod nodes;
mod posture;
pub mod privileges;
mod revoke;
mod self_test;
pub mod version;
mod wait;

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use self::error::{describe, step};
use self::facts::Facts;
use self::version::Fit;
use crate::migrations::{HISTORY_TABLE, HistoryError, MigrationSet};
use crate::pg::connect::login::Login;
use crate::pg::connect::open::ConnectError;
use crate::pg::db::Db;
use crate::pg::rules::Isolation;
use crate::pg::schema::create_history_sql;
use crate::pg::schema::error::ApplyError;

pub use error::BootstrapError;
pub use exposure::Exposure;
pub use half_restored::half_restored;
pub use login::{ensure_login_limits, runtime_password};
pub use nodes::NodesWithoutRight;
pub use posture::Posture;
pub use self_test::self_test;
pub use wait::wait_until_up;

/// The oldest supported server: PostgreSQL 15 revoked CREATE on `public` from PUBLIC.
const OLDEST_SERVER: u32 = 150_000;

/// What the settings ask of a database, before it is known which engine it has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// How tenants are isolated; `None` for what suits the engine.
    pub isolation: Option<Isolation>,
    /// Whether the database is taken for a Citus cluster, also where it is none.
    pub forces_citus: bool,
}

/// Creates the runtime login and revokes privileges: the first half of the bootstrap, before any pool is used.
///
/// # Errors
/// [`BootstrapError`], with the statement that would remove the cause.
pub async fn prepare(
    owner: &mut Login,
    runtime: &mut Login,
    wanted: Wanted,
) -> Result<Posture, BootstrapError> {
    let at = describe(&owner.endpoint().config);
    let client = connected(owner, &at).await?;
    let facts = Facts::read(client).await?;
    check_version(facts.version, &facts.version_text)?;
    facts.require_writable(&at)?;
    if facts.encoding != "UTF8" {
        let (found, database) = (facts.encoding, facts.database);
        return Err(BootstrapError::Encoding { found, database });
    }
    let engine = wanted.engine(facts.citus_version.is_some());
    let isolation = wanted.isolation(engine);
    if engine.has_nodes() {
        citus::require_coordinator(client, &at, &facts).await?;
    }
    if isolation == Isolation::Role && !facts.may_create_roles {
        return Err(BootstrapError::MayNotCreateRoles { owner: facts.owner });
    }
    facts.require_privileges()?;
    login::runtime_login(client, &facts, runtime).await?;
    migrator::create(client, &facts).await?;
    if engine.has_nodes() {
        citus::require_known_roles(client, &facts).await?;
        citus::require_schemas(client, &facts).await?;
        if isolation == Isolation::Role {
            citus::require_uncached(runtime, &facts).await?;
        }
    }
    create_schema(client, "public", "").await?;
    // Every tenant can read what extensions install there, and none can write to it.
    create_schema(client, "extensions", "; GRANT USAGE ON SCHEMA extensions TO PUBLIC").await?;
    let (mut exposures, mut warnings) = revoke::revoke(client, &facts, engine).await?;
    exposures.extend(revoke::non_tenant_roles(client).await?);
    // After PUBLIC has lost what the migrator needs.
    warnings.extend(migrator::grant(client, &facts).await?);
    if isolation == Isolation::SearchPath {
        warnings.push(
            "isolation = search_path: a query that names another tenant's schema is not refused"
                .to_owned(),
        );
    }
    Ok(Posture {
        server_version: facts.version,
        engine,
        engine_version: facts.citus_version,
        isolation,
        owner: facts.owner,
        exposures,
        warnings,
        applied: Vec::new(),
    })
}

/// Checks that [`prepare`] and [`migrate`] have run on the database, here or in a newer program that this one works with,
/// and changes nothing: a command that lists tenants must not create a control plane because of a mistyped URL, nor
/// migrate one that older processes serve.
///
/// # Errors
/// [`BootstrapError`], with the command that would remove the cause.
pub async fn inspect(
    owner: &mut Login,
    wanted: Wanted,
    set: &MigrationSet,
) -> Result<Posture, BootstrapError> {
    let at = describe(&owner.endpoint().config);
    let client = connected(owner, &at).await?;
    let failed = step("read the version of the control plane");
    let facts = client
        .query_typed_one(
            "SELECT current_setting('server_version_num')::int4 AS server_version,
                    current_setting('server_version') AS version_text,
                    quote_ident(current_user) AS owner,
                    to_regclass($1) IS NOT NULL AS is_prepared,
                    (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'citus') AS citus_version",
            &[(&format!("public.{HISTORY_TABLE}"), Type::TEXT)],
        )
        .await
        .map_err(&failed)?;
    let (server_version, is_prepared): (i32, bool) =
        (facts.get("server_version"), facts.get("is_prepared"));
    let server_version = u32::try_from(server_version).unwrap_or(0);
    check_version(server_version, facts.get("version_text"))?;
    if !is_prepared {
        return Err(BootstrapError::NotPrepared { at });
    }
    let known = set.version();
    let citus_version: Option<String> = facts.get("citus_version");
    let engine = wanted.engine(citus_version.is_some());
    match version::fit_on(client, known).await.map_err(&failed)? {
        Fit::Behind { found } => Err(BootstrapError::Behind { found, known }),
        Fit::TooNew { found } => Err(ApplyError::from(HistoryError::Ahead { found, known }).into()),
        Fit::Same | Fit::Newer { .. } => Ok(Posture {
            server_version,
            engine,
            engine_version: citus_version,
            isolation: wanted.isolation(engine),
            owner: facts.get("owner"),
            exposures: Vec::new(),
            warnings: Vec::new(),
            applied: Vec::new(),
        }),
    }
}

async fn connected<'a>(owner: &'a mut Login, at: &str) -> Result<&'a Client, BootstrapError> {
    let failed = |error: ConnectError| BootstrapError::Connect {
        at: at.to_owned(),
        reason: error.to_string(),
    };
    owner.client().await.map_err(failed)
}

fn check_version(version: u32, text: &str) -> Result<(), BootstrapError> {
    if version < OLDEST_SERVER {
        return Err(BootstrapError::TooOld { found: text.to_owned() });
    }
    Ok(())
}

/// Migrates the control plane and returns the names of the applied files: the second half of the bootstrap. A newer
/// control plane that this program works with is left as it is.
///
/// # Errors
/// [`BootstrapError::Migrate`] if a file failed, or if this program does not work with a newer control plane.
pub async fn migrate(db: &Db, set: &MigrationSet) -> Result<Vec<String>, BootstrapError> {
    create_history(db).await?;
    let tx = db.public().await.map_err(ApplyError::from)?;
    // Another process may be migrating, which may take long: this lock is waited for without a limit, unlike
    // those on other tables. Reading the history does not wait for it.
    tx.may_take_any_time();
    tx.batch(&format!(
        "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0;
         LOCK TABLE public.{HISTORY_TABLE} IN SHARE ROW EXCLUSIVE MODE"
    ))
    .await?;
    let limit = db.rules().limits.lock.as_millis();
    tx.batch(&format!("SET LOCAL lock_timeout = {limit}")).await?;
    let known = set.version();
    let applied = match version::fit(&tx, known).await? {
        Fit::Newer { found } => {
            version::require_known_files(&tx, set).await?;
            tracing::info!(
                found,
                known,
                "the control plane is newer than this program, which works with it"
            );
            Vec::new()
        }
        Fit::TooNew { found } => {
            return Err(ApplyError::from(HistoryError::Ahead { found, known }).into());
        }
        Fit::Behind { .. } | Fit::Same => set.apply(&tx).await?,
    };
    if !applied.is_empty() {
        version::record(&tx, set).await?;
    }
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

/// Creates a schema if it does not exist. `also` is run after that and begins with a semicolon.
async fn create_schema(client: &Client, name: &str, also: &str) -> Result<(), BootstrapError> {
    let exists = client
        .query_typed_one("SELECT to_regnamespace($1) IS NOT NULL AS exists", &[(&name, Type::TEXT)])
        .await
        .map_err(step("read the schemas of the database"))?;
    if exists.get::<_, bool>("exists") {
        return Ok(());
    }
    // One message is one transaction. With an explicit BEGIN, a lost race would leave a failed transaction open.
    match client.batch_execute(&format!("CREATE SCHEMA {name}{also}")).await {
        Ok(()) => Ok(()),
        Err(error) if already_exists(&error) => Ok(()),
        Err(error) => Err(step("create a schema of the control plane")(error)),
    }
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
