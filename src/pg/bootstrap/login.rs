//! Creates the runtime login, checks that it has no attributes beyond ours, and sets its time limits.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::pg::bootstrap::error::{BootstrapError, step};
use crate::pg::bootstrap::facts::Facts;
use crate::pg::bootstrap::{already_exists, alter};
use crate::pg::connect::login::Login;
use crate::pg::connect::open::{ConnectError, connect};
use crate::pg::error::server_message;
use crate::pg::rules::{RUNTIME_LOGIN, TimeLimits};

/// Creates the runtime login if it does not exist, and checks that logging in as it works.
pub(super) async fn runtime_login(
    client: &Client,
    facts: &Facts,
    runtime: &mut Login,
) -> Result<(), BootstrapError> {
    let config = &runtime.endpoint().config;
    let is_ours = config.get_user() == Some(RUNTIME_LOGIN);
    // The SCRAM verifier is computed here, so that the password is never sent and never in a server's log.
    let password = config.get_password().map(postgres_protocol::password::scram_sha_256);
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
            Err(error) if already_exists(&error) => {}
            Err(error) => return Err(step("create the runtime login")(error)),
        }
    }
    // PUBLIC has CONNECT by default, and careful operators revoke it first.
    let may_connect = client
        .query_typed_one(
            "SELECT has_database_privilege($1, current_database(), 'CONNECT') AS may_connect",
            &[(&RUNTIME_LOGIN, Type::TEXT)],
        )
        .await
        .map_err(step("read the privilege CONNECT"))?;
    if !may_connect.get::<_, bool>("may_connect") {
        let grant = format!("GRANT CONNECT ON DATABASE {} TO {RUNTIME_LOGIN}", facts.database);
        alter(client, &grant).await.map_err(step("grant CONNECT to the runtime login"))?;
    }
    let refused = match runtime.client().await {
        Ok(as_runtime) => return check_runtime_login(client, facts, as_runtime).await,
        Err(refused) => refused,
    };
    let login_failed =
        |error: &ConnectError| BootstrapError::RuntimeLogin { reason: error.to_string() };
    let wrong_password = refused.code() == Some(&SqlState::INVALID_PASSWORD);
    if !(is_ours && wrong_password && facts.may_create_roles) {
        return Err(login_failed(&refused));
    }
    // The owner's password was changed, and with it the one that is derived from it.
    match alter(client, &format!("ALTER ROLE {RUNTIME_LOGIN} {password}")).await {
        Ok(()) => {}
        // Another login created the role, and only that one may alter it (from PostgreSQL 16 on).
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            return Err(login_failed(&refused));
        }
        Err(error) => return Err(step("set the password of the runtime login")(error)),
    }
    // Expected once after the owner's password was changed. Logged at each start, it means that two owners compete.
    tracing::warn!(
        "the password of {RUNTIME_LOGIN} was another and is now ours: the password of the owner was changed, or \
         another owner uses this PostgreSQL server, and its processes can no longer log in as {RUNTIME_LOGIN}; in that \
         case give all of them the same ROWHOUSE_DATABASE__RUNTIME_URL"
    );
    let as_runtime = runtime.client().await.map_err(|error| login_failed(&error))?;
    check_runtime_login(client, facts, as_runtime).await
}

