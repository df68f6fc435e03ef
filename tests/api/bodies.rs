//! Request bodies that are small and would become large: compressed ones, long numbers, many values, many problems. And
//! what is refused before a body is read.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use reqwest::Method;
use rowhouse::app::Routes;
use serde_json::{Value, json};

use crate::support::callers::send;
use crate::support::control::assert_problem;
use crate::support::gzip::gzip_of_spaces;
use crate::support::{Answer, PASSWORD, TestApp, wire};

const LOGIN: &str = "/api/auth/login";
const SETUP: &str = "/api/tenant/setup";

/// Routes of an application, with each extractor that reads a body.
fn application() -> Routes {
    async fn json(body: web::Json<Value>) -> HttpResponse {
        HttpResponse::Ok().json(body.into_inner())
    }
    async fn bytes(body: web::Bytes) -> HttpResponse {
        HttpResponse::Ok().json(body.len())
    }
    async fn text(body: String) -> HttpResponse {
        HttpResponse::Ok().json(body.len())
    }
    async fn form(body: web::Form<Value>) -> HttpResponse {
        HttpResponse::Ok().json(body.into_inner())
    }
    Arc::new(|config| {
        config
            .route("/own/json", web::post().to(json))
            .route("/own/bytes", web::post().to(bytes))
            .route("/own/text", web::post().to(text))
            .route("/own/form", web::post().to(form));
    })
}

/// One path of each dialect, and the application's.
const PATHS: [&str; 9] = [
    SETUP,
    LOGIN,
    "/control/v1/tenants",
    "/v2/TenantCreate",
    "/api/tenants",
    "/own/json",
    "/own/bytes",
    "/own/text",
    "/own/form",
];

/// Fails unless an answer is 415 in the form of the dialect that the path belongs to.
#[track_caller]
fn assert_unsupported(path: &str, answer: &Answer) {
    assert_eq!(answer.status, 415, "{path}: {answer:?}");
    assert_eq!(answer.header("accept-encoding"), Some("identity"), "{path}: {answer:?}");
    match path {
        "/control/v1/tenants" => assert_problem(answer, 415, "unsupported_content_encoding"),
        "/v2/TenantCreate" => {
            assert_eq!(answer.error(415), "The request body must not be compressed");
        }
        "/api/tenants" => {
            assert_eq!(answer.body, json!({ "message": "The body must not be compressed." }));
        }
        _ => assert_eq!(answer.refusal(415), "The body must not be compressed"),
    }
}

#[tokio::test]
async fn a_compressed_body_is_refused_in_each_dialects_form_and_on_an_applications_routes() {
    let app = TestApp::builder().with_routes(application()).spawn().await;
    let gzip = gzip_of_spaces(1000);
    for path in PATHS {
        for codings in [
            &["gzip"][..],
            &["GZIP"],
            &["br"],
            &["zstd"],
            &["deflate"],
            &["x-gzip"],
            &["identity, gzip"],
            &["gzip, identity"],
            &["identity", "gzip"],
            &["identity", "identity", "gzip"],
            &["unheard-of"],
        ] {
            let request = app.root().request(Method::POST, path);
            let request = request.header("x-bunker-token", &app.root_token);
            let request = codings
                .iter()
                .fold(request, |request, coding| request.header("content-encoding", *coding));
            let answer = send(request.body(gzip.clone())).await;
            assert_unsupported(path, &answer);
        }
    }
}

#[tokio::test]
async fn a_body_labelled_identity_is_read() {
    let app = TestApp::builder().with_routes(application()).spawn().await;
    for codings in [&["identity"][..], &["Identity"], &["identity", "identity, identity"]] {
        let request = app.root().request(Method::POST, "/own/json").json(&json!({ "a": 1 }));
        let request = codings
            .iter()
            .fold(request, |request, coding| request.header("content-encoding", *coding));
        let answer = send(request).await;
        assert_eq!((answer.status, &answer.body), (200, &json!({ "a": 1 })), "{codings:?}");
        let login = json!({ "identifier": "absent@example.com", "password": PASSWORD });
        let request = app.anonymous().request(Method::POST, LOGIN).json(&login);
        let request = codings
            .iter()
            .fold(request, |request, coding| request.header("content-encoding", *coding));
        send(request).await.refusal(401);
    }
    // Without a body there is nothing to decompress.
    let request = app.root().request(Method::GET, "/api/tenant").header("content-encoding", "gzip");
    assert_eq!(send(request).await.status, 200);
}

/// The head of a request whose body never comes.
fn head(path: &str, headers: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n{headers}\r\n").into_bytes()
}

