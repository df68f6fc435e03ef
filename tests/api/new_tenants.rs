//! New tenants from sets whose files do not all run in one transaction, and while none can be made.

use std::time::{Duration, Instant};

use rowhouse::app::{Backend, Options};
use rowhouse::config::Settings;
use serde_json::json;

use crate::support::callers::Answer;
use crate::support::migration_lock::{folder_of, with_migrations};
use crate::support::{Snapshot, StrayRoles, TestApp, TestDatabase, settings_for};

const SETUP: &str = "/api/tenant/setup";

/// A value is added to an enum and used in the next file, and again in a later one.
const ENUM: &[(&str, &str)] = &[
    (
        "V1__kinds.sql",
        "CREATE TYPE kind AS ENUM ('red', 'blue');
         CREATE TABLE things (id int CONSTRAINT things_pkey PRIMARY KEY, k kind NOT NULL DEFAULT 'red')",
    ),
    ("V2__green.sql", "ALTER TYPE kind ADD VALUE 'green'"),
    ("V3__default.sql", "ALTER TABLE things ALTER COLUMN k SET DEFAULT 'green'"),
    ("V4__rows.sql", "INSERT INTO things (id) VALUES (1)"),
    ("V5__index.sql", "-- rowhouse: no-transaction\nCREATE INDEX CONCURRENTLY things_k_idx ON things (k)"),
];

/// The last file cannot run.
const UNBUILDABLE: &[(&str, &str)] = &[
    ("V1__create_notes.sql", "CREATE TABLE notes (id uuid CONSTRAINT notes_pkey PRIMARY KEY)"),
    ("V2__create_tags.sql", "SELECT 1;\n\nCREATE INDEX tags_idx ON tags (id)"),
];

async fn set_up(app: &TestApp, slug: &str) -> Answer {
    app.root().post(SETUP, &TestApp::setup_body(slug)).await
}

