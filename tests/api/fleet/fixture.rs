//! A database with tenants on a first set of migrations, and a folder to add migration files to.

use std::sync::Arc;
use std::time::Duration;

use rowhouse::app::{Backend, Options, Purpose};
use rowhouse::config::Settings;
use rowhouse::domain::operation::PauseReason;
use rowhouse::migrations::MigrationSet;
use rowhouse::service::fleet::{Event, Events, MigrationRequest, Record};
use tempfile::TempDir;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::postgres::connect;
use crate::support::{Program, TestDatabase, TestEngine, provision_command, settings_for};

/// The first migration of every tenant: a table with one row that counts how often a migration ran.
pub const FIRST: (&str, &str) = (
    "V1__create_notes.sql",
    "CREATE TABLE notes (id integer CONSTRAINT notes_pkey PRIMARY KEY, runs integer NOT NULL);
     INSERT INTO notes VALUES (1, 0);",
);

/// A migration that shows when it ran twice or partially.
pub const SECOND: (&str, &str) = (
    "V2__add_mood.sql",
    "ALTER TABLE notes ADD COLUMN mood text;
     CREATE INDEX notes_mood_idx ON notes (mood);
     UPDATE notes SET runs = runs + 1;",
);

/// A migration that waits for a [`MigrationLock`] in a tenant that exists. A new tenant has written its row in the same
/// transaction.
pub const WAITS_FOR_LOCK: (&str, &str) = (
    "V2__wait.sql",
    "SELECT pg_advisory_xact_lock_shared(4711) FROM notes WHERE xmin::text <> pg_current_xact_id()::xid::text;
     UPDATE notes SET runs = runs + 1;",
);

/// A migration that fails in a tenant that exists, on its second line, and in no new one.
pub const FAILS: (&str, &str) = (
    "V2__break.sql",
    "SELECT\n1 / (xmin::text = pg_current_xact_id()::xid::text)::int FROM notes;",
);

pub struct Fixture {
    pub database: TestDatabase,
    pub folder: TempDir,
    pub tenants: Vec<Uuid>,
}

impl Fixture {
    /// Creates a database with tenants `t0`, `t1` .. on [`FIRST`].
    pub async fn with(count: usize) -> Self {
        let database = TestDatabase::create().await;
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut fixture = Self { database, folder, tenants: Vec::new() };
        fixture.write(FIRST);
        let backend = fixture.backend(&[]).await;
        for number in 0..count {
            let made = provision(&backend, &format!("t{number}")).await;
            fixture.tenants.push(made);
        }
        backend.close().await;
        fixture
    }

