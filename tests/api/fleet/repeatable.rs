//! Repeatable files, and files whose line ends differ from those that were recorded.

use refinery_core::Migration;
use rowhouse::migrations::{Applied, MigrationSet};

use super::fixture::{FIRST, Fixture, SECOND, provision};
use crate::support::Completed;

const VIEWS: (&str, &str) =
    ("R__views.sql", "CREATE OR REPLACE VIEW counted AS SELECT runs + 100 AS runs FROM notes;");
const CHANGED: (&str, &str) =
    ("R__views.sql", "CREATE OR REPLACE VIEW counted AS SELECT runs + 200 AS runs FROM notes;");

/// What the view says in each tenant.
async fn counted(fixture: &Fixture) -> Vec<i32> {
    let sql = fixture.sql().await;
    let mut all = Vec::new();
    for number in 0..fixture.tenants.len() {
        let query = format!("SELECT runs FROM {}.counted", fixture.schema(number));
        all.push(sql.query_one(&query, &[]).await.expect("there is a view").get(0));
    }
    all
}

fn plan(fixture: &Fixture) -> String {
    fixture.program().run(&["migrate", "--plan"]).expect(0).stdout
}

fn migrate(fixture: &Fixture) -> Completed {
    fixture.program().run(&["migrate"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeatable_file_runs_after_the_others_and_again_when_it_changes() {
    let mut fixture = Fixture::with(2).await;
    fixture.write(VIEWS);
    fixture.write(SECOND);
    let found = plan(&fixture);
    assert!(found.contains("lack V2__add_mood.sql, R__views.sql (t0, t1)"), "{found}");
    migrate(&fixture).expect(0);
    assert_eq!((counted(&fixture).await, fixture.runs().await), (vec![101; 2], vec![1; 2]));
    let versions = fixture.versions(0).await;
    assert!(versions[0] < 0 && versions[1..] == [1, 2], "{versions:?}");
    assert_eq!(plan(&fixture), "tenants: 2 current, 0 behind\n");

    fixture.write(CHANGED);
    let found = plan(&fixture);
    assert!(found.contains("2 at version 2 lack R__views.sql (t0, t1)"), "{found}");
    let doctor = fixture.program().run(&["doctor"]).stdout;
    assert!(doctor.contains("R__views.sql has not run since it was changed"), "{doctor}");
    migrate(&fixture).expect(0);
    assert_eq!((counted(&fixture).await, fixture.versions(1).await), (vec![201; 2], versions));

    // A numbered file alone does not run it again.
    fixture.write(("V3__count.sql", "UPDATE notes SET runs = runs + 10;"));
    migrate(&fixture).expect(0);
    assert_eq!((counted(&fixture).await, fixture.runs().await), (vec![211; 2], vec![11; 2]));
    let doctor = fixture.program().run(&["doctor"]);
    assert!(
        !doctor.stdout.contains("counted") && !doctor.stdout.contains("R__views"),
        "{doctor:?}"
    );

    // A new tenant gets all files in the same transaction.
    let backend = fixture.backend(&[]).await;
    fixture.tenants.push(provision(&backend, "t2").await);
    backend.close().await;
    assert_eq!(counted(&fixture).await, [211, 211, 211]);
    assert_eq!(fixture.versions(2).await[1..], [1, 2, 3]);
    assert_eq!(plan(&fixture), "tenants: 3 current, 0 behind\n");

    // A file that is gone stays applied.
    fixture.remove(VIEWS.0);
    migrate(&fixture).expect(0);
    assert_eq!(counted(&fixture).await, [211; 3]);
    assert_eq!(plan(&fixture), "tenants: 3 current, 0 behind\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeatable_file_that_fails_is_named_and_leaves_the_tenant_as_it_was() {
    let fixture = Fixture::with(1).await;
    fixture.write(SECOND);
    fixture.write(("R__views.sql", "CREATE VIEW counted AS\nSELECT nonsense FROM notes;"));
    let failed = migrate(&fixture).expect(1);
    assert!(
        format!("{}{}", failed.stdout, failed.stderr).contains("R__views.sql, line 2"),
        "{failed:?}"
    );
    assert_eq!((fixture.versions(0).await, fixture.runs().await), (vec![1], vec![0]));
    fixture.write(("R__views.sql", "-- rowhouse: no-transaction\nSELECT 1;"));
    let refused = migrate(&fixture).expect(1);
    assert!(refused.stderr.contains("R__views.sql, line 1: a repeatable file"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_ends_and_a_byte_order_mark_make_no_other_file() {
    let fixture = Fixture::with(2).await;
    let crlf = FIRST.1.replace('\n', "\r\n");
    for text in [crlf.clone(), format!("\u{feff}{crlf}"), format!("\u{feff}{}", FIRST.1)] {
        fixture.write((FIRST.0, &text));
        assert_eq!(plan(&fixture), "tenants: 2 current, 0 behind\n");
    }

    // As an older program recorded a file that was checked out with CRLF.
    let recorded = Migration::unapplied("V1__create_notes", &crlf).expect("a file");
    let checksum = recorded.checksum().to_string();
    let row = Applied { version: 1, name: "create_notes".to_owned(), checksum: checksum.clone() };
    let sql = fixture.sql().await;
    for number in 0..2 {
        let schema = fixture.schema(number);
        let update = format!("UPDATE {schema}.refinery_schema_history SET checksum = '{checksum}'");
        sql.batch_execute(&update).await.expect("the history can be changed");
    }
    let fingerprint = MigrationSet::fingerprint_of(&[row]);
    sql.execute("UPDATE tenants SET migrations_fingerprint = $1", &[&fingerprint])
        .await
        .expect("the rows can be changed");
    for text in [&crlf, FIRST.1] {
        fixture.write((FIRST.0, text));
        migrate(&fixture).expect(0);
        assert_eq!(plan(&fixture), "tenants: 2 current, 0 behind\n");
    }
    fixture.write(SECOND);
    migrate(&fixture).expect(0);
    assert_eq!((fixture.runs().await, fixture.versions(1).await), (vec![1; 2], vec![1, 2]));
    fixture.program().run(&["doctor"]).expect(0);
}
