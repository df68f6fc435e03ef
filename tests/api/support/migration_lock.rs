//! Holds set-ups in the middle of their migrations for as long as a test wants.
//!
//! The tenant migrations wait for an advisory lock that the test has; locks of that kind are kept apart
//! by database, so no test meets another's.

use std::time::Duration;

use tokio_postgres::Client;

use super::{TestApp, TestAppBuilder};

/// A lock that set-ups wait for, between two files.
pub struct MigrationLock {
    holder: Client,
    watcher: Client,
}

impl MigrationLock {
    /// A server whose set-ups wait after the first of their migrations, and the shut gate.
    pub async fn held(builder: TestAppBuilder) -> (TestApp, Self) {
        let app = with_migrations(
            builder.with("database.lock_timeout", "20s"),
            &[
                ("V1__create_first.sql", "CREATE TABLE first (id uuid PRIMARY KEY)"),
                ("V2__wait.sql", "SELECT pg_advisory_xact_lock(4711)"),
                ("V3__create_last.sql", "CREATE TABLE last (id uuid PRIMARY KEY)"),
            ],
        )
        .await;
        let gate = Self { holder: app.sql().await, watcher: app.sql().await };
        gate.holder.execute("SELECT pg_advisory_lock(4711)", &[]).await.expect("the lock is free");
        (app, gate)
    }

    /// Waits until so many set-ups stand before the gate.
    pub async fn wait_for_waiters(&self, waiting: i64) {
        for _ in 0..1000 {
            if self.waiting().await == waiting {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} set-ups wait, and not {waiting}", self.waiting().await);
    }

    async fn waiting(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
        self.watcher.query_one(sql, &[]).await.expect("locks can be listed").get(0)
    }

    /// Ends the connections of the set-ups that wait; tells how many.
    pub async fn terminate_waiters(&self) -> usize {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
        self.watcher.query(sql, &[]).await.expect("connections can be ended").len()
    }

    /// Lets everybody through.
    pub async fn release(&self) {
        let sql = "SELECT pg_advisory_unlock(4711)";
        self.holder.execute(sql, &[]).await.expect("the lock is ours");
    }
}

/// A server with tenant migrations of its own.
pub async fn with_migrations(builder: TestAppBuilder, files: &[(&str, &str)]) -> TestApp {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    for (name, sql) in files {
        std::fs::write(folder.path().join(name), sql).expect("there is room for a file");
    }
    let path = folder.path().display().to_string();
    builder.with("tenant_migrations", path).spawn().await
}
