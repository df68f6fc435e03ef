//! `POST /api/auth/reset-user-password`: only a caller whose role is above the user's in every tenant of the user
//! sets the password, which ends all sessions of the user.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::control::{events, token_with};
use crate::support::scoped::{add_member, call_in, join, make_key, plaintext, post_in, user_id};
use crate::support::{Answer, Caller, PASSWORD, Snapshot, TestApp, TestTenant};

const RESET: &str = "/api/auth/reset-user-password";
const FRESH: &str = "NewSecurePass456!";

fn reset_body(user: Uuid) -> Value {
    json!({ "userId": user, "newPassword": FRESH })
}

async fn reset(caller: &Caller, tenant: Uuid, user: Uuid) -> Answer {
    post_in(caller, tenant, RESET, &reset_body(user)).await
}

async fn log_in(app: &TestApp, email: &str, password: &str) -> Answer {
    let body = json!({ "identifier": email, "password": password });
    app.anonymous().post("/api/auth/login", &body).await
}

#[tokio::test]
async fn a_reset_sets_the_password_and_ends_all_sessions_in_every_process() {
    let app = TestApp::spawn().await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let user = add_member(&app, &acme, "fde@example.com", "FDE").await;
    let sessions = [
        log_in(&app, "fde@example.com", PASSWORD).await,
        log_in(&second, "fde@example.com", PASSWORD).await,
    ];
    let second_session = app.log_in(&acme.admin_email).await;

    let done = reset(&admin, acme.id, user).await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.body, json!({ "message": "Password reset successfully" }));

    for session in &sessions {
        let token = session.body["accessToken"].as_str().unwrap();
        for server in [&app, &second] {
            server.bearer(token).get("/api/tenant/mine").await.refusal(401);
        }
        let cookie = session.header("set-cookie").unwrap().split(';').next().unwrap();
        let request = app.anonymous().request(Method::POST, "/api/auth/refresh");
        send(request.header("cookie", cookie)).await.refusal(401);
    }
    log_in(&app, "fde@example.com", PASSWORD).await.refusal(401);
    assert_eq!(log_in(&second, "fde@example.com", FRESH).await.status, 200);
    for caller in [&admin, &second_session] {
        assert_eq!(caller.get("/api/tenant/mine").await.status, 200, "other sessions are kept");
    }
    let sql = app.sql().await;
    let event =
        "SELECT actor, tenant_id, details FROM audit_events WHERE action = 'user.reset_password'";
    let event = sql.query_one(event, &[]).await.unwrap();
    let admin_id = user_id(&app, &acme.admin_email).await;
    assert_eq!(event.get::<_, String>(0), format!("user:{admin_id}"));
    assert_eq!(event.get::<_, Uuid>(1), acme.id);
    assert_eq!(
        event.get::<_, Value>(2),
        json!({ "user": user, "sessions_ended": 2, "tokens_ended": 0 })
    );
    // A repeated reset succeeds and is audited again.
    assert_eq!(reset(&admin, acme.id, user).await.status, 200);
    assert_eq!(events(&app, acme.id, "user.reset_password").await, 2);
}

