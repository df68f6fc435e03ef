//! An application on the crate: its tables, routes, permissions, settings, jobs and hooks beside ours.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::{HttpResponse, get, post, web};
use futures_util::TryStreamExt;
use reqwest::Method;
use rowhouse::app::App;
use rowhouse::config::Settings;
use rowhouse::{
    Application, Context, Dialect, Failure, OnViolation, Problem, Read, SharedTx, TenantTx, Write,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::scoped::add_member;
use crate::support::{Answer, Caller, TestApp, TestDatabase, TestTenant, settings_for};

#[derive(utoipa::OpenApi)]
#[openapi(paths(list, add))]
struct ApiDoc;

#[derive(serde::Deserialize, utoipa::ToSchema)]
struct NewNote {
    title: String,
}

#[utoipa::path(security(("bearer" = [])), responses((status = 200, description = "The titles", body = Vec<String>)))]
#[get("/notes")]
async fn list(Read(tx): Read) -> Result<HttpResponse, Problem> {
    let rows = tx.query_and_commit("SELECT title FROM notes ORDER BY title", &[]).await?;
    Ok(HttpResponse::Ok().json(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()))
}

#[utoipa::path(request_body = NewNote, security(("bearer" = [])), responses((status = 201, description = "Added")))]
#[post("/notes")]
async fn add(Write(tx): Write, note: web::Json<NewNote>) -> Result<HttpResponse, Problem> {
    tx.caller().require("NOTES_WRITE")?;
    insert(&tx, &note.title).await.on_violation("notes_title_key", "title_taken")?;
    tx.commit().await?;
    Ok(HttpResponse::Created().finish())
}

async fn insert(tx: &TenantTx, title: &str) -> Result<u64, Failure> {
    let sql = "INSERT INTO notes (id, title) VALUES ($1, $2)";
    tx.execute(sql, &[&Uuid::now_v7(), &title]).await
}

#[get("/notes/{id}")]
async fn one(tx: TenantTx, id: web::Path<Uuid>) -> Result<HttpResponse, Problem> {
    let found = tx.query_opt("SELECT title FROM notes WHERE id = $1", &[&*id]).await?;
    let found = found.ok_or(Problem::not_found("note"))?;
    Ok(HttpResponse::Ok().json(found.get::<_, String>(0)))
}

#[derive(serde::Deserialize)]
struct Wanted {
    limit: i64,
}

#[get("/limited")]
async fn limited(_tx: TenantTx, wanted: web::Query<Wanted>) -> HttpResponse {
    HttpResponse::Ok().json(wanted.limit)
}

#[get("/here")]
async fn here(tx: TenantTx) -> Result<HttpResponse, Problem> {
    let settings: Value = tx.tenant().settings()?;
    Ok(HttpResponse::Ok().json(json!({
        "id": tx.tenant().id().uuid(),
        "slug": tx.tenant().slug(),
        "name": tx.tenant().name(),
        "settings": settings,
        "user": tx.caller().user(),
        "token": tx.caller().token(),
        "role": tx.caller().role(),
        "may": tx.caller().may("NOTES_WRITE"),
        "members": tx.caller().may("MANAGE_MEMBERS"),
        "now": tx.now().unix_timestamp(),
    })))
}

#[post("/parts")]
async fn parts(Write(tx): Write) -> Result<HttpResponse, Problem> {
    for title in ["a", "b", "c"] {
        insert(&tx, title).await?;
    }
    let undone = tx.savepoint(async || insert(&tx, "a").await).await;
    let kept = tx.savepoint(async || insert(&tx, "d").await).await?;
    let sql = "SELECT title FROM notes WHERE title > $1 ORDER BY title";
    let streamed: Vec<_> = tx.query_raw(sql, &[&"a"]).await?.try_collect().await?;
    let portal = tx.portal(sql, &[&"a"]).await?;
    let (first, second) = (portal.fetch(2).await?, portal.fetch(2).await?);
    portal.close().await?;
    tx.commit().await?;
    let sizes = [streamed.len(), first.len(), second.len()];
    Ok(HttpResponse::Ok().json(json!({ "undone": undone.is_err(), "kept": kept, "sizes": sizes })))
}

#[get("/plans")]
async fn plans(Read(tx): Read<SharedTx>) -> Result<HttpResponse, Problem> {
    let rows = tx.query("SELECT name FROM plans ORDER BY name", &[]).await?;
    Ok(HttpResponse::Ok().json(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()))
}

#[post("/plans/{name}")]
async fn add_plan(
    Write(tx): Write<SharedTx>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    tx.execute("INSERT INTO plans (name) VALUES ($1)", &[&*name]).await?;
    tx.commit().await?;
    Ok(HttpResponse::Created().finish())
}

/// Runs a statement from the caller in the shared scope, as an injection would.
#[post("/shared-sql")]
async fn shared_sql(Write(tx): Write<SharedTx>, sql: String) -> Result<HttpResponse, Problem> {
    let rows = tx.query(&sql, &[]).await?;
    Ok(HttpResponse::Ok().json(rows.len()))
}

/// Reads in one transaction while another one of the same request writes.
#[post("/two")]
async fn two(reading: TenantTx, Write(writing): Write) -> Result<HttpResponse, Problem> {
    let count = async |tx: &TenantTx| {
        let row = tx.query_one("SELECT count(*) FROM notes", &[]).await?;
        Ok::<i64, Problem>(row.get(0))
    };
    let before = count(&reading).await?;
    insert(&writing, "two").await?;
    let (outside, inside) = (count(&reading).await?, count(&writing).await?);
    writing.commit().await?;
    Ok(HttpResponse::Ok().json([before, outside, inside]))
}

#[derive(serde::Deserialize)]
struct Other {
    tenant: Uuid,
}

/// Calls the server for another tenant while a transaction in the caller's is open.
#[get("/across")]
async fn across(
    tx: TenantTx,
    request: actix_web::HttpRequest,
    other: web::Query<Other>,
) -> Result<HttpResponse, Problem> {
    let before: String = tx.query_one("SELECT current_schema()::text", &[]).await?.get(0);
    let header = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.expect("the test sends it").to_owned()
    };
    let answer = reqwest::Client::new()
        .get(format!("http://{}/here", header("host")))
        .header("authorization", header("authorization"))
        .header("x-tenant-id", other.tenant.to_string())
        .send()
        .await
        .map_err(|error| Problem::internal("call another tenant", error))?;
    let there: Value = answer.json().await.map_err(|e| Problem::internal("read it", e))?;
    let after: String = tx.query_one("SELECT current_schema()::text", &[]).await?.get(0);
    Ok(HttpResponse::Ok().json(json!({ "before": before, "after": after, "there": there["slug"] })))
}

