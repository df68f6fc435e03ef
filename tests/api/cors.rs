//! Cross-origin requests: the origins that are allowed, and the headers that their browsers receive.

use actix_web::web;
use reqwest::header::HeaderName;
use reqwest::{Method, RequestBuilder};
use rowhouse::app::Routes;
use rowhouse::config::Settings;
use serde_json::json;

use crate::support::callers::send;
use crate::support::{Answer, Caller, TestApp};

const APP: &str = "https://app.example.com";
const LOCAL: &str = "http://localhost:5173";

async fn spawn_with_origins() -> TestApp {
    TestApp::builder().with("http.cors_origins", format!("{APP}, {LOCAL}")).spawn().await
}

fn request_from(caller: &Caller, origin: &str, method: Method, path: &str) -> RequestBuilder {
    caller.request(method, path).header("origin", origin)
}

/// Sends the preflight that a browser sends before a request with its own headers or method.
async fn preflight(app: &TestApp, origin: &str, path: &str, method: &str, headers: &str) -> Answer {
    let request = request_from(&app.anonymous(), origin, Method::OPTIONS, path)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", headers);
    send(request).await
}

/// Returns the items of a comma-separated header, lower-case and sorted.
fn items(answer: &Answer, header: &str) -> Vec<String> {
    let list = answer.header(header).unwrap_or_else(|| panic!("no {header} in {answer:?}"));
    let mut items: Vec<_> = list.split(',').map(|item| item.trim().to_lowercase()).collect();
    items.sort();
    items
}

#[track_caller]
fn assert_allows(answer: &Answer, origin: &str) {
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"), "{answer:?}");
    assert!(items(answer, "vary").contains(&"origin".to_owned()), "{answer:?}");
}

