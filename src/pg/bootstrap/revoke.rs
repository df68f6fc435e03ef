//! Revokes from PUBLIC the privileges that no tenant may have, and reports those that could not be revoked.
//!
//! On a cluster this is done and checked on every node: a function in a query on a tenant's table runs on the node of
//! the tenant, with the privileges that are in place there, and no engine copies them.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::citus::{
    NodeAnswer, REMOTE_COMMANDS, on_every_node, on_nodes, remote_commands_are_open,
};
use super::error::{BootstrapError, step};
use super::exposure::Exposure;
use crate::pg::bootstrap::alter;
use crate::pg::bootstrap::facts::Facts;
use crate::pg::rules::RUNTIME_LOGIN;
use crate::pg::rules::engine::Engine;
use crate::pg::rules::exposure::ExposureName;

/// Functions that PUBLIC may call by default, with what a tenant could do with them. EXECUTE is revoked from
/// PUBLIC and granted to the owner.
const REVOKED_FUNCTIONS: [(ExposureName, &str, &str); 6] = [
    // The only function with which a query can change its own role or search path.
    (
        ExposureName::SetConfig,
        "SQL that gets into a query could become another tenant by set_config",
        "pg_catalog.set_config(text, text, boolean)",
    ),
    // The functions for locks that end with the transaction stay; nothing of ours waits for an advisory lock.
    (
        ExposureName::AdvisoryLocks,
        "a tenant could hold an advisory lock longer than its transaction",
        "pg_catalog.pg_advisory_lock(bigint), pg_catalog.pg_advisory_lock(integer, integer), \
         pg_catalog.pg_advisory_lock_shared(bigint), \
         pg_catalog.pg_advisory_lock_shared(integer, integer), \
         pg_catalog.pg_try_advisory_lock(bigint), \
         pg_catalog.pg_try_advisory_lock(integer, integer), \
         pg_catalog.pg_try_advisory_lock_shared(bigint), \
         pg_catalog.pg_try_advisory_lock_shared(integer, integer)",
    ),
    // The only function that keeps a lock on any table until the transaction ends without a privilege on the table. It
    // also tells the columns.
    (
        ExposureName::TableLocks,
        "a tenant could keep tables of the control plane and of other tenants locked against migrations",
        "pg_catalog.table_to_xmlschema(regclass, boolean, boolean, text)",
    ),
    // Large objects belong to no schema: they would outlive the tenant, and its role could not be dropped.
    (
        ExposureName::LargeObjects,
        "a tenant could create large objects, which are outside its schema",
        "pg_catalog.lo_creat(integer), pg_catalog.lo_create(oid), \
         pg_catalog.lo_from_bytea(oid, bytea)",
    ),
    // All tenants share one login, and a login may terminate its own sessions.
    (
        ExposureName::Signals,
        "under isolation = search_path, or with set_config, a tenant could terminate the queries of other tenants",
        "pg_catalog.pg_cancel_backend(integer), \
         pg_catalog.pg_terminate_backend(integer, bigint)",
    ),
    // The seed outlives the transaction, and no RESET or DISCARD touches it.
    (
        ExposureName::Setseed,
        "a tenant could choose the random numbers that the next tenant on its connection draws",
        "pg_catalog.setseed(double precision)",
    ),
];

/// The object that a privilege is on; its owner may revoke the privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    /// The database.
    Database,
    /// The schema `public`.
    Public,
    /// The schema `extensions`.
    Extensions,
    /// A function or language of the server, which only a superuser owns.
    BuiltIn,
}

/// A privilege that PUBLIC has by default and no tenant may have.
pub(super) struct Restriction {
    /// The name of the exposure while PUBLIC has the privilege.
    name: ExposureName,
    /// The object of the privilege.
    pub(super) object: Object,
    /// What a tenant could do with the privilege, for people.
    pub(super) risk: String,
    /// An SQL expression that is true while PUBLIC has the privilege.
    pub(super) check: String,
    /// The statements that revoke the privilege on the server that runs them.
    local: String,
    /// The statements that revoke the privilege wherever it is.
    pub(super) statement: String,
}

