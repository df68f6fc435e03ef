//! `rowhouse tenant adopt`: a schema that another tool made becomes a tenant.

use std::path::Path;

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::markdown::Page;
use crate::support::{Completed, Program, TestDatabase};

const FILES: [(&str, &str); 3] = [
    (
        "V1__create_notes.sql",
        "CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY CONSTRAINT notes_pkey PRIMARY KEY, body text NOT NULL);",
    ),
    (
        "V2__create_tags.sql",
        "CREATE TYPE mood AS ENUM ('good', 'bad');
         CREATE TABLE tags (note_id int NOT NULL REFERENCES notes, word text NOT NULL, mood mood DEFAULT 'good');
         CREATE INDEX tags_word ON tags (word);
         CREATE VIEW words AS SELECT word, count(*) AS count FROM tags GROUP BY word;",
    ),
    (
        "V3__count_notes.sql",
        "CREATE FUNCTION count_notes() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) FROM notes; END;",
    ),
];

/// A database with the migrations of this file.
async fn fixture() -> (TestDatabase, Program, Client) {
    let database = TestDatabase::create().await;
    let program = Program::on(&database).with("ROWHOUSE_TENANT_MIGRATIONS", "migrations");
    write_files(program.folder());
    let sql = database.connect().await;
    (database, program, sql)
}

fn write_files(folder: &Path) {
    let folder = folder.join("migrations");
    std::fs::create_dir(&folder).expect("a folder can be made");
    for (name, text) in FILES {
        std::fs::write(folder.join(name), text).expect("a file can be written");
    }
}

/// Makes a schema as another tool would: with the first files, and a row.
async fn make(sql: &Client, schema: &str, files: usize) {
    let quoted = format!("\"{}\"", schema.replace('"', "\"\""));
    let mut statements = format!("CREATE SCHEMA {quoted}; SET search_path = {quoted};");
    for (_, text) in &FILES[..files] {
        statements.push_str(text);
    }
    statements.push_str("INSERT INTO notes (body) VALUES ('kept'); RESET search_path");
    run(sql, &statements).await;
}

