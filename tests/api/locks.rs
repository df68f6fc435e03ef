//! The locks of the control plane are rows that no tenant's role can lock: whatever a tenant holds, nothing of the
//! control plane waits for it.

use std::time::Duration;

use rowhouse::domain::operation::WorkState;
use rowhouse::domain::page::Window;
use rowhouse::service::doctor::Selection;
use rowhouse::service::fleet::{MigrationRequest, WorkFilter};
use rowhouse::service::provisioning::ProvisionTenant;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::fleet::fixture::{Fixture, SECOND, migrate, no_events, outcome};
use crate::support::control::transition;
use crate::support::postgres::connect;
use crate::support::{TestApp, provision_command};

const ALL_ROWS: Window = Window { after: None, limit: 100 };

/// Longer than all that a test does, and shorter than an endless wait.
const SOON: Duration = Duration::from_mins(1);

/// Begins a transaction with the role of a tenant, as SQL that was injected into it would find it.
async fn inside(fixture: &Fixture, number: usize) -> Client {
    let session = connect(&fixture.database.runtime_url()).await;
    let schema = fixture.schema(number);
    let begin = format!(
        "BEGIN; SET LOCAL ROLE {schema}; SET LOCAL search_path = {schema}, extensions, pg_temp;
         SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0"
    );
    session.batch_execute(&begin).await.expect("the runtime login can become the tenant");
    session
}

/// Takes every advisory lock that has to do with a name of ours, in every form, and those of all small numbers.
const GUESSES: &str = "
    WITH names (name) AS (
        VALUES ('rowhouse control plane'), ('rowhouse vacancies'), ('rowhouse signing keys'), ('seal audit events'),
               ('audit chain'), ('vacancies'), ('signing keys'), ('locks'), ('public'), ('rowhouse'),
               ('refinery_schema_history'), ('idempotency operator guessed'), ('operator guessed'), ('guessed')
         UNION
        SELECT nspname::text FROM pg_namespace
         UNION
        SELECT 'public.' || relname FROM pg_class WHERE relname IN ('tenants', 'users', 'audit_events', 'locks')
    ), numbers (number) AS (
        SELECT hashtext(name) FROM names UNION SELECT generate_series(-20, 200)
    ), objects (oid) AS (
        SELECT oid::bigint FROM pg_class WHERE relkind = 'r' AND oid >= 16384
         UNION
        SELECT oid::bigint FROM pg_namespace
    )
    SELECT (SELECT count(pg_advisory_xact_lock(hashtextextended(name, seed)))
              FROM names, generate_series(0, 1) AS seed)
         + (SELECT count(pg_advisory_xact_lock(number::bigint)) FROM numbers)
         + (SELECT count(pg_advisory_xact_lock(oid)) FROM objects)
         + (SELECT count(pg_advisory_xact_lock(number, 0)) FROM numbers)
         + (SELECT count(pg_advisory_xact_lock(0, number)) FROM numbers)
         + (SELECT count(pg_advisory_xact_lock(number, number)) FROM numbers) AS locks";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn advisory_locks_of_a_tenants_role_delay_no_start_migration_set_up_or_check() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let attacker = inside(&fixture, 0).await;
    let held: i64 =
        attacker.query_one(GUESSES, &[]).await.expect("the locks are free").get("locks");
    assert!(held > 1_000, "{held}");

    // With so short a limit a wait would be an error.
    let values = [("database.lock_timeout", "300ms"), ("tenants.vacancies", "2")];
    let work = async {
        let backend = fixture.backend(&values).await; // a start: the control plane, the signing keys
        let (services, ctx) = (&backend.services, backend.operator());

        let record = migrate(&backend, &MigrationRequest::default()).await;
        assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));

        let key = Some("guessed".to_owned());
        let command = ProvisionTenant { idempotency_key: key, ..provision_command("acme") };
        services.provisioning.provision(&ctx, command).await.expect("a tenant is made");
        assert_eq!(services.vacancies.fill(&ctx).await.expect("the stock is filled").built, 2);
        services
            .provisioning
            .provision(&ctx, provision_command("globex"))
            .await
            .expect("and one more");
        services.vacancies.drop_all(&ctx).await.expect("the stock can be dropped");
        services.audit.seal(&ctx).await.expect("the chain can be sealed");

        let report = services.doctor.examine(&ctx, &Selection::default()).await;
        let report = report.expect("the check ends");
        assert!(report.findings.iter().all(|f| !f.what.contains("another process")), "{report:?}");
        backend.close().await;
    };
    tokio::time::timeout(SOON, work).await.expect("nothing waits for the attacker");

    // Those of the vacancies have gone with them.
    let rows = "SELECT count(*) AS rows FROM locks WHERE name LIKE 'tenant\\_%'";
    let rows: i64 = fixture.sql().await.query_one(rows, &[]).await.unwrap().get("rows");
    assert_eq!(rows, 5);
    let still = "SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
    let still: i64 = attacker.query_one(still, &[]).await.expect("it is still open").get("locks");
    assert!(still > 1_000, "{still}");
}

