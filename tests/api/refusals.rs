//! Refused callers in the audit trail: failed log-ins, credentials that are not valid, calls without the right.
//!
//! What is refused is written once a minute, and before the trail is listed; these tests list it.

use futures_util::future::join_all;
use reqwest::Method;
use rowhouse::domain::Permission;
use serde_json::{Value, json};
use time::Duration;
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::scoped::user_id;
use crate::support::{Answer, Caller, PASSWORD, TestApp, TestAppBuilder};

const EVENTS: &str = "/control/v1/audit-events";
const LOGIN: &str = "/api/auth/login";
const EMAIL: &str = "una@example.com";
const UNKNOWN_TOKEN: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";

fn behind_a_proxy() -> TestAppBuilder {
    TestApp::builder().with_stopped_clock().with("http.trusted_proxies", "127.0.0.1")
}

async fn log_in(app: &TestApp, from: &str, identifier: &str, password: &str) -> u16 {
    let body = json!({ "identifier": identifier, "password": password });
    let request = app.anonymous().request(Method::POST, LOGIN).header("x-forwarded-for", from);
    send(request.json(&body)).await.status
}

async fn get_from(caller: &Caller, from: &str, path: &str) -> Answer {
    send(caller.request(Method::GET, path).header("x-forwarded-for", from)).await
}

/// Lists the events of an action as root, newest first.
async fn events(app: &TestApp, action: &str) -> Vec<Value> {
    let answer = app.root().get(&format!("{EVENTS}?action={action}")).await;
    answer.body["data"].as_array().unwrap_or_else(|| panic!("no list: {answer:?}")).clone()
}

/// Returns the number of events in the database.
async fn stored(app: &TestApp) -> i64 {
    let count = "SELECT count(*) FROM audit_events
                  WHERE action IN ('session.refused', 'credential.refused', 'access.denied')";
    app.sql().await.query_one(count, &[]).await.expect("events can be counted").get(0)
}

#[tokio::test]
async fn failed_log_ins_reach_the_audit_trail_with_the_address_and_the_user() {
    let app = behind_a_proxy().spawn().await;
    app.add_user(EMAIL, None).await;
    let una = user_id(&app, EMAIL).await;
    for _ in 0..3 {
        assert_eq!(log_in(&app, "203.0.113.7", EMAIL, "a wrong password").await, 401);
    }
    assert_eq!(log_in(&app, "203.0.113.7", "unknown@example.com", PASSWORD).await, 401);
    assert_eq!(log_in(&app, "2001:db8:1:2::3", "my-password-typed-here", PASSWORD).await, 401);
    assert_eq!(log_in(&app, "192.0.2.1", EMAIL, PASSWORD).await, 200);

    let mut found = events(&app, "session.refused").await;
    found.sort_by_key(|event| event["details"]["address"].to_string());
    assert_eq!(found.len(), 2, "{found:?}");
    let (v6, v4) = (&found[0], &found[1]);
    for (event, address, count) in [(v6, "2001:db8:1:2::/64", 1), (v4, "203.0.113.7", 4)] {
        let details = &event["details"];
        assert_eq!((&details["address"], &details["count"]), (&json!(address), &json!(count)));
        assert_eq!(details["reasons"], json!({ "wrong_password": count }));
        assert_eq!(event["actor"], "anonymous");
        assert!(event["request_id"].as_str().is_some_and(|id| !id.is_empty()));
        // What was submitted can be anything, even a password.
        let text = event.to_string();
        assert!(!text.contains('@') && !text.contains("typed"), "{text}");
    }
    assert_eq!(v4["details"]["users"], json!([una]));
    assert_eq!(v6["details"]["users"], Value::Null, "no user has this address");
}

#[tokio::test]
async fn a_flood_costs_no_transaction_a_call_and_makes_one_event_a_minute() {
    let app = behind_a_proxy().spawn().await;
    app.add_user(EMAIL, None).await;
    join_all((0..40).map(|_| log_in(&app, "203.0.113.7", EMAIL, "a wrong password"))).await;
    assert_eq!(stored(&app).await, 0, "they are counted in memory");
    for _ in 0..3 {
        let found = events(&app, "session.refused").await;
        assert_eq!((found.len(), &found[0]["details"]["count"]), (1, &json!(40)), "{found:?}");
    }
    // More within the minute are counted on, however often the trail is read.
    app.clock.advance(Duration::seconds(59));
    log_in(&app, "203.0.113.7", EMAIL, "a wrong password").await;
    log_in(&app, "198.51.100.1", EMAIL, "a wrong password").await;
    let found = events(&app, "session.refused").await;
    assert_eq!(found.len(), 2, "only the other address has a new event: {found:?}");
    app.clock.advance(Duration::seconds(1));
    let found = events(&app, "session.refused").await;
    let counts: Vec<_> = found.iter().map(|event| event["details"]["count"].clone()).collect();
    assert_eq!(counts.iter().filter_map(Value::as_u64).sum::<u64>(), 42, "{found:?}");
    assert_eq!(counts.len(), 3);
}

#[tokio::test]
async fn a_flood_from_many_addresses_makes_a_bounded_number_of_events() {
    let app = behind_a_proxy().with("database.max_connections", "40").spawn().await;
    let caller = app.bearer(UNKNOWN_TOKEN);
    let addresses: Vec<_> = (0..300).map(|n| format!("198.51.{}.{}", n / 250, n % 250)).collect();
    for some in addresses.chunks(50) {
        join_all(some.iter().map(|from| get_from(&caller, from, "/api/tenant"))).await;
    }
    events(&app, "credential.refused").await;
    let rows = "SELECT count(*), sum((details->>'count')::bigint)::bigint,
                       count(*) FILTER (WHERE details->>'address' = 'others')
                  FROM audit_events WHERE action = 'credential.refused'";
    let rows = app.sql().await.query_one(rows, &[]).await.unwrap();
    let found: [i64; 3] = [rows.get(0), rows.get(1), rows.get(2)];
    assert_eq!(
        found,
        [129, 300, 1],
        "events, calls, and the event of all that were not counted apart"
    );
}

