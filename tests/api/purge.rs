//! A purge drops what belongs to the tenant and nothing else.

use reqwest::Method;
use rowhouse::service::tenants::TenantRef;
use serde_json::json;
use tokio_postgres::Client;

use crate::support::callers::send;
use crate::support::control::{assert_problem, events, send_if_match, token_with, transition};
use crate::support::{Program, TestApp, TestDatabase, TestEngine, TestTenant};

/// Starts a server with a deleted tenant, whose background purges do not run.
async fn fixture() -> (TestApp, Program, TestTenant, Client) {
    let app = TestApp::builder().with("tenants.purge_interval", "1h").spawn().await;
    let program = Program::on(&app.database);
    let acme = app.set_up("acme").await;
    app.sql()
        .await
        .batch_execute(
            "CREATE SCHEMA reports; CREATE TABLE reports.kept (id int PRIMARY KEY, note text)",
        )
        .await
        .expect("a schema of the operator can be created");
    assert_eq!(transition(&app.root(), "acme", "delete").await.status, 200);
    let superuser = app.superuser_sql().await;
    (app, program, acme, superuser)
}

/// Runs statements in which `{acme}` stands for the tenant's schema.
async fn run(sql: &Client, acme: &TestTenant, statements: &str) {
    let statements = statements.replace("{acme}", &acme.schema());
    sql.batch_execute(&statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

/// Counts what is outside of the tenant's schema: relations and routines in `reports`, and event triggers.
async fn outside(sql: &Client) -> [i64; 3] {
    let row = sql
        .query_one(
            "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'reports'::regnamespace AND relkind <> 'i'),
                    (SELECT count(*) FROM pg_proc WHERE pronamespace = 'reports'::regnamespace),
                    (SELECT count(*) FROM pg_event_trigger)",
            &[],
        )
        .await
        .expect("objects can be counted");
    [row.get(0), row.get(1), row.get(2)]
}

async fn tables(sql: &Client, acme: &TestTenant) -> i64 {
    let count = "SELECT count(*) FROM pg_tables WHERE schemaname = $1";
    sql.query_one(count, &[&acme.schema()]).await.expect("tables can be counted").get(0)
}

/// One object of every kind that can hang on a tenant from outside, and its name in the list.
const DEPENDENTS: &[(&str, &str)] = &[
    ("CREATE VIEW reports.notes AS SELECT profile_id FROM {acme}.items", "view reports.notes"),
    ("CREATE VIEW reports.above AS SELECT * FROM reports.notes", "view reports.above"),
    (
        "CREATE MATERIALIZED VIEW reports.sums AS SELECT count(*) FROM {acme}.items",
        "materialized view reports.sums",
    ),
    (
        "CREATE TABLE reports.refers (id int REFERENCES {acme}.items)",
        "table constraint refers_id_fkey on reports.refers",
    ),
    (
        "CREATE FUNCTION reports.counts() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM {acme}.items; END",
        "function reports.counts()",
    ),
    (
        "CREATE TABLE reports.defaults (id int DEFAULT {acme}.one())",
        "default value for reports.defaults.id",
    ),
    ("CREATE TABLE reports.moods (id int, mood {acme}.mood)", "table column reports.moods.mood"),
    (
        "CREATE RULE copy AS ON INSERT TO reports.kept DO ALSO INSERT INTO {acme}.items VALUES (new.id)",
        "rule copy on reports.kept",
    ),
    ("CREATE POLICY see ON reports.kept USING (id = {acme}.one())", "policy see on reports.kept"),
    (
        "CREATE TRIGGER touch BEFORE UPDATE ON reports.kept FOR EACH ROW EXECUTE FUNCTION {acme}.touch()",
        "trigger touch on reports.kept",
    ),
    ("CREATE TABLE reports.child () INHERITS ({acme}.items)", "table reports.child"),
    (
        "CREATE TABLE reports.part PARTITION OF {acme}.parted FOR VALUES IN (1)",
        "table reports.part",
    ),
    (
        "CREATE STATISTICS reports.stat ON profile_id, id FROM {acme}.items",
        "statistics object reports.stat",
    ),
    (
        "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION {acme}.watch()",
        "event trigger watch",
    ),
    (
        "CREATE CAST ({acme}.pair AS text) WITH FUNCTION {acme}.show({acme}.pair)",
        "cast ({acme}.pair AS pg_catalog.text)",
    ),
    (
        "CREATE TABLE reports.owned (id int); ALTER TABLE reports.owned OWNER TO {acme}",
        "table reports.owned",
    ),
];

/// Returns those of [`DEPENDENTS`] that the engine has: a table in a distributed schema of Citus is not inherited from, and
/// its partitions are in its own schema.
fn dependents() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let on_a_cluster = TestEngine::of_run() == TestEngine::Citus;
    DEPENDENTS.iter().filter(move |(sql, _)| {
        !on_a_cluster || !(sql.contains(" INHERITS ") || sql.contains(" PARTITION OF "))
    })
}

const IN_THE_TENANT: &str = "
    CREATE TYPE {acme}.mood AS ENUM ('good');
    CREATE TYPE {acme}.pair AS (a int, b int);
    CREATE TABLE {acme}.items (id int PRIMARY KEY, profile_id int);
    CREATE TABLE {acme}.parted (id int PRIMARY KEY) PARTITION BY LIST (id);
    CREATE FUNCTION {acme}.one() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
    CREATE FUNCTION {acme}.show({acme}.pair) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''pair''';
    CREATE FUNCTION {acme}.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
    CREATE FUNCTION {acme}.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    GRANT USAGE, CREATE ON SCHEMA reports TO {acme}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hangs_on_a_tenant_from_outside_stops_its_purge_and_is_listed() {
    let (app, program, acme, sql) = fixture().await;
    run(&app.sql().await, &acme, IN_THE_TENANT).await;
    for (statement, _) in dependents() {
        run(&sql, &acme, statement).await;
    }
    let (before, inside) = (outside(&sql).await, tables(&sql, &acme).await);
    let stopped = program.run(&["tenant", "purge", "acme", "--yes"]).expect(1);
    let mut expected: Vec<String> =
        dependents().map(|(_, name)| name.replace("{acme}", &acme.schema())).collect();
    expected.sort();
    let mut listed: Vec<&str> =
        stopped.stderr.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    listed.sort_unstable();
    assert_eq!(listed, expected, "{}", stopped.stderr);
    assert!(stopped.stderr.contains("tenant acme is not purged"), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("--cascade"), "{}", stopped.stderr);
    assert_eq!((outside(&sql).await, tables(&sql, &acme).await), (before, inside));

    // As if it had not been asked for.
    program.run(&["tenant", "restore", "acme"]).expect(0);
    program.run(&["tenant", "delete", "acme", "--yes"]).expect(0);
    program.run(&["tenant", "purge", "acme", "--yes", "--cascade"]).expect(0);
    // What only had a part that hung on the tenant is still there, without that part.
    let left = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class
                 WHERE relnamespace = 'reports'::regnamespace AND relkind <> 'i'";
    let left: String = sql.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, "defaults kept moods refers");
    assert_eq!(events(&app, acme.id, "tenant.purge").await, 1);
    for (action, key) in [("tenant.purge_cascade", "objects"), ("tenant.purge", "cascaded")] {
        let details = "SELECT details -> $2 FROM audit_events WHERE action = $1";
        let details: serde_json::Value =
            sql.query_one(details, &[&action, &key]).await.unwrap().get(0);
        let mut told: Vec<String> = serde_json::from_value(details).unwrap();
        told.sort();
        assert_eq!(told, expected, "{action}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_dependent_stops_a_purge_alone() {
    let (app, _, acme, sql) = fixture().await;
    run(&app.sql().await, &acme, IN_THE_TENANT).await;
    for (statement, name) in dependents().filter(|(_, name)| *name != "view reports.above") {
        let tx = format!("BEGIN; {statement}");
        // Committed and removed again, because another session looks for it.
        run(&sql, &acme, &tx.replace("BEGIN; ", "")).await;
        let answer = transition(&app.root(), "acme", "purge").await;
        assert_problem(&answer, 409, "tenant_has_dependents");
        let name = name.replace("{acme}", &acme.schema());
        assert!(answer.body["detail"].as_str().unwrap().contains(&name), "{name}: {answer:?}");
        let (kind, object) = match name.split_once(" on reports.") {
            Some((part, table)) => {
                let (kind, part) = part.rsplit_once(' ').unwrap();
                if kind == "table constraint" {
                    ("TABLE", format!("reports.{table}"))
                } else {
                    (kind, format!("{part} ON reports.{table}"))
                }
            }
            None if name.starts_with("default value") => ("TABLE", "reports.defaults".to_owned()),
            None if name.starts_with("table column") => ("TABLE", "reports.moods".to_owned()),
            None if name.starts_with("statistics object") => {
                ("STATISTICS", "reports.stat".to_owned())
            }
            None => {
                let at =
                    name.rfind(" reports.").or(name.rfind(" watch")).or(name.find(" (")).unwrap();
                (&name[..at], name[at..].to_owned())
            }
        };
        run(&sql, &acme, &format!("DROP {kind} {object}")).await;
    }
    assert_eq!(transition(&app.root(), "acme", "purge").await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_means_nothing_without_the_tenant_goes_with_it() {
    let (app, program, acme, sql) = fixture().await;
    run(&app.sql().await, &acme, IN_THE_TENANT).await;
    // A distributed table of Citus refers to none of the coordinator.
    let refers =
        if TestEngine::of_run() == TestEngine::Citus { "" } else { "REFERENCES reports.kept" };
    let other = "CREATE TABLE {acme}.other (id int REFERENCES {acme}.items, kept int";
    run(&app.sql().await, &acme, &format!("{other} {refers})")).await;
    run(
        &sql,
        &acme,
        "CREATE VIEW {acme}.seen AS SELECT kept FROM {acme}.other JOIN reports.kept k ON k.id = kept;
         CREATE PUBLICATION all_of_it FOR TABLE {acme}.items, reports.kept;
         GRANT SELECT ON reports.kept TO {acme};
         ALTER DEFAULT PRIVILEGES FOR ROLE {acme} IN SCHEMA reports GRANT SELECT ON TABLES TO PUBLIC;
         ALTER DEFAULT PRIVILEGES IN SCHEMA reports GRANT SELECT ON TABLES TO {acme};
         CREATE POLICY own ON reports.kept TO {acme} USING (true);
         SELECT lo_create(4711); ALTER LARGE OBJECT 4711 OWNER TO {acme};
         COMMENT ON TABLE {acme}.items IS 'items'",
    )
    .await;
    program.run(&["tenant", "purge", "acme", "--yes"]).expect(0);
    let left = "SELECT (SELECT count(*) FROM pg_publication_tables WHERE pubname = 'all_of_it'),
                       (SELECT count(*) FROM pg_largeobject_metadata WHERE oid = 4711),
                       (SELECT count(*) FROM pg_roles WHERE rolname = $1)";
    let left = sql.query_one(left, &[&acme.schema()]).await.unwrap();
    assert_eq!([left.get::<_, i64>(0), left.get(1), left.get(2)], [1, 0, 0]);
    assert_eq!(events(&app, acme.id, "tenant.purge_cascade").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_depends_on_a_tenant_is_found_without_reading_the_dependencies_of_all_tenants() {
    let (_app, _, acme, sql) = fixture().await;
    let find = include_str!("../../src/pg/schema/dependents.sql");
    let name = format!("'{}'", acme.schema());
    let explain = format!("EXPLAIN {}", find.replace("$1", &name).replace("$2", &name));
    sql.batch_execute("ANALYZE pg_depend").await.unwrap();
    let plan = sql.query(&explain, &[]).await.unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(plan.contains("pg_depend_depender_index"), "{plan}");
    assert!(!plan.contains("Seq Scan on pg_depend"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_session_adds_while_a_purge_waits_stops_it() {
    let (app, _, acme, sql) = fixture().await;
    let mut other = app.sql().await;
    let adding = other.transaction().await.unwrap();
    let view =
        format!("CREATE VIEW reports.late AS SELECT count(*) FROM {}.profiles", acme.schema());
    adding.batch_execute(&view).await.unwrap();
    let root = app.root();
    let purging = tokio::spawn(async move { transition(&root, "acme", "purge").await });
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass";
    let table = format!("{}.profiles", acme.schema());
    while sql.query_one(waits, &[&table]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(!purging.is_finished(), "{:?}", purging.await);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    adding.commit().await.unwrap();
    let stopped = purging.await.unwrap();
    assert_problem(&stopped, 409, "tenant_has_dependents");
    assert!(stopped.body["detail"].as_str().unwrap().contains("view reports.late"), "{stopped:?}");
    sql.batch_execute("SELECT * FROM reports.late; DROP VIEW reports.late").await.unwrap();
    assert_eq!(transition(&app.root(), "acme", "purge").await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_to_cascade_covers_what_was_there_and_survives_an_interruption() {
    let (app, _, acme, sql) = fixture().await;
    let view = "CREATE VIEW reports.one AS SELECT id FROM {acme}.profiles";
    run(&sql, &acme, view).await;
    run(&app.sql().await, &acme, "CREATE TABLE {acme}.aaa (id int)").await;
    // A reader keeps one table from being dropped, so that the purge stops in the middle.
    let mut other = app.sql().await;
    let reading = other.transaction().await.unwrap();
    reading.batch_execute(&format!("SELECT FROM {}.profiles", acme.schema())).await.unwrap();
    let path = "/control/v1/tenants/acme/purge";
    let cascade = json!({ "cascade": true });
    let stopped = send_if_match(&app.root(), Method::POST, path, "*", Some(&cascade)).await;
    assert_problem(&stopped, 503, "lock_timeout");
    run(&sql, &acme, "CREATE VIEW reports.two AS SELECT id FROM {acme}.profiles").await;
    reading.rollback().await.unwrap();
    // As the background task does, which was told nothing.
    let ctx = app.operator();
    assert_eq!(app.services.lifecycle.purge_due(&ctx).await.unwrap(), 0);
    let stopped = transition(&app.root(), "acme", "purge").await;
    assert_problem(&stopped, 409, "tenant_has_dependents");
    let detail = stopped.body["detail"].as_str().unwrap();
    assert!(detail.contains("reports.two") && !detail.contains("reports.one"), "{detail}");
    sql.batch_execute("DROP VIEW reports.two").await.unwrap();
    assert_eq!(app.services.lifecycle.purge_due(&ctx).await.unwrap(), 1);
    let left =
        "SELECT to_regclass('reports.one') IS NULL AND to_regclass('reports.kept') IS NOT NULL";
    assert!(sql.query_one(left, &[]).await.unwrap().get::<_, bool>(0));
    assert_eq!(events(&app, acme.id, "tenant.purge").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_in_another_database_is_named_with_the_statement_that_frees_the_role() {
    let (app, program, acme, _sql) = fixture().await;
    let elsewhere = TestDatabase::create_empty().await;
    let other = elsewhere.connect_as_superuser().await;
    run(
        &other,
        &acme,
        "CREATE TABLE shared (id int); GRANT SELECT ON shared TO {acme};
         CREATE TABLE owned (id int); ALTER TABLE owned OWNER TO {acme}",
    )
    .await;
    let stopped = program.run(&["tenant", "purge", "acme", "--yes", "--cascade"]).expect(1);
    let (schema, name) = (acme.schema(), elsewhere.name());
    assert!(stopped.stderr.contains(&format!("2 objects in database {name}")), "{stopped:?}");
    let owner = app.sql().await.query_one("SELECT current_user::text", &[]).await.unwrap();
    let owner: &str = owner.get(0);
    let statements = format!("REASSIGN OWNED BY {schema} TO {owner}; DROP OWNED BY {schema};");
    assert!(
        stopped.stderr.contains(&format!("run in database {name}: {statements}")),
        "{stopped:?}"
    );
    let problem = transition(&app.root(), "acme", "purge").await;
    assert_problem(&problem, 409, "tenant_role_in_use");
    assert!(tables(&app.sql().await, &acme).await > 0, "nothing was dropped");
    for statement in statements.split_inclusive(';') {
        other.batch_execute(statement).await.unwrap();
    }
    other.batch_execute("SELECT FROM owned").await.expect("the table is another role's now");
    program.run(&["tenant", "purge", "acme", "--yes"]).expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_whose_rights_end_at_the_tenant_learns_no_names_of_what_is_outside() {
    let (app, _, acme, sql) = fixture().await;
    program_restores(&app).await;
    let caller = token_with(&app, &["DELETE_TENANT"], Some(acme.id)).await;
    run(&sql, &acme, "CREATE VIEW reports.secret AS SELECT id FROM {acme}.profiles").await;
    // Databunker's dialect deletes and purges at once.
    let body = json!({ "tenantname": "acme" });
    let request = app.anonymous().request(Method::POST, "/v2/TenantDelete").json(&body);
    let stopped = send(request.header("X-Bunker-Token", &app.root_token)).await;
    assert_eq!(stopped.status, 409, "{stopped:?}");
    assert!(!stopped.text.contains("secret"), "{stopped:?}");
    let status = app.root().get("/control/v1/tenants/acme").await;
    assert_eq!(status.body["status"], "active", "nothing was changed");
    let cascade = json!({ "cascade": true });
    let path = "/control/v1/tenants/acme/purge";
    let refused = send_if_match(&caller, Method::POST, path, "*", Some(&cascade)).await;
    assert!(
        [403, 409].contains(&refused.status) && !refused.text.contains("secret"),
        "{refused:?}"
    );
}

async fn program_restores(app: &TestApp) {
    assert_eq!(transition(&app.root(), "acme", "restore").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vacancy_on_which_something_hangs_is_kept_and_the_others_are_dropped() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database).with("ROWHOUSE_TENANTS__VACANCIES", "3");
    program.run(&["vacancies", "fill"]).expect(0);
    let sql = database.connect().await;
    let schema: String = sql
        .query_one("SELECT 'tenant_' || replace(id::text, '-', '') FROM vacancies LIMIT 1", &[])
        .await
        .unwrap()
        .get(0);
    let view = format!(
        "CREATE SCHEMA reports; CREATE VIEW reports.early AS SELECT id FROM {schema}.profiles"
    );
    sql.batch_execute(&view).await.unwrap();
    let stopped = program.run(&["vacancies", "drop"]).expect(1);
    assert!(stopped.stderr.contains("view reports.early"), "{stopped:?}");
    let left = "SELECT count(*), count(*) FILTER (WHERE nspname = $1) FROM pg_namespace
                 WHERE nspname LIKE 'tenant\\_%'";
    let left = sql.query_one(left, &[&schema]).await.unwrap();
    assert_eq!((left.get::<_, i64>(0), left.get::<_, i64>(1)), (1, 1));
    // The stock is maintained beside it.
    let filled = program.run(&["vacancies", "fill", "--json"]).expect(0).json();
    assert_eq!(
        (&filled["built_count"], &filled["dropped_count"]),
        (&json!(3), &json!(0)),
        "{filled}"
    );
    sql.batch_execute("DROP VIEW reports.early").await.unwrap();
    program.run(&["vacancies", "drop"]).expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_on_which_something_hangs_is_kept() {
    let (_app, program, acme, sql) = fixture().await;
    run(&sql, &acme, "CREATE VIEW reports.notes AS SELECT id FROM {acme}.profiles").await;
    sql.batch_execute("DELETE FROM tenants WHERE slug = 'acme'").await.unwrap();
    let schema = acme.schema();
    let drop = ["doctor", "--fix", "--drop-orphans", schema.as_str(), "--yes"];
    let stopped = program.run(&drop);
    assert!(stopped.code != Some(0), "{stopped:?}");
    let told = format!("{}{}", stopped.stdout, stopped.stderr);
    assert!(told.contains("view reports.notes"), "{told}");
    assert!(tables(&sql, &acme).await > 0, "nothing was dropped");
    sql.batch_execute("DROP VIEW reports.notes").await.unwrap();
    program.run(&drop);
    assert_eq!(tables(&sql, &acme).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_is_due_waits_until_nothing_hangs_on_the_tenant_and_doctor_says_so() {
    let (app, program, acme, sql) = fixture().await;
    run(&sql, &acme, "CREATE VIEW reports.notes AS SELECT id FROM {acme}.profiles").await;
    sql.batch_execute(
        "UPDATE tenants SET purge_after = now() - interval '1 day' WHERE slug = 'acme'",
    )
    .await
    .unwrap();
    let ctx = app.operator();
    for expected in [0, 0] {
        assert_eq!(app.services.lifecycle.purge_due(&ctx).await.unwrap(), expected);
    }
    let doctor = program.run(&["doctor"]).expect(1);
    let told = "it is to be purged by now, and cannot be: ";
    assert!(doctor.stdout.contains(told), "{doctor:?}");
    assert!(doctor.stdout.contains("view reports.notes"), "{doctor:?}");
    let which = TenantRef::Id(rowhouse::domain::TenantId::new(acme.id));
    let listed = app.services.lifecycle.read_dependents(&ctx, &which).await.unwrap();
    assert_eq!(listed, ["view reports.notes"]);
    sql.batch_execute("DROP VIEW reports.notes").await.unwrap();
    assert_eq!(app.services.lifecycle.purge_due(&ctx).await.unwrap(), 1);
}