#[derive(Debug, serde::Deserialize)]
#[serde(default)]
struct OwnSettings {
    page_size: u32,
}

impl Default for OwnSettings {
    fn default() -> Self {
        Self { page_size: 20 }
    }
}

#[get("/page-size")]
async fn page_size(settings: web::Data<OwnSettings>) -> HttpResponse {
    HttpResponse::Ok().json(settings.page_size)
}

async fn seed(tx: &TenantTx) -> Result<(), Problem> {
    match tx.tenant().slug() {
        "refused" => return Err(Problem::conflict("no_seed")),
        "panics" => std::panic::resume_unwind(Box::new("a hook of an application")),
        _ => {}
    }
    let rows = tx.query("SELECT current_user::text, current_schema()::text", &[]).await?;
    let (role, schema): (String, String) = (rows[0].get(0), rows[0].get(1));
    insert(tx, &format!("{role} in {schema}")).await?;
    Ok(())
}

fn mount(config: &mut web::ServiceConfig) {
    config
        .service(list)
        .service(add)
        .service(limited)
        .service(here)
        .service(parts)
        .service(plans)
        .service(add_plan)
        .service(shared_sql)
        .service(page_size)
        .service(two)
        .service(across)
        .service(one);
}

fn bare() -> Application {
    Application::new("notes")
        .tenant_migrations(rowhouse::embed_migrations!("tests/fixtures/application/tenant"))
        .public_migrations(rowhouse::embed_migrations!("tests/fixtures/application/public"))
        .permissions(["NOTES_WRITE"])
        .routes::<ApiDoc>(mount)
        .settings::<OwnSettings>("app")
}

