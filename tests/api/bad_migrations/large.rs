//! Many files, and large ones: they end in a reasonable time, and take a small multiple of their size in memory.

use std::fmt::Write as _;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use super::{Fixture, schema};
use crate::support::program::create_tenant_arguments;
use crate::support::{PASSWORD, Program};

const FILES: i64 = 10_000;

/// The size of a large file, in MiB, unless `ROWHOUSE_LARGE_FILE_MIB` says otherwise.
const SIZE: usize = 10;

/// What the program uses beside the file, in KiB.
const PROGRAM: u64 = 60 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_files_are_checked_and_make_a_tenant() {
    let fixture = Fixture::new().await;
    for number in 2..=FILES {
        let sql = format!("INSERT INTO notes VALUES ({number}, 'file {number}');\n");
        fixture.write(&format!("V{number}__note_{number}.sql"), sql);
    }
    let program = fixture.program();
    let ran = program.run(&["migrate", "--lint"]).expect(0);
    assert!(ran.stderr.contains("10000 files with 10000 statements"), "{ran:?}");
    let created = program.create_tenant("acme").expect(0);
    let notes = format!("SELECT count(*) FROM {}.notes", schema(&created));
    assert_eq!(fixture.number(&notes).await, FILES - 1);
    // One that is wrong is named, and nothing is left.
    fixture.write("V7777__note_7777.sql", "SELECT 1;\nINSERT INTO notes VALUES ('no number');\n");
    let ran = program.create_tenant("globex").expect(1);
    assert!(ran.stderr.contains("V7777__note_7777.sql"), "{}", ran.stderr);
    fixture.assert_nothing_is_left(1).await;
}

/// Returns the size of a large file, in bytes.
#[expect(clippy::disallowed_methods, reason = "the size is not a setting of the program")]
fn size() -> usize {
    let wanted = std::env::var("ROWHOUSE_LARGE_FILE_MIB").ok();
    wanted.map_or(SIZE, |text| text.parse().expect("ROWHOUSE_LARGE_FILE_MIB is a number")) << 20
}

/// Returns rows of `COPY`, or statements, of the size of a large file, and how many.
fn large(begin: &str, line: impl Fn(usize) -> String, end: &str) -> (String, i64) {
    let (mut sql, size) = (begin.to_owned(), size());
    let mut count = 0;
    while sql.len() < size {
        count += 1;
        sql.push_str(&line(count));
    }
    let _ = writeln!(sql, "{end}");
    (sql, i64::try_from(count).expect("it is a small number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_copy_take_a_small_multiple_of_their_size() {
    let fixture = Fixture::new().await;
    let body = "x".repeat(200);
    let (sql, rows) =
        large("COPY notes (id, body) FROM stdin;\n", |n| format!("{n}\t{body}\n"), "\\.");
    fixture.write("V2__rows.sql", sql);
    run_within(&fixture, 4, rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_insert_takes_a_small_multiple_of_its_size() {
    let fixture = Fixture::new().await;
    let body = "x".repeat(2000);
    let (sql, rows) = large("", |n| format!("INSERT INTO notes VALUES ({n}, '{body}');\n"), "");
    fixture.write("V2__rows.sql", sql);
    run_within(&fixture, 6, rows).await;
}

/// Makes a tenant, and lints, in at most so many times the size of the large file.
async fn run_within(fixture: &Fixture, times: u64, rows: i64) {
    let most = PROGRAM + times * (size() as u64 >> 10);
    let (program, arguments) = (fixture.program(), create_tenant_arguments("acme"));
    let created = peak_memory(&program, &arguments);
    let lint = peak_memory(&program, &["migrate", "--lint"]);
    let schema = "SELECT 'tenant_' || replace(id::text, '-', '') FROM tenants";
    let sql = fixture.database.connect().await;
    let schema: String = sql.query_one(schema, &[]).await.expect("there is a tenant").get(0);
    assert_eq!(fixture.number(&format!("SELECT count(*) FROM {schema}.notes")).await, rows);
    assert!(created < most && lint < most, "{created}, {lint} KiB, at most {most}");
}

/// Runs the program to its end, which must be a good one; returns the most memory that it used, in KiB.
fn peak_memory(program: &Program, arguments: &[&str]) -> u64 {
    let mut command = program.command(env!("CARGO_BIN_EXE_rowhouse"), arguments);
    let mut process = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    let mut stdin = process.stdin.take().expect("stdin is piped");
    std::io::Write::write_all(&mut stdin, PASSWORD.as_bytes()).ok();
    drop(stdin);
    let status = format!("/proc/{}/status", process.id());
    let mut peak = 0;
    let ended = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = peak.max(now.unwrap_or(0));
        if let Some(ended) = process.try_wait().expect("its status can be read") {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut said = String::new();
    process.stderr.take().expect("stderr is piped").read_to_string(&mut said).ok();
    assert!(ended.success(), "{ended:?}: {said}");
    peak
}
