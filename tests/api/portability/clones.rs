//! A tenant is made of the data of another one, over HTTP: `POST /control/v1/tenants/{tenant}/clone`.

use reqwest::Method;
use rowhouse::domain::Permission;
use serde_json::json;

use super::fixture::{SMALL, app_of, run, schema_of, state, value};
use crate::support::callers::send;
use crate::support::control::assert_problem;

#[tokio::test]
async fn a_clone_has_the_rows_the_members_and_the_settings_of_its_source() {
    let (app, _files) = app_of(&SMALL).await;
    let (sql, root) = (app.sql().await, app.root());
    let acme = schema_of(&sql, "acme").await;
    run(&sql, &format!("INSERT INTO {acme}.notes (body) VALUES ('of acme'); DELETE FROM {acme}.notes WHERE body = 'a seed'")).await;
    run(&sql, "UPDATE tenants SET settings = '{\"plan\": \"pro\"}', external_id = 'crm-1' WHERE slug = 'acme'").await;
    let path = "/control/v1/tenants/acme/clone";
    let made = root.post(path, &json!({ "slug": "acme-staging" })).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.body["settings"], json!({ "plan": "pro" }));
    assert_eq!((&made.body["status"], &made.body["external_id"]), (&json!("active"), &json!(null)));
    let location = made.header("location").expect("a new thing has one");
    assert_eq!(root.get(location).await.body["slug"], "acme-staging");
    let twin = schema_of(&sql, "acme-staging").await;
    let rows = format!("SELECT string_agg(id || ' ' || body, ',') FROM {twin}.notes");
    assert_eq!(value(&sql, &rows).await, "2 of acme");
    run(&sql, &format!("INSERT INTO {twin}.notes (body) VALUES ('of the clone')")).await;
    assert_eq!(value(&sql, &rows).await, "2 of acme,3 of the clone");
    let admin = app.log_in("admin@acme.example.com").await;
    assert_eq!(admin.get("/control/v1/tenants/acme-staging/members").await.status, 200);
    let audit = "SELECT concat_ws(' ', details ->> 'from', details ->> 'rows', details ->> 'slug')
                   FROM audit_events WHERE action = 'tenant.clone'";
    assert_eq!(value(&sql, audit).await, "acme 1 acme-staging");

    let body = json!({ "slug": "empty", "name": "Empty", "exclude_data": ["notes"], "status": "suspended" });
    let made = root.post(path, &body).await;
    assert_eq!(
        (made.status, &made.body["status"], &made.body["name"]),
        (201, &json!("suspended"), &json!("Empty"))
    );
    let empty = schema_of(&sql, "empty").await;
    assert_eq!(value(&sql, &format!("SELECT count(*)::text FROM {empty}.notes")).await, "0");
}

#[tokio::test]
async fn a_clone_that_is_refused_changes_nothing() {
    let (app, _files) = app_of(&SMALL).await;
    let (sql, root) = (app.sql().await, app.root());
    let acme = schema_of(&sql, "acme").await;
    let (_, creator) = app.add_token(&[Permission::CreateTenant], None, None).await;
    let (_, exporter) = app.add_token(&[Permission::ExportTenant], None, None).await;
    let path = "/control/v1/tenants/acme/clone";
    let twin = json!({ "slug": "twin" });
    let before = state(&sql).await;
    for (caller, missing) in [(&creator, "EXPORT_TENANT"), (&exporter, "CREATE_TENANT")] {
        let answer = caller.post(path, &twin).await;
        assert_problem(&answer, 403, "forbidden");
        assert_eq!(answer.body["missing"], json!([missing]));
    }
    assert_problem(
        &root.post("/control/v1/tenants/none/clone", &twin).await,
        404,
        "tenant_not_found",
    );
    assert_problem(&root.post(path, &json!({ "slug": "acme" })).await, 409, "slug_taken");
    for body in [
        json!({}),
        json!({ "slug": "Twin" }),
        json!({ "slug": "twin", "status": "deleting" }),
        json!({ "slug": "twin", "exclude_data": "notes" }),
        json!({ "slug": "twin", "exclude_data": [1] }),
        json!({ "slug": "twin", "exclude": [] }),
    ] {
        assert_problem(&root.post(path, &body).await, 400, "invalid");
    }
    let unknown = json!({ "slug": "twin", "exclude_data": ["tags"] });
    assert_problem(&root.post(path, &unknown).await, 409, "unknown_tables");
    run(&sql, &format!("CREATE TABLE {acme}.extra (id int)")).await;
    assert_problem(&root.post(path, &twin).await, 409, "tenant_drifted");
    assert_eq!(state(&sql).await, before);
    let without = json!({ "slug": "twin", "exclude_data": ["extra"] });
    assert_eq!(root.post(path, &without).await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_makes_one_clone() {
    let (app, _files) = app_of(&SMALL).await;
    let (sql, root) = (app.sql().await, app.root());
    let path = "/control/v1/tenants/acme/clone";
    let keyed = async |slug: &str| {
        let request = root.request(Method::POST, path).header("idempotency-key", "k");
        send(request.json(&json!({ "slug": slug }))).await
    };
    // An expired key of another request, which ends after the clone has begun, does not stop it.
    let old = "INSERT INTO idempotency_keys (principal, key, request_digest, outcome, created_at, expires_at)
               VALUES ('x', 'old', '', '{}', now() - interval '2 days', now() - interval '1 day')";
    run(&sql, old).await;
    let (one, other) = tokio::join!(keyed("twin"), keyed("twin"));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    // The second one comes while the first one runs, or after it.
    assert!([[201, 201], [201, 409]].contains(&statuses), "{one:?} {other:?}");
    for answer in [one, other].iter().filter(|answer| answer.status == 409) {
        assert_problem(answer, 409, "still_running");
    }
    let before = state(&sql).await;
    let again = keyed("twin").await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!(again.body["slug"], "twin");
    assert_problem(&keyed("other").await, 422, "idempotency_key_reused");
    assert_eq!(state(&sql).await, before);
    run(&sql, "UPDATE idempotency_keys SET expires_at = now()").await;
    assert_problem(&keyed("twin").await, 409, "slug_taken");
}