async fn inside(caller: &Caller, method: Method, path: &str, tenant: &TestTenant) -> Answer {
    send(caller.request(method, path).header("x-tenant-id", tenant.id.to_string())).await
}

async fn write(caller: &Caller, tenant: &TestTenant, path: &str, body: &Value) -> Answer {
    let request = caller.request(Method::POST, path).json(body);
    send(request.header("x-tenant-id", tenant.id.to_string())).await
}

#[tokio::test]
async fn a_handler_knows_its_tenant_its_caller_and_the_time() {
    let app = TestApp::builder().with_application(&bare()).with_stopped_clock().spawn().await;
    let acme = app.set_up("acme-corp").await;
    let id = acme.id.to_string();
    let settings = r#"UPDATE tenants SET settings = '{"plan":"pro"}' WHERE slug = 'acme-corp'"#;
    app.sql().await.execute(settings, &[]).await.expect("it can be changed");
    let admin = app.log_in(&acme.admin_email).await;
    let answer = inside(&admin, Method::GET, "/here", &acme).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["id"], id);
    assert_eq!(answer.body["slug"], "acme-corp");
    assert_eq!(answer.body["name"], "Tenant acme-corp");
    assert_eq!(answer.body["settings"], json!({ "plan": "pro" }));
    assert_eq!(answer.body["role"], "ADMIN");
    assert_eq!((&answer.body["may"], &answer.body["members"]), (&json!(true), &json!(true)));
    assert!(answer.body["user"].is_string() && answer.body["token"].is_null(), "{answer:?}");
    assert_eq!(answer.body["now"], app.clock.now().unix_timestamp());
}

#[tokio::test]
async fn a_permission_of_the_application_is_held_from_the_role_on_that_the_settings_name() {
    for (role, fde, viewer) in [("ADMIN", 403, 403), ("fde", 201, 403)] {
        let app = TestApp::builder()
            .with_application(&bare())
            .with("permissions.notes_write", role)
            .spawn()
            .await;
        let acme = app.set_up("acme-corp").await;
        let admin = app.log_in(&acme.admin_email).await;
        assert_eq!(write(&admin, &acme, "/notes", &json!({ "title": "a" })).await.status, 201);
        for (member, expected) in [("FDE", fde), ("VIEWER", viewer)] {
            let email = format!("{member}@example.com").to_lowercase();
            add_member(&app, &acme, &email, member).await;
            let caller = app.log_in(&email).await;
            let answer = write(&caller, &acme, "/notes", &json!({ "title": member })).await;
            assert_eq!(answer.status, expected, "{role} {member} {answer:?}");
            if member == "FDE" && expected == 403 {
                assert_eq!(answer.body["message"], "Missing permission: NOTES_WRITE");
            }
        }
    }
}

#[tokio::test]
async fn the_problems_of_an_application_and_bad_requests_are_answered_in_the_native_form() {
    let app = TestApp::builder().with_application(&bare()).spawn().await;
    let acme = app.set_up("acme-corp").await;
    let admin = app.log_in(&acme.admin_email).await;
    let note = json!({ "title": "Work" });
    assert_eq!(write(&admin, &acme, "/notes", &note).await.status, 201);
    let taken = write(&admin, &acme, "/notes", &note).await;
    assert_eq!((taken.status, &taken.body["code"]), (409, &json!("title_taken")), "{taken:?}");
    assert_eq!(taken.body["message"], "Title taken");
    let path = format!("/notes/{}", Uuid::new_v4());
    let missing = inside(&admin, Method::GET, &path, &acme).await;
    assert_eq!((missing.status, &missing.body["message"]), (404, &json!("Note not found")));

    let raw = |body: &'static str| {
        let request = admin.request(Method::POST, "/notes").body(body);
        let request = request.header("content-type", "application/json");
        send(request.header("x-tenant-id", acme.id.to_string()))
    };
    let malformed = raw("{\"title\": ").await;
    assert_eq!((malformed.status, &malformed.body["statusCode"]), (400, &json!(400)));
    let absent = raw("{}").await;
    assert_eq!(absent.status, 400, "{absent:?}");
    assert_eq!(absent.body["errors"][0]["field"], "title");
    assert_eq!(absent.body["errors"][0]["code"], "required");
    let wrong = raw("{\"title\": 5}").await;
    assert_eq!(wrong.body["errors"][0]["code"], "wrong_type", "{wrong:?}");
    let path = inside(&admin, Method::GET, "/notes/not-a-uuid", &acme).await;
    assert_eq!((path.status, &path.body["statusCode"]), (404, &json!(404)), "{path:?}");
    for query in ["/limited", "/limited?limit=many"] {
        let query = inside(&admin, Method::GET, query, &acme).await;
        assert_eq!((query.status, &query.body["statusCode"]), (400, &json!(400)), "{query:?}");
    }
}

