//! What operators and their tools rely on: health, metrics, request ids, the log, the OpenAPI document,
//! timeouts, and a shutdown that loses no request.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use futures_util::future::join_all;
use reqwest::Method;
use reqwest::header::HeaderValue;
use rowhouse::app::Routes;
use rowhouse::domain::Permission;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::log::{lines_of, log, log_text};
use crate::support::{MigrationLock, PASSWORD, Snapshot, TestApp, provision_command};

const SETUP: &str = "/api/tenant/setup";
const LOGIN: &str = "/api/auth/login";

#[tokio::test]
async fn health_needs_no_credential() {
    let app = TestApp::spawn().await;
    for path in ["/healthz", "/readyz"] {
        let answer = app.anonymous().get(path).await;
        assert_eq!((answer.status, answer.body), (200, json!({ "status": "ok" })), "{path}");
    }
}

#[tokio::test]
async fn a_control_plane_of_another_version_is_not_ready() {
    let app = TestApp::spawn().await;
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
                 VALUES (1000000, 'of_a_newer_program', '', '0')";
    app.sql().await.execute(newer, &[]).await.unwrap();
    let answer = app.anonymous().get("/readyz").await;
    assert_eq!((answer.status, answer.retry_after()), (503, 1), "{answer:?}");
    assert_eq!(app.anonymous().get("/healthz").await.status, 200);
}

#[tokio::test]
async fn every_answer_carries_a_request_id_that_the_server_made_and_no_other_has() {
    let app = TestApp::spawn().await;
    let mut made = BTreeSet::new();
    for path in ["/api/tenant", "/healthz", "/nowhere", SETUP, "/control/v1/tenants"] {
        for given in [&b"abc-123"[..], b"0af7651916cd43dd8448eb211c80319c", b"", b"a b", b"\xff"] {
            let value = HeaderValue::from_bytes(given).expect("the header can be sent");
            let request = app.root().request(Method::GET, path).header("x-request-id", value);
            let answer = send(request).await;
            let id = answer.header("x-request-id").expect("every answer has one").to_owned();
            assert!(id.parse::<Uuid>().is_ok(), "{id:?} for {given:?}");
            assert!(made.insert(id), "an id is given once");
        }
    }
    // An id that the server itself has made is not taken either.
    let first = app.root().get("/api/tenant").await;
    let id = first.header("x-request-id").expect("every answer has one");
    let again = app.root().request(Method::GET, "/api/tenant").header("x-request-id", id);
    assert_ne!(send(again).await.header("x-request-id"), Some(id));
}

#[tokio::test]
async fn the_id_of_a_client_is_logged_beside_the_servers_and_enters_no_audit_event() {
    log();
    let app = TestApp::spawn().await;
    let given = format!("client-{}", Uuid::new_v4().simple());
    let setup = |slug: &str| {
        let request = app.root().request(Method::POST, SETUP).header("x-request-id", &given);
        send(request.json(&TestApp::setup_body(slug)))
    };
    let (one, two) = (setup("one").await, setup("two").await);
    for answer in [&one, &two] {
        assert_eq!(answer.status, 201, "{answer:?}");
        let lines = lines_of(answer);
        assert!(!lines.is_empty());
        assert!(lines.iter().all(|line| line["span"]["request.client_id"] == given), "{lines:?}");
    }
    let events = "SELECT DISTINCT request_id FROM audit_events WHERE action = 'tenant.create'";
    let events = app.sql().await.query(events, &[]).await.unwrap();
    let recorded: BTreeSet<String> = events.iter().map(|row| row.get("request_id")).collect();
    let answered = [&one, &two].map(|answer| answer.header("x-request-id").unwrap().to_owned());
    assert_eq!(recorded, BTreeSet::from(answered));
    // What cannot be written into a log line is left out.
    for bad in [&b"a b"[..], b"caf\xc3\xa9", "x".repeat(129).as_bytes()] {
        let value = HeaderValue::from_bytes(bad).expect("the header can be sent");
        let request = app.root().request(Method::GET, "/api/tenant").header("x-request-id", value);
        let lines = lines_of(&send(request).await);
        assert!(lines.iter().all(|line| line["span"]["request.client_id"].is_null()), "{lines:?}");
    }
}

