//! The transitions of a tenant's status: suspend, resume, delete, restore, purge.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use reqwest::Method;
use rowhouse::app::Routes;
use rowhouse::{Problem, TenantTx};
use serde_json::json;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::control::{assert_problem, events, send_if_match, token_with, transition};
use crate::support::{Caller, TestApp, TestTenant};

fn path(tenant: impl std::fmt::Display) -> String {
    format!("/control/v1/tenants/{tenant}")
}

/// Adds a route of an application, which counts the profiles of the tenant.
fn routes() -> Routes {
    async fn count(tx: TenantTx) -> Result<HttpResponse, Problem> {
        let rows = tx.query_and_commit("SELECT count(*) FROM profiles", &[]).await?;
        let count: i64 = rows.first().map_or(0, |row| row.get(0));
        Ok(HttpResponse::Ok().json(count))
    }
    Arc::new(|config| {
        config.route("/count", web::get().to(count));
    })
}

async fn enter(caller: &Caller, tenant: &TestTenant) -> u16 {
    send(caller.request(Method::GET, "/count").header("x-tenant-id", tenant.id.to_string()))
        .await
        .status
}

/// Counts what is left of a tenant: row, schema, role, tables in the schema, memberships, tokens.
async fn left(sql: &Client, tenant: &TestTenant) -> [i64; 6] {
    let row = sql
        .query_one(
            "SELECT (SELECT count(*) FROM tenants WHERE id = $1),
                    (SELECT count(*) FROM pg_namespace WHERE nspname = $2),
                    (SELECT count(*) FROM pg_roles WHERE rolname = $2),
                    (SELECT count(*) FROM pg_tables WHERE schemaname = $2),
                    (SELECT count(*) FROM memberships WHERE tenant_id = $1),
                    (SELECT count(*) FROM tokens WHERE tenant_id = $1)",
            &[&tenant.id, &tenant.schema()],
        )
        .await
        .expect("what is left can be counted");
    [row.get(0), row.get(1), row.get(2), row.get(3), row.get(4), row.get(5)]
}