async fn run(sql: &Client, statements: &str) {
    sql.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

async fn value(sql: &Client, query: &str) -> String {
    let row = sql.query_one(query, &[]).await;
    let row = row.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    row.get::<_, Option<String>>(0).unwrap_or_default()
}

fn adopt(program: &Program, arguments: &[&str]) -> Completed {
    program.run(&[&["tenant", "adopt"], arguments].concat())
}

async fn tenant_schema(sql: &Client, slug: &str) -> String {
    value(
        sql,
        &format!(
            "SELECT 'tenant_' || replace(id::text, '-', '') FROM tenants WHERE slug = '{slug}'"
        ),
    )
    .await
}

#[tokio::test]
async fn a_schema_that_equals_a_version_becomes_a_tenant_like_any_other() {
    let (database, program, sql) = fixture().await;
    make(&sql, "acme", 2).await;
    run(
        &sql,
        "CREATE ROLE adopt_other; GRANT adopt_other TO CURRENT_USER; ALTER SCHEMA acme OWNER TO adopt_other; ALTER TABLE acme.tags OWNER TO adopt_other;
         GRANT USAGE ON SCHEMA acme TO PUBLIC; GRANT SELECT ON acme.notes TO PUBLIC, adopt_other;
         GRANT UPDATE (body) ON acme.notes TO adopt_other;
         ALTER DEFAULT PRIVILEGES IN SCHEMA acme GRANT SELECT ON TABLES TO PUBLIC",
    )
    .await;
    let made = adopt(&program, &["--schema", "acme", "--slug", "acme", "--json"]).expect(0).json();
    assert_eq!((&made["version"], &made["pending"]), (&json!(2), &json!(["V3__count_notes.sql"])));
    assert_eq!((&made["kept"], &made["had_history"]), (&json!([]), &json!(false)));
    let schema = tenant_schema(&sql, "acme").await;
    assert_eq!(value(&sql, "SELECT to_regnamespace('acme')::text").await, "");
    assert_eq!(value(&sql, &format!("SELECT body FROM {schema}.notes")).await, "kept");
    let history = format!(
        "SELECT string_agg(version::text, ' ' ORDER BY version) FROM {schema}.refinery_schema_history"
    );
    assert_eq!(value(&sql, &history).await, "1 2");
    let audit = "SELECT details ->> 'schema' FROM audit_events WHERE action = 'tenant.adopt'";
    assert_eq!(value(&sql, audit).await, "acme");

    program.run(&["doctor", "--tenant", "acme"]).expect(0);
    program.run(&["migrate"]).expect(0);
    program.run(&["doctor", "--tenant", "acme"]).expect(0);
    assert_eq!(value(&sql, &history).await, "1 2 3");
    assert_eq!(value(&sql, &format!("SELECT {schema}.count_notes()::text")).await, "1");
    // The tenant's role reads and writes there, and others do not.
    run(
        &sql,
        &format!("GRANT {schema} TO CURRENT_USER; SET ROLE {schema}; INSERT INTO {schema}.notes (body) VALUES ('new');
             RESET ROLE; REVOKE {schema} FROM CURRENT_USER"),
    )
    .await;
    let rights = format!(
        "SELECT concat_ws(' ', has_schema_privilege('adopt_other', '{schema}', 'USAGE'),
                has_table_privilege('adopt_other', '{schema}.notes', 'SELECT'),
                has_any_column_privilege('adopt_other', '{schema}.notes', 'UPDATE'),
                has_table_privilege('{schema}', '{schema}.refinery_schema_history', 'INSERT'))"
    );
    assert_eq!(value(&sql, &rights).await, "f f f f");
    let again = adopt(&program, &["--schema", "acme", "--slug", "acme-two"]).expect(1);
    assert!(again.stderr.contains("acme was adopted already, as tenant acme"), "{again:?}");
    // It is purged as any other.
    program.run(&["tenant", "delete", "acme", "--yes"]).expect(0);
    program.run(&["tenant", "purge", "acme", "--yes"]).expect(0);
    run(&sql, "DROP OWNED BY adopt_other; DROP ROLE adopt_other").await;
    drop(database);
}

#[tokio::test]
async fn a_schema_that_equals_no_version_is_refused_with_the_difference() {
    let (_database, program, sql) = fixture().await;
    make(&sql, "acme", 2).await;
    run(
        &sql,
        "ALTER TABLE acme.notes ALTER body DROP NOT NULL; ALTER TABLE acme.tags ADD extra int; DROP INDEX acme.tags_word",
    )
    .await;
    for stamp in [&[][..], &["--stamp", "V2"], &["--stamp", "2", "--keep-extra"]] {
        let ran =
            adopt(&program, &[&["--schema", "acme", "--slug", "acme"], stamp].concat()).expect(1);
        for words in [
            "schema acme is not adopted",
            "version 2",
            "table notes: column body: nullability is NULL, should be NOT NULL",
            "table tags: column extra is there, and no migration makes it",
            "table tags: index tags_word is missing",
        ] {
            assert!(ran.stderr.contains(words), "{words}: {ran:?}");
        }
    }
    let unknown =
        adopt(&program, &["--schema", "acme", "--slug", "acme", "--stamp", "V9"]).expect(1);
    assert!(
        unknown.stderr.contains("no file has version 9; there are V1__create_notes.sql"),
        "{unknown:?}"
    );
    assert_eq!(value(&sql, "SELECT count(*)::text FROM tenants WHERE slug = 'acme'").await, "0");
    assert_eq!(value(&sql, "SELECT body FROM acme.notes").await, "kept");
    assert_eq!(value(&sql, "SELECT to_regclass('acme.refinery_schema_history')::text").await, "");
}

#[tokio::test]
async fn objects_that_no_migration_makes_are_listed_and_stay_on_request() {
    let (_database, program, sql) = fixture().await;
    make(&sql, "acme", 3).await;
    run(
        &sql,
        "CREATE TABLE acme.django_migrations (id serial PRIMARY KEY, app text);
         CREATE TABLE acme.old_things (id int); GRANT SELECT ON acme.old_things TO PUBLIC;
         CREATE INDEX old_index ON acme.notes (body);
         CREATE FUNCTION acme.old_count() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM acme.notes); END';
         CREATE FUNCTION acme.other() RETURNS int LANGUAGE sql SET search_path = acme AS 'SELECT 1';
         CREATE ROLE adopt_login; ALTER ROLE adopt_login IN DATABASE postgres SET search_path = acme;",
    )
    .await;
    let refused = adopt(&program, &["--schema", "acme", "--slug", "acme"]).expect(1);
    for words in [
        "table django_migrations (the history of another tool) is there",
        "table old_things is there, and no migration makes it",
        "table notes: index old_index is there",
        "routine old_count() is there",
        "--keep-extra adopts it with these objects",
    ] {
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
    }
    let made = adopt(&program, &["--schema", "acme", "--slug", "acme", "--keep-extra"]).expect(0);
    for words in [
        "it stays: table old_things",
        "function acme.old_count() names the schema in its body",
        "function acme.other() names the schema in its settings",
    ] {
        assert!(made.stderr.contains(words), "{words}: {made:?}");
    }
    let schema = tenant_schema(&sql, "acme").await;
    let rights = format!(
        "SELECT concat_ws(' ', has_table_privilege('{schema}', '{schema}.old_things', 'INSERT'),
                               has_table_privilege('adopt_login', '{schema}.old_things', 'SELECT'))"
    );
    assert_eq!(value(&sql, &rights).await, "t f");
    let kept = "SELECT details ->> 'kept' FROM audit_events WHERE action = 'tenant.adopt'";
    assert!(value(&sql, kept).await.contains("table old_things"));
    program.run(&["migrate"]).expect(0);
    run(&sql, "DROP ROLE adopt_login").await;
}

