//! Kills the process that migrates, again and again, and looks whether any tenant was migrated twice or by
//! half.
//!
//! Every file of the set counts how often it ran: the count and the history of each tenant must agree
//! whenever somebody looks, also between the kills. The process is stopped first (SIGSTOP: from then on it
//! sends nothing), the database is asked which transactions are open, and then it is killed without having
//! run again. Kills that met no open transaction have shown nothing, and do not count.

use std::process::Stdio;

use tokio_postgres::Client;
use uuid::Uuid;

use super::ground::{Ground, wait_for};

/// Kills in the suite; `make crash` asks for more.
const KILLS: usize = 3;

/// Tenants that a process gets to migrate, and to write down, before it may be killed.
const MOST_BEFORE_A_KILL: usize = 4;

/// Tenants that it may migrate until that is seen.
const MOST_UNSEEN: usize = 16;

/// Takes a while on any machine, so that there is something to kill, and counts.
const SECOND: (&str, &str) = (
    "V2__count.sql",
    "ALTER TABLE notes ADD COLUMN mood text;
     SELECT pg_sleep(0.02);
     UPDATE notes SET runs = runs + 1;
     CREATE INDEX notes_mood_idx ON notes (mood);",
);

/// The same outside of a transaction.
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
        reason = "how long the test runs is not a setting of ours"
    )]
    let wanted = std::env::var("ROWHOUSE_FLEET_KILLS").ok();
    wanted.map_or(KILLS, |text| text.parse().expect("ROWHOUSE_FLEET_KILLS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_while_it_migrates_leaves_every_tenant_migrated_once_or_not_at_all() {
    let kills = wanted_kills();
    // Enough that some are left after the last kill, whatever was drawn.
    let ground = Ground::with(kills * (MOST_BEFORE_A_KILL + MOST_UNSEEN)).await;
    for file in [SECOND, THIRD, FOURTH] {
        ground.write(file);
    }
    let sql = ground.sql().await;
    let program = ground.program();
    let (mut hits, mut misses) = (0, 0);
    while hits < kills {
        assert!(misses < 10 * kills, "no kill met an open transaction: nothing was shown");
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
        process.kill().expect("it can be killed");
        process.wait().expect("it can be waited for");
        hits += usize::from(is_hit);
        misses += usize::from(!is_hit);
        // What it had sent may still run to its end; then nothing may be half.
        wait_for(
            &sql,
            "SELECT count(*) = 0 FROM pg_stat_activity
                         WHERE datname = current_database() AND pid <> pg_backend_pid()
                           AND backend_type = 'client backend'",
        )
        .await;
        assert_no_halves(&ground, &sql).await;
        wait_for(
            &sql,
            "SELECT bool_and(lease_until <= now()) FROM operations WHERE state = 'running'",
        )
        .await;
    }
    eprintln!("{hits} kills inside of a transaction, {misses} beside one");
    let last = ground.program().run(&["migrate"]).expect(0);
    assert!(last.stderr.contains("was left by a process that is gone: going on"), "{last:?}");
    assert_eq!(ground.runs().await, vec![10_101; ground.tenants.len()]);
    assert_no_halves(&ground, &sql).await;
    let ledger = "SELECT count(*) FROM operation_tenants WHERE state <> 'done' OR applied = '{}'";
    assert_eq!(count(&sql, ledger).await, 0);
    assert_eq!(count(&sql, "SELECT count(*) FROM operations").await, 1, "all of it was one run");
    let behind = "SELECT count(*) FROM tenants WHERE migrations_version <> 4";
    assert_eq!(count(&sql, behind).await, 0);
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(count(&sql, invalid).await, 0);
}

/// The history of each tenant says what its tables say. What its row and the ledger say, which is written after
/// it, is true, and they say the same.
async fn assert_no_halves(ground: &Ground, sql: &Client) {
    let done = "SELECT t.migrations_version FROM tenants t WHERE t.id = $1";
    let ledger = "SELECT state FROM operation_tenants WHERE tenant_id = $1";
    let runs = ground.runs().await;
    for (number, id) in ground.tenants.iter().enumerate() {
        let versions = ground.versions(number).await;
        let (runs, has) = (runs[number], |version| versions.contains(&version));
        assert_eq!(runs % 100, i32::from(has(2)), "tenant {number}: {versions:?}, {runs}");
        assert_eq!(runs / 10_000, i32::from(has(4)), "tenant {number}: {versions:?}, {runs}");
        // Its statements are committed one by one: once, before the history says so.
        let third = runs / 100 % 100;
        assert!(third == 1 || (third == 0 && !has(3)), "tenant {number}: {versions:?}, {runs}");
        let recorded: i32 = sql.query_one(done, &[id]).await.expect("it is there").get(0);
        let state: String = sql.query_one(ledger, &[id]).await.expect("it is there").get(0);
        assert!(recorded != 4 || has(4), "tenant {number}");
        assert_eq!(state == "done", recorded == 4, "tenant {number}");
    }
}

async fn count(sql: &Client, question: &str) -> i64 {
    sql.query_one(question, &[]).await.expect("it can be counted").get(0)
}

/// A number below the bound.
fn random(bound: usize) -> i64 {
    let bytes = Uuid::new_v4().into_bytes();
    let drawn = bytes.iter().fold(0, |sum, byte| (sum * 256 + usize::from(*byte)) % bound);
    i64::try_from(drawn).expect("bounds are small")
}

/// The standard library sends SIGKILL alone; the shell knows the others.
pub fn signal(name: &str, pid: u32) {
    let sent = std::process::Command::new("/bin/sh")
        .args(["-c", "kill -\"$1\" \"$2\"", "signal", name, &pid.to_string()])
        .status();
    assert!(sent.is_ok_and(|status| status.success()), "{pid} can be sent SIG{name}");
}
