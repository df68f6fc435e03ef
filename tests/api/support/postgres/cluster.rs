//! Test databases on a cluster of Citus: each is created on every node and joined to a cluster of its own. The workers are
//! those of the database that `TEST_DATABASE_URL` names.

use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::{OWNER, close_exposures, connect, with_database};

/// Roles are shared by the databases of a server: two clusters that are made at once on the same servers fail each other.
static JOINING: Mutex<()> = Mutex::const_new(());

/// Returns the URL of each worker, as the superuser of the coordinator.
pub(super) async fn workers(base: &str) -> Vec<String> {
    let sql = "SELECT nodename, nodeport FROM pg_catalog.pg_dist_node WHERE groupid <> 0 ORDER BY groupid";
    let rows = connect(base).await.query(sql, &[]).await;
    let rows = rows.expect("the database of TEST_DATABASE_URL is a coordinator");
    rows.iter().map(|row| with_host(base, row.get(0), row.get(1))).collect()
}

/// Replaces host and port in a URL.
fn with_host(url: &str, host: &str, port: i32) -> String {
    let (before, rest) = url.split_once('@').expect("the URL of a cluster has a user");
    let (_, database) = rest.split_once('/').expect("the URL of a cluster has a database");
    format!("{before}@{host}:{port}/{database}")
}

/// Makes a new database the coordinator of a cluster of its own. What the owner needs there is done as the book tells.
pub(super) async fn join(base: &str, database: &str, has_owner: bool) {
    let _one_at_a_time = JOINING.lock().await;
    let coordinator = connect(&with_database(base, database)).await;
    let run = async |client: &Client, sql: &str| {
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    };
    run(&coordinator, "CREATE EXTENSION citus").await;
    let port = coordinator.query_one("SHOW port", &[]).await.expect("a server has a port");
    let port: String = port.get(0);
    run(&coordinator, &format!("SELECT citus_set_coordinator_host('localhost', {port})")).await;
    let workers = workers(base).await;
    for worker in &workers {
        run(&connect(worker).await, &format!("CREATE DATABASE {database}")).await;
        let inside = connect(&with_database(worker, database)).await;
        run(&inside, "CREATE EXTENSION citus").await;
    }
    let nodes = "SELECT nodename, nodeport FROM pg_catalog.pg_dist_node WHERE groupid <> 0 ORDER BY groupid";
    for row in connect(base).await.query(nodes, &[]).await.expect("it is a coordinator") {
        let (host, port): (&str, i32) = (row.get(0), row.get(1));
        run(&coordinator, &format!("SELECT citus_add_node('{host}', {port})")).await;
    }
    if workers.is_empty() {
        run(&coordinator, "SELECT citus_set_node_property('localhost', (SELECT nodeport FROM pg_dist_node LIMIT 1), \
                           'shouldhaveshards', true)")
            .await;
    }
    if has_owner {
        introduce(&coordinator).await;
        close_all_exposures(&coordinator).await;
        for worker in &workers {
            close_all_exposures(&connect(&with_database(worker, database)).await).await;
        }
    }
}

/// Closes on one node what an ordinary owner cannot close, with the functions of Citus that run statements on others.
async fn close_all_exposures(superuser: &Client) {
    close_exposures(superuser).await;
    let sql = format!(
        "DO $$ DECLARE f regprocedure; BEGIN
             FOR f IN SELECT oid FROM pg_proc
                       WHERE proname ~ '^run_command_on_' OR proname = 'master_run_on_worker' LOOP
                 EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
                 EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO {OWNER}', f);
             END LOOP;
         END $$"
    );
    superuser.batch_execute(&sql).await.expect("a superuser may");
}

/// Makes the roles known to the new cluster.
async fn introduce(superuser: &Client) {
    let mut statements = vec![
        "CREATE TABLE public.rowhouse_roles (id int PRIMARY KEY)".to_owned(),
        "SELECT create_reference_table('public.rowhouse_roles')".to_owned(),
    ];
    for role in [OWNER, "rowhouse_runtime", "rowhouse_migrator"] {
        statements.push(format!("ALTER TABLE public.rowhouse_roles OWNER TO {role}"));
    }
    statements.push("DROP TABLE public.rowhouse_roles".to_owned());
    for statement in statements {
        superuser.batch_execute(&statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
    }
}

/// Creates the runtime login and the role of migrations, unless an earlier run did, and lets no session of the login keep
/// a connection to a node: most tests of isolation are about roles.
pub(super) async fn create_runtime_login(admin: &Client) {
    let sql = format!(
        "DO $$ BEGIN
             IF to_regrole('rowhouse_runtime') IS NULL THEN CREATE ROLE rowhouse_runtime LOGIN NOINHERIT; END IF;
             IF to_regrole('rowhouse_migrator') IS NULL THEN CREATE ROLE rowhouse_migrator NOLOGIN NOINHERIT; END IF;
         END $$;
         GRANT rowhouse_migrator TO {OWNER};
         ALTER ROLE rowhouse_runtime SET citus.max_cached_conns_per_worker = 0"
    );
    admin.batch_execute(&sql).await.expect("a superuser may create roles");
}

/// Drops a database on each worker.
pub(super) async fn drop_on_workers(base: &str, database: &str) {
    for worker in workers(base).await {
        let sql = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
        let _ = connect(&worker).await.batch_execute(&sql).await;
    }
}
