//! Makes a database fit for use: the runtime login, the `extensions` schema, the revokes, the control
//! plane's tables. May run again at any time, by several processes at once; writes only what is not yet
//! as it should be.
//!
//! Roles belong to the server and not to the database, so two databases of one server may bootstrap at
//! the same moment: what one has made meanwhile, the other finds.

use std::cmp::Ordering;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};

use super::error::Failure;
use super::migrations::{HISTORY_TABLE, MigrationError, MigrationSet};
use super::pool::{Db, Endpoint, Isolation};
use super::schemas;

/// The login that requests work through: owns nothing, may read no table of `public`, can only become
/// the role of a tenant.
pub const RUNTIME_LOGIN: &str = "rowhouse_runtime";

/// Oldest server that we run on (PostgreSQL 15 took CREATE on `public` away from everybody).
const OLDEST_SERVER: u32 = 150_000;

/// The functions that are taken from everybody where the owner may. `set_config` is the one function
/// with which a query could change its own role or path; a session-level advisory lock would outlive
/// the transaction that took it.
const REVOKED_FUNCTIONS: [&str; 9] = [
    "pg_catalog.set_config(text, text, boolean)",
    "pg_catalog.pg_advisory_lock(bigint)",
    "pg_catalog.pg_advisory_lock(integer, integer)",
    "pg_catalog.pg_advisory_lock_shared(bigint)",
    "pg_catalog.pg_advisory_lock_shared(integer, integer)",
    "pg_catalog.pg_try_advisory_lock(bigint)",
    "pg_catalog.pg_try_advisory_lock(integer, integer)",
    "pg_catalog.pg_try_advisory_lock_shared(bigint)",
    "pg_catalog.pg_try_advisory_lock_shared(integer, integer)",
];

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// Nobody answers, or the login is refused.
    #[error("cannot connect to the database at {at}: {reason}")]
    Connect {
        /// Where, without the password.
        at: String,
        /// What went wrong.
        reason: String,
    },
    /// The server is too old.
    #[error("the server is PostgreSQL {found}; rowhouse needs 15 or newer")]
    TooOld {
        /// Its version.
        found: String,
    },
    /// The owner may not make roles, which isolation by role needs.
    #[error(
        "the login {owner} may not create roles, and isolation = role makes one for each tenant; let a \
         superuser run: ALTER ROLE {owner} CREATEROLE; or set ROWHOUSE_DATABASE__ISOLATION=search_path, \
         which keeps tenants apart by search path alone"
    )]
    MayNotCreateRoles {
        /// The login, quoted as an identifier.
        owner: String,
    },
    /// The runtime login is missing and the owner may not make it.
    #[error(
        "the login {RUNTIME_LOGIN} does not exist and {owner} may not create it; let a superuser run: \
         CREATE ROLE {RUNTIME_LOGIN} LOGIN NOINHERIT PASSWORD '..'; and set ROWHOUSE_DATABASE__RUNTIME_URL"
    )]
    NoRuntimeLogin {
        /// The login, quoted as an identifier.
        owner: String,
    },
    /// The runtime login exists and does not let us in.
    #[error(
        "cannot log in as {RUNTIME_LOGIN}: {reason}; name a working login in ROWHOUSE_DATABASE__RUNTIME_URL, \
         or let the server accept {RUNTIME_LOGIN} as it accepts the owner (pg_hba.conf)"
    )]
    RuntimeLogin {
        /// What the server said.
        reason: String,
    },
    /// Nothing of ours is in the database.
    #[error(
        "the database at {at} holds no control plane yet; `rowhouse migrate` makes one, and so does `rowhouse serve`"
    )]
    NotPrepared {
        /// Where, without the password.
        at: String,
    },
    /// The control plane is older than this program.
    #[error(
        "the control plane is at version {found}, this program works on {known}; `rowhouse migrate` brings it there"
    )]
    Behind {
        /// Version in the database.
        found: i32,
        /// Highest version in the set.
        known: i32,
    },
    /// The control plane's tables could not be brought up to date.
    #[error("cannot migrate the control plane: {0}")]
    Migrate(#[from] MigrationError),
    /// A step failed.
    #[error("failed to {during}: {reason}")]
    Step {
        /// What was being done.
        during: &'static str,
        /// What the server said.
        reason: String,
    },
}

