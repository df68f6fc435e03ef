//! Tokens and API keys of users who leave: they end with the membership, role or user that their rights come
//! from, and are not revived.

use std::time::Duration;

use reqwest::Method;
use rowhouse::domain::{Permission, UserId};
use serde_json::json;
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::control::{assert_problem, events};
use crate::support::scoped::{add_member, join, make_key, plaintext};
use crate::support::{Caller, TestApp, TestTenant};

const TOKENS: &str = "/control/v1/tokens";
const BO: &str = "bo@example.com";

/// Creates a token through the control API. Returns a caller with it.
async fn make_token(app: &TestApp, by: &Caller, permissions: &[&str], at: Option<Uuid>) -> Caller {
    let body = json!({ "name": "ci", "permissions": permissions, "tenant_id": at });
    let made = by.post(TOKENS, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    app.bearer(made.body["token"].as_str().expect("the token is in the answer"))
}

fn members(tenant: &TestTenant) -> String {
    format!("/control/v1/tenants/{}/members", tenant.slug)
}

async fn remove(app: &TestApp, tenant: &TestTenant, user: Uuid) {
    let target = format!("{}/{user}", members(tenant));
    assert_eq!(send(app.root().request(Method::DELETE, &target)).await.status, 204);
}

async fn set_role(app: &TestApp, tenant: &TestTenant, user: Uuid, role: &str) {
    let target = format!("{}/{user}", members(tenant));
    let body = json!({ "role": role });
    assert_eq!(send(app.root().request(Method::PATCH, &target).json(&body)).await.status, 200);
}

#[tokio::test]
async fn tokens_and_keys_end_with_the_membership_of_their_maker() {
    let app = TestApp::spawn().await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let user = add_member(&app, &acme, BO, "ADMIN").await;
    join(&app, &other, user, "ADMIN").await;
    let bo = app.log_in(BO).await;
    let permissions = ["MANAGE_API_KEYS", "VIEW_USERS"];
    let token = make_token(&app, &bo, &permissions, Some(acme.id)).await;
    let by_token = make_token(&app, &token, &["VIEW_USERS"], Some(acme.id)).await;
    let key = plaintext(&make_key(&bo, acme.id, &["VIEW_USERS"]).await);
    let elsewhere = make_token(&app, &bo, &["VIEW_USERS"], Some(other.id)).await;
    let operators = make_token(&app, &app.root(), &["VIEW_USERS"], Some(acme.id)).await;
    let all =
        [&token, &by_token, &app.keyed(&key), &second.bearer(by_token.token())].map(Caller::clone);
    for caller in &all {
        assert_eq!(caller.get(&members(&acme)).await.status, 200);
    }

    remove(&app, &acme, user).await;
    for caller in &all {
        assert_problem(&caller.get(&members(&acme)).await, 401, "unauthenticated");
    }
    // Each revocation has an audit event of the tenant.
    assert_eq!(events(&app, acme.id, "token.revoke").await, 2);
    assert_eq!(events(&app, acme.id, "api_key.revoke").await, 1);
    let listed = app.root().get(TOKENS).await;
    let ended = |at: Uuid| {
        let of_tenant = listed.body["data"].as_array().into_iter().flatten();
        let of_tenant = of_tenant.filter(|t| t["tenant_id"] == json!(at));
        of_tenant.filter(|t| t["revoked_at"].is_string()).count()
    };
    assert_eq!((ended(acme.id), ended(other.id)), (3, 0), "{listed:?}");
    assert_eq!(
        elsewhere.get(&members(&other)).await.status,
        200,
        "the user is still a member of the other tenant"
    );
    assert_eq!(operators.get(&members(&acme)).await.status, 200, "the token belongs to no user");

    // A returning member needs new tokens. A removal by the command line has the same effect.
    join(&app, &acme, user, "ADMIN").await;
    for caller in &all {
        assert_problem(&caller.get(&members(&acme)).await, 401, "unauthenticated");
    }
    let again = make_token(&app, &bo, &["VIEW_USERS"], Some(acme.id)).await;
    let service = &app.services.members;
    service
        .remove(&app.operator(), "acme", UserId::new(user))
        .await
        .expect("a member can be removed");
    join(&app, &acme, user, "ADMIN").await;
    assert_problem(&again.get(&members(&acme)).await, 401, "unauthenticated");
}

#[tokio::test]
async fn a_token_never_has_more_rights_than_the_current_role_of_its_maker() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let user = add_member(&app, &acme, BO, "ADMIN").await;
    let bo = app.log_in(BO).await;
    let permissions = ["VIEW_USERS", "MANAGE_API_KEYS"];
    let token = make_token(&app, &bo, &permissions, Some(acme.id)).await;
    let by_token = make_token(&app, &token, &["VIEW_USERS"], Some(acme.id)).await;
    for (role, lists_users, lists_tokens) in
        [("ADMIN", 200, 200), ("FDE", 200, 403), ("VIEWER", 403, 403), ("ADMIN", 200, 200)]
    {
        set_role(&app, &acme, user, role).await;
        assert_eq!(token.get(&members(&acme)).await.status, lists_users, "{role}");
        assert_eq!(by_token.get(&members(&acme)).await.status, lists_users, "{role}");
        assert_eq!(token.get(TOKENS).await.status, lists_tokens, "{role}");
    }

    // The same holds for a platform role.
    let una = app.add_user("una@example.com", Some("SUPER_ADMIN")).await;
    let una_calls = app.log_in("una@example.com").await;
    let wide = make_token(&app, &una_calls, &["VIEW_TENANTS", "CREATE_TENANT"], None).await;
    let bound = make_token(&app, &una_calls, &["VIEW_USERS"], Some(acme.id)).await;
    let sql = app.sql().await;
    let lower = "UPDATE users SET platform_role = $2 WHERE id = $1";
    for (role, expected) in
        [(Some("SUPER_ADMIN"), 200), (Some("ADMIN"), 200), (Some("VIEWER"), 403), (None, 401)]
    {
        sql.execute(lower, &[&una, &role]).await.unwrap();
        assert_eq!(wide.get("/control/v1/tenants").await.status, expected, "{role:?}");
        assert_eq!(bound.get(&members(&acme)).await.status, expected, "{role:?}");
    }
    // A token without a tenant needs a platform role; a membership is not enough.
    join(&app, &acme, una, "ADMIN").await;
    assert_eq!(wide.get("/control/v1/tenants").await.status, 401);
    assert_eq!(bound.get(&members(&acme)).await.status, 200);
}

