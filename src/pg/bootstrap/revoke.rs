//! Takes from everybody what no tenant may have, and tells what could not be taken.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::error::{BootstrapError, step};
use crate::pg::bootstrap::{Facts, alter};
use crate::pg::rules::RUNTIME_LOGIN;

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

/// Something that everybody may do by default and no tenant shall.
pub(super) struct Restriction {
    /// What a tenant could do, for people.
    pub(super) open: String,
    /// An expression: whether it can still be done.
    pub(super) check: String,
    /// What takes it away.
    pub(super) statement: String,
}

/// Takes from everybody what no tenant may have, and tells what could not be taken.
pub(super) async fn revoke(client: &Client, facts: &Facts) -> Result<Vec<String>, BootstrapError> {
    let restrictions = restrictions(&facts.owner, &facts.database);
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

/// All of them, for an owner and a database whose names are quoted as SQL needs them.
pub(super) fn restrictions(owner: &str, database: &str) -> Vec<Restriction> {
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
    let row = client
        .query_typed_one(&which_are_open(restrictions), &[])
        .await
        .map_err(step("read what everybody may do"))?;
    Ok(restrictions
        .iter()
        .map(std::borrow::Borrow::borrow)
        .zip(row.get::<_, Vec<bool>>("are_open"))
        .filter(|(_, is_open)| *is_open)
        .map(|(restriction, _)| restriction)
        .collect())
}

/// A query that gives one truth a restriction, in `are_open`: whether what it forbids can still be done.
pub(super) fn which_are_open<R: std::borrow::Borrow<Restriction>>(restrictions: &[R]) -> String {
    let checks: Vec<&str> = restrictions.iter().map(|r| r.borrow().check.as_str()).collect();
    format!("SELECT ARRAY[{}]::bool[] AS are_open", checks.join(", "))
}

/// Gives the roles, quoted, that are no tenant's and that `$1`, the runtime login, could become all the same.
pub(super) const OTHER_ROLES: &str = "
    SELECT quote_ident(granted.rolname) AS role
      FROM pg_catalog.pg_auth_members m
      JOIN pg_catalog.pg_roles member ON member.oid = m.member
      JOIN pg_catalog.pg_roles granted ON granted.oid = m.roleid
     WHERE member.rolname = $1 AND granted.rolname !~ '^tenant_[0-9a-f]{32}$'";

/// The roles that are no tenant's and that the runtime login could become all the same.
pub(super) async fn other_roles(client: &Client) -> Result<Vec<String>, BootstrapError> {
    let rows = client
        .query_typed(OTHER_ROLES, &[(&RUNTIME_LOGIN, Type::TEXT)])
        .await
        .map_err(step("read what the runtime login can become"))?;
    Ok(rows
        .iter()
        .map(|row| {
            let role: String = row.get("role");
            format!(
                "the login {RUNTIME_LOGIN} can become {role}, which is no tenant; somebody granted it, and \
                 should run: REVOKE {role} FROM {RUNTIME_LOGIN}"
            )
        })
        .collect())
}
