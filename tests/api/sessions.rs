//! How sessions end: by a log-out, by the reuse of a refresh cookie, by their age. And how two tabs share one.

use futures_util::future::join_all;
use reqwest::Method;
use rowhouse::domain::Permission;
use serde_json::json;
use time::Duration;
use uuid::Uuid;

use crate::support::callers::send;
use crate::support::scoped::{make_key, plaintext};
use crate::support::{Answer, PASSWORD, Snapshot, TestApp};

const LOGIN: &str = "/api/auth/login";
const REFRESH: &str = "/api/auth/refresh";
const LOGOUT: &str = "/api/auth/logout";
const EMAIL: &str = "una@example.com";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0";

/// A session as a client holds it.
#[derive(Debug, Clone)]
struct Held {
    token: String,
    cookie: String,
}

impl Held {
    fn of(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer:?}");
        Self {
            token: answer.body["accessToken"].as_str().expect("there is a token").to_owned(),
            cookie: set_cookie(answer).split(';').next().expect("it has a value").to_owned(),
        }
    }
}

fn set_cookie(answer: &Answer) -> &str {
    answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie in {answer:?}"))
}

async fn log_in(app: &TestApp, agent: &str) -> Held {
    let body = json!({ "identifier": EMAIL, "password": PASSWORD });
    let request = app.anonymous().request(Method::POST, LOGIN).header("user-agent", agent);
    Held::of(&send(request.json(&body)).await)
}

/// Refreshes from a user agent, or from a client that sends none.
async fn refresh(app: &TestApp, cookie: &str, agent: Option<&str>) -> Answer {
    let request = app.anonymous().request(Method::POST, REFRESH).header("cookie", cookie);
    send(match agent {
        Some(agent) => request.header("user-agent", agent),
        None => request,
    })
    .await
}

async fn log_out(app: &TestApp, cookie: Option<&str>, token: Option<&str>) -> Answer {
    let caller = token.map_or_else(|| app.anonymous(), |token| app.bearer(token));
    let request = caller.request(Method::POST, LOGOUT);
    send(match cookie {
        Some(cookie) => request.header("cookie", cookie),
        None => request,
    })
    .await
}

async fn is_accepted(app: &TestApp, token: &str) -> bool {
    app.bearer(token).get("/api/tenant/mine").await.status == 200
}

async fn events(app: &TestApp, action: &str) -> i64 {
    let count = "SELECT count(*) FROM audit_events WHERE action = $1";
    app.sql().await.query_one(count, &[&action]).await.expect("events can be counted").get(0)
}

#[tokio::test]
async fn a_log_out_ends_the_session_of_the_cookie_in_every_process_and_removes_the_cookie() {
    let app = TestApp::builder().with("auth.cookie_secure", "true").spawn().await;
    let second = TestApp::builder().on(app.database.clone()).spawn().await;
    app.add_user(EMAIL, None).await;
    let (other, held) = (log_in(&app, FIREFOX).await, log_in(&app, FIREFOX).await);
    let refreshed = Held::of(&refresh(&app, &held.cookie, Some(FIREFOX)).await);

    let answer = log_out(&app, Some(&refreshed.cookie), None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body, json!({ "message": "Logged out successfully" }));
    let removal = set_cookie(&answer).to_lowercase();
    for part in
        ["refreshtoken=;", "max-age=0", "path=/api/auth", "httponly", "secure", "samesite=lax"]
    {
        assert!(removal.contains(part), "{part} is missing from {removal}");
    }
    for server in [&app, &second] {
        for ended in [&held, &refreshed] {
            assert!(!is_accepted(server, &ended.token).await);
            refresh(server, &ended.cookie, Some(FIREFOX)).await.refusal(401);
        }
        assert!(is_accepted(server, &other.token).await, "the other session continues");
    }
    assert_eq!(events(&app, "session.close").await, 1);
    assert_eq!(events(&app, "session.reuse_detected").await, 0);
}

