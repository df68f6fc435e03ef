//! A migration that asks the catalogs without a schema does nothing in the schema that is built for comparison, because
//! the tenants have the object already: that schema does not tell which tenant is right.

use tempfile::TempDir;

use crate::support::{Program, TestDatabase, TestEngine};

const NOTES: &str =
    "CREATE TABLE notes (id int NOT NULL CONSTRAINT notes_pkey PRIMARY KEY, body text NOT NULL);";

fn folder(guard: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("a file can be written");
    };
    write("V1__notes.sql", NOTES);
    write("V2__check.sql", guard);
    write("lint.allow", "V2__check.sql catalog-without-schema it is applied already");
    folder
}

async fn program(folder: &TempDir) -> (TestDatabase, Program) {
    let database = TestDatabase::create().await;
    let path = folder.path().display().to_string();
    let program = Program::on(&database).with("ROWHOUSE_TENANT_MIGRATIONS", &path);
    program.run(&["migrate"]).expect(0);
    for slug in ["one", "two"] {
        program.create_tenant(slug).expect(0);
    }
    (database, program)
}

#[tokio::test]
async fn what_a_guard_without_a_schema_made_is_undecided_and_never_to_be_removed() {
    for guard in [
        "DO $$ BEGIN\n  IF NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = 'notes_body_check') THEN\n    \
         ALTER TABLE notes ADD CONSTRAINT notes_body_check CHECK (body <> '');\n  END IF;\nEND $$;",
        "DO $$ BEGIN\n  IF NOT EXISTS (SELECT FROM information_schema.columns WHERE column_name = 'mood_of_note') THEN\n\
         ALTER TABLE notes ADD COLUMN mood_of_note text;\n  END IF;\nEND $$;",
        // The name of the key is the server's.
        "DO $$ BEGIN\n  IF NOT EXISTS (SELECT FROM pg_class WHERE relname LIKE 'notes_body_k%') THEN\n    \
         ALTER TABLE notes ADD UNIQUE (body);\n  END IF;\nEND $$;",
        // The name is composed.
        "DO $$ BEGIN\n  IF to_regclass(format('%I.x', current_schema())) IS NULL AND NOT EXISTS\n\
         (SELECT FROM pg_tables WHERE tablename = 'no' || 'tes_2') THEN EXECUTE 'CREATE TABLE no' || 'tes_2 ()'; END IF;\nEND $$;",
    ] {
        // A node would not know the table.
        if TestEngine::of_run() == TestEngine::Citus && guard.contains("CREATE TABLE") {
            continue;
        }
        let folder = folder(guard);
        let (_database, program) = program(&folder).await;
        let ran = program.run(&["doctor", "--tenant", "one", "--tenant", "two"]).expect(0);
        let line = ran.stdout.lines().find(|line| line.contains("one: "));
        let line = line.unwrap_or_else(|| panic!("{guard}: {ran:?}"));
        assert!(
            line.contains("is there; whether that is right is undecided: V2__check.sql, line "),
            "{line}"
        );
        assert!(ran.stdout.contains("next: do not remove it"), "{ran:?}");
        assert!(!ran.stdout.contains("no migration makes it"), "{ran:?}");
    }
}

/// A guard that composes names may have made anything, and has dropped nothing that other files make.
#[tokio::test]
async fn beside_a_guard_that_composes_names_only_what_is_there_is_undecided() {
    let folder = folder(
        "DO $$ DECLARE r record; BEGIN FOR r IN SELECT tablename FROM pg_tables LOOP
           EXECUTE format('COMMENT ON TABLE %I IS %L', 'notes', 'some'); END LOOP; END $$;",
    );
    let (database, program) = program(&folder).await;
    let sql = database.connect().await;
    let schema = "SELECT 'tenant_' || replace(id::text, '-', '') FROM tenants WHERE slug = 'two'";
    let schema: String = sql.query_one(schema, &[]).await.expect("the tenant is there").get(0);
    let change = format!(
        "CREATE TABLE {schema}.stray (id int);
         ALTER TABLE {schema}.notes DROP COLUMN body"
    );
    for statement in TestEngine::of_run().messages(&change) {
        sql.batch_execute(statement).await.expect("it runs");
    }
    let ran = program.run(&["doctor", "--tenant", "one", "--tenant", "two"]).expect(1);
    assert!(ran.stdout.contains("two: table notes: column body is missing\n"), "{ran:?}");
    assert!(
        ran.stdout.contains("two: table stray is there; whether that is right is undecided"),
        "{ran:?}"
    );
    assert!(ran.stdout.ends_with("1 wrong, 1 warning\n"), "{ran:?}");
}

#[tokio::test]
async fn other_drift_of_a_set_with_such_a_guard_is_found_as_ever() {
    let folder = folder(
        "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = 'notes_body_check') THEN
           ALTER TABLE notes ADD CONSTRAINT notes_body_check CHECK (body <> ''); END IF; END $$;",
    );
    let (database, program) = program(&folder).await;
    let sql = database.connect().await;
    let schema: String = sql
        .query_one(
            "SELECT 'tenant_' || replace(id::text, '-', '') FROM tenants WHERE slug = 'two'",
            &[],
        )
        .await
        .expect("the tenant is there")
        .get(0);
    sql.batch_execute(&format!("CREATE TABLE {schema}.stray (id int)")).await.expect("it runs");
    let ran = program.run(&["doctor", "--tenant", "one", "--tenant", "two"]).expect(1);
    assert!(ran.stdout.contains("two: table stray is there, and no migration makes it"), "{ran:?}");
    assert!(
        ran.stdout.contains("one: table notes: constraint notes_body_check is there; whether"),
        "{ran:?}"
    );
}
