//! Helpers for tests of `/control/v1`: preconditions, problem bodies, callers with few permissions.

use reqwest::Method;
use rowhouse::auth::token::{Kind, OpaqueToken};
use serde_json::Value;
use uuid::Uuid;

use super::callers::send;
use super::{Answer, Caller, TestApp};

/// Sends a request with an `If-Match` header and an optional body.
pub async fn send_if_match(
    caller: &Caller,
    method: Method,
    path: &str,
    etag: &str,
    body: Option<&Value>,
) -> Answer {
    let mut request = caller.request(method, path).header("if-match", etag);
    if let Some(body) = body {
        request = request.json(body);
    }
    send(request).await
}

/// Calls a tenant's lifecycle route (`suspend`, `resume`, `delete`, `restore`, `purge`) with `If-Match: *`.
pub async fn transition(caller: &Caller, tenant: &str, verb: &str) -> Answer {
    let (method, path) = match verb {
        "delete" => (Method::DELETE, format!("/control/v1/tenants/{tenant}")),
        verb => (Method::POST, format!("/control/v1/tenants/{tenant}/{verb}")),
    };
    send_if_match(caller, method, &path, "*", None).await
}

pub async fn put(caller: &Caller, path: &str, body: &Value) -> Answer {
    send(caller.request(Method::PUT, path).json(body)).await
}

/// Asserts that an answer is this dialect's problem: status, code, type, media type and request id.
#[track_caller]
pub fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    assert_eq!(answer.body["status"], status, "{answer:?}");
    assert_eq!(answer.body["type"], format!("urn:rowhouse:problem:{code}"), "{answer:?}");
    assert_eq!(answer.body["request_id"].as_str(), answer.header("x-request-id"), "{answer:?}");
    for text in ["title", "detail"] {
        assert!(answer.body[text].as_str().is_some_and(|text| !text.is_empty()), "{answer:?}");
    }
}

/// Returns the invalid fields of an answer, each as `pointer: code`.
pub fn pointers(answer: &Answer) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let errors = answer.body["errors"].as_array().into_iter().flatten();
    errors.map(|e| format!("{}: {}", text(&e["pointer"]), text(&e["code"]))).collect()
}

/// Creates a caller whose token has only these permissions, in one tenant or in all of them.
pub async fn token_with(app: &TestApp, permissions: &[&str], tenant: Option<Uuid>) -> Caller {
    let secret = OpaqueToken::generate(Kind::Api);
    let sql = app.sql().await;
    sql.execute(
        "INSERT INTO tokens (id, digest, hint, name, permissions, tenant_id, created_by, created_at)
         VALUES ($1, $2, 'test', 'test', $3, $4, 'test', now())",
        &[&Uuid::new_v4(), &secret.digest().as_bytes().to_vec(), &permissions, &tenant],
    )
    .await
    .expect("a token can be written");
    app.bearer(secret.expose())
}

/// Counts the audit events of this action on this tenant.
pub async fn events(app: &TestApp, tenant: Uuid, action: &str) -> i64 {
    let sql = app.sql().await;
    let row = sql
        .query_one(
            "SELECT count(*) FROM audit_events WHERE tenant_id = $1 AND action = $2",
            &[&tenant, &action],
        )
        .await
        .expect("audit events can be counted");
    row.get(0)
}
