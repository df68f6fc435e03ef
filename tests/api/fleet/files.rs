//! What a migration file reaches, and what it leaves behind: nothing outlives the file, its tenant or its schema.

use rowhouse::domain::Error;
use rowhouse::domain::operation::FleetProblem;
use rowhouse::service::fleet::MigrationRequest;

use super::fixture::{Fixture, SECOND, migrate, outcome, provision};
use crate::support::TestEngine;

/// Fails unless the session holds nothing that a file could have left in it.
const SESSION_IS_CLEAN: &str = "
    DO $$ BEGIN
        IF EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)
            OR EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)
            OR EXISTS (SELECT FROM pg_catalog.pg_class WHERE relpersistence = 't' AND relnamespace = pg_my_temp_schema())
            OR EXISTS (SELECT FROM pg_listening_channels())
            OR EXISTS (SELECT FROM pg_catalog.pg_locks
                        -- Not those of Citus, which are of kinds of its own.
                        WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objsubid <= 2)
            OR current_setting('work_mem') = '77MB'
            OR current_setting('timezone') = 'Asia/Tokyo'
            OR current_setting('default_transaction_read_only') = 'on'
        THEN RAISE EXCEPTION 'the session holds something of another file'; END IF;
    END $$;";

/// Files that leave something in their session or transaction.
const LEFTOVERS: &[&str] = &[
    "CREATE TEMP TABLE moved AS SELECT * FROM notes; INSERT INTO notes SELECT id + 1, runs FROM moved;",
    "CREATE TEMPORARY TABLE IF NOT EXISTS staged AS SELECT * FROM notes;",
    "DO $$ BEGIN EXECUTE 'CREATE TEMP TABLE hidden (a int)'; END $$;",
    "SELECT * INTO TEMP kept FROM notes;",
    "PREPARE counted AS SELECT count(*) FROM notes; EXECUTE counted;",
    "SET LOCAL work_mem = '77MB';",
    "DO $$ BEGIN EXECUTE 'SET work_mem = ''77MB'''; END $$;",
    "SET LOCAL timezone = 'Asia/Tokyo'; UPDATE notes SET runs = runs;",
    "DO $$ BEGIN EXECUTE 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY'; END $$;",
    "DO $$ BEGIN EXECUTE 'LISTEN gossip'; END $$;",
    "DO $$ BEGIN PERFORM pg_advisory_lock(5); EXCEPTION WHEN insufficient_privilege THEN NULL; END $$;",
    "CREATE FUNCTION stage() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE s (a int); END $$;
     SELECT stage();",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_file_outlives_it_whether_it_runs_alone_or_with_others() {
    for leftover in LEFTOVERS {
        // One worker and so one connection for all tenants. The first run applies both files together, pipelined; the
        // second one file after the other.
        for together in [true, false] {
            let fixture = Fixture::with(3).await;
            let one = MigrationRequest { workers: Some(1), ..MigrationRequest::default() };
            fixture.write(("V2__leave.sql", leftover));
            if together {
                fixture.write(("V3__look.sql", SESSION_IS_CLEAN));
            }
            let backend = fixture.backend(&[]).await;
            let record = migrate(&backend, &one).await;
            assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]), "{leftover}");
            provision(&backend, "made-from-all-files").await;
            backend.close().await;
            if !together {
                fixture.write(("V3__look.sql", SESSION_IS_CLEAN));
                let backend = fixture.backend(&[]).await;
                let record = migrate(&backend, &one).await;
                assert_eq!(outcome(&record), ("done", None, [0, 4, 0, 0]), "{leftover}");
                backend.close().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temporary_table_of_one_tenant_is_not_filled_into_another() {
    let fixture = Fixture::with(3).await;
    let sql = fixture.sql().await;
    for number in 0..3 {
        let own = format!("UPDATE {}.notes SET runs = {number}", fixture.schema(number));
        sql.batch_execute(&own).await.unwrap();
    }
    fixture.write((
        "V2__archive.sql",
        "CREATE TEMP TABLE IF NOT EXISTS staged AS SELECT * FROM notes;
         CREATE TABLE archive (id integer CONSTRAINT archive_pkey PRIMARY KEY, runs integer NOT NULL);
         INSERT INTO archive SELECT * FROM staged;",
    ));
    let backend = fixture.backend(&[]).await;
    let request = MigrationRequest { workers: Some(1), ..MigrationRequest::default() };
    assert_eq!(outcome(&migrate(&backend, &request).await), ("done", None, [0, 3, 0, 0]));
    for number in 0..3 {
        let kept = format!("SELECT runs FROM {}.archive", fixture.schema(number));
        let kept: i32 = sql.query_one(&kept, &[]).await.unwrap().get(0);
        assert_eq!(kept, i32::try_from(number).unwrap());
    }
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_fails_leaves_no_statement_and_no_lock_in_the_session() {
    let fixture = Fixture::with(2).await;
    let sql = fixture.sql().await;
    sql.batch_execute(&format!("INSERT INTO {}.notes VALUES (2, 0)", fixture.schema(0)))
        .await
        .unwrap();
    fixture.write((
        "V2__fail_once.sql",
        "PREPARE kept AS SELECT 1; SELECT 1 / (count(*) = 1)::int FROM notes;",
    ));
    let backend = fixture.backend(&[]).await;
    let request = MigrationRequest { workers: Some(1), ..MigrationRequest::default() };
    assert_eq!(outcome(&migrate(&backend, &request).await), ("failed", None, [0, 1, 1, 0]));
    provision(&backend, "next").await;
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deferred_constraints_and_savepoints_end_with_their_file() {
    let fixture = Fixture::with(1).await;
    for (name, sql) in [
        (
            "V2__tables.sql",
            "CREATE TABLE parent (id int CONSTRAINT parent_pkey PRIMARY KEY);
             CREATE TABLE child (id int CONSTRAINT child_pkey PRIMARY KEY, parent_id int NOT NULL
                 CONSTRAINT child_parent_fkey REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);",
        ),
        ("V3__rows.sql", "INSERT INTO child VALUES (1, 1); INSERT INTO parent VALUES (1); SAVEPOINT open;"),
        // With pending checks of the file before, or a savepoint that reaches into it, this would fail.
        ("V4__alter.sql", "ALTER TABLE child ADD COLUMN note text; SAVEPOINT open; ROLLBACK TO open;"),
        // Still deferred, as its definition says.
        ("V5__again.sql", "INSERT INTO child VALUES (2, 2); INSERT INTO parent VALUES (2);"),
    ] {
        fixture.write((name, sql));
    }
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 1, 0, 0]));
    assert_eq!(fixture.versions(0).await, [1, 2, 3, 4, 5]);
    provision(&backend, "new").await;
    backend.close().await;

    fixture.write(("V6__orphan.sql", "INSERT INTO child VALUES (3, 99);"));
    let backend = fixture.backend(&[]).await;
    let ctx = backend.operator();
    let reason = blocked(backend.services.fleet.start(&ctx, &MigrationRequest::default()).await);
    assert!(reason.contains("V6__orphan.sql") && reason.contains("child_parent_fkey"), "{reason}");
    backend.close().await;
}

