//! Makes a database fit for use: the runtime login, the `extensions` schema, the revokes, the control
//! plane's tables. May run again at any time, by several processes at once; writes only what is not yet
//! as it should be.
//!
//! Roles belong to the server and not to the database, so two databases of one server may bootstrap at
//! the same moment: what one has made meanwhile, the other finds.
//!
//! What could not be restricted is told in words ([`Posture::open`]), and found out by looking again: a
//! `REVOKE` by somebody who may not is a warning of the server's and no error. The [`self_test`] then does
//! not ask who may do what, but tries.

use std::cmp::Ordering;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};

use super::error::Failure;
use super::migrations::{HISTORY_TABLE, MigrationError, MigrationSet};
use super::pool::{Db, Endpoint, Isolation, TimeLimits};
use super::schemas;
use crate::domain::names::{SchemaName, TenantId};

/// The login that requests work through: owns nothing, may read no table of `public`, can only become
/// the role of a tenant.
pub const RUNTIME_LOGIN: &str = "rowhouse_runtime";

/// Oldest server that we run on (PostgreSQL 15 took CREATE on `public` away from everybody).
const OLDEST_SERVER: u32 = 150_000;

/// What a tenant could do with functions that everybody may call by default. They are taken from
/// everybody and given back to the owner.
const REVOKED_FUNCTIONS: [(&str, &str); 4] = [
    // The one function with which a query can change its own role or path.
    (
        "SQL that gets into a query could become another tenant by set_config",
        "pg_catalog.set_config(text, text, boolean)",
    ),
    // Those that end with the transaction stay.
    (
        "a tenant could hold an advisory lock longer than its transaction",
        "pg_catalog.pg_advisory_lock(bigint), pg_catalog.pg_advisory_lock(integer, integer), \
         pg_catalog.pg_advisory_lock_shared(bigint), \
         pg_catalog.pg_advisory_lock_shared(integer, integer), \
         pg_catalog.pg_try_advisory_lock(bigint), \
         pg_catalog.pg_try_advisory_lock(integer, integer), \
         pg_catalog.pg_try_advisory_lock_shared(bigint), \
         pg_catalog.pg_try_advisory_lock_shared(integer, integer)",
    ),
    // They belong to no schema, would outlive the tenant and keep its role from being dropped.
    (
        "a tenant could make large objects, which lie outside of its schema",
        "pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), \
         pg_catalog.lo_from_bytea(oid, bytea)",
    ),
    // All tenants come in by one login, and a login may end its own sessions.
    (
        "under isolation = search_path, a tenant could end the queries of the others",
        "pg_catalog.pg_cancel_backend(integer), \
         pg_catalog.pg_terminate_backend(integer, bigint)",
    ),
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
    /// The runtime URL leads to another login than the one that the tenants' roles are granted to.
    #[error(
        "ROWHOUSE_DATABASE__RUNTIME_URL logs in as {found}, and must log in as {RUNTIME_LOGIN}: it is the \
         login that can become each tenant and nobody else"
    )]
    OtherRuntimeLogin {
        /// Who we are with that URL.
        found: String,
    },
    /// The runtime login may do what would make the walls between tenants worthless.
    #[error("the login {RUNTIME_LOGIN} is {found}; let a superuser run: {statement}")]
    RuntimeLoginTooStrong {
        /// The words of `CREATE ROLE` that it should not have.
        found: String,
        /// What mends it.
        statement: String,
    },
    /// The self-test got where no tenant may get.
    #[error("the walls do not hold: {who} could run {statement}; nothing is served like this")]
    Crossed {
        /// As whom.
        who: String,
        /// What should have been refused.
        statement: String,
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
    check_version(facts.version, &facts.version_text)?;
    if isolation == Isolation::Role && !facts.may_create_roles {
        return Err(BootstrapError::MayNotCreateRoles { owner: facts.owner });
    }
    runtime_login(&client, &facts, runtime).await?;
    extensions(&client).await?;
    let mut open = revoke(&client, &facts).await?;
    open.extend(other_roles(&client).await?);
    if isolation == Isolation::SearchPath {
        open.push(
            "isolation = search_path: a query that names another tenant's schema is not refused"
                .to_owned(),
        );
    }
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

fn check_version(version: u32, text: &str) -> Result<(), BootstrapError> {
    if version < OLDEST_SERVER {
        return Err(BootstrapError::TooOld { found: text.to_owned() });
    }
    Ok(())
}

/// Migrates the control plane; the second half.
///
/// # Errors
/// The file that failed, or that the database is newer than this program.
pub async fn migrate(db: &Db, set: &MigrationSet) -> Result<Vec<String>, BootstrapError> {
    let tx = db.public().await.map_err(MigrationError::from)?;
    // Another process may be at it, and a migration may take long; a table's lock it may not wait for.
    tx.batch("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").await?;
    schemas::lock(&tx, "rowhouse control plane").await.map_err(MigrationError::from)?;
    let limit = db.rules().limits.lock.as_millis();
    tx.batch(&format!("SET LOCAL lock_timeout = {limit}")).await?;
    let applied = set.apply(&tx).await?;
    tx.commit().await.map_err(MigrationError::from)?;
    Ok(applied)
}

/// Tries what nobody may: as the runtime login to read the control plane and a tenant, and from inside of
/// one tenant to read another. A handful of short queries; where there are no tenants yet, one. Tells
/// what was found besides.
///
/// # Errors
/// [`BootstrapError::Crossed`] where something was not refused.
pub async fn self_test(db: &Db) -> Result<Vec<String>, BootstrapError> {
    let tenants = two_tenants(db).await?;
    let bare = db.bare_for_self_test().await?;
    let statement = "SELECT FROM public.users LIMIT 1";
    let outcome = bare.query_typed(statement, &[]).await;
    must_be_refused(RUNTIME_LOGIN, statement, outcome.map_err(Failure::from))?;
    if db.rules().isolation == Isolation::SearchPath {
        return Ok(Vec::new()); // the shared login reads every tenant: that is what it is for
    }
    let [(_, table), rest @ ..] = tenants.as_slice() else { return Ok(Vec::new()) };
    let statement = format!("SELECT FROM {table} LIMIT 1");
    let outcome = bare.query_typed(&statement, &[]).await;
    must_be_refused(RUNTIME_LOGIN, &statement, outcome.map_err(Failure::from))?;
    drop(bare);
    let [(other, _)] = rest else { return Ok(Vec::new()) };
    let outcome = db.tenant(*other).await?.query(&statement, &[]).await;
    if outcome.as_ref().is_err_and(|f| f.sqlstate() == Some(&SqlState::INVALID_PARAMETER_VALUE)) {
        return Ok(vec![format!(
            "the tenant {other} has no role and cannot be entered; was it made under isolation = search_path?"
        )]);
    }
    must_be_refused(SchemaName::of(*other).as_str(), &statement, outcome)?;
    Ok(Vec::new())
}

/// The oldest two tenants that have a schema, each with a table in it.
async fn two_tenants(db: &Db) -> Result<Vec<(TenantId, String)>, BootstrapError> {
    let tx = db.public().await?;
    let rows = tx
        .query_and_commit(
            "SELECT t.id, format('%I.%I', n.nspname, c.relname)
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
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn must_be_refused<T>(
    who: &str,
    statement: &str,
    outcome: Result<T, Failure>,
) -> Result<(), BootstrapError> {
    match outcome {
        Err(f) if f.sqlstate() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(()),
        Err(Failure::Postgres(error)) => {
            Err(step("try whether the walls between tenants hold")(error))
        }
        Err(other) => Err(other.into()),
        Ok(_) => {
            Err(BootstrapError::Crossed { who: who.to_owned(), statement: statement.to_owned() })
        }
    }
}

/// Sees to it that every session of the runtime login has the time limits by itself, and tells whether it
/// has. Three settings fewer in each transaction save an eighth of the CPU time of a guarded read.
///
/// They are defaults of the login in this database, kept by the server and there from a session's first
/// moment: no state that a client leaves, and so right behind a pooler, which logs in like anybody. They are
/// written once. Where somebody has chosen others (an operator, a process with other settings) those stay,
/// the answer is no, and each transaction sets its own; `ALTER ROLE rowhouse_runtime IN DATABASE .. RESET ALL`
/// lets the next start choose anew.
///
/// # Errors
/// Where the login does not work.
pub async fn standing_limits(
    runtime: &Endpoint,
    limits: TimeLimits,
) -> Result<bool, BootstrapError> {
    let no_entry = |error| BootstrapError::RuntimeLogin { reason: words(&error) };
    let wanted = [
        ("idle_in_transaction_session_timeout", limits.idle_in_transaction),
        ("lock_timeout", limits.lock),
        ("statement_timeout", limits.statement),
    ]
    .map(|(name, limit)| (name.to_owned(), limit.as_millis().to_string()));
    let client = connect(runtime).await.map_err(no_entry)?;
    let (found, chosen) = default_limits(&client).await?;
    if chosen || found == wanted {
        return Ok(found == wanted);
    }
    let row = client.query_one("SELECT quote_ident(current_database())", &[]).await;
    let database: String = row.map_err(step("read the name of the database"))?.get(0);
    let statements = wanted.each_ref().map(|(name, limit)| {
        format!("ALTER ROLE {RUNTIME_LOGIN} IN DATABASE {database} SET {name} = {limit}")
    });
    // Its own defaults any login may set. Where one may not all the same, transactions set the limits.
    if let Err(error) = alter(&client, &statements.join("; ")).await {
        tracing::debug!(error = %words(&error), "the runtime login keeps the time limits that it had");
        return Ok(false);
    }
    let (found, _) = default_limits(&connect(runtime).await.map_err(no_entry)?).await?;
    Ok(found == wanted)
}

/// The time limits of a fresh session in milliseconds, by name, and whether they were chosen for this login
/// in this database.
async fn default_limits(client: &Client) -> Result<(Vec<(String, String)>, bool), BootstrapError> {
    let rows = client
        .query(
            "SELECT name, setting, source = 'database user'
               FROM pg_catalog.pg_settings
              WHERE name IN ('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout')
              ORDER BY name",
            &[],
        )
        .await
        .map_err(step("read the time limits of the runtime login"))?;
    let chosen = rows.iter().any(|row| row.get(2));
    Ok((rows.iter().map(|row| (row.get(0), row.get(1))).collect(), chosen))
}

/// What the server says of itself and of us.
struct Facts {
    version: u32,
    version_text: String,
    owner: String,
    may_create_roles: bool,
    database: String,
    runtime_exists: bool,
}

impl Facts {
    async fn read(client: &Client) -> Result<Self, BootstrapError> {
        let row = client
            .query_one(
                "SELECT current_setting('server_version_num')::int4,
                        current_setting('server_version'),
                        quote_ident(current_user),
                        rolsuper OR rolcreaterole,
                        quote_ident(current_database()),
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
            may_create_roles: row.get(3),
            database: row.get(4),
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
    // CONNECT is everybody's by default, and the first thing that a careful operator revokes.
    let may_connect = client
        .query_one(
            "SELECT has_database_privilege($1, current_database(), 'CONNECT')",
            &[&RUNTIME_LOGIN],
        )
        .await
        .map_err(step("read who may connect"))?;
    if !may_connect.get::<_, bool>(0) {
        let grant = format!("GRANT CONNECT ON DATABASE {} TO {RUNTIME_LOGIN}", facts.database);
        alter(client, &grant).await.map_err(step("let the runtime login connect"))?;
    }
    let refused = match connect(runtime).await {
        Ok(as_runtime) => return check_runtime_login(client, facts, &as_runtime).await,
        Err(refused) => refused,
    };
    let no_entry =
        |error: &tokio_postgres::Error| BootstrapError::RuntimeLogin { reason: words(error) };
    let is_ours = runtime.config.get_user() == Some(RUNTIME_LOGIN);
    let wrong_password = refused.code() == Some(&SqlState::INVALID_PASSWORD);
    if !(is_ours && wrong_password && facts.may_create_roles) {
        return Err(no_entry(&refused));
    }
    // The owner's password was changed, and ours with it.
    match alter(client, &format!("ALTER ROLE {RUNTIME_LOGIN} {password}")).await {
        Ok(()) => {}
        // Made by somebody else, who alone may change it (from PostgreSQL 16 on).
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            return Err(no_entry(&refused));
        }
        Err(error) => return Err(step("set the password of the runtime login")(error)),
    }
    let as_runtime = connect(runtime).await.map_err(|error| no_entry(&error))?;
    check_runtime_login(client, facts, &as_runtime).await
}

/// Sees that the runtime login is the one that we mean, and as weak as we made it: somebody may have made
/// it by hand.
async fn check_runtime_login(
    client: &Client,
    facts: &Facts,
    as_runtime: &Client,
) -> Result<(), BootstrapError> {
    // Unnamed: a pooler may stand before the runtime login.
    let rows = as_runtime
        .query_typed(
            "SELECT rolname::text, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication,
                    rolbypassrls
               FROM pg_catalog.pg_roles
              WHERE rolname = session_user",
            &[],
        )
        .await
        .map_err(step("read what the runtime login may do"))?;
    let Some(row) = rows.first() else {
        return Err(BootstrapError::OtherRuntimeLogin { found: "a role that is gone".to_owned() });
    };
    let name: String = row.get(0);
    if name != RUNTIME_LOGIN {
        return Err(BootstrapError::OtherRuntimeLogin { found: name });
    }
    // From PostgreSQL 16 on it is each grant that says whether it is inherited, and ours say no.
    let inherit_matters = facts.version < 160_000;
    let found: Vec<&str> =
        ["SUPERUSER", "INHERIT", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS"]
            .into_iter()
            .enumerate()
            .filter(|(at, word)| {
                row.get::<_, bool>(at + 1) && (*word != "INHERIT" || inherit_matters)
            })
            .map(|(_, word)| word)
            .collect();
    if found.is_empty() {
        return Ok(());
    }
    let statement = format!("ALTER ROLE {RUNTIME_LOGIN} NO{}", found.join(" NO"));
    match alter(client, &statement).await {
        Ok(()) => Ok(()),
        Err(_refused) => {
            Err(BootstrapError::RuntimeLoginTooStrong { found: found.join(", "), statement })
        }
    }
}

/// Something that everybody may do by default and no tenant shall.
struct Restriction {
    /// What a tenant could do, for people.
    open: String,
    /// An expression: whether it can still be done.
    check: String,
    /// What takes it away.
    statement: String,
}

/// Takes from everybody what no tenant may have, and tells what could not be taken.
async fn revoke(client: &Client, facts: &Facts) -> Result<Vec<String>, BootstrapError> {
    let restrictions = restrictions(facts);
    let before = still_open(client, &restrictions).await?;
    if before.is_empty() {
        return Ok(Vec::new());
    }
    for restriction in &before {
        match alter(client, &restriction.statement).await {
            Ok(()) => {}
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {}
            Err(error) => return Err(step("restrict what everybody may do")(error)),
        }
    }
    // Looked at again, because a REVOKE by somebody who may not is a warning and no error.
    let after = still_open(client, &before).await?;
    Ok(after
        .iter()
        .map(|r| {
            format!(
                "{}; {} may not prevent it, a superuser may: {}",
                r.open, facts.owner, r.statement
            )
        })
        .collect())
}

fn restrictions(facts: &Facts) -> Vec<Restriction> {
    let Facts { owner, database, .. } = facts;
    let mut all: Vec<Restriction> = [
        (
            "a tenant could make temporary tables",
            "has_database_privilege('public', current_database(), 'TEMP')",
            format!("REVOKE TEMP ON DATABASE {database} FROM PUBLIC"),
        ),
        (
            "a tenant could look into the schema public",
            "has_schema_privilege('public', 'public', 'USAGE') \
             OR has_schema_privilege('public', 'public', 'CREATE')",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC".to_owned(),
        ),
        (
            "a tenant could put its own objects into every tenant's path",
            "has_schema_privilege('public', 'extensions', 'CREATE')",
            "REVOKE CREATE ON SCHEMA extensions FROM PUBLIC".to_owned(),
        ),
        (
            "a DO block that got past the door could become another tenant",
            "EXISTS (SELECT FROM pg_catalog.pg_language \
                      WHERE lanname = 'plpgsql' AND has_language_privilege('public', oid, 'USAGE'))",
            format!(
                "REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC; \
                 GRANT USAGE ON LANGUAGE plpgsql TO {owner}"
            ),
        ),
    ]
    .into_iter()
    .map(|(open, check, statement)| Restriction {
        open: open.to_owned(),
        check: check.to_owned(),
        statement,
    })
    .collect();
    for (open, functions) in REVOKED_FUNCTIONS {
        let checks: Vec<String> = functions
            .split("), ")
            .map(|f| {
                format!(
                    "has_function_privilege('public', '{})', 'EXECUTE')",
                    f.trim_end_matches(')')
                )
            })
            .collect();
        all.push(Restriction {
            open: open.to_owned(),
            check: checks.join(" OR "),
            statement: format!(
                "REVOKE EXECUTE ON FUNCTION {functions} FROM PUBLIC; \
                 GRANT EXECUTE ON FUNCTION {functions} TO {owner}"
            ),
        });
    }
    all
}

/// Those that are not in place, found out in one query.
async fn still_open<'a, R: std::borrow::Borrow<Restriction>>(
    client: &Client,
    restrictions: &'a [R],
) -> Result<Vec<&'a Restriction>, BootstrapError> {
    let checks: Vec<&str> = restrictions.iter().map(|r| r.borrow().check.as_str()).collect();
    let row = client
        .query_one(&format!("SELECT {}", checks.join(", ")), &[])
        .await
        .map_err(step("read what everybody may do"))?;
    Ok(restrictions
        .iter()
        .map(std::borrow::Borrow::borrow)
        .enumerate()
        .filter(|(at, _)| row.get::<_, bool>(*at))
        .map(|(_, restriction)| restriction)
        .collect())
}

/// The roles that are no tenant's and that the runtime login could become all the same.
async fn other_roles(client: &Client) -> Result<Vec<String>, BootstrapError> {
    let rows = client
        .query(
            "SELECT quote_ident(granted.rolname)
               FROM pg_catalog.pg_auth_members m
               JOIN pg_catalog.pg_roles member ON member.oid = m.member
               JOIN pg_catalog.pg_roles granted ON granted.oid = m.roleid
              WHERE member.rolname = $1 AND granted.rolname !~ '^tenant_[0-9a-f]{32}$'",
            &[&RUNTIME_LOGIN],
        )
        .await
        .map_err(step("read what the runtime login can become"))?;
    Ok(rows
        .iter()
        .map(|row| {
            let role: String = row.get(0);
            format!(
                "the login {RUNTIME_LOGIN} can become {role}, which is no tenant; somebody granted it, and \
                 should run: REVOKE {role} FROM {RUNTIME_LOGIN}"
            )
        })
        .collect())
}

/// Runs a statement that changes a role or a privilege, again where somebody else was making the same
/// change: the server then says "tuple concurrently updated".
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

/// The schema that extensions are installed into, seen from every tenant and writable from none.
async fn extensions(client: &Client) -> Result<(), BootstrapError> {
    let there = client
        .query_one("SELECT to_regnamespace('extensions') IS NOT NULL", &[])
        .await
        .map_err(step("look for the schema extensions"))?;
    if there.get::<_, bool>(0) {
        return Ok(());
    }
    // One message is one transaction; a BEGIN of ours would leave a failed one open where the race is lost.
    match client
        .batch_execute("CREATE SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO PUBLIC")
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
