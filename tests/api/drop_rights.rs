//! What an owner that is no superuser may not drop is told, with the statement that helps, before anything is destroyed.

use rowhouse::domain::names::TenantId;
use rowhouse::pg::rules::RUNTIME_LOGIN;
use rowhouse::service::doctor::{Gravity, Orphans, Selection};
use tokio_postgres::Client;

use crate::bootstrap::start;
use crate::managed::Managed;
use crate::support::control::{assert_problem, transition};
use crate::support::dedicated::{ACCEPTED, DedicatedServer};
use crate::support::{TestApp, TestDatabase, TestTenant};

/// Starts a server of an ordinary owner with a deleted tenant, and connects as the superuser.
async fn fixture() -> (Managed, TestApp, TestTenant, Client) {
    let managed = Managed::create().await;
    let app = managed.serve().await;
    let acme = app.set_up("acme").await;
    assert_eq!(transition(&app.root(), "acme", "delete").await.status, 200);
    let superuser = app.superuser_sql().await;
    (managed, app, acme, superuser)
}

async fn run(sql: &Client, statements: &str) {
    sql.batch_execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
}

async fn tables(sql: &Client, schema: &str) -> i64 {
    let count = "SELECT count(*) FROM pg_tables WHERE schemaname = $1";
    sql.query_one(count, &[&schema]).await.expect("tables can be counted").get(0)
}

async fn has_role(sql: &Client, role: &str) -> bool {
    let there = "SELECT to_regrole($1) IS NOT NULL";
    sql.query_one(there, &[&role]).await.expect("roles can be read").get(0)
}

/// Returns what doctor finds wrong.
async fn wrong(app: &TestApp) -> Vec<String> {
    let all = Selection { tenants: Vec::new() };
    let report = app.services.doctor.examine(&app.operator(), &all).await.expect("it runs");
    let wrong = report.findings.into_iter().filter(|finding| finding.gravity == Gravity::Wrong);
    wrong.map(|finding| finding.what).collect()
}

#[tokio::test]
async fn a_tenant_that_the_owner_may_not_drop_stays_whole_and_doctor_names_the_statement() {
    let (managed, app, acme, sql) = fixture().await;
    let schema = acme.schema();
    let owner = managed.owner();
    let obstacles = [
        (format!("ALTER ROLE {schema} SUPERUSER"), format!("ALTER ROLE {schema} NOSUPERUSER")),
        (
            format!("ALTER SCHEMA {schema} OWNER TO CURRENT_USER"),
            format!("ALTER SCHEMA {schema} OWNER TO {owner}"),
        ),
        (format!("ALTER ROLE {owner} NOCREATEROLE"), format!("ALTER ROLE {owner} CREATEROLE")),
    ];
    let before = tables(&sql, &schema).await;
    assert!(before > 0);
    for (obstacle, remedy) in &obstacles {
        run(&sql, obstacle).await;
        let refused = transition(&app.root(), "acme", "purge").await;
        assert_problem(&refused, 409, "tenant_not_droppable");
        assert!(refused.body["detail"].as_str().unwrap().contains(remedy), "{refused:?}");
        assert_eq!(tables(&sql, &schema).await, before, "{obstacle}");
        // As if it had not been asked for.
        assert_eq!(transition(&app.root(), "acme", "restore").await.status, 200, "{obstacle}");
        assert_eq!(transition(&app.root(), "acme", "delete").await.status, 200, "{obstacle}");
        run(&sql, remedy).await;
    }
    let (obstacle, remedy) = &obstacles[0];
    run(&sql, obstacle).await;
    run(&sql, "UPDATE tenants SET purge_after = now() - interval '1 day' WHERE slug = 'acme'")
        .await;
    assert_eq!(app.services.lifecycle.purge_due(&app.operator()).await.unwrap(), 0);
    let found = wrong(&app).await;
    assert!(
        found.iter().any(|what| what.contains("cannot be: ") && what.contains(remedy)),
        "{found:?}"
    );
    run(&sql, remedy).await;
    assert_eq!(wrong(&app).await, Vec::<String>::new());
    assert_eq!(app.services.lifecycle.purge_due(&app.operator()).await.unwrap(), 1);
    assert!(!has_role(&sql, &schema).await);
    managed.end(app).await;
}

