//! `/control/v1/tenants/{id}/members`: the members of a tenant and their roles.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::control::{assert_problem, events, pointers, token_with, transition};
use crate::support::invited::{accept_as_person, accept_as_user, invite, token_for};
use crate::support::{Answer, Caller, PASSWORD, TestApp};

fn path(tenant: &str) -> String {
    format!("/control/v1/tenants/{tenant}/members")
}

fn new_member(email: &str, role: &str) -> Value {
    json!({ "email": email, "role": role, "password": PASSWORD, "first_name": "Bo", "last_name": "B" })
}

async fn add(caller: &Caller, tenant: &str, body: &Value) -> Answer {
    caller.post(&path(tenant), body).await
}

async fn set_role(caller: &Caller, tenant: &str, user: &str, role: &str) -> Answer {
    let target = format!("{}/{user}", path(tenant));
    send(caller.request(Method::PATCH, &target).json(&json!({ "role": role }))).await
}

async fn remove(caller: &Caller, tenant: &str, user: &str) -> Answer {
    send(caller.request(Method::DELETE, &format!("{}/{user}", path(tenant)))).await
}

/// Reads the emails and roles of a tenant's members from the database.
async fn members(app: &TestApp, tenant: Uuid) -> Vec<(String, String)> {
    let sql = app.sql().await;
    let rows = sql
        .query(
            "SELECT u.email, m.role FROM memberships m JOIN users u ON u.id = m.user_id
              WHERE m.tenant_id = $1 ORDER BY m.created_at, m.user_id",
            &[&tenant],
        )
        .await
        .expect("members can be read");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Returns the user id of the tenant's first member.
async fn first_member(caller: &Caller, tenant: &str) -> String {
    let list = caller.get(&path(tenant)).await;
    list.body["data"][0]["user_id"].as_str().expect("there is a member").to_owned()
}

#[tokio::test]
async fn a_tenant_admin_invites_changes_and_removes_members() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    let token = token_for(&admin, "acme", "Bo@Acme.com", "VIEWER").await;
    let made = accept_as_person(&app, &token).await;
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(
        (&made.body["email"], &made.body["role"]),
        (&json!("bo@acme.com"), &json!("VIEWER"))
    );
    let token = token_for(&admin, &acme.id.to_string(), &other.admin_email, "FDE").await;
    let existing = app.log_in(&other.admin_email).await;
    assert_eq!(accept_as_user(&existing, &token).await.status, 200);
    let expected = [
        (acme.admin_email.clone(), "ADMIN".to_owned()),
        ("bo@acme.com".to_owned(), "VIEWER".to_owned()),
        (other.admin_email.clone(), "FDE".to_owned()),
    ];
    assert_eq!(members(&app, acme.id).await, expected);

    // A member with read rights only reads the list page by page.
    let fde = app.log_in(&other.admin_email).await;
    let (mut emails, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = fde.get(&format!("{}?limit=1{cursor}", path("acme"))).await;
        assert_eq!(page.status, 200, "{page:?}");
        emails.push(page.body["data"][0]["email"].as_str().unwrap().to_owned());
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(emails, expected.map(|(email, _)| email));

    let bo = app.log_in("bo@acme.com").await;
    assert_problem(&bo.get(&path("acme")).await, 403, "forbidden");
    let id = made.body["user_id"].as_str().unwrap();
    let changed = set_role(&admin, "acme", id, "FDE").await;
    assert_eq!((changed.status, &changed.body["role"]), (200, &json!("FDE")), "{changed:?}");
    assert_eq!(bo.get(&path("acme")).await.status, 200, "a changed role applies at once");
    assert_eq!(remove(&admin, "acme", id).await.status, 204);
    assert_problem(&bo.get(&path("acme")).await, 403, "forbidden");
    assert_problem(&remove(&admin, "acme", id).await, 404, "member_not_found");
    assert_problem(&set_role(&admin, "acme", "not-a-user", "FDE").await, 404, "member_not_found");
    for (action, count) in [("invitation.accept", 2), ("member.set_role", 1), ("member.remove", 1)]
    {
        assert_eq!(events(&app, acme.id, action).await, count, "{action}");
    }
}

#[tokio::test]
async fn an_existing_user_is_linked_and_keeps_name_and_password() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let other = app.set_up("other").await;
    let mut body = new_member(&other.admin_email, "VIEWER");
    body["password"] = json!("another password");
    assert_eq!(add(&app.root(), "acme", &body).await.body["first_name"], "Ada");
    app.log_in(&other.admin_email).await; // the password is unchanged
    assert_problem(&add(&app.root(), "acme", &body).await, 409, "already_member");
    assert_eq!(members(&app, acme.id).await.len(), 2);
}

#[tokio::test]
async fn every_invalid_field_of_a_member_is_reported_by_name() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    for (body, problems) in [
        (json!({}), vec!["/email: required", "/role: required"]),
        (
            json!({ "email": "x", "role": "SUPER_ADMIN", "password": "short", "colour": 1 }),
            vec![
                "/email: email_format",
                "/role: not_one_of",
                "/password: too_short",
                "/first_name: required",
                "/last_name: required",
                "/colour: unknown_field",
            ],
        ),
        (json!({ "email": "no@body.com", "role": "VIEWER" }), vec!["/email: unknown_user"]),
    ] {
        let answer = add(&app.root(), "acme", &body).await;
        assert_problem(&answer, 400, "invalid");
        assert_eq!(pointers(&answer), problems);
    }
    let user = first_member(&app.root(), "acme").await;
    let answer = set_role(&app.root(), "acme", &user, "admin").await;
    assert_eq!(pointers(&answer), ["/role: not_one_of"]);
    assert_problem(&app.root().get(&format!("{}?x=1", path("acme"))).await, 400, "invalid");
    assert_eq!(members(&app, acme.id).await, [(acme.admin_email, "ADMIN".to_owned())]);
}