async fn value_of(app: &TestApp, metric: &str) -> String {
    let text = app.anonymous().get("/metrics").await.text;
    let line = text.lines().find(|line| line.starts_with(metric)).unwrap_or_default().to_owned();
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// Waits until the background check has found out whether new tenants can be made.
async fn wait_until_blocked(app: &TestApp, blocked: &str) {
    for _ in 0..1000 {
        if value_of(app, "rowhouse_new_tenants_blocked").await == blocked {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("rowhouse_new_tenants_blocked never becomes {blocked}");
}

#[tokio::test]
async fn a_set_that_needs_commits_between_its_files_makes_whole_tenants() {
    for (vacancies, isolation) in [("0", "role"), ("2", "role"), ("0", "search_path")] {
        let builder = TestApp::builder()
            .with("tenants.vacancies", vacancies)
            .with("database.isolation", isolation);
        let app = with_migrations(builder, ENUM).await;
        let slugs = ["one", "two", "three", "four"];
        let answers = futures_util::future::join_all(slugs.map(|slug| set_up(&app, slug))).await;
        for answer in &answers {
            assert_eq!(answer.status, 201, "{vacancies} {isolation}: {answer:?}");
        }
        let sql = app.sql().await;
        let schemas = "SELECT 'tenant_' || replace(id::text, '-', '') AS schema FROM tenants";
        let schemas = sql.query(schemas, &[]).await.unwrap();
        assert_eq!(schemas.len(), 4);
        for row in schemas {
            let schema: String = row.get("schema");
            let k = format!("SELECT k::text FROM {schema}.things");
            assert_eq!(sql.query_one(&k, &[]).await.unwrap().get::<_, &str>("k"), "green");
        }
        let (doctor, ctx) = (&app.services.doctor, app.operator());
        let report = doctor.examine(&ctx, &rowhouse::service::doctor::Selection::default()).await;
        let of_tenants: Vec<_> = report
            .unwrap()
            .findings
            .into_iter()
            .filter(|f| f.subject.as_ref().is_some_and(|s| s.slug.is_some()))
            .collect();
        assert!(of_tenants.is_empty(), "{of_tenants:?}");
    }
}

#[tokio::test]
async fn the_main_tenant_is_made_in_steps_too() {
    let app = with_migrations(TestApp::builder(), ENUM).await;
    let made = app.bunker_root().call("TenantGet", json!({ "tenantname": "main" })).await;
    assert!(made.status < 500, "{made:?}");
    let sql = app.sql().await;
    let main = "SELECT count(*) FROM tenants t JOIN pg_namespace n
                    ON n.nspname = 'tenant_' || replace(t.id::text, '-', '')";
    let tenants: i64 = sql.query_one("SELECT count(*) FROM tenants", &[]).await.unwrap().get(0);
    let schemas: i64 = sql.query_one(main, &[]).await.unwrap().get(0);
    assert_eq!(tenants, schemas);
}

#[tokio::test]
async fn a_set_up_in_steps_that_is_refused_leaves_no_tenant() {
    let app = with_migrations(TestApp::builder().with("tenants.vacancies", "0"), ENUM).await;
    assert_eq!(set_up(&app, "acme").await.status, 201);
    let strays = StrayRoles::of(&app).await;
    assert_eq!(set_up(&app, "acme").await.status, 409);
    let ours = "SELECT count(*) FROM tenants";
    assert_eq!(app.sql().await.query_one(ours, &[]).await.unwrap().get::<_, i64>(0), 1);
    // What was built for it is a vacancy, which the next set-up takes or a replenisher drops.
    assert_eq!(set_up(&app, "globex").await.status, 201);
    strays.assert_no_more(&app).await;
}

#[tokio::test]
async fn while_no_tenant_can_be_made_readiness_metrics_and_set_ups_say_so() {
    let app = with_migrations(TestApp::builder(), UNBUILDABLE).await;
    wait_until_blocked(&app, "1").await;
    let ready = app.anonymous().get("/readyz").await;
    assert_eq!((ready.status, &ready.body["new_tenants"]), (200, &json!("blocked")), "{ready:?}");
    let token = crate::support::control::token_with(&app, &["CREATE_TENANT"], None).await;
    let before = Snapshot::of(&app).await;
    let told = set_up(&app, "acme").await;
    let cause = "no new tenant can be made from the migrations: V2__create_tags.sql, line 3: relation \"tags\" does not \
                 exist (SQLSTATE 42P01), in: CREATE INDEX tags_idx ON tags (id)";
    assert_eq!(told.refusal(503), cause);
    // A caller who may not migrate learns that an operator must act, and no more.
    let told = token.post(SETUP, &TestApp::setup_body("acme")).await;
    assert!(
        told.refusal(503).ends_with("`rowhouse migrate` and the log of the server tell the reason")
    );
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn new_tenants_are_possible_again_once_the_database_is_repaired() {
    let needs_extension = &[(
        "V1__create_notes.sql",
        "CREATE TABLE notes (id uuid CONSTRAINT notes_pkey PRIMARY KEY, name extensions.citext)",
    )];
    let app = with_migrations(TestApp::builder(), needs_extension).await;
    wait_until_blocked(&app, "1").await;
    app.sql().await.batch_execute("CREATE EXTENSION citext SCHEMA extensions").await.unwrap();
    assert_eq!(set_up(&app, "acme").await.status, 201);
    wait_until_blocked(&app, "0").await;
    assert_eq!(app.anonymous().get("/readyz").await.body, json!({ "status": "ok" }));
}

#[tokio::test]
async fn an_extension_in_its_schema_is_created_by_the_owner_and_usable_in_every_tenant() {
    let files = &[
        (
            "V1__create_notes.sql",
            "CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA extensions;
             CREATE TABLE notes (id uuid CONSTRAINT notes_pkey PRIMARY KEY, name citext)",
        ),
        (
            "V2__create_tags.sql",
            "CREATE TABLE tags (id uuid CONSTRAINT tags_pkey PRIMARY KEY, name citext)",
        ),
    ];
    let app = with_migrations(TestApp::builder().with("tenants.vacancies", "0"), files).await;
    for slug in ["one", "two"] {
        assert_eq!(set_up(&app, slug).await.status, 201, "{slug}");
    }
    let sql = app.sql().await;
    let owner = "SELECT pg_get_userbyid(extowner) <> 'rowhouse_migrator' FROM pg_extension WHERE extname = 'citext'";
    assert!(sql.query_one(owner, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn what_a_process_that_died_has_begun_in_steps_is_finished_by_the_next() {
    let app = with_migrations(TestApp::builder().with("tenants.vacancies", "0"), ENUM).await;
    assert_eq!(set_up(&app, "acme").await.status, 201);
    // As a process leaves it that dies between two files: the row, the role, the schema and a part of the history.
    let sql = app.sql().await;
    let row = sql
        .query_one("SELECT id, replace(id::text, '-', '') AS hex FROM tenants", &[])
        .await
        .unwrap();
    let (old, new) = (row.get::<_, String>("hex"), uuid::Uuid::now_v7());
    let hex = new.simple();
    let left = format!(
        "DELETE FROM memberships; DELETE FROM tenants;
         INSERT INTO vacancies (id, state, isolation, cluster, migrations_version, migrations_fingerprint, created_at)
         VALUES ('{new}', 'building', 'role', 'default', {version}, '{fingerprint}', now());
         ALTER SCHEMA tenant_{old} RENAME TO tenant_{hex};
         ALTER ROLE tenant_{old} RENAME TO tenant_{hex};
         DROP INDEX tenant_{hex}.things_k_idx;
         DELETE FROM tenant_{hex}.refinery_schema_history WHERE version >= 5",
        version = app.services.fleet.set().version(),
        fingerprint = app.services.fleet.set().fingerprint(),
    );
    // Each by itself, because a node of a cluster takes one statement a message, and all at once for the running process.
    for statement in format!("BEGIN; {left}; COMMIT").split(';') {
        sql.batch_execute(statement).await.unwrap();
    }
    let database = app.stop().await;
    // The check of the first process may have left one too.
    let app =
        with_migrations(TestApp::builder().on(database).with("tenants.vacancies", "3"), ENUM).await;
    app.services.vacancies.fill(&app.operator()).await.unwrap();
    let sql = app.sql().await;
    let built = format!("SELECT to_regclass('tenant_{hex}.things_k_idx') IS NOT NULL");
    assert!(sql.query_one(&built, &[]).await.unwrap().get::<_, bool>(0));
    let ready = format!("SELECT state FROM vacancies WHERE id = '{new}'");
    assert_eq!(sql.query_one(&ready, &[]).await.unwrap().get::<_, &str>(0), "ready");
}

#[tokio::test]
async fn two_that_build_one_schema_in_steps_take_turns() {
    let (database, folder) = (TestDatabase::create().await, folder_of(ENUM));
    let mut values = settings_for(&database.url());
    values.push(("tenants.vacancies", "1".to_owned()));
    values.push(("tenant_migrations", folder.path().display().to_string()));
    values.push(("database.lock_timeout", "30s".to_owned()));
    let settings = Settings::from_values(&values).expect("the settings are good");
    // It has no jobs in the background.
    let backend = Backend::open(&settings, &Options::default()).await.expect("it opens");
    let (services, ctx) = (&backend.services, backend.operator());
    services.provisioning.check(&ctx).await.expect("a tenant can be made");
    // As a process leaves it that dies before the first file: the row and the role.
    let (sql, new) = (database.connect().await, uuid::Uuid::now_v7());
    let left = format!(
        "CREATE ROLE tenant_{hex} NOLOGIN; GRANT tenant_{hex} TO rowhouse_runtime;
         INSERT INTO vacancies (id, state, isolation, cluster, migrations_version, migrations_fingerprint, created_at)
         VALUES ('{new}', 'building', 'role', 'default', {version}, '{fingerprint}', now());
         BEGIN; SELECT FROM vacancies WHERE id = '{new}' FOR UPDATE",
        hex = new.simple(),
        version = services.fleet.set().version(),
        fingerprint = services.fleet.set().fingerprint(),
    );
    for statement in left.split(';') {
        sql.batch_execute(statement).await.unwrap();
    }
    let release = async {
        // In the open transaction the view would stay as it was at first.
        let (watcher, since) = (database.connect().await, Instant::now());
        let waiting = "SELECT count(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < 2 {
            assert!(since.elapsed() < Duration::from_secs(20), "two do not wait for the row");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sql.batch_execute("COMMIT").await.unwrap();
    };
    let (one, other, ()) =
        tokio::join!(services.vacancies.fill(&ctx), services.vacancies.fill(&ctx), release);
    one.unwrap();
    other.unwrap();
    let states = "SELECT string_agg(state, ' ') FROM vacancies";
    assert_eq!(sql.query_one(states, &[]).await.unwrap().get::<_, &str>(0), "ready");
    backend.close().await;
}

#[tokio::test]
async fn a_schema_that_is_built_to_be_looked_at_never_takes_a_tenants_tables_with_it() {
    let app = with_migrations(TestApp::builder().with("tenants.vacancies", "4"), ENUM).await;
    let check = async {
        for _ in 0..6 {
            // Refused where the stock's job finishes the schema each time.
            let _outcome = app.services.provisioning.check(&app.operator()).await;
        }
    };
    let set_ups = async {
        for number in 0..12 {
            let answer = set_up(&app, &format!("t{number}")).await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
    };
    // Refused where others change the stock for too long.
    let operator = app.operator();
    let filling = app.services.vacancies.fill(&operator);
    let _outcomes = Box::pin(futures_util::future::join3(check, set_ups, filling)).await;
    let sql = app.sql().await;
    let tenants = "SELECT 'tenant_' || replace(id::text, '-', '') AS schema FROM tenants";
    for row in sql.query(tenants, &[]).await.unwrap() {
        let rows = format!("SELECT count(*) FROM {}.things", row.get::<_, &str>("schema"));
        assert_eq!(sql.query_one(&rows, &[]).await.unwrap().get::<_, i64>(0), 1);
    }
}