#[tokio::test]
async fn a_reset_revokes_all_tokens_and_keys_of_the_user_and_no_others() {
    let app = TestApp::spawn().await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let user = add_member(&app, &acme, "bo@example.com", "ADMIN").await;
    join(&app, &other, user, "ADMIN").await;
    let bo = app.log_in("bo@example.com").await;
    let admin = app.log_in(&acme.admin_email).await;
    let make = async |by: &Caller, at: &TestTenant| {
        let body = json!({ "name": "ci", "permissions": ["VIEW_USERS", "MANAGE_API_KEYS"], "tenant_id": at.id });
        let made = by.post("/control/v1/tokens", &body).await;
        app.bearer(made.body["token"].as_str().expect("the answer has the token"))
    };
    let members = |at: &TestTenant| format!("/control/v1/tenants/{}/members", at.slug);
    let token = make(&bo, &acme).await;
    let revoked = [
        (make(&token, &acme).await, &acme),
        (token, &acme),
        (make(&bo, &other).await, &other),
        (app.keyed(&plaintext(&make_key(&bo, other.id, &["VIEW_USERS"]).await)), &other),
    ];
    let others = [
        make(&admin, &acme).await,
        app.keyed(&plaintext(&make_key(&admin, acme.id, &["VIEW_USERS"]).await)),
        make(&app.root(), &acme).await,
    ];
    for (caller, at) in &revoked {
        assert_eq!(caller.get(&members(at)).await.status, 200);
    }
    // The root token outranks the user in both tenants.
    assert_eq!(reset(&second.root(), acme.id, user).await.status, 200);
    for (caller, at) in &revoked {
        assert_eq!(caller.get(&members(at)).await.status, 401);
    }
    for caller in &others {
        assert_eq!(caller.get(&members(&acme)).await.status, 200);
    }
    // Each revocation is audited in the tenant of its token or key.
    let count = async |at: &TestTenant, action: &str| events(&app, at.id, action).await;
    assert_eq!((count(&acme, "token.revoke").await, count(&acme, "api_key.revoke").await), (2, 0));
    assert_eq!(
        (count(&other, "token.revoke").await, count(&other, "api_key.revoke").await),
        (1, 1)
    );
}

