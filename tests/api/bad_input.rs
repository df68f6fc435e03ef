//! Invalid requests are refused in Reten's form, name the invalid field, and change nothing.

use std::sync::Arc;

use actix_web::{HttpResponse, guard, web};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::callers::send;
use crate::support::{Snapshot, StrayRoles, TestApp, wire};

const SETUP: &str = "/api/tenant/setup";
const LOGIN: &str = "/api/auth/login";

/// The default limit of the settings.
const MAX_BODY: usize = 1 << 20;

const SETUP_FIELDS: [&str; 6] =
    ["name", "slug", "adminEmail", "adminPassword", "adminFirstName", "adminLastName"];
const LOGIN_FIELDS: [&str; 2] = ["identifier", "password"];

/// The routes that read a body, each with a valid body and its fields.
fn routes() -> [(&'static str, Value, &'static [&'static str]); 2] {
    let login = json!({ "identifier": "unknown@example.com", "password": "SecurePass123!" });
    [(SETUP, TestApp::setup_body("acme"), &SETUP_FIELDS), (LOGIN, login, &LOGIN_FIELDS)]
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_refused() {
    let app = TestApp::spawn().await;
    let before = Snapshot::of(&app).await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_inside = format!("{{\"x\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let utf16: Vec<u8> = "{\"slug\":\"acme\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let no_json: Vec<&[u8]> = vec![
        b"",
        b" ",
        b"{",
        b"}",
        b"{\"name\":}",
        b"{\"name\":\"Acme\",}",
        b"{'name':'Acme'}",
        b"{name:\"Acme\"}",
        b"name=Acme&slug=acme",
        b"<name>Acme</name>",
        b"{} {}",
        b"{}x",
        b"nul",
        b"\0",
        b"{\"name\":\"a\0b\"}",
        b"{\"name\":\"line\nbreak\"}",
        b"{\"name\":\"\xff\xfe\"}",
        b"{\"name\":\"\xed\xa0\x80\"}",
        b"{\"name\":\"\\ud800\"}",
        b"{\"name\":\"\\x41\"}",
        b"\xef\xbb\xbf{}",
        &utf16,
        deep.as_bytes(),
        deep_inside.as_bytes(),
    ];
    for (path, ..) in routes() {
        for body in &no_json {
            let answer = app.root().post_raw(path, body.to_vec()).await;
            let message = answer.refusal(400);
            assert!(message.starts_with("The body is not valid JSON (line "), "{path}: {message}");
        }
        for body in ["[]", "[{}]", "\"text\"", "1", "-0.5", "true", "null"] {
            let answer = app.root().post_raw(path, body).await;
            assert_eq!(answer.refusal(400), "The body must be a JSON object", "{path} {body}");
        }
    }
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn a_missing_field_and_a_field_of_the_wrong_type_are_named() {
    let app = TestApp::spawn().await;
    let before = Snapshot::of(&app).await;
    for (path, good, fields) in routes() {
        let all: Vec<_> = fields.iter().map(|field| (*field, "required")).collect();
        assert_eq!(app.root().post(path, &json!({})).await.bad_rules(), all);
        for field in fields {
            let mut body = good.clone();
            body.as_object_mut().unwrap().remove(*field);
            let missing = app.root().post(path, &body).await;
            missing.refusal(400);
            assert_eq!(missing.bad_rules(), [(*field, "required")]);
            // Field names are case-sensitive.
            body[field.to_uppercase()] = good[field].clone();
            assert_eq!(app.root().post(path, &body).await.bad_rules(), [(*field, "required")]);
            for (value, rule) in [
                (Value::Null, "required"),
                (json!(""), "required"),
                (json!(1), "wrong_type"),
                (json!(-1.5e300), "wrong_type"),
                (json!(true), "wrong_type"),
                (json!([]), "wrong_type"),
                (json!(["acme"]), "wrong_type"),
                (json!({}), "wrong_type"),
                (json!({ "$ne": null }), "wrong_type"),
            ] {
                let mut body = good.clone();
                body[field] = value.clone();
                let answer = app.root().post(path, &body).await;
                answer.refusal(400);
                assert_eq!(answer.bad_rules(), [(*field, rule)], "{path} {value}");
            }
        }
    }
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a flat table: one line a value")]
async fn a_value_that_violates_a_rule_is_refused_with_the_code_of_that_rule() {
    let app = TestApp::spawn().await;
    let (before, strays) = (Snapshot::of(&app).await, StrayRoles::of(&app).await);
    let long = |length: usize| "x".repeat(length);
    let too_long_email = format!("{}@example.com", long(243));
    for (field, value, rule) in [
        ("name", "   ", "required"),
        ("name", "\u{a0}\u{3000}", "required"),
        ("name", "a\nb", "control_character"),
        ("name", "a\u{7f}", "control_character"),
        ("name", "a\u{85}", "control_character"),
        ("name", &long(256), "too_long"),
        ("adminFirstName", &long(256), "too_long"),
        ("adminLastName", "\t", "required"),
        ("slug", "Acme", "slug_format"),
        ("slug", "ACME", "slug_format"),
        ("slug", "acme corp", "slug_format"),
        ("slug", " acme", "slug_format"),
        ("slug", "acme\n", "slug_format"),
        ("slug", "acme_corp", "slug_format"),
        ("slug", "acme.corp", "slug_format"),
        ("slug", "acme/corp", "slug_format"),
        ("slug", "../acme", "slug_format"),
        ("slug", "acme%00", "slug_format"),
        ("slug", "-acme", "slug_format"),
        ("slug", "acme-", "slug_format"),
        ("slug", "ac--me", "slug_format"),
        ("slug", "xn--80ak6aa92e", "slug_format"),
        ("slug", "аcme", "slug_format"),  // Cyrillic
        ("slug", "ａcme", "slug_format"), // full width
        ("slug", "acme٣", "slug_format"), // an Arabic digit
        ("slug", "ac\u{200b}me", "slug_format"),
        ("slug", "acme\u{2010}corp", "slug_format"),
        ("slug", "é", "slug_format"),
        ("slug", "public", "reserved"),
        ("slug", "pg_x", "reserved"),
        ("slug", "pg-x", "reserved"),
        ("slug", "www", "reserved"),
        ("slug", "api", "reserved"),
        ("slug", "admin", "reserved"),
        ("slug", &long(64), "too_long"),
        ("slug", &long(100_000), "too_long"),
        ("adminEmail", "unknown", "email_format"),
        ("adminEmail", "@example.com", "email_format"),
        ("adminEmail", "unknown@", "email_format"),
        ("adminEmail", "no body@example.com", "email_format"),
        ("adminEmail", "a@b@example.com", "email_format"),
        ("adminEmail", "a@example.com,b@example.com", "email_format"),
        ("adminEmail", "a@example.com\nbcc: b@example.com", "email_format"),
        ("adminEmail", "Una <una@example.com>", "email_format"),
        ("adminEmail", "mi\u{212a}e@example.com", "email_format"), // Kelvin
        ("adminEmail", "una@exam ple.com", "email_format"),
        ("adminEmail", "una@-example.com", "email_format"),
        ("adminEmail", &too_long_email, "too_long"),
        ("adminPassword", "1234567", "too_short"),
        ("adminPassword", "ééééééé", "too_short"), // 14 bytes
        ("adminPassword", &long(1025), "too_long"),
        ("adminPassword", &"é".repeat(513), "too_long"), // 1,026 bytes
        ("adminPassword", &long(900_000), "too_long"),
    ] {
        let mut body = TestApp::setup_body("acme");
        body[field] = value.into();
        let answer = app.root().post(SETUP, &body).await;
        answer.refusal(400);
        assert_eq!(answer.bad_rules(), [(field, rule)], "{value:.40?}");
    }
    assert_eq!(Snapshot::of(&app).await, before);
    strays.assert_no_more(&app).await;
}

#[tokio::test]
async fn a_nul_byte_is_refused_in_every_field() {
    let app = TestApp::spawn().await;
    let before = Snapshot::of(&app).await;
    let rules = ["control_character", "slug_format", "email_format", "control_character"];
    let rules = rules.iter().chain(&["control_character", "control_character"]);
    for (field, rule) in SETUP_FIELDS.into_iter().zip(rules) {
        let good = TestApp::setup_body("acme");
        let good = good[field].as_str().unwrap();
        for value in [format!("{good}\0"), format!("\0{good}"), format!("a\0{good}")] {
            let mut body = TestApp::setup_body("acme");
            body[field] = value.into();
            let answer = app.root().post(SETUP, &body).await;
            answer.refusal(400);
            assert_eq!(answer.bad_rules(), [(field, *rule)]);
        }
    }
    let login = json!({ "identifier": "a\0@example.com", "password": "SecurePass\0" });
    assert_eq!(
        app.root().post(LOGIN, &login).await.bad_rules(),
        [("password", "control_character")]
    );
    let mut ignored = TestApp::setup_body("acme");
    ignored["x\0"] = "\0".into();
    assert_eq!(app.root().post(SETUP, &ignored).await.status, 201, "unknown fields are ignored");
    assert_eq!(Snapshot::of(&app).await.count("tenants"), before.count("tenants") + 1);
}

#[tokio::test]
async fn sql_in_a_field_is_refused_or_stored_as_text() {
    let app = TestApp::spawn().await;
    let before = Snapshot::of(&app).await;
    let attacks = [
        "'; DROP SCHEMA public CASCADE; --",
        "\"; DROP TABLE tenants; --",
        "x'); DELETE FROM users; --",
        "$$; COMMIT; DROP TABLE users; $$",
        "tenant_x\"; SET ROLE postgres; --",
        "\\'; SELECT pg_sleep(10); --",
        "1 OR 1=1",
    ];
    for attack in attacks {
        for field in ["slug", "adminEmail"] {
            let mut body = TestApp::setup_body("acme");
            body[field] = attack.into();
            let answer = app.root().post(SETUP, &body).await;
            answer.refusal(400);
            assert_eq!(answer.bad_fields(), [field], "{attack}");
        }
        let login = json!({ "identifier": attack, "password": format!("{attack}12345678") });
        app.anonymous().post(LOGIN, &login).await.refusal(401);
        let request = app.anonymous().request(Method::GET, "/api/tenant");
        send(request.header("authorization", format!("Bearer {attack}"))).await.refusal(401);
        let request = app.anonymous().request(Method::POST, "/api/auth/refresh");
        send(request.header("cookie", format!("refreshToken={attack}"))).await.refusal(401);
    }
    assert_eq!(Snapshot::of(&app).await, before);
    for (number, attack) in attacks.into_iter().enumerate() {
        let mut body = TestApp::setup_body(&format!("t{number}"));
        for field in ["name", "adminPassword", "adminFirstName", "adminLastName"] {
            body[field] = format!("{attack}12345678").into();
        }
        let request = app.root().request(Method::POST, SETUP).header("Idempotency-Key", attack);
        let answer = send(request.json(&body)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.body["name"], body["name"]);
        let login = json!({ "identifier": body["adminEmail"], "password": body["adminPassword"] });
        assert_eq!(app.anonymous().post(LOGIN, &login).await.status, 200);
    }
    let after = Snapshot::of(&app).await;
    assert_eq!(after.count("tenants"), i64::try_from(attacks.len()).unwrap());
}

#[tokio::test]
async fn a_login_names_its_invalid_field() {
    let app = TestApp::spawn().await;
    let (long_identifier, long_password) = ("x".repeat(255), "x".repeat(1025));
    for (identifier, password, bad) in [
        ("una@example.com", "1234567", ("password", "too_short")),
        ("una@example.com", &long_password, ("password", "too_long")),
        (&long_identifier, "SecurePass123!", ("identifier", "too_long")),
    ] {
        let body = json!({ "identifier": identifier, "password": password });
        let answer = app.anonymous().post(LOGIN, &body).await;
        answer.refusal(400);
        assert_eq!(answer.bad_rules(), [bad]);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_one_at_the_limit_is_read() {
    let app = TestApp::spawn().await;
    let before = Snapshot::of(&app).await;
    let too_large = "The body is larger than 1048576 bytes";
    for size in [MAX_BODY + 1, 10 << 20] {
        for path in [SETUP, LOGIN] {
            let answer = app.root().post_raw(path, vec![b' '; size]).await;
            assert_eq!(answer.refusal(413), too_large, "{path}");
        }
    }
    assert_eq!(Snapshot::of(&app).await, before);
    let body = TestApp::setup_body("acme").to_string();
    let padded = format!("{body}{}", " ".repeat(MAX_BODY - body.len()));
    assert_eq!(app.root().post_raw(SETUP, padded).await.status, 201);
}

/// The head of a set-up with the root token, without its end.
fn head(app: &TestApp, length: &str) -> String {
    format!(
        "POST {SETUP} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{length}\r\n",
        app.root_token
    )
}

#[tokio::test]
async fn a_client_that_sends_ten_megabytes_before_reading_still_gets_the_answer() {
    let app = TestApp::spawn().await;
    let before = Snapshot::of(&app).await;
    // A simple client writes the whole body before it reads; a connection that is reset meanwhile loses the
    // answer. Tried with a length, in chunks, and where the server refuses without reading the body.
    let length = format!("Content-Length: {}\r\n", 10 << 20);
    let megabyte = vec![b'x'; 1 << 20];
    let anonymous = format!("POST {SETUP} HTTP/1.1\r\nHost: x\r\n{length}\r\n");
    let nowhere = format!("POST /nowhere HTTP/1.1\r\nHost: x\r\n{length}\r\n");
    for (head, chunked, status) in [
        (head(&app, &length), false, 413),
        (head(&app, "Transfer-Encoding: chunked\r\n"), true, 413),
        (anonymous, false, 401),
        (nowhere, false, 404),
    ] {
        let mut stream = wire::connect(&app).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..10 {
            if chunked {
                stream.write_all(format!("{:x}\r\n", megabyte.len()).as_bytes()).await.unwrap();
            }
            stream.write_all(&megabyte).await.expect("the server continues to read");
            if chunked {
                stream.write_all(b"\r\n").await.unwrap();
            }
        }
        if chunked {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        let answer = wire::read_answer(&mut stream).await;
        assert_eq!(wire::status(&answer), status, "{answer}");
        assert!(answer.contains(&format!("\"statusCode\":{status}")), "{answer}");
    }
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let app = TestApp::spawn().await;
    let body = TestApp::setup_body("acme").to_string();
    // This body is never sent.
    let large = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", 10 << 20);
    let mut stream = wire::connect(&app).await;
    stream.write_all(head(&app, &large).as_bytes()).await.unwrap();
    let answer = wire::read_answer(&mut stream).await;
    assert!(answer.contains("413 Payload Too Large"), "{answer}");

    let small = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", body.len());
    let mut stream = wire::connect(&app).await;
    stream.write_all(head(&app, &small).as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = wire::read_answer(&mut stream).await;
    assert_eq!(wire::status(&answer), 201, "{answer}");
}

#[tokio::test]
async fn a_request_with_a_wrong_length_creates_nothing() {
    let app = TestApp::builder().with("http.request_timeout", "1s").spawn().await;
    let before = Snapshot::of(&app).await;
    let body = TestApp::setup_body("acme").to_string();
    // A body shorter than announced, after which the client waits or closes its side.
    let short =
        format!("{}{body}", head(&app, &format!("Content-Length: {}\r\n", body.len() + 10)));
    let answer = wire::exchange(&app, short.as_bytes()).await;
    assert_eq!(wire::status(&answer), 408, "{answer}");
    let mut stream = wire::connect(&app).await;
    stream.write_all(short.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = wire::read_answer(&mut stream).await;
    assert!(answer.is_empty() || wire::status(&answer) == 400, "{answer}");
    // Two lengths, a length with chunks, a length that is not a number: another server in front could read
    // them differently (request smuggling).
    for length in [
        "Content-Length: 5\r\nContent-Length: 500\r\n".to_owned(),
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", body.len()),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length: 1e3\r\n".to_owned(),
        format!("Transfer-Encoding: xchunked\r\nContent-Length: {}\r\n", body.len()),
    ] {
        let answer =
            wire::exchange(&app, format!("{}{body}", head(&app, &length)).as_bytes()).await;
        assert_eq!(wire::status(&answer), 400, "{length}: {answer}");
    }
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn a_body_that_arrives_too_slowly_is_refused_in_the_form_of_the_dialect() {
    async fn reads(_: web::Json<Value>) -> HttpResponse {
        HttpResponse::Ok().finish()
    }
    async fn sleeps(_: web::Bytes) -> HttpResponse {
        tokio::time::sleep(std::time::Duration::from_mins(1)).await;
        HttpResponse::Ok().finish()
    }
    let app = TestApp::builder().with("http.request_timeout", "1s");
    let app = app.with_routes(Arc::new(|config| {
        config.route("/reads", web::post().to(reads)).route("/sleeps", web::post().to(sleeps));
    }));
    let app = app.spawn().await;
    let before = Snapshot::of(&app).await;
    let start = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nX-Bunker-Token: {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{{}}",
            token = app.root_token
        )
    };
    for (path, status, form) in [
        (SETUP, 408, "\"statusCode\":408"),
        (LOGIN, 408, "\"message\":\"The body did not come in time\""),
        ("/control/v1/tenants", 408, "\"code\":\"body_too_slow\""),
        ("/api/tenants", 408, "\"message\":\"The body did not come in time.\""),
        ("/v2/TenantCreate", 400, "\"message\":\"The request body did not come in time\""),
        // A route of the application itself, whichever extractor reads its body.
        ("/reads", 408, "\"statusCode\":408"),
    ] {
        let answer = wire::exchange(&app, start(path, 100).as_bytes()).await;
        assert_eq!(wire::status(&answer), status, "{path}: {answer}");
        assert!(answer.contains(form), "{path}: {answer}");
    }
    // With a complete body the handler is slow, not the client.
    let answer = wire::exchange(&app, start("/sleeps", 2).as_bytes()).await;
    assert_eq!(wire::status(&answer), 503, "{answer}");
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn a_wrong_method_on_a_path_of_the_application_is_answered_405_with_allow() {
    async fn fine() -> HttpResponse {
        HttpResponse::Ok().finish()
    }
    let app = TestApp::builder().with_routes(Arc::new(|config| {
        config
            .service(web::resource("/own").guard(guard::Get()).to(fine))
            .service(web::resource("/own/{id}").guard(guard::Get()).to(fine))
            .service(
                web::scope("/inside")
                    .route("/deep", web::get().to(fine))
                    .route("/deep", web::patch().to(fine)),
            )
            .service(web::resource("/both").route(web::get().to(fine)).route(web::patch().to(fine)))
            .service(web::resource("/hosted").guard(guard::Host("other.example")).to(fine));
    }));
    let app = app.spawn().await;
    for (path, allow) in [
        ("/own", "GET, HEAD, OPTIONS"),
        ("/own/7", "GET, HEAD, OPTIONS"),
        ("/inside/deep", "GET, HEAD, PATCH, OPTIONS"),
        ("/both", "GET, HEAD, PATCH, OPTIONS"),
    ] {
        assert_eq!(app.anonymous().get(path).await.status, 200, "{path}");
        for wrong in [Method::POST, Method::PUT, Method::DELETE] {
            let answer = send(app.anonymous().request(wrong, path)).await;
            assert_eq!(answer.refusal(405), "This path does not answer to this method", "{path}");
            assert_eq!(answer.header("allow"), Some(allow), "{path}");
        }
        let options = send(app.anonymous().request(Method::OPTIONS, path)).await;
        assert_eq!((options.status, options.header("allow")), (204, Some(allow)), "{path}");
    }
    // Here the host does not match, so the method is not the problem.
    assert_eq!(app.anonymous().get("/hosted").await.status, 404);
    for path in ["/own/", "/own/7/8", "/inside", "/inside/", "/inside/other", "/ow"] {
        for method in [Method::GET, Method::POST] {
            let answer = send(app.anonymous().request(method, path)).await;
            assert_eq!(answer.refusal(404), "There is no such path", "{path}");
        }
    }
}

#[tokio::test]
async fn a_request_that_is_not_http_is_refused_and_the_server_continues() {
    let app = TestApp::spawn().await;
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(200_000));
    let long_header = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(500));
    for request in [
        "\r\n\r\nnonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nBad Header: y\r\n\r\n",
        &long_path,
        &long_header,
        &many,
    ] {
        let mut stream = wire::connect(&app).await;
        let _ = stream.write_all(request.as_bytes()).await;
        let answer = wire::read_answer(&mut stream).await;
        assert!(answer.is_empty() || matches!(wire::status(&answer), 400..=499), "{answer}");
    }
    assert_eq!(app.root().get("/api/tenant").await.status, 200);
}
