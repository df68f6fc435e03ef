//! An application on top of the crate, written the way a user of the library would: its own tables in
//! every tenant, its own handlers, the caller's tenant handed to them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, get, post, web};
use reqwest::Method;
use rowhouse::{Problem, TenantTx};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::isolation::house;
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
async fn add_note(tx: TenantTx, note: web::Json<NewNote>) -> Result<HttpResponse, Problem> {
    tx.execute(INSERT, &[&Uuid::now_v7(), &note.body]).await?;
    tx.commit().await?;
    Ok(HttpResponse::Created().finish())
}

#[post("/notes/forgotten")]
async fn forget_to_commit(tx: TenantTx, note: web::Json<NewNote>) -> Result<HttpResponse, Problem> {
    tx.execute(INSERT, &[&Uuid::now_v7(), &note.body]).await?;
    Ok(HttpResponse::Created().finish())
}

#[post("/notes/panic")]
async fn panic_half_way(tx: TenantTx, note: web::Json<NewNote>) -> Result<HttpResponse, Problem> {
    tx.execute(INSERT, &[&Uuid::now_v7(), &note.body]).await?;
    // Unlike panic! it does not print.
    std::panic::resume_unwind(Box::new("a handler of an application"))
}

#[post("/notes/slow")]
async fn sleep_on_it(tx: TenantTx, note: web::Json<NewNote>) -> Result<HttpResponse, Problem> {
    tx.execute(INSERT, &[&Uuid::now_v7(), &note.body]).await?;
    tx.query("SELECT pg_sleep(25)", &[]).await?;
    tx.commit().await?;
    Ok(HttpResponse::Created().finish())
}

/// What no one should write, and someone will.
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

/// The application, with two tenants that have a note each.
struct Site {
    app: TestApp,
    acme: TestTenant,
    globex: TestTenant,
}

