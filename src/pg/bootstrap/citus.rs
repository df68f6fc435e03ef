//! What a Citus cluster must be before it can hold tenants, and what is asked of its nodes at a start.
//!
//! Each requirement has its remedy as a statement. What a node that is away would answer is not waited for: its tenants
//! are unavailable until it is back, and the others are served.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::Wanted;
use super::error::{BootstrapError, step};
use super::facts::Facts;
use super::nodes::NodesWithoutRight;
use crate::pg::connect::login::Login;
use crate::pg::rules::engine::Engine;
use crate::pg::rules::{Isolation, MIGRATOR, RUNTIME_LOGIN};

/// The setting that makes every `CREATE SCHEMA` of a session create a distributed one.
const SHARDING: &str = "citus.enable_schema_based_sharding";

/// The setting with 0 of which a session keeps no connection to a node when its transaction has ended.
const CACHED_CONNECTIONS: &str = "citus.max_cached_conns_per_worker";

/// Runs the command `$1` on every node, each in a session of its own as the current user, and returns what each answered.
/// A node that cannot be reached is a row with `success` false.
pub(super) const ON_NODES: &str = "
    SELECT format('%s:%s', n.nodename, n.nodeport) AS node, r.success, coalesce(r.result, '') AS result
      FROM pg_catalog.run_command_on_all_nodes($1, true, true) r
      JOIN pg_catalog.pg_dist_node n ON n.nodeid = r.nodeid
     ORDER BY 1";

/// The function of Citus that runs a statement on every node, and the one that it calls for that with the rights of its
/// caller.
const ASK_NODES: [&str; 2] = [
    "pg_catalog.run_command_on_all_nodes(text, boolean, boolean)",
    "pg_catalog.master_run_on_worker(text[], integer[], text[], boolean)",
];

/// The functions of Citus that run a statement which a query hands to them, on this node or on others, or that change or
/// lock what belongs to another role: `alter_role_if_exists` runs any `SET ROLE`, `worker_partition_query_result` ends the
/// server with some statements, and `citus_check_connection_to_node` connects the server to any host. Every role may call them by default. No query on a tenant's tables needs them; the
/// owner does, because nodes call some for it. One without its arguments has a type among them that an owner cannot name.
pub(super) const REMOTE_COMMANDS: [&str; 22] = [
    "pg_catalog.run_command_on_all_nodes(text, boolean, boolean)",
    "pg_catalog.run_command_on_workers(text, boolean)",
    "pg_catalog.run_command_on_coordinator(text, boolean)",
    "pg_catalog.run_command_on_placements(regclass, text, boolean)",
    "pg_catalog.run_command_on_shards(regclass, text, boolean)",
    "pg_catalog.run_command_on_colocated_placements(regclass, regclass, text, boolean)",
    "pg_catalog.master_run_on_worker(text[], integer[], text[], boolean)",
    "pg_catalog.alter_role_if_exists(text, text)",
    "pg_catalog.citus_run_local_command(text)",
    "pg_catalog.worker_apply_shard_ddl_command(bigint, text)",
    "pg_catalog.worker_apply_shard_ddl_command(bigint, text, text)",
    "pg_catalog.worker_apply_inter_shard_ddl_command(bigint, text, bigint, text, text)",
    "pg_catalog.worker_partition_query_result",
    "pg_catalog.create_intermediate_result(text, text)",
    "pg_catalog.broadcast_intermediate_result(text, text)",
    "pg_catalog.citus_unmark_object_distributed(oid, oid, integer, boolean)",
    "pg_catalog.citus_internal_delete_tenant_schema(oid)",
    "citus_internal.delete_tenant_schema(oid)",
    "pg_catalog.column_name_to_column(regclass, text)",
    "pg_catalog.worker_change_sequence_dependency(regclass, regclass, regclass)",
    "pg_catalog.citus_check_connection_to_node(text, integer)",
    "pg_catalog.citus_check_cluster_node_health()",
];

/// Returns an SQL expression that is true while PUBLIC may call one of [`REMOTE_COMMANDS`]. By their names, because a
/// version of Citus may lack one.
pub(super) fn remote_commands_are_open() -> String {
    let name = |function: &&str| {
        let name = function.split('(').next().unwrap_or_default();
        format!("'{}'", name.rsplit('.').next().unwrap_or_default())
    };
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
                  WHERE n.nspname IN ('pg_catalog', 'citus_internal') AND p.proname IN ({}) \
                    AND has_function_privilege('public', p.oid, 'EXECUTE'))",
        REMOTE_COMMANDS.iter().map(name).collect::<Vec<_>>().join(", ")
    )
}

/// What a node answered to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeAnswer {
    /// Its host and port.
    pub(super) node: String,
    /// The first column of the first row, as text; the message if the command failed.
    pub(super) result: Result<String, String>,
}

impl NodeAnswer {
    pub(super) fn of(row: &tokio_postgres::Row) -> Self {
        let result: String = row.get("result");
        let result = if row.get("success") { Ok(result) } else { Err(result) };
        Self { node: row.get("node"), result }
    }
}