#[tokio::test]
async fn a_part_of_a_transaction_can_fail_and_a_large_result_is_read_in_portions() {
    let app = TestApp::builder().with_application(&bare()).spawn().await;
    let acme = app.set_up("acme-corp").await;
    let admin = app.log_in(&acme.admin_email).await;
    let answer = write(&admin, &acme, "/parts", &json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body, json!({ "undone": true, "kept": 1, "sizes": [3, 2, 1] }));
    let notes = inside(&admin, Method::GET, "/notes", &acme).await;
    assert_eq!(notes.body, json!(["a", "b", "c", "d"]));
}

#[tokio::test]
async fn transactions_that_are_open_at_the_same_time_stay_apart() {
    let app = TestApp::builder()
        .with_application(&bare())
        .with("database.max_connections", "20")
        .spawn()
        .await;
    let (acme, globex) = (app.set_up("acme-corp").await, app.set_up("globex-corp").await);
    let admin = app.log_in(&acme.admin_email).await;
    let answer = write(&admin, &acme, "/two", &json!({})).await;
    assert_eq!((answer.status, &answer.body), (200, &json!([0, 0, 1])), "{answer:?}");
    let path = format!("/across?tenant={}", globex.id);
    let answer = inside(&app.root(), Method::GET, &path, &acme).await;
    let schema = acme.schema();
    let expected = json!({ "before": schema, "after": schema, "there": "globex-corp" });
    assert_eq!((answer.status, &answer.body), (200, &expected), "{answer:?}");
}

#[tokio::test]
async fn the_shared_scope_sees_its_own_tables_and_neither_the_control_plane_nor_a_tenant() {
    let app = TestApp::builder().with_application(&bare()).spawn().await;
    let acme = app.set_up("acme-corp").await;
    let admin = app.log_in(&acme.admin_email).await;
    assert_eq!(inside(&admin, Method::POST, "/plans/pro", &acme).await.status, 201);
    let names = inside(&admin, Method::GET, "/plans", &acme).await;
    assert_eq!(names.body, json!(["free", "pro"]));
    let sql = |text: String| send(admin.request(Method::POST, "/shared-sql").body(text));
    // The application's own table of that name is empty, and ours is not.
    let own = sql("SELECT id FROM tenants".to_owned()).await;
    assert_eq!((own.status, &own.body), (200, &json!(0)), "{own:?}");
    assert_eq!(
        app.root().get("/control/v1/tenants").await.body["data"].as_array().map(Vec::len),
        Some(1)
    );
    for text in [
        "SELECT id FROM public.tenants".to_owned(),
        "SELECT 1 FROM public.users".to_owned(),
        format!("SELECT 1 FROM {}.notes", acme.schema()),
        "SET ROLE rowhouse_runtime".to_owned(),
        "WITH x AS (SELECT set_config('role', 'none', false)) SELECT 1 FROM x, public.users"
            .to_owned(),
    ] {
        let refused = sql(text.clone()).await;
        assert!(refused.status >= 500, "{text}: {refused:?}");
    }
    // Nor does a tenant see the shared tables.
    let tenant = app.services.tenants.list(&app.operator()).await.expect("it can be listed");
    assert_eq!(tenant.len(), 1);
}