async fn open_with(more: &[(&'static str, &str)]) -> Site {
    let mut builder = TestApp::builder()
        .with("tenant_migrations", house::notes().display().to_string())
        .with_routes(Arc::new(|config| {
            config
                .service(notes)
                .service(add_note)
                .service(forget_to_commit)
                .service(panic_half_way)
                .service(sleep_on_it)
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

    /// Reads the notes of the tenant that the header names.
    async fn read(&self, caller: &Caller, tenant: &TestTenant) -> Answer {
        let request = caller.request(Method::GET, "/notes");
        send(request.header("x-tenant-id", tenant.id.to_string())).await
    }

    async fn add(&self, caller: &Caller, tenant: &TestTenant, path: &str, body: &str) -> Answer {
        let request = caller.request(Method::POST, path).json(&json!({ "body": body }));
        send(request.header("x-tenant-id", tenant.id.to_string())).await
    }

    /// Sessions of the runtime login that are not idle outside of any transaction.
    async fn busy(&self) -> i64 {
        let sql = self.app.sql().await;
        let row = sql
            .query_one(
                "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND usename = 'rowhouse_runtime' AND state <> 'idle'",
                &[],
            )
            .await;
        row.expect("activity can be read").get(0)
    }

    async fn is_quiet_soon(&self) {
        for _ in 0..200 {
            if self.busy().await == 0 {
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
        ("nobody.example.com", 404),
        ("acme-corp.elsewhere.com", 400),
        ("example.com", 400),
    ] {
        let answer = send(admin.request(Method::GET, "/notes").header("host", host)).await;
        assert_eq!(answer.status, status, "{host}: {answer:?}");
        if status == 200 {
            assert_eq!(answer.body, json!(["a note of acme-corp"]));
        }
    }
    // The header beats the host.
    let request = admin.request(Method::GET, "/notes").header("host", "globex-corp.example.com");
    let answer = send(request.header("x-tenant-id", site.acme.id.to_string())).await;
    assert_eq!(answer.body, json!(["a note of acme-corp"]), "{answer:?}");
}

#[tokio::test]
async fn what_a_proxy_says_of_the_host_counts_where_it_is_trusted() {
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
async fn without_a_tenant_the_request_fails_and_says_what_is_missing() {
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
async fn to_an_outsider_a_tenant_that_exists_and_one_that_does_not_look_the_same() {
    let site = Site::open().await;
    let outsider = site.app.log_in(&site.globex.admin_email).await;
    let nowhere = TestTenant { id: Uuid::new_v4(), ..site.acme.clone() };
    let (there, missing) =
        (site.read(&outsider, &site.acme).await, site.read(&outsider, &nowhere).await);
    assert_eq!((there.status, missing.status), (404, 404), "{there:?} {missing:?}");
    assert_eq!(there.body, missing.body);
    let answer = site.add(&outsider, &site.acme, "/notes", "from outside").await;
    assert_eq!(answer.status, 404, "{answer:?}");
    let nobody = site.read(&site.app.anonymous(), &site.acme).await;
    assert_eq!(nobody.status, 401, "{nobody:?}");
    let admin = site.app.log_in(&site.acme.admin_email).await;
    assert_eq!(site.read(&admin, &site.acme).await.body, json!(["a note of acme-corp"]));
}

#[tokio::test]
async fn a_suspended_tenant_answers_nothing() {
    let site = Site::open().await;
    let admin = site.app.log_in(&site.acme.admin_email).await;
    let suspend = "UPDATE public.tenants SET status = 'suspended' WHERE id = $1";
    site.app.sql().await.execute(suspend, &[&site.acme.id]).await.expect("a status can be set");
    let answer = site.read(&admin, &site.acme).await;
    assert_eq!(answer.status, 404, "{answer:?}");
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_tenant_enters_that_one_and_no_other() {
    let site = Site::open().await;
    let token = bound_token(&site.app, site.acme.id).await;
    let caller = site.app.bearer(&token);
    // It names its tenant by itself.
    let answer = caller.get("/notes").await;
    assert_eq!(answer.body, json!(["a note of acme-corp"]), "{answer:?}");
    assert_eq!(site.read(&caller, &site.acme).await.status, 200);
    assert_eq!(site.read(&caller, &site.globex).await.status, 404);
}

#[tokio::test]
async fn an_api_key_enters_its_tenant_by_itself_and_no_other() {
    let site = Site::open().await;
    let admin = site.app.log_in(&site.acme.admin_email).await;
    let made = make_key(&admin, site.acme.id, &["VIEW_USERS"]).await;
    let key = site.app.keyed(&plaintext(&made));
    assert_eq!(key.get("/notes").await.body, json!(["a note of acme-corp"]));
    assert_eq!(site.read(&key, &site.acme).await.status, 200);
    assert_eq!(site.read(&key, &site.globex).await.status, 404);
    let request = key.request(Method::GET, "/notes");
    let twice = request.header("x-tenant-id", site.acme.id.to_string());
    let twice = send(twice.header("x-tenant-id", site.globex.id.to_string())).await;
    assert_eq!(twice.status, 400, "{twice:?}");
    // With its person gone from the tenant it is good for nothing.
    let leave = "DELETE FROM memberships WHERE tenant_id = $1";
    site.app.sql().await.execute(leave, &[&site.acme.id]).await.expect("a member can be removed");
    assert_eq!(key.get("/notes").await.status, 401);
}

/// An API token, by the same service that the command line calls.
async fn bound_token(app: &TestApp, tenant: Uuid) -> String {
    use rowhouse::app::{Backend, Options};
    use rowhouse::config::Settings;
    use rowhouse::domain::Permission;
    use rowhouse::domain::names::TenantId;
    use rowhouse::service::tokens::NewToken;
    let values = crate::support::settings_for(&app.database.url());
    let settings = Settings::from_values(&values).expect("the settings of a test are good");
    let backend = Backend::open(&settings, &Options::default()).await.expect("a house opens");
    let wish = NewToken {
        name: "a script".to_owned(),
        permissions: vec![Permission::ViewTenants],
        tenant: Some(TenantId::new(tenant)),
        expires_at: None,
    };
    let made = backend.services.tokens.create(&backend.operator(), wish).await;
    let (_, token) = made.expect("a token is made");
    let text = token.expose().to_owned();
    backend.close().await;
    text
}

#[tokio::test]
async fn a_forgotten_commit_rolls_back() {
    let site = Site::open().await;
    let admin = site.app.log_in(&site.acme.admin_email).await;
    let answer = site.add(&admin, &site.acme, "/notes/forgotten", "forgotten").await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(site.read(&admin, &site.acme).await.body, json!(["a note of acme-corp"]));
    site.is_quiet_soon().await;
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_500_in_form_and_leaves_nothing() {
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
    site.is_quiet_soon().await;
}

#[tokio::test]
async fn a_slow_handler_is_cut_with_503_and_its_query_is_cancelled() {
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
    site.is_quiet_soon().await;
    assert_eq!(site.read(&acme, &site.acme).await.body, json!(["a note of acme-corp"]));
}

/// actix does not drop the handler of a caller who is gone; the time limit does.
#[tokio::test]
async fn a_caller_who_hangs_up_leaves_nothing_once_the_time_is_up() {
    let site = open_with(&[("http.request_timeout", "400ms")]).await;
    let acme = site.app.log_in(&site.acme.admin_email).await;
    let globex = site.app.log_in(&site.globex.admin_email).await;
    for milliseconds in [1, 5, 20, 60, 120] {
        let request = site.add(&acme, &site.acme, "/notes/slow", "hung up");
        let patience = Duration::from_millis(milliseconds);
        assert!(tokio::time::timeout(patience, request).await.is_err(), "it sleeps");
        let other = site.read(&globex, &site.globex).await;
        assert_eq!(other.body, json!(["a note of globex-corp"]), "{other:?}");
    }
    site.is_quiet_soon().await;
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
    // Within its own tenant the injection has its way: that is the application's to mend.
    let request = admin.request(Method::GET, "/notes/search/%27%20OR%20true%20--");
    let answer = send(request.header("x-tenant-id", site.acme.id.to_string())).await;
    assert_eq!(answer.body, json!(["a note of acme-corp"]), "{answer:?}");
}

#[tokio::test]
async fn a_failed_query_of_the_application_tells_the_caller_no_sql() {
    let site = Site::open().await;
    let admin = site.app.log_in(&site.acme.admin_email).await;
    let request = admin.request(Method::GET, "/wrong");
    let answer = send(request.header("x-tenant-id", site.acme.id.to_string())).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(!answer.text.contains("secret_column") && !answer.text.contains("notes"), "{answer:?}");
    assert_ne!(answer.body, Value::Null, "it is in form");
}

#[tokio::test]
async fn the_applications_tables_are_in_every_tenant_and_ours_are_not() {
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