/// Creates objects of many kinds in a tenant's schema, with dependencies between them.
async fn create_objects(sql: &Client, tenant: &TestTenant, tables: usize) {
    let schema = tenant.schema();
    sql.batch_execute(&format!(
        "CREATE TYPE {schema}.mood AS ENUM ('good', 'bad');
         CREATE DOMAIN {schema}.age AS int CHECK (VALUE > 0);
         CREATE TYPE {schema}.pair AS (a int, b text);
         CREATE TYPE {schema}.span AS RANGE (subtype = int);
         CREATE FUNCTION {schema}.twice(x {schema}.age) RETURNS int LANGUAGE sql AS 'SELECT x * 2';
         CREATE SEQUENCE {schema}.numbers;
         CREATE TABLE {schema}.\"Odd \"\"name\" (id int GENERATED ALWAYS AS IDENTITY, s serial, m {schema}.mood);
         CREATE TABLE {schema}.parts (id int, at int) PARTITION BY RANGE (at);
         CREATE TABLE {schema}.parts_low PARTITION OF {schema}.parts FOR VALUES FROM (0) TO (10) PARTITION BY LIST (id);
         CREATE TABLE {schema}.parts_low_one PARTITION OF {schema}.parts_low FOR VALUES IN (1);
         DO $$ BEGIN FOR n IN 1..{tables} LOOP
             EXECUTE format('CREATE TABLE {schema}.t_%s (id uuid PRIMARY KEY, other uuid UNIQUE, text text NOT NULL CHECK (text <> ''''))', n);
             IF n > 1 THEN
                 EXECUTE format('ALTER TABLE {schema}.t_%s ADD FOREIGN KEY (other) REFERENCES {schema}.t_%s (id)', n, n - 1);
             END IF;
         END LOOP; END $$;
         CREATE VIEW {schema}.seen AS SELECT id FROM {schema}.t_1;
         CREATE MATERIALIZED VIEW {schema}.kept AS SELECT id FROM {schema}.t_1;"
    ))
    .await
    .expect("the objects can be created");
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_by_every_process_at_once() {
    let first = TestApp::builder().with_routes(routes()).spawn().await;
    let second = TestApp::builder().with_routes(routes()).on(first.database.clone()).spawn().await;
    let acme = first.set_up("acme").await;
    let admin = first.log_in(&acme.admin_email).await;
    let elsewhere = second.bearer(admin.token());
    for round in 0..3 {
        for caller in [&admin, &elsewhere] {
            assert_eq!(enter(caller, &acme).await, 200, "round {round}");
        }
        let suspended = transition(&first.root(), "acme", "suspend").await;
        assert_eq!((suspended.status, &suspended.body["status"]), (200, &json!("suspended")));
        for caller in [&elsewhere, &admin] {
            assert_eq!(enter(caller, &acme).await, 404, "round {round}");
        }
        let resumed = transition(&second.root(), "acme", "resume").await;
        assert_eq!((resumed.status, &resumed.body["status"]), (200, &json!("active")));
    }
    assert_eq!(transition(&second.root(), "acme", "delete").await.status, 200);
    for caller in [&admin, &elsewhere] {
        assert_eq!(enter(caller, &acme).await, 404);
    }
    assert_eq!(events(&first, acme.id, "tenant.suspend").await, 3);
    assert_eq!(events(&first, acme.id, "tenant.resume").await, 3);
    assert_eq!(events(&first, acme.id, "tenant.delete").await, 1);
}

#[tokio::test]
async fn under_load_no_request_that_begins_after_a_suspension_is_served() {
    let first = TestApp::builder().with_routes(routes()).spawn().await;
    let second = TestApp::builder().with_routes(routes()).on(first.database.clone()).spawn().await;
    let acme = first.set_up("acme").await;
    let admin = first.log_in(&acme.admin_email).await;
    let suspended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers = (0..4).map(|n| {
        let caller = if n % 2 == 0 { admin.clone() } else { second.bearer(admin.token()) };
        let (acme, suspended) = (acme.clone(), Arc::clone(&suspended));
        tokio::spawn(async move {
            let (mut served, mut refused) = (0, 0);
            while refused < 5 {
                let began_after = suspended.load(std::sync::atomic::Ordering::SeqCst);
                match enter(&caller, &acme).await {
                    200 => {
                        assert!(!began_after, "served although it was suspended");
                        served += 1;
                    }
                    404 => refused += 1,
                    status => panic!("{status}"),
                }
            }
            served
        })
    });
    let callers: Vec<_> = callers.collect();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(transition(&first.root(), "acme", "suspend").await.status, 200);
    suspended.store(true, std::sync::atomic::Ordering::SeqCst);
    for caller in callers {
        assert!(caller.await.expect("no request was served after the suspension") > 0);
    }
}

#[tokio::test]
async fn only_legal_transitions_are_made_and_each_requires_a_revision() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let root = app.root();
    for (verb, refused, status) in [
        ("purge", true, "active"),
        ("suspend", false, "suspended"),
        ("purge", true, "suspended"),
        ("delete", false, "deleting"),
        ("suspend", true, "deleting"),
        ("resume", true, "deleting"),
        ("restore", false, "suspended"),
    ] {
        let answer = transition(&root, "acme", verb).await;
        if refused {
            assert_problem(&answer, 409, "illegal_move");
        } else {
            assert_eq!(answer.status, 200, "{verb}: {answer:?}");
        }
        assert_eq!(root.get(&path("acme")).await.body["status"], status, "{verb}");
    }
    let now = root.get(&path("acme")).await;
    assert_eq!(now.body["status"], "suspended", "a restore brings back the previous status");
    assert_eq!(now.header("etag"), Some("\"4\""));
    assert_eq!(now.body["purge_after"], json!(null));
    for verb in ["suspend", "resume", "restore", "purge"] {
        let target = format!("{}/{verb}", path("acme"));
        let bare = send(root.request(Method::POST, &target)).await;
        assert_problem(&bare, 428, "precondition_required");
        let stale = send_if_match(&root, Method::POST, &target, "\"3\"", None).await;
        assert_problem(&stale, 412, "precondition_failed");
        let body =
            send_if_match(&root, Method::POST, &target, "\"4\"", Some(&json!({ "force": true })))
                .await;
        assert_problem(&body, 400, "invalid");
    }
    assert_problem(
        &send(root.request(Method::DELETE, &path("acme"))).await,
        428,
        "precondition_required",
    );
    let resumed =
        send_if_match(&root, Method::POST, &format!("{}/resume", path("acme")), "\"4\"", None)
            .await;
    assert_eq!((resumed.status, resumed.header("etag")), (200, Some("\"5\"")));
}

#[tokio::test]
async fn a_transition_that_finds_the_status_is_answered_as_the_first_one_and_writes_nothing() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let root = app.root();
    let history = async || {
        let sql = "SELECT count(*) FROM audit_events WHERE tenant_id = $1";
        let row = app.sql().await.query_one(sql, &[&acme.id]).await.expect("it can be counted");
        row.get::<_, i64>(0)
    };
    for verb in ["resume", "suspend", "restore", "delete", "restore", "resume"] {
        let first = transition(&root, "acme", verb).await;
        let written = history().await;
        let second = transition(&root, "acme", verb).await;
        assert_eq!((first.status, second.status), (200, 200), "{verb}: {second:?}");
        assert_eq!(second.body, first.body, "{verb}");
        assert_eq!(second.header("etag"), first.header("etag"), "{verb}");
        assert_eq!(history().await, written, "{verb}");
    }
    // At once, too: one of them moves the tenant, the other finds it moved.
    let both = futures_util::future::join_all((0..4).map(|_| transition(&root, "acme", "delete")));
    let both = both.await;
    assert!(both.iter().all(|answer| answer.status == 200), "{both:?}");
    assert!(both.iter().all(|answer| answer.body == both[0].body), "{both:?}");
    assert_eq!(events(&app, acme.id, "tenant.delete").await, 2);
}

#[tokio::test]
async fn an_unauthorized_caller_cannot_change_a_tenants_status() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    let bound = token_with(&app, &["UPDATE_TENANT", "DELETE_TENANT"], Some(acme.id)).await;
    for (verb, missing) in [
        ("suspend", "UPDATE_TENANT"),
        ("resume", "UPDATE_TENANT"),
        ("delete", "DELETE_TENANT"),
        ("restore", "DELETE_TENANT"),
        ("purge", "DELETE_TENANT"),
    ] {
        assert_problem(&transition(&app.anonymous(), "acme", verb).await, 401, "unauthenticated");
        let refused = transition(&admin, "acme", verb).await;
        assert_problem(&refused, 403, "forbidden");
        assert_eq!(refused.body["missing"], json!([missing]));
        for foreign in [other.id.to_string(), "other".to_owned(), Uuid::new_v4().to_string()] {
            assert_problem(&transition(&bound, &foreign, verb).await, 404, "tenant_not_found");
        }
    }
    assert_eq!(transition(&bound, "acme", "suspend").await.status, 200);
    assert_eq!(app.root().get(&path("other")).await.body["status"], "active");
}

#[tokio::test]
async fn a_deleted_tenant_can_be_restored_until_its_grace_period_ends_and_is_then_purged() {
    let app = TestApp::builder()
        .with("tenants.grace_period", "1h")
        .with("tenants.purge_interval", "100ms")
        .spawn()
        .await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let root = app.root();
    let sql = app.sql().await;
    assert_eq!(transition(&root, "acme", "delete").await.status, 200);
    let patched =
        send_if_match(&root, Method::PATCH, &path("acme"), "*", Some(&json!({ "name": "x" })))
            .await;
    assert_problem(&patched, 409, "tenant_not_active");
    app.clock.advance(time::Duration::minutes(59));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(transition(&root, "acme", "restore").await.body["status"], "active");
    assert_eq!(left(&sql, &acme).await, [1, 1, 1, 4, 1, 0]);

    assert_eq!(transition(&root, "acme", "delete").await.status, 200);
    assert_eq!(transition(&root, "other", "delete").await.status, 200);
    assert_eq!(transition(&root, "other", "restore").await.status, 200);
    app.clock.advance(time::Duration::minutes(61));
    for _ in 0..100 {
        if left(&sql, &acme).await == [0; 6] {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(left(&sql, &acme).await, [0; 6]);
    assert_eq!(left(&sql, &other).await, [1, 1, 1, 4, 1, 0]);
    let event = sql
        .query_one("SELECT actor, details FROM audit_events WHERE action = 'tenant.purge'", &[])
        .await
        .unwrap();
    assert_eq!(event.get::<_, &str>(0), "operator");
    assert_eq!(event.get::<_, serde_json::Value>(1)["slug"], "acme");
    assert_eq!(root.get(&path("acme")).await.status, 404);
    // The slug rests; `slugs` tests for how long.
    let again = root.post("/api/tenant/setup", &TestApp::setup_body("acme")).await;
    again.refusal(409);
}

#[tokio::test]
async fn a_tenant_cannot_be_restored_after_its_grace_period() {
    let app = TestApp::builder().with("tenants.grace_period", "1h").spawn().await;
    app.set_up("acme").await;
    assert_eq!(transition(&app.root(), "acme", "delete").await.status, 200);
    app.clock.advance(time::Duration::hours(1));
    assert_problem(&transition(&app.root(), "acme", "restore").await, 409, "grace_over");
}

#[tokio::test]
async fn a_purge_of_two_hundred_tables_holds_few_locks_and_continues_where_it_stopped() {
    let app = TestApp::builder().with("database.lock_timeout", "1s").spawn().await;
    let acme = app.set_up("acme").await;
    let (sql, mut reader) = (app.sql().await, app.sql().await);
    create_objects(&sql, &acme, 200).await;
    let _token = token_with(&app, &["VIEW_TENANTS"], Some(acme.id)).await;
    let root = app.root();
    assert_eq!(transition(&root, "acme", "delete").await.status, 200);
    let before = left(&sql, &acme).await[3];
    assert!(before > 200);

    // Another session reads a table and keeps its lock.
    let reading = reader.transaction().await.unwrap();
    reading.batch_execute(&format!("SELECT 1 FROM {}.t_150", acme.schema())).await.unwrap();
    let purging = {
        let root = root.clone();
        tokio::spawn(async move { transition(&root, "acme", "purge").await })
    };
    let mut most = 0_i64;
    while !purging.is_finished() {
        let row = sql
            .query_one(
                "SELECT coalesce(max(n), 0) FROM (
                     SELECT count(*) n FROM pg_locks
                      WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
                        AND mode = 'AccessExclusiveLock' AND granted
                      GROUP BY pid) held",
                &[],
            )
            .await
            .unwrap();
        most = most.max(row.get(0));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_problem(&purging.await.unwrap(), 503, "lock_timeout");
    assert!((1..=600).contains(&most), "{most} locks at once");
    let [row, schema, role, tables, ..] = left(&sql, &acme).await;
    assert_eq!((row, schema, role), (1, 1, 1), "row, schema and role stay until the last step");
    assert!((50..before - 100).contains(&tables), "{tables} of {before} are left");
    assert_eq!(root.get(&path("acme")).await.body["status"], "deleting");
    assert_problem(&transition(&root, "acme", "restore").await, 409, "purge_started");
    assert_eq!(events(&app, acme.id, "tenant.purge").await, 0);

    reading.rollback().await.unwrap();
    let done = transition(&root, "acme", "purge").await;
    assert_eq!((done.status, done.text.as_str()), (204, ""), "{done:?}");
    assert_eq!(left(&sql, &acme).await, [0; 6]);
    assert_eq!(events(&app, acme.id, "tenant.purge").await, 1);
    assert_problem(&transition(&root, "acme", "purge").await, 404, "tenant_not_found");
}

#[tokio::test]
async fn an_interrupted_purge_is_continued_by_the_next_process() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let sql = app.sql().await;
    assert_eq!(transition(&app.root(), "acme", "delete").await.status, 200);
    // The state after a process was killed: the purge has begun, some tables are dropped, and the grace
    // period is far from over.
    sql.batch_execute(&format!(
        "UPDATE tenants SET purge_started_at = now() WHERE slug = 'acme'; DROP TABLE {}.profiles CASCADE",
        acme.schema()
    ))
    .await
    .unwrap();
    let database = app.stop().await;
    let next =
        TestApp::builder().on(database).with("tenants.purge_interval", "100ms").spawn().await;
    for _ in 0..100 {
        if left(&sql, &acme).await == [0; 6] {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(left(&sql, &acme).await, [0; 6]);
    assert_eq!(events(&next, acme.id, "tenant.purge").await, 1);
}

#[tokio::test]
async fn two_purges_at_once_leave_one_record() {
    let first = TestApp::spawn().await;
    let second = TestApp::builder().on(first.database.clone()).spawn().await;
    let acme = first.set_up("acme").await;
    let sql = first.sql().await;
    create_objects(&sql, &acme, 60).await;
    assert_eq!(transition(&first.root(), "acme", "delete").await.status, 200);
    let (here, there) = (first.root(), second.root());
    let (one, two) =
        tokio::join!(transition(&here, "acme", "purge"), transition(&there, "acme", "purge"));
    for answer in [&one, &two] {
        assert!([204, 404].contains(&answer.status), "{answer:?}");
    }
    assert_eq!(left(&sql, &acme).await, [0; 6]);
    assert_eq!(events(&first, acme.id, "tenant.purge").await, 1);
}

#[tokio::test]
async fn databunkers_tenant_delete_purges_in_the_same_way() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let sql = app.sql().await;
    create_objects(&sql, &acme, 50).await;
    let body = json!({ "tenantname": "acme" });
    let delete = || {
        let request = app.anonymous().request(Method::POST, "/v2/TenantDelete").json(&body);
        send(request.header("X-Bunker-Token", &app.root_token))
    };
    let gone = delete().await;
    assert_eq!(gone.status, 200, "{gone:?}");
    assert_eq!(left(&sql, &acme).await, [0; 6]);
    assert_eq!(events(&app, acme.id, "tenant.delete").await, 1);
    assert_eq!(events(&app, acme.id, "tenant.purge").await, 1);
    assert_eq!(delete().await.status, 404);
}

#[tokio::test]
async fn the_main_tenant_is_neither_deleted_nor_purged() {
    let app = TestApp::spawn().await;
    // Databunker's clients use it when they name no tenant; the first such request creates it.
    let request = app.anonymous().request(Method::POST, "/v2/UserCreate");
    let made = send(
        request
            .header("X-Bunker-Token", &app.root_token)
            .json(&json!({ "profile": { "login": "ada" } })),
    )
    .await;
    assert_eq!(made.status, 200, "{made:?}");
    let main = app.root().get("/control/v1/tenants").await.body["data"][0]["id"].clone();
    let main = main.as_str().expect("the main tenant is listed").to_owned();
    assert_problem(&transition(&app.root(), &main, "delete").await, 409, "main_tenant");
    assert_problem(&transition(&app.root(), &main, "purge").await, 409, "illegal_move");
}

#[tokio::test]
async fn a_migration_does_not_recreate_what_a_purge_has_dropped() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let sql = app.sql().await;
    assert_eq!(transition(&app.root(), "acme", "delete").await.status, 200);
    sql.batch_execute(&format!(
        "UPDATE tenants SET purge_started_at = now(), migrations_fingerprint = 'old';
         DROP TABLE {0}.profiles CASCADE; DROP TABLE {0}.refinery_schema_history",
        acme.schema()
    ))
    .await
    .unwrap();
    let settings =
        rowhouse::config::Settings::from_values(&crate::support::settings_for(&app.database.url()));
    let backend =
        rowhouse::app::Backend::open(&settings.unwrap(), &rowhouse::app::Options::default())
            .await
            .unwrap();
    let ctx = backend.operator();
    let fleet = &backend.services.fleet;
    let plan = fleet.plan(&ctx, &[]).await.unwrap();
    assert_eq!((plan.behind_count(), plan.deleting_count), (0, 1));
    // The migration lists the tenant just before the deletion.
    sql.batch_execute("UPDATE tenants SET status = 'active'").await.unwrap();
    let command = rowhouse::service::fleet::MigrationRequest::default();
    let operation = fleet.start(&ctx, &command).await.unwrap();
    assert_eq!(operation.counts.pending, 1);
    sql.batch_execute("UPDATE tenants SET status = 'deleting'").await.unwrap();
    let before = left(&sql, &acme).await;
    let ran = fleet.run(&ctx, operation.id, Arc::new(|_| {})).await.unwrap();
    assert_eq!((ran.state.as_str(), ran.counts.skipped), ("done", 1));
    assert_eq!(left(&sql, &acme).await, before);
    backend.close().await;
}
