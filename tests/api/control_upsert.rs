//! `PUT`, `GET` and `DELETE` of a tenant by the caller's own id: the upsert does what it says, or refuses.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::control::{
    assert_problem, events, pointers, put, send_if_match, token_with, transition,
};
use crate::support::{Answer, PASSWORD, TestApp};

const TARGET: &str = "/control/v1/tenants/by-external-id/crm-1";

fn id_of(answer: &Answer) -> Uuid {
    answer.body["id"].as_str().and_then(|id| id.parse().ok()).expect("the answer has an id")
}

async fn members(app: &TestApp, tenant: Uuid) -> Vec<(String, String)> {
    let listed = app.root().get(&format!("/control/v1/tenants/{tenant}/members")).await;
    let members = listed.body["data"].as_array().expect("there is data").clone();
    let text = |member: &Value, key: &str| member[key].as_str().unwrap_or_default().to_owned();
    members.iter().map(|member| (text(member, "email"), text(member, "role"))).collect()
}

#[tokio::test]
async fn an_upsert_applies_the_name_and_the_settings_and_says_so() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let body =
        json!({ "name": "Acme", "slug": "acme", "settings": { "plan": "free", "seats": 1 } });
    let made = put(&root, TARGET, &body).await;
    assert_eq!((made.status, &made.body["outcome"]), (201, &json!("created")), "{made:?}");
    let same = put(&root, TARGET, &body).await;
    assert_eq!((same.status, &same.body["outcome"]), (200, &json!("unchanged")), "{same:?}");
    assert_eq!(same.header("etag"), Some("\"1\""));

    let other = json!({ "name": "Ajax", "slug": "acme", "settings": { "plan": "pro" } });
    let changed = put(&root, TARGET, &other).await;
    assert_eq!((changed.status, &changed.body["outcome"]), (200, &json!("changed")), "{changed:?}");
    assert_eq!(changed.body["name"], "Ajax");
    assert_eq!(changed.body["settings"], json!({ "plan": "pro" }), "they replace those before");
    assert_eq!(changed.header("etag"), Some("\"2\""), "one change, one revision");
    assert_eq!(events(&app, id_of(&made), "tenant.update").await, 1);

    let kept = put(&root, TARGET, &json!({ "name": "Ajax", "slug": "acme" })).await;
    assert_eq!(kept.body["outcome"], "unchanged", "settings that are not given stay");
    let mut read = root.get(TARGET).await.body;
    read["outcome"] = json!("unchanged");
    assert_eq!(read, kept.body);
    let too_large =
        json!({ "name": "Ajax", "slug": "acme", "settings": { "a": "y".repeat(70_000) } });
    assert_problem(&put(&root, TARGET, &too_large).await, 400, "invalid");
}

#[tokio::test]
async fn an_upsert_that_cannot_apply_a_field_names_it_and_changes_nothing() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let made = put(&root, TARGET, &json!({ "name": "Acme", "slug": "acme" })).await;
    app.set_up("other").await;
    let pipeline =
        token_with(&app, &["CREATE_TENANT", "UPDATE_TENANT", "MANAGE_MEMBERS"], None).await;
    let admin = json!({ "email": "admin@other.example.com" });
    for (caller, body, fields) in [
        (&root, json!({ "name": "New", "slug": "acme-2" }), vec!["/slug: differs"]),
        (
            &root,
            json!({ "name": "New", "slug": "acme", "expires_in": "1h" }),
            vec!["/expires_at: differs"],
        ),
        (
            &pipeline,
            json!({ "name": "New", "slug": "acme", "admin": admin }),
            vec!["/admin: differs"],
        ),
        (
            &pipeline,
            json!({ "name": "New", "slug": "x", "admin": admin, "expires_at": "2999-01-01T00:00:00Z" }),
            vec!["/slug: differs", "/admin: differs", "/expires_at: differs"],
        ),
    ] {
        let refused = put(caller, TARGET, &body).await;
        assert_problem(&refused, 409, "external_id_differs");
        assert_eq!(pointers(&refused), fields, "{body}");
    }
    let now = root.get(TARGET).await;
    assert_eq!((now.header("etag"), &now.body["name"]), (Some("\"1\""), &json!("Acme")));
    assert_eq!(members(&app, id_of(&made)).await, []);
}

