//! Holds set-ups in the middle of their migrations until the test releases them.
//!
//! The tenant migrations wait for an advisory lock that the test holds. Advisory locks are local to a
//! database, so tests do not block each other.

use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::Client;

use super::{TestApp, TestAppBuilder};

/// An advisory lock that set-ups wait for between two migration files.
pub struct MigrationLock {
    session: Client,
    watcher: Client,
}

impl MigrationLock {
    /// Starts a server whose set-ups wait after their first migration, and takes the lock.
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
        wait_for_first_check(&app).await;
        let lock = Self { session: app.sql().await, watcher: app.sql().await };
        lock.session.execute("SELECT pg_advisory_lock(4711)", &[]).await.expect("the lock is free");
        (app, lock)
    }

    /// Waits until this many set-ups wait for the lock.
    pub async fn wait_for_waiters(&self, waiting: i64) {
        for _ in 0..1000 {
            if self.waiting().await == waiting {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} set-ups wait instead of {waiting}", self.waiting().await);
    }

    async fn waiting(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
        self.watcher.query_one(sql, &[]).await.expect("locks can be listed").get(0)
    }

    /// Terminates the connections of the waiting set-ups and returns their number.
    pub async fn terminate_waiters(&self) -> usize {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                    WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
        self.watcher.query(sql, &[]).await.expect("connections can be ended").len()
    }

    /// Releases the lock, so that all waiting set-ups continue.
    pub async fn release(&self) {
        let sql = "SELECT pg_advisory_unlock(4711)";
        self.session.execute(sql, &[]).await.expect("this session holds the lock");
    }
}

/// Waits until the server has checked that new tenants can be made: it builds one, which would wait for the lock too.
async fn wait_for_first_check(app: &TestApp) {
    for _ in 0..1000 {
        let metrics = app.anonymous().get("/metrics").await.text;
        let is_done =
            |line: &str| line.contains("last_success") && line.contains("check_new_tenants");
        if metrics.lines().any(is_done) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the server never checks whether new tenants can be made");
}

/// Starts a server with these tenant migrations instead of the built-in ones.
pub async fn with_migrations(builder: TestAppBuilder, files: &[(&str, &str)]) -> TestApp {
    let folder = folder_of(files);
    let path = folder.path().display().to_string();
    builder.with("tenant_migrations", path).spawn().await
}

/// Writes migrations into a folder.
pub fn folder_of(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for (name, sql) in files {
        std::fs::write(folder.path().join(name), sql).expect("a file can be written");
    }
    folder
}
