//! A process that is killed leaves nothing half.

use std::process::Child;
use std::time::{Duration, Instant};

use super::fixture::{program_on, run, schema_of, state, value};
use crate::support::{Program, TestDatabase};

const FILES: [(&str, &str); 1] = [(
    "V1__create_words.sql",
    "CREATE TABLE words (id int CONSTRAINT words_pkey PRIMARY KEY, word text NOT NULL);
     CREATE INDEX words_word ON words (word);",
)];

/// The longest wait for something that comes soon.
const SOON: Duration = Duration::from_secs(30);

/// Whether the tenant was imported.
const MADE: &str = "SELECT count(*)::text FROM tenants WHERE slug = 'copy'";

/// Whether the tenant was cloned.
const CLONED: &str = "SELECT count(*)::text FROM tenants WHERE slug = 'twin'";

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
    let import = ["tenant", "import", "acme.rowhouse.tar", "--slug", "copy"];
    program.run(&[&import[..], &["--dry-run"]].concat()).expect(0);
    let import_took = took.elapsed();
    let before = state(&sql).await;
    let mut killed = 0;
    for part in 1..8_u32 {
        killed += u32::from(kill_after(&program, &import, import_took * part / 9));
        let since = Instant::now();
        while state(&sql).await != before {
            if value(&sql, MADE).await == "1" {
                break;
            }
            assert!(since.elapsed() < SOON, "something is left of the import");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if value(&sql, MADE).await == "1" {
            // It was faster than the first one, and is whole.
            break;
        }
        let to = format!("part-{part}.tar");
        let export = ["tenant", "export", "acme", "-o", &to];
        if kill_after(&program, &export, export_took * part / 9) {
            assert!(
                !program.folder().join(&to).exists(),
                "an archive has its name before it is whole"
            );
        }
    }
    assert!(killed > 2, "the import was killed only {killed} times");
    if value(&sql, MADE).await == "0" {
        program.run(&import).expect(0);
    }
    let copy = schema_of(&sql, "copy").await;
    assert_eq!(value(&sql, &format!("SELECT count(*)::text FROM {copy}.words")).await, "40000");
    let took = Instant::now();
    program.run(&["tenant", "clone", "acme", "--slug", "first"]).expect(0);
    let clone_took = took.elapsed();
    let before = state(&sql).await;
    for part in 1..7_u32 {
        let clone = ["tenant", "clone", "acme", "--slug", "twin"];
        kill_after(&program, &clone, clone_took * (part + 2) / 9);
        let since = Instant::now();
        while state(&sql).await != before && value(&sql, CLONED).await == "0" {
            assert!(since.elapsed() < SOON, "something is left of the clone");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if value(&sql, CLONED).await == "1" {
            let twin = schema_of(&sql, "twin").await;
            let rows = format!("SELECT count(*)::text FROM {twin}.words");
            assert_eq!(value(&sql, &rows).await, "40000");
            break;
        }
    }
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
    for part in 2..9_u32 {
        kill_after(&program, &swap, swap_took * part / 9);
        run(&sql, "UPDATE tenants SET closed_until = NULL").await;
        let found = value(&sql, &counts).await;
        assert!(["39000 40000", "40000 39000"].contains(&found.as_str()), "{found}");
        for of in [&schema, &first] {
            let may = format!("SELECT has_table_privilege('{of}', '{of}.words', 'SELECT')::text");
            assert_eq!(value(&sql, &may).await, "true");
        }
    }
    program.run(&["doctor", "--tenant", "acme", "first"]).expect(0);
    // The snapshots of what was killed are gone.
    let open = "SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database()
                   AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL";
    let since = Instant::now();
    while value(&sql, open).await != "0" {
        assert!(since.elapsed() < SOON, "a snapshot is still open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