impl Restriction {
    /// Returns the exposure that this restriction removes.
    pub(super) fn exposure(&self, may_revoke: bool) -> Exposure {
        Exposure {
            name: Some(self.name),
            risk: self.risk.clone(),
            statement: self.statement.clone(),
            may_revoke,
        }
    }
}

/// Revokes from PUBLIC what no tenant may have, and returns what stays open, and a warning for each node that could not be
/// asked.
pub(super) async fn revoke(
    client: &Client,
    facts: &Facts,
    engine: Engine,
) -> Result<(Vec<Exposure>, Vec<String>), BootstrapError> {
    let restrictions = restrictions(&facts.owner, &facts.database, engine);
    let (before, warnings) = unrestricted(client, &restrictions, engine).await?;
    if before.is_empty() {
        return Ok((Vec::new(), warnings));
    }
    for restriction in &before {
        // The coordinator need not be among the nodes that it knows.
        let statements =
            [Some(&restriction.local), engine.has_nodes().then_some(&restriction.statement)];
        for statement in statements.into_iter().flatten() {
            match alter(client, statement).await {
                Ok(()) => {}
                // An owner who may pass a privilege on cannot grant it to itself.
                Err(error)
                    if [&SqlState::INSUFFICIENT_PRIVILEGE, &SqlState::INVALID_GRANT_OPERATION]
                        .iter()
                        .any(|code| error.code() == Some(code)) => {}
                Err(error) => return Err(step("revoke privileges of PUBLIC")(error)),
            }
        }
    }
    // Checked again, because a REVOKE without the right to it is only a warning.
    let (after, warnings) = unrestricted(client, &before, engine).await?;
    Ok((after.iter().map(|restriction| restriction.exposure(false)).collect(), warnings))
}

/// Returns all restrictions, for an owner and a database whose names are quoted as identifiers.
pub(super) fn restrictions(owner: &str, database: &str, engine: Engine) -> Vec<Restriction> {
    let of_schema = |schema: &str, privilege: &str| {
        // Null-safe: a node has the schema only if an extension was created in it.
        format!(
            "(SELECT has_schema_privilege('public', oid, '{privilege}') FROM pg_catalog.pg_namespace \
               WHERE nspname = '{schema}') IS TRUE"
        )
    };
    let mut all: Vec<Restriction> = [
        (
            ExposureName::TemporaryTables,
            Object::Database,
            "a tenant could create temporary tables",
            "has_database_privilege('public', current_database(), 'TEMP')".to_owned(),
            // The owner grants it to the role that migrations run as.
            format!(
                "REVOKE TEMP ON DATABASE {database} FROM PUBLIC; \
                 GRANT TEMP ON DATABASE {database} TO {owner} WITH GRANT OPTION"
            ),
        ),
        (
            ExposureName::SchemaPublic,
            Object::Public,
            "a tenant could use the schema public",
            format!("{} OR {}", of_schema("public", "USAGE"), of_schema("public", "CREATE")),
            "REVOKE ALL ON SCHEMA public FROM PUBLIC".to_owned(),
        ),
        (
            ExposureName::SchemaExtensions,
            Object::Extensions,
            "a tenant could create objects in every tenant's search path",
            of_schema("extensions", "CREATE"),
            "REVOKE CREATE ON SCHEMA extensions FROM PUBLIC".to_owned(),
        ),
        (
            ExposureName::DoBlocks,
            Object::BuiltIn,
            "a DO block that bypasses the guard could become another tenant",
            "EXISTS (SELECT FROM pg_catalog.pg_language \
                      WHERE lanname = 'plpgsql' AND has_language_privilege('public', oid, 'USAGE'))"
                .to_owned(),
            format!(
                "REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC; \
                 GRANT USAGE ON LANGUAGE plpgsql TO {owner} WITH GRANT OPTION"
            ),
        ),
    ]
    .into_iter()
    .map(|(name, object, risk, check, local)| {
        let statement = wherever(&local, engine);
        Restriction { name, object, risk: risk.to_owned(), check, local, statement }
    })
    .collect();
    all.extend(REVOKED_FUNCTIONS.map(|of| function_restriction(of, owner, engine)));
    if engine.has_nodes() {
        let risk = "a tenant could run statements of any kind by functions of Citus, also as another tenant";
        let functions = REMOTE_COMMANDS.join(", ");
        let of = (ExposureName::RemoteCommands, risk, functions.as_str());
        let check = remote_commands_are_open();
        all.push(Restriction { check, ..function_restriction(of, owner, engine) });
    }
    all
}

