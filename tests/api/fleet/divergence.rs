//! Migration files that diverge from what tenants have applied are named before a run starts.

use rowhouse::service::fleet::MigrationRequest;

use super::fixture::{FIRST, Fixture, SECOND, migrate, outcome};
use crate::support::Snapshot;

/// Returns the error of a start with the current files, after asserting that it changed nothing.
async fn refusal(fixture: &Fixture) -> String {
    let backend = fixture.backend(&[]).await;
    let sql = fixture.sql().await;
    let before = Snapshot::take(&sql).await;
    let refused =
        backend.services.fleet.start(&backend.operator(), &MigrationRequest::default()).await;
    let refused = refused.expect_err("the start is refused").to_string();
    assert_eq!(Snapshot::take(&sql).await, before);
    backend.close().await;
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_missing_and_late_files_are_named_with_their_tenants() {
    let fixture = Fixture::with(2).await;
    let third = ("V3__third.sql", "CREATE TABLE third (id int PRIMARY KEY)");
    fixture.write(third);
    let backend = fixture.backend(&[]).await;
    migrate(&backend, &MigrationRequest::default()).await;
    backend.close().await;

    fixture.write((FIRST.0, "CREATE TABLE notes (id int PRIMARY KEY)"));
    let refused = refusal(&fixture).await;
    assert!(refused.contains("V1__create_notes.sql was applied with another text"), "{refused}");
    assert!(refused.contains("(t0, t1)"), "{refused}");

    fixture.write(FIRST);
    fixture.write(SECOND);
    let refused = refusal(&fixture).await;
    assert!(refused.contains("V2__add_mood.sql is new and has a lower number"), "{refused}");

    fixture.remove(SECOND.0);
    fixture.remove(FIRST.0);
    let refused = refusal(&fixture).await;
    assert!(refused.contains("V1__create_notes.sql was applied and is not among"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_ahead_of_the_program_is_refused() {
    let fixture = Fixture::with(2).await;
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    migrate(
        &backend,
        &MigrationRequest { tenants: vec!["t1".to_owned()], ..MigrationRequest::default() },
    )
    .await;
    backend.close().await;
    fixture.remove(SECOND.0);
    let refused = refusal(&fixture).await;
    assert!(refused.contains("the database is ahead of this program"), "{refused}");
    assert!(
        refused.contains("version 2, this program knows up to 1") && refused.contains("(t1)"),
        "{refused}"
    );
    // A run that names only tenants that are not ahead is accepted.
    let backend = fixture.backend(&[]).await;
    let record = migrate(
        &backend,
        &MigrationRequest { tenants: vec!["t0".to_owned()], ..MigrationRequest::default() },
    )
    .await;
    assert_eq!(outcome(&record), ("done", None, [0, 0, 0, 0]));
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_without_a_recorded_migration_set_are_read_once() {
    let fixture = Fixture::with(2).await;
    let sql = fixture.sql().await;
    sql.batch_execute("DELETE FROM migration_sets").await.unwrap();
    fixture.write((FIRST.0, "CREATE TABLE notes (id int PRIMARY KEY)"));
    let backend = fixture.backend(&[]).await;
    let plan = backend.services.fleet.plan(&backend.operator(), &[]).await.unwrap();
    assert!(
        plan.diverged[0].contains("V1__create_notes.sql was applied with another text"),
        "{plan:?}"
    );
    let sets = "SELECT count(DISTINCT fingerprint) FROM migration_sets";
    let sets: i64 = sql.query_one(sets, &[]).await.unwrap().get(0);
    assert_eq!(sets, 2, "the set of the program and the set of the tenants");
    // The second plan reads no schema.
    sql.batch_execute(&format!(
        "ALTER SCHEMA {} RENAME TO away_0; ALTER SCHEMA {} RENAME TO away_1",
        fixture.schema(0),
        fixture.schema(1)
    ))
    .await
    .unwrap();
    let again = backend.services.fleet.plan(&backend.operator(), &[]).await.unwrap();
    assert_eq!(again.diverged, plan.diverged);
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_in_a_schema_overrides_its_tenants_row() {
    let fixture = Fixture::with(2).await;
    fixture.write(SECOND);
    fixture
        .sql()
        .await
        .batch_execute(&format!(
            "UPDATE {}.refinery_schema_history SET checksum = '1'",
            fixture.schema(0)
        ))
        .await
        .unwrap();
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 1, 1, 0]));
    assert_eq!(fixture.runs().await, [0, 1]);
    backend.close().await;
}
