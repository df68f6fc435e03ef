//! Recovery: a run whose process has died is resumed by exactly one server that may resume it.

use std::process::{Child, Stdio};

use rowhouse::app::{Backend, Options};
use rowhouse::config::Settings;
use rowhouse::domain::page::Window;
use rowhouse::pg::rules::Statements;
use rowhouse::service::fleet::{MigrationRequest, RecoveryOutcome, WorkFilter};
use tokio_postgres::Client;
use uuid::Uuid;

use super::fixture::{
    Fixture, MigrationLock, SECOND, WAITS_FOR_LOCK, migrate, no_events, outcome, provision,
    wait_for,
};
use super::kills::signal;
use super::transitions::wait_for_two_heartbeats;
use crate::support::pooler::{self, StartupOptions};
use crate::support::{Snapshot, TestApp, settings_for};

/// Starts a server that checks for abandoned runs every 50 ms.
async fn recovering_server(fixture: &Fixture) -> TestApp {
    TestApp::builder()
        .with("tenant_migrations", fixture.folder.path().display().to_string())
        .with("fleet.lease", "2s")
        .with("fleet.take_up_interval", "50ms")
        .on(fixture.database.clone())
        .spawn()
        .await
}

/// Starts an operation and leaves it as a process does that is killed right after taking its lease.
async fn abandoned_run(backend: &Backend, sql: &Client) -> Uuid {
    let made =
        backend.services.fleet.start(&backend.operator(), &MigrationRequest::default()).await;
    let made = made.expect("a migration can be started");
    sql.batch_execute(
        "UPDATE operations
            SET state = 'running', runner = gen_random_uuid(), runner_host = 'gone', runner_pid = 1,
                runner_since = now(), started_at = now(), lease_until = now() - interval '1 second'",
    )
    .await
    .expect("the operation can be written");
    made.id
}

async fn wait_until_done(sql: &Client) {
    wait_for(sql, "SELECT count(*) = 1 FROM operations WHERE state = 'done'").await;
}

/// Returns the number of resume events, those on request or those without.
async fn resume_events(sql: &Client, asked: bool) -> i64 {
    let events = "SELECT count(*) FROM audit_events
                   WHERE action = 'migration.resume' AND (details->>'asked')::boolean = $1";
    sql.query_one(events, &[&asked]).await.expect("events can be counted").get(0)
}