#[tokio::test]
async fn an_upsert_links_a_missing_admin_once() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let made = put(&root, TARGET, &json!({ "name": "Acme", "slug": "acme" })).await;
    let tenant = id_of(&made);
    let new = json!({ "email": "ada@acme.com", "password": PASSWORD, "first_name": "Ada", "last_name": "L" });
    let body = json!({ "name": "Acme", "slug": "acme", "admin": new });
    let linked = put(&root, TARGET, &body).await;
    assert_eq!(linked.status, 200, "{linked:?}");
    assert_eq!(
        (&linked.body["outcome"], &linked.body["admin"]),
        (&json!("changed"), &json!("created"))
    );
    assert_eq!(members(&app, tenant).await, [("ada@acme.com".to_owned(), "ADMIN".to_owned())]);
    app.log_in("ada@acme.com").await;
    let again = put(&root, TARGET, &body).await;
    assert_eq!((&again.body["outcome"], &again.body["admin"]), (&json!("unchanged"), &Value::Null));
    // A caller who may only create finds it as it asked for it.
    let pipeline = token_with(&app, &["CREATE_TENANT"], None).await;
    let body = json!({ "name": "Acme", "slug": "acme", "admin": { "email": "ada@acme.com" } });
    assert_eq!(put(&pipeline, TARGET, &body).await.body["outcome"], "unchanged");

    // A member with another role becomes an admin.
    app.set_up("other").await;
    let member = json!({ "email": "admin@other.example.com", "role": "VIEWER" });
    assert_eq!(
        root.post(&format!("/control/v1/tenants/{tenant}/members"), &member).await.status,
        201
    );
    let body =
        json!({ "name": "Acme", "slug": "acme", "admin": { "email": "admin@other.example.com" } });
    assert_eq!(put(&root, TARGET, &body).await.body["outcome"], "changed");
    assert_eq!(members(&app, tenant).await[1].1, "ADMIN");
    for (action, count) in [("member.add", 2), ("member.set_role", 1)] {
        assert_eq!(events(&app, tenant, action).await, count, "{action}");
    }

    let unknown = json!({ "name": "New", "slug": "acme", "admin": { "email": "no@body.com" } });
    let refused = put(&root, TARGET, &unknown).await;
    assert_problem(&refused, 400, "invalid");
    assert_eq!(pointers(&refused), ["/admin/email: unknown_user"]);
    assert_eq!(root.get(TARGET).await.body["name"], "Acme", "the name was rolled back with it");
}

#[tokio::test]
async fn an_upsert_that_changes_something_needs_the_right_to_it() {
    let app = TestApp::spawn().await;
    put(&app.root(), TARGET, &json!({ "name": "Acme", "slug": "acme" })).await;
    let pipeline = token_with(&app, &["CREATE_TENANT"], None).await;
    let same = put(&pipeline, TARGET, &json!({ "name": "Acme", "slug": "acme" })).await;
    assert_eq!(same.status, 200, "{same:?}");
    let refused = put(&pipeline, TARGET, &json!({ "name": "Ajax", "slug": "acme" })).await;
    assert_problem(&refused, 403, "forbidden");
    assert_eq!(refused.body["missing"], json!(["UPDATE_TENANT"]));
    transition(&app.root(), "acme", "delete").await;
    let restore = format!("{TARGET}?restore=true");
    let refused = put(&pipeline, &restore, &json!({ "name": "Acme", "slug": "acme" })).await;
    assert_problem(&refused, 403, "forbidden");
    assert_eq!(refused.body["missing"], json!(["DELETE_TENANT"]));
    assert_eq!(app.root().get(TARGET).await.body["status"], "deleting");
}