#[tokio::test]
async fn a_log_out_with_an_access_token_ends_its_session() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let (other, held) = (log_in(&app, FIREFOX).await, log_in(&app, FIREFOX).await);
    assert_eq!(log_out(&app, None, Some(&held.token)).await.status, 200);
    assert!(!is_accepted(&app, &held.token).await);
    refresh(&app, &held.cookie, Some(FIREFOX)).await.refusal(401);
    assert!(is_accepted(&app, &other.token).await, "the other session continues");
    // Both at once: each ends its own session.
    let third = log_in(&app, FIREFOX).await;
    assert_eq!(log_out(&app, Some(&other.cookie), Some(&third.token)).await.status, 200);
    for ended in [&other, &third] {
        assert!(!is_accepted(&app, &ended.token).await);
    }
    assert_eq!(events(&app, "session.close").await, 3);
}

#[tokio::test]
async fn a_log_out_can_be_repeated_and_changes_nothing_more() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let held = log_in(&app, FIREFOX).await;
    assert_eq!(log_out(&app, Some(&held.cookie), Some(&held.token)).await.status, 200);
    let before = Snapshot::of(&app).await;
    for (cookie, token) in [
        (Some(held.cookie.as_str()), None),
        (None, Some(held.token.as_str())),
        (Some(held.cookie.as_str()), Some(held.token.as_str())),
        (Some("refreshToken=rhr_unknown"), None),
        (Some("refreshToken="), None),
        (None, None),
    ] {
        let answer = log_out(&app, cookie, token).await;
        assert_eq!(answer.status, 200, "{cookie:?} {token:?}: {answer:?}");
        assert!(set_cookie(&answer).to_lowercase().contains("max-age=0"), "{answer:?}");
    }
    assert_eq!(Snapshot::of(&app).await, before);
    // At the same moment, too.
    let held = log_in(&app, FIREFOX).await;
    let answers = join_all((0..8).map(|_| log_out(&app, Some(&held.cookie), None))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(events(&app, "session.close").await, 2);
}

#[tokio::test]
async fn a_log_out_refuses_credentials_that_have_no_session() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let key = plaintext(&make_key(&admin, acme.id, &["VIEW_USERS"]).await);
    let (_, token) = app.add_token(Permission::ALL, None, None).await;
    for caller in [app.root(), token, app.keyed(&key)] {
        let answer = send(caller.request(Method::POST, LOGOUT)).await;
        let message = answer.refusal(403);
        assert!(message.contains("no session"), "{message}");
    }
    // What is not valid has no session either, and nothing is left to be ended.
    for bad in ["garbage", "rh_unknown", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "a.b.c"] {
        assert_eq!(log_out(&app, None, Some(bad)).await.status, 200, "{bad}");
    }
    assert_eq!(app.keyed("rtn_sk_unknown").post_raw(LOGOUT, "").await.status, 200);
    assert!(is_accepted(&app, admin.token()).await);
}

#[tokio::test]
async fn a_log_out_with_an_expired_access_token_ends_its_session_too() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let held = log_in(&app, FIREFOX).await;
    app.clock.advance(Duration::hours(1));
    assert!(!is_accepted(&app, &held.token).await);
    assert_eq!(log_out(&app, None, Some(&held.token)).await.status, 200);
    refresh(&app, &held.cookie, Some(FIREFOX)).await.refusal(401);
}

#[tokio::test]
async fn a_page_of_another_site_cannot_log_a_user_out() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let held = log_in(&app, FIREFOX).await;
    let request = app.anonymous().request(Method::POST, LOGOUT).header("cookie", &held.cookie);
    let request = request.header("origin", "https://evil.example");
    let answer = send(request.header("sec-fetch-site", "cross-site")).await;
    answer.refusal(403);
    assert_eq!(answer.header("set-cookie"), None);
    assert!(is_accepted(&app, &held.token).await);
    assert_eq!(refresh(&app, &held.cookie, Some(FIREFOX)).await.status, 200);
}