#[tokio::test]
async fn a_tenants_role_locks_no_row_and_no_table_of_the_control_plane() {
    let fixture = Fixture::with(1).await;
    let owner = fixture.sql().await;
    let tables = "SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'public'";
    let tables = owner.query(tables, &[]).await.expect("tables can be listed");
    assert!(tables.iter().any(|row| row.get::<_, &str>("name") == "locks"));
    let attempts = [
        "SELECT FROM public.{table} FOR UPDATE",
        "SELECT FROM public.{table} FOR NO KEY UPDATE NOWAIT",
        "SELECT FROM public.{table} FOR SHARE SKIP LOCKED",
        "SELECT FROM public.{table} FOR KEY SHARE",
        "LOCK TABLE public.{table} IN ACCESS SHARE MODE",
        "LOCK TABLE public.{table} IN SHARE ROW EXCLUSIVE MODE NOWAIT",
        "COMMENT ON TABLE public.{table} IS 'mine'",
        "ALTER TABLE public.{table} ADD COLUMN mine int",
        "DROP TABLE public.{table}",
        "CREATE TABLE mine (id uuid REFERENCES public.{table})",
    ];
    for row in &tables {
        for attempt in attempts {
            let attempt = attempt.replace("{table}", row.get("name"));
            let attacker = inside(&fixture, 0).await;
            let refused = attacker.batch_execute(&attempt).await.expect_err(&attempt);
            assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{attempt}");
        }
    }
}

#[tokio::test]
async fn a_statement_of_a_tenants_role_on_a_schema_or_role_of_others_keeps_no_lock() {
    let fixture = Fixture::with(2).await;
    let other = fixture.schema(1);
    for attempt in [
        "COMMENT ON SCHEMA public IS 'mine'",
        "COMMENT ON SCHEMA extensions IS 'mine'",
        "COMMENT ON SCHEMA {other} IS 'mine'",
        "COMMENT ON ROLE {other} IS 'mine'",
        "COMMENT ON ROLE rowhouse_runtime IS 'mine'",
        "ALTER ROLE {other} SET work_mem = '1MB'",
        "GRANT USAGE ON SCHEMA extensions TO {other}",
        "LOCK TABLE {other}.refinery_schema_history IN ACCESS SHARE MODE",
        "LOCK TABLE refinery_schema_history IN ACCESS SHARE MODE",
        "SELECT FROM refinery_schema_history FOR KEY SHARE",
        "SELECT nextval((SELECT oid FROM pg_class WHERE relname = 'tenant_numbers')::regclass)",
    ] {
        let attempt = attempt.replace("{other}", &other);
        let attacker = inside(&fixture, 0).await;
        match attacker.batch_execute(&attempt).await {
            // The transaction has failed, and a failed one keeps no lock.
            Err(refused) => {
                assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{attempt}");
            }
            // The server only warns that nothing was granted.
            Ok(()) => assert!(attempt.starts_with("GRANT"), "{attempt}"),
        }
    }
}

