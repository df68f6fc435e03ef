//! Folders of migrations that are too much, nearly nothing, or not the same everywhere. What is wrong with a single
//! name or encoding is in `cli_migration_files`, files that hang or end their connection in `fleet::hanging`.

mod folders;
mod large;
mod little;
mod stopped;

use std::path::Path;

use crate::support::{Completed, Program, TestDatabase};

/// The first file of each set.
const NOTES: &str = "CREATE TABLE notes (id int CONSTRAINT notes_pkey PRIMARY KEY, body text);\n";

/// A database and a folder of migrations.
struct Fixture {
    database: TestDatabase,
    folder: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let fixture = Self { database: TestDatabase::create().await, folder };
        fixture.write("V1__notes.sql", NOTES);
        fixture
    }

    fn write(&self, name: &str, sql: impl AsRef<[u8]>) {
        std::fs::write(self.folder.path().join(name), sql).expect("a file can be written");
    }

    /// Returns the program with the files of the fixture.
    fn program(&self) -> Program {
        self.program_with(self.folder.path())
    }

    /// Returns the program with the files of another folder.
    fn program_with(&self, folder: &Path) -> Program {
        Program::on(&self.database)
            .with("ROWHOUSE_TENANT_MIGRATIONS", &folder.display().to_string())
    }

    /// Returns the only value of a query.
    async fn number(&self, query: &str) -> i64 {
        let row = self.database.connect().await.query_one(query, &[]).await;
        row.expect("the query gives one row").get(0)
    }

    /// Asserts that there are as many schemas, and as many roles, of tenants as there are tenants.
    async fn assert_nothing_is_left(&self, tenants: i64) {
        let rows = "SELECT count(*) FROM tenants";
        let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tenant\\_%'";
        let vacancies = "SELECT count(*) FROM vacancies";
        assert_eq!(self.number(rows).await, tenants);
        assert_eq!(self.number(schemas).await, tenants);
        assert_eq!(self.number(vacancies).await, 0);
    }
}

/// Returns the schema of a tenant that was created.
fn schema(created: &Completed) -> String {
    let id = created.json()["id"].as_str().expect("it has an id").replace('-', "");
    format!("tenant_{id}")
}