/// Returns the statements that do on every server what these do on one.
fn wherever(statements: &str, engine: Engine) -> String {
    if engine.has_nodes() { on_every_node(statements) } else { statements.to_owned() }
}

/// Returns the restriction on functions of the server.
fn function_restriction(
    (name, risk, functions): (ExposureName, &str, &str),
    owner: &str,
    engine: Engine,
) -> Restriction {
    let checks: Vec<String> = functions
        .split("), ")
        .map(|f| {
            let function = f.trim_end_matches(')');
            format!("has_function_privilege('public', '{function})', 'EXECUTE')")
        })
        .collect();
    // The owner grants it to the role that migrations run as.
    let option = if name == ExposureName::SetConfig { " WITH GRANT OPTION" } else { "" };
    let local = format!(
        "REVOKE EXECUTE ON FUNCTION {functions} FROM PUBLIC; \
         GRANT EXECUTE ON FUNCTION {functions} TO {owner}{option}"
    );
    Restriction {
        name,
        object: Object::BuiltIn,
        risk: risk.to_owned(),
        check: checks.join(" OR "),
        statement: wherever(&local, engine),
        local,
    }
}

/// Returns the restrictions that are not in place, here or on a node, and a warning for each node that could not be asked.
async fn unrestricted<'a, R: std::borrow::Borrow<Restriction>>(
    client: &Client,
    restrictions: &'a [R],
    engine: Engine,
) -> Result<(Vec<&'a Restriction>, Vec<String>), BootstrapError> {
    let row = client
        .query_typed_one(&check_query(restrictions), &[])
        .await
        .map_err(step("read the privileges of PUBLIC"))?;
    let mut are_open: Vec<bool> = row.get("are_open");
    let mut warnings = Vec::new();
    if engine.has_nodes() {
        let answers = on_nodes(client, &node_check_query(restrictions)).await?;
        warnings = add_nodes(&mut are_open, answers);
    }
    let open = restrictions.iter().map(std::borrow::Borrow::borrow).zip(are_open);
    Ok((
        open.filter(|(_, is_open)| *is_open).map(|(restriction, _)| restriction).collect(),
        warnings,
    ))
}

/// Adds what is open on some node, and returns a warning for each node that could not be asked.
pub(super) fn add_nodes(are_open: &mut [bool], answers: Vec<NodeAnswer>) -> Vec<String> {
    let mut warnings = Vec::new();
    for NodeAnswer { node, result } in answers {
        match result {
            // An array of booleans as text: {f,t}.
            Ok(found) => {
                let found = found.trim_matches(['{', '}']).split(',').map(|word| word == "t");
                for (is_open, found) in are_open.iter_mut().zip(found) {
                    *is_open |= found;
                }
            }
            Err(reason) => warnings.push(format!(
                "the privileges of PUBLIC on the node {node} could not be read: {}",
                reason.lines().next().unwrap_or_default()
            )),
        }
    }
    warnings
}