/// A call of every function of the server that the role `$1` may call and that takes an object, for a table, an index and
/// a sequence of the control plane.
const CALLS: &str = "
    SELECT p.oid::regprocedure::text AS function,
           format('SELECT %I(%s)', p.proname, (
               SELECT string_agg(CASE
                          WHEN type IN ('oid'::regtype, 'regclass'::regtype) THEN format('%s::%s', c.oid, type)
                          WHEN type = 'boolean'::regtype THEN 'true'
                          WHEN type IN ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)
                               THEN format('1::%s', type)
                          WHEN type IN ('text'::regtype, 'name'::regtype) THEN format('''id''::%s', type)
                          WHEN type = 'tid'::regtype THEN '''(0,1)''::tid'
                          ELSE 'NULL' END, ', ' ORDER BY position)
                 FROM unnest(p.proargtypes) WITH ORDINALITY AS argument (oid, position),
                      LATERAL (SELECT argument.oid::regtype AS type) AS typed)) AS call
      FROM pg_proc p, pg_class c
     WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f'
       AND ARRAY['oid'::regtype, 'regclass'::regtype]::oid[] && p.proargtypes::oid[]
       AND has_function_privilege($1::text, p.oid, 'EXECUTE')
       AND c.relnamespace = 'public'::regnamespace
       AND c.relname IN ('users', 'users_pkey', 'tenant_numbers')";

/// The functions after whose call a tenant's transaction holds a lock on a relation of the control plane. A call that
/// fails ends the transaction, and with it the locks. Sequences do not count: newer servers keep a lock on one after
/// `pg_sequence_last_value`, which excludes nothing but a change of the sequence's definition.
async fn functions_that_keep_a_lock(fixture: &Fixture) -> Vec<String> {
    // A superuser may become the tenant's role.
    let owner = fixture.database.connect_as_superuser().await;
    let role = fixture.schema(0);
    let calls = owner.query(CALLS, &[&role]).await.expect("functions can be listed");
    assert!(calls.len() > 500, "{}", calls.len());
    let mut keeping = Vec::new();
    for row in &calls {
        let (function, call): (&str, &str) = (row.get("function"), row.get("call"));
        let begun = owner.batch_execute(&format!("BEGIN; SET LOCAL ROLE {role}; {call}")).await;
        if begun.is_ok() {
            let held = "SELECT count(*) AS held
                          FROM pg_locks l
                          JOIN pg_class c ON c.oid = l.relation
                          JOIN pg_namespace n ON n.oid = c.relnamespace
                         WHERE l.pid = pg_backend_pid() AND n.nspname = 'public' AND c.relkind <> 'S'";
            let held = owner.query_one(held, &[]).await.expect("locks can be read");
            if held.get::<_, i64>("held") > 0 {
                keeping.push(function.to_owned());
            }
        }
        owner.batch_execute("ROLLBACK").await.expect("a transaction can be rolled back");
    }
    keeping
}

