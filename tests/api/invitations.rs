//! `/control/v1/tenants/{id}/invitations` and `/control/v1/invitations/accept`.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::control::{assert_problem, events, pointers, token_with, transition};
use crate::support::invited::{
    ACCEPT, accept_as_person, accept_as_user, invitations, invite, person, token_for,
};
use crate::support::scoped::{add_member, join, make_key, plaintext, user_id};
use crate::support::{Answer, Caller, Snapshot, TestApp};

const BO: &str = "bo@example.com";

async fn revoke(caller: &Caller, tenant: &str, id: &str) -> Answer {
    let target = format!("{}/{id}/revoke", invitations(tenant));
    send(caller.request(Method::POST, &target)).await
}

/// Returns the members of a tenant, each as `address: role`, and whether they agreed.
async fn members(app: &TestApp, tenant: Uuid) -> Vec<(String, bool)> {
    let sql = app.sql().await;
    let rows = sql
        .query(
            "SELECT u.email || ': ' || m.role, m.accepted_at IS NOT NULL
               FROM memberships m JOIN users u ON u.id = m.user_id
              WHERE m.tenant_id = $1 ORDER BY m.created_at, m.user_id",
            &[&tenant],
        )
        .await
        .expect("members can be read");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Fails unless the acceptance is refused and changes nothing.
async fn assert_refused(app: &TestApp, caller: &Caller, body: &Value, status: u16, code: &str) {
    // Seals the audit chain now, so that the background job does not change the snapshot.
    app.services.audit.seal(&app.operator()).await.expect("the operator may");
    let before = Snapshot::of(app).await;
    let answer = caller.post(ACCEPT, body).await;
    assert_problem(&answer, status, code);
    assert_eq!(Snapshot::of(app).await, before, "{code}");
}

#[tokio::test]
async fn a_person_without_an_account_accepts_with_a_name_and_a_password_and_can_log_in() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let made = invite(&admin, "acme", "Bo@Example.com", "FDE").await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!((&made.body["email"], &made.body["role"]), (&json!(BO), &json!("FDE")));
    let token = made.body["token"].as_str().expect("the token is shown once").to_owned();
    assert!(token.starts_with("rhi_"));
    let listed = admin.get(&invitations("acme")).await;
    assert_eq!((listed.status, &listed.body["data"][0]["id"]), (200, &made.body["id"]));
    assert!(!listed.text.contains("rhi_"), "a list shows no token");

    let accepted = accept_as_person(&app, &token).await;
    assert_eq!(accepted.status, 200, "{accepted:?}");
    assert_eq!(
        accepted.body,
        json!({
            "tenant_id": acme.id, "tenant_slug": "acme", "tenant_name": "Tenant acme",
            "user_id": user_id(&app, BO).await, "email": BO, "role": "FDE",
        })
    );
    let bo = app.log_in(BO).await;
    assert_eq!(bo.get("/control/v1/tenants/acme/members").await.status, 200);
    let listed = admin.get(&invitations("acme")).await;
    assert!(listed.body["data"][0]["accepted_at"].is_string(), "{listed:?}");
    for action in ["invitation.create", "invitation.accept"] {
        assert_eq!(events(&app, acme.id, action).await, 1, "{action}");
    }
    let details = "SELECT string_agg(details::text, '') FROM audit_events";
    let details: String = app.sql().await.query_one(details, &[]).await.unwrap().get(0);
    assert!(!details.contains(BO) && !details.contains(&token), "{details}");
}

#[tokio::test]
async fn a_user_accepts_logged_in_and_keeps_name_and_password() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    let token = token_for(&admin, "acme", &other.admin_email, "VIEWER").await;
    let ada = app.log_in(&other.admin_email).await;
    let accepted = accept_as_user(&ada, &token).await;
    assert_eq!((accepted.status, &accepted.body["role"]), (200, &json!("VIEWER")), "{accepted:?}");
    let expected = [
        (format!("{}: ADMIN", acme.admin_email), true),
        (format!("{}: VIEWER", other.admin_email), true),
    ];
    assert_eq!(members(&app, acme.id).await, expected);
    app.log_in(&other.admin_email).await;
    // A second invitation does not change the role of a member.
    let again = token_for(&admin, "acme", &other.admin_email, "ADMIN").await;
    assert_refused(&app, &ada, &json!({ "token": again }), 409, "already_member").await;
}