#[tokio::test]
async fn a_hook_runs_as_the_new_tenant_and_a_failing_one_fails_the_set_up_whole() {
    let application = bare().on_tenant_created(seed);
    for vacancies in ["0", "2"] {
        let app = TestApp::builder()
            .with_application(&application)
            .with("tenants.vacancies", vacancies)
            .spawn()
            .await;
        let acme = app.set_up("acme-corp").await;
        let admin = app.log_in(&acme.admin_email).await;
        let notes = inside(&admin, Method::GET, "/notes", &acme).await;
        let schema = acme.schema();
        assert_eq!(notes.body, json!([format!("{schema} in {schema}")]), "{notes:?}");
        for slug in ["refused", "panics"] {
            let refused = app.root().post("/api/tenant/setup", &TestApp::setup_body(slug)).await;
            assert_eq!(refused.status, 500, "{refused:?}");
            let command = crate::support::provision_command(slug);
            let error = app.services.provisioning.provision(&app.operator(), command).await;
            let chain = error.expect_err("the hook fails").chain();
            assert!(chain.contains("seed"), "{chain}");
        }
        let listed = app.root().get("/control/v1/tenants").await;
        assert_eq!(listed.body["data"].as_array().map(Vec::len), Some(1), "{listed:?}");
        let users = app.superuser_sql().await;
        let users = users.query_one("SELECT count(*) FROM users WHERE email LIKE '%refused%'", &[]);
        assert_eq!(users.await.expect("they can be counted").get::<_, i64>(0), 0);
        // The slug is free again.
        assert_eq!(app.set_up("refused-2").await.slug, "refused-2");
    }
}

#[tokio::test]
async fn dialects_that_are_not_chosen_answer_404_and_are_not_in_the_document() {
    let application = bare().dialects([Dialect::Reten, Dialect::Control]);
    let app = TestApp::builder().with_application(&application).spawn().await;
    let acme = app.set_up("acme-corp").await;
    for (method, path) in [
        (Method::POST, "/v2/TenantCreate"),
        (Method::POST, "/v2/UserGet"),
        (Method::POST, "/v1/tenant"),
        (Method::POST, "/api/tenants"),
    ] {
        // Not held against the document of a whole server, which has these routes.
        let answer = app.root().request(method, path).json(&json!({})).send().await;
        let answer = answer.expect("the server answers");
        assert_eq!(answer.status(), 404, "{path}");
        let body: Value = answer.json().await.expect("it is JSON");
        assert_eq!(body["statusCode"], 404, "{path}: {body}");
    }
    let document = app.anonymous().get("/openapi.json").await.body;
    let paths = document["paths"].as_object().expect("it has paths");
    assert!(paths.contains_key("/notes") && paths.contains_key("/api/tenant/setup"));
    assert!(paths.contains_key("/control/v1/tenants"));
    let gone = |path: &&String| {
        path.starts_with("/v1") || path.starts_with("/v2") || *path == "/api/tenants"
    };
    assert_eq!(paths.keys().find(gone), None);
    // What the application's operations share with ours is added to them.
    let responses = document["paths"]["/notes"]["post"]["responses"].as_object();
    assert!(
        responses.is_some_and(|all| ["401", "413", "503"].iter().all(|s| all.contains_key(*s)))
    );
    let wrong_method = send(app.root().request(Method::DELETE, "/notes")).await;
    assert_eq!(wrong_method.status, 405, "{wrong_method:?}");
    drop(acme);
}