#[tokio::test]
async fn no_function_that_a_tenants_role_may_call_keeps_a_lock_on_a_table_of_the_control_plane() {
    let fixture = Fixture::with(1).await;
    assert_eq!(functions_that_keep_a_lock(&fixture).await, Vec::<String>::new());
    // The test finds one that does.
    let function = "table_to_xmlschema(regclass, boolean, boolean, text)";
    let grant = format!("GRANT EXECUTE ON FUNCTION {function} TO PUBLIC");
    fixture
        .database
        .connect_as_superuser()
        .await
        .batch_execute(&grant)
        .await
        .expect("a superuser may");
    let found = functions_that_keep_a_lock(&fixture).await;
    assert!(found.contains(&function.replace(", ", ",")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_waits_for_the_row_of_its_schema() {
    let fixture = Fixture::with(3).await;
    fixture.write(SECOND);
    let holder = fixture.sql().await;
    let lock = format!("BEGIN; SELECT FROM locks WHERE name = '{}' FOR UPDATE", fixture.schema(1));
    holder.batch_execute(&lock).await.unwrap();
    let backend = fixture.backend(&[("database.lock_timeout", "50ms")]).await;
    let record = migrate(&backend, &MigrationRequest::default()).await;
    assert_eq!(outcome(&record), ("failed", None, [0, 2, 1, 0]));
    assert_eq!(fixture.versions(1).await, [1]);
    holder.batch_execute("ROLLBACK").await.unwrap();
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let again = fleet.retry(&ctx, record.id, &[]).await.unwrap();
    let record = fleet.run(&ctx, again.id, no_events()).await.unwrap();
    assert_eq!(outcome(&record), ("done", None, [0, 3, 0, 0]));
    assert_eq!(fixture.runs().await, [1; 3]);
    backend.close().await;
}

/// As for tenants that a server made which does not know the table yet, during a rolling deployment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_whose_lock_has_no_row_is_migrated_and_gets_one() {
    let fixture = Fixture::with(6).await;
    fixture.write(SECOND);
    let sql = fixture.sql().await;
    let lost = sql.execute("DELETE FROM locks WHERE name LIKE 'tenant\\_%'", &[]).await.unwrap();
    assert_eq!(lost, 6);
    let backend = fixture.backend(&[]).await;
    let one_worker = MigrationRequest { workers: Some(1), ..MigrationRequest::default() };
    let record = migrate(&backend, &one_worker).await;
    assert_eq!(outcome(&record), ("done", None, [0, 6, 0, 0]));
    let (fleet, ctx) = (&backend.services.fleet, backend.operator());
    let rows =
        fleet.tenants(&ctx, record.id, &WorkFilter::default(), &ALL_ROWS).await.unwrap().rows;
    assert!(rows.iter().all(|row| (row.state, row.attempts) == (WorkState::Done, 1)), "{rows:?}");
    assert_eq!(fixture.runs().await, [1; 6]);
    let found = "SELECT count(*) FROM locks WHERE name LIKE 'tenant\\_%'";
    assert_eq!(sql.query_one(found, &[]).await.unwrap().get::<_, i64>(0), 6);

    // A check locks a schema that differs, without a row as with one.
    let differ =
        format!("DELETE FROM locks; ALTER TABLE {}.notes ADD COLUMN x text", fixture.schema(0));
    sql.batch_execute(&differ).await.unwrap();
    let report = backend.services.doctor.examine(&ctx, &Selection::default()).await.unwrap();
    assert!(report.wrong_count() > 0, "{report:?}");
    assert!(report.findings.iter().all(|f| !f.what.contains("another process")), "{report:?}");
    backend.services.audit.seal(&ctx).await.expect("the chain can be sealed");
    backend.close().await;
}

#[tokio::test]
async fn the_lock_of_a_schema_goes_with_it() {
    let app = TestApp::builder().with("tenants.vacancies", "0").spawn().await;
    let sql = app.sql().await;
    let names = async || -> Vec<String> {
        let names = "SELECT name FROM locks ORDER BY name";
        sql.query(names, &[]).await.unwrap().iter().map(|row| row.get("name")).collect()
    };
    let ours = ["audit chain", "signing keys", "vacancies"];
    assert_eq!(names().await, ours);
    let tenant = app.set_up("acme").await;
    assert_eq!(names().await[2..], [tenant.schema(), "vacancies".to_owned()]);
    for verb in ["delete", "purge"] {
        let moved = transition(&app.root(), "acme", verb).await;
        assert!(moved.status < 300, "{verb}: {moved:?}");
    }
    assert_eq!(names().await, ours);
}