#[tokio::test]
async fn an_invitation_that_is_used_twice_at_once_makes_one_membership() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    let acme = app.set_up("acme").await;
    let other = app.set_up("other").await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    let admin = app.log_in(&acme.admin_email).await;
    for round in 0..5 {
        let email = format!("bo{round}@example.com");
        let token = token_for(&admin, "acme", &email, "FDE").await;
        let uses = [&app, &second, &app].map(|server| accept_as_person(server, &token));
        let mut statuses: Vec<u16> =
            join_all(uses).await.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 410, 410]);
    }
    let ada = app.log_in(&other.admin_email).await;
    let token = token_for(&admin, "acme", &other.admin_email, "FDE").await;
    let there = second.bearer(ada.token());
    let (one, two) = tokio::join!(accept_as_user(&ada, &token), accept_as_user(&there, &token));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 410]);
    assert_eq!(members(&app, acme.id).await.len(), 7);
    assert_eq!(events(&app, acme.id, "invitation.accept").await, 6);
    assert_refused(&app, &ada, &json!({ "token": token }), 410, "invitation_used").await;
}

#[tokio::test]
async fn an_expired_and_a_revoked_invitation_are_gone_and_change_nothing() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let (root, admin) = (app.root(), app.log_in(&acme.admin_email).await);
    let made = invite(&admin, "acme", BO, "FDE").await;
    let id = made.body["id"].as_str().unwrap();
    let first = revoke(&admin, "acme", id).await;
    assert_eq!(first.status, 200, "{first:?}");
    let again = revoke(&root, "acme", id).await;
    assert_eq!((again.status, &again.body), (200, &first.body), "a second one changes nothing");
    assert_eq!(events(&app, acme.id, "invitation.revoke").await, 1);
    let body = person(made.body["token"].as_str().unwrap());
    assert_refused(&app, &app.anonymous(), &body, 410, "invitation_revoked").await;

    let token = token_for(&root, "acme", BO, "FDE").await;
    app.clock.advance(time::Duration::days(7) - time::Duration::minutes(1));
    let late = token_for(&root, "acme", "cy@example.com", "FDE").await;
    app.clock.advance(time::Duration::minutes(2));
    assert_refused(&app, &app.anonymous(), &person(&token), 410, "invitation_expired").await;
    assert_eq!(accept_as_person(&app, &late).await.status, 200, "an invitation is good for 7 days");
    let used = root.get(&invitations("acme")).await.body["data"][2]["id"].clone();
    let refused = revoke(&root, "acme", used.as_str().unwrap()).await;
    assert_problem(&refused, 410, "invitation_used");
    // Those that expired more than 30 days ago are forgotten, because each holds an address.
    app.clock.advance(time::Duration::days(38));
    invite(&root, "acme", "di@example.com", "FDE").await;
    let listed = root.get(&invitations("acme")).await;
    assert_eq!(listed.body["data"].as_array().map(Vec::len), Some(1), "{listed:?}");
}

#[tokio::test]
async fn an_invitation_to_a_suspended_deleted_or_purged_tenant_cannot_be_used() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let root = app.root();
    let token = token_for(&root, "acme", BO, "FDE").await;
    for verb in ["suspend", "delete"] {
        assert_eq!(transition(&root, "acme", verb).await.status, 200);
        assert_refused(&app, &app.anonymous(), &person(&token), 409, "tenant_not_active").await;
    }
    assert_problem(&invite(&root, "acme", "cy@x.com", "FDE").await, 409, "tenant_not_active");
    assert_eq!(transition(&root, "acme", "purge").await.status, 204);
    assert_refused(&app, &app.anonymous(), &person(&token), 404, "invitation_not_found").await;
}

#[tokio::test]
async fn the_inviter_must_still_hold_what_the_role_grants_when_the_invitation_is_used() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let sql = app.sql().await;
    let set_role = "UPDATE memberships SET role = $2 WHERE user_id = $1";
    for (number, lowered) in [Some("FDE"), Some("VIEWER"), None].into_iter().enumerate() {
        let email = format!("inviter{number}@example.com");
        let user = add_member(&app, &acme, &email, "ADMIN").await;
        let bo = format!("bo{number}@example.com");
        let token = token_for(&app.log_in(&email).await, "acme", &bo, "VIEWER").await;
        if let Some(role) = lowered {
            sql.execute(set_role, &[&user, &role]).await.unwrap();
        } else {
            let target = format!("/control/v1/tenants/acme/members/{user}");
            let removed = send(app.root().request(Method::DELETE, &target)).await;
            assert_eq!(removed.status, 204);
        }
        let body = person(&token);
        assert_refused(&app, &app.anonymous(), &body, 403, "inviter_lost_rights").await;
        // It works again when the inviter has the role again.
        if lowered.is_some() {
            sql.execute(set_role, &[&user, &"ADMIN"]).await.unwrap();
            assert_eq!(accept_as_person(&app, &token).await.status, 200);
        }
    }
}