/// Runs a command on every node.
pub(super) async fn on_nodes(
    client: &Client,
    command: &str,
) -> Result<Vec<NodeAnswer>, BootstrapError> {
    let rows = client.query_typed(ON_NODES, &[(&command, Type::TEXT)]).await;
    Ok(rows.map_err(step("ask the nodes of the cluster"))?.iter().map(NodeAnswer::of).collect())
}

/// Returns the statements that run these statements on every node. Each is a call of its own, because a call takes one
/// statement.
pub(super) fn on_every_node(statements: &str) -> String {
    let call = |statement: &str| format!("SELECT run_command_on_all_nodes($cmd${statement}$cmd$)");
    statements.split("; ").map(call).collect::<Vec<_>>().join("; ")
}

impl Wanted {
    /// Returns the engine of a database that has the extension, or does not.
    pub(super) const fn engine(self, has_extension: bool) -> Engine {
        match (has_extension, self.forces_citus) {
            (true, _) => Engine::Citus { is_forced: false },
            (false, true) => Engine::Citus { is_forced: true },
            (false, false) => Engine::Postgres,
        }
    }

    /// Returns how tenants are isolated on this engine.
    pub(super) fn isolation(self, engine: Engine) -> Isolation {
        self.isolation.unwrap_or(if engine.is_citus() {
            Isolation::SearchPath
        } else {
            Isolation::Role
        })
    }
}

/// Refuses a database that is no coordinator, and settings with which no schema could be created.
///
/// # Errors
/// [`BootstrapError::NotCoordinator`], [`BootstrapError::ShardingForAll`], [`BootstrapError::NodesClosed`],
/// [`BootstrapError::NoPreparedTransactions`].
pub(super) async fn require_coordinator(
    client: &Client,
    at: &str,
    facts: &Facts,
) -> Result<(), BootstrapError> {
    let row = client
        .query_typed_one(
            "SELECT (SELECT groupid FROM pg_catalog.pg_dist_local_group) AS group_id,
                    (SELECT format('%s:%s', nodename, nodeport) FROM pg_catalog.pg_dist_node
                      WHERE groupid = 0 LIMIT 1) AS coordinator,
                    EXISTS (SELECT FROM pg_catalog.pg_dist_node WHERE groupid <> 0 AND isactive) AS has_workers,
                    has_function_privilege($2, 'EXECUTE') AND has_function_privilege($3, 'EXECUTE') AS may_ask,
                    coalesce(current_setting($1, true), '') AS sharding,
                    (SELECT source FROM pg_catalog.pg_settings WHERE name = $1) AS source",
            &[(&SHARDING, Type::TEXT), (&ASK_NODES[0], Type::TEXT), (&ASK_NODES[1], Type::TEXT)],
        )
        .await
        .map_err(step("read the place of the database in its cluster"))?;
    if row.get::<_, Option<i32>>("group_id") != Some(0) {
        let coordinator: Option<String> = row.get("coordinator");
        return Err(BootstrapError::NotCoordinator {
            at: at.to_owned(),
            coordinator: coordinator.unwrap_or_else(|| "the coordinator".to_owned()),
        });
    }
    if row.get::<_, &str>("sharding") == "on" {
        let source: Option<&str> = row.get("source");
        let statement = reset_statement(source.unwrap_or_default(), facts);
        return Err(BootstrapError::ShardingForAll { statement });
    }
    if !row.get::<_, bool>("may_ask") {
        let owner = &facts.owner;
        let statement = format!("GRANT EXECUTE ON FUNCTION {} TO {owner}", ASK_NODES.join(", "));
        return Err(BootstrapError::NodesClosed { owner: owner.clone(), statement });
    }
    if !row.get::<_, bool>("has_workers") {
        return Ok(()); // a commit on one node is not prepared
    }
    let setting = "SELECT current_setting('max_prepared_transactions')";
    let none: Vec<String> = on_nodes(client, setting)
        .await?
        .into_iter()
        .filter(|answer| answer.result.as_deref() == Ok("0"))
        .map(|answer| answer.node)
        .collect();
    if none.is_empty() {
        return Ok(());
    }
    Err(BootstrapError::NoPreparedTransactions { nodes: none.join(", ") })
}

/// Returns the statement that takes the sharding setting back from where it is set.
fn reset_statement(source: &str, facts: &Facts) -> String {
    let (owner, database) = (&facts.owner, &facts.database);
    match source {
        "database user" => format!("ALTER ROLE {owner} IN DATABASE {database} RESET {SHARDING}"),
        "user" => format!("ALTER ROLE {owner} RESET {SHARDING}"),
        "database" => format!("ALTER DATABASE {database} RESET {SHARDING}"),
        _ => format!("ALTER SYSTEM RESET {SHARDING}; SELECT pg_reload_conf()"),
    }
}

