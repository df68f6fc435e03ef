//! Some tenants on a first set of migrations, and a folder that more can be written into.

use std::sync::Arc;
use std::time::Duration;

use rowhouse::app::{Backend, Options, Purpose};
use rowhouse::config::Settings;
use rowhouse::domain::operation::PauseReason;
use rowhouse::migrations::MigrationSet;
use rowhouse::service::fleet::{Event, Events, Record, Wish};
use tempfile::TempDir;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{Program, TestDatabase, provision_command, settings_for};

/// What every tenant begins with: a table, and a row that counts how often a migration came by.
pub const FIRST: (&str, &str) = (
    "V1__create_notes.sql",
    "CREATE TABLE notes (id integer CONSTRAINT notes_pkey PRIMARY KEY, runs integer NOT NULL);
     INSERT INTO notes VALUES (1, 0);",
);

/// A migration that shows when it ran twice, or by half.
pub const SECOND: (&str, &str) = (
    "V2__add_mood.sql",
    "ALTER TABLE notes ADD COLUMN mood text;
     CREATE INDEX notes_mood_idx ON notes (mood);
     UPDATE notes SET runs = runs + 1;",
);

/// Makes the migration of every tenant wait for a lock that the test holds.
pub const GATED: (&str, &str) = (
    "V2__wait.sql",
    "SELECT pg_advisory_xact_lock_shared(4711); UPDATE notes SET runs = runs + 1;",
);

pub struct Ground {
    pub database: TestDatabase,
    pub folder: TempDir,
    pub tenants: Vec<Uuid>,
}

impl Ground {
    /// `t0`, `t1` .. on [`FIRST`].
    pub async fn with(count: usize) -> Self {
        let database = TestDatabase::create().await;
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut ground = Self { database, folder, tenants: Vec::new() };
        ground.write(FIRST);
        let backend = ground.backend(&[]).await;
        for number in 0..count {
            let made = provision(&backend, &format!("t{number}")).await;
            ground.tenants.push(made);
        }
        backend.close().await;
        ground
    }

    pub fn write(&self, (name, sql): (&str, &str)) {
        std::fs::write(self.folder.path().join(name), sql).expect("a file can be written");
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join(name)).expect("a file can be removed");
    }

    /// A process of its own, as far as the database can tell, on the files as they are now.
    pub async fn backend(&self, values: &[(&'static str, &str)]) -> Backend {
        let mut all = settings_for(&self.database.url());
        all.push(("tenant_migrations", self.folder.path().display().to_string()));
        all.push(("fleet.lease", "2s".to_owned()));
        all.extend(values.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let settings = Settings::from_values(&all).expect("the settings of a test are good");
        let opened = Backend::open_for(Purpose::Migrate, &settings, &Options::default()).await;
        opened.expect("the backend of a test opens")
    }

    /// The program on these files.
    pub fn program(&self) -> Program {
        Program::on(&self.database)
            .with("ROWHOUSE_TENANT_MIGRATIONS", &self.folder.path().display().to_string())
            .with("ROWHOUSE_FLEET__LEASE", "2s")
    }

    pub async fn sql(&self) -> Client {
        self.database.connect().await
    }

    pub fn schema(&self, number: usize) -> String {
        format!("tenant_{}", self.tenants[number].simple())
    }

    /// How often the migration came by, tenant by tenant; none where there is no count.
    pub async fn runs(&self) -> Vec<i32> {
        let sql = self.sql().await;
        let mut runs = Vec::new();
        for number in 0..self.tenants.len() {
            let count = format!("SELECT runs FROM {}.notes", self.schema(number));
            let row = sql.query_one(&count, &[]).await;
            runs.push(row.map_or(-1, |row| row.get(0)));
        }
        runs
    }

    /// What the second file of a set, [`SECOND`] or [`GATED`], leaves in a schema when it is committed.
    pub fn as_if_committed(&self, number: usize, set: &MigrationSet) -> String {
        let (schema, file) = (self.schema(number), &set.history()[1]);
        format!(
            "INSERT INTO {schema}.refinery_schema_history VALUES (2, '{}', '2026-01-01T00:00:00Z', '{}');
             UPDATE {schema}.notes SET runs = runs + 1",
            file.name, file.checksum
        )
    }

    /// The versions in a tenant's own history.
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

/// Nobody listens.
pub fn quiet() -> Events {
    Arc::new(|_event: &Event| {})
}

/// Starts and runs.
pub async fn migrate(backend: &Backend, wish: &Wish) -> Record {
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let made = fleet.start(&ctx, wish).await.expect("a migration can be started");
    fleet.run(&ctx, made.id, quiet()).await.expect("a migration runs")
}

/// State, pause reason, and the tenants that are pending, done, failed, skipped.
pub fn outcome(record: &Record) -> (&'static str, Option<&'static str>, [i64; 4]) {
    let counts = record.counts;
    (
        record.state.as_str(),
        record.pause_reason.map(PauseReason::as_str),
        [counts.pending, counts.done, counts.failed, counts.skipped],
    )
}

/// A lock that migrations with [`GATED`] wait for.
pub struct Gate(Client);

impl Gate {
    pub async fn shut(ground: &Ground) -> Self {
        let holder = ground.sql().await;
        holder.execute("SELECT pg_advisory_lock(4711)", &[]).await.expect("the lock is free");
        Self(holder)
    }

    /// Waits until a migration stands before it.
    pub async fn reached(&self, ground: &Ground) {
        let sql = ground.sql().await;
        wait_for(&sql, "SELECT count(*) > 0 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                         WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted").await;
    }

    pub async fn open(self) {
        self.0.execute("SELECT pg_advisory_unlock(4711)", &[]).await.expect("the lock is ours");
    }
}

/// Waits until a query says yes.
pub async fn wait_for(sql: &Client, question: &str) {
    for _ in 0..6000 {
        let yes: bool = sql.query_one(question, &[]).await.expect("it is a question").get(0);
        if yes {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never became so: {question}");
}