/// Files that reach beyond their tenant in ways that reading them does not show, and a part of the refusal.
const REACHES: &[(&str, &str)] = &[
    ("DO $$ BEGIN EXECUTE format('DROP %s %s.users CASCADE', lower('TABLE'), lower('PUBLIC')); END $$;", "permission denied"),
    ("DO $$ BEGIN EXECUTE format('UPDATE %s.tenants SET name = ''x''', lower('PUBLIC')); END $$;", "permission denied"),
    ("DO $$ BEGIN EXECUTE 'CREATE ' || lower('ROLE') || ' reached'; END $$;", "permission denied"),
    ("DO $$ BEGIN EXECUTE 'CREATE ' || lower('SCHEMA') || ' reached'; END $$;", "permission denied"),
    ("DO $$ BEGIN EXECUTE 'CREATE ' || lower('EXTENSION') || ' citext'; END $$;", "permission denied"),
    (
        "DO $$ BEGIN EXECUTE 'CREATE ' || lower('DATABASE') || ' reached'; END $$;",
        "cannot run inside a transaction block",
    ),
    ("SELECT pg_terminate_backend(pg_backend_pid());", "permission denied"),
    // The history is ours.
    ("DELETE FROM refinery_schema_history;", "permission denied for table refinery_schema_history"),
    (
        "DO $$ DECLARE s text; BEGIN
             FOR s IN SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname LIKE 'tenant\\_%' LOOP
                 EXECUTE format('UPDATE %I.notes SET runs = runs + 1', s);
             END LOOP; END $$;",
        "a migration reaches the schema of its own tenant only",
    ),
    (
        "DO $$ BEGIN EXECUTE 'RESET ' || lower('ROLE'); END $$;",
        "a file ended the transaction or changed the schema or role",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_reaches_beyond_its_tenant_is_refused_before_the_fleet_has_it() {
    let fixture = Fixture::with(2).await;
    // On a cluster files run as the owner, and what they use of the control plane or of another tenant is found by the trial.
    let runs_as_owner = TestEngine::of_run() != TestEngine::Postgres;
    let by_trial = "a migration reaches the schema of its own tenant only";
    let cases = REACHES.iter().filter_map(|(text, words)| match *words {
        _ if !runs_as_owner => Some((text, *words)),
        "cannot run inside a transaction block" => Some((text, *words)),
        _ if text.contains("PUBLIC") || *words == by_trial => Some((text, by_trial)),
        _ => None, // the owner may
    });
    for (text, words) in cases {
        fixture.write(("V2__reach.sql", text));
        let backend = fixture.backend(&[]).await;
        let ctx = backend.operator();
        let refused = backend.services.fleet.start(&ctx, &MigrationRequest::default()).await;
        let reason = blocked(refused);
        assert!(reason.contains("V2__reach.sql") && reason.contains(words), "{text}: {reason}");
        assert_eq!(fixture.runs().await, [0, 0], "{text}");
        backend.close().await;
    }
    let users = "SELECT count(*) FROM public.users";
    fixture.sql().await.query_one(users, &[]).await.expect("the control plane is there");
}

fn blocked<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Fleet(problem)) => match *problem {
            FleetProblem::NewTenantsBlocked(reason) => reason,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_made_before_the_migrator_are_taken_over_when_they_are_migrated() {
    let fixture = Fixture::with(2).await;
    let sql = fixture.sql().await;
    // As an older version made them.
    for number in 0..2 {
        let schema = fixture.schema(number);
        sql.batch_execute(&format!(
            "ALTER TABLE {schema}.notes OWNER TO CURRENT_USER;
             REVOKE ALL ON SCHEMA {schema} FROM rowhouse_migrator;
             ALTER DEFAULT PRIVILEGES FOR ROLE rowhouse_migrator IN SCHEMA {schema} REVOKE ALL ON TABLES FROM {schema};
             ALTER DEFAULT PRIVILEGES FOR ROLE rowhouse_migrator IN SCHEMA {schema} REVOKE ALL ON SEQUENCES FROM {schema};
             ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}
                 GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {schema};
             ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE, SELECT ON SEQUENCES TO {schema};
             GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.notes TO {schema}"
        ))
        .await
        .unwrap();
    }
    fixture.write(SECOND);
    let backend = fixture.backend(&[]).await;
    let (doctor, ctx) = (&backend.services.doctor, backend.operator());
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 2, 0, 0]));
    assert_eq!(fixture.runs().await, [1, 1]);
    let report =
        doctor.examine(&ctx, &rowhouse::service::doctor::Selection::default()).await.unwrap();
    let found: Vec<&str> = report
        .findings
        .iter()
        .filter(|f| f.area == rowhouse::service::doctor::Area::Rights && f.subject.is_some())
        .map(|f| f.what.as_str())
        .collect();
    assert_eq!(found, Vec::<&str>::new());
    backend.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_copy_are_loaded_into_new_and_existing_tenants() {
    let fixture = Fixture::with(2).await;
    fixture.write((
        "V2__load.sql",
        "CREATE TABLE colours (id int CONSTRAINT colours_pkey PRIMARY KEY, name text);\n\
         COPY colours (id, name) FROM stdin;\n1\tred\n2\t\\N\n3\tgrün; it's \\\\ \"blue\"\n\\.\n\n\
         COPY colours FROM stdin WITH (FORMAT csv);\n4,\"a, b\"\n\\.\nUPDATE colours SET name = 'none' WHERE name IS NULL;\n",
    ));
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 2, 0, 0]));
    let new = provision(&backend, "new").await.simple().to_string();
    for schema in [fixture.schema(0), fixture.schema(1), format!("tenant_{new}")] {
        let names = format!("SELECT string_agg(name, '|' ORDER BY id) FROM {schema}.colours");
        let names: String = fixture.sql().await.query_one(&names, &[]).await.unwrap().get(0);
        assert_eq!(names, "red|none|grün; it's \\ \"blue\"|a, b");
    }
    backend.close().await;

    fixture
        .write(("V3__bad_row.sql", "SELECT 1;\n\nCOPY colours FROM stdin;\n5\tx\nsix\ty\n\\.\n"));
    let backend = fixture.backend(&[]).await;
    let ctx = backend.operator();
    let reason = blocked(backend.services.fleet.start(&ctx, &MigrationRequest::default()).await);
    assert!(reason.starts_with("V3__bad_row.sql, line 5: invalid input syntax"), "{reason}");
    backend.close().await;
}

