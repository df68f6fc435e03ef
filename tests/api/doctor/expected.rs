//! Drift that `drift.allow` expects is not found, the use of each line is counted, and lines that do nothing are named.

use serde_json::Value;
use tempfile::TempDir;

use super::Fixture;
use crate::support::Program;

/// What an application makes at run time: partitions in both tenants, an index in one.
const MADE: &str = "
    CREATE TABLE {acme}.parts_2026 PARTITION OF {acme}.parts FOR VALUES FROM (2026) TO (2027);
    CREATE TABLE {acme}.parts_2027 PARTITION OF {acme}.parts FOR VALUES FROM (2027) TO (2028);
    CREATE TABLE {globex}.parts_2026 PARTITION OF {globex}.parts FOR VALUES FROM (2026) TO (2027);
    CREATE INDEX custom_shelf ON {acme}.items (shelf)";

/// The migrations of the workshop with a list of expected drift.
fn folder(expected: &str) -> TempDir {
    let folder = super::workshop_up_to(3);
    std::fs::write(folder.path().join("drift.allow"), expected).expect("a file can be written");
    folder
}

fn program(fixture: &Fixture, folder: &TempDir) -> Program {
    let path = folder.path().display().to_string();
    Program::on(&fixture.app.database).with("ROWHOUSE_TENANT_MIGRATIONS", &path)
}

/// The findings about structure, and the counts of the lines, of an examination of everything.
fn examine(fixture: &Fixture, expected: &str, code: i32) -> (Vec<String>, Vec<u64>) {
    let folder = folder(expected);
    let report = program(fixture, &folder).run(&["doctor", "--json"]).expect(code).json();
    let list = |key: &str| report[key].as_array().cloned().expect("a report has lists");
    let what = |finding: &Value| {
        let tenant = finding["tenant"].as_str().map(|it| format!("{it}: ")).unwrap_or_default();
        format!("{tenant}{}", finding["what"].as_str().unwrap_or_default())
    };
    let findings = list("findings");
    let of_structure = findings.iter().filter(|it| it["area"] == "structure").map(what).collect();
    let counts = list("expected_drift").iter().filter_map(|it| it["count"].as_u64()).collect();
    (of_structure, counts)
}

#[tokio::test]
async fn expected_drift_is_not_found_and_each_line_says_how_often_it_was_used() {
    let fixture = Fixture::open().await;
    fixture.run(MADE).await;
    let (found, _) = examine(&fixture, "", 1);
    assert_eq!(found.len(), 4, "{found:?}");
    let all = "# made at run time\ntable parts_2* one a year\nindex custom_* the tenants' own";
    assert_eq!(examine(&fixture, all, 0), (Vec::new(), vec![3, 1]));
    let fewer = "table parts_2026 only this year\nindex items.custom_* theirs";
    let (found, counts) = examine(&fixture, fewer, 1);
    assert_eq!(found, ["acme-corp: table parts_2027 is there, and no migration makes it"]);
    assert_eq!(counts, [2, 1]);
}

#[tokio::test]
async fn a_line_may_be_for_one_tenant_by_slug_or_id() {
    let fixture = Fixture::open().await;
    fixture.run(MADE).await;
    let rest = "index custom_* theirs";
    let acme = format!("table parts_2* tenant=acme-corp one a year\n{rest}");
    let (found, counts) = examine(&fixture, &acme, 1);
    assert_eq!(found, ["globex-corp: table parts_2026 is there, and no migration makes it"]);
    assert_eq!(counts, [2, 1]);
    let globex = format!("table parts_2* tenant={} one a year\n{acme}", fixture.globex.id);
    assert_eq!(examine(&fixture, &globex, 0), (Vec::new(), vec![1, 2, 1]));
}

