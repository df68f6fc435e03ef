//! `doctor` reports exactly the drift that exists, repairs what it can and leaves the rest unchanged.
//!
//! The schemas are those of `tests/fixtures/workshop`, which contain one object of every kind. Roles belong to
//! the server, on which other tests create and drop roles meanwhile: an orphaned role counts only if this test
//! made it. The checks of the server's capacity are covered by unit tests.

mod command;
mod control_plane;
mod drift;
mod expected;
mod orphans;
mod repair;
mod undecided;

use std::path::PathBuf;
use std::time::Duration;

use rowhouse::auth::{CallContext, Principal};
use rowhouse::domain::Permission;
use rowhouse::domain::error::Error;
use rowhouse::domain::names::TokenId;
use rowhouse::service::doctor::{Area, Finding, Orphans, RepairOutcome, Report, Selection};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::support::{Snapshot, StrayRoles, TestApp, TestEngine, TestTenant};

/// Both isolation modes.
const ISOLATIONS: [&str; 2] = ["role", "search_path"];

/// A server with two tenants, and a connection as the owner to alter them with.
struct Fixture {
    app: TestApp,
    acme: TestTenant,
    globex: TestTenant,
    sql: Client,
}

fn workshop() -> PathBuf {
    let folder = match TestEngine::of_run() {
        TestEngine::Postgres | TestEngine::ForcedCitus => "tests/fixtures/workshop",
        TestEngine::Citus => "tests/fixtures/workshop_on_citus",
    };
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// Copies the first migrations of the workshop to a folder.
fn workshop_up_to(version: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let files = ["V1__create_everything.sql", "V2__add_shelf.sql", "V3__index_shelf.sql"];
    for file in files.iter().take(version) {
        std::fs::copy(workshop().join(file), folder.path().join(file)).expect("a file is copied");
    }
    folder
}

impl Fixture {
    async fn open() -> Self {
        Self::open_with("role").await
    }

    async fn open_with(isolation: &str) -> Self {
        let builder = TestApp::builder()
            .with("tenant_migrations", workshop().display().to_string())
            .with("database.isolation", isolation);
        let app = builder.spawn().await;
        let (acme, globex) = (app.set_up("acme-corp").await, app.set_up("globex-corp").await);
        let sql = app.sql().await;
        let fixture = Self { app, acme, globex, sql };
        fixture.wait_for_first_jobs().await;
        fixture
    }

    /// Waits until no transaction of the server is open: the jobs that it begins with are done. It stands still while a test
    /// waits for a program, and the program would then wait for its locks.
    async fn wait_for_first_jobs(&self) {
        let open = "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL";
        while self.sql.query_one(open, &[]).await.expect("sessions are listed").get::<_, i64>(0) > 0
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs a script as the owner, or as the superuser if the owner may not. `{acme}` and `{globex}` stand for the schemas
    /// of the tenants.
    async fn run(&self, script: &str) {
        let script = script
            .replace("{acme}", &self.acme.schema())
            .replace("{globex}", &self.globex.schema())
            .replace("{files}", TestEngine::of_run().owner_of_files().0);
        for script in TestEngine::of_run().messages(&script) {
            match self.sql.batch_execute(script).await {
                Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                    let _ = self.sql.batch_execute("ROLLBACK").await;
                    self.run_as_superuser(script).await;
                }
                outcome => outcome.unwrap_or_else(|e| panic!("{script}: {e:?}")),
            }
        }
    }

    /// As [`run`](Self::run), for what an owner may not do.
    async fn run_as_superuser(&self, script: &str) {
        let sql = self.app.superuser_sql().await;
        sql.batch_execute(script).await.unwrap_or_else(|e| panic!("{script}: {e:?}"));
    }

    async fn check(&self) -> Report {
        let report =
            self.app.services.doctor.examine(&self.app.operator(), &Selection::default()).await;
        self.own_findings(report.expect("the check ends"))
    }

    async fn repair(&self, orphans: Orphans) -> Report {
        let doctor = &self.app.services.doctor;
        let report = doctor.repair(&self.app.operator(), &Selection::default(), &orphans).await;
        self.own_findings(report.expect("the check ends"))
    }

    /// Removes findings about the roles of other tests and about the server's capacity.
    fn own_findings(&self, mut report: Report) -> Report {
        let own = [self.acme.id, self.globex.id];
        let is_foreign = |finding: &Finding| {
            let role = finding.area == Area::Orphans && finding.what.starts_with("the role");
            let id = finding.subject.as_ref().map(|subject| subject.id.uuid());
            role && id.is_some_and(|id| !own.contains(&id))
        };
        report.findings.retain(|f| f.area != Area::Capacity && !is_foreign(f));
        report
    }

    /// Checks all tenants. Returns the findings as `slug: what`.
    async fn found(&self) -> Vec<String> {
        lines(&self.check().await)
    }
}

fn line(finding: &Finding) -> String {
    let slug = finding.subject.as_ref().and_then(|subject| subject.slug.as_ref());
    let prefix = slug.map_or(String::new(), |slug| format!("{slug}: "));
    format!("{prefix}{}", finding.what)
}

fn lines(report: &Report) -> Vec<String> {
    report.findings.iter().map(line).collect()
}

/// Returns the findings that were not repaired.
fn unresolved(report: &Report) -> Vec<String> {
    let is_unresolved = |finding: &&Finding| finding.outcome != RepairOutcome::Repaired;
    report.findings.iter().filter(is_unresolved).map(line).collect()
}

#[tokio::test]
async fn tenants_with_the_same_migrations_have_no_findings_whatever_their_data() {
    for isolation in ISOLATIONS {
        let fixture = Fixture::open_with(isolation).await;
        let report = fixture.check().await;
        assert_eq!(lines(&report), Vec::<String>::new(), "{isolation}");
        assert_eq!(report.tenants, 2, "{isolation}");
    }
}

#[tokio::test]
async fn a_check_leaves_nothing_behind() {
    let fixture = Fixture::open().await;
    fixture.run("ALTER TABLE {acme}.items DROP COLUMN shelf").await;
    let roles = StrayRoles::of(&fixture.app).await;
    let catalogs = "SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_namespace),
                           (SELECT count(*) FROM pg_default_acl)";
    let before = (Snapshot::of(&fixture.app).await, counts(&fixture.sql, catalogs).await);
    assert!(!fixture.found().await.is_empty());
    assert_eq!((Snapshot::of(&fixture.app).await, counts(&fixture.sql, catalogs).await), before);
    roles.assert_no_more(&fixture.app).await;
}

async fn counts(sql: &Client, query: &str) -> Vec<i64> {
    let row = sql.query_one(query, &[]).await.expect("the catalogs can be read");
    (0..row.len()).map(|at| row.get(at)).collect()
}

#[tokio::test]
async fn a_check_needs_the_right_to_migrate_the_fleet_and_a_drop_the_right_to_delete_tenants() {
    let fixture = Fixture::open().await;
    let token = |permissions: Vec<Permission>| CallContext {
        principal: Principal::Token {
            id: TokenId::new(Uuid::new_v4()),
            user: None,
            permissions,
            tenant: None,
        },
        ..fixture.app.operator()
    };
    let (doctor, all) = (&fixture.app.services.doctor, Selection::default());
    let others = Permission::ALL.iter().copied().filter(|p| *p != Permission::MigrateFleet);
    let others = token(others.collect());
    let refused = doctor.examine(&others, &all).await.expect_err("the call is refused");
    assert!(
        matches!(&refused, Error::Forbidden { missing } if *missing == [Permission::MigrateFleet])
    );
    let refused =
        doctor.repair(&others, &all, &Orphans::Keep).await.expect_err("the call is refused");
    assert!(
        matches!(&refused, Error::Forbidden { missing } if *missing == [Permission::MigrateFleet])
    );
    let migrator = token(vec![Permission::MigrateFleet]);
    doctor.examine(&migrator, &all).await.expect("the check is permitted");
    let refused =
        doctor.repair(&migrator, &all, &Orphans::Drop).await.expect_err("the call is refused");
    assert!(
        matches!(&refused, Error::Forbidden { missing } if *missing == [Permission::DeleteTenant])
    );
}
