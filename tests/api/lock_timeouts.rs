//! A lock that is not granted in time: 503 with `Retry-After` in every dialect, and a warning that says what waited, and
//! for whom.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tokio_postgres::Client;

use crate::support::callers::send;
use crate::support::control::{assert_problem, transition};
use crate::support::{Answer, Caller, PASSWORD, Program, TestApp, TestDatabase};

const SETUP: &str = "/api/tenant/setup";

/// Locks a table until the client is dropped.
async fn lock(app: &TestApp, table: &str) -> Client {
    let holder = app.sql().await;
    holder.batch_execute(&format!("BEGIN; LOCK TABLE {table}")).await.expect("it can be locked");
    holder
}

#[track_caller]
fn assert_waits(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.retry_after() >= 1);
    assert!(!answer.text.contains("SQLSTATE") && !answer.text.contains("server process"));
}

#[tokio::test]
async fn a_lock_timeout_is_503_with_retry_after_in_every_dialect() {
    let app = TestApp::builder().with("database.lock_timeout", "100ms").spawn().await;
    app.add_user("una@example.com", Some("SUPER_ADMIN")).await;
    let una = app.log_in("una@example.com").await;
    let tenant = app.bunker_tenant("acme").await;
    let root = app.root();
    let login = json!({ "identifier": "una@example.com", "password": PASSWORD });

    let tenants = lock(&app, "tenants").await;
    let reten = root.get("/api/tenant").await;
    assert_waits(&reten);
    assert!(reten.refusal(503).contains("locked"), "{reten:?}");
    assert_waits(&root.post(SETUP, &TestApp::setup_body("globex")).await);
    assert_problem(&root.get("/control/v1/tenants").await, 503, "lock_timeout");
    assert_problem(&transition(&root, "acme", "suspend").await, 503, "lock_timeout");
    let bunker = app.bunker_root().call("TenantListTenants", json!({})).await;
    assert_waits(&bunker);
    assert!(bunker.error(503).contains("locked"), "{bunker:?}");
    let v1 = json!({ "name": "globex" });
    let request = app.anonymous().request(Method::POST, "/v1/tenant").json(&v1);
    assert_waits(&send(request.header("X-Bunker-Token", &app.root_token)).await);
    let webfluss = root.get(&format!("/api/tenants/{}", tenant.id)).await;
    assert_waits(&webfluss);
    assert!(webfluss.body["message"].as_str().is_some_and(|text| text.contains("locked")));
    drop(tenants);

    let users = lock(&app, "users").await;
    assert_waits(&app.anonymous().post("/api/auth/login", &login).await);
    assert_waits(&una.get("/api/tenant/mine").await);
    let body = json!({ "current_password": PASSWORD, "new_password": "another good one" });
    assert_problem(&una.post("/control/v1/me/password", &body).await, 503, "lock_timeout");
    drop(users);

    let profiles = lock(&app, &format!("{}.profiles", tenant.schema())).await;
    let change = json!({ "mode": "login", "identity": "ada", "profile": { "n": 1 } });
    let bulk = json!({ "unlockuuid": tenant.admin.unlock().await });
    for answer in [
        tenant.admin.get("ada@example.com").await,
        tenant.admin.call("UserUpdate", change).await,
        tenant.admin.call("UserCreate", json!({ "profile": { "email": "x@y.org" } })).await,
        tenant.admin.call("BulkListAllUsers", bulk).await,
    ] {
        assert_waits(&answer);
    }
    drop(profiles);
    assert_eq!(app.anonymous().post("/api/auth/login", &login).await.status, 200);
    assert_eq!(root.post(SETUP, &TestApp::setup_body("globex")).await.status, 201);
}

#[tokio::test]
async fn a_set_up_that_waits_for_a_lock_is_answered_after_one_wait() {
    let app = TestApp::builder().with("database.lock_timeout", "2s").spawn().await;
    app.set_up("first").await;
    for table in ["audit_events", "users", "memberships"] {
        let held = lock(&app, table).await;
        let began = Instant::now();
        assert_waits(&app.root().post(SETUP, &TestApp::setup_body("acme")).await);
        let took = began.elapsed();
        assert!((1_900..3_900).contains(&took.as_millis()), "{table}: {took:?}");
        drop(held);
    }
    assert_eq!(app.root().post(SETUP, &TestApp::setup_body("acme")).await.status, 201);
}

#[tokio::test]
async fn a_lock_timeout_is_logged_with_what_waited_and_who_has_the_lock() {
    let database = TestDatabase::create().await;
    let token = "7a0ce9a4-2a6e-4a2e-8f0b-0d6d6f7c9e11";
    let program = Program::on(&database)
        .with("ROWHOUSE_DATABASE__LOCK_TIMEOUT", "300ms")
        .with("ROWHOUSE_ROOT_TOKEN", token);
    let server = program.serve(&[]);
    let root = Caller::new(&server.address, Some(token));
    let made = root.post(SETUP, &TestApp::setup_body("acme")).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id: uuid::Uuid = made.body["id"].as_str().unwrap().parse().unwrap();
    let schema = format!("tenant_{}", id.simple());

    let holder = database.connect().await;
    let begin = format!(
        "SET application_name = 'nightly report';
         BEGIN; LOCK TABLE {schema}.profiles; SELECT 'a secret of the query'"
    );
    holder.batch_execute(&begin).await.unwrap();
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let get = json!({ "mode": "email", "identity": "ada@example.com" });
    let request = Caller::new(&server.address, None).request(Method::POST, "/v2/UserGet");
    let request = request.header("X-Bunker-Token", token).header("X-Bunker-Tenant", "acme");
    assert_waits(&send(request.json(&get)).await);
    holder.batch_execute("ROLLBACK; BEGIN; SELECT FROM tenants FOR UPDATE").await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_problem(
        &{
            let path = "/control/v1/tenants/acme/suspend";
            let request = root.request(Method::POST, path).header("if-match", "*");
            send(request).await
        },
        503,
        "lock_timeout",
    );
    let log = server.stop("TERM").stderr;
    let line = |text: &str| {
        log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log}"))
    };
    let who = format!("server process {pid} (idle in transaction, ");
    let tenant = line("failed to read profile row");
    assert!(tenant.contains("WARN") && tenant.contains(&schema), "{tenant}");
    assert!(tenant.contains(&who) && tenant.contains("nightly report"), "{tenant}");
    assert!(tenant.contains("has locks on profiles"), "{tenant}");
    let control = line("failed to read tenant record");
    assert!(
        control.contains("WARN") && control.contains("it waited for tenants in public"),
        "{control}"
    );
    assert!(control.contains(&who) && control.contains("has locks on tenants"), "{control}");
    assert!(!log.contains("a secret of the query") && !log.contains("ada@example.com"), "{log}");
}
