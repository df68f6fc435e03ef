//! `doctor`: what is found, and only that; what is mended, and that the rest is left alone.
//!
//! The schemas are those of `tests/fixtures/workshop`, which hold one of everything. Roles belong to the
//! server, and other tests make and drop theirs meanwhile: a role that is nobody's counts here where the test
//! made it. What the server has room for is judged in the unit tests.

mod command;
mod drift;
mod mending;
mod orphans;

use std::path::PathBuf;

use rowhouse::auth::{CallContext, Principal};
use rowhouse::domain::Permission;
use rowhouse::domain::error::Error;
use rowhouse::domain::names::TokenId;
use rowhouse::service::doctor::{Area, Finding, Orphans, Outcome, Report, Wish};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{Snapshot, StrayRoles, TestApp, TestTenant};

/// Both ways to keep tenants apart.
const ISOLATIONS: [&str; 2] = ["role", "search_path"];

/// Two tenants, a connection to bend them with, and a doctor.
struct Clinic {
    app: TestApp,
    acme: TestTenant,
    globex: TestTenant,
    sql: Client,
}

fn workshop() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/workshop")
}

/// The first files of the workshop.
fn workshop_up_to(version: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let files = ["V1__create_everything.sql", "V2__add_shelf.sql", "V3__index_shelf.sql"];
    for file in files.iter().take(version) {
        std::fs::copy(workshop().join(file), folder.path().join(file)).expect("a file is copied");
    }
    folder
}

impl Clinic {
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
        Self { app, acme, globex, sql }
    }

    /// Runs a script as the owner; `{acme}` and `{globex}` are the schemas.
    async fn run(&self, script: &str) {
        let script = script
            .replace("{acme}", &self.acme.schema())
            .replace("{globex}", &self.globex.schema());
        self.sql.batch_execute(&script).await.unwrap_or_else(|e| panic!("{script}: {e:?}"));
    }

    async fn examine(&self) -> Report {
        let report = self.app.services.doctor.examine(&self.app.operator(), &Wish::default()).await;
        self.without_strangers(report.expect("an examination"))
    }

    async fn mend(&self, orphans: Orphans) -> Report {
        let doctor = &self.app.services.doctor;
        let report = doctor.mend(&self.app.operator(), &Wish::default(), &orphans).await;
        self.without_strangers(report.expect("an examination"))
    }

    /// Leaves out the roles of other tests, and what the server has room for.
    fn without_strangers(&self, mut report: Report) -> Report {
        let mine = [self.acme.id, self.globex.id];
        let is_strange = |finding: &Finding| {
            let role = finding.area == Area::Orphans && finding.what.starts_with("the role");
            let id = finding.subject.as_ref().map(|subject| subject.id.uuid());
            role && id.is_some_and(|id| !mine.contains(&id))
        };
        report.findings.retain(|f| f.area != Area::Capacity && !is_strange(f));
        report
    }

    /// What is found, as `whose: what`.
    async fn found(&self) -> Vec<String> {
        lines(&self.examine().await)
    }
}

fn line(finding: &Finding) -> String {
    let slug = finding.subject.as_ref().and_then(|subject| subject.slug.as_ref());
    let whose = slug.map_or(String::new(), |slug| format!("{slug}: "));
    format!("{whose}{}", finding.what)
}

fn lines(report: &Report) -> Vec<String> {
    report.findings.iter().map(line).collect()
}

/// What still stands after a mending.
fn standing(report: &Report) -> Vec<String> {
    let stands = |finding: &&Finding| finding.outcome != Outcome::Mended;
    report.findings.iter().filter(stands).map(line).collect()
}

#[tokio::test]
async fn tenants_of_the_same_migrations_are_alike_whatever_is_in_them() {
    for isolation in ISOLATIONS {
        let clinic = Clinic::open_with(isolation).await;
        let report = clinic.examine().await;
        assert_eq!(lines(&report), Vec::<String>::new(), "{isolation}");
        assert_eq!(report.tenants, 2, "{isolation}");
    }
}

#[tokio::test]
async fn an_examination_leaves_nothing_behind() {
    let clinic = Clinic::open().await;
    clinic.run("ALTER TABLE {acme}.items DROP COLUMN shelf").await;
    let roles = StrayRoles::of(&clinic.app).await;
    let catalogs = "SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_namespace),
                           (SELECT count(*) FROM pg_default_acl)";
    let before = (Snapshot::of(&clinic.app).await, counts(&clinic.sql, catalogs).await);
    assert!(!clinic.found().await.is_empty());
    assert_eq!((Snapshot::of(&clinic.app).await, counts(&clinic.sql, catalogs).await), before);
    roles.assert_no_more(&clinic.app).await;
}

async fn counts(sql: &Client, query: &str) -> Vec<i64> {
    let row = sql.query_one(query, &[]).await.expect("the catalogs can be read");
    (0..row.len()).map(|at| row.get(at)).collect()
}

#[tokio::test]
async fn only_who_may_migrate_the_fleet_may_ask_and_who_may_delete_drop() {
    let clinic = Clinic::open().await;
    let token = |permissions: Vec<Permission>| CallContext {
        principal: Principal::Token {
            id: TokenId::new(Uuid::new_v4()),
            user: None,
            permissions,
            tenant: None,
        },
        ..clinic.app.operator()
    };
    let (doctor, all) = (&clinic.app.services.doctor, Wish::default());
    let others = Permission::ALL.iter().copied().filter(|p| *p != Permission::MigrateFleet);
    let others = token(others.collect());
    let refused = doctor.examine(&others, &all).await.expect_err("it is refused");
    assert!(
        matches!(&refused, Error::Forbidden { missing } if *missing == [Permission::MigrateFleet])
    );
    let refused = doctor.mend(&others, &all, &Orphans::Keep).await.expect_err("it is refused");
    assert!(
        matches!(&refused, Error::Forbidden { missing } if *missing == [Permission::MigrateFleet])
    );
    let migrator = token(vec![Permission::MigrateFleet]);
    doctor.examine(&migrator, &all).await.expect("it may look");
    let refused = doctor.mend(&migrator, &all, &Orphans::Drop).await.expect_err("it is refused");
    assert!(
        matches!(&refused, Error::Forbidden { missing } if *missing == [Permission::DeleteTenant])
    );
}
