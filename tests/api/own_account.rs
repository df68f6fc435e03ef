//! `/control/v1/me`: who a caller is, the caller's sessions, the caller's password.

use futures_util::future::join_all;
use reqwest::Method;
use rowhouse::domain::Permission;
use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::control::{assert_problem, pointers};
use crate::support::scoped::{add_member, join, make_key, plaintext, user_id};
use crate::support::{Answer, Caller, PASSWORD, Snapshot, TestApp};

const ME: &str = "/control/v1/me";
const SESSIONS: &str = "/control/v1/me/sessions";
const CHANGE: &str = "/control/v1/me/password";
const LOGIN: &str = "/api/auth/login";
const EMAIL: &str = "una@example.com";
const FRESH: &str = "NewSecurePass456!";

async fn log_in_as(app: &TestApp, email: &str, password: &str, agent: &[u8]) -> Answer {
    let body = json!({ "identifier": email, "password": password });
    let request = app.anonymous().request(Method::POST, LOGIN).header("user-agent", agent);
    send(request.json(&body)).await
}

/// Logs in with [`PASSWORD`].
async fn log_in(app: &TestApp, agent: &[u8]) -> Caller {
    let answer = log_in_as(app, EMAIL, PASSWORD, agent).await;
    app.bearer(answer.body["accessToken"].as_str().expect("there is a token"))
}

async fn delete(caller: &Caller, path: &str) -> Answer {
    send(caller.request(Method::DELETE, path)).await
}

async fn change(caller: &Caller, current: &str, new: &str) -> Answer {
    caller.post(CHANGE, &json!({ "current_password": current, "new_password": new })).await
}

async fn is_accepted(caller: &Caller) -> bool {
    caller.get(ME).await.status == 200
}

fn all() -> Value {
    json!(Permission::ALL)
}

#[tokio::test]
async fn a_caller_learns_who_it_is_and_what_it_may_do_where() {
    let app = TestApp::spawn().await;
    let (acme, zeta) = (app.set_up("acme").await, app.set_up("zeta").await);
    let nothing = json!({
        "kind": "root", "id": null, "email": null, "first_name": null, "last_name": null, "name": null,
        "user_id": null, "tenant_id": null, "session_id": null, "platform_role": null,
        "roles": [], "permissions": all(),
    });
    assert_eq!(app.root().get(ME).await.body, nothing);

    let una = add_member(&app, &zeta, EMAIL, "VIEWER").await;
    join(&app, &acme, una, "ADMIN").await;
    let caller = log_in(&app, b"curl").await;
    let me = caller.get(ME).await.body;
    let sql = app.sql().await;
    let session: Uuid = sql.query_one("SELECT id FROM sessions", &[]).await.unwrap().get(0);
    for (field, expected) in [
        ("kind", json!("user")),
        ("id", json!(una)),
        ("user_id", json!(una)),
        ("email", json!(EMAIL)),
        ("first_name", json!("Una")),
        ("last_name", json!("User")),
        ("session_id", json!(session)),
        ("platform_role", Value::Null),
        ("tenant_id", Value::Null),
        ("name", Value::Null),
    ] {
        assert_eq!(me[field], expected, "{field}");
    }
    let roles: Vec<_> = me["roles"].as_array().expect("there are roles").iter().collect();
    let role = |n: usize| (&roles[n]["slug"], &roles[n]["role"], &roles[n]["tenant_id"]);
    assert_eq!(roles.len(), 2);
    assert_eq!(role(0), (&json!("acme"), &json!("ADMIN"), &json!(acme.id)));
    assert_eq!(role(1), (&json!("zeta"), &json!("VIEWER"), &json!(zeta.id)));
    assert_eq!(roles[1]["permissions"], json!(["READ_PROFILES"]));
    assert_eq!(me["permissions"], roles[0]["permissions"], "held in one tenant");
    assert_eq!((&roles[0]["status"], &roles[0]["name"]), (&json!("active"), &json!("Tenant acme")));

    app.add_user("chief@example.com", Some("SUPER_ADMIN")).await;
    let chief = app.log_in("chief@example.com").await.get(ME).await.body;
    assert_eq!((&chief["platform_role"], &chief["permissions"]), (&json!("SUPER_ADMIN"), &all()));
    assert_problem(&app.anonymous().get(ME).await, 401, "unauthenticated");
    assert_problem(&app.root().get(&format!("{ME}?x=1")).await, 400, "invalid");
}