/// Returns a query for `are_open`, an array with one boolean for each restriction: whether PUBLIC still has the
/// privilege.
pub(super) fn check_query<R: std::borrow::Borrow<Restriction>>(restrictions: &[R]) -> String {
    format!("SELECT {} AS are_open", check_array(restrictions))
}

/// As [`check_query`], for a node, which answers with text.
pub(super) fn node_check_query<R: std::borrow::Borrow<Restriction>>(restrictions: &[R]) -> String {
    format!("SELECT ({})::text", check_array(restrictions))
}

fn check_array<R: std::borrow::Borrow<Restriction>>(restrictions: &[R]) -> String {
    let checks: Vec<&str> = restrictions.iter().map(|r| r.borrow().check.as_str()).collect();
    format!("ARRAY[{}]::bool[]", checks.join(", "))
}

/// Returns the roles, quoted, that `$1`, the runtime login, can become and that are no tenant's.
pub(super) const NON_TENANT_ROLES: &str = "
    SELECT quote_ident(granted.rolname) AS role
      FROM pg_catalog.pg_auth_members m
      JOIN pg_catalog.pg_roles member ON member.oid = m.member
      JOIN pg_catalog.pg_roles granted ON granted.oid = m.roleid
     WHERE member.rolname = $1 AND granted.rolname !~ '^(tenant_[0-9a-f]{32}|rowhouse_shared)$'";

/// The exposure that the runtime login can become a role which is no tenant's.
pub(super) fn non_tenant_role(role: &str, may_revoke: bool) -> Exposure {
    Exposure {
        name: Some(ExposureName::RuntimeRoles),
        risk: format!("the login {RUNTIME_LOGIN} can become {role}, which is no tenant"),
        statement: format!("REVOKE {role} FROM {RUNTIME_LOGIN}"),
        may_revoke,
    }
}

/// Returns an exposure for each role that the runtime login can become and that is no tenant's. A start does not
/// revoke these memberships, because an operator has granted them.
pub(super) async fn non_tenant_roles(client: &Client) -> Result<Vec<Exposure>, BootstrapError> {
    let rows = client
        .query_typed(NON_TENANT_ROLES, &[(&RUNTIME_LOGIN, Type::TEXT)])
        .await
        .map_err(step("read the roles that the runtime login can become"))?;
    Ok(rows.iter().map(|row| non_tenant_role(row.get("role"), false)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CITUS: Engine = Engine::Citus { is_forced: false };

    #[test]
    fn what_is_open_on_one_node_is_open_and_a_node_that_is_away_is_named() {
        let answer = |node: &str, result: Result<&str, &str>| NodeAnswer {
            node: node.to_owned(),
            result: result.map(str::to_owned).map_err(str::to_owned),
        };
        let mut are_open = vec![false, true, false];
        let answers = vec![
            answer("a:1", Ok("{f,f,f}")),
            answer("b:2", Ok("{f,f,t}")),
            answer("c:3", Err("failed to connect to c:3\nmore")),
        ];
        let warnings = add_nodes(&mut are_open, answers);
        assert_eq!(are_open, [false, true, true]);
        assert_eq!(
            warnings,
            [
                "the privileges of PUBLIC on the node c:3 could not be read: failed to connect to c:3"
            ]
        );
    }

    #[test]
    fn on_a_cluster_every_statement_runs_on_every_node_and_remote_commands_are_revoked_too() {
        let one = restrictions("o", "d", Engine::Postgres);
        let forced = restrictions("o", "d", Engine::Citus { is_forced: true });
        let cluster = restrictions("o", "d", CITUS);
        assert_eq!((one.len(), forced.len()), (cluster.len() - 1, cluster.len() - 1));
        assert!(
            one.iter().all(|r| r.statement == r.local && r.name != ExposureName::RemoteCommands)
        );
        for restriction in &cluster {
            for statement in restriction.statement.split("; SELECT ") {
                assert!(statement.contains("run_command_on_all_nodes($cmd$"), "{statement}");
            }
        }
    }
}
