//! A tenant that is not active: its own members, tokens and API keys work nowhere in the control API, and see only
//! that it is not active.

use reqwest::Method;
use rowhouse::domain::Permission;
use serde_json::json;

use crate::support::callers::send;
use crate::support::control::{assert_problem, transition};
use crate::support::documented::operations;
use crate::support::invited::token_for;
use crate::support::scoped::{add_member, join, make_key, plaintext, user_id};
use crate::support::{PASSWORD, Snapshot, TestApp};

/// The operations by which a member sees that the tenant is not active.
const SEEN: &[(&str, &str)] = &[
    ("GET", "/control/v1/tenants"),
    ("GET", "/control/v1/tenants/{tenant}"),
    ("GET", "/control/v1/tenants/{tenant}/schema"),
];

/// The operations that work in no tenant: they concern the caller.
const OF_NO_TENANT: &[(&str, &str)] = &[
    ("POST", "/control/v1/invitations/accept"),
    ("GET", "/control/v1/openapi.json"),
    ("GET", "/control/v1/me"),
    ("POST", "/control/v1/me/password"),
    ("GET", "/control/v1/me/sessions"),
    ("DELETE", "/control/v1/me/sessions"),
    ("DELETE", "/control/v1/me/sessions/{id}"),
];

#[tokio::test]
async fn the_members_tokens_and_keys_of_a_tenant_that_is_not_active_work_nowhere_in_the_control_api()
 {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let member = add_member(&app, &acme, "bo@example.com", "FDE").await.to_string();
    let body = json!({ "name": "own", "permissions": ["MANAGE_API_KEYS", "MANAGE_MEMBERS", "VIEW_USERS", "VIEW_AUDIT"], "tenant_id": acme.id });
    let own = admin.post("/control/v1/tokens", &body).await;
    let token_id = own.body["id"].as_str().unwrap().to_owned();
    let own = app.bearer(own.body["token"].as_str().unwrap());
    let (_, bound) = app.add_token(Permission::ALL, Some(acme.id), None).await;
    let key = make_key(&admin, acme.id, &["MANAGE_MEMBERS", "VIEW_USERS", "VIEW_AUDIT"]).await;
    let key = app.keyed(&plaintext(&key));
    token_for(&admin, "acme", "cy@example.com", "VIEWER").await;
    for verb in ["suspend", "delete"] {
        assert_eq!(transition(&app.root(), "acme", verb).await.status, 200);
        app.services.audit.seal(&app.operator()).await.expect("the operator may");
        let before = Snapshot::of(&app).await;
        for operation in operations() {
            let line = (operation.method.as_str(), operation.template.as_str());
            if !operation.template.starts_with("/control/") || OF_NO_TENANT.contains(&line) {
                continue;
            }
            let path = operation.template.replace("{tenant}", "acme").replace("{user_id}", &member);
            let path = path.replace("{external_id}", "x").replace("{id}", &token_id);
            for (who, caller) in
                [("admin", &admin), ("token", &own), ("bound", &bound), ("key", &key)]
            {
                let method = Method::from_bytes(operation.method.as_bytes()).unwrap();
                let request = caller.request(method, &path).header("if-match", "*");
                let body = match operation.template.as_str() {
                    "/control/v1/tenants/{tenant}/members"
                    | "/control/v1/tenants/{tenant}/invitations" => {
                        json!({ "email": "di@example.com", "role": "VIEWER" })
                    }
                    "/control/v1/tenants/{tenant}/members/{user_id}" => json!({ "role": "VIEWER" }),
                    "/control/v1/tenants/{tenant}" => json!({ "name": "Renamed" }),
                    "/control/v1/tokens" => {
                        json!({ "name": "x", "permissions": ["VIEW_USERS"], "tenant_id": acme.id })
                    }
                    "/control/v1/tenants" | "/control/v1/tenants/by-external-id/{external_id}" => {
                        json!({ "name": "New", "slug": "new" })
                    }
                    _ => json!({}),
                };
                let takes_body = ["POST", "PUT", "PATCH"].contains(&operation.method.as_str());
                let answer = send(if takes_body { request.json(&body) } else { request }).await;
                let seen = SEEN.contains(&line);
                let expected: &[u16] = if seen { &[200, 403] } else { &[403, 404] };
                assert!(expected.contains(&answer.status), "{verb}: {who}: {line:?}: {answer:?}");
            }
        }
        // That they were refused is recorded.
        let changed = Snapshot::of(&app).await.changed_since(&before);
        let changed: Vec<_> = changed.iter().filter(|name| *name != "audit_events").collect();
        assert!(changed.is_empty(), "{verb}: {changed:?}");
    }
}

#[tokio::test]
async fn a_suspended_tenant_is_answered_as_one_that_does_not_exist() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    let both = app.log_in(&other.admin_email).await;
    join(&app, &acme, user_id(&app, &other.admin_email).await, "ADMIN").await;
    let lists = ["/control/v1/tokens", "/control/v1/audit-events"];
    let bound = json!({ "name": "x", "permissions": ["VIEW_USERS"], "tenant_id": acme.id });
    assert_eq!(transition(&app.root(), "acme", "suspend").await.status, 200);
    for caller in [&admin, &both] {
        for path in ["/control/v1/tenants/acme/members", "/control/v1/tenants/acme/invitations"] {
            assert_problem(&caller.get(path).await, 404, "tenant_not_found");
        }
        assert_problem(&caller.post("/control/v1/tokens", &bound).await, 404, "tenant_not_found");
        let events = format!("/control/v1/audit-events?tenant={}", acme.id);
        assert_problem(&caller.get(&events).await, 404, "tenant_not_found");
    }
    for path in lists {
        assert_problem(&admin.get(path).await, 404, "tenant_not_found");
        let listed = both.get(path).await;
        assert_eq!(listed.status, 200, "{listed:?}");
        assert!(!listed.text.contains(&acme.id.to_string()), "{listed:?}");
    }
    // The members see that it is suspended, and those who may work everywhere do.
    let seen = admin.get("/control/v1/tenants/acme").await;
    assert_eq!((seen.status, &seen.body["status"]), (200, &json!("suspended")));
    let body = json!({ "email": "bo@example.com", "role": "FDE", "password": PASSWORD,
                       "first_name": "B", "last_name": "B" });
    assert_eq!(app.root().post("/control/v1/tenants/acme/members", &body).await.status, 201);
    assert_eq!(transition(&app.root(), "acme", "resume").await.status, 200);
    for path in lists {
        assert_eq!(admin.get(path).await.status, 200);
    }
}