/// Checks that the runtime login is ours and has no more attributes than we give it: an operator may have created
/// it by hand.
async fn check_runtime_login(
    client: &Client,
    facts: &Facts,
    as_runtime: &Client,
) -> Result<(), BootstrapError> {
    let rows = as_runtime
        .query_typed(
            "SELECT rolname::text AS name, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication,
                    rolbypassrls
               FROM pg_catalog.pg_roles
              WHERE rolname = session_user",
            &[],
        )
        .await
        .map_err(step("read the attributes of the runtime login"))?;
    let Some(row) = rows.first() else {
        return Err(BootstrapError::OtherRuntimeLogin {
            found: "a role that does not exist".to_owned(),
        });
    };
    let name: String = row.get("name");
    if name != RUNTIME_LOGIN {
        return Err(BootstrapError::OtherRuntimeLogin { found: name });
    }
    // From PostgreSQL 16 on each grant says whether it is inherited, and ours say no.
    let inherit_matters = facts.version < 160_000;
    let found: Vec<&str> = [
        ("rolsuper", "SUPERUSER"),
        ("rolinherit", "INHERIT"),
        ("rolcreaterole", "CREATEROLE"),
        ("rolcreatedb", "CREATEDB"),
        ("rolreplication", "REPLICATION"),
        ("rolbypassrls", "BYPASSRLS"),
    ]
    .into_iter()
    .filter(|(column, word)| row.get::<_, bool>(*column) && (*word != "INHERIT" || inherit_matters))
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

/// Makes the time limits the defaults of every session of the runtime login, if they are not yet set, and returns
/// whether the sessions have exactly these limits. Three settings fewer in each transaction save an eighth of the
/// CPU time of a guarded read.
///
/// They are defaults of the login in this database (`ALTER ROLE .. IN DATABASE .. SET`). The server applies them
/// when a session starts, so they are not session state that a client could leave behind, and a pooler's sessions that
/// are older have none: behind one, each transaction sets them. They are written once. If an operator or a process
/// with other settings has chosen other limits, those stay, the result is false, and each transaction sets its own;
/// `ALTER ROLE rowhouse_runtime IN DATABASE .. RESET ALL` lets the next start choose again.
///
/// # Errors
/// [`BootstrapError`] if logging in fails.
pub async fn ensure_login_limits(
    runtime: &mut Login,
    limits: TimeLimits,
) -> Result<bool, BootstrapError> {
    let login_failed =
        |error: ConnectError| BootstrapError::RuntimeLogin { reason: error.to_string() };
    let wanted = [
        ("idle_in_transaction_session_timeout", limits.idle_in_transaction),
        ("lock_timeout", limits.lock),
        ("statement_timeout", limits.statement),
    ]
    .map(|(name, limit)| (name.to_owned(), limit.as_millis().to_string()));
    let client = runtime.client().await.map_err(login_failed)?;
    let found = DefaultLimits::read(client).await?;
    if found.are_of_login || found.limits == wanted {
        return Ok(found.limits == wanted);
    }
    let row = client.query_typed_one("SELECT quote_ident(current_database()) AS name", &[]).await;
    let database: String = row.map_err(step("read the name of the database"))?.get("name");
    let statements = wanted.each_ref().map(|(name, limit)| {
        format!("ALTER ROLE {RUNTIME_LOGIN} IN DATABASE {database} SET {name} = {limit}")
    });
    // Any login may set its own defaults. If this one may not, each transaction sets the limits.
    if let Err(error) = alter(client, &statements.join("; ")).await {
        tracing::debug!(error = %server_message(&error), "failed to set the time limits of the runtime login; each transaction sets them");
        return Ok(false);
    }
    let fresh = connect(runtime.endpoint()).await.map_err(login_failed)?;
    Ok(DefaultLimits::read(&fresh).await?.limits == wanted)
}

/// The time limits of a fresh session.
struct DefaultLimits {
    /// Name and milliseconds of each, sorted by name.
    limits: Vec<(String, String)>,
    /// Whether one of them was set for this login in this database.
    are_of_login: bool,
}

impl DefaultLimits {
    async fn read(client: &Client) -> Result<Self, BootstrapError> {
        let rows = client
            .query_typed(
                "SELECT name, setting, source = 'database user' AS is_of_login
                   FROM pg_catalog.pg_settings
                  WHERE name IN ('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout')
                  ORDER BY name",
                &[],
            )
            .await
            .map_err(step("read the time limits of the runtime login"))?;
        Ok(Self {
            limits: rows.iter().map(|row| (row.get("name"), row.get("setting"))).collect(),
            are_of_login: rows.iter().any(|row| row.get("is_of_login")),
        })
    }
}

/// Derives the password of the runtime login from the owner's, for when none is set: every process on every
/// database of the server derives the same one, and none has to store it.
#[must_use]
pub fn runtime_password(owners: &[u8]) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, owners);
    hex::encode(aws_lc_rs::hmac::sign(&key, RUNTIME_LOGIN.as_bytes()))
}