#[tokio::test]
async fn a_token_created_during_a_reset_does_not_outlive_it() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    let acme = app.set_up("acme").await;
    let user = add_member(&app, &acme, "bo@example.com", "ADMIN").await;
    let bo = app.log_in("bo@example.com").await;
    let token = json!({ "name": "x", "permissions": ["MANAGE_API_KEYS", "VIEW_USERS"], "tenant_id": acme.id });
    let token = bo.post("/control/v1/tokens", &token).await;
    let token = app.bearer(token.body["token"].as_str().unwrap());
    // Stands in for a reset that has written everything and committed nothing.
    let mut sql = app.sql().await;
    let held = sql.transaction().await.unwrap();
    held.execute("UPDATE users SET password_hash = 'x' WHERE id = $1", &[&user]).await.unwrap();
    for end in ["sessions", "tokens"] {
        let end = format!("UPDATE {end} SET revoked_at = now() WHERE user_id = $1");
        held.execute(&end, &[&user]).await.unwrap();
    }
    let late: Vec<_> = [bo, token]
        .into_iter()
        .map(|caller| {
            tokio::spawn(async move {
                let body =
                    json!({ "name": "mine", "permissions": ["VIEW_USERS"], "tenant_id": acme.id });
                caller.post("/control/v1/tokens", &body).await
            })
        })
        .collect();
    let watcher = app.sql().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < 2 {
        assert!(
            !late.iter().any(tokio::task::JoinHandle::is_finished),
            "the requests wait for the reset"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    held.commit().await.unwrap();
    for late in late {
        assert_eq!(late.await.unwrap().status, 401);
    }
    let left = "SELECT count(*) FROM tokens WHERE user_id = $1 AND revoked_at IS NULL";
    assert_eq!(sql.query_one(left, &[&user]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_new_admin_password_in_the_settings_ends_sessions_and_keeps_tokens_and_keys() {
    let settings = |password: &str| {
        TestApp::builder()
            .with("admin_email", "root@example.com")
            .with("admin_password", password.to_owned())
    };
    let app = settings(PASSWORD).spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in("root@example.com").await;
    let key = plaintext(&make_key(&admin, acme.id, &["VIEW_USERS"]).await);
    // A restart with the same password changes nothing.
    let same = settings(PASSWORD).on(app.database.clone()).spawn().await;
    assert_eq!(admin.get("/api/tenant").await.status, 200);
    drop(same);
    let changed = settings(FRESH).on(app.database.clone()).spawn().await;
    assert_eq!(admin.get("/api/tenant").await.status, 401);
    log_in(&changed, "root@example.com", PASSWORD).await.refusal(401);
    assert_eq!(log_in(&changed, "root@example.com", FRESH).await.status, 200);
    let members = "/control/v1/tenants/acme/members";
    assert_eq!(changed.keyed(&key).get(members).await.status, 200);
}

#[tokio::test]
async fn only_a_caller_who_outranks_the_user_in_every_tenant_resets_the_password() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    let both = app.log_in(&other.admin_email).await;
    join(&app, &acme, user_id(&app, &other.admin_email).await, "ADMIN").await;
    app.add_user("chief@example.com", Some("SUPER_ADMIN")).await;
    app.add_user("platform@example.com", Some("ADMIN")).await;
    app.add_user("looker@example.com", Some("VIEWER")).await;
    let chief = app.log_in("chief@example.com").await;
    let platform = app.log_in("platform@example.com").await;
    let root = app.root();

    let peer = add_member(&app, &acme, "peer@example.com", "ADMIN").await;
    let fde = add_member(&app, &acme, "fde@example.com", "FDE").await;
    let viewer = add_member(&app, &acme, "viewer@example.com", "VIEWER").await;
    // A viewer in both tenants; an FDE here who is an admin of the other; a viewer here who is a platform admin.
    let shared = add_member(&app, &acme, "shared@example.com", "VIEWER").await;
    join(&app, &other, shared, "VIEWER").await;
    let other_admin = add_member(&app, &acme, "other-admin@example.com", "FDE").await;
    join(&app, &other, other_admin, "ADMIN").await;
    let platform_viewer = app.add_user("platform-viewer@example.com", Some("ADMIN")).await;
    join(&app, &acme, platform_viewer, "VIEWER").await;
    let chief_here = app.add_user("chief2@example.com", Some("SUPER_ADMIN")).await;
    join(&app, &acme, chief_here, "VIEWER").await;
    let myself = user_id(&app, &acme.admin_email).await;

    for (what, caller, allowed) in [
        ("an admin here", &admin, vec![fde, viewer]),
        ("an admin here and there", &both, vec![fde, viewer, shared]),
        ("an admin everywhere", &platform, vec![fde, viewer, shared]),
        (
            "a super admin",
            &chief,
            vec![fde, viewer, shared, other_admin, peer, platform_viewer, myself],
        ),
        (
            "the root",
            &root,
            vec![fde, viewer, shared, other_admin, peer, platform_viewer, chief_here, myself],
        ),
    ] {
        for target in [peer, fde, viewer, shared, other_admin, platform_viewer, chief_here, myself]
        {
            let hash = "SELECT password_hash FROM users WHERE id = $1";
            let sql = app.sql().await;
            let before: String = sql.query_one(hash, &[&target]).await.unwrap().get(0);
            let answer = reset(caller, acme.id, target).await;
            let after: String = sql.query_one(hash, &[&target]).await.unwrap().get(0);
            if allowed.contains(&target) {
                assert_eq!(answer.status, 200, "{what}: {target}: {answer:?}");
                assert_ne!(after, before);
            } else {
                // The answer does not reveal the user's roles elsewhere.
                assert_eq!(answer.refusal(403), "You may not do this", "{what}: {target}");
                assert_eq!(after, before);
            }
        }
    }
}

#[tokio::test]
async fn a_caller_without_the_permission_resets_no_password() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let viewer = add_member(&app, &acme, "viewer@example.com", "VIEWER").await;
    let elsewhere = add_member(&app, &other, "elsewhere@example.com", "VIEWER").await;
    let nowhere = app.add_user("nowhere@example.com", None).await;
    add_member(&app, &acme, "fde@example.com", "FDE").await;
    let fde = app.log_in("fde@example.com").await;
    let admin = app.log_in(&acme.admin_email).await;
    let before = Snapshot::of(&app).await;
    let missing = "Missing permission: RESET_USER_PASSWORD";
    assert_eq!(reset(&fde, acme.id, viewer).await.refusal(403), missing);
    assert_eq!(reset(&admin, other.id, elsewhere).await.refusal(403), missing);
    reset(&app.anonymous(), acme.id, viewer).await.refusal(401);
    // A user who is not a member of the tenant is not found there, whatever their roles elsewhere.
    for target in [elsewhere, nowhere, Uuid::new_v4(), Uuid::nil()] {
        assert_eq!(reset(&admin, acme.id, target).await.refusal(404), "User not found");
    }
    assert_eq!(reset(&app.root(), acme.id, Uuid::new_v4()).await.refusal(404), "User not found");
    assert_eq!(Snapshot::of(&app).await, before);
    // Only a caller with the permission on the whole platform resets a user of no tenant.
    assert_eq!(reset(&app.root(), acme.id, nowhere).await.status, 200);
}

#[tokio::test]
async fn a_key_with_few_permissions_does_not_reset_users_with_more() {
    let app = TestApp::spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    let viewer = add_member(&app, &acme, "viewer@example.com", "VIEWER").await;
    let fde = add_member(&app, &acme, "fde@example.com", "FDE").await;
    let myself = user_id(&app, &acme.admin_email).await;
    let shared = add_member(&app, &acme, "shared@example.com", "VIEWER").await;
    join(&app, &other, shared, "VIEWER").await;

    let only_reset = make_key(&admin, acme.id, &["RESET_USER_PASSWORD"]).await;
    let only_reset = app.keyed(&plaintext(&only_reset));
    let token = token_with(&app, &["RESET_USER_PASSWORD"], None).await;
    for target in [viewer, fde, myself, shared] {
        for caller in [&only_reset, &token] {
            // Logged in as the viewer, the caller could read profiles, for which it has no permission.
            let answer = reset(caller, acme.id, target).await;
            assert_eq!(answer.refusal(403), "You may not do this");
        }
    }
    let reader = make_key(&admin, acme.id, &["RESET_USER_PASSWORD", "READ_PROFILES"]).await;
    let reader = app.keyed(&plaintext(&reader));
    assert_eq!(reset(&reader, acme.id, viewer).await.status, 200);
    for target in [fde, shared, myself] {
        reset(&reader, acme.id, target).await.refusal(403);
    }
    // A key with all permissions of an admin does not outrank an admin.
    let everything: Vec<_> = rowhouse::domain::Permission::ALL
        .iter()
        .filter(|permission| rowhouse::domain::Role::Admin.grants(**permission))
        .map(|permission| permission.as_str())
        .collect();
    let full = make_key(&admin, acme.id, &everything).await;
    let full = app.keyed(&plaintext(&full));
    assert_eq!(reset(&full, acme.id, fde).await.status, 200);
    reset(&full, acme.id, myself).await.refusal(403);
}

#[tokio::test]
async fn an_invalid_reset_names_each_invalid_field() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let user = add_member(&app, &acme, "fde@example.com", "FDE").await;
    let before = Snapshot::of(&app).await;
    for (field, value, rule) in [
        ("userId", json!(null), "required"),
        ("userId", json!(""), "required"),
        ("userId", json!(7), "wrong_type"),
        ("userId", json!("fde@example.com"), "uuid_format"),
        ("newPassword", json!(null), "required"),
        ("newPassword", json!(""), "required"),
        ("newPassword", json!(["NewSecurePass456!"]), "wrong_type"),
        ("newPassword", json!("1234567"), "too_short"),
        ("newPassword", json!("x".repeat(1025)), "too_long"),
        ("newPassword", json!("NewSecure\0Pass"), "control_character"),
    ] {
        let mut body = reset_body(user);
        body[field] = value;
        let answer = post_in(&admin, acme.id, RESET, &body).await;
        assert_eq!(answer.refusal(400), "Validation failed");
        assert_eq!(answer.bad_rules(), [(field, rule)], "{body}");
        assert!(!answer.text.contains("NewSecure"), "{answer:?}");
    }
    let both = post_in(&admin, acme.id, RESET, &json!({})).await;
    assert_eq!(both.bad_fields(), ["userId", "newPassword"]);
    assert_eq!(admin.post(RESET, &reset_body(user)).await.bad_fields(), ["x-tenant-id"]);
    let no_body = call_in(&admin, acme.id, Method::POST, RESET, None).await;
    assert!(no_body.refusal(400).starts_with("The body is not valid JSON"), "{no_body:?}");
    assert_eq!(Snapshot::of(&app).await, before);
    let request = admin.request(Method::POST, RESET).header("x-tenant-id", acme.id.to_string());
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(send(request.body(reset_body(user).to_string())).await.status, 200);
}

#[tokio::test]
async fn concurrent_resets_are_each_atomic() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let user = add_member(&app, &acme, "fde@example.com", "FDE").await;
    let passwords: Vec<_> = (0..4).map(|n| format!("NewSecurePass-{n}")).collect();
    let resets = passwords.iter().map(async |password| {
        let body = json!({ "userId": user, "newPassword": password });
        post_in(&admin, acme.id, RESET, &body).await
    });
    for answer in join_all(resets).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let mut good = 0;
    for password in &passwords {
        good += usize::from(log_in(&app, "fde@example.com", password).await.status == 200);
    }
    assert_eq!(good, 1, "exactly one password is valid");
    assert_eq!(events(&app, acme.id, "user.reset_password").await, 4);
}

