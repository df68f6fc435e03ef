//! `migrate repair`: histories that contradict the files are made to fit them again, and the advice of `migrate` works.

use serde_json::Value;
use tokio_postgres::Client;

use super::fixture::{Fixture, wait_for};
use crate::support::{Program, Snapshot, TestEngine};

const SECOND: &str = "CREATE TABLE second (id integer PRIMARY KEY);\n";
const THIRD: &str = "CREATE TABLE third (id integer PRIMARY KEY);\n";

/// Makes a tenant as if a program had done it whose folder has a second file beside the first and the third.
async fn poison(fixture: &Fixture, sql: &Client, number: usize) {
    fixture.write(("V2__second.sql", SECOND));
    let folder = fixture.folder.path();
    let set = rowhouse::migrations::MigrationSet::load(folder).expect("the set is valid");
    let file = &set.history()[1];
    assert_eq!(file.version, 2);
    let schema = fixture.schema(number);
    let script = format!(
        "SET search_path = {schema};
         {SECOND}
         ALTER TABLE second OWNER TO {};
         GRANT SELECT, INSERT, UPDATE, DELETE ON second TO {schema};
         INSERT INTO refinery_schema_history VALUES (2, '{}', '2026-01-02T03:04:05Z', '{}');
         RESET search_path;
         UPDATE tenants SET migrations_fingerprint = '{}' WHERE id = '{}'",
        TestEngine::of_run().owner_of_files().1,
        file.name,
        file.checksum,
        set.fingerprint(),
        fixture.tenants[number],
    );
    for statement in TestEngine::of_run().messages(&script) {
        sql.batch_execute(statement).await.expect("the tenant can be changed");
    }
    fixture.remove("V2__second.sql");
}