#[tokio::test]
async fn no_other_origin_is_allowed_by_default() {
    let app = TestApp::spawn().await;
    let asked = preflight(&app, APP, "/api/tenant", "GET", "authorization").await;
    assert_eq!(asked.status, 204);
    let got = send(request_from(&app.root(), APP, Method::GET, "/api/tenant")).await;
    assert_eq!(got.status, 200);
    for answer in [asked, got] {
        let found: Vec<_> = answer.headers.keys().map(HeaderName::as_str).collect();
        assert!(!found.iter().any(|name| name.starts_with("access-control")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_preflight_is_answered_without_a_credential() {
    let app = spawn_with_origins().await;
    for (path, method) in [
        ("/api/auth/login", "POST"),
        ("/api/tenant", "GET"),
        ("/v2/TenantCreate", "POST"),
        ("/api/tenants", "POST"),
        ("/control/v1/tenants/00000000-0000-0000-0000-000000000000", "PATCH"),
    ] {
        let sent = "authorization, content-type, x-tenant-id, x-api-key, idempotency-key, if-match, \
                    x-bunker-token, x-bunker-tenant, x-request-id";
        let answer = preflight(&app, APP, path, method, sent).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_allows(&answer, APP);
        assert_eq!(answer.header("access-control-max-age"), Some("3600"));
        let allowed = items(&answer, "access-control-allow-headers");
        for header in sent.split(", ") {
            assert!(allowed.contains(&header.to_owned()), "{header} is not among {allowed:?}");
        }
        let methods = items(&answer, "access-control-allow-methods");
        assert_eq!(methods, ["delete", "get", "head", "patch", "post", "put"]);
        assert!(answer.header("x-request-id").is_some(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_preflight_counts_towards_no_limit() {
    let app = TestApp::builder()
        .with_stopped_clock()
        .with("http.cors_origins", APP)
        .with("limits.login_pair", "1/1")
        .with("limits.login_address", "1/1")
        .with("limits.token_address", "1/1")
        .spawn()
        .await;
    for _ in 0..5 {
        let answer = preflight(&app, APP, "/api/auth/login", "POST", "content-type").await;
        assert_eq!(answer.status, 200);
    }
    let body = json!({ "identifier": "a@example.com", "password": "wrong-password" });
    let request = request_from(&app.anonymous(), APP, Method::POST, "/api/auth/login");
    assert_eq!(send(request.json(&body)).await.status, 401);
}

#[tokio::test]
async fn every_answer_carries_the_headers_that_let_an_allowed_page_read_it() {
    let app = TestApp::builder()
        .with_stopped_clock()
        .with("http.cors_origins", format!("{APP},{LOCAL}"))
        .with("http.max_body_bytes", "1024")
        .with("limits.token_address", "1/1")
        .with_routes(failing_routes())
        .spawn()
        .await;
    let (root, anonymous, forged) = (app.root(), app.anonymous(), app.bearer("not-a-token"));
    let large = || web::Bytes::from(vec![b'x'; 4096]);
    for (status, request) in [
        (200, request_from(&root, LOCAL, Method::GET, "/api/tenant")),
        (401, request_from(&anonymous, LOCAL, Method::GET, "/api/tenant")),
        (401, request_from(&forged, LOCAL, Method::GET, "/api/tenant")),
        (429, request_from(&forged, LOCAL, Method::GET, "/api/tenant")),
        (404, request_from(&root, LOCAL, Method::GET, "/nowhere")),
        (405, request_from(&root, LOCAL, Method::DELETE, "/api/tenant")),
        (400, request_from(&root, LOCAL, Method::POST, "/api/tenant/setup").body("{")),
        (413, request_from(&root, LOCAL, Method::POST, "/api/tenant/setup").body(large())),
        (403, request_from(&anonymous, LOCAL, Method::POST, "/v2/TenantGet").body("{}")),
        (401, request_from(&anonymous, LOCAL, Method::GET, "/api/tenants/x")),
        (401, request_from(&anonymous, LOCAL, Method::GET, "/control/v1/tenants")),
        (500, request_from(&root, LOCAL, Method::GET, "/panics")),
    ] {
        let answer = send(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_readable(&answer);
    }
    let app = TestApp::builder()
        .with("http.cors_origins", LOCAL)
        .with("http.request_timeout", "300ms")
        .with_routes(failing_routes())
        .spawn()
        .await;
    let answer = send(request_from(&app.anonymous(), LOCAL, Method::GET, "/forever")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_readable(&answer);
}

#[track_caller]
fn assert_readable(answer: &Answer) {
    assert_allows(answer, LOCAL);
    let exposed = items(answer, "access-control-expose-headers");
    for header in
        ["etag", "location", "ratelimit", "ratelimit-policy", "retry-after", "x-request-id"]
    {
        assert!(exposed.contains(&header.to_owned()), "{header} is not among {exposed:?}");
    }
    assert!(answer.header("x-request-id").is_some(), "{answer:?}");
}

/// Routes whose handlers do not answer: one never ends, one panics.
fn failing_routes() -> Routes {
    std::sync::Arc::new(|config| {
        config.route("/forever", web::get().to(async || std::future::pending::<String>().await));
        config.route("/panics", web::get().to(panics));
    })
}

async fn panics() -> String {
    panic!("the handler of a test panics on purpose")
}

#[tokio::test]
async fn an_origin_that_is_not_listed_is_not_allowed() {
    let app = spawn_with_origins().await;
    for origin in [
        "https://evil.example.com",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.org",
        "null",
    ] {
        let asked = preflight(&app, origin, "/api/tenant", "GET", "authorization").await;
        assert_eq!(asked.header("access-control-allow-origin"), None, "{asked:?}");
        let got = send(request_from(&app.root(), origin, Method::GET, "/api/tenant")).await;
        assert_eq!(got.status, 200, "the origin does not change what a credential may do");
        let names: Vec<_> = got.headers.keys().map(HeaderName::as_str).collect();
        assert!(!names.iter().any(|name| name.starts_with("access-control")), "{got:?}");
        assert!(items(&got, "vary").contains(&"origin".to_owned()), "{got:?}");
    }
    let header = preflight(&app, APP, "/api/tenant", "GET", "x-unheard-of").await;
    assert_eq!(header.header("access-control-allow-origin"), None, "{header:?}");
    // A client that is not a browser sends no origin.
    assert_eq!(app.root().get("/api/tenant").await.status, 200);
}

#[test]
fn an_invalid_origin_in_the_settings_is_reported_at_the_start() {
    for (value, part) in [
        ("*", "wildcard"),
        ("https://good.example.com, https://app.example.com/", "https://app.example.com/"),
        ("app.example.com", "\"app.example.com\""),
    ] {
        let values = [("http.cors_origins", value.to_owned())];
        let error = Settings::from_values(&values).unwrap_err().to_string();
        assert!(error.contains("http.cors_origins") && error.contains(part), "{error}");
    }
}