#[tokio::test]
async fn tokens_and_keys_end_with_their_user() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let user = add_member(&app, &acme, BO, "ADMIN").await;
    let bo = app.log_in(BO).await;
    let token = make_token(&app, &bo, &["VIEW_USERS"], Some(acme.id)).await;
    let key = app.keyed(&plaintext(&make_key(&bo, acme.id, &["VIEW_USERS"]).await));
    app.sql().await.execute("DELETE FROM users WHERE id = $1", &[&user]).await.unwrap();
    for caller in [&bo, &token, &key] {
        assert_problem(&caller.get(&members(&acme)).await, 401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_token_created_during_the_removal_of_its_maker_is_refused() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    let acme = app.set_up("acme").await;
    let user = add_member(&app, &acme, BO, "ADMIN").await;
    let bo = app.log_in(BO).await;
    for path in [TOKENS, "/api/api-keys"] {
        // The removal is paused: its rows are locked and nothing is committed.
        let mut sql = app.sql().await;
        let held = sql.transaction().await.unwrap();
        let lock = "SELECT id FROM tenants WHERE id = $1 FOR UPDATE";
        held.execute(lock, &[&acme.id]).await.unwrap();
        held.execute("SELECT id FROM users WHERE id = $1 FOR UPDATE", &[&user]).await.unwrap();
        held.execute("DELETE FROM memberships WHERE user_id = $1", &[&user]).await.unwrap();
        let (caller, tenant) = (bo.clone(), acme.id);
        let late = tokio::spawn(async move {
            let mut body = json!({ "name": "ci", "permissions": ["VIEW_USERS"] });
            if path == TOKENS {
                body["tenant_id"] = json!(tenant);
            }
            let request = caller.request(Method::POST, path).json(&body);
            send(request.header("x-tenant-id", tenant.to_string())).await
        });
        let observer = app.sql().await;
        let waiting = "SELECT count(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while observer.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            assert!(!late.is_finished(), "the request waits for the lock");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        held.commit().await.unwrap();
        assert_eq!(late.await.unwrap().status, 403, "{path}");
        join(&app, &acme, user, "ADMIN").await;
    }
    let count = "SELECT count(*) FROM tokens";
    assert_eq!(app.sql().await.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn the_upgrade_binds_existing_tokens_to_their_makers() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let user = add_member(&app, &acme, BO, "ADMIN").await;
    let bo = app.log_in(BO).await;
    let permissions = ["MANAGE_API_KEYS", "VIEW_USERS"];
    let token = make_token(&app, &bo, &permissions, Some(acme.id)).await;
    let by_token = make_token(&app, &token, &["VIEW_USERS"], Some(acme.id)).await;
    let operators = make_token(&app, &app.root(), &["VIEW_USERS"], Some(acme.id)).await;
    let (_, by_operator) = app.add_token(&[Permission::ViewUsers], Some(acme.id), None).await;
    let sql = app.sql().await;
    sql.execute("UPDATE tokens SET user_id = NULL", &[]).await.unwrap();
    sql.batch_execute(include_str!("../../public_migrations/V20__bind_tokens_to_users.sql"))
        .await
        .unwrap();
    remove(&app, &acme, user).await;
    for caller in [&token, &by_token] {
        assert_problem(&caller.get(&members(&acme)).await, 401, "unauthenticated");
    }
    for caller in [&operators, &by_operator] {
        assert_eq!(caller.get(&members(&acme)).await.status, 200);
    }
}
