//! Makes the runtime login, sees that it is as weak as we made it, and gives it its time limits.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::pg::bootstrap::error::{BootstrapError, step};
use crate::pg::bootstrap::{Facts, alter, connect, lost_race};
use crate::pg::error::server_message;
use crate::pg::rules::{Endpoint, RUNTIME_LOGIN, TimeLimits};

/// Makes the runtime login where there is none, and sees that one can log in as it.
pub(super) async fn runtime_login(
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
        .query_typed_one(
            "SELECT has_database_privilege($1, current_database(), 'CONNECT') AS may_connect",
            &[(&RUNTIME_LOGIN, Type::TEXT)],
        )
        .await
        .map_err(step("read who may connect"))?;
    if !may_connect.get::<_, bool>("may_connect") {
        let grant = format!("GRANT CONNECT ON DATABASE {} TO {RUNTIME_LOGIN}", facts.database);
        alter(client, &grant).await.map_err(step("let the runtime login connect"))?;
    }
    let refused = match connect(runtime).await {
        Ok(as_runtime) => return check_runtime_login(client, facts, &as_runtime).await,
        Err(refused) => refused,
    };
    let no_entry = |error: &tokio_postgres::Error| BootstrapError::RuntimeLogin {
        reason: server_message(error),
    };
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
    // Once after a change it is as it should be; a server that others own as well says it at each start.
    tracing::warn!(
        "{RUNTIME_LOGIN} had another password, and has ours now: the password of the owner was changed, or \
         another owner works on this PostgreSQL server, whose processes now cannot log in as {RUNTIME_LOGIN}; then \
         give all of them one ROWHOUSE_DATABASE__RUNTIME_URL"
    );
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
    let rows = as_runtime
        .query_typed(
            "SELECT rolname::text AS name, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication,
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
    let name: String = row.get("name");
    if name != RUNTIME_LOGIN {
        return Err(BootstrapError::OtherRuntimeLogin { found: name });
    }
    // From PostgreSQL 16 on it is each grant that says whether it is inherited, and ours say no.
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
    let no_entry = |error| BootstrapError::RuntimeLogin { reason: server_message(&error) };
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
    let row = client.query_typed_one("SELECT quote_ident(current_database()) AS name", &[]).await;
    let database: String = row.map_err(step("read the name of the database"))?.get("name");
    let statements = wanted.each_ref().map(|(name, limit)| {
        format!("ALTER ROLE {RUNTIME_LOGIN} IN DATABASE {database} SET {name} = {limit}")
    });
    // Its own defaults any login may set. Where one may not all the same, transactions set the limits.
    if let Err(error) = alter(&client, &statements.join("; ")).await {
        tracing::debug!(error = %server_message(&error), "the runtime login keeps the time limits that it had");
        return Ok(false);
    }
    let (found, _) = default_limits(&connect(runtime).await.map_err(no_entry)?).await?;
    Ok(found == wanted)
}

/// The time limits of a fresh session in milliseconds, by name, and whether they were chosen for this login
/// in this database.
async fn default_limits(client: &Client) -> Result<(Vec<(String, String)>, bool), BootstrapError> {
    let rows = client
        .query_typed(
            "SELECT name, setting, source = 'database user' AS is_chosen
               FROM pg_catalog.pg_settings
              WHERE name IN ('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout')
              ORDER BY name",
            &[],
        )
        .await
        .map_err(step("read the time limits of the runtime login"))?;
    let chosen = rows.iter().any(|row| row.get("is_chosen"));
    Ok((rows.iter().map(|row| (row.get("name"), row.get("setting"))).collect(), chosen))
}

/// The runtime login's password where none is set: derived from the owner's, so that every process on
/// every database of the server comes to the same one and nobody has to keep it.
#[must_use]
pub fn runtime_password(owners: &[u8]) -> String {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, owners);
    hex::encode(aws_lc_rs::hmac::sign(&key, RUNTIME_LOGIN.as_bytes()))
}