/// A file, and what its refusal says.
const EXPLAINED: &[(&str, &str)] = &[
    (
        "INSERT INTO notes VALUES (5, 5);\n\nALTER TABLE notes ALTER COLUMN runs TYPE bigint;",
        "V3__wrong.sql, line 3: cannot alter type of a column used by a view or rule (SQLSTATE 0A000); detail: rule \
         _RETURN on view report depends on column \"runs\", in: ALTER TABLE notes ALTER COLUMN runs TYPE bigint",
    ),
    (
        "-- a comment\nDROP TABLE\n  notes;",
        "V3__wrong.sql, line 2: cannot drop table notes because other objects depend on it (SQLSTATE 2BP01); detail: \
         view report depends on table notes; hint: Use DROP ... CASCADE to drop the dependent objects too, in: DROP TABLE",
    ),
    // The detail of an error about data quotes the row, and is left out.
    (
        "INSERT INTO notes VALUES (7, 7);\nINSERT INTO notes VALUES (7, 8);",
        "V3__wrong.sql, line 2: duplicate key value violates unique constraint \"notes_pkey\" (SQLSTATE 23505), table \
         \"notes\", in: INSERT INTO notes VALUES (7, 8)",
    ),
    (
        "SELECT 1;\nSELECT nonsense\n  FROM notes;",
        "V3__wrong.sql, line 2: column \"nonsense\" does not exist (SQLSTATE 42703), in: SELECT nonsense",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_tells_detail_hint_and_the_line_of_the_statement() {
    let fixture = Fixture::with(1).await;
    fixture.write(("V2__report.sql", "CREATE VIEW report AS SELECT runs FROM notes"));
    for (text, expected) in EXPLAINED {
        fixture.write(("V3__wrong.sql", text));
        let backend = fixture.backend(&[]).await;
        let ctx = backend.operator();
        let reason =
            blocked(backend.services.fleet.start(&ctx, &MigrationRequest::default()).await);
        // Of an error of a node, Citus hands on the message and not the names beside it.
        let expected = match TestEngine::of_run() {
            TestEngine::Citus => expected.replace(", table \"notes\"", ""),
            TestEngine::Postgres | TestEngine::ForcedCitus => (*expected).to_owned(),
        };
        assert_eq!(reason, expected);
        backend.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temporary_table_hides_the_tenants_table_of_that_name_within_its_file() {
    let fixture = Fixture::with(2).await;
    fixture.write((
        "V2__stage.sql",
        "CREATE TEMP TABLE notes AS SELECT 7 AS id, 7 AS runs;
         UPDATE notes SET runs = 8;
         CREATE TABLE staged (runs integer CONSTRAINT staged_pkey PRIMARY KEY);
         INSERT INTO staged SELECT runs FROM notes;
         DROP TABLE notes;",
    ));
    fixture.write(("V3__count.sql", "UPDATE notes SET runs = runs + 1;"));
    let backend = fixture.backend(&[]).await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("done", None, [0, 2, 0, 0]));
    assert_eq!(fixture.runs().await, [1, 1]);
    let staged = format!("SELECT runs FROM {}.staged", fixture.schema(0));
    let staged: i32 = fixture.sql().await.query_one(&staged, &[]).await.unwrap().get(0);
    assert_eq!(staged, 8);
    provision(&backend, "new").await;
    backend.close().await;
}
