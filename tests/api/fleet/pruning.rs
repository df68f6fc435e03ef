//! Pruning of the ledger: old tenant rows are deleted and their counts are kept.

use std::time::Duration;

use rowhouse::app::Backend;
use rowhouse::auth::CallContext;
use rowhouse::domain::Error;
use rowhouse::domain::operation::{FleetProblem, WorkState};
use rowhouse::domain::page::Window;
use rowhouse::service::fleet::{Counts, MigrationRequest, WorkFilter};
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

use super::fixture::{Fixture, SECOND, migrate, no_events, outcome, wait_for};
use crate::support::TestApp;

const NINETY_DAYS: Duration = Duration::from_hours(24 * 90);

/// Returns a context whose time is 91 days ahead.
fn later(backend: &Backend) -> CallContext {
    let mut ctx = backend.operator();
    ctx.now += time::Duration::days(91);
    ctx
}

async fn rows(sql: &Client) -> i64 {
    let rows = sql.query_one("SELECT count(*) FROM operation_tenants", &[]).await;
    rows.expect("rows can be counted").get(0)
}

async fn rename(fixture: &Fixture, number: usize, from: &str, to: &str) {
    let rename = format!("ALTER TABLE {}.{from} RENAME TO {to}", fixture.schema(number));
    fixture.sql().await.batch_execute(&rename).await.expect("the table exists");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenant_rows_of_an_old_migration_are_pruned_and_their_counts_are_kept() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    let done = migrate(&backend, &MigrationRequest::default()).await;
    let (fleet, sql) = (&backend.services.fleet, fixture.sql().await);
    // The rows are too recent, then the retention is unlimited.
    assert_eq!(fleet.prune(&backend.operator(), NINETY_DAYS).await.unwrap(), 0);
    assert_eq!(fleet.prune(&later(&backend), Duration::MAX).await.unwrap(), 0);
    assert_eq!(rows(&sql).await, 3);
    assert_eq!(fleet.prune(&later(&backend), NINETY_DAYS).await.unwrap(), 3);
    let after = fleet.read(&backend.operator(), done.id).await.unwrap();
    let expected = Counts { pruned: 3, done_per_second: 0.0, ..done.counts };
    assert_eq!(after.counts, expected);
    assert_eq!((after.state, after.ended_at), (done.state, done.ended_at));
    assert_eq!(rows(&sql).await, 0);
    let window = Window { after: None, limit: 10 };
    let listed =
        fleet.tenants(&backend.operator(), done.id, &WorkFilter::default(), &window).await.unwrap();
    assert!(listed.rows.is_empty());
    // A second pruning changes nothing.
    assert_eq!(fleet.prune(&later(&backend), NINETY_DAYS).await.unwrap(), 0);
    assert_eq!(fleet.read(&backend.operator(), done.id).await.unwrap().counts, after.counts);
    let status = fixture.program().run(&["migrate", "status"]).expect(0);
    assert!(status.stdout.contains("tenants: 3 migrated"), "{status:?}");
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_rows_are_kept_while_they_can_be_retried() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    rename(&fixture, 1, "notes", "lost").await;
    let backend = fixture.backend(&[]).await;
    let failed = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&failed), ("failed", None, [0, 2, 1, 0]));
    let (fleet, ctx, sql) = (&backend.services.fleet, backend.operator(), fixture.sql().await);
    assert_eq!(fleet.prune(&later(&backend), NINETY_DAYS).await.unwrap(), 2);
    let window = Window { after: None, limit: 10 };
    let kept = fleet.tenants(&ctx, failed.id, &WorkFilter::default(), &window).await.unwrap().rows;
    assert_eq!((kept.len(), kept[0].state), (1, WorkState::Failed));
    assert_eq!(kept[0].tenant.uuid(), fixture.tenants[1]);
    // A repaired and retried migration is complete, and pruned rows are still counted.
    rename(&fixture, 1, "lost", "notes").await;
    let again = fleet.retry(&ctx, failed.id, &[]).await.unwrap();
    assert_eq!(outcome(&again), ("planned", None, [1, 2, 0, 0]));
    // An open migration is never pruned.
    assert_eq!(fleet.prune(&later(&backend), NINETY_DAYS).await.unwrap(), 0);
    let done = fleet.run(&ctx, failed.id, no_events()).await.unwrap();
    assert_eq!(outcome(&done), ("done", None, [0, 3, 0, 0]));
    assert_eq!((done.counts.total, done.counts.pruned), (3, 2));
    assert_eq!(fleet.prune(&later(&backend), NINETY_DAYS).await.unwrap(), 1);
    let done = fleet.read(&ctx, failed.id).await.unwrap();
    assert_eq!((outcome(&done), done.counts.pruned), (("done", None, [0, 3, 0, 0]), 3));
    assert_eq!((rows(&sql).await, fixture.runs().await), (0, vec![1; 3]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_rows_of_another_migration_set_are_pruned_and_their_retry_is_refused() {
    let fixture = Fixture::with(2).await;
    fixture.write(SECOND);
    rename(&fixture, 0, "notes", "lost").await;
    let older = fixture.backend(&[]).await;
    let failed = migrate(&older, &MigrationRequest::default()).await;
    fixture.write(("V3__more.sql", "CREATE TABLE more (id int PRIMARY KEY)"));
    let newer = fixture.backend(&[]).await;
    assert_eq!(newer.services.fleet.prune(&later(&newer), NINETY_DAYS).await.unwrap(), 2);
    let (fleet, ctx) = (&older.services.fleet, older.operator());
    let kept = fleet.read(&ctx, failed.id).await.unwrap();
    assert_eq!((outcome(&kept), kept.counts.pruned), (("failed", None, [0, 1, 1, 0]), 2));
    let refused = fleet.retry(&ctx, failed.id, &[]).await;
    let Err(Error::Fleet(problem)) = refused else { panic!("{refused:?}") };
    assert_eq!(*problem, FleetProblem::Pruned);
    assert_eq!(fleet.read(&ctx, failed.id).await.unwrap().state.as_str(), "failed");
    let status = fixture.program().run(&["migrate", "status"]).expect(0);
    assert!(status.stdout.contains("tenants: 1 migrated, 1 failed\n"), "{status:?}");
    older.close().await;
    newer.close().await;
}

/// Writes an operation that ended a year ago, with more tenants than one batch prunes.
async fn write_large(sql: &Client, id: Uuid) {
    sql.execute(
        "INSERT INTO operations (id, kind, state, actor, request_id, target_version,
             target_fingerprint, options, canary_open, created_at, ended_at, updated_at)
         SELECT $1, 'migrate', 'cancelled', 'test', 'test', 1, 'x', '{}', false, at, at, at
           FROM (SELECT now() - interval '1 year' AS at) then_",
        &[&id],
    )
    .await
    .expect("rows can be written");
    sql.execute(
        "INSERT INTO operation_tenants
             (operation_id, tenant_id, slug, position, is_canary, state, attempts)
         SELECT $1, gen_random_uuid(), 't' || n, n, false,
                CASE WHEN n <= 2000 THEN 'done' WHEN n <= 2100 THEN 'failed'
                     WHEN n <= 2499 THEN 'skipped' ELSE 'running' END, 1
           FROM generate_series(1, 2500) n",
        &[&id],
    )
    .await
    .expect("rows can be written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_pruning_in_batches_keeps_the_counts_right() {
    let fixture = Fixture::with(0).await;
    let (one, two) = (fixture.backend(&[]).await, fixture.backend(&[]).await);
    let (sql, ids) = (fixture.sql().await, [Uuid::new_v4(), Uuid::new_v4()]);
    for id in ids {
        write_large(&sql, id).await;
    }
    let ctx = one.operator();
    // Each process skips rows that the other has locked; the next call finds them.
    while rows(&sql).await > 0 {
        let (first, second) = tokio::join!(
            one.services.fleet.prune(&ctx, NINETY_DAYS),
            two.services.fleet.prune(&ctx, NINETY_DAYS)
        );
        assert!(first.unwrap() + second.unwrap() > 0, "neither process prunes a row");
    }
    for id in ids {
        let record = one.services.fleet.read(&ctx, id).await.unwrap();
        assert_eq!(
            record.counts,
            // A row left in `running` by a dead runner counts as skipped a year later.
            Counts {
                total: 2500,
                done: 2000,
                failed: 100,
                skipped: 400,
                pruned: 2500,
                ..Counts::default()
            }
        );
    }
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_prunes_on_its_own_unless_retention_is_zero() {
    let fixture = Fixture::with(0).await;
    let (sql, id) = (fixture.sql().await, Uuid::new_v4());
    write_large(&sql, id).await;
    let spawn = async |retention: &str| {
        TestApp::builder()
            .with("fleet.ledger_retention", retention)
            .on(fixture.database.clone())
            .spawn()
            .await
    };
    let keeping = spawn("0").await;
    let path = format!("/control/v1/migrations/{id}");
    let before = keeping.root().get(&path).await;
    assert_eq!(before.body["tenants"]["pruned"], json!(0), "{before:?}");
    let app = spawn("30d").await;
    wait_for(&sql, "SELECT count(*) = 0 FROM operation_tenants").await;
    let after = app.root().get(&path).await;
    assert_eq!(
        (&after.body["tenants"]["pruned"], &after.body["tenants"]["done"]),
        (&json!(2500), &json!(2000))
    );
    let listed = app.root().get(&format!("{path}/tenants")).await;
    assert_eq!((listed.status, &listed.body["data"]), (200, &json!([])));
}
