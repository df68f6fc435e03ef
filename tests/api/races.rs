//! Statements that lost a race against another transaction, with nothing done: they are tried again and succeed, or fail
//! in time.

use std::time::{Duration, Instant};

use futures_util::future::join;
use rowhouse::domain::Access;
use rowhouse::domain::names::TenantId;
use rowhouse::pg::Failure;
use rowhouse::service::tenants::TenantRef;
use serde_json::json;
use tokio_postgres::Client;

use crate::support::{Answer, BunkerTenant, TestApp};

/// Longer than the healing may take on a busy machine, and shorter than a request may take.
const IN_TIME: Duration = Duration::from_secs(15);

/// Takes a tenant's role from the runtime login, as if it were not granted yet.
async fn revoke(sql: &Client, tenant: &BunkerTenant) {
    let revoke = format!("REVOKE {} FROM rowhouse_runtime", tenant.schema());
    sql.batch_execute(&revoke).await.expect("the owner may revoke it");
}

async fn grant(sql: &Client, tenant: &BunkerTenant) {
    let version = "SELECT current_setting('server_version_num')::int4";
    let version: i32 = sql.query_one(version, &[]).await.expect("the version can be read").get(0);
    let how = if version >= 160_000 { "WITH INHERIT FALSE, SET TRUE" } else { "" };
    let grant = format!("GRANT {} TO rowhouse_runtime {how}", tenant.schema());
    sql.batch_execute(&grant).await.expect("the owner may grant it");
}

/// Sends a request whose tenant's role is granted a moment later.
async fn early(
    sql: &Client,
    tenant: &BunkerTenant,
    request: impl Future<Output = Answer>,
) -> Answer {
    revoke(sql, tenant).await;
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        grant(sql, tenant).await;
    };
    let (answer, ()) = join(request, late).await;
    answer
}

#[tokio::test]
async fn a_request_that_enters_a_tenant_before_its_role_is_known_waits_a_moment_and_succeeds() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let sql = app.sql().await;
    let ada = json!({ "profile": { "email": "ada@example.com" } });
    early(&sql, &tenant, tenant.admin.call("UserCreate", ada)).await.ok();
    early(&sql, &tenant, tenant.admin.get("ada@example.com")).await.ok();
    let change = json!({ "mode": "email", "identity": "ada@example.com", "profile": { "n": 1 } });
    early(&sql, &tenant, tenant.admin.call("UserUpdate", change)).await.ok();
    let body = json!({ "mode": "email", "identity": "ada@example.com", "unlockuuid": app.bunker_root().unlock().await });
    let root = app.bunker_root();
    let found = early(&sql, &tenant, root.call("SystemGetUserProfiles", body)).await;
    assert_eq!(found.ok()["total"], 1);
    let stats = early(&sql, &tenant, root.call("SystemGetSystemStats", json!({}))).await;
    assert_eq!(stats.ok()["stats"]["numusers"], 1);
    early(&sql, &tenant, tenant.admin.about("UserDelete", "email", "ada@example.com")).await.ok();
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 0, "each ran once");
}

#[tokio::test]
async fn a_tenant_whose_role_stays_out_of_reach_is_refused_in_time_and_the_connection_stays_good() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let other = app.bunker_tenant("globex").await;
    let sql = app.sql().await;
    revoke(&sql, &tenant).await;
    let began = Instant::now();
    let refused = tenant.admin.get("ada@example.com").await;
    assert!(refused.status >= 500, "{refused:?}");
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    other.admin.get("ada@example.com").await.error(404);
    grant(&sql, &tenant).await;
    tenant.admin.get("ada@example.com").await.error(404);
}

/// A function that fails as often as a lost race, and counts its calls outside of the transaction.
const FLAKY: &str = "
    CREATE SEQUENCE {schema}.calls;
    CREATE FUNCTION {schema}.flaky(state text, times int) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE call bigint := nextval('{schema}.calls');
    BEGIN
        IF call <= times THEN RAISE EXCEPTION USING ERRCODE = state, MESSAGE = 'tuple concurrently updated'; END IF;
        RETURN call;
    END $$;
    GRANT USAGE, UPDATE ON SEQUENCE {schema}.calls TO {schema};
    GRANT EXECUTE ON FUNCTION {schema}.flaky TO {schema}";

async fn flaky() -> (TestApp, TenantId, Client) {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let sql = app.sql().await;
    let made = FLAKY.replace("{schema}", &acme.schema());
    sql.batch_execute(&made).await.expect("a function can be made");
    (app, TenantId::new(acme.id), sql)
}