/// Refuses roles that the cluster does not know: they were created before the nodes were added, or in another database, and
/// a distributed table that they own can only be created by a superuser. A superuser as the owner needs none of it.
///
/// # Errors
/// [`BootstrapError::UnknownRoles`], with the statements.
pub(super) async fn require_known_roles(
    client: &Client,
    facts: &Facts,
) -> Result<(), BootstrapError> {
    if facts.is_superuser {
        return Ok(());
    }
    let rows = client
        .query_typed(
            "SELECT quote_ident(r.rolname) AS role
               FROM pg_catalog.pg_roles r
              WHERE (r.rolname = current_user OR r.rolname IN ($1, $2))
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_dist_object o
                                 WHERE o.classid = 'pg_catalog.pg_authid'::regclass AND o.objid = r.oid)
              ORDER BY r.rolname = current_user DESC, 1",
            &[(&RUNTIME_LOGIN, Type::TEXT), (&MIGRATOR, Type::TEXT)],
        )
        .await
        .map_err(step("read the roles that the cluster knows"))?;
    let roles: Vec<String> = rows.iter().map(|row| row.get("role")).collect();
    if roles.is_empty() {
        return Ok(());
    }
    let statements = introduction(&roles);
    Err(BootstrapError::UnknownRoles { roles: roles.join(", "), statements })
}

/// Returns the statements by which a superuser makes roles known to all nodes: each owns a distributed table for a moment.
fn introduction(roles: &[String]) -> String {
    let mut statements = vec![
        "CREATE TABLE public.rowhouse_roles (id int PRIMARY KEY)".to_owned(),
        "SELECT create_reference_table('public.rowhouse_roles')".to_owned(),
    ];
    let owned = |role: &String| format!("ALTER TABLE public.rowhouse_roles OWNER TO {role}");
    statements.extend(roles.iter().map(owned));
    statements.push("DROP TABLE public.rowhouse_roles".to_owned());
    statements.join("; ")
}

/// Asks a node whether the owner may create schemas there.
pub(super) const MAY_CREATE: &str = "SELECT has_database_privilege(current_database(), 'CREATE')";

/// Returns the nodes that answered that the owner may not; none if it may on all of them.
pub(super) fn without_right(
    answers: Vec<NodeAnswer>,
    owner: &str,
    database: &str,
) -> Option<NodesWithoutRight> {
    let lacks = answers.into_iter().filter(|answer| answer.result.as_deref() == Ok("f"));
    let nodes: Vec<String> = lacks.map(|answer| answer.node).collect();
    // The coordinator sends it to every node.
    let statement = format!("GRANT CREATE ON DATABASE {database} TO {owner}");
    (!nodes.is_empty()).then(|| NodesWithoutRight { nodes: nodes.join(", "), statement })
}

/// Refuses nodes on which the owner may not create schemas.
///
/// # Errors
/// [`BootstrapError::NoSchemasOnNodes`], with the statement.
pub(super) async fn require_schemas(client: &Client, facts: &Facts) -> Result<(), BootstrapError> {
    let answers = on_nodes(client, MAY_CREATE).await?;
    match without_right(answers, &facts.owner, &facts.database) {
        None => Ok(()),
        Some(nodes) => Err(BootstrapError::NoSchemasOnNodes(nodes)),
    }
}

/// Refuses isolation by role while sessions keep their connections to the nodes: each session would keep one for every
/// tenant that it has served.
///
/// # Errors
/// [`BootstrapError::RoleIsolationOnCitus`], with the statement that makes it possible.
pub(super) async fn require_uncached(
    runtime: &mut Login,
    facts: &Facts,
) -> Result<(), BootstrapError> {
    let as_runtime = runtime
        .client()
        .await
        .map_err(|error| BootstrapError::RuntimeLogin { reason: error.to_string() })?;
    let row = as_runtime
        .query_typed_one(
            "SELECT coalesce(current_setting($1, true), '') AS cached",
            &[(&CACHED_CONNECTIONS, Type::TEXT)],
        )
        .await
        .map_err(step("read the settings of the runtime login"))?;
    if row.get::<_, &str>("cached") == "0" {
        return Ok(());
    }
    let database = &facts.database;
    let statement =
        format!("ALTER ROLE {RUNTIME_LOGIN} IN DATABASE {database} SET {CACHED_CONNECTIONS} = 0");
    Err(BootstrapError::RoleIsolationOnCitus { statement })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_isolation_follows_the_engine_unless_it_is_set() {
        let unset = Wanted::default();
        let engine = |has_extension| unset.engine(has_extension);
        assert_eq!(unset.isolation(engine(false)), Isolation::Role);
        assert_eq!(unset.isolation(engine(true)), Isolation::SearchPath);
        let role = Wanted { isolation: Some(Isolation::Role), forces_citus: true };
        assert_eq!(role.isolation(role.engine(true)), Isolation::Role);
        assert_eq!(role.engine(false), Engine::Citus { is_forced: true });
        assert_eq!(role.engine(true), Engine::Citus { is_forced: false });
    }

    #[test]
    fn each_statement_for_the_nodes_is_a_call_of_its_own() {
        assert_eq!(
            on_every_node("REVOKE a; GRANT b"),
            "SELECT run_command_on_all_nodes($cmd$REVOKE a$cmd$); SELECT run_command_on_all_nodes($cmd$GRANT b$cmd$)"
        );
    }
}
