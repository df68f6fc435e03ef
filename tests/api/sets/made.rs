//! A set that was run by `psql` and in three tenants: one that is new, one that got a release at a time, and one that
//! got the first file and then all others at once.

use tempfile::TempDir;

use super::dump::Contents;
use super::files::{File, Set};
use super::psql;
use crate::support::{Completed, Program, TestDatabase};

/// The schema that `psql` fills.
const PLAIN: &str = "made_by_psql";

const TENANTS: [&str; 3] = ["release-by-release", "all-at-once", "new"];

pub(super) struct Made {
    database: TestDatabase,
    program: Program,
    folder: TempDir,
    schemas: Vec<String>,
}

impl Made {
    /// Runs the set; each release brings so many files, the first one only the first file.
    pub(super) async fn from(set: &Set, files_a_release: usize) -> Self {
        let (database, folder) = (TestDatabase::create().await, tempfile::tempdir());
        let folder = folder.expect("a folder can be made");
        let mut program = Program::on(&database)
            .with("ROWHOUSE_TENANT_MIGRATIONS", &folder.path().display().to_string());
        if !set.files.iter().all(File::runs_in_transaction) {
            // A pooler refuses that.
            program = program.with("DATABASE_URL", &database.url());
        }
        let mut made = Self { database, program, folder, schemas: Vec::new() };
        let folder = made.folder.path().to_owned();
        let (first, rest) = set.files.split_first().expect("the set has files");
        first.write(&folder);
        made.create(TENANTS[0]);
        made.create(TENANTS[1]);
        for release in rest.chunks(files_a_release) {
            for file in release {
                file.write(&folder);
            }
            made.run(&["migrate", "--tenant", TENANTS[0]]);
        }
        made.run(&["migrate"]);
        made.create(TENANTS[2]);
        let schema = format!("CREATE SCHEMA {PLAIN}");
        made.database.connect().await.batch_execute(&schema).await.expect("a schema can be made");
        psql::run(set, &folder, &made.database.url(), PLAIN);
        made
    }

    fn create(&mut self, slug: &str) {
        let ran = self.program.create_tenant(slug).expect(0);
        let id = ran.json()["id"].as_str().expect("it has an id").replace('-', "");
        self.schemas.push(format!("tenant_{id}"));
    }

    fn run(&self, arguments: &[&str]) -> Completed {
        self.program.run(arguments).expect(0)
    }

    /// Every tenant holds what the schema that `psql` filled holds.
    pub(super) async fn assert_alike(&self) {
        // A superuser sees the rows that a policy hides from the owner of a table as well.
        let (sql, url) = (self.database.connect().await, self.database.superuser_url());
        let expected = Contents::of(&sql, &url, PLAIN).await;
        for (slug, schema) in TENANTS.iter().zip(&self.schemas) {
            let found = Contents::of(&sql, &url, schema).await.differences(&expected);
            assert!(found.is_empty(), "{slug} differs from what psql made:\n{}", found.join("\n"));
        }
    }

    /// `doctor` has no complaint.
    pub(super) fn assert_healthy(&self) {
        let tenants = TENANTS.iter().flat_map(|slug| ["--tenant", slug]);
        let ran = self.run(&std::iter::once("doctor").chain(tenants).collect::<Vec<_>>());
        assert_eq!(ran.stdout, "3 tenants examined, all as it should be\n");
    }

    /// A second run of `migrate` changes nothing.
    pub(super) fn assert_nothing_to_do(&self) {
        let ran = self.run(&["migrate"]);
        assert_eq!(ran.stdout, "control plane: nothing to do\ntenants: nothing to do\n");
    }

    /// A purge leaves nothing of a tenant, and all of the others.
    pub(super) async fn assert_purgeable(&self) {
        let slug = TENANTS[0];
        self.run(&["tenant", "delete", slug, "--yes"]);
        self.run(&["tenant", "purge", slug, "--yes"]);
        let names = "SELECT nspname::text AS name FROM pg_namespace WHERE nspname = ANY ($1)
                     UNION ALL SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($1) ORDER BY name";
        let sql = self.database.connect().await;
        let left = sql.query(names, &[&self.schemas]).await.expect("names can be read");
        let left: Vec<&str> = left.iter().map(|row| row.get(0)).collect();
        let others = &self.schemas[1..];
        assert_eq!(left, others.iter().flat_map(|name| [name, name]).collect::<Vec<_>>());
    }
}
