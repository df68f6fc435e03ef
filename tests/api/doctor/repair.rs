//! `--fix`: repairs are permanent and recorded, and structure and data are not changed.

use rowhouse::service::doctor::{Orphans, RepairOutcome};

use super::{Fixture, lines, unresolved};
use crate::support::TestEngine;

/// A change that `--fix` repairs, and the start of its finding.
const REPAIRED: &[(&str, &str)] = &[
    (
        "REVOKE DELETE ON {acme}.items FROM {acme}",
        "acme-corp: table items: the tenant's role has INSERT, SELECT, UPDATE, and should have DELETE, INSERT, \
         SELECT, UPDATE",
    ),
    (
        "GRANT SELECT ON {acme}.items TO {globex} WITH GRANT OPTION",
        "acme-corp: table items: {globex} has SELECT*, and should have no rights",
    ),
    (
        "GRANT UPDATE (name) ON {acme}.items TO PUBLIC",
        "acme-corp: table items: PUBLIC has UPDATE (name), and should have no rights",
    ),
    (
        "REVOKE ALL ON {acme}.tickets FROM {acme}",
        "acme-corp: sequence tickets: the tenant's role has no rights, and should have SELECT, USAGE",
    ),
    (
        "REVOKE SELECT ON {acme}.stormy FROM {acme}",
        "acme-corp: view stormy: the tenant's role has DELETE, INSERT, UPDATE, and should have DELETE, INSERT, \
         SELECT, UPDATE",
    ),
    ("GRANT ALL ON {acme}.counts TO PUBLIC", "acme-corp: materialized view counts: PUBLIC has"),
    (
        "REVOKE EXECUTE ON FUNCTION {acme}.mood_of FROM PUBLIC",
        "acme-corp: routine mood_of(n integer, fallback {tenant}.mood): PUBLIC has no rights, and should have EXECUTE",
    ),
    (
        "GRANT EXECUTE ON FUNCTION {acme}.touch() TO PUBLIC",
        "acme-corp: routine touch(): PUBLIC has EXECUTE, and should have no rights",
    ),
    (
        "REVOKE USAGE ON TYPE {acme}.percent FROM PUBLIC",
        "acme-corp: type percent: PUBLIC has no rights, and should have USAGE",
    ),
    (
        "GRANT INSERT ON {acme}.refinery_schema_history TO {acme}",
        "acme-corp: table refinery_schema_history: the tenant's role has INSERT, and should have no rights",
    ),
    (
        "REVOKE USAGE ON SCHEMA {acme} FROM {acme}",
        "acme-corp: schema: the tenant's role has no rights, and should have USAGE",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE rowhouse_migrator IN SCHEMA {acme} REVOKE INSERT ON TABLES FROM {acme}",
        "acme-corp: future tables of rowhouse_migrator: the tenant's role will have DELETE, SELECT, UPDATE, and should have DELETE, INSERT, \
         SELECT, UPDATE",
    ),
    (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {acme} GRANT SELECT ON SEQUENCES TO PUBLIC",
        "acme-corp: future sequences: PUBLIC will have SELECT, and should have no rights",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE {globex} IN SCHEMA {acme} GRANT SELECT ON TABLES TO PUBLIC",
        "acme-corp: future tables of {globex}: PUBLIC will have SELECT, and should have no rights",
    ),
    ("ALTER SCHEMA {acme} OWNER TO {globex}", "acme-corp: schema: owner is {globex}, should be"),
    (
        "ALTER TABLE {acme}.items OWNER TO {globex}",
        "acme-corp: table items: owner is {globex}, should be",
    ),
    (
        "ALTER VIEW {acme}.stormy OWNER TO {globex}",
        "acme-corp: view stormy: owner is {globex}, should be",
    ),
    (
        "ALTER MATERIALIZED VIEW {acme}.counts OWNER TO {globex}",
        "acme-corp: materialized view counts: owner is {globex}, should be",
    ),
    (
        "ALTER SEQUENCE {acme}.tickets OWNER TO {globex}",
        "acme-corp: sequence tickets: owner is {globex}, should be",
    ),
    (
        "ALTER FUNCTION {acme}.mood_of OWNER TO {globex}",
        "acme-corp: routine mood_of(n integer, fallback {tenant}.mood): owner is {globex}, should be",
    ),
    (
        "ALTER PROCEDURE {acme}.do_nothing OWNER TO {globex}",
        "acme-corp: routine do_nothing(): owner is {globex}",
    ),
    (
        "ALTER AGGREGATE {acme}.total (integer) OWNER TO {globex}",
        "acme-corp: routine total(integer): owner is {globex}",
    ),
    (
        "ALTER TYPE {acme}.mood OWNER TO {globex}",
        "acme-corp: type mood: owner is {globex}, should be",
    ),
    (
        "ALTER DOMAIN {acme}.percent OWNER TO {globex}",
        "acme-corp: type percent: owner is {globex}, should be",
    ),
    (
        "ALTER TYPE {acme}.point_of_sale OWNER TO {globex}",
        "acme-corp: type point_of_sale: owner is {globex}, should be",
    ),
    ("ALTER ROLE {acme} LOGIN INHERIT", "acme-corp: the tenant's role is INHERIT, LOGIN"),
    (
        "REVOKE {acme} FROM rowhouse_runtime",
        "acme-corp: rowhouse_runtime cannot become the tenant's role",
    ),
    ("GRANT {acme} TO {globex}", "acme-corp: {globex} can become the tenant's role"),
    (
        "GRANT pg_read_all_data TO {acme}",
        "acme-corp: the tenant's role can become pg_read_all_data",
    ),
    (
        "UPDATE tenants SET migrations_version = 2 WHERE slug = 'acme-corp'",
        "acme-corp: version 2 is recorded, its history is at 3",
    ),
    (
        "UPDATE tenants SET migrations_fingerprint = 'x' WHERE slug = 'acme-corp'",
        "acme-corp: version 3 is recorded as made by other files than its history says",
    ),
    ("GRANT TEMP ON DATABASE {database} TO PUBLIC", "a tenant could create temporary tables"),
    (
        "GRANT SELECT (email) ON public.users TO {globex}",
        "{globex} has privileges on public.users, which belongs to the control plane",
    ),
    ("GRANT USAGE ON SCHEMA public TO PUBLIC", "a tenant could use the schema public"),
    (
        "GRANT EXECUTE ON FUNCTION set_config(text, text, boolean) TO PUBLIC",
        "SQL that gets into a query could become another tenant by set_config",
    ),
];

