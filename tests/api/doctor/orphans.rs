//! Schemas and roles without a tenant, and the isolation between existing tenants.

use rowhouse::domain::names::TenantId;
use rowhouse::service::doctor::{Area, Gravity, Orphans, Report};

use super::{Fixture, lines, unresolved};

/// Deletes a tenant's row and leaves its schema and its role behind.
const DELETE_TENANT: &str = "DELETE FROM tenants WHERE slug = 'acme-corp'";

async fn exists(fixture: &Fixture, what: &str) -> bool {
    let row = fixture.sql.query_one(&format!("SELECT {what} IS NOT NULL"), &[]).await;
    row.expect("the catalogs can be read").get(0)
}

async fn events(fixture: &Fixture) -> i64 {
    let count = "SELECT count(*) FROM audit_events WHERE action = 'doctor.drop_orphan'";
    fixture.sql.query_one(count, &[]).await.expect("events can be counted").get(0)
}

#[tokio::test]
async fn a_schema_without_a_tenant_is_reported_and_dropped_only_on_request() {
    let fixture = Fixture::open().await;
    fixture.run(DELETE_TENANT).await;
    let schema = fixture.acme.schema();
    let expected = [format!("the schema {schema} belongs to no tenant")];
    assert_eq!(fixture.found().await, expected);
    assert_eq!(unresolved(&fixture.repair(Orphans::Keep).await), expected);
    let regnamespace = format!("to_regnamespace('{schema}')");
    assert!(exists(&fixture, &regnamespace).await);
    let report = fixture.drop_own_orphans().await;
    assert_eq!((unresolved(&report), lines(&report)), (Vec::new(), expected.to_vec()));
    assert!(!exists(&fixture, &regnamespace).await);
    assert!(!exists(&fixture, &format!("to_regrole('{schema}')")).await);
    assert_eq!((fixture.found().await, events(&fixture).await), (Vec::new(), 1));
}

#[tokio::test]
async fn a_role_without_a_tenant_is_reported_and_dropped_only_on_request() {
    let fixture = Fixture::open().await;
    fixture.run(DELETE_TENANT).await;
    fixture.run("DROP SCHEMA {acme} CASCADE").await;
    let schema = fixture.acme.schema();
    let report = fixture.check().await;
    assert_eq!(lines(&report), [format!("the role {schema} belongs to no tenant")]);
    assert_eq!(report.findings[0].gravity, Gravity::Warning, "an orphaned role is harmless");
    fixture.repair(Orphans::Keep).await;
    assert!(exists(&fixture, &format!("to_regrole('{schema}')")).await);
    fixture.drop_own_orphans().await;
    assert!(!exists(&fixture, &format!("to_regrole('{schema}')")).await);
    assert_eq!((fixture.found().await, events(&fixture).await), (Vec::new(), 1));
}

#[tokio::test]
async fn a_role_that_another_database_needs_is_no_orphan() {
    let (fixture, elsewhere) = (Fixture::open().await, Fixture::open().await);
    let (operator, all) = (fixture.app.operator(), super::Selection::default());
    let report = fixture.app.services.doctor.examine(&operator, &all).await;
    let report = report.expect("the check ends");
    let others = [elsewhere.acme.schema(), elsewhere.globex.schema()];
    let mentions_other = |line: &String| others.iter().any(|schema| line.contains(schema.as_str()));
    assert!(!lines(&report).iter().any(mentions_other), "{:?}", lines(&report));
}

#[tokio::test]
async fn a_vacancy_is_no_orphan_and_is_compared_once_it_is_ready() {
    let fixture = Fixture::open().await;
    fixture
        .run(
            "CREATE TABLE IF NOT EXISTS public.vacancies (
                 id uuid PRIMARY KEY, state text NOT NULL, isolation text NOT NULL, cluster text NOT NULL,
                 migrations_version integer NOT NULL, migrations_fingerprint text NOT NULL,
                 created_at timestamptz NOT NULL);
             INSERT INTO public.vacancies (id, state, isolation, cluster, migrations_version,
                                           migrations_fingerprint, created_at)
             SELECT id, 'ready', 'role', cluster, migrations_version, migrations_fingerprint, created_at
               FROM tenants WHERE slug = 'acme-corp'",
        )
        .await;
    fixture.run(DELETE_TENANT).await;
    let report = fixture.check().await;
    assert_eq!((lines(&report), report.tenants, report.vacancies), (Vec::new(), 1, 1));
    fixture.run("ALTER TABLE {acme}.items DROP COLUMN share").await;
    let report = fixture.check().await;
    assert_eq!(lines(&report), ["table items: column share is missing"]);
    let subject = report.findings[0].subject.clone().expect("it has a subject");
    assert_eq!((subject.slug, subject.id.uuid()), (None, fixture.acme.id));
    fixture.run("UPDATE public.vacancies SET state = 'dropping'").await;
    assert_eq!(fixture.found().await, Vec::<String>::new());
    fixture.drop_own_orphans().await;
    assert!(exists(&fixture, &format!("to_regnamespace('{}')", fixture.acme.schema())).await);
}

#[tokio::test]
async fn a_tenant_with_an_interrupted_purge_has_no_findings() {
    let fixture = Fixture::open().await;
    fixture
        .run(
            "UPDATE tenants SET status = 'deleting', restore_to = 'active', purge_after = 'infinity',
                                purge_started_at = now()
              WHERE slug = 'acme-corp';
             DROP TABLE {acme}.parts",
        )
        .await;
    assert_eq!(fixture.found().await, Vec::<String>::new());
}

#[tokio::test]
async fn access_to_another_tenant_is_found_by_trying_it() {
    let fixture = Fixture::open().await;
    // INHERIT gives the role the privileges of the roles that are granted to it. Since PostgreSQL 16 a grant
    // keeps the inheritance that the role had at the time of the grant.
    fixture.run("ALTER ROLE {globex} INHERIT").await;
    fixture
        .run("GRANT pg_read_all_data TO {globex}; GRANT USAGE ON SCHEMA public TO {globex}")
        .await;
    let report = fixture.check().await;
    let findings: Vec<String> = report
        .findings
        .iter()
        .filter(|finding| finding.area == Area::Privileges)
        .map(|finding| finding.what.clone())
        .collect();
    let globex = fixture.globex.schema();
    assert_eq!(findings.len(), 2, "{:?}", lines(&report));
    assert_eq!(
        findings[1],
        format!("{globex} has privileges on the schema public, which belongs to the control plane")
    );
    assert!(findings[0].starts_with("isolation is broken"), "{findings:?}");
    fixture.repair(Orphans::Keep).await;
    assert_eq!(fixture.found().await, Vec::<String>::new());
}

impl Fixture {
    /// Drops the orphans of this test; other tests leave roles behind for a moment too.
    async fn drop_own_orphans(&self) -> Report {
        let own = [self.acme.id, self.globex.id].map(TenantId::new).to_vec();
        self.repair(Orphans::DropThese(own)).await
    }
}