#[tokio::test]
async fn no_answer_is_cached_or_sniffed() {
    let app = TestApp::spawn().await;
    let login = json!({ "identifier": "x@example.com", "password": PASSWORD });
    for answer in [
        app.root().get("/api/tenant").await,
        app.anonymous().get("/api/tenant").await,
        app.root().post(SETUP, &TestApp::setup_body("acme")).await,
        app.anonymous().post(LOGIN, &login).await,
        app.anonymous().get("/nowhere").await,
        app.anonymous().get("/healthz").await,
    ] {
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
        assert_eq!(answer.header("server"), None, "{answer:?}");
    }
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_show_pools_and_hashes() {
    let app = TestApp::builder().with_routes(application()).spawn().await;
    app.set_up("acme").await;
    app.root().get("/api/tenant?page=1").await;
    app.anonymous().get("/api/tenant").await;
    app.anonymous().get("/secret-path-7").await;
    app.root().request(Method::DELETE, "/api/tenant").send().await.unwrap();
    app.root().request(Method::from_bytes(b"BREW").unwrap(), "/").send().await.unwrap();
    app.anonymous().get("/panic/alice").await;
    let metrics = app.anonymous().get("/metrics").await.text;
    for line in [
        r#"http_requests_total{method="POST",route="/api/tenant/setup",status="201"} 1"#,
        r#"http_requests_total{method="GET",route="/api/tenant",status="200"} 1"#,
        r#"http_requests_total{method="GET",route="/api/tenant",status="401"} 1"#,
        r#"http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
        r#"http_requests_total{method="DELETE",route="/api/tenant",status="405"} 1"#,
        r#"http_requests_total{method="other",route="unmatched",status="404"} 1"#,
        "rowhouse_tenants_provisioned_total 1",
        r#"rowhouse_db_connections_max{purpose="control"}"#,
        // The self-test at startup opened one connection.
        r#"rowhouse_db_connections{purpose="runtime",state="open"} 1"#,
        r#"rowhouse_db_connections{purpose="control",state="waiting"} 0"#,
        r#"rowhouse_password_hashes{state="running"} 0"#,
        r#"rowhouse_password_hashes{state="waiting"} 0"#,
        "rowhouse_password_hashes_computed_total 1",
        "# TYPE http_request_duration_seconds histogram",
        "process_start_time_seconds ",
    ] {
        assert!(metrics.contains(line), "{line} is missing from\n{metrics}");
    }
    for never in ["secret-path-7", "page=1", "alice", "acme", "BREW"] {
        assert!(!metrics.contains(never), "{never} is in\n{metrics}");
    }
    let budget = |purpose: &str| -> usize {
        let line = format!("rowhouse_db_connections_max{{purpose=\"{purpose}\"}} ");
        let count = metrics
            .lines()
            .find_map(|l| l.strip_prefix(&line))
            .expect("the budget is in the metrics");
        count.parse().expect("the budget is a number")
    };
    assert!(budget("control") + budget("runtime") <= 10, "the budgets stay within the setting");
}

/// Routes of an application: one panics, one sleeps, one sets its own cache header.
fn application() -> Routes {
    async fn panics() -> HttpResponse {
        panic!("the handler of a test panics on purpose")
    }
    async fn sleeps() -> HttpResponse {
        tokio::time::sleep(Duration::from_mins(1)).await;
        HttpResponse::Ok().finish()
    }
    async fn cached() -> HttpResponse {
        HttpResponse::Ok().insert_header(("Cache-Control", "max-age=60")).body("kept")
    }
    Arc::new(|config| {
        config
            .route("/panic/{name}", web::get().to(panics))
            .route("/sleep", web::get().to(sleeps))
            .route("/keep", web::get().to(cached));
    })
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_server_continues() {
    let app = TestApp::builder().with_routes(application()).spawn().await;
    for _ in 0..3 {
        let answer = app.root().get("/panic/alice").await;
        assert_eq!(answer.refusal(500), "Internal server error");
        assert!(answer.header("x-request-id").is_some());
        assert!(!answer.text.contains("purpose"), "{answer:?}");
    }
    assert_eq!(app.root().get("/api/tenant").await.status, 200);
    let kept = app.root().get("/keep").await;
    assert_eq!(
        kept.header("cache-control"),
        Some("max-age=60"),
        "an application's own header is kept"
    );
}

#[tokio::test]
async fn a_request_over_the_time_limit_is_a_503() {
    let app = TestApp::builder().with("http.request_timeout", "300ms").with_routes(application());
    let app = app.spawn().await;
    let started = Instant::now();
    let answer = app.root().get("/sleep").await;
    answer.refusal(503);
    assert!(answer.retry_after() >= 1);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(app.root().get("/api/tenant").await.status, 200);
}

#[tokio::test]
async fn a_full_hash_queue_is_a_503_with_retry_after() {
    // Slow hashes, and a queue of one.
    let app = TestApp::builder()
        .with("auth.hash_memory_kib", "32768")
        .with("auth.hash_iterations", "4")
        .with("auth.hash_queue", "1")
        .spawn()
        .await;
    let (root, login) = (app.anonymous(), json!({ "identifier": "x", "password": PASSWORD }));
    let answers = join_all((0..30).map(|_| root.post(LOGIN, &login))).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!refused.is_empty(), "no request was refused");
    for answer in &answers {
        match answer.status {
            503 => {
                answer.refusal(503);
                assert!(answer.retry_after() >= 1);
            }
            _ => assert_eq!(answer.refusal(401), "Invalid email or password"),
        }
    }
    assert!(refused.len() < answers.len(), "at least one request was served");
    // A set-up that is refused for the same reason creates nothing.
    let before = Snapshot::of(&app).await;
    let (busy, setup) = tokio::join!(join_all((0..30).map(|_| root.post(LOGIN, &login))), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        app.root().post(SETUP, &TestApp::setup_body("acme")).await
    });
    drop(busy);
    let after = Snapshot::of(&app).await;
    if setup.status == 201 {
        assert_eq!(after.count("tenants"), 1);
    } else {
        setup.refusal(503);
        assert_eq!(after, before);
    }
    root.post(LOGIN, &login).await.refusal(401);
}