#[tokio::test]
async fn a_history_of_the_same_migrations_is_kept_and_another_one_is_refused() {
    let (_database, program, sql) = fixture().await;
    // A tenant of ours that lost its row, under the name of another tool.
    program
        .run_with_stdin(
            &[
                "tenant",
                "create",
                "--name",
                "Acme",
                "--slug",
                "acme",
                "--admin-email",
                "ada@acme.test",
                "--admin-first-name",
                "Ada",
                "--admin-last-name",
                "L",
                "--admin-password-stdin",
            ],
            "SecurePass123!\n",
        )
        .expect(0);
    let schema = tenant_schema(&sql, "acme").await;
    run(
        &sql,
        &format!(
            "ALTER SCHEMA {schema} RENAME TO old_acme; DELETE FROM tenants WHERE slug = 'acme'; DELETE FROM slugs;
             GRANT {schema} TO CURRENT_USER; DROP OWNED BY {schema}; DROP ROLE {schema}; CREATE TABLE old_acme.refinery_backup AS TABLE old_acme.refinery_schema_history;
             UPDATE old_acme.refinery_schema_history SET checksum = '1' WHERE version = 2"
        ),
    )
    .await;
    let command = ["--schema", "old_acme", "--slug", "acme", "--keep-extra"];
    let other = adopt(&program, &command).expect(1);
    assert!(other.stderr.contains("its refinery_schema_history has other files"), "{other:?}");
    run(
        &sql,
        "TRUNCATE old_acme.refinery_schema_history;
         INSERT INTO old_acme.refinery_schema_history TABLE old_acme.refinery_backup; DROP TABLE old_acme.refinery_backup",
    )
    .await;
    let stamped = adopt(&program, &[&command[..], &["--stamp", "V1"]].concat()).expect(1);
    assert!(stamped.stderr.contains("says version 3, and --stamp says 1"), "{stamped:?}");
    let made = adopt(&program, &[&command[..], &["--json"]].concat()).expect(0).json();
    assert_eq!(
        (&made["had_history"], &made["version"], &made["pending"]),
        (&json!(true), &json!(3), &json!([]))
    );
    program.run(&["doctor", "--tenant", "acme"]).expect(0);
}