#[tokio::test]
async fn each_repairable_change_is_repaired_and_a_second_check_finds_nothing() {
    let fixture = Fixture::open().await;
    let database = fixture.app.database.name().to_owned();
    let is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
    let is_superuser = fixture.sql.query_one(is_superuser, &[]).await.unwrap().get::<_, bool>(0);
    // Only a superuser may close this; for another owner the statement is named (tests/api/managed.rs).
    let is_possible = |change: &str| is_superuser || !change.contains("ON FUNCTION set_config");
    // On a cluster no migrator creates objects.
    let has_role = |change: &str| {
        TestEngine::of_run() == TestEngine::Postgres || !change.contains("rowhouse_migrator")
    };
    for (change, expected) in
        REPAIRED.iter().filter(|(change, _)| is_possible(change) && has_role(change))
    {
        fixture.run(&change.replace("{database}", &database)).await;
        let mut expected = expected.replace("{globex}", &fixture.globex.schema());
        // The coordinator connects to the nodes as the tenant's role.
        if TestEngine::of_run() != TestEngine::Postgres {
            expected = expected.replace(", LOGIN", "");
        }
        let report = fixture.repair(Orphans::Keep).await;
        let reported: Vec<String> =
            lines(&report).into_iter().filter(|line| line.starts_with(&expected)).collect();
        assert_eq!(reported.len(), 1, "{change}: {:?}", lines(&report));
        // A role that can become another tenant's role, or read its schema, is reported for both tenants.
        let others: Vec<String> = lines(&report)
            .into_iter()
            .filter(|line| !line.starts_with(&expected) && line.starts_with("acme-corp"))
            .collect();
        assert_eq!(others, Vec::<String>::new(), "{change}");
        assert_eq!(unresolved(&report), Vec::<String>::new(), "{change}");
        assert_eq!(fixture.found().await, Vec::<String>::new(), "{change}");
    }
    // The privileges are restored, and the tenant works.
    let admin = fixture.app.log_in(&fixture.acme.admin_email).await;
    assert_eq!(admin.get("/api/tenant/mine").await.status, 200);
}