#[tokio::test]
async fn a_shutdown_completes_running_requests_and_accepts_no_new_ones() {
    let (app, lock) =
        MigrationLock::held(TestApp::builder().with("http.shutdown_timeout", "10s")).await;
    let root = app.root();
    let running = tokio::spawn({
        let root = root.clone();
        async move { root.post(SETUP, &TestApp::setup_body("acme")).await }
    });
    lock.wait_for_waiters(1).await;
    let stopped = tokio::spawn(app.stop());
    // The listener closes while the request still runs.
    let address = root.request(Method::GET, "/healthz");
    let mut refused = false;
    for _ in 0..200 {
        let probe =
            address.try_clone().expect("it has no body").timeout(Duration::from_millis(200));
        if probe.send().await.is_err() {
            refused = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(refused, "a stopping server accepts no new connections");
    assert!(!running.is_finished() && !stopped.is_finished());
    lock.release().await;
    assert_eq!(running.await.expect("the request ends").status, 201);
    let database = stopped.await.expect("the server stops");
    assert_eq!(Snapshot::take(&database.connect().await).await.count("tenants"), 1);
    // The next start finds the tenant.
    let next = TestApp::builder().on(database).spawn().await;
    next.log_in("admin@acme.example.com").await;
}

#[tokio::test]
async fn a_request_can_be_found_in_the_log_by_its_id() {
    log();
    let app = TestApp::builder().with_routes(application()).spawn().await;
    let made = app.root().post(SETUP, &TestApp::setup_body("findable")).await;
    let lines = lines_of(&made);
    let created =
        lines.iter().find(|line| line["message"] == "made a tenant").expect("the line is logged");
    assert_eq!((&created["tenant.slug"], &created["level"]), (&json!("findable"), &json!("INFO")));
    assert_eq!(created["span"]["http.route"], SETUP);

    let panicked = app.root().get("/panic/alice").await;
    let errors: Vec<_> =
        lines_of(&panicked).into_iter().filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(errors.len(), 1, "an error is logged once: {errors:?}");
    assert!(!errors[0].to_string().contains("alice"), "a line has the route and not the path");

    app.sql().await.batch_execute("ALTER TABLE tenants RENAME TO away").await.unwrap();
    let failed = app.root().get("/api/tenant").await;
    failed.refusal(500);
    let errors: Vec<_> =
        lines_of(&failed).into_iter().filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(errors.len(), 1, "an error is logged once: {errors:?}");
    let why = errors[0]["error"].as_str().unwrap_or_default();
    assert!(why.contains("list tenant rows") && why.contains("42P01"), "{why}");
}

#[expect(clippy::too_many_lines, reason = "a flat list of requests, best read whole")]
#[tokio::test]
async fn the_log_holds_no_secret_and_no_email_address() {
    log();
    let app = TestApp::builder().with_routes(application()).spawn().await;
    let secret = || Uuid::new_v4().simple().to_string();
    let (password, wrong, email) = (secret(), secret(), format!("{}@example.com", secret()));
    let mut body = TestApp::setup_body("acme");
    body["adminEmail"] = email.as_str().into();
    body["adminPassword"] = password.as_str().into();
    let request = app.root().request(Method::POST, SETUP).header("Idempotency-Key", secret());
    assert_eq!(send(request.json(&body)).await.status, 201);
    let login = json!({ "identifier": email, "password": password });
    let answer = app.anonymous().post(LOGIN, &login).await;
    let access = answer.body["accessToken"].as_str().expect("there is a token").to_owned();
    let set_cookie = answer.header("set-cookie").expect("there is a cookie").to_owned();
    let refresh = set_cookie.split(['=', ';']).nth(1).expect("it has a value").to_owned();
    app.bearer(&access).get("/api/tenant").await;
    let again = app.anonymous().request(Method::POST, "/api/auth/refresh");
    let again = again.header("cookie", format!("refreshToken={refresh}"));
    assert_eq!(send(again.try_clone().expect("it has no body")).await.status, 200);
    send(again).await.refusal(401);
    let (_, api) = app.add_token(&[Permission::ViewTenants], None, None).await;
    api.get("/api/tenant").await;
    let bad = json!({ "identifier": email, "password": wrong });
    app.anonymous().post(LOGIN, &bad).await.refusal(401);
    let broken = format!("{{\"adminEmail\":\"{email}\",\"adminPassword\":\"{wrong}\",}}");
    app.root().post_raw(SETUP, broken).await.refusal(400);

    // A database error whose detail quotes the row: a violated check constraint.
    let sql = app.sql().await;
    let constraint = "ALTER TABLE users ADD CONSTRAINT no_new_users CHECK (false) NOT VALID";
    sql.batch_execute(constraint).await.unwrap();
    let (new_password, new_email) = (secret(), format!("{}@example.com", secret()));
    body["slug"] = "other".into();
    body["adminEmail"] = new_email.as_str().into();
    body["adminPassword"] = new_password.as_str().into();
    let failed = app.root().post(SETUP, &body).await;
    failed.refusal(500);
    let logged = lines_of(&failed).iter().any(|line| line["level"] == "ERROR");
    assert!(logged, "without a log this test proves nothing");

    // Addresses and secrets in a path or a query: found, not found, failed.
    let in_path = format!("{}@example.com", secret());
    let tenant = app.bunker_tenant("globex").await;
    tenant.add(json!({ "email": in_path })).await;
    let read = tenant.admin.request(Method::GET, &format!("/v1/user/email/{in_path}"));
    assert_eq!(send(read.try_clone().expect("it has no body")).await.status, 200);
    for path in ["/v1/user/email/", "/nowhere/", "/control/v1/tenants/", "/api/tenants/", "/panic/"]
    {
        for path in [format!("{path}{in_path}"), format!("{path}x?email={in_path}")] {
            app.root().request(Method::GET, &path).send().await.expect("the server answers");
        }
    }
    let away = format!("ALTER TABLE \"{}\".profiles RENAME TO away", tenant.schema());
    sql.batch_execute(&away).await.unwrap();
    let failed = send(read).await;
    assert_eq!(failed.status, 503, "{failed:?}");
    let line = lines_of(&failed).into_iter().find(|line| line["level"] == "ERROR");
    let line = line.expect("without a line this test proves nothing");
    assert_eq!(line["span"]["http.route"], "/v1/user/{mode}/{identity}");

    let hash: String = sql.query_one("SELECT password_hash FROM users", &[]).await.unwrap().get(0);
    let log = log_text();
    for (what, text) in [
        ("a password", &password),
        ("a wrong password", &wrong),
        ("the password of a set-up that failed", &new_password),
        ("an address", &email),
        ("the address of a set-up that failed", &new_email),
        ("an address in a path", &in_path),
        ("a password's hash", &hash),
        ("an access token", &access),
        ("a refresh token", &refresh),
        ("an API token", &api.token().to_owned()),
        ("the root token", &app.root_token),
        ("the database's URL", &app.database.url()),
    ] {
        let line = log.lines().find(|line| line.contains(text.as_str()));
        assert_eq!(line, None, "{what} is in the log");
    }
    assert!(!log.contains("$argon2id$"), "a hash is in the log");
}

#[test]
fn debug_output_holds_no_password() {
    let command = provision_command("acme");
    assert!(!format!("{command:?}").contains(PASSWORD), "{command:?}");
}

#[tokio::test]
async fn the_openapi_document_is_complete_and_consistent() {
    let app = TestApp::spawn().await;
    let served = app.anonymous().get("/openapi.json").await;
    let document = crate::support::documented::DOCUMENT.clone();
    assert_eq!(served.body, document, "the served document is the library's");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")));
    for key in ["title", "version"] {
        assert!(document["info"][key].as_str().is_some_and(|text| !text.is_empty()), "{key}");
    }
    let mut references = Vec::new();
    find_references(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference points into the document");
        assert!(document.pointer(pointer).is_some(), "{reference} has no target");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("there are paths") {
        for (method, operation) in item.as_object().expect("a path has methods") {
            let here = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some(), "{here} has no summary");
            let id = operation["operationId"].as_str().expect("an operation has an id");
            assert!(ids.insert(id.to_owned()), "{id} twice");
            let responses = operation["responses"].as_object().expect("there are responses");
            assert!(responses.keys().any(|status| status.starts_with('2')), "{here}");
            for (status, response) in responses {
                assert!(response["description"].is_string(), "{here} {status}");
                let has_body = response["content"].is_object();
                assert!(has_body || !status.starts_with('4'), "{here} {status} has no body");
            }
            for requirement in operation["security"].as_array().into_iter().flatten() {
                for scheme in requirement.as_object().expect("a requirement is an object").keys() {
                    assert!(
                        document["components"]["securitySchemes"][scheme].is_object(),
                        "{here}"
                    );
                }
            }
            let secured = operation["security"].is_array();
            // Databunker's dialect answers 403 to an unknown caller.
            let refuses = responses.contains_key("401") || responses.contains_key("403");
            // A log-in takes no credential, and an invitation is accepted with one or without.
            let is_open = ["login", "acceptInvitation"].contains(&id);
            assert_eq!(secured, refuses && !is_open, "{here}");
        }
    }
    let fields = &document["components"]["schemas"]["SetupBody"]["required"];
    assert_eq!(fields.as_array().map(Vec::len), Some(6), "all six are required: {fields}");
    let fields = &document["components"]["schemas"]["LoginBody"]["required"];
    assert_eq!(fields, &json!(["identifier", "password"]));
}

/// Generators make an enumeration of Python from a list of words or a pattern of words, and each of its members must differ
/// from the methods that a text has there. `replace` is left out: RFC 6902 names an operation of a patch so.
#[test]
fn no_word_of_the_openapi_document_is_a_method_of_pythons_texts() {
    const METHODS: [&str; 20] = [
        "capitalize",
        "casefold",
        "center",
        "count",
        "encode",
        "endswith",
        "expandtabs",
        "find",
        "format",
        "index",
        "join",
        "lower",
        "partition",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "title",
        "translate",
        "upper",
    ];
    let document = crate::support::documented::DOCUMENT.clone();
    let mut words = Vec::new();
    find_words(&document, &mut words);
    assert!(words.iter().any(|word| word == "bytes"), "patterns are looked at: {words:?}");
    assert!(words.iter().any(|word| word == "suspended"), "lists are looked at: {words:?}");
    words.retain(|word| METHODS.contains(&word.as_str()));
    assert!(words.is_empty(), "{words:?}");
}

/// Collects the words of `enum` and of patterns that are a choice of words.
fn find_words(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("enum", Value::Array(words)) => {
                        found.extend(words.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    ("pattern", Value::String(pattern)) => {
                        let choice = pattern.trim_matches(['^', '$', '(', ')']);
                        found.extend(choice.split('|').map(str::to_owned));
                    }
                    _ => find_words(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| find_words(item, found)),
        _ => {}
    }
}

fn find_references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str() {
                    Some(reference) if name == "$ref" => found.push(reference),
                    _ => find_references(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| find_references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn an_answer_is_compressed_for_a_client_that_accepts_gzip() {
    let app = TestApp::spawn().await;
    let get = app.anonymous().request(Method::GET, "/openapi.json");
    let compressed = get.header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(compressed.headers()["content-encoding"], "gzip");
    let compressed = compressed.bytes().await.unwrap();
    assert_eq!(&compressed[..2], [0x1f, 0x8b]);
    assert!(compressed.len() < app.anonymous().get("/openapi.json").await.text.len());
}
