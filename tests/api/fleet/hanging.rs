//! Files that end their connection, that wait, and that lose a race in the system catalogs.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::fixture::{Fixture, wait_for};
use super::kills::signal;
use crate::support::dedicated::DedicatedServer;
use crate::support::{Program, TestEngine};

/// Sleeps in a tenant with two notes, and not in a new one, which is built before a run begins.
const SLEEPS: &str = "SELECT CASE WHEN (SELECT count(*) FROM notes) > 1 THEN pg_sleep(100) END;";

/// As [`SLEEPS`].
const SLEEPS_IN_ONE: (&str, &str) = (
    "V2__sleep.sql",
    "UPDATE notes SET runs = runs + 1;
     SELECT CASE WHEN (SELECT count(*) FROM notes) > 1 THEN pg_sleep(100) END;",
);

/// Selects the sessions of this database that sleep in a migration. On a cluster it is a node that sleeps, for a session that
/// waits for its answer.
fn sleepers() -> String {
    let sleeps = match TestEngine::of_run() {
        TestEngine::Citus => {
            // Longer than the trial in a new tenant, where it does not sleep.
            "state = 'active' AND query LIKE '%pg_sleep(100)%' AND pid <> pg_backend_pid()
             AND clock_timestamp() - query_start > interval '1 second'"
        }
        TestEngine::Postgres | TestEngine::ForcedCitus => "wait_event = 'PgSleep'",
    };
    format!("FROM pg_stat_activity WHERE datname = current_database() AND {sleeps}")
}

async fn add_note(fixture: &Fixture, number: usize) {
    let add = format!("INSERT INTO {}.notes VALUES (2, 0)", fixture.schema(number));
    fixture.sql().await.batch_execute(&add).await.expect("a row can be added");
}