/// What was found and done; for the log, `doctor` and the metrics.
#[derive(Debug, Clone)]
pub struct Posture {
    /// Such as 150018.
    pub server_version: u32,
    /// How tenants are kept apart.
    pub isolation: Isolation,
    /// What stays open, one sentence each; empty where nothing does.
    pub open: Vec<String>,
    /// The migrations of the control plane that were applied just now.
    pub applied: Vec<String>,
}

/// Makes roles and revokes; the first half of the bootstrap, before any pool is used.
///
/// # Errors
/// What stands in the way, with the statement that would mend it.
pub async fn prepare(
    owner: &Endpoint,
    runtime: &Endpoint,
    isolation: Isolation,
) -> Result<Posture, BootstrapError> {
    let client = connect(owner).await.map_err(|error| BootstrapError::Connect {
        at: describe(&owner.config),
        reason: words(&error),
    })?;
    let facts = Facts::read(&client).await?;
    if facts.version < OLDEST_SERVER {
        return Err(BootstrapError::TooOld { found: facts.version_text });
    }
    if isolation == Isolation::Role && !facts.may_create_roles {
        return Err(BootstrapError::MayNotCreateRoles { owner: facts.owner });
    }
    runtime_login(&client, &facts, runtime).await?;
    let open = revoke(&client, &facts).await?;
    extensions(&client).await?;
    Ok(Posture { server_version: facts.version, isolation, open, applied: Vec::new() })
}

/// Looks whether [`prepare`] and [`migrate`] have been here, and changes nothing: a command that lists
/// tenants must not turn a mistyped URL into a control plane, nor migrate one that older processes serve.
///
/// # Errors
/// What stands in the way, and which command would mend it.
pub async fn inspect(
    owner: &Endpoint,
    isolation: Isolation,
    set: &MigrationSet,
) -> Result<Posture, BootstrapError> {
    let at = describe(&owner.config);
    let client = connect(owner)
        .await
        .map_err(|error| BootstrapError::Connect { at: at.clone(), reason: words(&error) })?;
    let failed = step("read the version of the control plane");
    let facts = client
        .query_one(
            "SELECT current_setting('server_version_num')::int4, to_regclass($1::text) IS NOT NULL",
            &[&format!("public.{HISTORY_TABLE}")],
        )
        .await
        .map_err(&failed)?;
    let (server_version, is_there): (i32, bool) = (facts.get(0), facts.get(1));
    if !is_there {
        return Err(BootstrapError::NotPrepared { at });
    }
    let history = format!("SELECT COALESCE(max(version), 0) FROM public.{HISTORY_TABLE}");
    let found: i32 = client.query_one(&history, &[]).await.map_err(&failed)?.get(0);
    let known = set.version();
    match found.cmp(&known) {
        Ordering::Less => Err(BootstrapError::Behind { found, known }),
        Ordering::Greater => Err(MigrationError::Ahead { found, known }.into()),
        Ordering::Equal => Ok(Posture {
            server_version: u32::try_from(server_version).unwrap_or(0),
            isolation,
            open: Vec::new(),
            applied: Vec::new(),
        }),
    }
}

/// Migrates the control plane; the second half.
///
/// # Errors
/// The file that failed, or that the database is newer than this program.
pub async fn migrate(db: &Db, set: &MigrationSet) -> Result<Vec<String>, BootstrapError> {
    let tx = db.public().await.map_err(MigrationError::from)?;
    schemas::lock(&tx, "rowhouse control plane").await.map_err(MigrationError::from)?;
    let applied = set.apply(&tx).await?;
    tx.commit().await.map_err(MigrationError::from)?;
    Ok(applied)
}

