//! `Idempotency-Key`: a retry gets the first answer and creates nothing.

use futures_util::future::join_all;
use reqwest::Method;
use reqwest::header::HeaderValue;
use rowhouse::domain::Permission;
use serde_json::{Value, json};

use crate::support::callers::send;
use crate::support::{Answer, Caller, MigrationLock, Snapshot, TestApp};

async fn set_up(caller: &Caller, key: &str, body: &Value) -> Answer {
    let request = caller.request(Method::POST, "/api/tenant/setup").header("Idempotency-Key", key);
    send(request.json(body)).await
}

#[tokio::test]
async fn the_same_key_and_body_return_the_stored_answer() {
    let app = TestApp::spawn().await;
    let (root, body) = (app.root(), TestApp::setup_body("acme"));
    let first = set_up(&root, "retry-1", &body).await;
    assert_eq!(first.status, 201, "{first:?}");
    let before = Snapshot::of(&app).await;

    // The same body in another order, with more white space and an unknown field.
    let reordered = r#"{ "adminLastName":"Admin","adminFirstName":"Ada", "x": 1,
        "adminPassword":"SecurePass123!", "adminEmail":"ADMIN@acme.example.com",
        "slug":"acme","name":"Tenant acme" }"#;
    let reordered = serde_json::from_str(reordered).expect("the text is JSON");
    for body in [&body, &reordered, &body] {
        let again = set_up(&root, "retry-1", body).await;
        assert_eq!((again.status, &again.body), (201, &first.body));
    }
    assert_eq!(Snapshot::of(&app).await, before, "a replay writes nothing");

    // The stored answer is returned, not the current state.
    let sql = app.sql().await;
    sql.execute("UPDATE tenants SET slug = 'renamed', name = 'Renamed'", &[]).await.unwrap();
    assert_eq!(set_up(&root, "retry-1", &body).await.body, first.body);
    sql.execute("DELETE FROM tenants", &[]).await.unwrap();
    let after_deletion = set_up(&root, "retry-1", &body).await;
    assert_eq!((after_deletion.status, &after_deletion.body), (201, &first.body));
}

#[tokio::test]
async fn the_same_key_with_another_body_or_password_is_refused() {
    let app = TestApp::spawn().await;
    let (root, body) = (app.root(), TestApp::setup_body("acme"));
    assert_eq!(set_up(&root, "retry-1", &body).await.status, 201);
    let before = Snapshot::of(&app).await;
    for (field, value) in [
        ("name", "Tenant acmf"),
        ("slug", "acmf"),
        ("adminEmail", "other@acme.example.com"),
        ("adminPassword", "SecurePass123?"),
        ("adminFirstName", "Adb"),
        ("adminLastName", "Admio"),
    ] {
        let mut other = body.clone();
        other[field] = value.into();
        let answer = set_up(&root, "retry-1", &other).await;
        assert_eq!(
            answer.refusal(422),
            "This Idempotency-Key was used with another body",
            "{field}"
        );
        assert_eq!(answer.header("retry-after"), None);
    }
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn the_comparison_of_bodies_keeps_fields_apart() {
    let app = TestApp::spawn().await;
    let mut body = TestApp::setup_body("acme");
    body["adminFirstName"] = "Ada".into();
    body["adminLastName"] = "Admin".into();
    assert_eq!(set_up(&app.root(), "k", &body).await.status, 201);
    body["adminFirstName"] = "AdaAd".into();
    body["adminLastName"] = "min".into();
    assert_eq!(set_up(&app.root(), "k", &body).await.status, 422);
}

#[tokio::test]
async fn a_key_whose_request_still_runs_is_a_conflict_with_retry_after() {
    let (app, lock) = MigrationLock::held(TestApp::builder()).await;
    let (root, body) = (app.root(), TestApp::setup_body("acme"));
    let running = tokio::spawn({
        let (root, body) = (root.clone(), body.clone());
        async move { set_up(&root, "retry-1", &body).await }
    });
    lock.wait_for_waiters(1).await;
    for _ in 0..2 {
        let answer = set_up(&root, "retry-1", &body).await;
        assert_eq!(answer.refusal(409), "A request with this Idempotency-Key is still running");
        assert!(answer.retry_after() >= 1);
    }
    lock.release().await;
    let first = running.await.expect("the request ends");
    assert_eq!(first.status, 201, "{first:?}");
    assert_eq!(set_up(&root, "retry-1", &body).await.body, first.body);
    assert_eq!(Snapshot::of(&app).await.count("tenants"), 1);
}

#[tokio::test]
async fn a_failed_request_does_not_use_up_its_key() {
    let (app, lock) = MigrationLock::held(TestApp::builder()).await;
    let (root, body) = (app.root(), TestApp::setup_body("acme"));
    let before = Snapshot::of(&app).await;
    let running = tokio::spawn({
        let (root, body) = (root.clone(), body.clone());
        async move { set_up(&root, "retry-1", &body).await }
    });
    lock.wait_for_waiters(1).await;
    assert_eq!(lock.terminate_waiters().await, 1);
    let failed = running.await.expect("the request ends");
    failed.refusal(503);
    assert!(failed.retry_after() >= 1);
    assert_eq!(Snapshot::of(&app).await, before);

    lock.release().await;
    assert_eq!(set_up(&root, "retry-1", &body).await.status, 201);
}

#[tokio::test]
async fn the_keys_of_different_callers_are_independent() {
    let app = TestApp::spawn().await;
    let (_, one) = app.add_token(&[Permission::CreateTenant], None, None).await;
    let (_, two) = app.add_token(&[Permission::CreateTenant], None, None).await;
    app.add_user("super@example.com", Some("SUPER_ADMIN")).await;
    let superuser = app.log_in("super@example.com").await;
    for (number, caller) in [app.root(), one, two, superuser].iter().enumerate() {
        let body = TestApp::setup_body(&format!("t{number}"));
        assert_eq!(set_up(caller, "the-same", &body).await.status, 201);
    }
    // Another session of the same user is the same caller.
    let again = app.log_in("super@example.com").await;
    let answer = set_up(&again, "the-same", &TestApp::setup_body("t3")).await;
    assert_eq!((answer.status, answer.body["slug"].as_str()), (201, Some("t3")));
    let after = Snapshot::of(&app).await;
    assert_eq!((after.count("tenants"), after.count("idempotency_keys")), (4, 4));
}

#[tokio::test]
async fn an_expired_key_can_be_used_again() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let first = set_up(&root, "retry-1", &TestApp::setup_body("first")).await;
    app.clock.advance(time::Duration::hours(24) - time::Duration::seconds(30));
    let replayed = set_up(&root, "retry-1", &TestApp::setup_body("first")).await;
    assert_eq!(replayed.body, first.body);
    app.clock.advance(time::Duration::minutes(1));
    let second = set_up(&root, "retry-1", &TestApp::setup_body("second")).await;
    assert_eq!((second.status, second.body["slug"].as_str()), (201, Some("second")), "{second:?}");
    let after = Snapshot::of(&app).await;
    assert_eq!((after.count("tenants"), after.count("idempotency_keys")), (2, 1));
}