#[tokio::test]
async fn a_missing_role_is_created_again_with_all_its_privileges() {
    let fixture = Fixture::open().await;
    fixture.run("DROP OWNED BY {acme}; DROP ROLE {acme}").await;
    assert_eq!(fixture.found().await, ["acme-corp: the tenant's role is missing"]);
    let report = fixture.repair(Orphans::Keep).await;
    assert_eq!(unresolved(&report), Vec::<String>::new());
    assert_eq!(fixture.found().await, Vec::<String>::new());
    let schema = fixture.acme.schema();
    let inside = format!(
        "BEGIN; SET LOCAL ROLE {schema}; SET LOCAL search_path = {schema};
         INSERT INTO items (id, name) SELECT md5('x')::uuid, 'x' WHERE false; COMMIT"
    );
    fixture.run(&inside).await;
}

#[tokio::test]
async fn structure_and_data_are_not_changed() {
    let fixture = Fixture::open().await;
    fixture
        .run(
            "INSERT INTO {acme}.items (id, name, mood) VALUES (md5('a')::uuid, 'a', 'stormy');
             ALTER TABLE {acme}.items ADD COLUMN note text DEFAULT 'kept';
             CREATE TABLE {acme}.mine (id uuid PRIMARY KEY);
             DROP INDEX {acme}.items_shelf_idx;
             REVOKE DELETE ON {acme}.items FROM {acme}",
        )
        .await;
    let before = fixture.check().await;
    let report = fixture.repair(Orphans::Keep).await;
    assert_eq!((before.wrong_count(), report.wrong_count(), report.repaired_count()), (4, 3, 1));
    let row = fixture
        .sql
        .query_one(&format!("SELECT note FROM {}.items", fixture.acme.schema()), &[])
        .await;
    assert_eq!(row.unwrap().get::<_, &str>(0), "kept");
    assert_eq!(unresolved(&report), lines(&fixture.check().await));
}