#[tokio::test]
async fn refused_credentials_and_calls_reach_the_audit_trail_from_every_dialect() {
    let app = behind_a_proxy().spawn().await;
    let acme = app.set_up("acme").await;
    let (id, weak) = app.add_token(&[Permission::ViewTenants], Some(acme.id), None).await;
    let bad = app.bearer("garbage");
    // One address for each dialect, so that each has an event of its own.
    assert_eq!(get_from(&bad, "203.0.113.1", "/api/tenant").await.status, 401);
    assert_eq!(get_from(&bad, "203.0.113.2", "/control/v1/tenants").await.status, 401);
    assert_eq!(get_from(&bad, "203.0.113.3", "/api/tenants/x").await.status, 401);
    let bunker = app.anonymous().request(Method::POST, "/v2/TenantListTenants");
    let bunker = bunker.header("x-bunker-token", UNKNOWN_TOKEN);
    assert_eq!(send(bunker.header("x-forwarded-for", "203.0.113.4")).await.status, 403);
    let cookie = app.anonymous().request(Method::POST, "/api/auth/refresh");
    let cookie = cookie.header("cookie", "refreshToken=rhr_garbage");
    assert_eq!(send(cookie.header("x-forwarded-for", "203.0.113.5")).await.status, 401);
    let found = events(&app, "credential.refused").await;
    let mut addresses: Vec<_> =
        found.iter().filter_map(|event| event["details"]["address"].as_str()).collect();
    addresses.sort_unstable();
    let expected = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.4", "203.0.113.5"];
    assert_eq!(addresses, expected, "{found:?}");

    for path in ["/api/user/tenant-users", "/control/v1/audit-events", "/api/tenants/x"] {
        get_from(&weak, "203.0.113.9", path).await;
    }
    let denied = events(&app, "access.denied").await;
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(denied[0]["actor"], format!("token:{id}"));
    assert_eq!(denied[0]["tenant_id"], json!(acme.id), "the tenant's admin can see it");
    assert_eq!(denied[0]["details"]["address"], "203.0.113.9");
    let admin = app.log_in(&acme.admin_email).await;
    let seen = admin.get(&format!("{EVENTS}?action=access.denied")).await;
    assert_eq!(seen.body["data"].as_array().map(Vec::len), Some(1), "{seen:?}");
}

#[tokio::test]
async fn an_expired_credential_or_none_and_a_thing_that_is_not_there_are_no_events() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let una = app.log_in(EMAIL).await;
    app.clock.advance(Duration::hours(1));
    una.get("/api/tenant/mine").await.refusal(401);
    app.anonymous().get("/api/tenant").await.refusal(401);
    app.root().get(&format!("/control/v1/tenants/{}", Uuid::new_v4())).await;
    app.anonymous().get("/unknown").await;
    for action in ["session.refused", "credential.refused", "access.denied"] {
        assert_eq!(events(&app, action).await, Vec::<Value>::new(), "{action}");
    }
}

#[tokio::test]
async fn a_limit_on_guesses_is_named_as_a_reason_and_one_on_requests_is_no_refusal() {
    let app = behind_a_proxy()
        .with("limits.login_pair", "1/2")
        .with("limits.requests_token", "1/2")
        .spawn()
        .await;
    app.add_user(EMAIL, None).await;
    for status in [401, 401, 429, 429, 429] {
        assert_eq!(log_in(&app, "203.0.113.7", EMAIL, "a wrong password").await, status);
    }
    let (_, token) = app.add_token(&[Permission::ViewTenants], None, None).await;
    for status in [200, 200, 429] {
        assert_eq!(token.get("/api/tenant/mine").await.status, status);
    }
    let found = events(&app, "session.refused").await;
    assert_eq!(found[0]["details"]["reasons"], json!({ "wrong_password": 2, "too_many": 3 }));
    let count =
        "SELECT count(*) FROM audit_events WHERE action IN ('credential.refused', 'access.denied')";
    let count = app.sql().await.query_one(count, &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_wrong_present_password_reaches_the_audit_trail_with_the_user() {
    let app = behind_a_proxy().spawn().await;
    app.add_user(EMAIL, None).await;
    let una = user_id(&app, EMAIL).await;
    let body =
        json!({ "current_password": "not the password", "new_password": "NewSecurePass456!" });
    app.log_in(EMAIL).await.post("/control/v1/me/password", &body).await;
    let found = events(&app, "credential.refused").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["details"]["users"], json!([una]));
    assert_eq!(found[0]["details"]["reasons"], json!({ "wrong_password": 1 }));
}

#[tokio::test]
async fn what_was_refused_is_written_when_the_server_stops() {
    let app = TestApp::spawn().await;
    app.bearer("garbage").get("/api/tenant").await.refusal(401);
    assert_eq!(stored(&app).await, 0);
    let database = app.stop().await;
    let sql = database.connect().await;
    let count = "SELECT count(*) FROM audit_events WHERE action = 'credential.refused'";
    assert_eq!(sql.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn the_chain_of_events_stays_intact_with_refusals_in_it() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    app.bearer("garbage").get("/api/tenant").await.refusal(401);
    assert_eq!(events(&app, "credential.refused").await.len(), 1);
    let verdict = app.root().post(&format!("{EVENTS}/verify"), &json!({})).await;
    assert_eq!((&verdict.body["intact"], &verdict.body["event_count"]), (&json!(true), &json!(2)));
}
