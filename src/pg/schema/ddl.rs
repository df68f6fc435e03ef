//! The DDL that creates a tenant's schema and role.

use crate::domain::names::SchemaName;
use crate::migrations::HISTORY_TABLE;
use crate::pg::error::Failure;
use crate::pg::rules::{Isolation, RUNTIME_LOGIN, Rules};
use crate::pg::scope::PublicTx;

/// Creates the schema, and under [`Isolation::Role`] the role of the same name, which has privileges on the objects
/// that the migrations will create in it and on nothing else.
///
/// # Errors
/// [`Failure`]; the transaction is then aborted.
pub async fn create(
    tx: &PublicTx,
    schema: &SchemaName,
    rules: &Rules,
    server_version: u32,
) -> Result<(), Failure> {
    let role = role_ddl(schema, rules, server_version);
    let here = rules.keep_ddl_here().map_or_else(String::new, |here| format!("{here}; "));
    tx.batch(&format!("{here}{role}{}", schema_ddl(schema, rules))).await
}

/// As [`create`], for a schema whose role may exist: another database of the server may have the same tenant.
///
/// # Errors
/// [`Failure`]; the transaction is then aborted.
pub async fn create_with_any_role(
    tx: &PublicTx,
    schema: &SchemaName,
    rules: &Rules,
    server_version: u32,
) -> Result<(), Failure> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1) AS is_there,
                      EXISTS (SELECT FROM pg_catalog.pg_auth_members m
                                JOIN pg_catalog.pg_roles r ON r.oid = m.roleid AND r.rolname = $1
                                JOIN pg_catalog.pg_roles l ON l.oid = m.member AND l.rolname = $2) AS is_granted";
    let role = tx.query_one(sql, &[&schema.as_str(), &RUNTIME_LOGIN]).await?;
    if rules.isolation == Isolation::SearchPath || !role.get::<_, bool>("is_there") {
        return create(tx, schema, rules, server_version).await;
    }
    if !role.get::<_, bool>("is_granted") {
        tx.batch(&grant_to_runtime_login(schema, rules, server_version)).await?;
    }
    create_without_role(tx, schema, rules).await
}

/// Creates the roles of several schemas that [`create_without_role`] creates later. Each transaction that
/// creates a role invalidates the role membership cache of every backend, so roles are created together.
///
/// # Errors
/// [`Failure`]; the transaction is then aborted.
pub async fn create_roles(
    tx: &PublicTx,
    schemas: &[SchemaName],
    rules: &Rules,
    server_version: u32,
) -> Result<(), Failure> {
    let ddl = schemas.iter().map(|schema| role_ddl(schema, rules, server_version));
    tx.batch(&ddl.collect::<String>()).await
}

/// As [`create`], for a schema whose role already exists.
///
/// # Errors
/// [`Failure`]; the transaction is then aborted.
pub async fn create_without_role(
    tx: &PublicTx,
    schema: &SchemaName,
    rules: &Rules,
) -> Result<(), Failure> {
    tx.batch(&schema_ddl(schema, rules)).await
}

/// Builds the statements that create a tenant's role; none if it has none.
pub(super) fn role_ddl(schema: &SchemaName, rules: &Rules, server_version: u32) -> String {
    match rules.isolation {
        Isolation::Role => create_role(schema, rules, server_version).join("; ") + ";",
        Isolation::SearchPath => String::new(),
    }
}

/// Builds the statements that create a tenant's role and grant it to the runtime login. On Citus it may log in, without a
/// password: the coordinator connects to the nodes as the current role.
pub(super) fn create_role(schema: &SchemaName, rules: &Rules, server_version: u32) -> [String; 2] {
    let login = if rules.engine.is_citus() { "LOGIN" } else { "NOLOGIN" };
    let create = format!("CREATE ROLE {schema} {login} NOINHERIT");
    [create, grant_to_runtime_login(schema, rules, server_version)]
}

fn schema_ddl(schema: &SchemaName, rules: &Rules) -> String {
    let runtime_role = runtime_role(schema, rules.isolation);
    // Only what the schema of a tenant holds is placed on a node: the tables that tenants share stay on the coordinator.
    let is_placed =
        rules.engine.is_citus() && !rules.ddl_is_local && *schema != SchemaName::shared();
    let (before, behind) = if is_placed {
        (
            "SET LOCAL citus.enable_schema_based_sharding = on; ",
            "; SET LOCAL citus.enable_schema_based_sharding = off",
        )
    } else {
        ("", "")
    };
    format!(
        "{before}CREATE SCHEMA {schema}{behind};
         GRANT USAGE ON SCHEMA {schema} TO {runtime_role};
         {};",
        migrator_ddl(schema, runtime_role, rules)
    )
}

/// Builds the statements that let the role of migrations create objects in the schema, which the tenant's role may then
/// use.
pub(super) fn migrator_ddl(schema: &SchemaName, runtime_role: &str, rules: &Rules) -> String {
    let (grant, of_role) = match rules.migrator() {
        Some(role) => (
            format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}; "),
            format!("FOR ROLE {role} "),
        ),
        None => (String::new(), String::new()),
    };
    format!(
        "{grant}ALTER DEFAULT PRIVILEGES {of_role}IN SCHEMA {schema}
             GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {runtime_role};
         ALTER DEFAULT PRIVILEGES {of_role}IN SCHEMA {schema}
             GRANT USAGE, SELECT ON SEQUENCES TO {runtime_role}"
    )
}

/// Builds the statement that grants the tenant's role to the runtime login, for SET ROLE only. From PostgreSQL 16 on
/// the grant itself excludes inheritance; before, the login's NOINHERIT does.
pub(super) fn grant_to_runtime_login(
    schema: &SchemaName,
    rules: &Rules,
    server_version: u32,
) -> String {
    let how = if server_version >= 160_000 { " WITH INHERIT FALSE, SET TRUE" } else { "" };
    rules.only_here(&format!("GRANT {schema} TO {RUNTIME_LOGIN}{how}"))
}

/// Builds the SQL expression that is true if the runtime role may write the schema's history.
///
/// Reads the table's ACL, because `has_table_privilege` looks up the role's memberships in a list of all roles
/// that the connection has ever asked about.
pub(super) fn history_is_writable(schema: &SchemaName, runtime_role: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_class, aclexplode(relacl)
                  WHERE pg_class.oid = '{schema}.{HISTORY_TABLE}'::regclass
                    AND grantee = '{runtime_role}'::regrole AND privilege_type = 'INSERT')"
    )
}

/// The role that runs a tenant's queries in the schema: the tenant's own, or the shared login.
pub(super) fn runtime_role(schema: &SchemaName, isolation: Isolation) -> &str {
    match isolation {
        Isolation::Role => schema.as_str(),
        Isolation::SearchPath => RUNTIME_LOGIN,
    }
}