#[tokio::test]
async fn a_refresh_that_waits_for_a_log_out_is_refused() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    app.add_user(EMAIL, None).await;
    let held = log_in(&app, FIREFOX).await;
    // Stands in for a log-out that has written and not committed.
    let mut sql = app.sql().await;
    let log_out = sql.transaction().await.unwrap();
    log_out.execute("UPDATE sessions SET revoked_at = now()", &[]).await.unwrap();
    let refreshing = {
        let (address, cookie) = (app.address.clone(), held.cookie.clone());
        tokio::spawn(async move {
            let caller = crate::support::Caller::new(&address, None);
            let request = caller.request(Method::POST, REFRESH).header("cookie", cookie);
            send(request.header("user-agent", FIREFOX)).await
        })
    };
    let watcher = app.sql().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < 1 {
        assert!(!refreshing.is_finished(), "the refresh waits for the log-out");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    log_out.commit().await.unwrap();
    refreshing.await.unwrap().refusal(401);
    let unused = "SELECT count(*) FROM refresh_tokens WHERE used_at IS NULL";
    assert_eq!(sql.query_one(unused, &[]).await.unwrap().get::<_, i64>(0), 1, "none was issued");
}

#[tokio::test]
async fn two_tabs_that_refresh_at_the_same_moment_both_stay_logged_in() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    app.add_user(EMAIL, None).await;
    let held = log_in(&app, FIREFOX).await;
    let tabs = join_all((0..4).map(|_| refresh(&app, &held.cookie, Some(FIREFOX)))).await;
    let tabs: Vec<_> = tabs.iter().map(Held::of).collect();
    // A tab that wakes up a little later.
    app.clock.advance(Duration::seconds(9));
    let late = Held::of(&refresh(&app, &held.cookie, Some(FIREFOX)).await);
    for tab in tabs.iter().chain([&late]) {
        assert!(is_accepted(&app, &tab.token).await);
        let next = Held::of(&refresh(&app, &tab.cookie, Some(FIREFOX)).await);
        assert!(is_accepted(&app, &next.token).await);
    }
    assert_eq!(Snapshot::of(&app).await.count("sessions"), 1, "it is one session");
    assert_eq!(events(&app, "session.reuse_detected").await, 0);
}

#[tokio::test]
async fn a_used_cookie_ends_its_session_after_the_overlap_and_from_another_client() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let curl = Some("curl/8.17.0");
    let mut ends = 0;
    for (opened_by, wait, reused_by) in [
        (FIREFOX, 11, Some(FIREFOX)),
        (FIREFOX, 0, curl),
        (FIREFOX, 0, None),
        // A client that does not say what it is cannot be recognised.
        ("", 0, None),
        ("", 0, Some(FIREFOX)),
    ] {
        let held = log_in(&app, opened_by).await;
        let agent = Some(opened_by).filter(|agent| !agent.is_empty());
        let refreshed = Held::of(&refresh(&app, &held.cookie, agent).await);
        app.clock.advance(Duration::seconds(wait));
        refresh(&app, &held.cookie, reused_by).await.refusal(401);
        let case = format!("{opened_by:?} {wait} {reused_by:?}");
        assert!(!is_accepted(&app, &refreshed.token).await, "{case}");
        refresh(&app, &refreshed.cookie, agent).await.refusal(401);
        ends += 1;
        assert_eq!(events(&app, "session.reuse_detected").await, ends, "{case}");
    }
    // The overlap begins with the first use and is not extended by the second.
    let held = log_in(&app, FIREFOX).await;
    for _ in 0..2 {
        assert_eq!(refresh(&app, &held.cookie, Some(FIREFOX)).await.status, 200);
        app.clock.advance(Duration::seconds(6));
    }
    refresh(&app, &held.cookie, Some(FIREFOX)).await.refusal(401);
}

/// Returns the seconds for which a browser keeps the cookie.
fn max_age(answer: &Answer) -> i64 {
    let lower = set_cookie(answer).to_lowercase();
    let part = lower.split("; ").find_map(|part| part.strip_prefix("max-age="));
    part.and_then(|text| text.parse().ok()).expect("the cookie has an age")
}