#[tokio::test]
async fn an_invitation_ends_with_the_token_or_key_that_made_it() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let permissions = ["MANAGE_MEMBERS", "READ_PROFILES"];
    let body = json!({ "name": "ci", "permissions": permissions, "tenant_id": acme.id });
    let made = admin.post("/control/v1/tokens", &body).await;
    let by_token = app.bearer(made.body["token"].as_str().unwrap());
    let key = make_key(&admin, acme.id, &permissions).await;
    let by_key = app.keyed(&plaintext(&key));
    // Neither can invite to a role that grants more.
    for caller in [&by_token, &by_key] {
        let refused = invite(caller, "acme", "eve@example.com", "FDE").await;
        assert_problem(&refused, 403, "forbidden");
    }
    let tokens = [
        token_for(&by_token, "acme", "one@example.com", "VIEWER").await,
        token_for(&by_key, "acme", "two@example.com", "VIEWER").await,
    ];
    let accepted = token_for(&by_token, "acme", "three@example.com", "VIEWER").await;
    assert_eq!(accept_as_person(&app, &accepted).await.status, 200);
    let end = "UPDATE tokens SET revoked_at = now() WHERE tenant_id = $1";
    app.sql().await.execute(end, &[&acme.id]).await.unwrap();
    for token in tokens {
        assert_refused(&app, &app.anonymous(), &person(&token), 403, "inviter_lost_rights").await;
    }
}

#[tokio::test]
async fn an_invitation_is_accepted_by_the_account_with_the_invited_address_and_no_other_caller() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let root = app.root();
    let stranger = app.log_in(&other.admin_email).await;
    let unused = json!({ "token": token_for(&root, "acme", BO, "FDE").await });
    // The answer is the same whether the invited address has an account or not.
    assert_refused(&app, &stranger, &unused, 403, "invitation_for_another_address").await;
    app.add_user(BO, None).await;
    assert_refused(&app, &stranger, &unused, 403, "invitation_for_another_address").await;
    let (_, api_token) = app.add_token(rowhouse::domain::Permission::ALL, None, None).await;
    let bo = app.log_in(BO).await;
    join(&app, &other, user_id(&app, BO).await, "ADMIN").await;
    let key = plaintext(&make_key(&bo, other.id, &["VIEW_USERS"]).await);
    for caller in [&root, &api_token, &app.keyed(&key)] {
        assert_refused(&app, caller, &unused, 403, "forbidden").await;
    }
    let body = person(unused["token"].as_str().unwrap());
    assert_refused(&app, &app.anonymous(), &body, 401, "log_in_required").await;
    assert_refused(&app, &app.bearer("garbage"), &unused, 401, "unauthenticated").await;
    assert_eq!(bo.post(ACCEPT, &unused).await.status, 200);
    assert_eq!(members(&app, acme.id).await.len(), 2);
}

#[tokio::test]
async fn nothing_shows_whether_an_invited_address_has_an_account() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let other = app.set_up("other").await;
    let admin = app.log_in(&acme.admin_email).await;
    let (known, unknown) = (other.admin_email.as_str(), "unknown@example.com");
    let mut answers = Vec::new();
    for email in [known, unknown] {
        let made = invite(&admin, "acme", email, "VIEWER").await;
        let token = made.body["token"].as_str().unwrap().to_owned();
        let incomplete = app.anonymous().post(ACCEPT, &json!({ "token": token })).await;
        let by_another = accept_as_user(&admin, &token).await;
        let add = json!({ "email": email, "role": "VIEWER" });
        let added = admin.post("/control/v1/tenants/acme/members", &add).await;
        let with_password = json!({ "email": email, "role": "VIEWER", "password": "SecurePass123!",
                                    "first_name": "B", "last_name": "B" });
        let created = admin.post("/control/v1/tenants/acme/members", &with_password).await;
        let keys: Vec<String> = made.body.as_object().unwrap().keys().cloned().collect();
        answers.push((
            (made.status, keys),
            (incomplete.status, pointers(&incomplete)),
            [by_another, added, created].map(|answer| {
                let mut body = answer.body.clone();
                body["request_id"] = json!(null);
                (answer.status, body.to_string())
            }),
        ));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(
        answers[0].1,
        (
            400,
            ["password", "first_name", "last_name"]
                .map(|name| format!("/{name}: required"))
                .to_vec()
        )
    );
    let listed = admin.get("/control/v1/tenants/acme/members").await;
    assert!(!listed.text.contains(known), "an invited person is no member: {listed:?}");
}

