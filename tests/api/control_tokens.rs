//! `/control/v1/tokens`: list, create, revoke.

use serde_json::json;
use uuid::Uuid;

use crate::support::TestApp;
use crate::support::control::{assert_problem, pointers, token_with};

const TOKENS: &str = "/control/v1/tokens";

#[tokio::test]
async fn a_token_is_shown_once_and_its_revocation_applies_at_once_in_every_process() {
    let app = TestApp::spawn().await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    let acme = app.set_up("acme").await;
    let body = json!({ "name": "ci", "permissions": ["VIEW_TENANTS", "VIEW_TENANTS"], "tenant_id": acme.id,
                       "expires_at": "2999-01-01T00:00:00Z" });
    let made = app.root().post(TOKENS, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.body["permissions"], json!(["VIEW_TENANTS"]));
    let secret = made.body["token"].as_str().unwrap().to_owned();
    let (in_first, in_second) = (app.bearer(&secret), second.bearer(&secret));
    for caller in [&in_first, &in_second] {
        assert_eq!(caller.get("/control/v1/tenants/acme").await.status, 200);
    }
    let list = app.root().get(TOKENS).await;
    assert_eq!(list.body["data"][0]["id"], made.body["id"]);
    assert!(!list.text.contains(&secret), "{list:?}");
    let stored = app
        .sql()
        .await
        .query_one("SELECT count(*) FROM tokens t WHERE t::text LIKE '%' || $1 || '%'", &[&secret])
        .await
        .unwrap();
    assert_eq!(stored.get::<_, i64>(0), 0, "the token itself is not stored");

    let revoke = format!("{TOKENS}/{}/revoke", made.body["id"].as_str().unwrap());
    let first = app.root().post(&revoke, &json!({})).await;
    assert_eq!(first.status, 200, "{first:?}");
    for caller in [&in_second, &in_first] {
        assert_problem(&caller.get("/control/v1/tenants/acme").await, 401, "unauthenticated");
    }
    let again = app.root().post(&revoke, &json!({})).await;
    assert_eq!(
        again.body["revoked_at"], first.body["revoked_at"],
        "a second revocation changes nothing"
    );
    let events = app
        .sql()
        .await
        .query_one(
            "SELECT count(*) FROM audit_events WHERE action LIKE 'token.%' AND tenant_id = $1",
            &[&acme.id],
        )
        .await
        .unwrap();
    assert_eq!(events.get::<_, i64>(0), 2, "one event for the creation and one for the revocation");
}

#[tokio::test]
async fn every_invalid_field_of_a_token_is_reported_by_name() {
    let app = TestApp::spawn().await;
    for (body, problems) in [
        (json!({}), vec!["/name: required", "/permissions: required"]),
        (
            json!({ "name": 1, "permissions": ["VIEW_TENANTS", "FLY", 5], "tenant_id": "acme",
                    "expires_at": "soon", "scope": "all" }),
            vec![
                "/name: wrong_type",
                "/permissions/1: unknown_permission",
                "/permissions/2: wrong_type",
                "/tenant_id: uuid_format",
                "/expires_at: timestamp",
                "/scope: unknown_field",
            ],
        ),
        (json!({ "name": "x", "permissions": "VIEW_TENANTS" }), vec!["/permissions: wrong_type"]),
        (json!({ "name": "x", "permissions": [] }), vec!["/permissions: required"]),
        (json!({ "name": " ", "permissions": ["VIEW_TENANTS"] }), vec!["/name: required"]),
        (
            json!({ "name": "x".repeat(256), "permissions": ["VIEW_TENANTS"] }),
            vec!["/name: too_long"],
        ),
        (
            json!({ "name": "x", "permissions": ["VIEW_TENANTS"], "expires_at": "2001-01-01T00:00:00Z" }),
            vec!["/expires_at: in_the_past"],
        ),
    ] {
        let answer = app.root().post(TOKENS, &body).await;
        assert_problem(&answer, 400, "invalid");
        assert_eq!(pointers(&answer), problems);
    }
    let unknown_tenant =
        json!({ "name": "x", "permissions": ["VIEW_TENANTS"], "tenant_id": Uuid::new_v4() });
    assert_problem(&app.root().post(TOKENS, &unknown_tenant).await, 404, "tenant_not_found");
    assert_eq!(app.root().get(TOKENS).await.body["data"], json!([]));
}

#[tokio::test]
async fn a_tenant_admin_manages_the_tokens_of_that_tenant_only() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    let new_token = |tenant: Option<Uuid>| json!({ "name": "x", "permissions": ["READ_PROFILES"], "tenant_id": tenant });
    let own = admin.post(TOKENS, &new_token(Some(acme.id))).await;
    assert_eq!(own.status, 201, "{own:?}");
    assert_problem(&admin.post(TOKENS, &new_token(Some(other.id))).await, 404, "tenant_not_found");
    assert_problem(
        &admin.post(TOKENS, &new_token(Some(Uuid::new_v4()))).await,
        404,
        "tenant_not_found",
    );
    assert_problem(&admin.post(TOKENS, &new_token(None)).await, 403, "forbidden");
    let too_much = json!({ "name": "x", "permissions": ["DELETE_TENANT"], "tenant_id": acme.id });
    let refused = admin.post(TOKENS, &too_much).await;
    assert_eq!((refused.status, &refused.body["missing"]), (403, &json!(["DELETE_TENANT"])));

    let foreign = app.root().post(TOKENS, &new_token(Some(other.id))).await;
    let global = app.root().post(TOKENS, &new_token(None)).await;
    let listed = admin.get(TOKENS).await;
    assert_eq!(listed.body["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed.body["data"][0]["id"], own.body["id"]);
    for answer in [&foreign, &global] {
        let revoke = format!("{TOKENS}/{}/revoke", answer.body["id"].as_str().unwrap());
        assert_problem(&admin.post(&revoke, &json!({})).await, 404, "token_not_found");
    }
    let revoke = format!("{TOKENS}/{}/revoke", own.body["id"].as_str().unwrap());
    assert_eq!(admin.post(&revoke, &json!({})).await.status, 200);
    let row = app
        .sql()
        .await
        .query_one("SELECT count(*) FROM tokens WHERE revoked_at IS NOT NULL", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    let page = app.root().get(&format!("{TOKENS}?limit=2")).await;
    let cursor = page.body["next_cursor"].as_str().unwrap();
    let rest = app.root().get(&format!("{TOKENS}?limit=2&cursor={cursor}")).await;
    assert_eq!(
        (rest.body["data"].as_array().unwrap().len(), &rest.body["next_cursor"]),
        (1, &json!(null))
    );
}

#[tokio::test]
async fn a_caller_without_rights_manages_no_tokens() {
    let app = TestApp::spawn().await;
    let viewer = token_with(&app, &["VIEW_TENANTS"], None).await;
    let revoke = format!("{TOKENS}/{}/revoke", Uuid::new_v4());
    for (caller, status, code) in
        [(&viewer, 403, "forbidden"), (&app.anonymous(), 401, "unauthenticated")]
    {
        assert_problem(&caller.get(TOKENS).await, status, code);
        assert_problem(&caller.post(TOKENS, &json!({})).await, status, code);
        assert_problem(&caller.post(&revoke, &json!({})).await, status, code);
    }
    for id in ["x".to_owned(), Uuid::new_v4().to_string()] {
        let answer = app.root().post(&format!("{TOKENS}/{id}/revoke"), &json!({})).await;
        assert_problem(&answer, 404, "token_not_found");
    }
}
