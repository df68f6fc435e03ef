//! A process that is killed leaves nothing half.

use std::process::Child;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::fixture::{program_on, run, schema_of, state, value};
use super::rounds;
use crate::support::{Program, TestDatabase};

const FILES: [(&str, &str); 1] = [(
    "V1__create_words.sql",
    "CREATE TABLE words (id int CONSTRAINT words_pkey PRIMARY KEY, word text NOT NULL);
     CREATE INDEX words_word ON words (word);",
)];

/// The longest wait for something that comes soon.
const SOON: Duration = Duration::from_secs(30);

/// Kills in the suite, of each command.
const KILLS: u32 = 6;

/// The other transactions that have a snapshot or have written something.
const OPEN: &str = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database()
    AND pid <> pg_backend_pid() AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)";

/// Starts a command, and kills it after a while unless it has ended; returns whether it was killed.
fn kill_after(program: &Program, arguments: &[&str], wait: Duration) -> bool {
    let mut child: Child =
        program.command(env!("CARGO_BIN_EXE_rowhouse"), arguments).spawn().expect("it starts");
    std::thread::sleep(wait);
    let is_running = child.try_wait().expect("it can be asked").is_none();
    let _ = child.kill();
    child.wait().expect("it ends");
    is_running
}

/// Kills a command that makes a tenant, at other moments each time, and checks that the tenant is whole or not there.
/// Returns how often it was not there, and the size of the database to that before.
async fn kill_often(
    program: &Program,
    sql: &Client,
    (what, command): (&str, &[&str]),
    took: Duration,
) -> (u32, f64) {
    let size = "SELECT pg_database_size(current_database())::text";
    let size = async || value(sql, size).await.parse::<f64>().expect("a number");
    run(sql, "VACUUM").await;
    let size_before = size().await;
    let (wanted, mut killed) = (rounds(KILLS), 0);
    for attempt in 0..3 * wanted {
        let slug = format!("{what}-{attempt}");
        let before = state(sql).await;
        let moment = took.mul_f64(f64::from(attempt * 37 % 100) / 100.0);
        kill_after(program, &[command, &["--slug", &slug]].concat(), moment);
        let made = format!("SELECT count(*)::text FROM tenants WHERE slug = '{slug}'");
        let since = Instant::now();
        while state(sql).await != before && value(sql, &made).await == "0" {
            assert!(since.elapsed() < SOON, "something is left of the {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if value(sql, &made).await == "1" {
            let schema = schema_of(sql, &slug).await;
            let rows = format!("SELECT count(*)::text FROM {schema}.words");
            assert_eq!(value(sql, &rows).await, "40000");
            program.run(&["tenant", "delete", &slug, "--yes"]).expect(0);
            program.run(&["tenant", "purge", &slug, "--yes"]).expect(0);
        } else {
            killed += 1;
        }
        if killed == wanted {
            break;
        }
    }
    let since = Instant::now();
    while value(sql, OPEN).await != "0" {
        assert!(since.elapsed() < SOON, "a transaction of a {what} is still open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run(sql, "VACUUM").await;
    let grown = size().await / size_before;
    assert!(grown < 1.05, "the database has {grown} of its size after kills of the {what}");
    (killed, grown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_a_clone_or_an_export_that_is_killed_leaves_nothing_half() {
    let database = TestDatabase::create().await;
    let program = program_on(&database, &FILES);
    let sql = database.connect().await;
    program.create_tenant("acme").expect(0);
    let schema = schema_of(&sql, "acme").await;
    run(
        &sql,
        &format!("INSERT INTO {schema}.words SELECT n, md5(n::text) FROM generate_series(1, 40000) n; ANALYZE {schema}.words"),
    )
    .await;
    let took = Instant::now();
    program.run(&["tenant", "export", "acme"]).expect(0);
    let export_took = took.elapsed();
    let took = Instant::now();
    let import = ["tenant", "import", "acme.rowhouse.tar"];
    program.run(&[&import[..], &["--slug", "copy", "--dry-run"]].concat()).expect(0);
    let import_took = took.elapsed();
    let (killed, grown) = kill_often(&program, &sql, ("import", &import), import_took).await;
    println!("import: killed {killed} times; the database has {grown:.3} of its size");
    assert_eq!(killed, rounds(KILLS), "the imports were too fast to be killed");
    for part in 0..rounds(KILLS) {
        let to = format!("part-{part}.tar");
        let export = ["tenant", "export", "acme", "-o", &to];
        let moment = export_took.mul_f64(f64::from(part * 37 % 100) / 100.0);
        if kill_after(&program, &export, moment) {
            let is_there = program.folder().join(&to).exists();
            assert!(!is_there, "an archive has its name before it is whole");
        }
        // Its snapshot ends.
        let since = Instant::now();
        while value(&sql, OPEN).await != "0" {
            assert!(since.elapsed() < SOON, "a snapshot is still open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let took = Instant::now();
    program.run(&["tenant", "clone", "acme", "--slug", "first"]).expect(0);
    let clone_took = took.elapsed();
    let clone = ["tenant", "clone", "acme"];
    let (killed, grown) = kill_often(&program, &sql, ("clone", &clone), clone_took).await;
    println!("clone: killed {killed} times; the database has {grown:.3} of its size");
    assert_eq!(killed, rounds(KILLS), "the clones were too fast to be killed");
    // A swap that is killed has exchanged everything or nothing, and the tenants open by themselves.
    let first = schema_of(&sql, "first").await;
    run(&sql, &format!("DELETE FROM {first}.words WHERE id > 39000")).await;
    let swap = ["tenant", "swap", "acme", "first", "--yes"];
    let took = Instant::now();
    program.run(&swap).expect(0);
    let swap_took = took.elapsed();
    let counts = format!(
        "SELECT concat_ws(' ', (SELECT count(*) FROM {schema}.words), (SELECT count(*) FROM {first}.words))"
    );
    assert_eq!(value(&sql, &counts).await, "39000 40000");
    let mut swapped = 0;
    let mut last = String::from("39000 40000");
    for part in 0..rounds(KILLS) {
        kill_after(&program, &swap, swap_took.mul_f64(f64::from(30 + part * 37 % 80) / 100.0));
        run(&sql, "UPDATE tenants SET closed_until = NULL").await;
        let found = value(&sql, &counts).await;
        assert!(["39000 40000", "40000 39000"].contains(&found.as_str()), "{found}");
        swapped += u32::from(found != last);
        last = found;
        for of in [&schema, &first] {
            let may = format!("SELECT has_table_privilege('{of}', '{of}.words', 'SELECT')::text");
            assert_eq!(value(&sql, &may).await, "true");
        }
    }
    println!("swap: killed {} times; {swapped} had exchanged everything", rounds(KILLS));
    program.run(&["doctor", "--tenant", "acme", "first"]).expect(0);
}