#[tokio::test]
async fn an_upsert_of_a_tenant_that_is_being_deleted_is_refused_unless_it_restores_it() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let body = json!({ "name": "Acme", "slug": "acme" });
    put(&root, TARGET, &body).await;
    assert_eq!(transition(&root, "acme", "delete").await.status, 200);
    assert_problem(&put(&root, TARGET, &body).await, 409, "tenant_deleting");
    let no = format!("{TARGET}?restore=false");
    assert_problem(&put(&root, &no, &body).await, 409, "tenant_deleting");
    let restore = format!("{TARGET}?restore=true");
    let other = json!({ "name": "Acme", "slug": "other" });
    assert_problem(&put(&root, &restore, &other).await, 409, "external_id_differs");
    assert_eq!(root.get(TARGET).await.body["status"], "deleting", "nothing half done");
    let renamed = json!({ "name": "Ajax", "slug": "acme" });
    let restored = put(&root, &restore, &renamed).await;
    assert_eq!(restored.status, 200, "{restored:?}");
    assert_eq!(
        (&restored.body["status"], &restored.body["name"], &restored.body["outcome"]),
        (&json!("active"), &json!("Ajax"), &json!("changed"))
    );
    assert_eq!(put(&root, &restore, &renamed).await.body["outcome"], "unchanged");
    for bad in ["?restore=yes", "?restore=", "?restor=true"] {
        assert_problem(&put(&root, &format!("{TARGET}{bad}"), &body).await, 400, "invalid");
    }
}

#[tokio::test]
async fn concurrent_upserts_with_different_names_leave_one_tenant_with_one_of_them() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let bodies: Vec<_> =
        (0..6).map(|n| json!({ "name": format!("Name {n}"), "slug": "acme" })).collect();
    let answers =
        futures_util::future::join_all(bodies.iter().map(|body| put(&root, TARGET, body))).await;
    assert!(answers.iter().all(|answer| [200, 201].contains(&answer.status)), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    let now = root.get(TARGET).await;
    let revision = now.body["revision"].as_i64().expect("it is a number");
    let changed = answers.iter().filter(|answer| answer.body["outcome"] == "changed").count();
    assert_eq!(usize::try_from(revision).unwrap(), 1 + changed);
}

#[tokio::test]
async fn a_tenant_is_read_and_deleted_by_its_external_id() {
    let app = TestApp::spawn().await;
    let root = app.root();
    let target = "/control/v1/tenants/by-external-id/crm%2F1%20x";
    assert_problem(&root.get(target).await, 404, "tenant_not_found");
    assert_problem(&send(root.request(Method::DELETE, target)).await, 404, "tenant_not_found");
    let made = put(&root, target, &json!({ "name": "Acme", "slug": "acme" })).await;
    let read = root.get(target).await;
    assert_eq!((read.status, read.header("etag")), (200, Some("\"1\"")), "{read:?}");
    assert_eq!(read.body["id"], made.body["id"]);

    let (mine, bound) =
        (id_of(&made), token_with(&app, &["VIEW_TENANTS"], Some(id_of(&made))).await);
    let other = app.set_up("other").await;
    let elsewhere = token_with(&app, &["VIEW_TENANTS", "DELETE_TENANT"], Some(other.id)).await;
    assert_eq!(bound.get(target).await.body["id"], json!(mine));
    assert_problem(&elsewhere.get(target).await, 404, "tenant_not_found");
    assert_problem(&send(elsewhere.request(Method::DELETE, target)).await, 404, "tenant_not_found");
    assert_problem(&send(bound.request(Method::DELETE, target)).await, 403, "forbidden");

    let stale = send_if_match(&root, Method::DELETE, target, "\"7\"", None).await;
    assert_problem(&stale, 412, "precondition_failed");
    let deleted = send(root.request(Method::DELETE, target)).await;
    assert_eq!((deleted.status, &deleted.body["status"]), (200, &json!("deleting")), "{deleted:?}");
    let again = send(root.request(Method::DELETE, target)).await;
    assert_eq!((again.status, &again.body), (200, &deleted.body));
    assert_eq!(events(&app, mine, "tenant.delete").await, 1);
    assert_eq!(transition(&root, "acme", "purge").await.status, 204);
    assert_problem(&send(root.request(Method::DELETE, target)).await, 404, "tenant_not_found");
    let long = format!("/control/v1/tenants/by-external-id/{}", "x".repeat(300));
    assert_problem(&root.get(&long).await, 400, "invalid");
}
