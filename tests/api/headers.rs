//! The headers of every answer, and clients that do not finish a request.

use actix_web::{HttpResponse, web};
use reqwest::Method;

use crate::support::callers::send;
use crate::support::{TestApp, wire};

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let app = TestApp::builder().with("http.cors_origins", "https://app.example.com").spawn().await;
    let preflight = app
        .anonymous()
        .request(Method::OPTIONS, "/api/tenant")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "GET");
    let login =
        serde_json::json!({ "identifier": "absent@example.com", "password": "long enough" });
    for answer in [
        app.root().get("/api/tenant").await,
        app.anonymous().get("/api/tenant").await,
        app.anonymous().post("/api/auth/login", &login).await,
        app.root().get("/control/v1/tenants").await,
        app.anonymous().get("/v2/nothing").await,
        app.anonymous().get("/nowhere").await,
        app.anonymous().get("/metrics").await,
        send(preflight).await,
    ] {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "frame-ancestors 'none'"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{answer:?}");
        }
        assert!(answer.header("x-request-id").is_some(), "{answer:?}");
        // The proxy that terminates TLS adds this header.
        assert_eq!(answer.header("strict-transport-security"), None);
        assert_eq!(answer.header("server"), None);
    }
}

#[tokio::test]
async fn an_applications_own_security_headers_are_kept() {
    const POLICY: &str = "default-src 'self'; frame-ancestors 'self'";
    let page = async || {
        HttpResponse::Ok()
            .insert_header(("content-security-policy", POLICY))
            .insert_header(("referrer-policy", "same-origin"))
            .body("a page")
    };
    let app = TestApp::builder()
        .with_routes(std::sync::Arc::new(move |config| {
            config.route("/page", web::get().to(page));
        }))
        .spawn()
        .await;
    let answer = app.anonymous().get("/page").await;
    assert_eq!(answer.header("content-security-policy"), Some(POLICY));
    assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_disconnected_with_408() {
    let app = TestApp::builder().with("http.request_timeout", "1s").spawn().await;
    let answer = wire::exchange(&app, b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await;
    assert_eq!(wire::status(&answer), 408);
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_client_that_never_ends_its_body_is_disconnected_with_408() {
    let app = TestApp::builder().with("http.request_timeout", "1s").spawn().await;
    let half = b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
    let answer = wire::exchange(&app, half).await;
    assert_eq!(wire::status(&answer), 408);
    assert!(answer.contains("connection: close"), "{answer}");
}
