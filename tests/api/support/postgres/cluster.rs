//! Test databases on a cluster of Citus: each is created on every node and joined to a cluster of its own, or cloned on every
//! node from a template that was. The workers are those of the database that `TEST_DATABASE_URL` names.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::{OWNER, Page, close_exposures, connect, with_database};

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
    // A superuser needs none of it, but a test may give the database to an owner of its own.
    introduce(&coordinator, has_owner.then_some(OWNER)).await;
    if has_owner {
        close_all_exposures(&coordinator).await;
        for worker in &workers {
            close_all_exposures(&connect(&with_database(worker, database)).await).await;
        }
    }
}

/// Closes on one node what an ordinary owner cannot close, with the functions of Citus, as the book tells a superuser to.
async fn close_all_exposures(superuser: &Client) {
    close_exposures(superuser).await;
    let mut blocks = Page::read("docs/cluster.md").blocks().into_iter();
    let closing = blocks.find(|block| block.text.starts_with("REVOKE EXECUTE ON FUNCTION"));
    let closing = closing.expect("the page has SQL").text.replace("rowhouse_owner", OWNER);
    for statement in closing.split(';').filter(|statement| !statement.trim().is_empty()) {
        superuser.batch_execute(statement).await.expect("a superuser may");
    }
}

/// Makes the roles known to the new cluster.
async fn introduce(superuser: &Client, owner: Option<&str>) {
    let mut statements = vec![
        "CREATE TABLE public.rowhouse_roles (id int PRIMARY KEY)".to_owned(),
        "SELECT create_reference_table('public.rowhouse_roles')".to_owned(),
    ];
    for role in ["rowhouse_runtime", "rowhouse_migrator"].into_iter().chain(owner) {
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

/// Makes a database the template that [`clone`] takes on the workers, and lets nothing connect to it: Citus keeps sessions
/// of its own in a database that it has, and then it could not be cloned. Templates of other programs are dropped when they
/// were not used for a day, as those of the coordinator are.
pub(super) async fn keep_as_template(base: &str, database: &str, key: &str) {
    let close = format!(
        "ALTER DATABASE {database} ALLOW_CONNECTIONS false;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    );
    connect(base).await.batch_execute(&close).await.expect("a superuser may");
    let template = template_of_workers(key);
    for worker in workers(base).await {
        let worker = connect(&worker).await;
        let old = "SELECT datname::text FROM pg_database
                    WHERE datname = $1
                       OR (datname ~ '^rowhouse_worker_template_'
                           AND shobj_description(oid, 'pg_database')::timestamptz < now() - interval '1 day')";
        for row in worker.query(old, &[&template]).await.expect("databases can be listed") {
            let drop = format!("DROP DATABASE {}", row.get::<_, String>(0));
            worker.batch_execute(&drop).await.expect("a superuser may");
        }
        worker.batch_execute(&close).await.expect("a superuser may");
        let rename = format!("ALTER DATABASE {database} RENAME TO {template}");
        // A session ends a moment after it was told to.
        for attempt in 0.. {
            match worker.batch_execute(&rename).await {
                Ok(()) => break,
                Err(error) => assert!(attempt < 50, "{rename}: {error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        note_use(&worker, &template).await;
    }
}

/// Gives a new database, which is a clone of the coordinator's template, its like on each worker.
pub(super) async fn clone(base: &str, database: &str, key: &str, options: &str) {
    let template = template_of_workers(key);
    // The database is one of the objects that the nodes know, by the identity that the template has.
    let known = "UPDATE pg_catalog.pg_dist_object
                    SET objid = (SELECT oid FROM pg_database WHERE datname = current_database())
                  WHERE classid = 'pg_database'::regclass";
    let mut nodes = vec![base.to_owned()];
    for worker in workers(base).await {
        let session = connect(&worker).await;
        let create = format!("CREATE DATABASE {database} TEMPLATE {template} {options}");
        session.batch_execute(&create).await.unwrap_or_else(|error| panic!("{create}: {error:?}"));
        note_use(&session, &template).await;
        nodes.push(worker);
    }
    for node in nodes {
        let session = connect(&with_database(&node, database)).await;
        session.batch_execute(known).await.expect("a superuser may");
    }
}

/// Returns the name of the template on the workers.
fn template_of_workers(key: &str) -> String {
    format!("rowhouse_worker_template_{}", &hex::encode(Sha256::digest(key))[..16])
}

/// Records when a template was used. It fails if another process does the same at this moment.
async fn note_use(worker: &Client, template: &str) {
    let comment = format!(
        "DO $$ BEGIN EXECUTE format('COMMENT ON DATABASE {template} IS %L', now()); END $$"
    );
    let _ = worker.batch_execute(&comment).await;
}

/// Drops what killed processes left: on the workers the databases that the coordinator has no more, and on every node the
/// roles of tenants that are in use nowhere. The owner is a member of such a role, and a cluster that does not know all
/// roles that the owner is a member of creates no table for it.
pub(super) async fn drop_leftovers(base: &str) {
    let list = "SELECT datname::text FROM pg_database WHERE datname ~ '^rowhouse_test_[0-9a-f]{8}_[0-9]+$'";
    let roles = "SELECT rolname::text FROM pg_roles WHERE rolname ~ '^tenant_[0-9a-f]{32}$'";
    let coordinator = connect(base).await;
    let mut nodes = Vec::new();
    for worker in workers(base).await {
        let worker = connect(&worker).await;
        // Before those of the coordinator, which has each of them first.
        let there = worker.query(list, &[]).await.expect("databases can be listed");
        let here = coordinator.query(list, &[]).await.expect("databases can be listed");
        let here: Vec<String> = here.iter().map(|row| row.get(0)).collect();
        for name in there.iter().map(|row| row.get::<_, String>(0)) {
            if !here.contains(&name) {
                let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                let _ = worker.batch_execute(&drop).await;
            }
        }
        nodes.push(worker);
    }
    for node in nodes.iter().chain([&coordinator]) {
        let alone = "SET citus.enable_ddl_propagation = off";
        node.batch_execute(alone).await.expect("a superuser may");
        for row in node.query(roles, &[]).await.expect("roles can be listed") {
            // It fails for a role that another process uses.
            let _ = node.batch_execute(&format!("DROP ROLE {}", row.get::<_, String>(0))).await;
        }
    }
}

/// Drops a database on each worker.
pub(super) async fn drop_on_workers(base: &str, database: &str) {
    for worker in workers(base).await {
        let sql = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
        let _ = connect(&worker).await.batch_execute(&sql).await;
    }
}