#[tokio::test]
async fn a_token_or_key_learns_its_name_and_for_whom_and_where_it_works() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let una = add_member(&app, &acme, EMAIL, "ADMIN").await;
    let caller = log_in(&app, b"curl").await;
    let (id, bound) = app.add_token(&[Permission::ViewUsers], Some(acme.id), None).await;
    let (_, wide) = app.add_token(&[Permission::CreateTenant], None, None).await;
    let key = make_key(&caller, acme.id, &["VIEW_USERS"]).await;
    for (caller, kind, id, name, user, tenant, permission) in [
        (bound, "token", json!(id), "a test's", Value::Null, json!(acme.id), "VIEW_USERS"),
        (wide, "token", Value::Null, "a test's", Value::Null, Value::Null, "CREATE_TENANT"),
        (
            app.keyed(&plaintext(&key)),
            "api_key",
            key.body["id"].clone(),
            "a test's",
            json!(una),
            json!(acme.id),
            "VIEW_USERS",
        ),
    ] {
        let me = caller.get(ME).await.body;
        let found = (&me["kind"], &me["name"], &me["user_id"], &me["tenant_id"]);
        assert_eq!(found, (&json!(kind), &json!(name), &user, &tenant), "{me}");
        assert_eq!(me["permissions"], json!([permission]), "{me}");
        assert!(id.is_null() || me["id"] == id, "{me}");
        assert_eq!((&me["email"], &me["roles"]), (&Value::Null, &json!([])), "{me}");
    }
}

#[tokio::test]
async fn a_user_who_left_every_tenant_is_still_a_user_and_one_who_was_deleted_is_none() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let una = add_member(&app, &acme, EMAIL, "ADMIN").await;
    let caller = log_in(&app, b"curl").await;
    let member = format!("/control/v1/tenants/acme/members/{una}");
    assert_eq!(delete(&app.root(), &member).await.status, 204);
    let me = caller.get(ME).await;
    assert_eq!(
        (me.status, &me.body["roles"], &me.body["permissions"]),
        (200, &json!([]), &json!([]))
    );
    app.sql().await.execute("DELETE FROM users WHERE id = $1", &[&una]).await.unwrap();
    for path in [ME, SESSIONS] {
        assert_problem(&caller.get(path).await, 401, "unauthenticated");
    }
}

/// Returns the rows of a list, each as client and whether it is the current session.
fn rows(list: &Answer) -> Vec<(Value, bool)> {
    let rows = list.body["data"].as_array().unwrap_or_else(|| panic!("no list: {list:?}"));
    rows.iter().map(|row| (row["client"].clone(), row["current"] == json!(true))).collect()
}

