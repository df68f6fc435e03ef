//! Kills the migrating process repeatedly and checks that no tenant was migrated twice or partially.
//!
//! Every file of the set counts how often it ran; the count and the history of each tenant must agree after
//! every kill. The process is stopped first (SIGSTOP, after which it sends nothing), the database lists the
//! open transactions, and the process is killed without having run again. A kill without an open transaction
//! proves nothing and does not count.

use std::process::Stdio;

use tokio_postgres::Client;
use uuid::Uuid;

use super::fixture::{Fixture, wait_for};

/// Number of kills in the suite; `make kills` sets a higher one.
const KILLS: usize = 3;

/// Largest number of tenants that a process migrates and records before it is killed.
const MOST_BEFORE_A_KILL: usize = 4;

/// Largest number of tenants that it migrates before the test notices.
const MOST_UNSEEN: usize = 16;

/// Counts its runs and takes long enough on any machine to be killed halfway.
const SECOND: (&str, &str) = (
    "V2__count.sql",
    "ALTER TABLE notes ADD COLUMN mood text;
     SELECT pg_sleep(0.02);
     UPDATE notes SET runs = runs + 1;
     CREATE INDEX notes_mood_idx ON notes (mood);",
);

/// Counts its runs outside a transaction.
const THIRD: (&str, &str) = (
    "V3__index.sql",
    "-- rowhouse: no-transaction
UPDATE notes SET runs = runs + 100;
CREATE INDEX CONCURRENTLY notes_runs_idx ON notes (runs);",
);

const FOURTH: (&str, &str) = ("V4__count.sql", "UPDATE notes SET runs = runs + 10000;");

fn wanted_kills() -> usize {
    #[expect(
        clippy::disallowed_methods,
        reason = "the length of a test is not a setting of the server"
    )]
    let wanted = std::env::var("ROWHOUSE_FLEET_KILLS").ok();
    wanted.map_or(KILLS, |text| text.parse().expect("ROWHOUSE_FLEET_KILLS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_while_it_migrates_leaves_every_tenant_migrated_once_or_not_at_all() {
    let kills = wanted_kills();
    // Enough tenants that some are left after the last kill, whatever the random numbers are.
    let fixture = Fixture::with(kills * (MOST_BEFORE_A_KILL + MOST_UNSEEN)).await;
    for file in [SECOND, THIRD, FOURTH] {
        fixture.write(file);
    }
    let sql = fixture.sql().await;
    let program = fixture.direct_program();
    let (mut hits, mut misses) = (0, 0);
    while hits < kills {
        assert!(misses < 10 * kills, "no kill met an open transaction");
        let done = count(&sql, "SELECT count(*) FROM operation_tenants WHERE state = 'done'").await;
        let mut process =
            program.command(env!("CARGO_BIN_EXE_rowhouse"), &["migrate", "--workers", "2"]);
        process.env("ROWHOUSE_FLEET__LEASE", "300ms").stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = process.spawn().expect("the program starts");
        let goal = done + 1 + random(MOST_BEFORE_A_KILL);
        wait_for(
            &sql,
            &format!("SELECT count(*) >= {goal} FROM operation_tenants WHERE state = 'done'"),
        )
        .await;
        tokio::time::sleep(std::time::Duration::from_micros(random(30_000).unsigned_abs())).await;
        signal("STOP", process.id());
        let open = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()
                       AND backend_type = 'client backend' AND xact_start IS NOT NULL";
        let is_hit = count(&sql, open).await > 0;
        process.kill().expect("the process can be killed");
        process.wait().expect("the process can be waited for");
        hits += usize::from(is_hit);
        misses += usize::from(!is_hit);
        // Statements already sent may still finish; after them no tenant may be half migrated.
        wait_until_disconnected(&sql).await;
        assert_none_partial(&fixture, &sql).await;
        wait_for(
            &sql,
            "SELECT bool_and(lease_until <= now()) FROM operations WHERE state = 'running'",
        )
        .await;
    }
    eprintln!("{hits} kills inside a transaction, {misses} outside");
    let last = fixture.direct_program().run(&["migrate"]);
    let failed = "SELECT coalesce(string_agg(slug || ': ' || error, '; '), '') FROM operation_tenants WHERE state = 'failed'";
    let failed: String = sql.query_one(failed, &[]).await.expect("it can be read").get(0);
    assert_eq!(failed, "");
    let last = last.expect(0);
    assert!(
        last.stderr.contains("was abandoned by a process that is gone: continuing it"),
        "{last:?}"
    );
    assert_eq!(fixture.runs().await, vec![10_101; fixture.tenants.len()]);
    assert_none_partial(&fixture, &sql).await;
    let ledger = "SELECT count(*) FROM operation_tenants WHERE state <> 'done' OR applied = '{}'";
    assert_eq!(count(&sql, ledger).await, 0);
    assert_eq!(
        count(&sql, "SELECT count(*) FROM operations").await,
        1,
        "all processes continued one run"
    );
    let behind = "SELECT count(*) FROM tenants WHERE migrations_version <> 4";
    assert_eq!(count(&sql, behind).await, 0);
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(count(&sql, invalid).await, 0);
}

/// Waits until no other client is connected to the database.
async fn wait_until_disconnected(sql: &Client) {
    wait_for(
        sql,
        "SELECT count(*) = 0 FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend'",
    )
    .await;
}

/// Asserts that the history of each tenant agrees with its tables, and that its row and the ledger, both
/// written later, agree with the history and with each other.
async fn assert_none_partial(fixture: &Fixture, sql: &Client) {
    let done = "SELECT t.migrations_version FROM tenants t WHERE t.id = $1";
    let ledger = "SELECT state FROM operation_tenants WHERE tenant_id = $1";
    let runs = fixture.runs().await;
    for (number, id) in fixture.tenants.iter().enumerate() {
        let versions = fixture.versions(number).await;
        let (runs, has) = (runs[number], |version| versions.contains(&version));
        assert_eq!(runs % 100, i32::from(has(2)), "tenant {number}: {versions:?}, {runs}");
        assert_eq!(runs / 10_000, i32::from(has(4)), "tenant {number}: {versions:?}, {runs}");
        // Statements of this file commit one by one, before the history row is written.
        let third = runs / 100 % 100;
        assert!(third == 1 || (third == 0 && !has(3)), "tenant {number}: {versions:?}, {runs}");
        let recorded: i32 = sql.query_one(done, &[id]).await.expect("the row exists").get(0);
        let state: String = sql.query_one(ledger, &[id]).await.expect("the row exists").get(0);
        assert!(recorded != 4 || has(4), "tenant {number}");
        assert_eq!(state == "done", recorded == 4, "tenant {number}");
    }
}

async fn count(sql: &Client, query: &str) -> i64 {
    sql.query_one(query, &[]).await.expect("rows can be counted").get(0)
}

/// Returns a random number below the bound.
fn random(bound: usize) -> i64 {
    let bytes = Uuid::new_v4().into_bytes();
    let drawn = bytes.iter().fold(0, |sum, byte| (sum * 256 + usize::from(*byte)) % bound);
    i64::try_from(drawn).expect("bounds are small")
}

/// Sends a signal through the shell, because the standard library sends only SIGKILL.
pub fn signal(name: &str, pid: u32) {
    let sent = std::process::Command::new("/bin/sh")
        .args(["-c", "kill -\"$1\" \"$2\"", "signal", name, &pid.to_string()])
        .status();
    assert!(sent.is_ok_and(|status| status.success()), "{pid} can be sent SIG{name}");
}
