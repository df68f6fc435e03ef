//! The engine Citus: what is sent to it, what its errors mean, and what is done where a node is away.
//!
//! The tests here run on an ordinary PostgreSQL that is taken for a cluster: they are about what our code does. Those in
//! [`cluster`] run on a cluster, where there is one (`make test-citus`).

mod cluster;

use rowhouse::service::doctor::{Orphans, Selection};
use rowhouse::service::fleet::MigrationRequest;
use rowhouse::service::vacancies::TendOutcome;
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::fleet::fixture::{self, Fixture};
use crate::support::recording::{Recording, Rules};
use crate::support::{Program, TestApp, TestDatabase, TestEngine};
use crate::vacancies::process::Process;

/// The settings of a server that takes its database for a cluster.
const FORCED: (&str, &str) = ("database.engine", "citus");

/// Whether the servers of this run are recorded and forced anyway, or on a cluster.
fn is_ordinary_run() -> bool {
    TestEngine::of_run() == TestEngine::Postgres
}

/// A set of files with all that Citus hands to its nodes as text.
const FILES: [(&str, &str); 3] = [
    fixture::SECOND,
    (
        "V3__index.sql",
        "-- rowhouse: no-transaction\nCREATE INDEX CONCURRENTLY notes_runs_idx ON notes (runs);\n\
         ALTER TABLE notes ADD COLUMN late text;",
    ),
    (
        "V4__key.sql",
        "CREATE TABLE lines (id uuid CONSTRAINT lines_pkey PRIMARY KEY, note integer NOT NULL);
         ALTER TABLE lines ADD CONSTRAINT lines_note_fkey FOREIGN KEY (note) REFERENCES notes (id);
         DROP INDEX notes_mood_idx;
         ALTER TABLE notes DROP COLUMN mood;",
    ),
];