#[tokio::test]
async fn every_invalid_field_of_an_invitation_and_of_an_acceptance_is_reported_by_name() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let root = app.root();
    for (body, problems) in [
        (json!({}), vec!["/email: required", "/role: required"]),
        (
            json!({ "email": "x", "role": "SUPER_ADMIN", "password": "SecurePass123!" }),
            vec!["/email: email_format", "/role: not_one_of", "/password: unknown_field"],
        ),
        (json!({ "email": 7, "role": "admin" }), vec!["/email: wrong_type", "/role: not_one_of"]),
    ] {
        let answer = root.post(&invitations("acme"), &body).await;
        assert_problem(&answer, 400, "invalid");
        assert_eq!(pointers(&answer), problems);
    }
    let all = [
        "/token: required",
        "/password: required",
        "/first_name: required",
        "/last_name: required",
    ];
    let user = app.log_in("admin@acme.example.com").await;
    for (caller, body, problems) in [
        (&app.anonymous(), json!({}), all.to_vec()),
        (
            &app.anonymous(),
            json!({ "token": "", "password": "short", "first_name": " ", "last_name": 7, "email": BO }),
            vec![
                "/token: required",
                "/password: too_short",
                "/first_name: required",
                "/last_name: wrong_type",
                "/email: unknown_field",
            ],
        ),
        (&user, json!({}), vec!["/token: required"]),
        (
            &user,
            person("rhi_x"),
            vec![
                "/first_name: unknown_field",
                "/last_name: unknown_field",
                "/password: unknown_field",
            ],
        ),
        (&user, json!({ "tenant": "acme", "token": "x" }), vec!["/tenant: unknown_field"]),
    ] {
        let answer = caller.post(ACCEPT, &body).await;
        assert_problem(&answer, 400, "invalid");
        assert_eq!(pointers(&answer), problems);
    }
    for unknown in ["x", "rhi_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &app.root_token] {
        assert_refused(&app, &app.anonymous(), &person(unknown), 404, "invitation_not_found").await;
    }
    for id in ["x", "6f2c1f6e-3a5b-4d0c-9b1e-0a2b3c4d5e6f"] {
        assert_problem(&revoke(&root, "acme", id).await, 404, "invitation_not_found");
    }
    assert_problem(&root.get(&format!("{}?x=1", invitations("acme"))).await, 400, "invalid");
}

#[tokio::test]
async fn a_caller_without_rights_invites_lists_and_revokes_nothing_and_finds_no_other_tenant() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let outsider = app.log_in(&other.admin_email).await;
    let viewer = token_with(&app, &["VIEW_USERS"], None).await;
    let clerk = token_with(&app, &["MANAGE_MEMBERS", "READ_PROFILES"], Some(acme.id)).await;
    let made = invite(&app.root(), "acme", BO, "ADMIN").await;
    let id = made.body["id"].as_str().unwrap();
    for (caller, status, code) in [
        (&outsider, 404, "tenant_not_found"),
        (&viewer, 403, "forbidden"),
        (&app.anonymous(), 401, "unauthenticated"),
    ] {
        assert_problem(&invite(caller, "acme", "eve@example.com", "VIEWER").await, status, code);
        assert_problem(&caller.get(&invitations("acme")).await, status, code);
        assert_problem(&revoke(caller, "acme", id).await, status, code);
    }
    // Another tenant's invitation is not found by its id, and what a caller cannot grant it cannot take away.
    assert_problem(&revoke(&outsider, "other", id).await, 404, "invitation_not_found");
    assert_problem(&revoke(&clerk, "acme", id).await, 403, "forbidden");
    let listed = clerk.get(&invitations("acme")).await;
    assert_eq!(listed.body["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed.body["data"][0]["revoked_at"], json!(null));
}

#[tokio::test]
async fn guesses_at_the_tokens_of_invitations_are_limited() {
    let app =
        TestApp::builder().with_stopped_clock().with("limits.token_address", "6/3").spawn().await;
    app.set_up("acme").await;
    let good = token_for(&app.root(), "acme", BO, "FDE").await;
    for n in 0..3 {
        let answer = accept_as_person(&app, &format!("rhi_{n}")).await;
        assert_problem(&answer, 404, "invitation_not_found");
    }
    assert_problem(&accept_as_person(&app, "rhi_3").await, 429, "too_many");
    assert_problem(&accept_as_person(&app, &good).await, 429, "too_many");
    app.clock.advance(time::Duration::seconds(20));
    assert_eq!(accept_as_person(&app, &good).await.status, 200);
}

#[tokio::test]
async fn invitations_are_listed_page_by_page() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let root = app.root();
    for n in 0..3 {
        token_for(&root, "acme", &format!("bo{n}@example.com"), "FDE").await;
    }
    let (mut emails, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = root.get(&format!("{}?limit=1{cursor}", invitations("acme"))).await;
        assert_eq!(page.status, 200, "{page:?}");
        emails.push(page.body["data"][0]["email"].as_str().unwrap().to_owned());
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(emails, ["bo0@example.com", "bo1@example.com", "bo2@example.com"]);
}
