//! On a cluster of Citus, where `make test-citus` names one; skipped aloud otherwise.

use std::collections::BTreeMap;
use std::time::Duration;

use rowhouse::app::{Backend, Options};
use rowhouse::config::Settings;
use rowhouse::service::doctor::{Gravity, Selection};
use rowhouse::service::fleet::MigrationRequest;
use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::fleet::fixture::{self, Fixture};
use crate::support::control::transition;
use crate::support::postgres::connect;
use crate::support::{Program, TestApp, TestDatabase, TestEngine, settings_for};

/// Whether the run is on a cluster.
fn is_on_a_cluster(test: &str) -> bool {
    let is = TestEngine::of_run() == TestEngine::Citus;
    if !is {
        eprintln!("SKIPPED, it needs a cluster (make test-citus CITUS_URL=..): {test}");
    }
    is
}

/// Skips a test where there is no cluster.
macro_rules! need_cluster {
    () => {{
        fn here() {}
        if !is_on_a_cluster(std::any::type_name_of_val(&here)) {
            return;
        }
    }};
}

/// Returns the number of the node of each schema of a tenant; -1 for one that is not distributed.
async fn placements(sql: &Client) -> BTreeMap<String, i32> {
    let query = "SELECT n.nspname::text, coalesce(min(p.groupid), -1), count(DISTINCT p.groupid)
                   FROM pg_namespace n
                   JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p')
                   LEFT JOIN pg_dist_shard s ON s.logicalrelid = c.oid
                   LEFT JOIN pg_dist_placement p ON p.shardid = s.shardid
                  WHERE n.nspname ~ '^tenant_[0-9a-f]{32}$'
                  GROUP BY 1";
    let rows = sql.query(query, &[]).await.expect("placements can be read");
    rows.iter()
        .map(|row| {
            assert!(row.get::<_, i64>(2) <= 1, "all tables of a schema are on one node");
            (row.get(0), row.get(1))
        })
        .collect()
}

