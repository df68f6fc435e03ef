//! An application that uses the crate as a library: its own tables in every tenant, and its own handlers, which
//! receive a transaction in the caller's tenant. [`access`](crate::access) tests who may read and who may write.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, get, post, web};
use reqwest::Method;
use rowhouse::{Problem, TenantTx, Write};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::isolation::fixture;
use crate::support::callers::send;
use crate::support::scoped::{make_key, plaintext};
use crate::support::{Answer, Caller, TestApp, TestTenant};

#[get("/notes")]
async fn notes(tx: TenantTx) -> Result<HttpResponse, Problem> {
    let rows = tx.query_and_commit("SELECT body FROM notes ORDER BY body", &[]).await?;
    let bodies: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(HttpResponse::Ok().json(bodies))
}

#[derive(serde::Deserialize)]
struct NewNote {
    body: String,
}

const INSERT: &str = "INSERT INTO notes (id, body) VALUES ($1, $2)";

#[post("/notes")]
async fn add_note(
    Write(tx): Write<TenantTx>,
    note: web::Json<NewNote>,
) -> Result<HttpResponse, Problem> {
    tx.execute(INSERT, &[&Uuid::now_v7(), &note.body]).await?;
    tx.commit().await?;
    Ok(HttpResponse::Created().finish())
}

#[post("/notes/forgotten")]
async fn forget_to_commit(
    Write(tx): Write<TenantTx>,
    note: web::Json<NewNote>,
) -> Result<HttpResponse, Problem> {
    tx.execute(INSERT, &[&Uuid::now_v7(), &note.body]).await?;
    Ok(HttpResponse::Created().finish())
}

#[post("/notes/panic")]
async fn panic_before_commit(
    Write(tx): Write<TenantTx>,
    note: web::Json<NewNote>,
) -> Result<HttpResponse, Problem> {
    tx.execute(INSERT, &[&Uuid::now_v7(), &note.body]).await?;
    // Unlike `panic!` this prints nothing.
    std::panic::resume_unwind(Box::new("a handler of an application"))
}

#[post("/notes/slow")]
async fn sleep_in_query(
    Write(tx): Write<TenantTx>,
    note: web::Json<NewNote>,
) -> Result<HttpResponse, Problem> {
    tx.execute(INSERT, &[&Uuid::now_v7(), &note.body]).await?;
    tx.query("SELECT pg_sleep(25)", &[]).await?;
    tx.commit().await?;
    Ok(HttpResponse::Created().finish())
}

/// A handler with an SQL injection, as careless applications have.
#[get("/notes/search/{text}")]
async fn search(tx: TenantTx, text: web::Path<String>) -> Result<HttpResponse, Problem> {
    let sql = format!("SELECT body FROM notes WHERE body LIKE '%{text}%'");
    let rows = tx.query_and_commit(&sql, &[]).await?;
    let bodies: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    Ok(HttpResponse::Ok().json(bodies))
}

#[get("/wrong")]
async fn fail(tx: TenantTx) -> Result<HttpResponse, Problem> {
    tx.query("SELECT secret_column FROM notes", &[]).await?;
    Ok(HttpResponse::Ok().finish())
}

/// The application and two tenants with one note each.
struct Site {
    app: TestApp,
    acme: TestTenant,
    globex: TestTenant,
}