#[tokio::test]
async fn what_the_head_decides_is_answered_before_the_body_comes() {
    let app = TestApp::builder()
        .with_routes(application())
        .with_stopped_clock()
        .with("limits.login_address", "1/1")
        .spawn()
        .await;
    for path in PATHS {
        let answer = wire::exchange(&app, &head(path, "Content-Encoding: gzip\r\n")).await;
        assert_eq!(wire::status(&answer), 415, "{path}: {answer}");
    }
    // A caller without a credential, and one with a wrong one.
    let wrong = "Authorization: Bearer rh_wrong\r\nX-Bunker-Token: wrong\r\n";
    for (path, status) in [
        (SETUP, 401),
        ("/api/auth/reset-user-password", 401),
        ("/api/api-keys", 401),
        ("/control/v1/tenants", 401),
        ("/control/v1/tokens", 401),
        ("/v2/TenantCreate", 403),
        ("/v1/user", 403),
        ("/api/tenants", 401),
    ] {
        for credential in ["", wrong] {
            let answer = wire::exchange(&app, &head(path, credential)).await;
            assert_eq!(wire::status(&answer), status, "{path} {credential}: {answer}");
        }
    }
    // An address that has made all its guesses.
    let guess = json!({ "identifier": "absent@example.com", "password": PASSWORD });
    app.anonymous().post(LOGIN, &guess).await.refusal(401);
    let answer = wire::exchange(&app, &head(LOGIN, "")).await;
    assert_eq!(wire::status(&answer), 429, "{answer}");
    // A page of another site.
    let answer = wire::exchange(&app, &head(LOGIN, "Origin: https://evil.example\r\n")).await;
    assert_eq!(wire::status(&answer), 403, "{answer}");
}

#[tokio::test]
async fn the_body_of_a_log_in_has_a_limit_of_its_own() {
    let app = TestApp::spawn().await;
    let login = json!({ "identifier": "absent@example.com", "password": PASSWORD }).to_string();
    let padded = |size: usize| format!("{login}{}", " ".repeat(size - login.len()));
    app.anonymous().post_raw(LOGIN, padded(1 << 18)).await.refusal(401);
    let answer = app.anonymous().post_raw(LOGIN, padded((1 << 18) + 1)).await;
    assert_eq!(answer.refusal(413), "The body is larger than 262144 bytes");
    // The same without an announced size.
    let head = format!("POST {LOGIN} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("249f0\r\n{}\r\n", " ".repeat(150_000));
    let answer = wire::exchange(&app, format!("{head}{chunk}{chunk}").as_bytes()).await;
    assert_eq!(wire::status(&answer), 413, "{answer}");
    // And few values, since each takes a hundred bytes.
    let many = format!("{{\"identifier\":[{}0]}}", "0,".repeat(1000));
    let answer = app.anonymous().post_raw(LOGIN, many).await;
    assert_eq!(answer.refusal(400), "The body holds too many values for its size");
}

fn digits(count: usize) -> String {
    "7".repeat(count)
}

#[tokio::test]
async fn a_number_of_very_many_digits_is_refused_in_each_dialect() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "email": "ada@example.com", "list": [] })).await;
    let number = digits(900_000);
    let too_long = "The request body holds a number of more than 1000 characters";
    for (path, body) in [
        ("/v2/UserCreate", format!("{{\"profile\":{{\"n\":{number}}}}}")),
        ("/v2/UserCreateBulk", format!("{{\"records\":[{{\"profile\":{{\"n\":{number}}}}}]}}")),
        (
            "/v2/UserUpdate",
            format!(
                "{{\"mode\":\"email\",\"identity\":\"ada@example.com\",\"profile\":{{\"n\":{number}}}}}"
            ),
        ),
        (
            "/v2/UserPatch",
            format!(
                "{{\"mode\":\"email\",\"identity\":\"ada@example.com\",\"patch\":[{{\"op\":\"add\",\"path\":\"/n\",\"value\":[-0.{number}]}}]}}"
            ),
        ),
        ("/v2/UserGet", format!("{{\"mode\":\"phone\",\"identity\":{number}}}")),
        ("/v1/user", format!("{{\"n\":1e{number}}}")),
    ] {
        let answer = tenant.admin.send(path, "application/json", body).await;
        assert_eq!(answer.error(400), too_long, "{path}");
    }
    let body = format!("{{\"name\":\"Acme\",\"slug\":\"other\",\"settings\":{{\"n\":{number}}}}}");
    let answer = app.root().post_raw("/control/v1/tenants", body.clone()).await;
    assert_problem(&answer, 400, "json_number_too_long");
    let answer = app.root().post_raw("/api/tenants", body.clone()).await;
    assert_eq!(answer.body, json!({ "message": "The body holds a number that is too long." }));
    let answer = app.root().post_raw(SETUP, body).await;
    assert_eq!(answer.refusal(400), "The body holds a number of more than 1000 characters");
    // Long enough for every number that a program computes with.
    let body =
        format!("{{\"profile\":{{\"email\":\"n@example.com\",\"n\":[{},1e+400]}}}}", digits(1000));
    tenant.admin.send("/v2/UserCreate", "application/json", body).await.ok();
    let read = tenant.admin.get("n@example.com").await;
    assert!(read.text.contains(&digits(1000)) && read.text.contains("1e+400"));
}

