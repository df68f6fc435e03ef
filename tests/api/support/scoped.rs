//! Helpers for tests of Reten's routes that work inside one tenant.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::callers::send;
use super::{Answer, Caller, TestApp, TestTenant};

/// Sends a request that names its tenant by `x-tenant-id`, with an optional body.
pub async fn call_in(
    caller: &Caller,
    tenant: Uuid,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Answer {
    let request = caller.request(method, path).header("x-tenant-id", tenant.to_string());
    send(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

pub async fn get_in(caller: &Caller, tenant: Uuid, path: &str) -> Answer {
    call_in(caller, tenant, Method::GET, path, None).await
}

pub async fn post_in(caller: &Caller, tenant: Uuid, path: &str, body: &Value) -> Answer {
    call_in(caller, tenant, Method::POST, path, Some(body)).await
}

/// Creates a user and makes it a member.
pub async fn add_member(app: &TestApp, tenant: &TestTenant, email: &str, role: &str) -> Uuid {
    let id = app.add_user(email, None).await;
    join(app, tenant, id, role).await;
    id
}

/// Makes a user a member.
pub async fn join(app: &TestApp, tenant: &TestTenant, user: Uuid, role: &str) {
    let sql = "INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, clock_timestamp())";
    app.sql().await.execute(sql, &[&tenant.id, &user, &role]).await.expect("a member can be made");
}

/// Returns the id of a user.
pub async fn user_id(app: &TestApp, email: &str) -> Uuid {
    let sql = app.sql().await;
    let row = sql.query_one("SELECT id FROM users WHERE email = $1", &[&email]).await;
    row.expect("there is such a user").get(0)
}

/// Creates an API key and returns the answer.
pub async fn make_key(caller: &Caller, tenant: Uuid, permissions: &[&str]) -> Answer {
    let body = json!({ "name": "a test's", "permissions": permissions });
    let answer = post_in(caller, tenant, "/api/api-keys", &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer
}

/// Returns the secret of a key from the answer that created it.
pub fn plaintext(made: &Answer) -> String {
    made.body["plaintextKey"].as_str().expect("it is shown once").to_owned()
}
