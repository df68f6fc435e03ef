//! Pausing, resuming, cancelling, retrying; canaries; when to stop.

use rowhouse::domain::operation::Then;
use rowhouse::service::fleet::{Canary, Wish};

use tokio_postgres::Client;

use super::ground::{GATED, Gate, Ground, SECOND, migrate, outcome, quiet, wait_for};

/// Waits until the runner has signed on twice: by then it has done what it was told the first time.
pub async fn heard_twice(sql: &Client) {
    for _ in 0..2 {
        let lease = "SELECT lease_until::text FROM operations";
        let before: String = sql.query_one(lease, &[]).await.expect("it is held").get(0);
        wait_for(sql, &format!("SELECT lease_until::text <> '{before}' FROM operations")).await;
    }
}

fn canary(count: u32, tenants: &[&str], then: Then) -> Wish {
    let tenants = tenants.iter().map(|slug| (*slug).to_owned()).collect();
    Wish { canary: Some(Canary { count, tenants, then }), ..Wish::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_process_pauses_a_run_and_any_other_resumes_it() {
    let ground = Ground::with(4).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let (one, two) = (ground.backend(&[]).await, ground.backend(&[]).await);
    let ctx = one.operator();
    let wish = Wish { workers: Some(1), ..Wish::default() };
    let made = one.services.fleet.start(&ctx, &wish).await.unwrap();
    let sql = ground.sql().await;
    let (ran, ()) = tokio::join!(one.services.fleet.run(&ctx, made.id, quiet()), async {
        gate.reached(&ground).await;
        let paused = two.services.fleet.pause(&ctx, made.id).await.unwrap();
        assert_eq!(paused.state.as_str(), "paused");
        // Twice is as good as once.
        two.services.fleet.pause(&ctx, made.id).await.unwrap();
        heard_twice(&sql).await;
        gate.open().await;
    });
    // The tenant that was begun came to its end, no other was begun.
    assert_eq!(outcome(&ran.unwrap()), ("paused", Some("asked"), [3, 1, 0, 0]));
    let record = two.services.fleet.run(&ctx, made.id, quiet()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 4, 0, 0]));
    assert_eq!(ground.runs().await, [1; 4]);
    let actions: String = sql
        .query_one("SELECT string_agg(action, ' ' ORDER BY at, id) FROM audit_events WHERE action LIKE 'migration.%'", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(actions, "migration.start migration.pause migration.resume");
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_leaves_what_was_not_begun_and_frees_the_fleet() {
    let ground = Ground::with(3).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let (one, two) = (ground.backend(&[]).await, ground.backend(&[]).await);
    let ctx = one.operator();
    let wish = Wish { workers: Some(1), ..Wish::default() };
    let made = one.services.fleet.start(&ctx, &wish).await.unwrap();
    let (ran, ()) = tokio::join!(one.services.fleet.run(&ctx, made.id, quiet()), async {
        gate.reached(&ground).await;
        two.services.fleet.cancel(&ctx, made.id).await.unwrap();
        heard_twice(&ground.sql().await).await;
        gate.open().await;
    });
    let record = ran.unwrap();
    assert_eq!(outcome(&record), ("cancelled", None, [0, 1, 0, 2]));
    two.services.fleet.cancel(&ctx, made.id).await.unwrap();
    assert!(two.services.fleet.run(&ctx, made.id, quiet()).await.is_err());
    assert!(two.services.fleet.pause(&ctx, made.id).await.is_err());
    assert!(two.services.fleet.retry(&ctx, made.id).await.is_err());
    let record = migrate(&two, &Wish::default()).await;
    assert_eq!((record.state.as_str(), record.counts.failed), ("done", 0));
    assert_eq!(ground.runs().await, [1; 3]);
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_goes_first_and_the_rest_waits_for_a_word() {
    let ground = Ground::with(4).await;
    ground.write(SECOND);
    let backend = ground.backend(&[]).await;
    let record = migrate(&backend, &canary(1, &["t2"], Then::Pause)).await;
    assert_eq!(outcome(&record), ("paused", Some("canary"), [2, 2, 0, 0]));
    assert_eq!(ground.runs().await, [1, 0, 1, 0]);
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let refused = fleet.start(&ctx, &Wish::default()).await.unwrap_err().to_string();
    assert!(refused.contains("is paused: resume or cancel it first"), "{refused}");
    let record = fleet.run(&ctx, record.id, quiet()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 4, 0, 0]));
    assert_eq!(ground.runs().await, [1; 4]);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_went_well_may_go_on_by_itself() {
    let ground = Ground::with(3).await;
    ground.write(SECOND);
    let backend = ground.backend(&[]).await;
    let record = migrate(&backend, &canary(1, &[], Then::Continue)).await;
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_failed_stops_everybody_and_a_retry_begins_with_it() {
    let ground = Ground::with(3).await;
    ground.write(SECOND);
    let sql = ground.sql().await;
    let rename = format!("ALTER TABLE {}.notes RENAME TO lost", ground.schema(0));
    sql.batch_execute(&rename).await.unwrap();
    let backend = ground.backend(&[]).await;
    let record = migrate(&backend, &canary(1, &[], Then::Continue)).await;
    assert_eq!(outcome(&record), ("paused", Some("canary_failed"), [2, 0, 1, 0]));
    let mend = format!("ALTER TABLE {}.lost RENAME TO notes", ground.schema(0));
    sql.batch_execute(&mend).await.unwrap();
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    fleet.retry(&ctx, record.id).await.unwrap();
    let record = fleet.run(&ctx, record.id, quiet()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_pauses_when_as_many_failed_as_may() {
    let ground = Ground::with(6).await;
    ground.write(("V2__break.sql", "ALTER TABLE nowhere ADD COLUMN x int"));
    let backend = ground.backend(&[]).await;
    let wish = Wish { workers: Some(1), max_failures: Some(2), ..Wish::default() };
    let record = migrate(&backend, &wish).await;
    assert_eq!(outcome(&record), ("paused", Some("max_failures"), [4, 0, 2, 0]));
    // Whoever resumes has looked at those, and allows as many again.
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let record = fleet.run(&ctx, record.id, quiet()).await.unwrap();
    assert_eq!(outcome(&record), ("paused", Some("max_failures"), [2, 0, 4, 0]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_lets_go_between_two_tenants() {
    let ground = Ground::with(3).await;
    ground.write(GATED);
    let gate = Gate::shut(&ground).await;
    let (one, two) = (ground.backend(&[]).await, ground.backend(&[]).await);
    let ctx = one.operator();
    let wish = Wish { workers: Some(1), ..Wish::default() };
    let made = one.services.fleet.start(&ctx, &wish).await.unwrap();
    one.services.fleet.run_in_background(&ctx, made.id).await.unwrap();
    gate.reached(&ground).await;
    let fleet = one.services.fleet.clone();
    let ((), ()) = tokio::join!(fleet.stop(), gate.open());
    let left = two.services.fleet.read(&ctx, made.id).await.unwrap();
    assert_eq!((left.state.as_str(), left.is_held, left.counts.running), ("running", false, 0));
    assert!(left.counts.pending > 0, "{left:?}");
    // Nobody need wait for the lease of one who has said goodbye.
    let record = two.services.fleet.run(&ctx, made.id, quiet()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    assert_eq!(ground.runs().await, [1; 3]);
    one.close().await;
    two.close().await;
}