async fn open_with(more: &[(&'static str, &str)]) -> Site {
    let mut builder = TestApp::builder()
        .with("tenant_migrations", fixture::notes().display().to_string())
        .with_routes(Arc::new(|config| {
            config
                .service(notes)
                .service(add_note)
                .service(forget_to_commit)
                .service(panic_before_commit)
                .service(sleep_in_query)
                .service(search)
                .service(fail);
        }));
    for (key, value) in more {
        builder = builder.with(key, *value);
    }
    let app = builder.spawn().await;
    let (acme, globex) = (app.set_up("acme-corp").await, app.set_up("globex-corp").await);
    let site = Site { app, acme, globex };
    for tenant in [&site.acme, &site.globex] {
        let admin = site.app.log_in(&tenant.admin_email).await;
        let body = format!("a note of {}", tenant.slug);
        let answer = site.add(&admin, tenant, "/notes", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    site
}

impl Site {
    async fn open() -> Self {
        open_with(&[]).await
    }

    /// Reads the notes of the tenant that is named in the header.
    async fn read(&self, caller: &Caller, tenant: &TestTenant) -> Answer {
        let request = caller.request(Method::GET, "/notes");
        send(request.header("x-tenant-id", tenant.id.to_string())).await
    }

    async fn add(&self, caller: &Caller, tenant: &TestTenant, path: &str, body: &str) -> Answer {
        let request = caller.request(Method::POST, path).json(&json!({ "body": body }));
        send(request.header("x-tenant-id", tenant.id.to_string())).await
    }

    /// Counts the sessions of the runtime login that run a query or have a transaction open.
    async fn busy_sessions(&self) -> i64 {
        let sql = self.app.superuser_sql().await;
        let row = sql
            .query_one(
                "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND usename = 'rowhouse_runtime' AND state <> 'idle'",
                &[],
            )
            .await;
        row.expect("activity can be read").get(0)
    }

    async fn wait_until_idle(&self) {
        for _ in 0..1000 {
            if self.busy_sessions().await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a session of the runtime login stays busy");
    }
}

#[tokio::test]
async fn a_handler_sees_the_tenant_that_the_header_names() {
    let site = Site::open().await;
    for tenant in [&site.acme, &site.globex] {
        let admin = site.app.log_in(&tenant.admin_email).await;
        let answer = site.read(&admin, tenant).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.body, json!([format!("a note of {}", tenant.slug)]));
    }
}

#[tokio::test]
async fn a_handler_sees_the_tenant_that_the_host_names() {
    let site = open_with(&[("base_domain", "example.com")]).await;
    let admin = site.app.log_in(&site.acme.admin_email).await;
    for (host, status) in [
        ("acme-corp.example.com", 200),
        ("ACME-corp.example.com:8080", 200),
        ("globex-corp.example.com", 404),
        ("absent.example.com", 404),
        ("acme-corp.elsewhere.com", 400),
        ("example.com", 400),
    ] {
        let answer = send(admin.request(Method::GET, "/notes").header("host", host)).await;
        assert_eq!(answer.status, status, "{host}: {answer:?}");
        if status == 200 {
            assert_eq!(answer.body, json!(["a note of acme-corp"]));
        }
    }
    // The header takes precedence over the host.
    let request = admin.request(Method::GET, "/notes").header("host", "globex-corp.example.com");
    let answer = send(request.header("x-tenant-id", site.acme.id.to_string())).await;
    assert_eq!(answer.body, json!(["a note of acme-corp"]), "{answer:?}");
}

#[tokio::test]
async fn the_forwarded_host_is_used_only_from_a_trusted_proxy() {
    for (trusted, status) in [("", 400), ("127.0.0.1", 200)] {
        let more = [("base_domain", "example.com"), ("http.trusted_proxies", trusted)];
        let site = open_with(&more).await;
        let admin = site.app.log_in(&site.acme.admin_email).await;
        let request = admin.request(Method::GET, "/notes").header("host", "inside:8080");
        let answer = send(request.header("x-forwarded-host", "acme-corp.example.com")).await;
        assert_eq!(answer.status, status, "{trusted:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_request_without_a_tenant_is_refused_with_the_missing_header() {
    let site = Site::open().await;
    let admin = site.app.log_in(&site.acme.admin_email).await;
    let answer = admin.get("/notes").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(answer.bad_fields(), ["x-tenant-id"]);
    for bad in ["acme-corp", "", "00000000", "' OR true --"] {
        let answer = send(admin.request(Method::GET, "/notes").header("x-tenant-id", bad)).await;
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
    }
}

#[tokio::test]
async fn an_outsider_gets_the_same_answer_for_an_existing_and_an_unknown_tenant() {
    let site = Site::open().await;
    let outsider = site.app.log_in(&site.globex.admin_email).await;
    let unknown = TestTenant { id: Uuid::new_v4(), ..site.acme.clone() };
    let (existing, missing) =
        (site.read(&outsider, &site.acme).await, site.read(&outsider, &unknown).await);
    assert_eq!((existing.status, missing.status), (404, 404), "{existing:?} {missing:?}");
    assert_eq!(existing.body, missing.body);
    let answer = site.add(&outsider, &site.acme, "/notes", "from outside").await;
    assert_eq!(answer.status, 404, "{answer:?}");
    let anonymous = site.read(&site.app.anonymous(), &site.acme).await;
    assert_eq!(anonymous.status, 401, "{anonymous:?}");
    let admin = site.app.log_in(&site.acme.admin_email).await;
    assert_eq!(site.read(&admin, &site.acme).await.body, json!(["a note of acme-corp"]));
}

#[tokio::test]
async fn a_suspended_tenant_is_not_found() {
    let site = Site::open().await;
    let admin = site.app.log_in(&site.acme.admin_email).await;
    let suspend = "UPDATE public.tenants SET status = 'suspended' WHERE id = $1";
    site.app.sql().await.execute(suspend, &[&site.acme.id]).await.expect("a status can be set");
    let answer = site.read(&admin, &site.acme).await;
    assert_eq!(answer.status, 404, "{answer:?}");
}

#[tokio::test]
async fn a_token_bound_to_a_tenant_works_in_that_tenant_only() {
    let site = Site::open().await;
    let token = bound_token(&site.app, site.acme.id).await;
    let caller = site.app.bearer(&token);
    // The token itself names the tenant.
    let answer = caller.get("/notes").await;
    assert_eq!(answer.body, json!(["a note of acme-corp"]), "{answer:?}");
    assert_eq!(site.read(&caller, &site.acme).await.status, 200);
    assert_eq!(site.read(&caller, &site.globex).await.status, 404);
}

#[tokio::test]
async fn an_api_key_names_its_tenant_and_works_in_that_tenant_only() {
    let site = Site::open().await;
    let admin = site.app.log_in(&site.acme.admin_email).await;
    let made = make_key(&admin, site.acme.id, &["READ_PROFILES"]).await;
    let key = site.app.keyed(&plaintext(&made));
    assert_eq!(key.get("/notes").await.body, json!(["a note of acme-corp"]));
    assert_eq!(site.read(&key, &site.acme).await.status, 200);
    assert_eq!(site.read(&key, &site.globex).await.status, 404);
    let request = key.request(Method::GET, "/notes");
    let twice = request.header("x-tenant-id", site.acme.id.to_string());
    let twice = send(twice.header("x-tenant-id", site.globex.id.to_string())).await;
    assert_eq!(twice.status, 400, "{twice:?}");
    // The key ends with the membership of its maker.
    let leave = "DELETE FROM memberships WHERE tenant_id = $1";
    site.app.sql().await.execute(leave, &[&site.acme.id]).await.expect("a member can be removed");
    assert_eq!(key.get("/notes").await.status, 401);
}

/// Creates an API token through the service that the command line uses.
async fn bound_token(app: &TestApp, tenant: Uuid) -> String {
    use rowhouse::app::{Backend, Options};
    use rowhouse::config::Settings;
    use rowhouse::domain::Permission;
    use rowhouse::domain::names::TenantId;
    use rowhouse::service::tokens::NewToken;
    let values = crate::support::settings_for(&app.database.url());
    let settings = Settings::from_values(&values).expect("the settings of a test are valid");
    let backend = Backend::open(&settings, &Options::default()).await.expect("a backend opens");
    let new_token = NewToken {
        name: "a script".to_owned(),
        permissions: vec![Permission::ReadProfiles],
        tenant: Some(TenantId::new(tenant)),
        expires_at: None,
    };
    let made = backend.services.tokens.create(&backend.operator(), new_token).await;
    let (_, token) = made.expect("a token is made");
    let text = token.expose().to_owned();
    backend.close().await;
    text
}

#[tokio::test]
async fn a_transaction_that_is_not_committed_is_rolled_back() {
    let site = Site::open().await;
    let admin = site.app.log_in(&site.acme.admin_email).await;
    let answer = site.add(&admin, &site.acme, "/notes/forgotten", "forgotten").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(site.read(&admin, &site.acme).await.body, json!(["a note of acme-corp"]));
    site.wait_until_idle().await;
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_500_and_rolls_back() {
    let site = Site::open().await;
    let acme = site.app.log_in(&site.acme.admin_email).await;
    let globex = site.app.log_in(&site.globex.admin_email).await;
    for _ in 0..10 {
        let answer = site.add(&acme, &site.acme, "/notes/panic", "panic").await;
        assert_eq!(answer.status, 500, "{answer:?}");
        assert_eq!(answer.body["statusCode"], 500, "{answer:?}");
        assert!(answer.header("x-request-id").is_some(), "{answer:?}");
        assert!(!answer.text.contains("application"), "{answer:?}");
        let other = site.read(&globex, &site.globex).await;
        assert_eq!(other.body, json!(["a note of globex-corp"]), "{other:?}");
    }
    assert_eq!(site.read(&acme, &site.acme).await.body, json!(["a note of acme-corp"]));
    site.wait_until_idle().await;
}

#[tokio::test]
async fn a_slow_handler_is_stopped_with_503_and_its_query_is_cancelled() {
    let site = open_with(&[("http.request_timeout", "400ms")]).await;
    let acme = site.app.log_in(&site.acme.admin_email).await;
    let globex = site.app.log_in(&site.globex.admin_email).await;
    for _ in 0..3 {
        let begin = Instant::now();
        let answer = site.add(&acme, &site.acme, "/notes/slow", "slow").await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.body["statusCode"], 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        let other = site.read(&globex, &site.globex).await;
        assert_eq!(other.body, json!(["a note of globex-corp"]), "{other:?}");
    }
    site.wait_until_idle().await;
    assert_eq!(site.read(&acme, &site.acme).await.body, json!(["a note of acme-corp"]));
}

/// actix does not drop the handler of a caller that has disconnected; the time limit does.
#[tokio::test]
async fn a_request_of_a_disconnected_caller_is_rolled_back_at_the_time_limit() {
    let site = open_with(&[("http.request_timeout", "400ms")]).await;
    let acme = site.app.log_in(&site.acme.admin_email).await;
    let globex = site.app.log_in(&site.globex.admin_email).await;
    for milliseconds in [1, 5, 20, 60, 120] {
        let request = site.add(&acme, &site.acme, "/notes/slow", "disconnected");
        let limit = Duration::from_millis(milliseconds);
        assert!(tokio::time::timeout(limit, request).await.is_err(), "the handler still sleeps");
        let other = site.read(&globex, &site.globex).await;
        assert_eq!(other.body, json!(["a note of globex-corp"]), "{other:?}");
    }
    site.wait_until_idle().await;
    assert_eq!(site.read(&acme, &site.acme).await.body, json!(["a note of acme-corp"]));
}

#[tokio::test]
async fn sql_injected_into_a_careless_handler_does_not_leave_the_tenant() {
    let site = Site::open().await;
    let admin = site.app.log_in(&site.acme.admin_email).await;
    let other = site.globex.schema();
    for text in [
        format!("x' UNION SELECT body FROM {other}.notes --"),
        "x' UNION SELECT email FROM public.users --".to_owned(),
        format!("x' OR set_config('role', '{other}', false) <> '' --"),
        format!("x'; SET ROLE {other}; SELECT body FROM {other}.notes --"),
        "x'; COMMIT; RESET ROLE; --".to_owned(),
    ] {
        let mut path = String::from("/notes/search/");
        for byte in text.bytes() {
            let _ = write!(path, "%{byte:02X}");
        }
        let request = admin.request(Method::GET, &path);
        let answer = send(request.header("x-tenant-id", site.acme.id.to_string())).await;
        assert_eq!(answer.status, 500, "{text}: {answer:?}");
        assert!(!answer.text.contains("globex") && !answer.text.contains("tenant_"), "{answer:?}");
    }
    // Within its own tenant the injection succeeds: only the application can prevent that.
    let request = admin.request(Method::GET, "/notes/search/%27%20OR%20true%20--");
    let answer = send(request.header("x-tenant-id", site.acme.id.to_string())).await;
    assert_eq!(answer.body, json!(["a note of acme-corp"]), "{answer:?}");
}

#[tokio::test]
async fn a_failed_query_of_the_application_reveals_no_sql_to_the_caller() {
    let site = Site::open().await;
    let admin = site.app.log_in(&site.acme.admin_email).await;
    let request = admin.request(Method::GET, "/wrong");
    let answer = send(request.header("x-tenant-id", site.acme.id.to_string())).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(!answer.text.contains("secret_column") && !answer.text.contains("notes"), "{answer:?}");
    assert_ne!(answer.body, Value::Null, "the body is JSON");
}

#[tokio::test]
async fn a_tenant_schema_holds_the_applications_tables_and_not_the_built_in_ones() {
    let site = Site::open().await;
    let sql = site.app.sql().await;
    for tenant in [&site.acme, &site.globex] {
        let row = sql
            .query_one(
                "SELECT array_agg(relname::text ORDER BY relname) FROM pg_class
                  WHERE relnamespace = $1::text::regnamespace AND relkind IN ('r', 'v')",
                &[&tenant.schema()],
            )
            .await
            .expect("tables can be listed");
        assert_eq!(row.get::<_, Vec<String>>(0), ["bodies", "notes", "refinery_schema_history"]);
    }
}