/// Returns the names of the nodes that take schemas.
async fn nodes(sql: &Client) -> Vec<String> {
    let query = "SELECT format('%s:%s', nodename, nodeport) FROM pg_dist_node
                  WHERE shouldhaveshards AND isactive ORDER BY groupid";
    sql.query(query, &[]).await.expect("nodes can be read").iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_of_each_tenant_is_on_one_node_and_those_of_the_server_on_none() {
    need_cluster!();
    let app = TestApp::builder().with("database.isolation", "").spawn().await;
    for number in 0..4 {
        app.set_up(&format!("t{number}")).await;
    }
    let sql = app.sql().await;
    let placed = placements(&sql).await;
    assert_eq!(placed.len(), 4);
    assert!(placed.values().all(|node| *node >= 0), "{placed:?}");
    let of_server =
        "SELECT count(*) FROM pg_dist_schema s JOIN pg_namespace n ON n.oid = s.schemaid
                      WHERE n.nspname IN ('public', 'extensions')";
    assert_eq!(sql.query_one(of_server, &[]).await.unwrap().get::<_, i64>(0), 0);
    let public =
        "SELECT count(*) FROM pg_dist_partition p JOIN pg_class c ON c.oid = p.logicalrelid
                   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public'";
    assert_eq!(sql.query_one(public, &[]).await.unwrap().get::<_, i64>(0), 0);
    let cluster = app.root().get("/control/v1/cluster").await;
    assert_eq!(cluster.status, 200, "{cluster:?}");
    assert_eq!(cluster.body["engine"], "citus");
    let on_nodes: i64 = cluster.body["nodes"]
        .as_array()
        .expect("nodes are listed")
        .iter()
        .filter_map(|node| node["tenants"].as_i64())
        .sum();
    assert_eq!(on_nodes, 4, "{cluster:?}");
    assert_eq!(cluster.body["undistributed_count"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_is_migrated_in_both_ways_and_every_table_is_distributed() {
    need_cluster!();
    let mut fixture = Fixture::with(0).await;
    let backend = fixture.backend(&[("database.isolation", "search_path")]).await;
    for number in 0..4 {
        fixture.tenants.push(fixture::provision(&backend, &format!("t{number}")).await);
    }
    backend.close().await;
    for file in super::FILES {
        fixture.write(file);
    }
    let values = [("database.isolation", "search_path")];
    let backend = fixture.backend(&values).await;
    let record = fixture::migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(fixture::outcome(&record), ("done", None, [0, 4, 0, 0]));
    backend.close().await;
    fixture.write((
        "V5__more.sql",
        "ALTER TABLE notes ADD COLUMN more text; CREATE INDEX ON notes (more)",
    ));
    let backend = fixture.backend(&values).await;
    let record = fixture::migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(fixture::outcome(&record), ("done", None, [0, 4, 0, 0]));
    let (doctor, ctx) = (&backend.services.doctor, backend.operator());
    let report = doctor.examine(&ctx, &Selection::default()).await.expect("it examines");
    let wrong: Vec<_> = report.findings.iter().filter(|f| f.gravity == Gravity::Wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    backend.close().await;
    let sql = fixture.sql().await;
    let local = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname ~ '^tenant_' AND c.relkind = 'r'
                    AND NOT EXISTS (SELECT FROM pg_dist_partition p WHERE p.logicalrelid = c.oid)";
    assert_eq!(sql.query_one(local, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(fixture.runs().await, [1; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tenant_calls_a_revoked_function_on_its_node_and_a_start_finds_one_that_is_open() {
    need_cluster!();
    let app = TestApp::builder().with("database.isolation", "").spawn().await;
    app.set_up("acme").await;
    let sql = app.superuser_sql().await;
    let open = "SELECT run_command_on_all_nodes($$GRANT EXECUTE ON FUNCTION \
                pg_catalog.set_config(text, text, boolean) TO PUBLIC$$)";
    sql.batch_execute(open).await.expect("a superuser may");
    // The coordinator is closed again: only a node is open.
    sql.batch_execute(
        "REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(text, text, boolean) FROM PUBLIC",
    )
    .await
    .expect("a superuser may");
    let workers = "SELECT count(*) FROM pg_dist_node WHERE groupid <> 0";
    if sql.query_one(workers, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        return; // the coordinator is the only node
    }
    let report = app.services.doctor.examine(&app.operator(), &Selection::default()).await;
    let findings = report.expect("it examines").findings;
    let told: Vec<_> = findings.iter().filter(|f| f.what.contains("set_config")).collect();
    assert!(told.len() >= 2, "the privilege and the self-test: {told:#?}");
    let database = app.stop().await;
    let error = refused(&database, &[("database.isolation", "")]).await;
    assert!(error.contains("set_config") && error.contains("run_command_on_all_nodes"), "{error}");
    let closing = "SELECT run_command_on_all_nodes($$REVOKE EXECUTE ON FUNCTION \
                   pg_catalog.set_config(text, text, boolean) FROM PUBLIC$$)";
    sql.batch_execute(closing).await.expect("a superuser may");
    TestApp::builder().with("database.isolation", "").on(database).spawn().await;
}

/// Selects, for the role `$1`, a call of each function of the extension that it may call and that takes a text, for each of
/// its texts: that one is the statement `$2`, and the others are the name `$3`.
const CALLS: &str = "
    SELECT p.oid::regprocedure::text AS function,
           format('SELECT %s(%s)', p.oid::regproc, (
               SELECT string_agg(CASE
                          WHEN type = 'text'::regtype AND position = at THEN quote_literal($2)
                          WHEN type = 'text'::regtype THEN quote_literal($3)
                          WHEN type = 'boolean'::regtype THEN 'false'
                          WHEN type IN ('integer'::regtype, 'bigint'::regtype) THEN format('1::%s', type)
                          ELSE 'NULL' END, ', ' ORDER BY position)
                 FROM unnest(p.proargtypes) WITH ORDINALITY AS argument (oid, position),
                      LATERAL (SELECT argument.oid::regtype AS type) AS typed)) AS call
      FROM pg_proc p
      JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname <> 'citus_internal'
      JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
      JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'citus',
           unnest(p.proargtypes) WITH ORDINALITY AS texts (oid, at)
     WHERE p.prokind = 'f' AND texts.oid = 'text'::regtype
       AND has_function_privilege($1::text, p.oid, 'EXECUTE')";

/// Returns the functions of the extension with which the role of a tenant becomes that of another.
async fn functions_that_run_a_statement(sql: &Client, role: &str, other: &str) -> Vec<String> {
    let calls = sql.query(CALLS, &[&role, &format!("SET ROLE {other}"), &other]).await;
    let calls = calls.expect("functions can be listed");
    assert!(calls.len() > 30, "{}", calls.len());
    let mut found = Vec::new();
    for row in &calls {
        let (function, call): (&str, &str) = (row.get("function"), row.get("call"));
        let begun = sql.batch_execute(&format!("BEGIN; SET LOCAL ROLE {role}; {call}")).await;
        if begun.is_ok() {
            let current = sql.query_one("SELECT current_user::text", &[]).await.expect("a row");
            if current.get::<_, &str>(0) != role {
                found.push(function.to_owned());
            }
        }
        sql.batch_execute("ROLLBACK").await.expect("a transaction can be rolled back");
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_function_of_citus_runs_a_statement_for_a_tenant_and_a_start_finds_one_that_is_open() {
    need_cluster!();
    let app = TestApp::spawn().await;
    let (acme, globex) = (app.set_up("acme").await.schema(), app.set_up("globex").await.schema());
    // A superuser may become the tenant's role.
    let sql = app.superuser_sql().await;
    let found = functions_that_run_a_statement(&sql, &acme, &globex).await;
    assert_eq!(found, Vec::<String>::new());
    // The test finds one that does, and so does a start.
    let function = "alter_role_if_exists(text,text)";
    let open = format!("GRANT EXECUTE ON FUNCTION {function} TO PUBLIC");
    sql.batch_execute(&open).await.expect("a superuser may");
    assert_eq!(functions_that_run_a_statement(&sql, &acme, &globex).await, [function]);
    let error = refused(&app.stop().await, &[]).await;
    assert!(
        error.contains("remote_commands: ") && error.contains("alter_role_if_exists"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tenant_makes_the_server_connect_to_a_host() {
    need_cluster!();
    let app = TestApp::spawn().await;
    let role = app.set_up("acme").await.schema();
    let sql = app.superuser_sql().await;
    for call in
        ["citus_check_connection_to_node('127.0.0.1', 1)", "citus_check_cluster_node_health()"]
    {
        let call = format!("BEGIN; SET LOCAL ROLE {role}; SELECT {call}");
        let code = sql.batch_execute(&call).await.expect_err(&call).code().cloned();
        assert_eq!(code, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{call}");
        sql.batch_execute("ROLLBACK").await.expect("a transaction can be rolled back");
    }
}

/// Returns why a server does not start.
async fn refused(database: &TestDatabase, values: &[(&'static str, &str)]) -> String {
    refused_at(&database.url(), values).await
}

async fn refused_at(url: &str, values: &[(&'static str, &str)]) -> String {
    let mut all = settings_for(url);
    all.extend(values.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let settings = Settings::from_values(&all).expect("the settings of a test are good");
    let opened = Backend::open(&settings, &Options::default()).await;
    opened.err().expect("it is refused").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_refused_with_the_statement_that_helps() {
    need_cluster!();
    let database = TestDatabase::create().await;
    let superuser = database.connect_as_superuser().await;
    let name = database.name();
    // Another test may change the same role in its own cluster.
    let run = async |sql: &str| {
        for _ in 0..20 {
            match superuser.batch_execute(sql).await {
                Err(error)
                    if error
                        .as_db_error()
                        .is_some_and(|e| e.message().contains("concurrently")) =>
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                outcome => return outcome.unwrap_or_else(|error| panic!("{sql}: {error:?}")),
            }
        }
        panic!("{sql}: others change it all the time");
    };

    run(&format!("ALTER DATABASE {name} SET citus.enable_schema_based_sharding = on")).await;
    let error = refused(&database, &[]).await;
    let statement = format!("ALTER DATABASE {name} RESET citus.enable_schema_based_sharding");
    assert!(error.contains(&statement), "{error}");
    run(&statement).await;

    // Role isolation, while connections to the nodes are kept.
    run(&format!(
        "ALTER ROLE rowhouse_runtime IN DATABASE {name} SET citus.max_cached_conns_per_worker = 1"
    ))
    .await;
    let error = refused(&database, &[("database.isolation", "role")]).await;
    let statement = format!(
        "ALTER ROLE rowhouse_runtime IN DATABASE {name} SET citus.max_cached_conns_per_worker = 0"
    );
    assert!(error.contains(&statement), "{error}");
    run(&statement).await;

    // The owner may run nothing on the nodes.
    run("REVOKE EXECUTE ON FUNCTION master_run_on_worker FROM rowhouse_test_owner, PUBLIC").await;
    let error = refused(&database, &[]).await;
    let (_, statement) = error.split_once("run on the coordinator: ").expect("it has the remedy");
    run(statement).await;

    // A node that was added has no privileges on the database.
    if let Some(worker) = database.worker_urls().await.first() {
        let there = connect(worker).await;
        let revoke = format!("REVOKE CREATE ON DATABASE {name} FROM rowhouse_test_owner");
        for statement in ["SET citus.enable_ddl_propagation = off", &revoke] {
            there.batch_execute(statement).await.expect("the owner of a database may");
        }
        let error = refused(&database, &[]).await;
        let (_, statement) =
            error.split_once("run on the coordinator: ").expect("it has the remedy");
        assert_eq!(statement, format!("GRANT CREATE ON DATABASE {name} TO rowhouse_test_owner"));
        run(statement).await;
    }

    // A role that the cluster has forgotten.
    run("DELETE FROM pg_catalog.pg_dist_object WHERE classid = 'pg_authid'::regclass
            AND objid = 'rowhouse_migrator'::regrole")
    .await;
    let error = refused(&database, &[]).await;
    assert!(error.contains("does not know rowhouse_migrator"), "{error}");
    let (_, statements) = error.split_once("one statement at a time: ").expect("it has the remedy");
    for statement in statements.split("; ") {
        run(statement).await;
    }
    let app = TestApp::builder().on(database.clone()).spawn().await;
    let acme = app.set_up("acme").await;
    drop(app);

    // A tenant's lock is no reason.
    run(&format!("BEGIN; LOCK TABLE {}.profiles", acme.schema())).await;
    let impatient = TestApp::builder().with("database.lock_timeout", "50ms");
    drop(impatient.with("database.isolation", "").on(database.clone()).spawn().await);
    run("ROLLBACK").await;

    // A worker of the same cluster.
    let Some(worker) = database.worker_urls().await.into_iter().next() else { return };
    let error = refused_at(&worker, &[]).await;
    assert!(error.contains("is a worker of a Citus cluster"), "{error}");
    assert!(error.contains("connect to the coordinator"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_has_lost_its_role_keeps_no_server_from_starting() {
    need_cluster!();
    let app = TestApp::spawn().await;
    let schema = app.set_up("acme").await.schema();
    let sql = app.superuser_sql().await;
    for statement in [format!("DROP OWNED BY {schema}"), format!("DROP ROLE {schema}")] {
        sql.batch_execute(&statement).await.expect("a superuser may");
    }
    let app = TestApp::builder().on(app.stop().await).spawn().await;
    let report = app.services.doctor.examine(&app.operator(), &Selection::default()).await;
    let findings = report.expect("it examines").findings;
    let wrong = findings.iter().filter(|found| found.gravity == Gravity::Wrong);
    let wrong: Vec<_> = wrong.map(|found| found.what.as_str()).collect();
    assert_eq!(wrong, ["the tenant's role is missing"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_citus_cannot_take_is_refused_before_the_first_tenant() {
    need_cluster!();
    let database = TestDatabase::create().await;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let write = |name: &str, sql: &str| {
        std::fs::write(folder.path().join(name), sql).expect("a file can be written");
    };
    write("V1__a.sql", "CREATE TABLE a (id int CONSTRAINT a_pkey PRIMARY KEY);");
    write("V2__t.sql", "CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f();");
    let error = refused(
        &database,
        &[("tenant_migrations", folder.path().to_str().expect("a path of letters"))],
    )
    .await;
    assert!(error.contains("V2__t.sql, line 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_moves_with_its_rows_and_its_event_and_is_served_meanwhile() {
    need_cluster!();
    let app = TestApp::builder().with("database.isolation", "").spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    for number in 0..20 {
        tenant.add(json!({ "email": format!("p{number}@example.com") })).await;
    }
    let sql = app.sql().await;
    let all = nodes(&sql).await;
    let program = Program::on(&app.database).with("ROWHOUSE_DATABASE__ISOLATION", "");
    let missing = program.run(&["tenant", "move", "acme", "--to", "nowhere:1"]).expect(2);
    assert!(missing.stderr.contains("there is no such node"), "{missing:?}");
    if all.len() < 2 {
        return;
    }
    let node_of = async || {
        let query = "SELECT format('%s:%s', d.nodename, d.nodeport) FROM pg_dist_shard s
                       JOIN pg_dist_placement p USING (shardid)
                       JOIN pg_dist_node d ON d.groupid = p.groupid
                      WHERE s.logicalrelid = $1::text::regclass";
        let table = format!("{}.profiles", tenant.schema());
        sql.query_one(query, &[&table]).await.expect("it is placed").get::<_, String>(0)
    };
    let from = node_of().await;
    let to = all.iter().find(|node| **node != from).expect("there is another").clone();
    let reading = tenant.admin.clone();
    let reads = tokio::spawn(async move {
        let mut failed = 0;
        for _ in 0..50 {
            failed += usize::from(reading.get("p3@example.com").await.status != 200);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        failed
    });
    let moved = program.run(&["tenant", "move", "acme", "--to", &to, "--json"]).expect(0);
    assert_eq!(moved.json()["to"], to.as_str());
    assert_eq!(reads.await.expect("it does not panic"), 0, "requests that failed meanwhile");
    assert_eq!(node_of().await, to);
    assert_eq!(tenant.admin.get("p7@example.com").await.status, 200);
    let events =
        "SELECT count(*) FROM audit_events WHERE action = 'tenant.move' AND tenant_id = $1";
    let count: i64 = sql.query_one(events, &[&tenant.id]).await.unwrap().get(0);
    assert_eq!(count, 1);
    // Over HTTP, and back.
    let body = json!({ "tenant": "acme", "to": from });
    let answer = app.root().post("/control/v1/cluster/move", &body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    for _ in 0..600 {
        if node_of().await == from {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(node_of().await, from);
    let again = app.root().post("/control/v1/cluster/move", &body).await;
    assert_eq!(again.status, 200, "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_that_were_made_before_are_distributed_with_their_rows() {
    need_cluster!();
    let app = TestApp::builder().with("database.isolation", "").spawn().await;
    let tenants = [app.bunker_tenant("acme").await, app.bunker_tenant("globex").await];
    let sql = app.sql().await;
    for tenant in &tenants {
        tenant.add(json!({ "email": "ada@example.com" })).await;
        let undo = format!("SELECT citus_schema_undistribute('{}')", tenant.schema());
        sql.batch_execute(&undo).await.expect("a schema can be taken back");
    }
    let program = Program::on(&app.database).with("ROWHOUSE_DATABASE__ISOLATION", "");
    let status = program.run(&["cluster", "status"]).expect(0);
    assert!(status.stdout.contains("not distributed: 2 (acme, globex)"), "{status:?}");
    let doctor = program.run(&["doctor"]);
    assert!(doctor.stdout.contains("it is not distributed"), "{doctor:?}");
    let one = program.run(&["cluster", "distribute", "acme"]).expect(0);
    assert!(one.stdout.contains("1 distributed"), "{one:?}");
    let answer = app.root().post("/control/v1/cluster/distribute", &json!({})).await;
    assert_eq!((answer.status, &answer.body["kind"]), (202, &json!("distribute")), "{answer:?}");
    let path = format!("/control/v1/migrations/{}", answer.body["id"].as_str().expect("an id"));
    for _ in 0..600 {
        if app.root().get(&path).await.body["state"] == "done" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let placed = placements(&sql).await;
    assert!(placed.values().all(|node| *node >= 0), "{placed:?}");
    for tenant in &tenants {
        assert_eq!(tenant.admin.get("ada@example.com").await.status, 200);
        tenant.add(json!({ "email": "bob@example.com" })).await;
    }
    let all = program.run(&["cluster", "distribute", "--all"]).expect(0);
    assert!(all.stdout.contains("all of them are distributed"), "{all:?}");
    let events = "SELECT count(*) FROM audit_events WHERE action = 'cluster.distribute'";
    assert!(sql.query_one(events, &[]).await.unwrap().get::<_, i64>(0) >= 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_another_owner_stops_a_purge_with_the_statement_that_helps() {
    need_cluster!();
    let app = TestApp::builder().with("tenants.purge_interval", "1h").spawn().await;
    let acme = app.set_up("acme").await;
    let superuser = app.superuser_sql().await;
    let foreign = format!("CREATE TABLE {}.foreign (id int)", acme.schema());
    superuser.batch_execute(&foreign).await.expect("a superuser may");
    assert_eq!(transition(&app.root(), "acme", "delete").await.status, 200);
    let stopped = Program::on(&app.database).run(&["tenant", "purge", "acme", "--yes"]).expect(1);
    let statement =
        format!("ALTER TABLE {}.\"foreign\" OWNER TO rowhouse_test_owner", acme.schema());
    assert!(stopped.stderr.contains(&statement), "{stopped:?}");
    superuser.batch_execute(&statement).await.expect("a superuser may");
    assert_eq!(transition(&app.root(), "acme", "purge").await.status, 204);
}