#[tokio::test]
async fn an_object_that_stands_for_a_number_is_refused_and_never_becomes_one() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "email": "ada@example.com", "n": "12" })).await;
    let reserved = "Failed to decode the request body";
    for name in [
        "$serde_json::private::Number",
        "\\u0024serde_json::private::Number",
        "$serde_json::private::RawValue",
    ] {
        let body = format!("{{\"profile\":{{\"login\":\"x\",\"n\":{{\"{name}\":\"12\"}}}}}}");
        let answer = tenant.admin.send("/v2/UserCreate", "application/json", body).await;
        assert_eq!(answer.error(400), reserved, "{name}");
        let body =
            format!("{{\"name\":\"A\",\"slug\":\"other\",\"settings\":{{\"{name}\":\"12\"}}}}");
        let answer = app.root().post_raw("/control/v1/tenants", body).await;
        assert_problem(&answer, 400, "json_reserved_name");
    }
    // Made of two harmless parts, on the way of a patch.
    let patch = json!([{ "op": "move", "from": "/n", "path": "/$serde_json::private::Number" }]);
    let body = json!({ "mode": "email", "identity": "ada@example.com", "patch": patch });
    assert_eq!(
        tenant.admin.call("UserPatch", body).await.error(400),
        "The patch parameter is a reserved word"
    );
    // As a text it is a text.
    let text = json!({ "email": "bob@example.com", "n": "$serde_json::private::Number" });
    tenant.add(text.clone()).await;
    assert_eq!(tenant.admin.get("bob@example.com").await.ok()["profile"], text);
    assert_eq!(tenant.admin.get("ada@example.com").await.ok()["profile"]["n"], "12");
}

#[tokio::test]
async fn a_body_holds_only_so_many_values_for_its_size() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let zeros = |count: usize| {
        format!("{{\"profile\":{{\"login\":\"x{count}\",\"list\":[{}0]}}}}", "0,".repeat(count))
    };
    let answer = tenant.admin.send("/v2/UserCreate", "application/json", zeros(500_000)).await;
    assert_eq!(answer.error(400), "The request body holds too many values for its size");
    tenant.admin.send("/v2/UserCreate", "application/json", zeros(50_000)).await.ok();
    let body = format!("{{\"settings\":[{}0]}}", "0,".repeat(500_000));
    let answer = app.root().post_raw("/control/v1/tenants", body).await;
    assert_problem(&answer, 400, "json_too_many_values");
}

#[tokio::test]
async fn an_answer_lists_a_bounded_number_of_problems() {
    let app = TestApp::spawn().await;
    let names: Vec<String> =
        (0..20_000).map(|number| format!("\"{}{number}\":1", "unknown".repeat(5))).collect();
    let body = format!("{{{}}}", names.join(","));
    let answer = app.root().post_raw("/control/v1/tenants", body).await;
    assert_problem(&answer, 400, "invalid");
    assert_eq!(answer.body["errors"].as_array().map(Vec::len), Some(50));
    assert!(answer.text.len() < 20_000, "{} bytes", answer.text.len());
    // One name that is as long as the body may be.
    let body = format!("{{\"{}\":1}}", "x".repeat(1_000_000));
    let answer = app.root().post_raw("/control/v1/tenants", body).await;
    assert_problem(&answer, 400, "invalid");
    assert!(answer.text.len() < 2000, "{} bytes", answer.text.len());
    let query = "a&".repeat(5000);
    let answer = app.root().get(&format!("/control/v1/tenants?{query}")).await;
    assert_eq!(answer.body["errors"].as_array().map(Vec::len), Some(50));
}

#[tokio::test]
async fn an_answer_holds_a_bounded_size_of_records() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let text = "x".repeat(1_000_000);
    for number in 0..9 {
        tenant.add(json!({ "email": format!("p{number}@example.com"), "text": text })).await;
    }
    let unlock = tenant.admin.unlock().await;
    let page = |limit: usize| json!({ "unlockuuid": unlock, "offset": 0, "limit": limit });
    let all = tenant.admin.call("BulkListAllUsers", page(9)).await;
    let too_large = "parameter asks for more than 8388608 bytes at once; ask for fewer records";
    assert_eq!(all.error(400), format!("The limit {too_large}"));
    let some = tenant.admin.call("BulkListAllUsers", page(8)).await;
    assert_eq!(some.ok()["rows"].as_array().map(Vec::len), Some(8));
    assert_eq!(some.body["total"], 9);
    let person =
        |number: usize| json!({ "mode": "email", "identity": format!("p{number}@example.com") });
    let users = |count: usize| json!({ "unlockuuid": unlock, "users": (0..count).map(person).collect::<Vec<_>>() });
    let all = tenant.admin.call("BulkListUsers", users(9)).await;
    assert_eq!(all.error(400), format!("The users {too_large}"));
    let some = tenant.admin.call("BulkListUsers", users(8)).await;
    assert_eq!(some.ok()["rows"].as_array().map(Vec::len), Some(8));
    // A search answers the first ones and the number of all.
    let search = json!({ "unlockuuid": unlock, "identity": "@example.com" });
    let found = tenant.admin.call("UserSearch", search).await;
    assert_eq!(found.ok()["rows"].as_array().map(Vec::len), Some(8));
    assert_eq!(found.body["total"], 9);
    assert_eq!(found.body["rows"][0]["profile"]["email"], "p0@example.com");
}
