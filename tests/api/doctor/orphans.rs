//! What is nobody's, and the walls between those who are somebody.

use rowhouse::domain::names::TenantId;
use rowhouse::service::doctor::{Area, Gravity, Orphans, Report};

use super::{Clinic, lines, standing};

/// The tenant goes and leaves its schema and its role behind.
const EVICT: &str = "DELETE FROM tenants WHERE slug = 'acme-corp'";

async fn exists(clinic: &Clinic, what: &str) -> bool {
    let row = clinic.sql.query_one(&format!("SELECT {what} IS NOT NULL"), &[]).await;
    row.expect("the catalogs can be read").get(0)
}

async fn events(clinic: &Clinic) -> i64 {
    let count = "SELECT count(*) FROM audit_events WHERE action = 'doctor.drop_orphan'";
    clinic.sql.query_one(count, &[]).await.expect("events can be counted").get(0)
}

#[tokio::test]
async fn a_schema_without_a_tenant_is_named_and_dropped_only_when_asked() {
    let clinic = Clinic::open().await;
    clinic.run(EVICT).await;
    let schema = clinic.acme.schema();
    let told = [format!("the schema {schema} belongs to no tenant")];
    assert_eq!(clinic.found().await, told);
    assert_eq!(standing(&clinic.mend(Orphans::Keep).await), told);
    let regnamespace = format!("to_regnamespace('{schema}')");
    assert!(exists(&clinic, &regnamespace).await);
    let report = clinic.drop_mine().await;
    assert_eq!((standing(&report), lines(&report)), (Vec::new(), told.to_vec()));
    assert!(!exists(&clinic, &regnamespace).await);
    assert!(!exists(&clinic, &format!("to_regrole('{schema}')")).await);
    assert_eq!((clinic.found().await, events(&clinic).await), (Vec::new(), 1));
}

#[tokio::test]
async fn a_role_without_a_tenant_is_named_and_dropped_only_when_asked() {
    let clinic = Clinic::open().await;
    clinic.run(EVICT).await;
    clinic.run("DROP SCHEMA {acme} CASCADE").await;
    let schema = clinic.acme.schema();
    let report = clinic.examine().await;
    assert_eq!(lines(&report), [format!("the role {schema} belongs to no tenant")]);
    assert_eq!(report.findings[0].gravity, Gravity::Warning, "it harms nobody");
    clinic.mend(Orphans::Keep).await;
    assert!(exists(&clinic, &format!("to_regrole('{schema}')")).await);
    clinic.drop_mine().await;
    assert!(!exists(&clinic, &format!("to_regrole('{schema}')")).await);
    assert_eq!((clinic.found().await, events(&clinic).await), (Vec::new(), 1));
}

#[tokio::test]
async fn a_role_that_another_database_needs_is_nobodys_orphan() {
    let (clinic, elsewhere) = (Clinic::open().await, Clinic::open().await);
    let (operator, all) = (clinic.app.operator(), super::Wish::default());
    let report = clinic.app.services.doctor.examine(&operator, &all).await;
    let report = report.expect("an examination");
    let others = [elsewhere.acme.schema(), elsewhere.globex.schema()];
    let accused = |line: &String| others.iter().any(|schema| line.contains(schema.as_str()));
    assert!(!lines(&report).iter().any(accused), "{:?}", lines(&report));
}

#[tokio::test]
async fn a_schema_in_stock_is_no_orphan_and_is_compared_once_it_is_ready() {
    let clinic = Clinic::open().await;
    clinic
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
    clinic.run(EVICT).await;
    let report = clinic.examine().await;
    assert_eq!((lines(&report), report.tenants, report.vacancies), (Vec::new(), 1, 1));
    clinic.run("ALTER TABLE {acme}.items DROP COLUMN share").await;
    let report = clinic.examine().await;
    assert_eq!(lines(&report), ["table items: column share is missing"]);
    let subject = report.findings[0].subject.clone().expect("it has a subject");
    assert_eq!((subject.slug, subject.id.uuid()), (None, clinic.acme.id));
    clinic.run("UPDATE public.vacancies SET state = 'dropping'").await;
    assert_eq!(clinic.found().await, Vec::<String>::new());
    clinic.drop_mine().await;
    assert!(exists(&clinic, &format!("to_regnamespace('{}')", clinic.acme.schema())).await);
}

#[tokio::test]
async fn a_tenant_whose_purge_broke_off_is_left_to_the_purge() {
    let clinic = Clinic::open().await;
    clinic
        .run(
            "UPDATE tenants SET status = 'deleting', restore_to = 'active', purge_after = 'infinity',
                                purge_started_at = now()
              WHERE slug = 'acme-corp';
             DROP TABLE {acme}.parts",
        )
        .await;
    assert_eq!(clinic.found().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_way_into_another_tenant_is_found_by_trying_it() {
    let clinic = Clinic::open().await;
    // As one who has the rights of all. Since PostgreSQL 16 a grant remembers what the role was like when it
    // was given.
    clinic.run("ALTER ROLE {globex} INHERIT").await;
    clinic
        .run("GRANT pg_read_all_data TO {globex}; GRANT USAGE ON SCHEMA public TO {globex}")
        .await;
    let report = clinic.examine().await;
    let walls: Vec<String> = report
        .findings
        .iter()
        .filter(|finding| finding.area == Area::Walls)
        .map(|finding| finding.what.clone())
        .collect();
    let globex = clinic.globex.schema();
    assert_eq!(walls.len(), 2, "{:?}", lines(&report));
    assert_eq!(
        walls[0],
        format!("{globex} has rights on the schema public, which is the control plane's")
    );
    assert!(walls[1].starts_with("the walls do not hold"), "{walls:?}");
    clinic.mend(Orphans::Keep).await;
    assert_eq!(clinic.found().await, Vec::<String>::new());
}

impl Clinic {
    /// Drops what is nobody's, where it is of this test: other tests leave roles behind for a moment, too.
    async fn drop_mine(&self) -> Report {
        let mine = [self.acme.id, self.globex.id].map(TenantId::new).to_vec();
        self.mend(Orphans::DropThese(mine)).await
    }
}
