//! `rowhouse migrate --lint`: its findings, its exit codes, and that it needs no database. A set whose effect in one
//! tenant depends on the others is refused by every command that makes a schema.

use serde_json::json;

use crate::support::{Completed, Program, TestDatabase};

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
    assert!(report["file_count"].as_u64().is_some_and(|count| count >= 4), "{report}");
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
    let (files, statements) = (&report["file_count"], &report["statement_count"]);
    assert_eq!((files, statements, &report["allowed_count"]), (&json!(2), &json!(3), &json!(0)));
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

/// A guard that finds the constraint of another tenant.
const GUARD: &str = "DO $$ BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = 'notes_id_check') THEN
    ALTER TABLE notes ADD CONSTRAINT notes_id_check CHECK (id IS NOT NULL);
  END IF;
END $$;
";

/// A program on a database of its own, with these files.
async fn on_database(files: &[(&str, &str)]) -> (TestDatabase, Program) {
    let database = TestDatabase::create().await;
    let program = Program::on(&database).with("ROWHOUSE_TENANT_MIGRATIONS", "mine");
    std::fs::create_dir(program.folder().join("mine")).expect("a folder can be made");
    for (name, text) in files {
        write(&program, name, text);
    }
    (database, program)
}

fn write(program: &Program, name: &str, text: &str) {
    std::fs::write(program.folder().join("mine").join(name), text).expect("a file can be written");
}

fn create(program: &Program, slug: &str) -> Completed {
    let address = format!("admin@{slug}.example.com");
    let names = ["--admin-first-name", "Ada", "--admin-last-name", "Admin"];
    let tenant = ["tenant", "create", "--name", slug, "--slug", slug, "--admin-email", &address];
    let arguments = [&tenant[..], &names, &["--admin-password-stdin"]].concat();
    program.run_with_stdin(&arguments, "SecurePass123!\n")
}

#[tokio::test]
async fn a_set_that_asks_the_catalogs_without_a_schema_makes_nothing_until_it_is_allowed() {
    let (database, program) =
        on_database(&[("V1__create_notes.sql", CLEAN), ("V2__check.sql", GUARD)]).await;
    let refused = |ran: Completed| {
        let ran = ran.expect(1);
        for words in [
            "V2__check.sql, line 2: IF NOT EXISTS (SELECT 1 FROM pg_constraint",
            "connamespace = current_schema()::regnamespace",
            "\nV2__check.sql catalog-without-schema <reason>",
        ] {
            assert!(ran.stderr.contains(words), "{words}: {ran:?}");
        }
    };
    refused(program.run(&["migrate"]));
    refused(program.run(&["serve"]));
    // On a database that is prepared, by the commands that prepare none.
    let built_in = Program::on(&database);
    built_in.run(&["migrate"]).expect(0);
    refused(create(&program, "one"));
    refused(program.run(&["vacancies", "fill"]));
    refused(program.run(&["migrate", "--plan"]));
    refused(program.run(&["migrate", "--rehearse"]));
    refused(program.run(&["migrate", "--canary", "1"]));
    // What makes no schema works.
    program.run(&["tenant", "list"]).expect(0);
    program.run(&["doctor"]).expect(0);
    program.run(&["vacancies"]).expect(0);

    write(&program, "lint.allow", "V2__check.sql catalog-without-schema it is the same for all\n");
    program.run(&["migrate"]).expect(0);
    create(&program, "one").expect(0);
}

#[tokio::test]
async fn each_remedy_of_the_rule_makes_the_object_in_every_tenant() {
    for condition in [
        "conname = 'notes_id_check' AND connamespace = current_schema()::regnamespace",
        "conname = 'notes_id_check' AND conrelid = 'notes'::regclass",
        "conname = 'notes_id_check' AND conrelid = to_regclass('notes')",
    ] {
        let guard = GUARD.replace("conname = 'notes_id_check'", condition);
        let (database, program) =
            on_database(&[("V1__create_notes.sql", CLEAN), ("V2__check.sql", &guard)]).await;
        program.run(&["migrate"]).expect(0);
        for slug in ["one", "two"] {
            create(&program, slug).expect(0);
        }
        let sql = database.connect().await;
        let count = "SELECT count(*) FROM pg_constraint WHERE conname = 'notes_id_check'";
        let count: i64 = sql.query_one(count, &[]).await.expect("the catalog can be read").get(0);
        assert_eq!(count, 2, "{condition}");
        program.run(&["doctor", "--tenant", "one", "--tenant", "two"]).expect(0);
    }
}
