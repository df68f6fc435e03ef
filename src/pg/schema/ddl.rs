//! The DDL that makes a tenant's schema and role.

use crate::domain::names::SchemaName;
use crate::migrations::HISTORY_TABLE;
use crate::pg::error::Failure;
use crate::pg::rules::{Isolation, RUNTIME_LOGIN, Rules};
use crate::pg::scope::PublicTx;

/// Makes the schema, and under [`Isolation::Role`] the role of the same name, with rights on what the
/// migrations will create in it and on nothing else.
///
/// # Errors
/// [`Failure`], and the transaction is lost.
pub async fn create(
    tx: &PublicTx,
    schema: &SchemaName,
    rules: &Rules,
    server_version: u32,
) -> Result<(), Failure> {
    let role = role_ddl(schema, rules.isolation, server_version);
    tx.batch(&format!("{role}{}", schema_ddl(schema, rules.isolation))).await
}

/// Makes the roles of several schemas that [`create_without_role`] makes later. Each transaction that
/// makes a role costs every backend its knowledge of who may become whom, so roles are made together.
///
/// # Errors
/// [`Failure`], and the transaction is lost.
pub async fn create_roles(
    tx: &PublicTx,
    schemas: &[SchemaName],
    rules: &Rules,
    server_version: u32,
) -> Result<(), Failure> {
    let ddl = schemas.iter().map(|schema| role_ddl(schema, rules.isolation, server_version));
    tx.batch(&ddl.collect::<String>()).await
}

/// Makes the rest of what [`create`] makes, where the role is there.
///
/// # Errors
/// [`Failure`], and the transaction is lost.
pub async fn create_without_role(
    tx: &PublicTx,
    schema: &SchemaName,
    rules: &Rules,
) -> Result<(), Failure> {
    tx.batch(&schema_ddl(schema, rules.isolation)).await
}

fn role_ddl(schema: &SchemaName, isolation: Isolation, server_version: u32) -> String {
    match isolation {
        Isolation::Role => {
            format!("CREATE ROLE {schema} NOLOGIN NOINHERIT; {};", let_in(schema, server_version))
        }
        Isolation::SearchPath => String::new(),
    }
}

fn schema_ddl(schema: &SchemaName, isolation: Isolation) -> String {
    let entrant = entrant(schema, isolation);
    format!(
        "CREATE SCHEMA {schema};
         GRANT USAGE ON SCHEMA {schema} TO {entrant};
         ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}
             GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {entrant};
         ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}
             GRANT USAGE, SELECT ON SEQUENCES TO {entrant};"
    )
}

/// The statement that lets the runtime login become the tenant's role. From PostgreSQL 16 on a grant says
/// whether it is for SET ROLE or for inheritance; before, the login's own NOINHERIT says so.
pub(super) fn let_in(schema: &SchemaName, server_version: u32) -> String {
    let how = if server_version >= 160_000 { " WITH INHERIT FALSE, SET TRUE" } else { "" };
    format!("GRANT {schema} TO {RUNTIME_LOGIN}{how}")
}

/// The expression that tells whether whoever works in the schema was given the right to edit its history.
///
/// Read off the table's grants: to ask for a role's privilege, PostgreSQL looks its memberships up in a list of
/// all roles that the connection has ever asked about.
pub(super) fn history_is_open(schema: &SchemaName, entrant: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_class, aclexplode(relacl)
                  WHERE pg_class.oid = '{schema}.{HISTORY_TABLE}'::regclass
                    AND grantee = '{entrant}'::regrole AND privilege_type = 'INSERT')"
    )
}

/// Who works in the schema: the tenant's role, or the shared login.
pub(super) fn entrant(schema: &SchemaName, isolation: Isolation) -> &str {
    match isolation {
        Isolation::Role => schema.as_str(),
        Isolation::SearchPath => RUNTIME_LOGIN,
    }
}
