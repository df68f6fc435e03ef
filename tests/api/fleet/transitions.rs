//! State transitions of a run: pause, resume, cancel and retry; canaries; the limit of failures; stopping.

use rowhouse::domain::operation::Then;
use rowhouse::service::fleet::{Canary, MigrationRequest};

use tokio_postgres::Client;

use super::fixture::{
    FAILS, Fixture, MigrationLock, SECOND, WAITS_FOR_LOCK, migrate, no_events, outcome, wait_for,
};

/// Waits until the runner has renewed its lease twice, and so has acted on a state change before the first.
pub async fn wait_for_two_heartbeats(sql: &Client) {
    for _ in 0..2 {
        let lease = "SELECT lease_until::text FROM operations";
        let before: String = sql.query_one(lease, &[]).await.expect("the run has a lease").get(0);
        wait_for(sql, &format!("SELECT lease_until::text <> '{before}' FROM operations")).await;
    }
}

fn canary(count: u32, tenants: &[&str], then: Then) -> MigrationRequest {
    let tenants = tenants.iter().map(|slug| (*slug).to_owned()).collect();
    MigrationRequest {
        canary: Some(Canary { count, tenants, then }),
        ..MigrationRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_pauses_a_run_and_another_resumes_it() {
    let fixture = Fixture::with(4).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let (one, two) = (fixture.backend(&[]).await, fixture.backend(&[]).await);
    let ctx = one.operator();
    let command = MigrationRequest { workers: Some(1), ..MigrationRequest::default() };
    let made = one.services.fleet.start(&ctx, &command).await.unwrap();
    let sql = fixture.sql().await;
    let (ran, ()) = tokio::join!(one.services.fleet.run(&ctx, made.id, no_events()), async {
        lock.wait_until_waiting().await;
        let paused = two.services.fleet.pause(&ctx, made.id).await.unwrap();
        assert_eq!(paused.state.as_str(), "paused");
        // A repeated pause succeeds and changes nothing.
        two.services.fleet.pause(&ctx, made.id).await.unwrap();
        wait_for_two_heartbeats(&sql).await;
        lock.release().await;
    });
    // The tenant in progress is finished and no other is started.
    assert_eq!(outcome(&ran.unwrap()), ("paused", Some("asked"), [3, 1, 0, 0]));
    let record = two.services.fleet.run(&ctx, made.id, no_events()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 4, 0, 0]));
    assert_eq!(fixture.runs().await, [1; 4]);
    let actions: String = sql
        .query_one("SELECT string_agg(action, ' ' ORDER BY at, id) FROM audit_events WHERE action LIKE 'migration.%'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(actions, "migration.start migration.pause migration.resume migration.finish");
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_skips_unstarted_tenants_and_allows_the_next_run() {
    let fixture = Fixture::with(3).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let (one, two) = (fixture.backend(&[]).await, fixture.backend(&[]).await);
    let ctx = one.operator();
    let command = MigrationRequest { workers: Some(1), ..MigrationRequest::default() };
    let made = one.services.fleet.start(&ctx, &command).await.unwrap();
    let (ran, ()) = tokio::join!(one.services.fleet.run(&ctx, made.id, no_events()), async {
        lock.wait_until_waiting().await;
        two.services.fleet.cancel(&ctx, made.id).await.unwrap();
        wait_for_two_heartbeats(&fixture.sql().await).await;
        lock.release().await;
    });
    let record = ran.unwrap();
    assert_eq!(outcome(&record), ("cancelled", None, [0, 1, 0, 2]));
    two.services.fleet.cancel(&ctx, made.id).await.unwrap();
    assert!(two.services.fleet.run(&ctx, made.id, no_events()).await.is_err());
    assert!(two.services.fleet.pause(&ctx, made.id).await.is_err());
    assert!(two.services.fleet.retry(&ctx, made.id, &[]).await.is_err());
    let record = migrate(&two, &MigrationRequest::default()).await;
    assert_eq!((record.state.as_str(), record.counts.failed), ("done", 0));
    assert_eq!(fixture.runs().await, [1; 3]);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_is_migrated_first_and_the_rest_waits_for_resume() {
    let fixture = Fixture::with(4).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &canary(1, &["t2"], Then::Pause)).await;
    assert_eq!(outcome(&record), ("paused", Some("canary"), [2, 2, 0, 0]));
    assert_eq!(fixture.runs().await, [1, 0, 1, 0]);
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let refused = fleet.start(&ctx, &MigrationRequest::default()).await.unwrap_err().to_string();
    assert!(refused.contains("is paused: resume or cancel it first"), "{refused}");
    let record = fleet.run(&ctx, record.id, no_events()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 4, 0, 0]));
    assert_eq!(fixture.runs().await, [1; 4]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successful_canary_continues_if_so_requested() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &canary(1, &[], Then::Continue)).await;
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_canary_pauses_the_run_and_a_retry_starts_with_it() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let sql = fixture.sql().await;
    let rename = format!("ALTER TABLE {}.notes RENAME TO lost", fixture.schema(0));
    sql.batch_execute(&rename).await.unwrap();
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &canary(1, &[], Then::Continue)).await;
    assert_eq!(outcome(&record), ("paused", Some("canary_failed"), [2, 0, 1, 0]));
    let repair = format!("ALTER TABLE {}.lost RENAME TO notes", fixture.schema(0));
    sql.batch_execute(&repair).await.unwrap();
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    fleet.retry(&ctx, record.id, &[]).await.unwrap();
    let record = fleet.run(&ctx, record.id, no_events()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_pauses_at_max_failures() {
    let fixture = Fixture::with(6).await;
    fixture.write(FAILS);
    let backend = fixture.backend(&[]).await;
    let command =
        MigrationRequest { workers: Some(1), max_failures: Some(2), ..MigrationRequest::default() };
    let record = migrate(&backend, &command).await;
    assert_eq!(outcome(&record), ("paused", Some("max_failures"), [4, 0, 2, 0]));
    // A resume allows as many failures again.
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let record = fleet.run(&ctx, record.id, no_events()).await.unwrap();
    assert_eq!(outcome(&record), ("paused", Some("max_failures"), [2, 0, 4, 0]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_process_releases_its_run_between_two_tenants() {
    let fixture = Fixture::with(3).await;
    fixture.write(WAITS_FOR_LOCK);
    let lock = MigrationLock::hold(&fixture).await;
    let (one, two) = (fixture.backend(&[]).await, fixture.backend(&[]).await);
    let ctx = one.operator();
    let command = MigrationRequest { workers: Some(1), ..MigrationRequest::default() };
    let made = one.services.fleet.start(&ctx, &command).await.unwrap();
    one.services.fleet.run_in_background(&ctx, made.id).await.unwrap();
    lock.wait_until_waiting().await;
    let fleet = one.services.fleet.clone();
    let ((), ()) = tokio::join!(fleet.stop(), lock.release());
    let released = two.services.fleet.read(&ctx, made.id).await.unwrap();
    assert_eq!(
        (released.state.as_str(), released.is_held, released.counts.running),
        ("running", false, 0)
    );
    assert!(released.counts.pending > 0, "{released:?}");
    // The stopped process released its lease, so no other process waits for it to expire.
    let record = two.services.fleet.run(&ctx, made.id, no_events()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    assert_eq!(fixture.runs().await, [1; 3]);
    one.close().await;
    two.close().await;
}