/// What the server says of itself and of us.
struct Facts {
    version: u32,
    version_text: String,
    owner: String,
    superuser: bool,
    may_create_roles: bool,
    runtime_exists: bool,
}

impl Facts {
    async fn read(client: &Client) -> Result<Self, BootstrapError> {
        let row = client
            .query_one(
                "SELECT current_setting('server_version_num')::int4,
                        current_setting('server_version'),
                        quote_ident(current_user),
                        rolsuper,
                        rolsuper OR rolcreaterole,
                        EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)
                   FROM pg_catalog.pg_roles
                  WHERE rolname = current_user",
                &[&RUNTIME_LOGIN],
            )
            .await
            .map_err(step("read what the server is"))?;
        Ok(Self {
            version: u32::try_from(row.get::<_, i32>(0)).unwrap_or(0),
            version_text: row.get(1),
            owner: row.get(2),
            superuser: row.get(3),
            may_create_roles: row.get(4),
            runtime_exists: row.get(5),
        })
    }
}

/// Makes the runtime login where there is none, and sees that one can log in as it.
async fn runtime_login(
    client: &Client,
    facts: &Facts,
    runtime: &Endpoint,
) -> Result<(), BootstrapError> {
    // The verifier is computed here, so that the password never travels or reaches a server's log.
    let password = runtime.config.get_password().map(postgres_protocol::password::scram_sha_256);
    let password = password
        .map_or_else(|| "PASSWORD NULL".to_owned(), |verifier| format!("PASSWORD '{verifier}'"));
    if !facts.runtime_exists {
        if !facts.may_create_roles {
            return Err(BootstrapError::NoRuntimeLogin { owner: facts.owner.clone() });
        }
        let create = format!(
            "CREATE ROLE {RUNTIME_LOGIN} LOGIN NOINHERIT NOCREATEDB NOCREATEROLE {password}"
        );
        match client.batch_execute(&create).await {
            Ok(()) => {}
            Err(error) if lost_race(&error) => {}
            Err(error) => return Err(step("create the runtime login")(error)),
        }
    }
    let Err(refused) = connect(runtime).await else { return Ok(()) };
    let is_ours = runtime.config.get_user() == Some(RUNTIME_LOGIN);
    let wrong_password = refused.code() == Some(&SqlState::INVALID_PASSWORD);
    if is_ours && wrong_password && facts.may_create_roles {
        // The owner's password was changed, and ours with it.
        let alter = format!("ALTER ROLE {RUNTIME_LOGIN} {password}");
        client
            .batch_execute(&alter)
            .await
            .map_err(step("set the password of the runtime login"))?;
        connect(runtime)
            .await
            .map_err(|error| BootstrapError::RuntimeLogin { reason: words(&error) })?;
        return Ok(());
    }
    Err(BootstrapError::RuntimeLogin { reason: words(&refused) })
}

/// Takes from everybody what no tenant may have, and tells what could not be taken.
async fn revoke(client: &Client, facts: &Facts) -> Result<Vec<String>, BootstrapError> {
    let row = client
        .query_one(
            "SELECT has_database_privilege('public', current_database(), 'TEMP'),
                    has_schema_privilege('public', 'public', 'USAGE')
                        OR has_schema_privilege('public', 'public', 'CREATE'),
                    quote_ident(current_database()),
                    has_database_privilege($1, current_database(), 'CONNECT')",
            &[&RUNTIME_LOGIN],
        )
        .await
        .map_err(step("read who may do what"))?;
    let (temp, public, database, connect): (bool, bool, String, bool) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let mut open = Vec::new();
    for (needed, statement, without_it) in [
        (
            temp,
            format!("REVOKE TEMP ON DATABASE {database} FROM PUBLIC"),
            "tenants may create temporary tables",
        ),
        (
            public,
            "REVOKE ALL ON SCHEMA public FROM PUBLIC".to_owned(),
            "tenants may look into the schema public",
        ),
        (
            !connect,
            format!("GRANT CONNECT ON DATABASE {database} TO {RUNTIME_LOGIN}"),
            "the runtime login may not connect",
        ),
    ] {
        if needed {
            attempt(client, &statement, without_it, &mut open).await?;
        }
    }
    for function in REVOKED_FUNCTIONS {
        let row = client
            .query_one("SELECT has_function_privilege('public', $1, 'EXECUTE')", &[&function])
            .await
            .map_err(step("read who may call what"))?;
        if !row.get::<_, bool>(0) {
            continue;
        }
        let name = function.split('(').next().unwrap_or(function).trim_start_matches("pg_catalog.");
        let without_it = format!("tenants may call {name}");
        if facts.superuser {
            let owner = &facts.owner;
            let statement = format!(
                "REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC; GRANT EXECUTE ON FUNCTION {function} TO {owner}"
            );
            attempt(client, &statement, &without_it, &mut open).await?;
        } else if !open.contains(&without_it) {
            open.push(without_it);
        }
    }
    Ok(open)
}