#[tokio::test]
async fn a_schema_that_others_need_or_that_is_reserved_is_refused() {
    let (_database, program, sql) = fixture().await;
    make(&sql, "acme", 3).await;
    run(
        &sql,
        "CREATE SCHEMA reports; CREATE VIEW reports.notes AS SELECT * FROM acme.notes;
         CREATE SCHEMA trees; CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA trees",
    )
    .await;
    for (schema, words) in [
        ("public", "public belongs to the server or to Rowhouse itself"),
        ("extensions", "extensions belongs"),
        ("pg_catalog", "pg_catalog belongs"),
        ("information_schema", "information_schema belongs"),
        ("tenant_00000000000000000000000000000000", "has the name of a tenant's schema"),
        ("missing", "there is no schema missing"),
        ("acme", "view reports.notes, outside of it, depends on it"),
        ("trees", "extension pg_trgm is in it: ALTER EXTENSION pg_trgm SET SCHEMA extensions"),
    ] {
        let ran = adopt(&program, &["--schema", schema, "--slug", "acme"]).expect(1);
        assert!(ran.stderr.contains(words), "{schema}: {ran:?}");
    }
    run(&sql, "DROP VIEW reports.notes").await;
    adopt(&program, &["--schema", "acme", "--slug", "acme"]).expect(0);
    make(&sql, "globex", 3).await;
    let taken = adopt(&program, &["--schema", "globex", "--slug", "acme"]).expect(1);
    assert!(taken.stderr.contains("the slug is taken"), "{taken:?}");
    assert_eq!(value(&sql, "SELECT body FROM globex.notes").await, "kept");
}

#[tokio::test]
async fn a_dry_run_tells_the_outcome_and_changes_nothing() {
    let (_database, program, sql) = fixture().await;
    make(&sql, "Odd \"name\"", 3).await;
    let state = "SELECT (SELECT string_agg(nspname || nspowner || coalesce(nspacl::text, ''), ',' ORDER BY nspname) FROM pg_namespace)
                     || (SELECT count(*) FROM audit_events) || (SELECT count(*) FROM tenants)
                     || (SELECT count(*) FROM slugs)";
    let before = value(&sql, state).await;
    let ran =
        adopt(&program, &["--schema", "Odd \"name\"", "--slug", "odd", "--dry-run"]).expect(0);
    assert!(ran.stdout.contains("would be adopted as tenant odd at version 3"), "{ran:?}");
    assert_eq!(value(&sql, state).await, before);
    adopt(&program, &["--schema", "Odd \"name\"", "--slug", "odd"]).expect(0);
}

#[tokio::test]
async fn two_adoptions_of_one_schema_at_once_make_one_tenant() {
    let (_database, program, sql) = fixture().await;
    make(&sql, "acme", 3).await;
    let ran: Vec<Completed> = std::thread::scope(|scope| {
        let threads = ["one", "two"].map(|slug| {
            let program = &program;
            scope.spawn(move || adopt(program, &["--schema", "acme", "--slug", slug]))
        });
        threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
    });
    let codes: Vec<_> = ran.iter().map(|ran| ran.code).collect();
    assert!(codes == [Some(0), Some(1)] || codes == [Some(1), Some(0)], "{ran:?}");
    let refused = ran.iter().find(|ran| ran.code == Some(1)).expect("one is refused");
    assert!(refused.stderr.contains("acme was adopted already, as tenant"), "{refused:?}");
    assert_eq!(value(&sql, "SELECT count(*)::text FROM tenants").await, "1");
}