#[tokio::test]
async fn a_right_on_an_object_of_another_owner_stops_a_purge_and_is_named_with_the_statement() {
    let (managed, app, acme, sql) = fixture().await;
    let schema = acme.schema();
    run(
        &sql,
        &format!(
            "CREATE SCHEMA reports; CREATE TABLE reports.kept (id int);
             GRANT SELECT ON reports.kept TO {schema}"
        ),
    )
    .await;
    let before = tables(&sql, &schema).await;
    let refused = transition(&app.root(), "acme", "purge").await;
    assert_problem(&refused, 409, "tenant_role_in_use");
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("kept"), "{detail}");
    let remedy = format!("DROP OWNED BY {schema};");
    assert!(detail.contains(&remedy), "{detail}");
    assert_eq!(tables(&sql, &schema).await, before);
    run(&sql, &remedy).await;
    assert_eq!(transition(&app.root(), "acme", "purge").await.status, 204);
    assert!(!has_role(&sql, &schema).await);
    managed.end(app).await;
}

#[tokio::test]
async fn a_restored_copy_on_the_same_server_does_not_stop_a_purge_and_keeps_its_role() {
    let (managed, app, acme, sql) = fixture().await;
    let schema = acme.schema();
    let copy = TestDatabase::create_of_superuser().await;
    let in_copy = copy.connect_as_superuser().await;
    run(
        &in_copy,
        &format!(
            "CREATE SCHEMA {schema}; GRANT USAGE ON SCHEMA {schema} TO {schema};
             CREATE TABLE {schema}.profiles (id int);
             GRANT SELECT, INSERT ON {schema}.profiles TO {schema}"
        ),
    )
    .await;
    assert_eq!(transition(&app.root(), "acme", "purge").await.status, 204);
    assert_eq!(tables(&sql, &schema).await, 0);
    let kept_for =
        "SELECT details->>'role_kept_for' FROM audit_events WHERE action = 'tenant.purge'";
    let kept_for: String = sql.query_one(kept_for, &[]).await.unwrap().get(0);
    assert_eq!(kept_for, copy.name());
    // The copy works as before.
    let may = "SELECT has_table_privilege($1::text::name, $1::text || '.profiles', 'INSERT')
               AND pg_has_role($2::text::name, $1::text::name, 'MEMBER')";
    assert!(in_copy.query_one(may, &[&schema, &RUNTIME_LOGIN]).await.unwrap().get::<_, bool>(0));
    let owner = managed.owner();
    let is_member = "SELECT pg_has_role($1::text::name, $2::text::name, 'USAGE')";
    assert!(!sql.query_one(is_member, &[&owner, &schema]).await.unwrap().get::<_, bool>(0));
    let doctor = async |orphans: Orphans| {
        let all = Selection { tenants: Vec::new() };
        let report = app.services.doctor.repair(&app.operator(), &all, &orphans).await;
        let what = report.expect("it runs").findings.into_iter().map(|finding| finding.what);
        what.filter(|what| what.contains(&schema)).collect::<Vec<_>>()
    };
    assert_eq!(doctor(Orphans::Keep).await, Vec::<String>::new(), "the role is not an orphan");
    run(&in_copy, &format!("DROP OWNED BY {schema}")).await;
    assert_eq!(doctor(Orphans::Keep).await, [format!("the role {schema} belongs to no tenant")]);
    doctor(Orphans::DropThese(vec![TenantId::new(acme.id)])).await;
    assert!(!has_role(&sql, &schema).await);
    managed.end(app).await;
}

