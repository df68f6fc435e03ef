//! Programs with different folders on one database.

use super::{Fixture, NOTES, schema};
use crate::support::{Snapshot, TestDatabase};

/// Asserts that nothing was changed in the control plane, and no schema made. A program that starts records the files
/// that it knows.
async fn assert_unchanged(database: &TestDatabase, before: &Snapshot) {
    let changed = Snapshot::take(&database.connect().await).await.changed_since(before);
    assert!(changed.iter().all(|table| table == "migration_sets"), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_with_fewer_files_makes_tenants_that_the_other_one_brings_up_to_date() {
    let fixture = Fixture::new().await;
    let older = tempfile::tempdir().unwrap();
    std::fs::write(older.path().join("V1__notes.sql"), NOTES).unwrap();
    let (older, newer) = (fixture.program_with(older.path()), fixture.program());
    newer.create_tenant("first").expect(0);
    fixture.write("V2__tags.sql", "ALTER TABLE notes ADD COLUMN tags text[];\n");
    newer.run(&["migrate"]).expect(0);
    let late = older.create_tenant("late").expect(0);
    let before = Snapshot::take(&fixture.database.connect().await).await;
    let ran = older.run(&["migrate"]).expect(1);
    let said = "the schema is at version 2, this program knows up to 1; start a newer one (first)";
    assert!(ran.stderr.contains(said), "{ran:?}");
    assert_unchanged(&fixture.database, &before).await;
    let plan = newer.run(&["migrate", "--plan"]).expect(0);
    assert!(plan.stdout.contains("lack V2__tags.sql (late)"), "{plan:?}");
    newer.run(&["migrate"]).expect(0);
    let tags = format!("SELECT count(tags) FROM {}.notes", schema(&late));
    assert_eq!(fixture.number(&tags).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_with_another_file_of_the_same_number_neither_migrates_nor_makes_tenants() {
    let fixture = Fixture::new().await;
    fixture.write("V2__tags.sql", "ALTER TABLE notes ADD COLUMN tags text[];\n");
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("V1__notes.sql"), NOTES).unwrap();
    std::fs::write(other.path().join("V2__stars.sql"), "ALTER TABLE notes ADD COLUMN stars int;\n")
        .unwrap();
    fixture.program().create_tenant("first").expect(0);
    let other = fixture.program_with(other.path());
    let before = Snapshot::take(&fixture.database.connect().await).await;
    for ran in [other.run(&["migrate"]), other.create_tenant("second")] {
        let ran = ran.expect(1);
        assert!(ran.stderr.contains("V2__stars.sql") && ran.stderr.contains("first"), "{ran:?}");
        assert_unchanged(&fixture.database, &before).await;
    }
    fixture.assert_nothing_is_left(1).await;
    fixture.program().create_tenant("second").expect(0);
}