#[tokio::test]
async fn one_of_twenty_concurrent_requests_with_one_key_creates_the_tenant() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    let (root, body) = (app.root(), TestApp::setup_body("acme"));
    let answers = join_all((0..20).map(|_| set_up(&root, "retry-1", &body))).await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert!(!made.is_empty());
    assert!(made.iter().all(|answer| answer.body == made[0].body), "{made:?}");
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(answer.refusal(409), "A request with this Idempotency-Key is still running");
        assert!(answer.retry_after() >= 1);
    }
    let after = Snapshot::of(&app).await;
    assert_eq!(["tenants", "users", "memberships"].map(|table| after.count(table)), [1; 3]);
    assert_eq!(after.tenant_schemas(), 1);
}

#[tokio::test]
async fn a_refusal_is_not_stored() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let mut body = TestApp::setup_body("acme");
    body["adminEmail"] = "not-an-address".into();
    set_up(&root, "retry-1", &body).await.refusal(400);
    assert_eq!(set_up(&root, "retry-1", &TestApp::setup_body("acme")).await.status, 201);
    set_up(&root, "retry-2", &TestApp::setup_body("acme")).await.refusal(409);
    assert_eq!(set_up(&root, "retry-2", &TestApp::setup_body("other")).await.status, 201);
}

#[tokio::test]
async fn an_invalid_key_is_refused() {
    let app = TestApp::spawn().await;
    let before = Snapshot::of(&app).await;
    let long = "k".repeat(256);
    let control_body = json!({ "name": "Acme", "slug": "acme" });
    for (path, body) in [
        ("/api/tenant/setup", &TestApp::setup_body("acme")),
        ("/control/v1/tenants", &control_body),
    ] {
        let request = || app.root().request(Method::POST, path).json(body);
        for key in [&b""[..], long.as_bytes(), b"caf\xc3\xa9", b"\xff\xfe", b"a\tb"] {
            let value = HeaderValue::from_bytes(key).expect("the header can be sent");
            let answer = send(request().header("Idempotency-Key", value)).await;
            assert_eq!(answer.status, 400, "{path}: {key:?}: {answer:?}");
            assert!(answer.body.to_string().contains("Idempotency-Key"), "{path}: {answer:?}");
        }
        let twice = request().header("Idempotency-Key", "a").header("Idempotency-Key", "b");
        assert_eq!(send(twice).await.status, 400, "{path}");
    }
    assert_eq!(Snapshot::of(&app).await, before);

    let longest = "k".repeat(255);
    assert_eq!(set_up(&app.root(), &longest, &TestApp::setup_body("acme")).await.status, 201);
}

#[tokio::test]
async fn no_fast_digest_of_the_password_is_stored() {
    let app = TestApp::spawn().await;
    set_up(&app.root(), "retry-1", &TestApp::setup_body("acme")).await;
    let row = "SELECT request_digest, secret_hash, outcome FROM idempotency_keys";
    let row = app.sql().await.query_one(row, &[]).await.unwrap();
    assert!(row.get::<_, &str>(1).starts_with("$argon2id$"));
    let outcome: Value = row.get(2);
    let keys: Vec<_> = outcome.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["id", "name", "number", "slug"]);
    assert_eq!(outcome["slug"], json!("acme"));
}
