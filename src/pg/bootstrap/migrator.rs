//! Creates the role that migrations run as, lets the owner become it, and gives it the few rights that it has outside of
//! the schemas of tenants.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::pg::bootstrap::error::{BootstrapError, step};
use crate::pg::bootstrap::facts::Facts;
use crate::pg::bootstrap::{already_exists, alter};
use crate::pg::rules::MIGRATOR;

/// What the migrator needs outside of the schemas of tenants, the statement that grants it, and what fails without it.
const NEEDED: [(&str, &str, &str); 3] = [
    (
        "has_language_privilege($1, 'plpgsql', 'USAGE')",
        "GRANT USAGE ON LANGUAGE plpgsql TO {migrator}",
        "DO blocks and functions in plpgsql",
    ),
    (
        "has_database_privilege($1, current_database(), 'TEMP')",
        "GRANT TEMP ON DATABASE {database} TO {migrator}",
        "temporary tables",
    ),
    (
        "has_function_privilege($1, 'pg_catalog.set_config(text, text, boolean)', 'EXECUTE')",
        "GRANT EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) TO {migrator}",
        "set_config",
    ),
];

/// Creates the role if it does not exist, and makes sure that the owner can become it and has its privileges.
pub(super) async fn create(client: &Client, facts: &Facts) -> Result<(), BootstrapError> {
    let failed = || BootstrapError::NoMigrator { owner: facts.owner.clone() };
    let exists = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1) AS yes";
    if !is_true(client, exists).await? {
        if !facts.may_create_roles {
            return Err(failed());
        }
        match client.batch_execute(&format!("CREATE ROLE {MIGRATOR} NOLOGIN NOINHERIT")).await {
            Ok(()) => {}
            Err(error) if already_exists(&error) => {}
            Err(error) => return Err(step("create the role that migrations run as")(error)),
        }
    }
    // From PostgreSQL 16 on, who creates a role can grant it, and has neither SET nor INHERIT. A superuser needs no
    // grant.
    let (is_member, how) = if facts.version >= 160_000 {
        (
            "SELECT pg_has_role($1, 'SET') AND pg_has_role($1, 'USAGE') AS yes",
            " WITH INHERIT TRUE, SET TRUE",
        )
    } else {
        ("SELECT pg_has_role($1, 'MEMBER') AS yes", "")
    };
    if is_true(client, is_member).await? {
        return Ok(());
    }
    let grant = format!("GRANT {MIGRATOR} TO {}{how}", facts.owner);
    match alter(client, &grant).await {
        Ok(()) => Ok(()),
        Err(_refused) => Err(failed()),
    }
}

/// Grants the migrator what it needs, and returns a sentence for each right that could not be granted.
pub(super) async fn grant(client: &Client, facts: &Facts) -> Result<Vec<String>, BootstrapError> {
    let mut missing = Vec::new();
    for (check, statement, what) in NEEDED {
        let check = format!("SELECT {check} AS yes");
        if is_true(client, &check).await? {
            continue;
        }
        let statement =
            statement.replace("{database}", &facts.database).replace("{migrator}", MIGRATOR);
        // Without the right to grant it, this is an error or a warning of the server.
        let _refused = alter(client, &statement).await;
        if !is_true(client, &check).await? {
            missing.push(format!(
                "migrations of tenants cannot use {what}; let a superuser run: {statement}"
            ));
        }
    }
    Ok(missing)
}

async fn is_true(client: &Client, query: &str) -> Result<bool, BootstrapError> {
    let row = client.query_typed_one(query, &[(&MIGRATOR, Type::TEXT)]).await;
    Ok(row.map_err(step("read the rights of the role that migrations run as"))?.get("yes"))
}