#[tokio::test]
async fn a_user_sees_the_own_sessions_with_their_clients_and_last_use() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    app.add_user(EMAIL, None).await;
    app.add_user("other@example.com", None).await;
    app.log_in("other@example.com").await;
    let first = log_in(&app, "é".repeat(300).as_bytes()).await;
    app.clock.advance(Duration::seconds(1));
    log_in(&app, b"tab\there \xff").await;
    app.clock.advance(Duration::seconds(1));
    let third = log_in(&app, b"").await;
    let list = third.get(SESSIONS).await;
    let clients = [
        (Value::Null, true),
        (json!("tab\u{fffd}here \u{fffd}"), false),
        (json!("é".repeat(200)), false),
    ];
    assert_eq!(rows(&list), clients);
    assert_eq!(list.body["next_cursor"], Value::Null);
    assert!(!list.text.contains("127.0.0.1"), "a session has no address: {list:?}");
    // In pages.
    let page = third.get(&format!("{SESSIONS}?limit=2")).await;
    let cursor = page.body["next_cursor"].as_str().expect("there is more");
    let rest = first.get(&format!("{SESSIONS}?limit=2&cursor={cursor}")).await;
    assert_eq!(rows(&page), clients[..2]);
    assert_eq!(rows(&rest), [(clients[2].0.clone(), true)]);

    let last_used = async |caller: &Caller| caller.get(SESSIONS).await.body["data"][2].clone();
    let at_log_in = last_used(&third).await;
    assert_eq!(at_log_in["last_used_at"], at_log_in["created_at"]);
    // Any request with its access token is a use, noted once a minute.
    app.clock.advance(Duration::seconds(30));
    first.get(ME).await;
    assert_eq!(last_used(&third).await["last_used_at"], at_log_in["last_used_at"]);
    app.clock.advance(Duration::seconds(60));
    first.get(ME).await;
    let used = last_used(&third).await;
    assert!(used["last_used_at"].as_str() > at_log_in["last_used_at"].as_str(), "{used}");
    assert_eq!(used["expires_at"], at_log_in["expires_at"], "it was not refreshed");
    // Those that have ended are left out.
    app.clock.advance(Duration::days(8));
    log_in(&app, b"new").await;
    let new = log_in(&app, b"new").await;
    assert_eq!(new.get(SESSIONS).await.body["data"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_user_ends_one_session_or_all_others_and_none_of_another_user() {
    let app = TestApp::spawn().await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    app.add_user(EMAIL, None).await;
    app.add_user("other@example.com", None).await;
    let stranger = app.log_in("other@example.com").await;
    let sessions = [log_in(&app, b"a").await, log_in(&app, b"b").await, log_in(&app, b"c").await];
    let [a, b, c] = &sessions;
    let id = |list: &Answer, client: &str| {
        let rows = list.body["data"].as_array().expect("there is a list").clone();
        let row = rows.into_iter().find(|row| row["client"] == client).expect("it is listed");
        format!("{SESSIONS}/{}", row["id"].as_str().expect("it has an id"))
    };
    let list = a.get(SESSIONS).await;
    assert_problem(&delete(&stranger, &id(&list, "b")).await, 404, "session_not_found");
    assert_problem(
        &delete(a, &format!("{SESSIONS}/{}", Uuid::new_v4())).await,
        404,
        "session_not_found",
    );
    assert_problem(&delete(a, &format!("{SESSIONS}/x")).await, 404, "session_not_found");
    assert!(is_accepted(b).await);

    assert_eq!(delete(a, &id(&list, "b")).await.status, 204);
    assert!(!is_accepted(b).await && !is_accepted(&second.bearer(b.token())).await);
    assert!(is_accepted(a).await && is_accepted(c).await);
    assert_problem(&delete(a, &id(&list, "b")).await, 404, "session_not_found");

    let ended = delete(a, SESSIONS).await;
    assert_eq!((ended.status, ended.body), (200, json!({ "sessions_ended": 1 })));
    assert!(is_accepted(a).await && !is_accepted(c).await && is_accepted(&stranger).await);
    let ended = delete(a, SESSIONS).await;
    assert_eq!((ended.status, ended.body), (200, json!({ "sessions_ended": 0 })));
    // Also the session of the call itself.
    assert_eq!(delete(a, &id(&list, "a")).await.status, 204);
    assert!(!is_accepted(a).await);
    let events = "SELECT count(*) FROM audit_events WHERE action = 'session.revoke'";
    let events = app.sql().await.query_one(events, &[]).await.unwrap();
    assert_eq!(events.get::<_, i64>(0), 3, "an event for each change");
}

#[tokio::test]
async fn tokens_keys_and_root_have_no_sessions_and_no_password() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let key = app.keyed(&plaintext(&make_key(&admin, acme.id, &["MANAGE_API_KEYS"]).await));
    let body = json!({ "name": "mine", "permissions": ["VIEW_USERS"], "tenant_id": acme.id });
    let made = admin.post("/control/v1/tokens", &body).await;
    let token = app.bearer(made.body["token"].as_str().expect("the token is in the answer"));
    let before = Snapshot::of(&app).await;
    for caller in [&app.root(), &key, &token] {
        for answer in [
            caller.get(SESSIONS).await,
            delete(caller, SESSIONS).await,
            delete(caller, &format!("{SESSIONS}/{}", Uuid::new_v4())).await,
            change(caller, PASSWORD, FRESH).await,
        ] {
            assert_problem(&answer, 403, "session_required");
        }
    }
    for answer in [
        app.anonymous().get(SESSIONS).await,
        delete(&app.anonymous(), SESSIONS).await,
        change(&app.anonymous(), PASSWORD, FRESH).await,
    ] {
        assert_problem(&answer, 401, "unauthenticated");
    }
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn a_change_of_password_ends_the_other_sessions_and_keeps_this_one_and_the_tokens() {
    let app = TestApp::spawn().await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    let acme = app.set_up("acme").await;
    let una = add_member(&app, &acme, EMAIL, "ADMIN").await;
    let (here, there) = (log_in(&app, b"here").await, log_in(&app, b"there").await);
    let key = app.keyed(&plaintext(&make_key(&here, acme.id, &["VIEW_USERS"]).await));
    let admin = app.log_in(&acme.admin_email).await;

    let answer = change(&here, PASSWORD, FRESH).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({ "sessions_ended": 1 })), "{answer:?}");
    assert!(is_accepted(&here).await && is_accepted(&second.bearer(here.token())).await);
    assert!(!is_accepted(&there).await && !is_accepted(&second.bearer(there.token())).await);
    assert!(is_accepted(&key).await && is_accepted(&admin).await);
    log_in_as(&app, EMAIL, PASSWORD, b"").await.refusal(401);
    assert_eq!(log_in_as(&second, EMAIL, FRESH, b"").await.status, 200);
    let event = "SELECT actor, details FROM audit_events WHERE action = 'user.change_password'";
    let event = app.sql().await.query_one(event, &[]).await.unwrap();
    assert_eq!(event.get::<_, String>(0), format!("user:{una}"));
    assert_eq!(event.get::<_, Value>(1), json!({ "user": una, "sessions_ended": 1 }));
}