#[tokio::test]
async fn a_repair_writes_an_audit_event_and_a_run_that_repairs_nothing_writes_none() {
    let fixture = Fixture::open().await;
    fixture
        .run("REVOKE DELETE ON {acme}.items FROM {acme}; DROP INDEX {globex}.items_shelf_idx")
        .await;
    fixture.repair(Orphans::Keep).await;
    fixture.repair(Orphans::Keep).await;
    let rows = fixture
        .sql
        .query(
            "SELECT actor, tenant_id, details->'repaired'->>0 FROM audit_events WHERE action LIKE 'doctor.%'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0].get::<_, &str>(0), "operator");
    assert_eq!(rows[0].get::<_, uuid::Uuid>(1), fixture.acme.id);
    assert!(rows[0].get::<_, &str>(2).starts_with("table items: the tenant's role has INSERT"));
}

#[tokio::test]
async fn a_failed_repair_is_reported_with_its_reason_and_the_others_are_made() {
    let fixture = Fixture::open().await;
    fixture
        .run("REVOKE DELETE ON {acme}.items FROM {acme}; REVOKE DELETE ON {globex}.items FROM {globex}")
        .await;
    // An event trigger refuses GRANT and REVOKE on one tenant's tables.
    let refuse = format!(
        "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF current_query() LIKE '%{}%' THEN RAISE EXCEPTION 'not today'; END IF;
         END $$;
         CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('GRANT', 'REVOKE')
             EXECUTE FUNCTION public.refuse()",
        fixture.acme.schema()
    );
    fixture.run_as_superuser(&refuse).await;
    let report = fixture.repair(Orphans::Keep).await;
    assert_eq!((report.repaired_count(), report.wrong_count()), (1, 1), "{:?}", lines(&report));
    for finding in &report.findings {
        let id = finding.subject.as_ref().unwrap().id.uuid();
        match &finding.outcome {
            RepairOutcome::Repaired => assert_eq!(id, fixture.globex.id),
            RepairOutcome::Failed(reason) => {
                assert_eq!(id, fixture.acme.id);
                assert!(reason.contains("not today"), "{reason}");
            }
            RepairOutcome::Open => panic!("{finding:?} was not attempted"),
        }
    }
    fixture.run_as_superuser("DROP EVENT TRIGGER refuse; DROP FUNCTION public.refuse").await;
    assert_eq!(fixture.repair(Orphans::Keep).await.wrong_count(), 0);
    assert_eq!(fixture.found().await, Vec::<String>::new());
}

#[tokio::test]
async fn many_tenants_are_repaired_in_one_transaction_and_a_failed_one_stops_no_other() {
    let fixture = Fixture::open().await;
    let mut tenants = vec![fixture.acme.schema(), fixture.globex.schema()];
    for n in 0..4 {
        tenants.push(fixture.app.set_up(&format!("more-{n}")).await.schema());
    }
    let alter = async || {
        for schema in &tenants {
            let change = format!("REVOKE DELETE ON {schema}.items FROM {schema}");
            fixture.sql.batch_execute(&change).await.expect("a tenant can be altered");
        }
    };
    let events_sql =
        "SELECT count(*), count(DISTINCT xmin::text), count(DISTINCT tenant_id) FROM audit_events
                 WHERE action = 'doctor.mend'";
    alter().await;
    let report = fixture.repair(Orphans::Keep).await;
    assert_eq!((report.repaired_count(), report.wrong_count()), (6, 0), "{:?}", lines(&report));
    let row = fixture.sql.query_one(events_sql, &[]).await.unwrap();
    let (events, transactions, tenant_count) =
        (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2));
    assert_eq!((events, transactions, tenant_count), (6, 1, 6), "one transaction, one event each");

    // An event trigger refuses GRANT and REVOKE on one tenant's tables.
    alter().await;
    let refuse = format!(
        "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF current_query() LIKE '%{}%' THEN RAISE EXCEPTION 'not today'; END IF;
         END $$;
         CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('GRANT', 'REVOKE')
             EXECUTE FUNCTION public.refuse()",
        tenants[3]
    );
    fixture.run_as_superuser(&refuse).await;
    let report = fixture.repair(Orphans::Keep).await;
    assert_eq!((report.repaired_count(), report.wrong_count()), (5, 1), "{:?}", lines(&report));
    let left: Vec<_> =
        report.findings.iter().filter(|f| f.outcome != RepairOutcome::Repaired).collect();
    let [left] = left.as_slice() else { panic!("one is left: {left:?}") };
    let subject = left.subject.as_ref().unwrap();
    assert_eq!(rowhouse::domain::SchemaName::of(subject.id).as_str(), tenants[3]);
    let RepairOutcome::Failed(reason) = &left.outcome else { panic!("{left:?} was not attempted") };
    assert!(reason.contains("not today"), "{reason}");
    fixture.run_as_superuser("DROP EVENT TRIGGER refuse; DROP FUNCTION public.refuse").await;
    assert_eq!(fixture.repair(Orphans::Keep).await.wrong_count(), 0);
    assert_eq!(fixture.found().await, Vec::<String>::new());
}

