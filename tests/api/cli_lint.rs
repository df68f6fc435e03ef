//! `rowhouse migrate --lint`: its findings, its exit codes, and that it needs no database.

use serde_json::json;

use crate::support::{Completed, Program};

/// Creates a program without a database, and a folder `mine` with these migration files.
fn program(files: &[(&str, &str)]) -> Program {
    let program = Program::embedded();
    let folder = program.folder().join("mine");
    std::fs::create_dir(&folder).expect("a folder can be made");
    for (name, text) in files {
        std::fs::write(folder.join(name), text).expect("a file can be written");
    }
    program
}

fn lint(program: &Program, more: &[&str]) -> Completed {
    program.run(&[&["migrate", "--lint", "--tenant-migrations", "mine"], more].concat())
}

const CLEAN: &str = "CREATE TABLE notes (id uuid NOT NULL CONSTRAINT notes_pkey PRIMARY KEY);\n";

#[test]
fn the_built_in_set_has_no_findings_and_the_lint_needs_no_database() {
    let program = Program::embedded().with("DATABASE_URL", "postgres://unknown@127.0.0.1:1/none");
    let ran = program.run(&["migrate", "--lint"]).expect(0);
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains(" 0 findings"), "{ran:?}");
    let report = program.run(&["migrate", "--lint", "--json"]).expect(0).json();
    assert_eq!(report["findings"], json!([]));
    assert!(report["fileCount"].as_u64().is_some_and(|count| count >= 4), "{report}");
    let entries = std::fs::read_dir(program.folder()).expect("a folder can be listed");
    assert_eq!(entries.count(), 0);
}

#[test]
fn a_finding_has_a_file_a_line_and_a_reason_and_exits_with_1() {
    let index = "-- Quick to find.\n\nCREATE INDEX notes_id_idx ON notes (id);\nFLY;\n";
    let program = program(&[("V1__create_notes.sql", CLEAN), ("V2__add_index.sql", index)]);
    let ran = lint(&program, &[]).expect(1);
    let first = "V2__add_index.sql:3: create-index-blocking (lock): CREATE INDEX notes_id_idx ON notes (id);";
    assert_eq!(ran.stdout.lines().next(), Some(first));
    assert!(ran.stdout.contains("V2__add_index.sql:4: not-checked (unchecked): FLY;"), "{ran:?}");
    assert!(ran.stdout.contains("  Instead: use CREATE INDEX CONCURRENTLY"), "{ran:?}");
    assert_eq!(ran.stderr, "2 files with 3 statements: 2 findings, 0 allowed\n");

    let report = lint(&program, &["--json"]).expect(1).json();
    let (files, statements) = (&report["fileCount"], &report["statementCount"]);
    assert_eq!((files, statements, &report["allowedCount"]), (&json!(2), &json!(3), &json!(0)));
    let finding = &report["findings"][0];
    assert_eq!(finding["file"], "V2__add_index.sql");
    assert_eq!(finding["line"], 3);
    assert_eq!(finding["rule"], "create-index-blocking");
    assert_eq!(finding["severity"], "lock");
    assert_eq!(finding["text"], "CREATE INDEX notes_id_idx ON notes (id);");
    for sentence in ["why", "instead"] {
        assert!(finding[sentence].as_str().is_some_and(|text| text.len() > 20), "{finding}");
    }
}

#[test]
fn a_statement_allowed_in_its_file_or_in_lint_allow_is_not_a_finding() {
    let drop =
        "-- rowhouse: allow drop-table no release has used it since May\nDROP TABLE notes;\n";
    let old = "ALTER TABLE notes RENAME TO remarks;\n";
    let allow = "V2__rename.sql rename there was one program then\n";
    let files = [("V1__create_notes.sql", CLEAN), ("V2__rename.sql", old), ("V3__drop.sql", drop)];
    let ran = lint(&program(&files), &[]).expect(1);
    assert!(ran.stdout.starts_with("V2__rename.sql:1: rename"), "{ran:?}");
    let with = program(&[&files[..], &[("lint.allow", allow)]].concat());
    let ran = lint(&with, &[]).expect(0);
    assert_eq!(ran.stderr, "3 files with 3 statements: 0 findings, 2 allowed\n");
    assert_eq!(ran.stdout, "");
}

#[test]
fn an_unreadable_or_invalid_set_is_an_error() {
    let ran = lint(&Program::embedded(), &[]).expect(1);
    assert!(ran.stderr.contains("cannot read the migrations in mine"), "{ran:?}");
    let ran = lint(&program(&[("V1__x.sql", "SET search_path = public")]), &["--json"]).expect(1);
    assert!(ran.stderr.contains("V1__x.sql, line 1") && ran.stdout.is_empty(), "{ran:?}");
}
