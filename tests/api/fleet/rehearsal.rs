//! A rehearsal reports what a migration would do and leaves no change.

use rowhouse::domain::TenantId;
use rowhouse::service::fleet::{RehearsalTarget, SchemaOwner, TrialEnd};
use serde_json::{Value, json};

use super::control::serve;
use super::fixture::{FIRST, Fixture, MigrationLock, SECOND, WAITS_FOR_LOCK, provision, wait_for};
use crate::support::control::{assert_problem, pointers};
use crate::support::{Program, Snapshot, TestApp};

const REHEARSALS: &str = "/control/v1/rehearsals";
const MIGRATIONS: &str = "/control/v1/migrations";

const INDEX: (&str, &str) = (
    "V3__index.sql",
    "-- rowhouse: no-transaction\nCREATE INDEX CONCURRENTLY notes_runs_idx ON notes (runs);",
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_runs_the_files_and_rolls_them_back() {
    let fixture = Fixture::with(2).await;
    fixture.write(SECOND);
    fixture.write(INDEX);
    let backend = fixture.backend(&[]).await;
    let sql = fixture.sql().await;
    let before = Snapshot::take(&sql).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let files = Ok(vec![SECOND.0.to_owned(), INDEX.0.to_owned()]);
    for (stage, number) in
        [(RehearsalTarget::FirstBehind, 0), (RehearsalTarget::Tenant("t1".to_owned()), 1)]
    {
        let rehearsal = fleet.rehearse(&ctx, stage).await.unwrap().unwrap();
        assert_eq!(rehearsal.schema.as_str(), fixture.schema(number));
        assert_eq!(rehearsal.outcome(), files);
        let SchemaOwner::Tenant { id, slug } = rehearsal.owner else { panic!("{rehearsal:?}") };
        assert_eq!((id.uuid(), slug.as_str()), (fixture.tenants[number], &*format!("t{number}")));
    }
    assert_eq!(Snapshot::take(&sql).await, before);
    assert_eq!((fixture.runs().await, fixture.versions(0).await), (vec![0, 0], vec![1]));
    assert!(fleet.rehearse(&ctx, RehearsalTarget::Tenant("unknown".to_owned())).await.is_err());
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_names_the_file_and_the_line_that_would_fail() {
    let fixture = Fixture::with(1).await;
    fixture
        .write(("V2__break.sql", "UPDATE notes SET runs = 5;\n\nSELECT nonsense\n  FROM notes;"));
    let backend = fixture.backend(&[]).await;
    let rehearsed =
        backend.services.fleet.rehearse(&backend.operator(), RehearsalTarget::FirstBehind).await;
    let reason = rehearsed.unwrap().unwrap().outcome().unwrap_err();
    assert!(reason.starts_with("V2__break.sql, line 3: column \"nonsense\""), "{reason}");
    assert_eq!(fixture.runs().await, [0]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_on_a_vacancy_leaves_it_unchanged() {
    let fixture = Fixture::with(0).await;
    let before = fixture.backend(&[("tenants.vacancies", "1")]).await;
    before.services.vacancies.fill(&before.operator()).await.unwrap();
    fixture.write(WAITS_FOR_LOCK);
    fixture.write(INDEX);
    let after = fixture.backend(&[]).await;
    let sql = fixture.sql().await;
    let id: uuid::Uuid = sql.query_one("SELECT id FROM vacancies", &[]).await.unwrap().get(0);
    let lock = MigrationLock::hold(&fixture).await;
    let (fleet, ctx) = (&after.services.fleet, after.operator());
    let (rehearsed, made) = tokio::join!(fleet.rehearse(&ctx, RehearsalTarget::Vacancy), async {
        lock.wait_until_waiting().await;
        // The vacancy is locked, so the set-up builds its own schema instead of waiting.
        let made = provision(&before, "acme").await;
        lock.release().await;
        made
    });
    assert_ne!(made, id);
    let rehearsal = rehearsed.unwrap().unwrap();
    assert_eq!(rehearsal.owner, SchemaOwner::Vacancy(TenantId::new(id)));
    assert_eq!(rehearsal.outcome(), Ok(vec![WAITS_FOR_LOCK.0.to_owned(), INDEX.0.to_owned()]));
    let state = "SELECT state || ' ' || migrations_version FROM vacancies";
    let state: String = sql.query_one(state, &[]).await.unwrap().get(0);
    assert_eq!(state, "ready 1");
    let runs = format!("SELECT runs FROM tenant_{}.notes", id.simple());
    assert_eq!(sql.query_one(&runs, &[]).await.unwrap().get::<_, i32>(0), 0);
    // The vacancy is unchanged: the next set-up claims it.
    assert_eq!(provision(&before, "next").await, id);
    before.close().await;
    after.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_rehearsal_leaves_nothing_and_allows_the_next() {
    let fixture = Fixture::with(1).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let backend = fixture.backend(&[]).await;
    let (fleet, ctx) = (backend.services.fleet.clone(), backend.operator());
    let rehearsing =
        tokio::spawn(async move { fleet.rehearse(&ctx, RehearsalTarget::FirstBehind).await });
    lock.wait_until_waiting().await;
    rehearsing.abort();
    assert!(rehearsing.await.unwrap_err().is_cancelled());
    lock.release().await;
    let again =
        backend.services.fleet.rehearse(&backend.operator(), RehearsalTarget::FirstBehind).await;
    let trials = again.unwrap().unwrap().trials;
    assert!(matches!(trials[0].end, TrialEnd::Applied(_)), "{trials:?}");
    assert_eq!((fixture.runs().await, fixture.versions(0).await), (vec![0], vec![1]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_over_http_reports_each_file_with_its_duration() {
    let fixture = Fixture::with(2).await;
    fixture.write(SECOND);
    fixture.write(("V3__sleep.sql", "SELECT pg_sleep(0.02);"));
    let app = serve(&fixture).await;
    let sql = app.sql().await;
    let before = Snapshot::take(&sql).await;
    let id = fixture.tenants[1].to_string();
    for (body, number) in [
        (json!({}), 0),
        (json!({ "tenant": "t1" }), 1),
        (json!({ "tenant": id, "vacancy": false }), 1),
    ] {
        let answer = app.root().post(REHEARSALS, &body).await;
        assert_eq!((answer.status, &answer.body["passed"]), (200, &json!(true)), "{answer:?}");
        assert_eq!(answer.body["tenant_id"], json!(fixture.tenants[number]));
        assert_eq!(answer.body["slug"], json!(format!("t{number}")));
        assert_eq!(answer.body["vacancy_id"], Value::Null);
        let files = answer.body["migrations"].as_array().unwrap();
        let of = |at: usize| (files[at]["file"].as_str(), files[at]["state"].as_str());
        assert_eq!(of(0), (Some(SECOND.0), Some("applied")));
        assert_eq!(of(1), (Some("V3__sleep.sql"), Some("applied")));
        assert!(files[0]["duration_ms"].as_f64().unwrap() >= 0.0, "{answer:?}");
        assert!(files[1]["duration_ms"].as_f64().unwrap() >= 20.0, "{answer:?}");
        assert_eq!((&files[1]["error"], &files[1]["line"]), (&Value::Null, &Value::Null));
    }
    assert_eq!(Snapshot::take(&sql).await, before);
    assert_eq!((fixture.runs().await, fixture.versions(0).await), (vec![0, 0], vec![1]));
    assert_problem(
        &app.root().post(REHEARSALS, &json!({ "tenant": "unknown" })).await,
        404,
        "tenant_not_found",
    );
    assert_problem(
        &app.root().post(REHEARSALS, &json!({ "vacancy": true })).await,
        404,
        "vacancy_not_found",
    );
    for (body, expected) in [
        (json!({ "tenants": ["t0"] }), "/tenants: unknown_field"),
        (json!({ "tenant": 1 }), "/tenant: wrong_type"),
        (json!({ "vacancy": "yes" }), "/vacancy: wrong_type"),
        (json!({ "tenant": "t0", "vacancy": true }), "/vacancy: not_one_of"),
    ] {
        let answer = app.root().post(REHEARSALS, &body).await;
        assert_problem(&answer, 400, "invalid");
        assert_eq!(pointers(&answer), [expected], "{body}");
    }
}

/// Takes out what differs from one run to the next.
fn without_times(mut view: Value) -> Value {
    for migration in view["migrations"].as_array_mut().expect("it lists the files") {
        migration["duration_ms"].take();
    }
    view
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_over_http_names_the_failing_file_and_those_not_reached() {
    let fixture = Fixture::with(1).await;
    fixture.write(SECOND);
    fixture.write(("V3__break.sql", "UPDATE notes SET runs = 5;\nSELECT nonsense\n  FROM notes;"));
    fixture.write(("V4__never.sql", "SELECT 1;"));
    let app = serve(&fixture).await;
    let before = Snapshot::of(&app).await;
    let answer = app.root().post(REHEARSALS, &json!({})).await;
    assert_eq!((answer.status, &answer.body["passed"]), (200, &json!(false)), "{answer:?}");
    let files = answer.body["migrations"].as_array().unwrap();
    let states: Vec<&str> = files.iter().map(|file| file["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["applied", "failed", "not_reached"]);
    assert_eq!((&files[1]["file"], &files[1]["line"]), (&json!("V3__break.sql"), &json!(2)));
    let error = files[1]["error"].as_str().unwrap();
    assert!(error.contains("nonsense") && error.contains("42703"), "{error}");
    assert_eq!((&files[1]["duration_ms"], &files[2]["error"]), (&Value::Null, &Value::Null));
    // The command line says the same through the server as on the database.
    let remote = Program::embedded()
        .with("ROWHOUSE_SERVER", &app.address)
        .with("ROWHOUSE_TOKEN", &app.root_token);
    let rehearsed = [&remote, &fixture.program()].map(|program| {
        without_times(program.run(&["migrate", "--rehearse", "--json"]).expect(1).json())
    });
    assert_eq!(rehearsed[0], rehearsed[1]);
    let told = remote.run(&["migrate", "--rehearse", "t0"]).expect(1).stdout;
    let fails = format!("{}: would fail: V3__break.sql, line 2: ", fixture.schema(0));
    assert!(told.starts_with(&fails) && told.contains("  V4__never.sql: not reached\n"), "{told}");
    let unknown = remote.run(&["migrate", "--rehearse", "unknown"]).expect(4);
    assert_eq!(unknown.stderr, "rowhouse: no such tenant: unknown\n");
    remote.run(&["migrate", "--rehearse", "t0", "--vacancy"]).expect(2);
    assert_eq!(Snapshot::of(&app).await, before);
    assert_eq!((fixture.runs().await, fixture.versions(0).await), (vec![0], vec![1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rehearsal_is_refused_for_the_same_reasons_as_a_run() {
    let fixture = Fixture::with(1).await;
    let assert_both_refused = async |app: &TestApp, code: &str| {
        let run = app.root().post(MIGRATIONS, &json!({})).await;
        assert_problem(&run, 409, code);
        for body in [json!({}), json!({ "tenant": "t0" })] {
            let rehearsal = app.root().post(REHEARSALS, &body).await;
            assert_problem(&rehearsal, 409, code);
            assert_eq!(rehearsal.body["detail"], run.body["detail"]);
        }
    };
    fixture.write((FIRST.0, "CREATE TABLE notes (id int PRIMARY KEY)"));
    assert_both_refused(&serve(&fixture).await, "migrations_diverged").await;
    fixture.remove(FIRST.0);
    assert_both_refused(&serve(&fixture).await, "migrations_ahead").await;
    // A divergence that only the history in the tenant's schema shows.
    fixture.write(FIRST);
    fixture.write(SECOND);
    let app = serve(&fixture).await;
    let sql = fixture.sql().await;
    let edit = format!("UPDATE {}.refinery_schema_history SET checksum = '1'", fixture.schema(0));
    sql.batch_execute(&edit).await.unwrap();
    let answer = app.root().post(REHEARSALS, &json!({})).await;
    assert_problem(&answer, 409, "migrations_diverged");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("was applied with another text") && detail.contains("(t0)"),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_tenant_behind_a_rehearsal_runs_no_file() {
    let fixture = Fixture::with(1).await;
    let app = TestApp::builder()
        .with("tenant_migrations", fixture.folder.path().display().to_string())
        .with("tenants.vacancies", "1")
        .on(fixture.database.clone())
        .spawn()
        .await;
    let answer = app.root().post(REHEARSALS, &json!({})).await;
    let nothing = json!({
        "passed": true, "new_tenant_error": null, "tenant_id": null, "slug": null, "vacancy_id": null, "migrations": []
    });
    assert_eq!((answer.status, &answer.body), (200, &nothing));
    let answer = app.root().post(REHEARSALS, &json!({ "tenant": "t0" })).await;
    assert_eq!((&answer.body["slug"], &answer.body["migrations"]), (&json!("t0"), &json!([])));
    let sql = app.sql().await;
    wait_for(&sql, "SELECT count(*) = 1 FROM vacancies WHERE state = 'ready'").await;
    let id: uuid::Uuid = sql.query_one("SELECT id FROM vacancies", &[]).await.unwrap().get(0);
    let answer = app.root().post(REHEARSALS, &json!({ "vacancy": true })).await;
    assert_eq!((answer.status, &answer.body["vacancy_id"]), (200, &json!(id)), "{answer:?}");
}