#[tokio::test]
async fn what_is_missing_or_another_is_expected_too_and_everything_else_is_found() {
    let fixture = Fixture::open().await;
    fixture
        .run(
            "DROP TABLE {acme}.parts_low;
             ALTER SEQUENCE {acme}.tickets INCREMENT 9;
             ALTER TABLE {acme}.items ADD COLUMN note text",
        )
        .await;
    let lines = "table parts_* the old ones are dropped\nsequence tickets set at run time";
    let (found, counts) = examine(&fixture, lines, 1);
    assert_eq!(found, ["acme-corp: table items: column note is there, and no migration makes it"]);
    assert_eq!(counts, [1, 1]);
}

#[tokio::test]
async fn a_line_that_allowed_nothing_is_a_warning_and_a_malformed_one_is_wrong() {
    let fixture = Fixture::open().await;
    let (found, counts) = examine(&fixture, "\ntable events_2* one a month", 0);
    assert_eq!(found, ["drift.allow, line 2 allowed nothing: table events_2* one a month"]);
    assert_eq!(counts, [0]);
    let bad = "tables events_2* why\ntable events_2*\ngrant reporting why";
    let (found, counts) = examine(&fixture, bad, 1);
    assert_eq!(
        found,
        [
            "drift.allow, line 1: it begins with no kind of object, such as table or index: tables events_2* why",
            "drift.allow, line 2: the reason is missing: table events_2*",
            "drift.allow, line 3: roles, owners and rights are always compared: grant reporting why",
        ]
    );
    assert_eq!(counts, [0_u64; 0]);
    // Of some tenants, a line for the others is no finding.
    let folder = folder("table events_2* one a month");
    let ran = program(&fixture, &folder).run(&["doctor", "--tenant", "acme-corp"]).expect(0);
    assert_eq!(
        ran.stdout,
        "expected drift\n  drift.allow, line 1: 0 differences: table events_2* one a month\n\
         1 tenant examined, all as it should be\n"
    );
}

#[tokio::test]
async fn the_rights_of_others_on_an_expected_object_are_found_and_a_repair_takes_them_away() {
    let fixture = Fixture::open().await;
    fixture.run(MADE).await;
    fixture.run("GRANT SELECT ON {acme}.parts_2026 TO PUBLIC").await;
    let folder = folder("table parts_2* one a year\nindex custom_* theirs");
    let program = program(&fixture, &folder);
    let tenants = ["doctor", "--tenant", "acme-corp", "--tenant", "globex-corp"];
    let ran = program.run(&tenants).expect(1);
    let words = "acme-corp: table parts_2026: PUBLIC has SELECT, and should have no rights";
    assert!(ran.stdout.contains(words), "{ran:?}");
    let ran = program.run(&[&tenants[..], &["--fix"]].concat()).expect(0);
    assert!(ran.stdout.contains("[repaired]"), "{ran:?}");
    assert!(ran.stdout.contains("drift.allow, line 1: 3 differences"), "{ran:?}");
    let ran = program.run(&tenants).expect(0);
    assert!(!ran.stdout.contains("PUBLIC"), "{ran:?}");
}

/// The server adds a constraint for each partition that a foreign key refers to; it is no drift of its own.
#[tokio::test]
async fn one_line_is_enough_for_partitions_that_a_foreign_key_refers_to() {
    let fixture = Fixture::open().await;
    let folder = folder("table parts_2* one a year");
    let refers = "CREATE TABLE uses (item_id uuid, place int, CONSTRAINT uses_pkey PRIMARY KEY (item_id, place),
                    CONSTRAINT uses_fkey FOREIGN KEY (item_id, place) REFERENCES parts (item_id, place));";
    std::fs::write(folder.path().join("V4__add_uses.sql"), refers).expect("a file can be written");
    let program = program(&fixture, &folder);
    program.run(&["migrate"]).expect(0);
    fixture
        .run("CREATE TABLE {acme}.parts_2026 PARTITION OF {acme}.parts FOR VALUES FROM (2026) TO (2027)")
        .await;
    let ran = program.run(&["doctor", "--tenant", "acme-corp"]).expect(0);
    assert!(ran.stdout.ends_with("1 tenant examined, all as it should be\n"), "{ran:?}");
    assert!(ran.stdout.contains("line 1: 1 difference: "), "{ran:?}");
}