/// Does everything to tenants that sends DDL: set-ups with and without a vacancy, migrations of all paths, an examination,
/// a purge. Returns what was sent.
async fn everything(forced: bool, isolation: &'static str) -> Recording {
    let fixture = Fixture::with(0).await;
    let recording = Recording::start(&fixture.database.url(), Rules::All);
    let mut values = vec![
        ("database.url", recording.url.as_str()),
        ("database.isolation", isolation),
        ("tenants.vacancies", "1"),
    ];
    values.extend(forced.then_some(FORCED));
    let backend = fixture.backend(&values).await;
    fixture::provision(&backend, "built").await;
    backend.services.vacancies.fill(&backend.operator()).await.expect("a vacancy can be built");
    fixture::provision(&backend, "taken").await;
    backend.services.vacancies.fill(&backend.operator()).await.expect("a vacancy can be built");
    backend.close().await;
    for file in FILES {
        fixture.write(file);
    }
    let backend = fixture.backend(&values).await;
    let record = fixture::migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(record.counts.done, 2, "{record:?}");
    // With the files of one transaction alone, a tenant is migrated in the fast way.
    fixture.write((
        "V5__more.sql",
        "ALTER TABLE notes ADD COLUMN more text; CREATE INDEX ON notes (more)",
    ));
    backend.close().await;
    let backend = fixture.backend(&values).await;
    let record = fixture::migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(record.counts.done, 2, "{record:?}");
    let (services, ctx) = (&backend.services, backend.operator());
    services.vacancies.rebuild_stale(&ctx).await.expect("vacancies can be migrated");
    let report = services.doctor.examine(&ctx, &Selection::default()).await.expect("it examines");
    let ours: Vec<_> = report.findings.iter().filter(|found| found.subject.is_some()).collect();
    assert!(ours.iter().all(|found| found.what.contains("belongs to no tenant")), "{ours:#?}");
    let program = Program::on(&fixture.database)
        .with("ROWHOUSE_TENANT_MIGRATIONS", &fixture.folder.path().display().to_string())
        .with("DATABASE_URL", &recording.url)
        .with("ROWHOUSE_DATABASE__ISOLATION", isolation)
        .with("ROWHOUSE_DATABASE__ENGINE", if forced { "citus" } else { "" });
    program.run(&["tenant", "delete", "built", "--yes"]).expect(0);
    program.run(&["tenant", "purge", "built", "--yes"]).expect(0);
    backend.close().await;
    recording
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_to_citus_is_what_its_nodes_take() {
    if TestEngine::of_run() == TestEngine::Citus {
        return; // the same rules are checked on all that the suite sends
    }
    for isolation in ["search_path", "role"] {
        let recording = everything(true, isolation).await;
        assert!(recording.violations().is_empty(), "{:#?}", recording.violations());
        let messages = recording.messages();
        let count = |begin: &str| {
            let alone = messages.iter().filter(|text| text.trim_start().starts_with(begin));
            alone.count()
        };
        assert!(count("CREATE INDEX") >= 4, "{}", count("CREATE INDEX"));
        assert!(count("ALTER TABLE") >= 4, "{}", count("ALTER TABLE"));
        assert!(count("CREATE SCHEMA tenant_") >= 3, "{}", count("CREATE SCHEMA"));
        let login = messages.iter().any(|text| text.contains(" LOGIN NOINHERIT"));
        assert_eq!(login, isolation == "role", "the nodes are entered as the tenant's role");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_postgresql_gets_several_statements_in_a_message_and_no_setting_of_citus() {
    if !is_ordinary_run() {
        return;
    }
    let messages = everything(false, "role").await.messages();
    let of_citus: Vec<_> = messages
        .iter()
        .filter(|text| text.contains("citus.") || text.contains("run_command_on"))
        .collect();
    assert!(of_citus.is_empty(), "{of_citus:#?}");
    let joined =
        messages.iter().filter(|text| text.contains("CREATE INDEX") && text.contains(";\n"));
    assert!(joined.count() > 2, "files are sent whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_of_an_error_is_right_when_each_statement_has_a_message_of_its_own() {
    for (sql, line) in [
        ("SELECT 1;\n\nCREATE TABLE a (id int);\nSELECT nothing\n  FROM a;\nSELECT 2;", 4),
        ("SELECT 1;\nCREATE TABLE a (id int);\n\nSELECT 1,\n  2 2;\nSELECT 2;", 5),
        // The server gives no position.
        ("SELECT 1;\nSELECT 2;\n\nSELECT 1 / 0;\nSELECT 2;", 4),
        ("SELECT 'é', ';';\nSELECT 'é',\n nothing;", 3),
    ] {
        let mut fixture = Fixture::with(0).await;
        let backend = fixture.backend(&[FORCED]).await;
        fixture.tenants.push(fixture::provision(&backend, "acme").await);
        backend.close().await;
        fixture.write(("V2__fails.sql", sql));
        let ran = fixture.program().with("ROWHOUSE_DATABASE__ENGINE", "citus").run(&[
            "migrate",
            "--rehearse",
            "acme",
        ]);
        let text = format!("{}{}", ran.stdout, ran.stderr);
        assert!(text.contains(&format!("line {line}")), "{sql}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_of_an_error_is_right_where_the_commit_is_sent_behind_the_statement() {
    let fixture = Fixture::with(1).await;
    let two = format!("INSERT INTO {}.notes VALUES (2, 0)", fixture.schema(0));
    fixture.sql().await.batch_execute(&two).await.expect("a row can be added");
    // It fails in a tenant with two notes, and not in the new one that is tried before.
    fixture.write((
        "V2__fails.sql",
        "UPDATE notes SET runs = 1;\nSELECT 1 / (count(*) - 2) FROM notes;\nSELECT 1;",
    ));
    let program = fixture.program().with("ROWHOUSE_DATABASE__ENGINE", "citus");
    let ran = program.run(&["migrate"]).expect(3);
    let told = "t0: failed: V2__fails.sql, line 2: division by zero";
    assert!(ran.stderr.contains(told), "{ran:?}");
}

#[tokio::test]
async fn the_engine_is_told_in_the_metrics_and_by_doctor() {
    if !is_ordinary_run() {
        return;
    }
    for (value, engine) in [(None, "postgres"), (Some("citus"), "citus")] {
        let mut builder = TestApp::builder();
        if let Some(value) = value {
            builder = builder.with("database.engine", value);
        }
        let app = builder.spawn().await;
        let metrics = app.anonymous().get("/metrics").await.text;
        let line = format!("rowhouse_db_engine{{engine=\"{engine}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
        let cluster = app.root().get("/control/v1/cluster").await;
        assert_eq!(cluster.status, 200, "{cluster:?}");
        assert_eq!(cluster.body["engine"], engine);
        assert_eq!(cluster.body["nodes"], json!([]));
        let doctor = Program::on(&app.database)
            .with("ROWHOUSE_DATABASE__ENGINE", value.unwrap_or_default())
            .run(&["doctor", "--json"]);
        assert_eq!(doctor.json()["engine"], engine);
    }
}

#[tokio::test]
async fn a_role_that_doctor_creates_again_may_log_in_as_the_coordinator_does() {
    let builder = TestApp::builder().with(FORCED.0, FORCED.1).with("database.isolation", "role");
    let app = builder.spawn().await;
    let schema = app.set_up("acme").await.schema();
    let sql = app.superuser_sql().await;
    for statement in [format!("DROP OWNED BY {schema}"), format!("DROP ROLE {schema}")] {
        sql.batch_execute(&statement).await.expect("a superuser may");
    }
    let (doctor, ctx) = (&app.services.doctor, app.operator());
    doctor.repair(&ctx, &Selection::default(), &Orphans::Keep).await.expect("it repairs");
    let may = "SELECT rolcanlogin FROM pg_roles WHERE rolname = $1";
    assert!(sql.query_one(may, &[&schema]).await.expect("it is there").get::<_, bool>(0));
}

#[tokio::test]
async fn search_path_is_the_isolation_on_citus_unless_another_is_set() {
    if !is_ordinary_run() {
        return;
    }
    let app = TestApp::builder().with("database.engine", "citus").spawn().await;
    let tenant = app.set_up("acme").await;
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname = $1";
    let count: i64 = app.sql().await.query_one(roles, &[&tenant.schema()]).await.unwrap().get(0);
    assert_eq!(count, 0, "no tenant has a role");
}

#[tokio::test]
async fn one_server_is_no_cluster() {
    if !is_ordinary_run() {
        return;
    }
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let distributed = app.root().post("/control/v1/cluster/distribute", &json!({})).await;
    assert_eq!((distributed.status, &distributed.body["code"]), (409, &json!("no_cluster")));
    let body = json!({ "tenant": "acme", "to": "worker-1:5432" });
    let moved = app.root().post("/control/v1/cluster/move", &body).await;
    assert_eq!((moved.status, &moved.body["code"]), (409, &json!("no_cluster")));
    let program = Program::on(&app.database);
    let status = program.run(&["cluster", "status"]).expect(0);
    assert!(status.stdout.contains("one server, and no cluster"), "{status:?}");
    assert_eq!(
        program.run(&["cluster", "status", "--json"]).expect(0).json()["engine"],
        "postgres"
    );
    let moved = program.run(&["tenant", "move", "acme", "--to", "worker-1:5432"]).expect(5);
    assert!(moved.stderr.contains("not a Citus cluster"), "{moved:?}");
    let distributed = program.run(&["cluster", "distribute", "--all"]).expect(5);
    assert!(distributed.stderr.contains("not a Citus cluster"), "{distributed:?}");
    program.run(&["cluster", "distribute"]).expect(2);
}

// ---- a node that is away ----------------------------------------------------------------------

/// The errors of Citus that say that a node is away: SQLSTATE and text.
const AWAY: [(&str, &str); 2] = [
    (
        "08006",
        "connection to the remote node rowhouse_runtime@worker-1:5432 failed with the following error: x",
    ),
    ("XX000", "failure on connection marked as essential: worker-1:5432"),
];

/// Makes every read of a table of a tenant fail with an error, as if its node said so. The table keeps what it holds under
/// another name.
async fn fail(sql: &Client, schema: &str, table: &str, (state, text): (&str, &str)) {
    let script = format!(
        "ALTER TABLE {schema}.{table} RENAME TO {table}_kept;
         CREATE FUNCTION {schema}.fail() RETURNS boolean LANGUAGE plpgsql AS
             $f$ BEGIN RAISE EXCEPTION '{text}' USING ERRCODE = '{state}'; END $f$;
         CREATE VIEW {schema}.{table} AS
             SELECT k.* FROM {schema}.{table}_kept k RIGHT JOIN (SELECT {schema}.fail() AS yes OFFSET 0) f ON f.yes;
         GRANT ALL ON {schema}.{table} TO PUBLIC;
         GRANT EXECUTE ON FUNCTION {schema}.fail() TO PUBLIC;"
    );
    sql.batch_execute(&script).await.unwrap_or_else(|error| panic!("{script}: {error:?}"));
}

/// Takes back what [`fail`] did.
async fn mend(sql: &Client, schema: &str, table: &str) {
    let script = format!(
        "DROP VIEW {schema}.{table}; DROP FUNCTION {schema}.fail();
         ALTER TABLE {schema}.{table}_kept RENAME TO {table};"
    );
    sql.batch_execute(&script).await.expect("the table is there");
}

#[tokio::test]
async fn a_tenant_whose_node_is_away_answers_503_and_another_error_of_its_node_500() {
    if TestEngine::of_run() == TestEngine::Citus {
        return; // a function of a test cannot be called on a node
    }
    let app = TestApp::spawn().await;
    let (acme, other) = (app.bunker_tenant("acme").await, app.bunker_tenant("other").await);
    let sql = app.superuser_sql().await;
    acme.add(json!({ "email": "ada@example.com" })).await;
    for (error, status) in [
        (AWAY[0], 503),
        (AWAY[1], 503),
        (("XX000", "triggers are not supported on distributed tables"), 500),
    ] {
        fail(&sql, &acme.schema(), "profiles", error).await;
        let answer = acme.admin.get("ada@example.com").await;
        assert_eq!(answer.status, status, "{error:?}: {answer:?}");
        assert_eq!(answer.header("retry-after").is_some(), status == 503, "{answer:?}");
        let answer = other.admin.get("ada@example.com").await;
        assert_eq!(answer.status, 404, "{answer:?}");
        mend(&sql, &acme.schema(), "profiles").await;
    }
}

#[tokio::test]
async fn doctor_names_a_tenant_that_cannot_be_read_and_examines_the_others() {
    if TestEngine::of_run() == TestEngine::Citus {
        return; // a function of a test cannot be called on a node
    }
    let app = TestApp::spawn().await;
    let (acme, globex) = (app.set_up("acme").await, app.set_up("globex").await);
    let sql = app.superuser_sql().await;
    sql.batch_execute(&format!("ALTER TABLE {}.profiles DROP COLUMN updated_at", globex.schema()))
        .await
        .expect("there is such a column");
    for error in AWAY {
        fail(&sql, &acme.schema(), "refinery_schema_history", error).await;
        let report = app.services.doctor.examine(&app.operator(), &Selection::default()).await;
        let report = report.expect("it examines the others");
        let of = |tenant: Uuid| {
            let ours = report.findings.iter().filter(move |found| {
                found.subject.as_ref().is_some_and(|subject| subject.id.uuid() == tenant)
            });
            ours.map(|found| found.what.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(acme.id).len(), 1, "{:?}", of(acme.id));
        assert!(of(acme.id)[0].contains("its node is away"), "{:?}", of(acme.id));
        assert!(of(globex.id)[0].contains("updated_at is missing"), "{:?}", of(globex.id));
        mend(&sql, &acme.schema(), "refinery_schema_history").await;
    }
}

#[tokio::test]
async fn a_set_up_passes_over_a_vacancy_whose_node_is_away_until_it_answers() {
    if TestEngine::of_run() == TestEngine::Citus {
        return; // a function of a test cannot be called on a node
    }
    let database = TestDatabase::create().await;
    let sql = database.connect_as_superuser().await;
    let process = Process::start(&database, 2, None, &[FORCED]).await;
    process.fill().await;
    let stock = crate::vacancies::process::vacancies(&sql, "ready").await;
    let [first, second] = stock.as_slice() else { panic!("{stock:?}") };
    let schema = format!("tenant_{}", first.simple());
    fail(&sql, &schema, "refinery_schema_history", AWAY[0]).await;
    // That the table was renamed is no part of this test.
    sql.batch_execute("UPDATE vacancies SET catalog_digest = NULL").await.unwrap();
    assert_eq!(process.set_up("acme").await, *second, "the oldest is on the node that is away");
    let away = "SELECT id FROM vacancies WHERE away_at IS NOT NULL";
    let found: Vec<Uuid> =
        sql.query(away, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(found, [*first]);
    // The job asks it, and leaves it.
    process.replenish_fully().await;
    assert_eq!(sql.query(away, &[]).await.unwrap().len(), 1);
    mend(&sql, &schema, "refinery_schema_history").await;
    assert_ne!(process.replenish_once().await, TendOutcome::Busy);
    assert!(sql.query(away, &[]).await.unwrap().is_empty(), "its node answers again");
    assert_eq!(process.set_up("globex").await, *first);
    process.close().await;
}

#[tokio::test]
async fn what_an_extension_creates_in_public_is_no_breach() {
    let app = TestApp::spawn().await;
    app.superuser_sql()
        .await
        .batch_execute(
            "CREATE EXTENSION pg_stat_statements SCHEMA public; GRANT SELECT ON public.pg_stat_statements TO PUBLIC",
        )
        .await
        .expect("the extension is installed with the server");
    let report = app.services.doctor.examine(&app.operator(), &Selection::default()).await;
    let findings = report.expect("it examines").findings;
    let about: Vec<_> = findings.iter().filter(|f| f.what.contains("pg_stat_statements")).collect();
    assert!(about.is_empty(), "{about:#?}");
}

#[tokio::test]
async fn the_settings_name_the_engine_only_to_the_test_suite() {
    let known: Vec<&str> = rowhouse::config::KEYS.iter().map(|(key, ..)| *key).collect();
    assert!(!known.contains(&"database.engine"), "it is in no table");
}