#[tokio::test]
async fn a_caller_without_rights_changes_no_members_and_does_not_find_another_tenant() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let outsider = app.log_in(&other.admin_email).await;
    let viewer = token_with(&app, &["VIEW_USERS"], None).await;
    let user = first_member(&app.root(), "acme").await;
    let body = new_member("bo@acme.com", "VIEWER");
    assert_problem(&outsider.get(&path("acme")).await, 404, "tenant_not_found");
    assert_eq!(viewer.get(&path("acme")).await.status, 200);
    assert_problem(&app.anonymous().get(&path("acme")).await, 401, "unauthenticated");
    for (caller, status, code) in [
        (&outsider, 404, "tenant_not_found"),
        (&viewer, 403, "forbidden"),
        (&app.anonymous(), 401, "unauthenticated"),
    ] {
        assert_problem(&add(caller, "acme", &body).await, status, code);
        assert_problem(&set_role(caller, "acme", &user, "VIEWER").await, status, code);
        assert_problem(&remove(caller, "acme", &user).await, status, code);
    }
    assert_eq!(members(&app, acme.id).await, [(acme.admin_email, "ADMIN".to_owned())]);
}

#[tokio::test]
async fn a_caller_neither_grants_nor_revokes_rights_that_it_does_not_have() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let clerk =
        token_with(&app, &["MANAGE_MEMBERS", "VIEW_USERS", "READ_PROFILES"], Some(acme.id)).await;
    let admin = first_member(&clerk, "acme").await;
    let refused = invite(&clerk, "acme", "eve@acme.com", "ADMIN").await;
    assert_problem(&refused, 403, "forbidden");
    assert!(refused.body["missing"].as_array().unwrap().contains(&json!("MANAGE_API_KEYS")));
    let token = token_for(&clerk, "acme", "bo@acme.com", "VIEWER").await;
    assert_eq!(accept_as_person(&app, &token).await.status, 200);
    add(&app.root(), "acme", &new_member("cy@acme.com", "ADMIN")).await;
    assert_problem(&set_role(&clerk, "acme", &admin, "VIEWER").await, 403, "forbidden");
    assert_problem(&remove(&clerk, "acme", &admin).await, 403, "forbidden");
    assert_eq!(members(&app, acme.id).await.len(), 3);
}

#[tokio::test]
async fn the_last_admin_is_neither_removed_nor_demoted() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let root = app.root();
    let ada = first_member(&root, "acme").await;
    add(&root, "acme", &new_member("bo@acme.com", "VIEWER")).await;
    assert_problem(&remove(&root, "acme", &ada).await, 409, "last_admin");
    assert_problem(&set_role(&root, "acme", &ada, "FDE").await, 409, "last_admin");
    assert_eq!(
        set_role(&root, "acme", &ada, "ADMIN").await.status,
        200,
        "an unchanged role is accepted"
    );
    assert_eq!(events(&app, acme.id, "member.set_role").await, 0);
}

#[tokio::test]
async fn concurrent_changes_in_two_processes_leave_one_admin() {
    let app = TestApp::spawn().await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    for round in 0..5 {
        let acme = app.set_up(&format!("acme-{round}")).await;
        let (root, second_root) = (app.root(), second.root());
        let ada = first_member(&root, &format!("acme-{round}")).await;
        let email = format!("bo@acme-{round}.com");
        let bo = add(&root, &format!("acme-{round}"), &new_member(&email, "ADMIN")).await;
        let bo = bo.body["user_id"].as_str().unwrap().to_owned();
        let slug = format!("acme-{round}");
        let (one, two) =
            tokio::join!(remove(&root, &slug, &ada), set_role(&second_root, &slug, &bo, "VIEWER"));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert!([[200, 409], [204, 409]].contains(&statuses), "{one:?} {two:?}");
        let admins = members(&app, acme.id).await;
        assert_eq!(admins.iter().filter(|(_, role)| role == "ADMIN").count(), 1, "{admins:?}");
    }
}

#[tokio::test]
async fn a_tenant_that_is_being_deleted_accepts_no_members() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    assert_eq!(transition(&app.root(), "acme", "suspend").await.status, 200);
    assert_eq!(add(&app.root(), "acme", &new_member("bo@acme.com", "VIEWER")).await.status, 201);
    assert_eq!(transition(&app.root(), "acme", "delete").await.status, 200);
    let late = add(&app.root(), "acme", &new_member("cy@acme.com", "VIEWER")).await;
    assert_problem(&late, 409, "tenant_not_active");
    assert_eq!(members(&app, acme.id).await.len(), 2);
    let row = app
        .sql()
        .await
        .query_one("SELECT count(*) FROM users WHERE email = 'cy@acme.com'", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i64>(0), 0, "the refused call creates no user");
}