#[tokio::test]
async fn a_log_in_with_the_old_password_does_not_outlive_a_reset() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let user = add_member(&app, &acme, "fde@example.com", "FDE").await;
    // Stands in for a reset that has written the new password and not committed. A log-in with the old one
    // waits for it and is then refused.
    let mut body = TestApp::setup_body("other");
    body["adminPassword"] = FRESH.into();
    assert_eq!(app.root().post("/api/tenant/setup", &body).await.status, 201);
    let mut sql = app.sql().await;
    let held = sql.transaction().await.unwrap();
    let fresh =
        "UPDATE users SET password_hash = (SELECT password_hash FROM users WHERE email = $2)
                  WHERE id = $1";
    held.execute(fresh, &[&user, &"admin@other.example.com"]).await.unwrap();
    let server = app.anonymous();
    let late = tokio::spawn(async move {
        let body = json!({ "identifier": "fde@example.com", "password": PASSWORD });
        server.post("/api/auth/login", &body).await
    });
    let watcher = app.sql().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(!late.is_finished(), "the log-in waits for the reset");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    held.commit().await.unwrap();
    late.await.unwrap().refusal(401);
    let left = "SELECT count(*) FROM sessions WHERE user_id = $1 AND revoked_at IS NULL";
    assert_eq!(sql.query_one(left, &[&user]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(reset(&admin, acme.id, user).await.status, 200);
}

#[tokio::test]
async fn a_user_who_concurrently_becomes_an_admin_elsewhere_is_not_reset() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    let (acme, other) = (app.set_up("acme").await, app.set_up("other").await);
    let admin = app.log_in(&acme.admin_email).await;
    let user = add_member(&app, &acme, "fde@example.com", "FDE").await;
    // The user becomes an admin of the other tenant in a transaction that is not committed yet.
    let mut sql = app.sql().await;
    let held = sql.transaction().await.unwrap();
    let join = "INSERT INTO memberships (tenant_id, user_id, role, created_at) VALUES ($1, $2, 'ADMIN', now())";
    held.execute(join, &[&other.id, &user]).await.unwrap();
    let (caller, tenant) = (admin.clone(), acme.id);
    let racing = tokio::spawn(async move { reset(&caller, tenant, user).await });
    let watcher = app.sql().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(!racing.is_finished(), "the reset waits for the membership");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    held.commit().await.unwrap();
    assert_eq!(racing.await.unwrap().refusal(403), "You may not do this");
    log_in(&app, "fde@example.com", PASSWORD).await;
    assert_eq!(log_in(&app, "fde@example.com", PASSWORD).await.status, 200);
}