#[tokio::test]
async fn a_vacancy_and_an_orphan_that_the_owner_may_not_drop_stay_whole() {
    let (managed, app, acme, sql) = fixture().await;
    let vacancies =
        TestApp::builder().with("tenants.vacancies", "1").with("tenants.purge_interval", "1h");
    let filled = managed.build(vacancies).await;
    filled.services.vacancies.fill(&app.operator()).await.expect("a vacancy is built");
    let schema: String = sql
        .query_one("SELECT 'tenant_' || replace(id::text, '-', '') FROM vacancies LIMIT 1", &[])
        .await
        .unwrap()
        .get(0);
    let before = tables(&sql, &schema).await;
    let orphan = acme.schema();
    run(&sql, "DELETE FROM tenants WHERE slug = 'acme'").await;
    for schema in [&schema, &orphan] {
        run(&sql, &format!("ALTER ROLE {schema} SUPERUSER")).await;
    }
    let kept = filled.services.vacancies.drop_all(&app.operator()).await.expect_err("it may not");
    assert!(kept.chain().contains("NOSUPERUSER"), "{}", kept.chain());
    let all = Selection { tenants: Vec::new() };
    let these = Orphans::DropThese(vec![TenantId::new(acme.id)]);
    let kept = app.services.doctor.repair(&app.operator(), &all, &these).await.expect("it runs");
    assert!(format!("{kept:?}").contains("NOSUPERUSER"), "{kept:?}");
    assert!(before > 0);
    assert_eq!(tables(&sql, &schema).await, before);
    assert_eq!(tables(&sql, &orphan).await, before);
    for schema in [&schema, &orphan] {
        run(&sql, &format!("ALTER ROLE {schema} NOSUPERUSER")).await;
    }
    filled.services.vacancies.drop_all(&app.operator()).await.expect("vacancies are dropped");
    app.services.doctor.repair(&app.operator(), &all, &these).await.expect("it runs");
    for schema in [&schema, &orphan] {
        assert_eq!((tables(&sql, schema).await, has_role(&sql, schema).await), (0, false));
    }
    filled.stop().await;
    managed.end(app).await;
}

#[tokio::test]
async fn purges_that_cannot_be_carried_out_do_not_keep_others_from_their_turn() {
    let (managed, app, acme, sql) = fixture().await;
    app.set_up("globex").await;
    assert_eq!(transition(&app.root(), "globex", "delete").await.status, 200);
    run(&sql, &format!("ALTER ROLE {} SUPERUSER", acme.schema())).await;
    // More that cannot be purged than one statement lists, all of them due before the last.
    run(
        &sql,
        "INSERT INTO tenants
         SELECT (jsonb_populate_record(t, jsonb_build_object(
                    'id', gen_random_uuid(), 'slug', 'acme-' || n, 'number', 1000 + n, 'external_id', NULL))).*
           FROM tenants t, generate_series(1, 110) n
          WHERE t.slug = 'acme';
         DO $$ DECLARE role text; BEGIN
             FOR role IN SELECT 'tenant_' || replace(id::text, '-', '') FROM tenants WHERE slug LIKE 'acme-%' LOOP
                 EXECUTE format('CREATE ROLE %I SUPERUSER', role);
             END LOOP; END $$;
         UPDATE tenants SET purge_after = now() - interval '2 days' WHERE slug LIKE 'acme%';
         UPDATE tenants SET purge_after = now() - interval '1 day' WHERE slug = 'globex'",
    )
    .await;
    assert_eq!(app.services.lifecycle.purge_due(&app.operator()).await.unwrap(), 1);
    let left = "SELECT count(*) FROM tenants WHERE slug = 'globex'";
    assert_eq!(sql.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    run(
        &sql,
        "DO $$ DECLARE role text; BEGIN
             FOR role IN SELECT 'tenant_' || replace(id::text, '-', '') FROM tenants WHERE slug LIKE 'acme-%' LOOP
                 EXECUTE format('DROP ROLE %I', role);
             END LOOP; END $$",
    )
    .await;
    managed.end(app).await;
}

#[tokio::test]
async fn an_owner_that_does_not_inherit_is_told_the_statement_at_start() {
    let server = DedicatedServer::acquire().await;
    let url = server.create_owner("owner_one", "CREATEROLE NOINHERIT", "one").await;
    let error = start(&url, &[ACCEPTED]).await.expect_err("it has no rights of its roles");
    let (_, remedy) = error.split_once(" run: ").expect("it names the statement");
    assert!(remedy.starts_with("ALTER ROLE owner_one INHERIT"), "{remedy}");
    server.sql(remedy).await;
    start(&url, &[ACCEPTED]).await.expect("it starts");
}