/// A fixture with tenants on the first and the third file.
async fn migrated(count: usize) -> (Fixture, Program, Client) {
    let fixture = Fixture::with(count).await;
    fixture.write(("V3__third.sql", THIRD));
    let program = fixture.program();
    program.run(&["migrate"]).expect(0);
    let sql = fixture.sql().await;
    (fixture, program, sql)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_file_that_is_renumbered_as_advised_poisons_no_fleet() {
    let (fixture, program, sql) = migrated(3).await;
    poison(&fixture, &sql, 1).await;
    fixture.write(("V2__second.sql", SECOND));
    let refused = program.run(&["migrate"]).expect(1);
    assert!(refused.stderr.contains("V2__second.sql is new and has a lower number"), "{refused:?}");
    assert!(refused.stderr.contains("renumber it"), "{refused:?}");

    fixture.remove("V2__second.sql");
    fixture.write(("V4__second.sql", SECOND));
    let refused = program.run(&["migrate"]).expect(1);
    assert!(refused.stderr.contains("`rowhouse migrate repair`"), "{refused:?}");

    let before = Snapshot::take(&sql).await;
    let plan = program.run(&["migrate", "repair"]).expect(0);
    assert_eq!(
        plan.stdout,
        "V2__second.sql becomes V4__second.sql, which has its text (t1)\nnothing was changed; --yes does it\n"
    );
    assert_eq!(Snapshot::take(&sql).await, before, "a plan changes nothing");

    let done = program.run(&["migrate", "repair", "--yes"]).expect(0);
    assert_eq!(done.stdout, "V2__second.sql becomes V4__second.sql, which has its text (t1)\n");
    assert_eq!(fixture.versions(1).await, [1, 3, 4]);
    let applied_on = format!(
        "SELECT applied_on FROM {}.refinery_schema_history WHERE version = 4",
        fixture.schema(1)
    );
    let applied_on: String = sql.query_one(&applied_on, &[]).await.unwrap().get(0);
    assert_eq!(applied_on, "2026-01-02T03:04:05Z", "the row keeps its time");
    let event = "SELECT actor, tenant_id::text, details FROM audit_events WHERE action = 'migration.repair'";
    let event = sql.query_one(event, &[]).await.unwrap();
    assert_eq!(event.get::<_, String>(1), fixture.tenants[1].to_string());
    let details: Value = event.get(2);
    assert_eq!(details["changes"][0]["change"], "rename");
    assert_eq!(details["changes"][0]["from"]["version"], 2);
    assert_eq!(details["changes"][0]["to"]["version"], 4);

    let again = program.run(&["migrate", "repair", "--yes"]).expect(0);
    assert_eq!(again.stdout, "tenants: all histories fit the files\n");
    let ran = program.run(&["migrate"]).expect(0);
    assert!(ran.stdout.contains("tenants: 2 migrated"), "the repaired one is not behind: {ran:?}");
    for number in 0..3 {
        assert_eq!(fixture.versions(number).await, [1, 3, 4]);
    }
    program.create_tenant("newer").expect(0);
    let doctor = program.run(&["doctor"]);
    assert!(doctor.code == Some(0), "{doctor:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_an_operator_can_know_is_done_on_request_and_named_until_then() {
    let (fixture, program, sql) = migrated(2).await;
    poison(&fixture, &sql, 0).await;
    // The third file was edited, and the second was taken away.
    fixture
        .write(("V3__third.sql", "CREATE TABLE IF NOT EXISTS third (id integer PRIMARY KEY);\n"));
    let plan = program.run(&["migrate", "repair", "--json"]).expect(1).json();
    assert_eq!(plan["applied"], false);
    let first = &plan["tenants"][0];
    assert_eq!((&first["slug"], &first["state"]), (&"t0".into(), &"unchanged".into()));
    let problems = first["problems"].to_string();
    assert!(problems.contains("`--forget V2`") && problems.contains("`--accept V3`"), "{problems}");

    let done =
        program.run(&["migrate", "repair", "--accept", "V3", "--yes", "--json"]).expect(3).json();
    assert_eq!(done["tenants"][0]["changes"][0]["change"], "accept");
    assert_eq!(done["tenants"][1]["state"], "repaired");
    program.run(&["migrate"]).expect(1);
    let forgotten =
        program.run(&["migrate", "repair", "--forget", "2", "--tenant", "t0", "--yes"]).expect(0);
    assert_eq!(forgotten.stdout, "V2__second.sql is deleted from the history (t0)\n");
    program.run(&["migrate"]).expect(0);
    // A late file whose effect one tenant has.
    fixture.write(("V2__second.sql", SECOND));
    let late = program.run(&["migrate", "repair"]).expect(1);
    assert!(late.stdout.contains("`--stamp V2`") && late.stdout.contains("(t0, t1)"), "{late:?}");
    let stamped = program.run(&["migrate", "repair", "--stamp", "V2", "--yes"]).expect(0);
    assert_eq!(stamped.stdout, "V2__second.sql is recorded as applied and not run (t0, t1)\n");
    program.run(&["migrate"]).expect(0);
    assert_eq!(fixture.versions(1).await, [1, 2, 3]);
    let rows = "SELECT count(DISTINCT migrations_fingerprint), max(migrations_version) FROM tenants
                 WHERE slug IN ('t0', 't1')";
    let rows = sql.query_one(rows, &[]).await.unwrap();
    assert_eq!((rows.get::<_, i64>(0), rows.get::<_, i32>(1)), (1, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_leaves_out_what_it_cannot_lock_and_does_the_rest_when_it_runs_again() {
    let (fixture, program, sql) = migrated(2).await;
    for number in 0..2 {
        poison(&fixture, &sql, number).await;
    }
    fixture.write(("V4__second.sql", SECOND));
    let other = fixture.sql().await;
    let hold = format!("BEGIN; SELECT FROM tenants WHERE id = '{}' FOR UPDATE", fixture.tenants[0]);
    other.batch_execute(&hold).await.unwrap();
    let program = program.with("ROWHOUSE_DATABASE__LOCK_TIMEOUT", "100ms");
    let ran = program.run(&["migrate", "repair", "--yes"]).expect(3);
    assert!(ran.stdout.contains("not repaired: ") && ran.stdout.contains("(t0)"), "{ran:?}");
    assert_eq!(fixture.versions(0).await, [1, 2, 3]);
    assert_eq!(fixture.versions(1).await, [1, 3, 4]);
    other.batch_execute("ROLLBACK").await.unwrap();
    program.run(&["migrate", "repair", "--yes"]).expect(0);
    assert_eq!(fixture.versions(0).await, [1, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_repaired_while_an_operation_is_open() {
    let fixture = Fixture::with(2).await;
    fixture.write(super::fixture::SECOND);
    let program = fixture.program();
    program.run(&["migrate", "--canary", "1"]).expect(0);
    let sql = fixture.sql().await;
    wait_for(&sql, "SELECT count(*) = 1 FROM operations WHERE state = 'paused'").await;
    let refused = program.run(&["migrate", "repair", "--forget", "V2", "--yes"]).expect(1);
    assert!(refused.stderr.contains("is paused: resume or cancel it first"), "{refused:?}");
    assert_eq!(fixture.versions(0).await, [1, 2]);
    // A plan only reads.
    program.run(&["migrate", "repair"]).expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_no_file_has_and_an_unknown_tenant_are_refused() {
    let fixture = Fixture::with(1).await;
    let program = fixture.program();
    for arguments in [
        &["--stamp", "V9"][..],
        &["--accept", "9"],
        &["--forget", "x"],
        &["--forget", "0"],
        &["--stamp", "V-1"],
        &["--tenant", "unknown"],
    ] {
        let ran = program.run(&[&["migrate", "repair"], arguments].concat()).expect(2);
        assert!(!ran.stderr.is_empty(), "{arguments:?}");
    }
}