/// Starts a process that migrates one tenant at a time, and waits until the first waits for the lock.
async fn process_waiting_for_lock(lock: &MigrationLock, fixture: &Fixture, lease: &str) -> Child {
    let program = fixture.program().with("ROWHOUSE_FLEET__LEASE", lease);
    let mut process =
        program.command(env!("CARGO_BIN_EXE_rowhouse"), &["migrate", "--workers", "1"]);
    process.stdout(Stdio::null()).stderr(Stdio::null());
    let process = process.spawn().expect("the program starts");
    lock.wait_until_waiting().await;
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_resumes_the_run_of_a_killed_process() {
    let fixture = Fixture::with(4).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let mut process = process_waiting_for_lock(&lock, &fixture, "500ms").await;
    process.kill().expect("the process can be killed");
    process.wait().expect("the process can be waited for");
    let app = recovering_server(&fixture).await;
    lock.release().await;
    let sql = app.sql().await;
    wait_until_done(&sql).await;
    assert_eq!(fixture.runs().await, [1; 4]);
    assert_eq!((resume_events(&sql, false).await, resume_events(&sql, true).await), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_migrated_but_not_recorded_is_recorded_by_the_next_runner() {
    let fixture = Fixture::with(2).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let sql = fixture.sql().await;
    let id = abandoned_run(&backend, &sql).await;
    let committed = format!(
        "UPDATE operation_tenants SET state = 'running', attempts = 1, runner = gen_random_uuid() WHERE slug = 't0';
         {}",
        fixture.as_if_committed(0, fleet.set())
    );
    sql.batch_execute(&committed).await.unwrap();
    let record = fleet.run(&ctx, id, no_events()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 2, 0, 0]));
    assert_eq!(fixture.runs().await, [1; 2]);
    let behind = "SELECT count(*) = 0 FROM tenants WHERE migrations_version <> 2";
    assert!(sql.query_one(behind, &[]).await.unwrap().get::<_, bool>(0));
    let work = fleet
        .tenants(&ctx, id, &WorkFilter::default(), &Window { after: None, limit: 10 })
        .await
        .unwrap();
    for row in &work.rows {
        assert_eq!(row.applied.as_deref(), Some(&["V2__add_mood.sql".to_owned()][..]), "{row:?}");
    }
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_suspended_past_its_lease_starts_no_further_tenant() {
    let fixture = Fixture::with(3).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let mut process = process_waiting_for_lock(&lock, &fixture, "2s").await;
    signal("STOP", process.id());
    let sql = fixture.sql().await;
    wait_for(&sql, "SELECT lease_until <= now() FROM operations").await;
    let backend = fixture.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let open = fleet.find_open(&ctx).await.unwrap().expect("the run is open");
    fleet.cancel(&ctx, open.id).await.unwrap();
    lock.release().await;
    // The database finishes the statements that were sent before.
    wait_for(&sql, &format!("SELECT runs = 1 FROM {}.notes", fixture.schema(0))).await;
    signal("CONT", process.id());
    process.wait().expect("the process can be waited for");
    assert_eq!(fixture.runs().await, [1, 0, 0]);
    assert_eq!(outcome(&migrate(&backend, &MigrationRequest::default()).await).0, "done");
    assert_eq!(fixture.runs().await, [1; 3]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_run_of_a_live_process_is_not_taken_over() {
    let fixture = Fixture::with(2).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let mut process = process_waiting_for_lock(&lock, &fixture, "2s").await;
    let app = recovering_server(&fixture).await;
    let sql = app.sql().await;
    wait_for_two_heartbeats(&sql).await;
    let checked = app.services.fleet.recover(&app.operator()).await;
    assert_eq!(checked.unwrap(), RecoveryOutcome::Nothing);
    let pid: i32 = sql.query_one("SELECT runner_pid FROM operations", &[]).await.unwrap().get(0);
    assert_eq!(pid.unsigned_abs(), process.id());
    lock.release().await;
    assert!(process.wait().expect("the process ends").success());
    assert_eq!(fixture.runs().await, [1; 2]);
    assert_eq!(resume_events(&sql, false).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_hands_its_run_to_another() {
    let fixture = Fixture::with(3).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let first = recovering_server(&fixture).await;
    let body = serde_json::json!({ "workers": 1 });
    let started = first.root().post("/control/v1/migrations", &body).await;
    assert_eq!(started.status, 202, "{started:?}");
    lock.wait_until_waiting().await;
    let second = recovering_server(&fixture).await;
    let sql = second.sql().await;
    let (_, ()) = tokio::join!(first.stop(), async {
        wait_for_two_heartbeats(&sql).await;
        lock.release().await;
    });
    wait_until_done(&sql).await;
    assert_eq!(fixture.runs().await, [1; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_of_two_concurrent_checks_resumes_a_run() {
    let fixture = Fixture::with(2).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let (one, two) = (fixture.backend(&[]).await, fixture.backend(&[]).await);
    let sql = fixture.sql().await;
    let id = abandoned_run(&one, &sql).await;
    let ctx = one.operator();
    let outcomes = tokio::join!(one.services.fleet.recover(&ctx), two.services.fleet.recover(&ctx));
    let outcomes = [outcomes.0.unwrap(), outcomes.1.unwrap()];
    let takeovers =
        outcomes.iter().filter(|checked| **checked == RecoveryOutcome::Recovered(id)).count();
    assert_eq!(takeovers, 1, "{outcomes:?}");
    assert!(
        outcomes
            .iter()
            .any(|checked| matches!(checked, RecoveryOutcome::Late(_) | RecoveryOutcome::Nothing)),
        "{outcomes:?}"
    );
    lock.release().await;
    wait_until_done(&sql).await;
    assert_eq!(fixture.runs().await, [1; 2]);
    assert_eq!(resume_events(&sql, false).await, 1);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_database_resume_a_run_once() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    let servers = [recovering_server(&fixture).await, recovering_server(&fixture).await];
    let sql = fixture.sql().await;
    abandoned_run(&backend, &sql).await;
    wait_until_done(&sql).await;
    assert_eq!(fixture.runs().await, [1; 3]);
    assert_eq!(resume_events(&sql, false).await, 1);
    drop(servers);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_migration_is_not_resumed_by_another_server() {
    // The same holds for every other state but `running`, for a live lease, and for a run without a lease,
    // which an operator stopped.
    let fixture = Fixture::with(1).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let sql = fixture.sql().await;
    abandoned_run(&backend, &sql).await;
    let mut assignments: Vec<String> = ["planned", "paused", "done", "failed", "cancelled"]
        .map(|state| format!("state = '{state}', lease_until = now() - interval '1 hour'"))
        .into();
    assignments.push("state = 'running', lease_until = now() + interval '1 hour'".to_owned());
    assignments.push("state = 'running', lease_until = NULL, runner = NULL".to_owned());
    for assignment in assignments {
        sql.batch_execute(&format!("UPDATE operations SET {assignment}")).await.unwrap();
        let before = Snapshot::take(&sql).await;
        assert_eq!(fleet.recover(&ctx).await.unwrap(), RecoveryOutcome::Nothing, "{assignment}");
        assert_eq!(Snapshot::take(&sql).await, before, "{assignment}");
    }
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_run_of_a_stopped_command_waits_for_an_operator() {
    let fixture = Fixture::with(3).await;
    fixture.write(WAITS_FOR_LOCK);
    let (one, two) = (fixture.backend(&[]).await, fixture.backend(&[]).await);
    let id = run_stopped_midway(&fixture, &one).await;
    let (fleet, ctx) = (&two.services.fleet, two.operator());
    assert_eq!(fleet.recover(&ctx).await.unwrap(), RecoveryOutcome::Nothing);
    let record = fleet.run(&ctx, id, no_events()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    assert_eq!(fixture.runs().await, [1; 3]);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_releases_its_run_to_any_other_immediately() {
    let fixture = Fixture::with(3).await;
    fixture.write(WAITS_FOR_LOCK);
    let mut values = settings_for(&fixture.database.url());
    values.push(("tenant_migrations", fixture.folder.path().display().to_string()));
    // So long that the lease cannot expire during the test: the server must release it.
    values.push(("fleet.lease", "1h".to_owned()));
    let settings = Settings::from_values(&values).unwrap();
    let one = Backend::open(&settings, &Options::default()).await.unwrap();
    let two = fixture.backend(&[]).await;
    let id = run_stopped_midway(&fixture, &one).await;
    one.close().await;
    let (fleet, ctx) = (&two.services.fleet, two.operator());
    assert_eq!(fleet.recover(&ctx).await.unwrap(), RecoveryOutcome::Recovered(id));
    wait_until_done(&fixture.sql().await).await;
    assert_eq!(fixture.runs().await, [1; 3]);
    two.close().await;
}

/// Starts a run of three tenants and stops it during the first.
async fn run_stopped_midway(fixture: &Fixture, backend: &Backend) -> Uuid {
    let lock = MigrationLock::hold(fixture).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let command = MigrationRequest { workers: Some(1), ..MigrationRequest::default() };
    let made = fleet.start(&ctx, &command).await.expect("a migration can be started");
    let (ran, ()) = tokio::join!(fleet.run(&ctx, made.id, no_events()), async {
        lock.wait_until_waiting().await;
        // Polled in this order, so that the run is told to stop before the lock is released.
        tokio::join!(fleet.stop(), lock.release());
    });
    let record = ran.expect("a run can be stopped");
    assert_eq!(outcome(&record), ("running", None, [2, 1, 0, 0]));
    assert!(!record.is_held);
    made.id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_another_migration_set_is_not_resumed() {
    let fixture = Fixture::with(2).await;
    let older = fixture.backend(&[]).await;
    fixture.write(SECOND);
    let newer = fixture.backend(&[]).await;
    let sql = fixture.sql().await;
    let id = abandoned_run(&newer, &sql).await;
    let before = Snapshot::take(&sql).await;
    for _ in 0..2 {
        let checked = older.services.fleet.recover(&older.operator()).await.unwrap();
        assert_eq!(checked, RecoveryOutcome::OtherSet { id, target_version: 2 });
    }
    assert_eq!(Snapshot::take(&sql).await, before);
    let checked = newer.services.fleet.recover(&newer.operator()).await.unwrap();
    assert_eq!(checked, RecoveryOutcome::Recovered(id));
    wait_until_done(&sql).await;
    assert_eq!(fixture.runs().await, [1; 2]);
    older.close().await;
    newer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_between_the_check_and_the_takeover_is_kept() {
    let fixture = Fixture::with(1).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    let sql = fixture.sql().await;
    let id = abandoned_run(&backend, &sql).await;
    let pausing = fixture.sql().await;
    pausing
        .batch_execute(
            "BEGIN; UPDATE operations SET state = 'paused', pause_reason = 'asked', lease_until = NULL",
        )
        .await
        .unwrap();
    let ctx = backend.operator();
    let (checked, ()) = tokio::join!(backend.services.fleet.recover(&ctx), async {
        wait_for(
            &sql,
            "SELECT count(*) > 0 FROM pg_stat_activity
              WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .await;
        pausing.batch_execute("COMMIT").await.unwrap();
    });
    assert_eq!(checked.unwrap(), RecoveryOutcome::Late(id));
    let record = backend.services.fleet.read(&ctx, id).await.unwrap();
    assert_eq!(outcome(&record), ("paused", Some("asked"), [1, 0, 0, 0]));
    assert_eq!(fixture.runs().await, [0]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_only_a_run_without_direct_connections_is_resumed() {
    let fixture = Fixture::with(2).await;
    fixture.write(SECOND);
    let backend = backend_behind_a_pooler(&fixture).await;
    let sql = fixture.sql().await;
    let id = abandoned_run(&backend, &sql).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    assert_eq!(fleet.recover(&ctx).await.unwrap(), RecoveryOutcome::Recovered(id));
    wait_until_done(&sql).await;
    assert_eq!(fixture.runs().await, [1; 2]);
    backend.close().await;

    fixture.write((
        "V3__index.sql",
        "-- rowhouse: no-transaction\nCREATE INDEX CONCURRENTLY notes_runs_idx ON notes (runs);",
    ));
    sql.batch_execute("DELETE FROM operations").await.unwrap();
    let backend = backend_behind_a_pooler(&fixture).await;
    let id = abandoned_run(&backend, &sql).await;
    let before = Snapshot::take(&sql).await;
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    assert_eq!(fleet.recover(&ctx).await.unwrap(), RecoveryOutcome::NotDirect(id));
    assert_eq!(Snapshot::take(&sql).await, before);
    // A process with a direct connection resumes the run.
    let direct = fixture.direct_backend().await;
    assert_eq!(direct.services.fleet.recover(&ctx).await.unwrap(), RecoveryOutcome::Recovered(id));
    wait_until_done(&sql).await;
    assert_eq!(fixture.versions(1).await, [1, 2, 3]);
    direct.close().await;
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_plane_statements_are_cached_by_default_unless_a_pooler_is_in_front() {
    let fixture = Fixture::with(0).await;
    let url = fixture.database.url();
    for (wanted, control, tenants) in [
        ("auto", Statements::Cached, Statements::Unnamed),
        ("unnamed", Statements::Unnamed, Statements::Unnamed),
        ("cached", Statements::Cached, Statements::Cached),
    ] {
        let backend =
            fixture.backend(&[("database.url", &url), ("database.statements", wanted)]).await;
        let rules = backend.rules();
        assert_eq!((rules.control_statements, rules.statements), (control, tenants), "{wanted}");
        provision(&backend, wanted).await;
        backend.close().await;
    }
    let backend = backend_behind_a_pooler(&fixture).await;
    assert_eq!(backend.rules().control_statements, Statements::Unnamed);
    backend.close().await;
}

/// Opens a backend through a proxy that refuses the `options` startup parameter, as a pooler does.
async fn backend_behind_a_pooler(fixture: &Fixture) -> Backend {
    let url = pooler::before(&fixture.database.url(), StartupOptions::Refused).await;
    let mut values = settings_for(&url);
    values.push(("tenant_migrations", fixture.folder.path().display().to_string()));
    let settings = Settings::from_values(&values).expect("the settings of a test are good");
    Backend::open(&settings, &Options::default()).await.expect("the backend of a test opens")
}