#[tokio::test]
async fn no_token_outlives_the_greatest_age_of_its_session() {
    let app =
        TestApp::builder().with_stopped_clock().with("auth.session_lifetime", "20d").spawn().await;
    app.add_user(EMAIL, None).await;
    let mut held = log_in(&app, FIREFOX).await;
    let week = Duration::days(7).whole_seconds();
    for left in [week, week, Duration::days(2).whole_seconds()] {
        app.clock.advance(Duration::days(6));
        let answer = refresh(&app, &held.cookie, Some(FIREFOX)).await;
        assert_eq!(max_age(&answer), left);
        held = Held::of(&answer);
    }
    app.clock.advance(Duration::days(2) - Duration::minutes(5));
    let last = refresh(&app, &held.cookie, Some(FIREFOX)).await;
    assert_eq!(max_age(&last), 300);
    let last = Held::of(&last);
    assert!(is_accepted(&app, &last.token).await);
    // Issued for 15 minutes otherwise; a signature alone proves it no longer, either.
    app.clock.advance(Duration::minutes(5));
    assert!(!is_accepted(&app, &last.token).await, "the leeway does not extend a session");
    refresh(&app, &last.cookie, Some(FIREFOX)).await.refusal(401);
    assert_eq!(events(&app, "session.reuse_detected").await, 0);
    let again = log_in(&app, FIREFOX).await;
    let listed = app.bearer(&again.token).get("/control/v1/me/sessions").await;
    assert_eq!(listed.body["data"].as_array().map(Vec::len), Some(1), "{listed:?}");
}

#[tokio::test]
async fn a_lower_greatest_age_ends_the_sessions_that_are_older() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let held = log_in(&app, FIREFOX).await;
    let sql = "UPDATE sessions SET created_at = created_at - interval '2 hours'";
    app.sql().await.execute(sql, &[]).await.unwrap();
    assert!(is_accepted(&app, &held.token).await);
    let stricter = TestApp::builder().on(app.database.clone()).with("auth.session_lifetime", "1h");
    let stricter = stricter.spawn().await;
    assert!(!is_accepted(&stricter, &held.token).await);
    refresh(&stricter, &held.cookie, Some(FIREFOX)).await.refusal(401);
    assert!(is_accepted(&app, &held.token).await, "the other server has other settings");
}

#[tokio::test]
async fn a_log_in_during_a_change_of_password_opens_no_session_with_the_old_one() {
    let app = TestApp::builder().with("database.max_connections", "40").spawn().await;
    let user = app.add_user(EMAIL, None).await;
    log_in(&app, FIREFOX).await;
    let mut sql = app.sql().await;
    let change = sql.transaction().await.unwrap();
    let hash = "UPDATE users SET password_hash = 'x' WHERE id = $1";
    change.execute(hash, &[&user]).await.unwrap();
    let end = "UPDATE sessions SET revoked_at = now() WHERE user_id = $1";
    let address = app.address.clone();
    let late = tokio::spawn(async move {
        let body = json!({ "identifier": EMAIL, "password": PASSWORD });
        crate::support::Caller::new(&address, None).post(LOGIN, &body).await
    });
    let watcher = app.sql().await;
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < 1 {
        assert!(!late.is_finished(), "the log-in waits for the change");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // A deadlock, if the log-in held a session's row while it waited for the user's.
    change.execute(end, &[&user]).await.unwrap();
    change.commit().await.unwrap();
    let late = late.await.unwrap();
    assert_ne!(late.status, 200, "{late:?}");
    let open = "SELECT count(*) FROM sessions WHERE revoked_at IS NULL";
    assert_eq!(sql.query_one(open, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn what_is_left_of_ended_sessions_is_deleted_and_open_sessions_stay() {
    let app = TestApp::spawn().await;
    app.add_user(EMAIL, None).await;
    let held = log_in(&app, FIREFOX).await;
    refresh(&app, &held.cookie, Some(FIREFOX)).await;
    app.clock.advance(Duration::days(8));
    // Without a log-in of the user, which deletes them as well.
    let user: Uuid = app.add_user("bo@example.com", None).await;
    let body = json!({ "identifier": "bo@example.com", "password": PASSWORD });
    let open = Held::of(&app.anonymous().post(LOGIN, &body).await);
    let sessions = &app.services.sessions;
    assert_eq!(sessions.delete_ended(&app.operator()).await.expect("the operator may"), 1);
    assert_eq!(sessions.delete_ended(&app.operator()).await.expect("the operator may"), 0);
    let after = Snapshot::of(&app).await;
    assert_eq!((after.count("sessions"), after.count("refresh_tokens")), (1, 1));
    assert!(is_accepted(&app, &open.token).await);
    let left = app.sql().await.query_one("SELECT user_id FROM sessions", &[]).await.unwrap();
    assert_eq!(left.get::<_, Uuid>(0), user);
}
