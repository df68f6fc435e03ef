//! How often is too often: passwords, credentials, requests; and who does not have to wait for whom.
//!
//! Time stands still in these tests, so that no cell comes back before a test says so.

use actix_web::{HttpResponse, get};
use futures_util::future::join_all;
use reqwest::Method;
use rowhouse::config::Settings;
use rowhouse::domain::Permission;
use rowhouse::{Problem, TenantTx};
use serde_json::json;

use crate::support::callers::send;
use crate::support::control::assert_problem;
use crate::support::{Answer, Caller, PASSWORD, Program, TestApp, TestAppBuilder, TestDatabase};

const LOGIN: &str = "/api/auth/login";
const UNA: &str = "una@example.com";
const WRONG: &str = "a wrong password";

fn limited(limits: &[(&'static str, &str)]) -> TestAppBuilder {
    let builder = TestApp::builder().with_stopped_clock();
    limits.iter().fold(builder, |builder, (key, rate)| builder.with(key, *rate))
}

async fn log_in(app: &TestApp, account: &str, password: &str) -> Answer {
    let body = json!({ "identifier": account, "password": password });
    app.anonymous().post(LOGIN, &body).await
}

/// A log-in from some address, which a proxy of ours names.
async fn log_in_from(app: &TestApp, address: &str, account: &str, password: &str) -> u16 {
    let body = json!({ "identifier": account, "password": password });
    let request = app.anonymous().request(Method::POST, LOGIN).header("x-forwarded-for", address);
    send(request.json(&body)).await.status
}

async fn guess(app: &TestApp, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(log_in(app, UNA, WRONG).await.status);
    }
    statuses
}

fn seconds(count: u64) -> time::Duration {
    time::Duration::seconds(i64::try_from(count).expect("a wait is short"))
}

/// A number in the metrics.
async fn count(app: &TestApp, metric: &str) -> Option<u64> {
    let text = app.anonymous().get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.map(|number| number.parse().expect("a count is a number"))
}

// ---- passwords ---------------------------------------------------------------------------------

#[tokio::test]
async fn after_some_wrong_passwords_none_is_looked_at() {
    let app = limited(&[("limits.login_pair", "6/3")]).spawn().await;
    app.add_user(UNA, None).await;
    assert_eq!(guess(&app, 3).await, [401, 401, 401]);
    let hashes = count(&app, "rowhouse_password_hashes_computed").await;
    assert!(hashes >= Some(3), "{hashes:?}");
    let refused = log_in(&app, UNA, PASSWORD).await;
    assert_eq!(refused.refusal(429), "Too many requests");
    assert_eq!(refused.retry_after(), 10);
    assert_eq!(count(&app, "rowhouse_password_hashes_computed").await, hashes);
}

#[tokio::test]
async fn who_waits_as_long_as_told_may_try_again() {
    let app = limited(&[("limits.login_pair", "6/3")]).spawn().await;
    app.add_user(UNA, None).await;
    assert_eq!(guess(&app, 3).await, [401, 401, 401]);
    // Trying meanwhile makes the wait no longer.
    for _ in 0..20 {
        assert_eq!(log_in(&app, UNA, WRONG).await.retry_after(), 10);
    }
    app.clock.advance(seconds(9));
    assert_eq!(log_in(&app, UNA, PASSWORD).await.retry_after(), 1);
    app.clock.advance(seconds(1));
    assert_eq!(log_in(&app, UNA, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn right_passwords_are_not_counted() {
    let one = ["limits.login_pair", "limits.login_account", "limits.login_address"];
    let app = limited(&one.map(|key| (key, "1/2"))).spawn().await;
    app.add_user(UNA, None).await;
    for _ in 0..5 {
        assert_eq!(log_in(&app, UNA, PASSWORD).await.status, 200);
    }
    assert_eq!(guess(&app, 3).await, [401, 401, 429]);
}

#[tokio::test]
async fn a_body_that_breaks_a_rule_is_no_guess() {
    let app =
        limited(&[("limits.login_pair", "1/1"), ("limits.login_address", "1/1")]).spawn().await;
    for _ in 0..3 {
        log_in(&app, UNA, "short").await.refusal(400);
        log_in(&app, "", PASSWORD).await.refusal(400);
    }
    assert_eq!(guess(&app, 2).await, [401, 429]);
}

#[tokio::test]
async fn many_guesses_at_once_are_no_way_round() {
    let app = limited(&[("limits.login_pair", "1/4")]).with("http.workers", "2").spawn().await;
    app.add_user(UNA, None).await;
    let answers = join_all((0..24).map(|_| log_in(&app, UNA, WRONG))).await;
    let looked_at = answers.iter().filter(|answer| answer.status == 401).count();
    assert_eq!(looked_at, 4, "all workers count together");
    assert!(answers.iter().all(|answer| [401, 429].contains(&answer.status)), "{answers:?}");
}

#[tokio::test]
async fn an_account_is_counted_alike_whether_it_is_there_and_however_it_is_spelled() {
    let app = limited(&[("limits.login_pair", "1/3")]).spawn().await;
    app.add_user(UNA, None).await;
    for spellings in [
        [UNA, "UNA@example.com", " una@EXAMPLE.com ", UNA],
        ["nobody@example.com", "Nobody@example.com", " nobody@example.com", "nobody@example.com"],
    ] {
        let mut statuses = Vec::new();
        for spelling in spellings {
            statuses.push(log_in(&app, spelling, WRONG).await.status);
        }
        assert_eq!(statuses, [401, 401, 401, 429], "{spellings:?}");
    }
}

#[tokio::test]
async fn a_colleague_who_forgot_a_password_locks_nobody_else_out() {
    let app =
        limited(&[("limits.login_pair", "1/2"), ("limits.login_account", "1/2")]).spawn().await;
    app.add_user(UNA, None).await;
    app.add_user("bob@example.com", None).await;
    assert_eq!(guess(&app, 3).await, [401, 401, 429]);
    assert_eq!(log_in(&app, "bob@example.com", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn strangers_from_everywhere_are_stopped_and_cannot_keep_a_person_out() {
    let app = limited(&[("limits.login_pair", "60/60"), ("limits.login_account", "6/3")])
        .with("http.trusted_proxies", "127.0.0.1")
        .spawn()
        .await;
    app.add_user(UNA, None).await;
    assert_eq!(log_in_from(&app, "203.0.113.7", UNA, PASSWORD).await, 200);
    let mut statuses = Vec::new();
    for stranger in 1..=5 {
        statuses.push(log_in_from(&app, &format!("198.51.100.{stranger}"), UNA, WRONG).await);
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
    // At home nothing has changed, and a slip of the pen there costs no stranger's cell.
    assert_eq!(log_in_from(&app, "203.0.113.7", UNA, WRONG).await, 401);
    assert_eq!(log_in_from(&app, "203.0.113.7", UNA, PASSWORD).await, 200);
    // Somewhere new she waits for the next cell, and is at home there afterwards.
    assert_eq!(log_in_from(&app, "192.0.2.1", UNA, PASSWORD).await, 429);
    app.clock.advance(seconds(10));
    assert_eq!(log_in_from(&app, "192.0.2.1", UNA, PASSWORD).await, 200);
    app.clock.advance(seconds(10));
    assert_eq!(log_in_from(&app, "198.51.100.9", UNA, WRONG).await, 401);
    assert_eq!(log_in_from(&app, "198.51.100.9", UNA, WRONG).await, 401);
    assert_eq!(log_in_from(&app, "198.51.100.9", UNA, WRONG).await, 429);
    assert_eq!(log_in_from(&app, "192.0.2.1", UNA, PASSWORD).await, 200);
}

#[tokio::test]
async fn one_password_cannot_be_tried_at_every_account() {
    let app = limited(&[("limits.login_address", "1/5")]).spawn().await;
    let mut statuses = Vec::new();
    for account in 0..7 {
        let account = format!("person-{account}@example.com");
        statuses.push(log_in(&app, &account, WRONG).await.status);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
}

// ---- credentials -------------------------------------------------------------------------------

/// A call with this credential in each dialect, and how each refuses with 429.
async fn try_everywhere(app: &TestApp, token: &str) -> Vec<Answer> {
    let bearer = app.bearer(token);
    vec![
        bearer.get("/api/tenant").await,
        app.bunker(token).call("TenantListTenants", json!({})).await,
        bearer.get("/api/tenants/x").await,
        bearer.get("/control/v1/tenants").await,
    ]
}

#[track_caller]
fn all_refused(answers: &[Answer]) {
    let [reten, bunker, webfluss, control] = answers else { panic!("{answers:?}") };
    assert_eq!(reten.refusal(429), "Too many requests");
    assert_eq!(bunker.error(429), "Too many requests");
    assert_eq!(
        (webfluss.status, &webfluss.body),
        (429, &json!({ "message": "Too Many Attempts." }))
    );
    assert_problem(control, 429, "too_many");
    for answer in answers {
        assert!(answer.retry_after() >= 1);
        assert!(answer.header("x-request-id").is_some());
    }
}

const NO_TOKEN: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";

#[tokio::test]
async fn wrong_credentials_are_refused_in_each_dialects_form() {
    let app = limited(&[("limits.token_address", "1/4")]).spawn().await;
    let statuses: Vec<_> =
        try_everywhere(&app, NO_TOKEN).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [401, 403, 401, 401]);
    all_refused(&try_everywhere(&app, NO_TOKEN).await);
    all_refused(&try_everywhere(&app, "rh_another_lie").await);
    let cookie = app.anonymous().request(Method::POST, "/api/auth/refresh");
    send(cookie.header("cookie", "refreshToken=rhr_a_lie")).await.refusal(429);
    // Who shows nothing guesses nothing.
    app.anonymous().get("/api/tenant").await.refusal(401);
    assert_eq!(app.anonymous().get("/healthz").await.status, 200);
    app.clock.advance(seconds(60));
    app.bearer(NO_TOKEN).get("/api/tenant").await.refusal(401);
}

#[tokio::test]
async fn a_colleagues_broken_script_does_not_stop_a_good_one() {
    let app = limited(&[("limits.token_address", "1/2")]).spawn().await;
    app.add_user(UNA, None).await;
    let (_, stranger) = app.add_token(&[Permission::ViewTenants], None, None).await;
    assert_eq!(app.root().get("/api/tenant").await.status, 200);
    for status in [401, 401, 429, 429] {
        app.bearer(NO_TOKEN).get("/api/tenant").await.refusal(status);
    }
    assert_eq!(app.root().get("/api/tenant").await.status, 200, "it was right before");
    stranger.get("/api/tenant/mine").await.refusal(429);
    // What we gave out ourselves is known.
    let login = log_in(&app, UNA, PASSWORD).await;
    assert_eq!(login.status, 200);
    let caller = app.bearer(login.body["accessToken"].as_str().expect("a token is a text"));
    assert_eq!(caller.get("/api/tenant/mine").await.status, 200);
    let cookie = login.header("set-cookie").expect("there is a cookie");
    let cookie = cookie.split(';').next().expect("it has a value").to_owned();
    let refresh = || app.anonymous().request(Method::POST, "/api/auth/refresh");
    assert_eq!(send(refresh().header("cookie", cookie)).await.status, 200);
    // The new one's turn comes.
    app.clock.advance(seconds(60));
    assert_eq!(stranger.get("/api/tenant/mine").await.status, 200);
    assert_eq!(stranger.get("/api/tenant/mine").await.status, 200);
}

#[tokio::test]
async fn a_credential_that_is_good_no_more_is_counted_like_any_other() {
    let app = limited(&[("limits.token_address", "1/2")]).spawn().await;
    let (id, caller) = app.add_token(&[Permission::ViewTenants], None, None).await;
    assert_eq!(caller.get("/api/tenant/mine").await.status, 200);
    app.services.tokens.revoke(&app.operator(), id).await.expect("the operator may revoke it");
    for status in [401, 401, 401, 429] {
        caller.get("/api/tenant/mine").await.refusal(status);
    }
}

// ---- requests ----------------------------------------------------------------------------------

#[tokio::test]
async fn a_caller_who_calls_too_often_is_refused_in_each_dialects_form_and_others_are_not() {
    let app = limited(&[("limits.requests_token", "60/4")]).spawn().await;
    let (_, other) = app.add_token(&[Permission::ViewTenants], None, None).await;
    let statuses: Vec<_> =
        try_everywhere(&app, &app.root_token).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 404, 200]);
    all_refused(&try_everywhere(&app, &app.root_token).await);
    assert_eq!(other.get("/api/tenant/mine").await.status, 200);
    app.clock.advance(seconds(1));
    assert_eq!(app.root().get("/api/tenant").await.status, 200);
    assert_eq!(app.root().get("/api/tenant").await.retry_after(), 1);
    assert_eq!(
        count(&app, r#"rowhouse_limited_requests_total{limit="requests_token"}"#).await,
        Some(5)
    );
}

#[get("/inside")]
async fn inside(tx: TenantTx) -> Result<HttpResponse, Problem> {
    tx.query_and_commit("SELECT 1", &[]).await?;
    Ok(HttpResponse::Ok().finish())
}

async fn enter(caller: &Caller, tenant: uuid::Uuid) -> u16 {
    let request = caller.request(Method::GET, "/inside");
    send(request.header("x-tenant-id", tenant.to_string())).await.status
}

#[tokio::test]
async fn a_tenants_tokens_and_people_are_counted_together_and_apart_from_other_tenants() {
    let app = limited(&[("limits.requests_tenant", "60/3")])
        .with_routes(std::sync::Arc::new(|config| {
            config.service(inside);
        }))
        .spawn()
        .await;
    let (acme, globex) = (app.set_up("acme").await, app.set_up("globex").await);
    let (ada, gus) = (app.log_in(&acme.admin_email).await, app.log_in(&globex.admin_email).await);
    let (_, token) = app.add_token(&[Permission::ViewTenants], Some(acme.id), None).await;
    // Who may not enter uses up nobody's share.
    for _ in 0..5 {
        assert_eq!(enter(&gus, acme.id).await, 404);
    }
    assert_eq!(enter(&ada, acme.id).await, 200);
    assert_eq!(enter(&token, acme.id).await, 200);
    assert_eq!(enter(&token, acme.id).await, 200);
    assert_eq!(enter(&ada, acme.id).await, 429);
    assert_eq!(enter(&token, acme.id).await, 429);
    token.get("/api/tenant/mine").await.refusal(429);
    // The other tenant, what is outside of any, and the operator go on.
    assert_eq!(enter(&gus, globex.id).await, 200);
    assert_eq!(ada.get("/api/tenant/mine").await.status, 200);
    assert_eq!(enter(&app.root(), acme.id).await, 200);
    app.clock.advance(seconds(1));
    assert_eq!(enter(&ada, acme.id).await, 200);
}

#[tokio::test]
async fn a_tenants_xtoken_counts_for_its_tenant() {
    let app = limited(&[("limits.requests_tenant", "60/2")]).spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let other = app.bunker_tenant("globex").await;
    for _ in 0..2 {
        tenant.admin.get("nobody@example.com").await.error(404);
    }
    tenant.admin.get("nobody@example.com").await.error(429);
    other.admin.get("nobody@example.com").await.error(404);
}

// ---- settings, log ----------------------------------------------------------------------------

#[test]
fn limits_are_on_by_default_and_zero_is_none() {
    let limits = Settings::from_values(&[]).expect("the defaults are good").limits;
    let all = [
        ("limits.login_pair", limits.login_pair),
        ("limits.login_account", limits.login_account),
        ("limits.login_address", limits.login_address),
        ("limits.token_address", limits.token_address),
        ("limits.requests_token", limits.requests_token),
        ("limits.requests_tenant", limits.requests_tenant),
    ];
    for (key, limit) in all {
        assert!(limit.0.is_some(), "{key}");
        for bad in ["many", "-1", "1/0", "0/1", "1.5", "1/2/3"] {
            let error = Settings::from_values(&[(key, bad.to_owned())]).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(bad), "{error}");
        }
    }
    let off = Settings::from_values(&[("limits.login_pair", "0".to_owned())]);
    assert_eq!(off.expect("0 is a limit").limits.login_pair.0, None);
}

#[tokio::test]
async fn a_refusal_is_logged_without_what_was_typed() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database).with("ROWHOUSE_LIMITS__LOGIN_PAIR", "1/1");
    let server = program.serve(&[]);
    let caller = Caller::new(&server.address, None);
    let body = json!({ "identifier": UNA, "password": WRONG });
    assert_eq!(caller.post(LOGIN, &body).await.status, 401);
    for _ in 0..3 {
        // The one cell comes back within a minute, where the machine is that slow.
        assert!([401, 429].contains(&caller.post(LOGIN, &body).await.status));
    }
    drop(server.stderr_with("refused what was too much"));
    let log = server.stop("TERM").stderr;
    let line = log.lines().find(|line| line.contains("refused what was too much"));
    let line = line.expect("it is in the log");
    assert!(line.contains("login_pair") && line.contains("address:127.0.0.1"), "{line}");
    assert!(!log.contains(UNA) && !log.contains(WRONG), "{log}");
}