/// Ends each backend of this database that sleeps in a migration, until it is aborted.
async fn end_sleepers(fixture: &Fixture) -> JoinHandle<()> {
    let sql = fixture.sql().await;
    tokio::spawn(async move {
        loop {
            let end = format!("SELECT pg_terminate_backend(pid) {}", sleepers());
            sql.execute(&end, &[]).await.expect("backends can be ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_whose_file_ends_its_connection_each_time_fails_by_the_files_name_and_the_others_are_migrated()
 {
    let fixture = Fixture::with(4).await;
    add_note(&fixture, 1).await;
    fixture.write(SLEEPS_IN_ONE);
    let ending = end_sleepers(&fixture).await;
    let ran = fixture.program().run(&["migrate", "--workers", "2"]).expect(3);
    ending.abort();
    assert!(ran.stdout.contains("3 migrated, 1 failed: t1"), "{ran:?}");
    assert!(
        ran.stderr
            .contains("V2__sleep.sql, line 2: the connection ended 3 times while this file ran: "),
        "{ran:?}"
    );
    assert_eq!(fixture.runs().await, [1, 0, 1, 1]);
    assert_eq!(fixture.versions(1).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_outside_a_transaction_that_ends_its_connection_each_time_is_named() {
    let fixture = Fixture::with(1).await;
    add_note(&fixture, 0).await;
    let file = format!("-- rowhouse: no-transaction\nSELECT 1;\n{SLEEPS}");
    fixture.write(("V2__sleep.sql", &file));
    let ending = end_sleepers(&fixture).await;
    let ran = fixture.direct_program().run(&["migrate"]).expect(3);
    ending.abort();
    assert!(ran.stderr.contains("V2__sleep.sql, line 3: the connection ended 3 times"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_may_not_end_its_own_backend_is_refused_by_line() {
    let fixture = Fixture::with(1).await;
    fixture.write(("V2__quit.sql", "SELECT 1;\nSELECT pg_terminate_backend(pg_backend_pid());"));
    let ran = fixture.program().run(&["migrate"]).expect(1);
    assert!(ran.stderr.contains("V2__quit.sql, line 2: permission denied"), "{ran:?}");
    assert_eq!(fixture.versions(0).await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_race_is_tried_again() {
    let fixture = Fixture::with(1).await;
    fixture.write((
        "V2__race.sql",
        "CREATE TABLE IF NOT EXISTS raced (id integer PRIMARY KEY);
         UPDATE notes SET runs = runs + 1;",
    ));
    let schema = fixture.schema(0);
    let other = fixture.sql().await;
    other
        .batch_execute(&format!("BEGIN; CREATE TABLE {schema}.raced (id integer PRIMARY KEY)"))
        .await
        .unwrap();
    let program = fixture.program();
    let mut process = program.command(env!("CARGO_BIN_EXE_rowhouse"), &["migrate", "--json"]);
    let process = process.spawn().expect("the program starts");
    let sql = fixture.sql().await;
    wait_for(
        &sql,
        "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
          WHERE a.datname = current_database() AND l.locktype = 'transactionid' AND NOT l.granted",
    )
    .await;
    other.batch_execute("COMMIT").await.unwrap();
    let ended = process.wait_with_output().expect("the process ends");
    let stdout = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("\"event\":\"again\"") && stdout.contains("pg_"), "{stdout}");
    assert_eq!(fixture.runs().await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_catalog_race_is_tried_again_and_a_duplicate_of_the_tenants_own_is_not() {
    let fixture = Fixture::with(1).await;
    // A sequence is not rolled back: the file fails the first two times that it runs (pipelined, and step by step).
    add_note(&fixture, 0).await;
    fixture.write(("V2__tries.sql", "CREATE SEQUENCE tries"));
    let program = fixture.program();
    program.run(&["migrate"]).expect(0);
    let fails = |raise: &str| {
        format!(
            "DO $$ BEGIN IF (SELECT count(*) FROM notes) > 1 AND nextval('tries') < 3 THEN RAISE EXCEPTION USING {raise}; END IF; END $$;"
        )
    };
    let catalog = |constraint: &str| {
        format!(
            "ERRCODE = '23505', SCHEMA = 'pg_catalog', CONSTRAINT = '{constraint}', MESSAGE = 'duplicate'"
        )
    };
    let races = [
        catalog("pg_class_relname_nsp_index"),
        catalog("pg_type_typname_nsp_index"),
        catalog("pg_namespace_nspname_index"),
        "ERRCODE = '23505', CONSTRAINT = 'pg_proc_proname_args_nsp_index', MESSAGE = 'duplicate'"
            .to_owned(),
        "ERRCODE = 'XX000', MESSAGE = 'tuple concurrently updated'".to_owned(),
        "ERRCODE = 'XX000', MESSAGE = 'tuple concurrently deleted'".to_owned(),
    ];
    let sql = fixture.sql().await;
    for (number, raise) in (3..).zip(&races) {
        let restart = format!("ALTER SEQUENCE {}.tries RESTART", fixture.schema(0));
        sql.batch_execute(&restart).await.unwrap();
        fixture.write((&format!("V{number}__race.sql"), &fails(raise)));
        program.run(&["migrate"]).expect(0);
    }
    for raise in [
        "ERRCODE = '23505', SCHEMA = 'tenant', CONSTRAINT = 'pg_looking_key', MESSAGE = 'duplicate'",
        "ERRCODE = 'XX000', MESSAGE = 'tuple of another kind'",
    ] {
        let restart = format!("ALTER SEQUENCE {}.tries RESTART", fixture.schema(0));
        sql.batch_execute(&restart).await.unwrap();
        fixture.write(("V20__race.sql", &fails(raise)));
        let ran = program.run(&["migrate"]).expect(3);
        assert!(!ran.stderr.contains("retrying"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_waits_for_a_lock_is_tried_again_and_then_fails_with_who_has_it() {
    let fixture = Fixture::with(2).await;
    fixture.write((
        "V2__wait.sql",
        "UPDATE notes SET runs = 1;\nALTER TABLE notes ADD COLUMN mood text;",
    ));
    let other = fixture.sql().await;
    let hold = format!("BEGIN; LOCK TABLE {}.notes IN ACCESS SHARE MODE", fixture.schema(0));
    other.batch_execute(&hold).await.unwrap();
    let pid: i32 = other.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let program = fixture.program().with("ROWHOUSE_DATABASE__LOCK_TIMEOUT", "50ms");
    let ran = program.run(&["migrate"]).expect(3);
    assert!(ran.stderr.contains("t0: retrying: V2__wait.sql"), "{ran:?}");
    let who = format!("server process {pid} (idle in transaction, its transaction began at ");
    assert!(
        ran.stderr.contains("t0: failed: V2__wait.sql, line 2: ")
            && ran.stderr.contains(&who)
            && ran.stderr.contains("has locks on notes"),
        "{ran:?}"
    );
    assert!(ran.stdout.contains("1 migrated, 1 failed: t0"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_limit_that_a_file_sets_ends_it_without_another_attempt() {
    let fixture = Fixture::with(1).await;
    add_note(&fixture, 0).await;
    let file = format!("SET LOCAL statement_timeout = '50ms';\n{SLEEPS}");
    fixture.write(("V2__sleep.sql", &file));
    let ran = fixture.program().run(&["migrate"]).expect(3);
    assert!(
        ran.stderr.contains("t0: failed: V2__sleep.sql, line 2: ")
            && !ran.stderr.contains("retrying"),
        "{ran:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_rolls_back_a_file_that_hangs_and_the_run_can_be_resumed() {
    for mark in ["", "-- rowhouse: no-transaction\n"] {
        let fixture = Fixture::with(2).await;
        for number in 0..2 {
            add_note(&fixture, number).await;
        }
        let file = format!("{mark}CREATE TABLE second (); {SLEEPS}");
        fixture.write(("V2__sleep.sql", &file));
        let program = if mark.is_empty() { fixture.program() } else { fixture.direct_program() };
        let mut process =
            program.command(env!("CARGO_BIN_EXE_rowhouse"), &["migrate", "--workers", "1"]);
        let mut process = process
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let sql = fixture.sql().await;
        wait_for(&sql, &format!("SELECT count(*) > 0 {}", sleepers())).await;
        let began = Instant::now();
        signal("INT", process.id());
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(process.try_wait().unwrap().is_none(), "the first signal waits for the tenant");
        signal("INT", process.id());
        let code = process.wait().expect("the process ends").code();
        assert_eq!(code, Some(3));
        assert!(began.elapsed() < Duration::from_secs(30));
        wait_for(&sql, &format!("SELECT count(*) = 0 {}", sleepers())).await;
        let status = program.run(&["migrate", "status"]).expect(0);
        assert!(status.stdout.contains("2 not tried"), "{status:?}");
        program.run(&["migrate", "cancel"]).expect(0);
        fixture.write(("V2__sleep.sql", &file.replace("pg_sleep(100)", "1")));
        program.run(&["migrate"]).expect(0);
        for number in 0..2 {
            assert_eq!(fixture.versions(number).await, [1, 2], "{mark}");
        }
    }
}

/// Kills each backend that sleeps, until it is aborted. The server then ends all connections and recovers.
fn crash_sleepers(url: String) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let Ok((sql, connection)) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await
            else {
                continue;
            };
            let connection = tokio::spawn(connection);
            let sleepers = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            for row in sql.query(sleepers, &[]).await.unwrap_or_default() {
                signal("KILL", u32::try_from(row.get::<_, i32>(0)).expect("a pid is positive"));
            }
            drop(sql);
            let _ = connection.await;
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_crashes_the_server_each_time_is_blamed_after_the_recoveries() {
    let server = DedicatedServer::acquire().await;
    let url = server.database("crashes").await;
    // The server of the tests loses its last commits in a crash, one that keeps them is wanted here.
    server.sql("ALTER DATABASE crashes SET synchronous_commit = on").await;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("a file can be written");
    };
    write("V1__create_notes.sql", "CREATE TABLE notes (id integer PRIMARY KEY);");
    let program = Program::embedded()
        .with("DATABASE_URL", &url)
        .with("ROWHOUSE_TENANT_MIGRATIONS", &folder.path().display().to_string());
    program.run(&["migrate"]).expect(0);
    for slug in ["t0", "t1", "t2"] {
        program.create_tenant(slug).expect(0);
    }
    let sql = server.superuser_in("crashes").await;
    let id: uuid::Uuid =
        sql.query_one("SELECT id FROM tenants WHERE slug = 't1'", &[]).await.unwrap().get(0);
    let add = format!("INSERT INTO tenant_{}.notes VALUES (1)", id.simple());
    sql.batch_execute(&add).await.unwrap();
    write("V2__sleep.sql", "SELECT pg_sleep(100) FROM notes;");
    let crashing = crash_sleepers(url);
    let ran = program.run(&["migrate", "--workers", "2"]).expect(3);
    crashing.abort();
    assert!(ran.stdout.contains("1 failed: t1"), "{ran:?}");
    assert!(
        ran.stderr.contains("t1: failed: V2__sleep.sql, line 1: the connection ended 3 times"),
        "{ran:?}"
    );
    let sql = server.superuser_in("crashes").await;
    sql.batch_execute(&format!("DELETE FROM tenant_{}.notes", id.simple())).await.unwrap();
    program.run(&["migrate"]).expect(0);
}