async fn restart(sql: &Client, tenant: TenantId) {
    let schema = rowhouse::domain::SchemaName::of(tenant);
    sql.batch_execute(&format!("ALTER SEQUENCE {schema}.calls RESTART"))
        .await
        .expect("a superuser may");
}

#[tokio::test]
async fn a_first_statement_that_lost_a_race_runs_again_and_a_later_one_does_not() {
    let (app, tenant, sql) = flaky().await;
    let ctx = app.operator();
    let open = async || {
        let entered = app.services.tenants.enter(&ctx, &TenantRef::Id(tenant)).await.unwrap();
        app.services.tenants.begin(&ctx, &entered, Access::Write).await.unwrap()
    };
    for state in ["40001", "40P01", "XX000"] {
        let call = format!("SELECT flaky('{state}', 2)");
        restart(&sql, tenant).await;
        let rows = open().await.query(&call, &[]).await.expect("the third call succeeds");
        assert_eq!(rows[0].get::<_, i64>(0), 3, "{state}");
        restart(&sql, tenant).await;
        let rows = open().await.query_and_commit(&call, &[]).await.expect("so does this one");
        assert_eq!(rows[0].get::<_, i64>(0), 3, "{state}");

        // What came before is not repeated, nor is what was sent together with it.
        restart(&sql, tenant).await;
        let tx = open().await;
        tx.query("SELECT 1", &[]).await.unwrap();
        let refused = tx.query(&call, &[]).await.unwrap_err();
        assert!(refused.is_lost_race(), "{state}: {refused:?}");
        drop(tx);
        restart(&sql, tenant).await;
        let tx = open().await;
        let (first, second) = join(tx.query(&call, &[]), tx.query("SELECT 1", &[])).await;
        assert!(first.is_err_and(|failure| failure.is_lost_race()), "{state}");
        assert!(second.is_err(), "{state}");
        drop(tx);
    }
    // Another error is final.
    restart(&sql, tenant).await;
    let refused = open().await.query("SELECT flaky('P0001', 1)", &[]).await;
    assert!(matches!(refused, Err(Failure::Postgres(_))));
    let calls =
        format!("SELECT last_value FROM {}.calls", rowhouse::domain::SchemaName::of(tenant));
    assert_eq!(sql.query_one(&calls, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_statement_that_is_abandoned_between_two_attempts_leaves_a_clean_connection() {
    let (app, tenant, sql) = flaky().await;
    let ctx = app.operator();
    for milliseconds in [1, 5, 20, 50, 100, 200] {
        restart(&sql, tenant).await;
        let entered = app.services.tenants.enter(&ctx, &TenantRef::Id(tenant)).await.unwrap();
        let tx = app.services.tenants.begin(&ctx, &entered, Access::Write).await.unwrap();
        let call = tx.query("SELECT flaky('40001', 1000)", &[]);
        let limit = Duration::from_millis(milliseconds);
        assert!(tokio::time::timeout(limit, call).await.is_err(), "it is still trying");
        // Whatever is sent next on the same transaction is inside of it, or is not sent.
        let inside = tx.query("SELECT current_user::text AS role", &[]).await;
        if let Ok(rows) = inside {
            let role: String = rows[0].get("role");
            assert_eq!(role, rowhouse::domain::SchemaName::of(tenant).as_str());
        }
        drop(tx);
        let (_, tx) = app.services.tenants.open(&ctx, &TenantRef::Id(tenant)).await.unwrap();
        let rows = tx.query_and_commit("SELECT 1 AS one", &[]).await.expect("the pool is sound");
        assert_eq!(rows[0].get::<_, i32>("one"), 1);
    }
}

/// Wherever the healing of one statement stands, another one on the same transaction must not run outside of it.
#[tokio::test]
async fn a_statement_beside_one_that_begins_again_never_runs_outside_of_the_tenant() {
    let (app, tenant, sql) = flaky().await;
    let ctx = app.operator();
    let schema = rowhouse::domain::SchemaName::of(tenant);
    for microseconds in (0..12_000).step_by(200) {
        restart(&sql, tenant).await;
        let entered = app.services.tenants.enter(&ctx, &TenantRef::Id(tenant)).await.unwrap();
        let tx = app.services.tenants.begin(&ctx, &entered, Access::Write).await.unwrap();
        let first = tx.query("SELECT flaky('40001', 3)", &[]);
        let second = async {
            tokio::time::sleep(Duration::from_micros(microseconds)).await;
            tx.query("SELECT current_user::text AS role", &[]).await
        };
        let (_, second) = join(first, second).await;
        if let Ok(rows) = second {
            assert_eq!(rows[0].get::<_, &str>("role"), schema.as_str(), "after {microseconds} us");
        }
    }
}