    pub fn write(&self, (name, sql): (&str, &str)) {
        std::fs::write(self.folder.path().join(name), sql).expect("a file can be written");
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join(name)).expect("a file can be removed");
    }

    /// Opens a backend with the current files; to the database it is a separate process.
    pub async fn backend(&self, values: &[(&'static str, &str)]) -> Backend {
        let mut all = settings_for(&self.database.url());
        all.push(("tenant_migrations", self.folder.path().display().to_string()));
        all.push(("fleet.lease", "2s".to_owned()));
        all.extend(values.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let settings = Settings::from_values(&all).expect("the settings of a test are good");
        let opened = Backend::open_for(Purpose::Migrate, &settings, &Options::default()).await;
        opened.expect("the backend of a test opens")
    }

    /// Opens a backend that reaches the server itself, as files outside a transaction need.
    pub async fn direct_backend(&self) -> Backend {
        self.backend(&[("database.url", &self.database.url())]).await
    }

    /// Returns the program with these files.
    pub fn program(&self) -> Program {
        Program::on(&self.database)
            .with("ROWHOUSE_TENANT_MIGRATIONS", &self.folder.path().display().to_string())
            .with("ROWHOUSE_FLEET__LEASE", "2s")
    }

    /// Returns the program with these files, which reaches the server itself, as files outside a transaction need.
    pub fn direct_program(&self) -> Program {
        self.program().with("DATABASE_URL", &self.database.url())
    }

    pub async fn sql(&self) -> Client {
        self.database.connect().await
    }

    pub fn schema(&self, number: usize) -> String {
        format!("tenant_{}", self.tenants[number].simple())
    }

    /// Returns how often the migration ran in each tenant; -1 where the count cannot be read.
    pub async fn runs(&self) -> Vec<i32> {
        let sql = self.sql().await;
        let mut runs = Vec::new();
        for number in 0..self.tenants.len() {
            let count = format!("SELECT runs FROM {}.notes WHERE id = 1", self.schema(number));
            let row = sql.query_one(&count, &[]).await;
            runs.push(row.map_or(-1, |row| row.get(0)));
        }
        runs
    }

    /// Returns the SQL that has the effect of a committed second file of a set, [`SECOND`] or
    /// [`WAITS_FOR_LOCK`].
    pub fn as_if_committed(&self, number: usize, set: &MigrationSet) -> String {
        let (schema, file) = (self.schema(number), &set.history()[1]);
        format!(
            "INSERT INTO {schema}.refinery_schema_history VALUES (2, '{}', '2026-01-01T00:00:00Z', '{}');
             UPDATE {schema}.notes SET runs = runs + 1",
            file.name, file.checksum
        )
    }

    /// Returns the versions in the history table of a tenant's schema.
    pub async fn versions(&self, number: usize) -> Vec<i32> {
        let history = format!(
            "SELECT version FROM {}.refinery_schema_history ORDER BY version",
            self.schema(number)
        );
        let rows = self.sql().await.query(&history, &[]).await.expect("there is a history");
        rows.iter().map(|row| row.get(0)).collect()
    }
}

pub async fn provision(backend: &Backend, slug: &str) -> Uuid {
    let provisioning = &backend.services.provisioning;
    let made = provisioning.provision(&backend.operator(), provision_command(slug)).await;
    made.expect("a tenant can be made").id.uuid()
}

/// Returns an event handler that ignores all events.
pub fn no_events() -> Events {
    Arc::new(|_event: &Event| {})
}

/// Starts a migration and runs it to its end.
pub async fn migrate(backend: &Backend, command: &MigrationRequest) -> Record {
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet.start(&ctx, command).await.expect("a migration can be started");
    fleet.run(&ctx, made.id, no_events()).await.expect("a migration runs")
}

/// Returns the state, the pause reason, and the numbers of pending, done, failed and skipped tenants.
pub fn outcome(record: &Record) -> (&'static str, Option<&'static str>, [i64; 4]) {
    let counts = record.counts;
    (
        record.state.as_str(),
        record.pause_reason.map(PauseReason::as_str),
        [counts.pending, counts.done, counts.failed, counts.skipped],
    )
}

/// An advisory lock that migrations with [`WAITS_FOR_LOCK`] wait for: in the database, and on a cluster in that of each
/// worker, where the query on the tenant's table takes it.
pub struct MigrationLock(Vec<Client>);

/// Ends the session in which a migration waits for the lock, on a cluster that of the coordinator. Returns a row for each.
pub const END_WAITING: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'
       AND query LIKE '%pg_advisory_xact_lock_shared(4711)%'";

impl MigrationLock {
    pub async fn hold(fixture: &Fixture) -> Self {
        let mut sessions = vec![fixture.sql().await];
        if TestEngine::of_run() == TestEngine::Citus {
            for worker in fixture.database.worker_urls().await {
                sessions.push(connect(&worker).await);
            }
        }
        for session in &sessions {
            session.execute("SELECT pg_advisory_lock(4711)", &[]).await.expect("the lock is free");
        }
        Self(sessions)
    }

    /// Waits until a migration waits for the lock.
    pub async fn wait_until_waiting(&self) {
        let waits = "SELECT count(*) > 0 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                      WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
        let waiting = self.0.iter().map(|session| Box::pin(wait_for(session, waits)));
        futures_util::future::select_all(waiting).await;
    }

    pub async fn release(self) {
        for session in &self.0 {
            let released = session.execute("SELECT pg_advisory_unlock(4711)", &[]).await;
            released.expect("this session holds the lock");
        }
    }
}

/// Waits until a query returns true.
pub async fn wait_for(sql: &Client, condition: &str) {
    for _ in 0..6000 {
        let holds: bool =
            sql.query_one(condition, &[]).await.expect("the query returns a boolean").get(0);
        if holds {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the condition never holds: {condition}");
}