#[tokio::test]
async fn concurrent_repairs_of_many_tenants_repair_each_once() {
    let fixture = Fixture::open().await;
    fixture
        .run("REVOKE DELETE ON {acme}.items FROM {acme}; REVOKE DELETE ON {globex}.items FROM {globex}")
        .await;
    let (first, second) = futures_util::future::join(
        Box::pin(fixture.repair(Orphans::Keep)),
        Box::pin(fixture.repair(Orphans::Keep)),
    )
    .await;
    assert_eq!(first.wrong_count() + second.wrong_count(), 0, "{first:?} {second:?}");
    assert_eq!(fixture.found().await, Vec::<String>::new());
    let events = "SELECT count(*) FROM audit_events WHERE action = 'doctor.mend'";
    let row = fixture.sql.query_one(events, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 2);
}

#[tokio::test]
async fn concurrent_repairs_of_one_tenant_create_its_role_once() {
    let fixture = Fixture::open().await;
    fixture.run("DROP OWNED BY {acme}; DROP ROLE {acme}").await;
    let (first, second) = futures_util::future::join(
        Box::pin(fixture.repair(Orphans::Keep)),
        Box::pin(fixture.repair(Orphans::Keep)),
    )
    .await;
    assert_eq!(first.wrong_count() + second.wrong_count(), 0, "{first:?} {second:?}");
    assert_eq!(fixture.found().await, Vec::<String>::new());
    let events = "SELECT count(*) FROM audit_events WHERE action = 'doctor.mend'";
    let row = fixture.sql.query_one(events, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_check_does_not_repair() {
    let fixture = Fixture::open().await;
    fixture.run("REVOKE DELETE ON {acme}.items FROM {acme}").await;
    let first = fixture.found().await;
    assert_eq!(fixture.found().await, first);
    assert_eq!(first.len(), 1);
}

#[tokio::test]
async fn a_tenant_made_before_the_migrator_is_taken_over() {
    for isolation in super::ISOLATIONS {
        let fixture = Fixture::open_with(isolation).await;
        let role = if isolation == "role" { "{acme}" } else { "rowhouse_runtime" };
        let as_before = "
            DO $$ DECLARE statement text; BEGIN
                FOR statement IN
                    SELECT format('ALTER %s %s OWNER TO CURRENT_USER',
                                  CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END,
                                  oid::regclass)
                      FROM pg_class WHERE relnamespace = '{acme}'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
                    UNION ALL
                    SELECT format('ALTER ROUTINE %s OWNER TO CURRENT_USER', oid::regprocedure)
                      FROM pg_proc WHERE pronamespace = '{acme}'::regnamespace AND prokind IN ('f', 'p')
                       -- Not the constructors of a range type, which belong to the server.
                       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                                          AND d.objid = pg_proc.oid AND d.deptype = 'i')
                LOOP EXECUTE statement; END LOOP;
            END $$;
            REVOKE ALL ON SCHEMA {acme} FROM rowhouse_migrator;
            ALTER DEFAULT PRIVILEGES FOR ROLE rowhouse_migrator IN SCHEMA {acme} REVOKE ALL ON TABLES FROM {role};
            ALTER DEFAULT PRIVILEGES FOR ROLE rowhouse_migrator IN SCHEMA {acme} REVOKE ALL ON SEQUENCES FROM {role};
            ALTER DEFAULT PRIVILEGES IN SCHEMA {acme} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role};
            ALTER DEFAULT PRIVILEGES IN SCHEMA {acme} GRANT USAGE, SELECT ON SEQUENCES TO {role}";
        fixture.run(&as_before.replace("{role}", role)).await;
        let found = fixture.found().await;
        assert!(found.iter().any(|f| f.contains("should be rowhouse_migrator")), "{found:?}");
        assert_eq!(unresolved(&fixture.repair(Orphans::Keep).await), Vec::<String>::new());
        assert_eq!(fixture.found().await, Vec::<String>::new(), "{isolation}");
    }
}
