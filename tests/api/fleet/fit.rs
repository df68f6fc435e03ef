//! Files that do not fit what is there are named before anything runs.

use rowhouse::service::fleet::Wish;

use super::ground::{FIRST, Ground, SECOND, migrate, outcome};
use crate::support::Snapshot;

/// What a start on the files as they are says, which must not have changed anything.
async fn refusal(ground: &Ground) -> String {
    let backend = ground.backend(&[]).await;
    let sql = ground.sql().await;
    let before = Snapshot::take(&sql).await;
    let refused = backend.services.fleet.start(&backend.operator(), &Wish::default()).await;
    let refused = refused.expect_err("it must not begin").to_string();
    assert_eq!(Snapshot::take(&sql).await, before);
    backend.close().await;
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_a_missing_and_a_late_file_are_named_with_whom_they_concern() {
    let ground = Ground::with(2).await;
    let third = ("V3__third.sql", "CREATE TABLE third (id int PRIMARY KEY)");
    ground.write(third);
    let backend = ground.backend(&[]).await;
    migrate(&backend, &Wish::default()).await;
    backend.close().await;

    ground.write((FIRST.0, "CREATE TABLE notes (id int PRIMARY KEY)"));
    let refused = refusal(&ground).await;
    assert!(refused.contains("V1__create_notes.sql was applied with another text"), "{refused}");
    assert!(refused.contains("(t0, t1)"), "{refused}");

    ground.write(FIRST);
    ground.write(SECOND);
    let refused = refusal(&ground).await;
    assert!(refused.contains("V2__add_mood.sql is new and has a lower number"), "{refused}");

    ground.remove(SECOND.0);
    ground.remove(FIRST.0);
    let refused = refusal(&ground).await;
    assert!(refused.contains("V1__create_notes.sql was applied and is not among"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_ahead_of_the_program_is_refused() {
    let ground = Ground::with(2).await;
    ground.write(SECOND);
    let backend = ground.backend(&[]).await;
    migrate(&backend, &Wish { tenants: vec!["t1".to_owned()], ..Wish::default() }).await;
    backend.close().await;
    ground.remove(SECOND.0);
    let refused = refusal(&ground).await;
    assert!(refused.contains("the database is ahead of this program"), "{refused}");
    assert!(
        refused.contains("version 2, this program knows up to 1") && refused.contains("(t1)"),
        "{refused}"
    );
    // Where nobody who is ahead is meant, nobody is in the way.
    let backend = ground.backend(&[]).await;
    let record =
        migrate(&backend, &Wish { tenants: vec!["t0".to_owned()], ..Wish::default() }).await;
    assert_eq!(outcome(&record), ("done", None, [0, 0, 0, 0]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_older_than_the_table_of_sets_are_asked_once() {
    let ground = Ground::with(2).await;
    let sql = ground.sql().await;
    sql.batch_execute("DELETE FROM migration_sets").await.unwrap();
    ground.write((FIRST.0, "CREATE TABLE notes (id int PRIMARY KEY)"));
    let backend = ground.backend(&[]).await;
    let plan = backend.services.fleet.plan(&backend.operator(), &[]).await.unwrap();
    assert!(
        plan.diverged[0].contains("V1__create_notes.sql was applied with another text"),
        "{plan:?}"
    );
    let sets = "SELECT count(DISTINCT fingerprint) FROM migration_sets";
    let sets: i64 = sql.query_one(sets, &[]).await.unwrap().get(0);
    assert_eq!(sets, 2, "that of the program, and that of the tenants");
    // From then on no schema is looked at.
    sql.batch_execute(&format!(
        "ALTER SCHEMA {} RENAME TO away_0; ALTER SCHEMA {} RENAME TO away_1",
        ground.schema(0),
        ground.schema(1)
    ))
    .await
    .unwrap();
    let again = backend.services.fleet.plan(&backend.operator(), &[]).await.unwrap();
    assert_eq!(again.diverged, plan.diverged);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_says_otherwise_than_its_tenants_row_is_believed() {
    let ground = Ground::with(2).await;
    ground.write(SECOND);
    ground
        .sql()
        .await
        .batch_execute(&format!(
            "UPDATE {}.refinery_schema_history SET checksum = '1'",
            ground.schema(0)
        ))
        .await
        .unwrap();
    let backend = ground.backend(&[]).await;
    let record = migrate(&backend, &Wish::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 1, 1, 0]));
    assert_eq!(ground.runs().await, [0, 1]);
    backend.close().await;
}
