//! What is old is forgotten, but for how much of it there was.

use std::time::Duration;

use rowhouse::app::Backend;
use rowhouse::auth::CallContext;
use rowhouse::domain::Error;
use rowhouse::domain::operation::{FleetProblem, WorkState};
use rowhouse::domain::page::Window;
use rowhouse::service::fleet::{Counts, Wish};
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

use super::ground::{Ground, SECOND, migrate, outcome, quiet, wait_for};
use crate::support::TestApp;

const QUARTER: Duration = Duration::from_hours(24 * 90);

/// A moment by which everything of today is older than a quarter.
fn later(backend: &Backend) -> CallContext {
    let mut ctx = backend.operator();
    ctx.now += time::Duration::days(91);
    ctx
}

async fn rows(sql: &Client) -> i64 {
    let rows = sql.query_one("SELECT count(*) FROM operation_tenants", &[]).await;
    rows.expect("rows can be counted").get(0)
}

async fn rename(ground: &Ground, number: usize, from: &str, to: &str) {
    let rename = format!("ALTER TABLE {}.{from} RENAME TO {to}", ground.schema(number));
    ground.sql().await.batch_execute(&rename).await.expect("it is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tenants_of_an_old_migration_are_forgotten_and_their_counts_are_kept() {
    let ground = Ground::with(3).await;
    ground.write(SECOND);
    let backend = ground.backend(&[]).await;
    let done = migrate(&backend, &Wish::default()).await;
    let (fleet, sql) = (&backend.services.fleet, ground.sql().await);
    // Not yet.
    assert_eq!(fleet.prune(&backend.operator(), QUARTER).await.unwrap(), 0);
    assert_eq!(fleet.prune(&later(&backend), Duration::MAX).await.unwrap(), 0);
    assert_eq!(rows(&sql).await, 3);
    assert_eq!(fleet.prune(&later(&backend), QUARTER).await.unwrap(), 3);
    let after = fleet.read(&backend.operator(), done.id).await.unwrap();
    assert_eq!(after.counts, Counts { pruned: 3, ..done.counts });
    assert_eq!((after.state, after.ended_at), (done.state, done.ended_at));
    assert_eq!(rows(&sql).await, 0);
    let window = Window { after: None, limit: 10 };
    let listed = fleet.tenants(&backend.operator(), done.id, None, &window).await.unwrap();
    assert!(listed.rows.is_empty());
    // Twice is as good as once.
    assert_eq!(fleet.prune(&later(&backend), QUARTER).await.unwrap(), 0);
    assert_eq!(fleet.read(&backend.operator(), done.id).await.unwrap().counts, after.counts);
    let status = ground.program().run(&["migrate", "status"]).expect(0);
    assert!(status.stdout.contains("tenants: 3 migrated"), "{status:?}");
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_kept_as_long_as_it_can_be_tried_again() {
    let ground = Ground::with(3).await;
    ground.write(SECOND);
    rename(&ground, 1, "notes", "lost").await;
    let backend = ground.backend(&[]).await;
    let failed = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&failed), ("failed", None, [0, 2, 1, 0]));
    let (fleet, ctx, sql) = (&backend.services.fleet, backend.operator(), ground.sql().await);
    assert_eq!(fleet.prune(&later(&backend), QUARTER).await.unwrap(), 2);
    let window = Window { after: None, limit: 10 };
    let kept = fleet.tenants(&ctx, failed.id, None, &window).await.unwrap().rows;
    assert_eq!((kept.len(), kept[0].state), (1, WorkState::Failed));
    assert_eq!(kept[0].tenant.uuid(), ground.tenants[1]);
    // Mended and tried again it is whole, those counted that are forgotten.
    rename(&ground, 1, "lost", "notes").await;
    let again = fleet.retry(&ctx, failed.id).await.unwrap();
    assert_eq!(outcome(&again), ("planned", None, [1, 2, 0, 0]));
    // What is open is never old.
    assert_eq!(fleet.prune(&later(&backend), QUARTER).await.unwrap(), 0);
    let done = fleet.run(&ctx, failed.id, quiet()).await.unwrap();
    assert_eq!(outcome(&done), ("done", None, [0, 3, 0, 0]));
    assert_eq!((done.counts.total, done.counts.pruned), (3, 2));
    assert_eq!(fleet.prune(&later(&backend), QUARTER).await.unwrap(), 1);
    let done = fleet.read(&ctx, failed.id).await.unwrap();
    assert_eq!((outcome(&done), done.counts.pruned), (("done", None, [0, 3, 0, 0]), 3));
    assert_eq!((rows(&sql).await, ground.runs().await), (0, vec![1; 3]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_towards_other_files_goes_and_a_retry_of_it_is_refused() {
    let ground = Ground::with(2).await;
    ground.write(SECOND);
    rename(&ground, 0, "notes", "lost").await;
    let older = ground.backend(&[]).await;
    let failed = migrate(&older, &Wish::default()).await;
    ground.write(("V3__more.sql", "CREATE TABLE more (id int PRIMARY KEY)"));
    let newer = ground.backend(&[]).await;
    assert_eq!(newer.services.fleet.prune(&later(&newer), QUARTER).await.unwrap(), 2);
    let (fleet, ctx) = (&older.services.fleet, older.operator());
    let kept = fleet.read(&ctx, failed.id).await.unwrap();
    assert_eq!((outcome(&kept), kept.counts.pruned), (("failed", None, [0, 1, 1, 0]), 2));
    let refused = fleet.retry(&ctx, failed.id).await;
    let Err(Error::Fleet(problem)) = refused else { panic!("{refused:?}") };
    assert_eq!(*problem, FleetProblem::Pruned);
    assert_eq!(fleet.read(&ctx, failed.id).await.unwrap().state.as_str(), "failed");
    let status = ground.program().run(&["migrate", "status"]).expect(0);
    assert!(status.stdout.contains("tenants: 1 migrated, 1 failed\n"), "{status:?}");
    older.close().await;
    newer.close().await;
}

/// Writes an operation that ended a year ago, with more tenants than go at once.
async fn write_large(sql: &Client, id: Uuid) {
    sql.execute(
        "INSERT INTO operations (id, kind, state, actor, request_id, target_version,
             target_fingerprint, options, canary_open, created_at, ended_at, updated_at)
         SELECT $1, 'migrate', 'cancelled', 'test', 'test', 1, 'x', '{}', false, at, at, at
           FROM (SELECT now() - interval '1 year' AS at) then_",
        &[&id],
    )
    .await
    .expect("it can be written");
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
    .expect("it can be written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_forget_at_once_and_part_by_part_the_counts_are_right() {
    let ground = Ground::with(0).await;
    let (one, two) = (ground.backend(&[]).await, ground.backend(&[]).await);
    let (sql, ids) = (ground.sql().await, [Uuid::new_v4(), Uuid::new_v4()]);
    for id in ids {
        write_large(&sql, id).await;
    }
    let ctx = one.operator();
    // Both may pass over what the other is at; whoever comes again finds the rest.
    while rows(&sql).await > 0 {
        let (first, second) = tokio::join!(
            one.services.fleet.prune(&ctx, QUARTER),
            two.services.fleet.prune(&ctx, QUARTER)
        );
        assert!(first.unwrap() + second.unwrap() > 0, "nobody forgets anything");
    }
    for id in ids {
        let record = one.services.fleet.read(&ctx, id).await.unwrap();
        assert_eq!(
            record.counts,
            // A row that its runner died over is as good as left out, a year later.
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
async fn a_server_forgets_by_itself_unless_it_is_to_keep_everything() {
    let ground = Ground::with(0).await;
    let (sql, id) = (ground.sql().await, Uuid::new_v4());
    write_large(&sql, id).await;
    let spawn = async |retention: &str| {
        TestApp::builder()
            .with("fleet.ledger_retention", retention)
            .on(ground.database.clone())
            .spawn()
            .await
    };
    let hoarder = spawn("0").await;
    let path = format!("/control/v1/migrations/{id}");
    let before = hoarder.root().get(&path).await;
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