#[tokio::test]
async fn a_bad_change_of_password_names_the_field_and_changes_nothing() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let una = log_in(&app, b"curl").await;
    let before = Snapshot::of(&app).await;
    for (body, expected) in [
        (json!({}), vec!["/current_password: required", "/new_password: required"]),
        (
            json!({ "current_password": PASSWORD, "new_password": "password123" }),
            vec!["/new_password: common_password"],
        ),
        (
            json!({ "current_password": PASSWORD, "new_password": "short", "x": 1 }),
            vec!["/new_password: too_short", "/x: unknown_field"],
        ),
        (
            json!({ "current_password": "not the password", "new_password": FRESH }),
            vec!["/current_password: wrong_password"],
        ),
    ] {
        let answer = una.post(CHANGE, &body).await;
        assert_problem(&answer, 400, "invalid");
        assert_eq!(pointers(&answer), expected, "{body}");
    }
    assert_problem(&una.post_raw(CHANGE, "").await, 400, "malformed_json");
    assert_eq!(Snapshot::of(&app).await, before);
}

#[tokio::test]
async fn a_wrong_present_password_counts_as_a_guess_as_at_a_log_in() {
    let app =
        TestApp::builder().with_stopped_clock().with("limits.login_pair", "6/3").spawn().await;
    app.add_user(EMAIL, None).await;
    let una = log_in(&app, b"curl").await;
    for _ in 0..2 {
        assert_problem(&change(&una, "not the password", FRESH).await, 400, "invalid");
    }
    log_in_as(&app, EMAIL, "not the password", b"").await.refusal(401);
    // One limit for both, which the right password does not pass either.
    let refused = change(&una, PASSWORD, FRESH).await;
    assert_problem(&refused, 429, "too_many");
    assert_eq!(refused.retry_after(), 10);
    log_in_as(&app, EMAIL, PASSWORD, b"").await.refusal(429);
    app.clock.advance(Duration::seconds(10));
    // A right one is not counted.
    assert_eq!(change(&una, PASSWORD, FRESH).await.status, 200);
    assert_eq!(change(&una, FRESH, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn of_two_changes_of_password_at_once_one_succeeds() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    app.add_user(EMAIL, None).await;
    let callers = [log_in(&app, b"a").await, log_in(&app, b"b").await];
    let fresh: Vec<String> = (0..4).map(|n| format!("Fresh-Password-{n}")).collect();
    let changes = fresh.iter().enumerate().map(|(n, new)| change(&callers[n % 2], PASSWORD, new));
    let answers = join_all(changes).await;
    let done: Vec<_> = (0..4).filter(|n| answers[*n].status == 200).collect();
    assert_eq!(done.len(), 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        // 401: the change that won ended the session of this one.
        assert!([400, 401, 409].contains(&answer.status), "{answer:?}");
    }
    assert_eq!(log_in_as(&app, EMAIL, &fresh[done[0]], b"").await.status, 200);
    log_in_as(&app, EMAIL, PASSWORD, b"").await.refusal(401);
}

#[tokio::test]
async fn a_user_without_a_password_cannot_set_one_here() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let una = log_in(&app, b"curl").await;
    let id = user_id(&app, EMAIL).await;
    let none = "UPDATE users SET password_hash = NULL WHERE id = $1";
    app.sql().await.execute(none, &[&id]).await.unwrap();
    let answer = change(&una, PASSWORD, FRESH).await;
    assert_problem(&answer, 400, "invalid");
    assert_eq!(pointers(&answer), ["/current_password: wrong_password"]);
}