#[tokio::test]
async fn a_route_on_tables_that_tenants_lack_is_not_mounted() {
    let notes = rowhouse::embed_migrations!("tests/fixtures/application/tenant");
    let application = bare().tenant_migrations(notes.instead_of_built_in());
    let app = TestApp::builder().with_application(&application).spawn().await;
    let acme = app.set_up("acme-corp").await;
    let admin = app.log_in(&acme.admin_email).await;
    assert_eq!(inside(&admin, Method::GET, "/notes", &acme).await.body, json!([]));
    for path in ["/v2/UserGet", "/v2/UserCreate", "/v2/SystemGetSystemStats", "/v1/user"] {
        let answer = send(app.root().request(Method::POST, path).json(&json!({}))).await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    let tenants =
        send(app.root().request(Method::POST, "/v2/TenantListTenants").json(&json!({}))).await;
    assert_ne!(tenants.status, 500, "{tenants:?}");
    let document = app.anonymous().get("/openapi.json").await.body;
    assert!(document["paths"].get("/v2/UserGet").is_none());
    assert!(document["paths"].get("/v2/TenantCreate").is_some());
}

#[tokio::test]
async fn the_settings_of_an_application_are_read_and_a_misspelt_one_is_named() {
    let app = TestApp::builder().with_application(&bare()).with("app.page_size", "7").spawn().await;
    assert_eq!(app.anonymous().get("/page-size").await.body, json!(7));
    let database = TestDatabase::create().await;
    for (key, value, words) in [
        ("app.page_sise", "7", "app.page_sise: no such setting"),
        ("app.page_size", "many", "app:"),
        ("permissions.notes_write", "KING", "permissions.NOTES_WRITE"),
    ] {
        let mut values = settings_for(&database.url());
        values.push((key, value.to_owned()));
        let settings = Settings::from_values(&values).expect("ours are good");
        let refused = App::build(settings, bare().options()).await.err().expect("it is refused");
        assert!(refused.to_string().contains(words), "{refused}");
    }
}

#[tokio::test]
async fn what_an_application_adds_must_not_contradict_ours() {
    let database = TestDatabase::create().await;
    async fn never(_: Context) -> Result<(), Problem> {
        Ok(())
    }
    for (application, words) in [
        (bare().permissions(["WRITE_PROFILES"]), "WRITE_PROFILES"),
        (bare().every("sweep", "often", never), "often"),
        (bare().every("sweep", "1h", never).every("sweep", "2h", never), "two jobs"),
        (bare().settings::<OwnSettings>("http"), "[http]"),
    ] {
        let settings = Settings::from_values(&settings_for(&database.url())).expect("good");
        let refused = App::build(settings, application.options()).await.err().expect("refused");
        assert!(refused.to_string().contains(words), "{refused}");
    }
}

static RUNS: AtomicUsize = AtomicUsize::new(0);
static TENANTS: AtomicUsize = AtomicUsize::new(0);

async fn count_runs(context: Context) -> Result<(), Problem> {
    RUNS.fetch_add(1, Ordering::SeqCst);
    let report = context
        .for_each_tenant(2, async |tx: TenantTx| {
            if tx.tenant().slug() == "globex-corp" {
                return Err(Problem::conflict("not_here"));
            }
            insert(&tx, "swept").await?;
            Ok(tx.commit().await?)
        })
        .await?;
    assert_eq!((report.done.len(), report.failed.len()), (1, 1));
    TENANTS.fetch_add(report.done.len(), Ordering::SeqCst);
    Ok(())
}

#[tokio::test]
async fn of_all_servers_one_runs_a_job_and_it_reports_each_tenant() {
    let plain = TestApp::builder().with_application(&bare()).spawn().await;
    let (acme, _globex) = (plain.set_up("acme-corp").await, plain.set_up("globex-corp").await);
    let admin = plain.log_in(&acme.admin_email).await;
    let application = bare().every("count_runs", "1h", count_runs);
    let clock = plain.clock.clone();
    let server = || TestApp::builder().with_application(&application).with_clock(&clock);
    let first = server().on(plain.database.clone()).spawn().await;
    let second = server().on(plain.database.clone()).spawn().await;
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while TENANTS.load(Ordering::SeqCst) == 0 && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Both servers have asked by then, at their start.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(RUNS.load(Ordering::SeqCst), 1);
    assert_eq!(inside(&admin, Method::GET, "/notes", &acme).await.body, json!(["swept"]));
    drop((first, second));
}

#[tokio::test]
async fn the_metrics_of_an_application_are_among_ours() {
    let application = bare().metrics(|registry| {
        let pages = prometheus_client::metrics::counter::Counter::<u64>::default();
        pages.inc_by(3);
        registry.register("notes_pages", "Pages", pages);
    });
    let app = TestApp::builder().with_application(&application).spawn().await;
    let metrics = app.anonymous().get("/metrics").await.text;
    assert!(metrics.contains("notes_pages_total 3"), "{metrics}");
    assert!(metrics.contains("rowhouse_db_connections"), "{metrics}");
}

#[tokio::test]
async fn every_type_of_the_driver_can_be_bound_and_read() {
    let app = TestApp::builder().with_application(&bare()).spawn().await;
    let acme = app.set_up("acme-corp").await;
    let which = rowhouse::service::tenants::TenantRef::IdOrSlug(acme.slug.clone());
    let (_, tx) = app.services.tenants.open(&app.operator(), &which).await.expect("it is there");
    let now = app.clock.now();
    let (date, time) = (now.date(), now.time().replace_nanosecond(0).expect("it is a time"));
    let address: std::net::IpAddr = "::1".parse().expect("an address");
    let row = tx
        .query_one(
            "SELECT $1::\"char\", $2::float4, $3::oid, $4::date, $5::time, $6::timestamp, $7::inet, $8::bool[],
                    $9::float8[], $10::jsonb, $11::date, $12::text",
            &[
                &1_i8,
                &1.5_f32,
                &7_u32,
                &date,
                &time,
                &time::PrimitiveDateTime::new(date, time),
                &address,
                &vec![true, false],
                &vec![0.5, 1.5],
                &rowhouse::types::Json(json!({ "a": 1 })),
                &None::<time::Date>,
                &std::borrow::Cow::Borrowed("text"),
            ],
        )
        .await
        .expect("they can be bound");
    assert_eq!((row.get::<_, i8>(0), row.get::<_, f32>(1), row.get::<_, u32>(2)), (1, 1.5, 7));
    assert_eq!((row.get::<_, time::Date>(3), row.get::<_, time::Time>(4)), (date, time));
    assert_eq!(row.get::<_, std::net::IpAddr>(6), address);
    assert_eq!(row.get::<_, Vec<f64>>(8), [0.5, 1.5]);
    assert_eq!(row.get::<_, Option<time::Date>>(10), None);
    assert_eq!(row.get::<_, &str>(11), "text");
}

#[tokio::test]
async fn a_job_has_one_lease_which_ends_with_its_run_or_with_its_server() {
    let app = TestApp::builder().with_application(&bare()).spawn().await;
    let leases = &app.services.leases;
    let at = |seconds: i64| {
        let mut ctx = app.operator();
        ctx.now += time::Duration::seconds(seconds);
        ctx
    };
    let first = leases.claim(&at(0), "sweep").await.expect("it can be asked");
    let first = first.expect("it is due");
    assert_eq!(leases.claim(&at(1), "sweep").await.expect("it can be asked"), None);
    // Another job is another lease.
    assert!(leases.claim(&at(1), "other").await.expect("it can be asked").is_some());
    assert!(leases.renew(&at(20), "sweep", first).await.expect("it can be renewed"));
    assert_eq!(leases.claim(&at(45), "sweep").await.expect("it can be asked"), None);
    // The server that ran it is gone.
    let second = leases.claim(&at(51), "sweep").await.expect("it can be asked");
    let second = second.expect("the lease has ended");
    assert!(!leases.renew(&at(52), "sweep", first).await.expect("it can be asked"));
    leases.finish(&at(53), "sweep", first, at(54).now, true).await.expect("nothing happens");
    assert_eq!(leases.claim(&at(54), "sweep").await.expect("it can be asked"), None);
    leases.finish(&at(60), "sweep", second, at(3660).now, true).await.expect("it is finished");
    assert_eq!(leases.claim(&at(3600), "sweep").await.expect("it can be asked"), None);
    assert!(leases.claim(&at(3661), "sweep").await.expect("it can be asked").is_some());
}
