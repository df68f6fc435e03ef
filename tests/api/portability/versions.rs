//! The migrations of an archive and those of the installation.

use serde_json::json;

use super::fixture::{program_on, run, schema_of, value, write};
use crate::support::{Completed, Program, TestDatabase};

const FILES: [(&str, &str); 5] = [
    (
        "V1__create_notes.sql",
        "CREATE TABLE notes (id int CONSTRAINT notes_pkey PRIMARY KEY, body text NOT NULL);
         INSERT INTO notes VALUES (1, 'a seed');",
    ),
    ("V2__create_tags.sql", "CREATE TABLE tags (word text); INSERT INTO tags VALUES ('seed');"),
    ("V3__index_tags.sql", "CREATE INDEX tags_word ON tags (word);"),
    (
        "V4__count_words.sql",
        "ALTER TABLE notes ADD COLUMN words int; UPDATE notes SET words = length(body);",
    ),
    (
        "V5__require_words.sql",
        "UPDATE notes SET words = words + 1; ALTER TABLE notes ALTER COLUMN words SET NOT NULL;
         INSERT INTO tags VALUES ('of V5');",
    ),
];

/// Replaces the migrations of a program by the first of these files.
fn with_files(program: &Program, count: usize) {
    let folder = program.folder().join("migrations");
    std::fs::remove_dir_all(&folder).expect("the folder is there");
    write(&folder, &FILES[..count]);
}

fn import(program: &Program, file: &str, slug: &str) -> Completed {
    program.run(&["tenant", "import", file, "--slug", slug, "--json"])
}

fn code(ran: &Completed) -> serde_json::Value {
    let line = ran.stderr.lines().rev().find(|line| line.starts_with('{'));
    let line = line.unwrap_or_else(|| panic!("{ran:?}"));
    let line = serde_json::from_str::<serde_json::Value>(line);
    line.expect("it is JSON")["error"].clone()
}

#[tokio::test]
async fn an_archive_of_an_earlier_version_is_migrated_forward_and_its_seeds_come_once() {
    let database = TestDatabase::create().await;
    let program = program_on(&database, &FILES[..3]);
    let sql = database.connect().await;
    program.create_tenant("acme").expect(0);
    let schema = schema_of(&sql, "acme").await;
    run(&sql, &format!("DELETE FROM {schema}.tags; INSERT INTO {schema}.notes VALUES (2, 'four')"))
        .await;
    program.run(&["tenant", "export", "acme", "-o", "v3.tar"]).expect(0);

    with_files(&program, 5);
    let made = import(&program, "v3.tar", "newer").expect(0).json();
    assert_eq!(made["version"], 5);
    assert_eq!(made["migrated"], json!(["V4__count_words.sql", "V5__require_words.sql"]));
    let newer = schema_of(&sql, "newer").await;
    let notes = format!(
        "SELECT string_agg(concat_ws(' ', id, body, words), ', ' ORDER BY id) FROM {newer}.notes"
    );
    assert_eq!(value(&sql, &notes).await, "1 a seed 7, 2 four 5");
    assert_eq!(
        value(&sql, &format!("SELECT string_agg(word, ' ') FROM {newer}.tags")).await,
        "of V5"
    );
    program.run(&["doctor", "--tenant", "newer"]).expect(0);
    program.run(&["tenant", "export", "newer", "-o", "v5.tar"]).expect(0);

    with_files(&program, 3);
    let ahead = import(&program, "v5.tar", "ahead").expect(1);
    assert_eq!(code(&ahead)["code"], "archive_ahead");
    assert!(ahead.stderr.contains("V4__count_words.sql"), "{ahead:?}");

    let edited = program.folder().join("migrations/V2__create_tags.sql");
    std::fs::write(edited, "CREATE TABLE tags (word text NOT NULL);").unwrap();
    let diverged = import(&program, "v3.tar", "diverged").expect(1);
    assert_eq!(code(&diverged)["code"], "archive_diverged");
    assert!(diverged.stderr.contains("V2__create_tags.sql"), "{diverged:?}");
    assert_eq!(
        value(&sql, "SELECT count(*)::text FROM tenants WHERE slug IN ('ahead', 'diverged')").await,
        "0"
    );
}

#[tokio::test]
async fn tables_that_no_migration_makes_are_refused_by_name_or_left_out() {
    let database = TestDatabase::create().await;
    let program = program_on(&database, &FILES[..3]);
    let sql = database.connect().await;
    program.create_tenant("acme").expect(0);
    let schema = schema_of(&sql, "acme").await;
    run(
        &sql,
        &format!("CREATE TABLE {schema}.by_hand (id serial, o oid); INSERT INTO {schema}.by_hand (o) VALUES (1)"),
    )
    .await;
    let exported = program.run(&["tenant", "export", "acme"]).expect(0);
    assert!(exported.stderr.contains("by_hand.o may point at large objects"), "{exported:?}");
    let refused = import(&program, "acme.rowhouse.tar", "copy").expect(1);
    assert_eq!(code(&refused)["code"], "tenant_drifted");
    assert!(refused.stderr.contains("table by_hand is made by no migration"), "{refused:?}");
    let arguments =
        ["tenant", "import", "acme.rowhouse.tar", "--slug", "copy", "--leave-out", "by_hand"];
    program.run(&arguments).expect(0);
    let copy = schema_of(&sql, "copy").await;
    assert_eq!(value(&sql, &format!("SELECT count(*)::text FROM {copy}.notes")).await, "1");
    assert_eq!(value(&sql, &format!("SELECT to_regclass('{copy}.by_hand')::text")).await, "");
    let unknown =
        ["tenant", "import", "acme.rowhouse.tar", "--slug", "other", "--leave-out", "nothing"];
    assert!(program.run(&unknown).expect(1).stderr.contains("the archive has none"));
    run(
        &sql,
        &format!(
            "ALTER TABLE {schema}.notes ADD COLUMN extra int, ALTER COLUMN body TYPE varchar(9)"
        ),
    )
    .await;
    program.run(&["tenant", "export", "acme"]).expect(0);
    let columns = import(&program, "acme.rowhouse.tar", "other").expect(1);
    for words in [
        "column extra of notes is made by no migration",
        "column body of notes is character varying(9)",
    ] {
        assert!(columns.stderr.contains(words), "{columns:?}");
    }
}