#[tokio::test]
async fn an_admin_is_linked_made_or_left_out() {
    let (_database, program, sql) = fixture().await;
    for schema in ["a", "b", "c"] {
        make(&sql, schema, 3).await;
    }
    let unknown = ["--schema", "a", "--slug", "a", "--admin-email", "ada@acme.test"];
    let refused = adopt(&program, &unknown).expect(1);
    assert!(refused.stderr.contains("no account has the address ada@acme.test"), "{refused:?}");
    let with_names = [
        &["tenant", "adopt"][..],
        &unknown,
        &["--admin-first-name", "Ada", "--admin-last-name", "L", "--admin-password-stdin"],
    ];
    program.run_with_stdin(&with_names.concat(), "SecurePass123!\n").expect(0);
    adopt(&program, &["--schema", "b", "--slug", "b", "--admin-email", "ada@acme.test"]).expect(0);
    adopt(&program, &["--schema", "c", "--slug", "c", "--name", "Three"]).expect(0);
    let members = "SELECT string_agg(t.slug || ' ' || coalesce(m.role, '-'), ', ' ORDER BY t.slug)
                     FROM tenants t LEFT JOIN memberships m ON m.tenant_id = t.id";
    assert_eq!(value(&sql, members).await, "a ADMIN, b ADMIN, c -");
    assert_eq!(value(&sql, "SELECT name FROM tenants WHERE slug = 'c'").await, "Three");
    adopt(&program, &["--schema", "c", "--slug", "c", "--admin-first-name", "Ada"]).expect(2);
    adopt(&program, &["--schema", "c"]).expect(2);
    adopt(&program, &[]).expect(2);
    adopt(&program, &["--schema", "c", "--slug", "c", "--stamp", "new"]).expect(2);
}

#[tokio::test]
async fn many_schemas_are_adopted_from_a_file_each_by_itself() {
    let (_database, program, sql) = fixture().await;
    for schema in ["a", "b", "d"] {
        make(&sql, schema, 3).await;
    }
    run(&sql, "ALTER TABLE b.notes ADD surplus int").await;
    let file = "schema,slug,name,admin-email\na,a,\"A, Ltd\"\nb,b\nmissing,c\nd,d\n";
    std::fs::write(program.folder().join("tenants.csv"), file).expect("a file can be written");
    let from_file = ["--from-file", "tenants.csv"];
    let dry = adopt(&program, &["--from-file", "tenants.csv", "--dry-run"]).expect(3);
    assert!(dry.stdout.contains("2 of 4 would be adopted"), "{dry:?}");
    let ran = adopt(&program, &from_file).expect(3);
    for line in [
        "[1/4] a: adopted as tenant a",
        "[2/4] b: not adopted: ",
        "[3/4] missing: not adopted: there is no schema",
        "[4/4] d: adopted",
    ] {
        assert!(ran.stderr.contains(line), "{line}: {ran:?}");
    }
    assert_eq!(ran.stdout, "2 of 4 adopted\n");
    assert_eq!(value(&sql, "SELECT name FROM tenants WHERE slug = 'a'").await, "A, Ltd");
    let none = adopt(&program, &["--from-file", "tenants.csv", "--json"]).expect(1).json();
    let adopted: Vec<&Value> =
        none.as_array().expect("it is a list").iter().map(|one| &one["adopted"]).collect();
    assert_eq!(adopted, [false, false, false, false]);
    std::fs::write(program.folder().join("tenants.csv"), "a\nb,B\n")
        .expect("a file can be written");
    let bad = adopt(&program, &from_file).expect(2);
    assert!(bad.stderr.contains("line 1: ") && bad.stderr.contains("line 2: "), "{bad:?}");
    adopt(&program, &["--from-file", "no-such-file"]).expect(2);
}

#[tokio::test]
async fn the_commands_of_the_page_about_other_tools_do_what_it_says() {
    let (_database, program, sql) = fixture().await;
    for schema in ["acme", "globex", "initech"] {
        make(&sql, schema, 3).await;
    }
    run(&sql, "CREATE TABLE globex.django_migrations (id serial PRIMARY KEY, app text)").await;
    let mut ran = 0;
    for block in Page::read("docs/coming-from.md").blocks() {
        match block.language.as_str() {
            "sh" => {
                let outcome = program.shell(&format!("set -e\n{}", block.text));
                assert_eq!(outcome.code, Some(0), "{}: {outcome:?}", block.text);
                ran += 1;
            }
            "csv" => {
                std::fs::write(program.folder().join("tenants.csv"), &block.text)
                    .expect("a file can be written");
            }
            _ => {}
        }
    }
    assert!(ran > 3, "{ran} blocks");
    let slugs = "SELECT string_agg(slug, ' ' ORDER BY slug) FROM tenants";
    assert_eq!(value(&sql, slugs).await, "acme globex initech");
}