/// Runs a statement that the owner may not be allowed to run; what then stays open is noted.
async fn attempt(
    client: &Client,
    statement: &str,
    without_it: &str,
    open: &mut Vec<String>,
) -> Result<(), BootstrapError> {
    const TRIES: u32 = 10;
    for attempt in 1..=TRIES {
        match client.batch_execute(statement).await {
            Ok(()) => return Ok(()),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                open.push(without_it.to_owned());
                return Ok(());
            }
            // Somebody else is making the same change: "tuple concurrently updated".
            Err(error) if attempt < TRIES && error.code() == Some(&SqlState::INTERNAL_ERROR) => {
                tokio::time::sleep(Duration::from_millis(20 * u64::from(attempt))).await;
            }
            Err(error) => return Err(step("restrict what everybody may do")(error)),
        }
    }
    Ok(())
}

/// The schema that extensions are installed into, seen from every tenant and writable from none.
async fn extensions(client: &Client) -> Result<(), BootstrapError> {
    let there = client
        .query_one("SELECT to_regnamespace('extensions') IS NOT NULL", &[])
        .await
        .map_err(step("look for the schema extensions"))?;
    if there.get::<_, bool>(0) {
        return Ok(());
    }
    match client
        .batch_execute(
            "BEGIN; CREATE SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO PUBLIC; COMMIT",
        )
        .await
    {
        Ok(()) => Ok(()),
        Err(error) if lost_race(&error) => Ok(()),
        Err(error) => Err(step("create the schema extensions")(error)),
    }
}

/// Opens one connection and drives it in the background until the client is dropped.
///
/// # Errors
/// What the server or the network said.
pub async fn connect(endpoint: &Endpoint) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = endpoint.config.connect(endpoint.tls.clone()).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "a database connection ended");
        }
    });
    Ok(client)
}

/// Whether somebody else made the same thing at the same moment.
fn lost_race(error: &tokio_postgres::Error) -> bool {
    [&SqlState::DUPLICATE_OBJECT, &SqlState::DUPLICATE_SCHEMA, &SqlState::UNIQUE_VIOLATION]
        .iter()
        .any(|state| error.code() == Some(state))
}

fn step(during: &'static str) -> impl Fn(tokio_postgres::Error) -> BootstrapError {
    move |error| BootstrapError::Step { during, reason: words(&error) }
}

/// What the server said, or what the network did; tokio-postgres's own text hides both.
#[must_use]
pub fn words(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Where a configuration points, without its password.
fn describe(config: &Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            tokio_postgres::config::Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{}:{port}, database {}", hosts.join(","), config.get_dbname().unwrap_or("(default)"))
}

impl From<Failure> for BootstrapError {
    fn from(failure: Failure) -> Self {
        Self::Migrate(failure.into())
    }
}

/// The runtime login's password where none is set: derived from the owner's, so that every process on
/// every database of the server comes to the same one and nobody has to keep it.
#[must_use]
pub fn runtime_password(owners: &[u8]) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, owners);
    hex::encode(aws_lc_rs::hmac::sign(&key, RUNTIME_LOGIN.as_bytes()))
}
