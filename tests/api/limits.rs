//! Rate limits of passwords, credentials and requests, and the callers that they do not affect.
//!
//! The clock is stopped in these tests, so that no cell is refilled before the test advances it.

use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Logs in from the address that a trusted proxy forwards.
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
    time::Duration::seconds(i64::try_from(count).expect("a wait fits in an i64"))
}

/// Reads a counter from the metrics.
async fn count(app: &TestApp, metric: &str) -> Option<u64> {
    let text = app.anonymous().get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.map(|number| number.parse().expect("a count is a number"))
}

#[tokio::test]
async fn after_too_many_wrong_passwords_no_password_is_checked() {
    let app = limited(&[("limits.login_pair", "6/3")]).spawn().await;
    app.add_user(UNA, None).await;
    assert_eq!(guess(&app, 3).await, [401, 401, 401]);
    let hashes = count(&app, "rowhouse_password_hashes_computed_total").await;
    assert!(hashes >= Some(3), "{hashes:?}");
    let refused = log_in(&app, UNA, PASSWORD).await;
    assert_eq!(refused.refusal(429), "Too many requests");
    assert_eq!(refused.retry_after(), 10);
    assert_eq!(count(&app, "rowhouse_password_hashes_computed_total").await, hashes);
}

#[tokio::test]
async fn a_login_is_possible_again_after_the_time_in_retry_after() {
    let app = limited(&[("limits.login_pair", "6/3")]).spawn().await;
    app.add_user(UNA, None).await;
    assert_eq!(guess(&app, 3).await, [401, 401, 401]);
    // Attempts meanwhile do not extend the wait.
    for _ in 0..20 {
        assert_eq!(log_in(&app, UNA, WRONG).await.retry_after(), 10);
    }
    app.clock.advance(seconds(9));
    assert_eq!(log_in(&app, UNA, PASSWORD).await.retry_after(), 1);
    app.clock.advance(seconds(1));
    assert_eq!(log_in(&app, UNA, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn correct_passwords_are_not_counted() {
    let one = ["limits.login_pair", "limits.login_account", "limits.login_address"];
    let app = limited(&one.map(|key| (key, "1/2"))).spawn().await;
    app.add_user(UNA, None).await;
    for _ in 0..5 {
        assert_eq!(log_in(&app, UNA, PASSWORD).await.status, 200);
    }
    assert_eq!(guess(&app, 3).await, [401, 401, 429]);
}

#[tokio::test]
async fn an_invalid_body_does_not_count_as_an_attempt() {
    let app =
        limited(&[("limits.login_pair", "1/1"), ("limits.login_address", "1/1")]).spawn().await;
    for _ in 0..3 {
        log_in(&app, UNA, "short").await.refusal(400);
        log_in(&app, "", PASSWORD).await.refusal(400);
    }
    assert_eq!(guess(&app, 2).await, [401, 429]);
}

#[tokio::test]
async fn concurrent_guesses_share_one_limit() {
    let app = limited(&[("limits.login_pair", "1/4")]).with("http.workers", "2").spawn().await;
    app.add_user(UNA, None).await;
    let answers = join_all((0..24).map(|_| log_in(&app, UNA, WRONG))).await;
    let checked = answers.iter().filter(|answer| answer.status == 401).count();
    assert_eq!(checked, 4, "the workers share the count");
    assert!(answers.iter().all(|answer| [401, 429].contains(&answer.status)), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_passwords_at_the_same_moment_are_never_refused_as_guesses() {
    let one = ["limits.login_pair", "limits.login_account", "limits.login_address"];
    let app = limited(&one.map(|key| (key, "1/3"))).with("http.workers", "2").spawn().await;
    app.add_user(UNA, None).await;
    let answers = join_all((0..40).map(|_| log_in(&app, UNA, PASSWORD))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    // Among wrong ones, no more of these are checked than the limit allows, and right ones before them pass.
    let mixed = join_all((0..30).map(|n| {
        let password = if n < 10 { PASSWORD } else { WRONG };
        log_in(&app, UNA, password)
    }));
    let statuses: Vec<_> = mixed.await.iter().map(|answer| answer.status).collect();
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert!(count(401) <= 3, "{statuses:?}");
    assert_eq!(count(200) + count(401) + count(429), 30, "{statuses:?}");
    app.clock.advance(seconds(180));
    assert_eq!(guess(&app, 4).await, [401, 401, 401, 429]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_passwords_of_a_change_and_first_uses_of_credentials_are_not_refused_either() {
    let limits = [("limits.login_pair", "1/2"), ("limits.token_address", "1/2")];
    let app = limited(&limits).with("http.workers", "2").spawn().await;
    app.add_user(UNA, None).await;
    let una = app.log_in(UNA).await;
    let body = json!({ "current_password": PASSWORD, "new_password": PASSWORD });
    let answers = join_all((0..12).map(|_| una.post("/control/v1/me/password", &body))).await;
    assert!(answers.iter().all(|answer| answer.status != 429), "{answers:?}");
    let mut tokens = Vec::new();
    for _ in 0..20 {
        tokens.push(app.add_token(&[Permission::ViewTenants], None, None).await.1);
    }
    let answers = join_all(tokens.iter().map(|token| token.get("/api/tenant"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
}

#[tokio::test]
async fn known_and_unknown_accounts_are_counted_alike_in_every_spelling() {
    let app = limited(&[("limits.login_pair", "1/3")]).spawn().await;
    app.add_user(UNA, None).await;
    for spellings in [
        [UNA, "UNA@example.com", " una@EXAMPLE.com ", UNA],
        ["absent@example.com", "Absent@example.com", " absent@example.com", "absent@example.com"],
    ] {
        let mut statuses = Vec::new();
        for spelling in spellings {
            statuses.push(log_in(&app, spelling, WRONG).await.status);
        }
        assert_eq!(statuses, [401, 401, 401, 429], "{spellings:?}");
    }
}

#[tokio::test]
async fn wrong_passwords_of_one_account_do_not_lock_out_another_at_the_same_address() {
    let app =
        limited(&[("limits.login_pair", "1/2"), ("limits.login_account", "1/2")]).spawn().await;
    app.add_user(UNA, None).await;
    app.add_user("bob@example.com", None).await;
    assert_eq!(guess(&app, 3).await, [401, 401, 429]);
    assert_eq!(log_in(&app, "bob@example.com", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn guesses_from_many_addresses_are_stopped_and_do_not_lock_out_a_known_address() {
    let app = limited(&[("limits.login_pair", "60/60"), ("limits.login_account", "6/3")])
        .with("http.trusted_proxies", "127.0.0.1")
        .spawn()
        .await;
    app.add_user(UNA, None).await;
    assert_eq!(log_in_from(&app, "203.0.113.7", UNA, PASSWORD).await, 200);
    let mut statuses = Vec::new();
    for host in 1..=5 {
        statuses.push(log_in_from(&app, &format!("198.51.100.{host}"), UNA, WRONG).await);
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
    // A known address is not affected, and a wrong password there uses no cell of the unknown addresses.
    assert_eq!(log_in_from(&app, "203.0.113.7", UNA, WRONG).await, 401);
    assert_eq!(log_in_from(&app, "203.0.113.7", UNA, PASSWORD).await, 200);
    // At a new address the user waits for the next cell; afterwards the address is known.
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
async fn one_address_cannot_try_a_password_at_every_account() {
    let app = limited(&[("limits.login_address", "1/5")]).spawn().await;
    let mut statuses = Vec::new();
    for account in 0..7 {
        let account = format!("person-{account}@example.com");
        statuses.push(log_in(&app, &account, WRONG).await.status);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
}

/// Of those who wait for a password hash, each address has its turn. The right log-in comes when more than half of the wrong
/// ones wait before it, and is answered while they still do.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_log_ins_of_one_address_do_not_delay_a_right_one_of_another() {
    const GUESSES: usize = 120;
    const WAITING: u64 = 40;
    let app = TestApp::builder()
        .with("auth.hash_memory_kib", "19456")
        .with("auth.hash_iterations", "5")
        .with("http.trusted_proxies", "127.0.0.1")
        .spawn()
        .await;
    app.add_user(UNA, None).await;
    let answered = AtomicUsize::new(0);
    let guess = async || {
        let status = log_in_from(&app, "198.51.100.1", "absent@example.com", WRONG).await;
        answered.fetch_add(1, Ordering::SeqCst);
        status
    };
    let guesses = join_all((0..GUESSES).map(|_| guess()));
    let right = async {
        while count(&app, r#"rowhouse_password_hashes{state="waiting"}"#).await < Some(WAITING) {
            assert!(answered.load(Ordering::SeqCst) < GUESSES / 2, "the guesses were never many");
        }
        let before = answered.load(Ordering::SeqCst);
        let status = log_in_from(&app, "203.0.113.7", UNA, PASSWORD).await;
        (status, answered.load(Ordering::SeqCst) - before)
    };
    let (statuses, (status, meanwhile)) = tokio::join!(guesses, right);
    assert_eq!(status, 200);
    // In the order of their arrival all that waited would have been answered before it.
    assert!(meanwhile < 20, "{meanwhile} guesses were answered before it");
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
}

/// Sends one call with this credential in each dialect.
async fn call_each_dialect(app: &TestApp, token: &str) -> Vec<Answer> {
    let bearer = app.bearer(token);
    vec![
        bearer.get("/api/tenant").await,
        app.bunker(token).call("TenantListTenants", json!({})).await,
        bearer.get("/api/tenants/x").await,
        bearer.get("/control/v1/tenants").await,
    ]
}

#[track_caller]
fn assert_all_refused(answers: &[Answer]) {
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

const UNKNOWN_TOKEN: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";

#[tokio::test]
async fn too_many_wrong_credentials_are_refused_in_each_dialects_form() {
    let app = limited(&[("limits.token_address", "1/4")]).spawn().await;
    let statuses: Vec<_> =
        call_each_dialect(&app, UNKNOWN_TOKEN).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [401, 403, 401, 401]);
    assert_all_refused(&call_each_dialect(&app, UNKNOWN_TOKEN).await);
    assert_all_refused(&call_each_dialect(&app, "rh_not_a_token").await);
    let cookie = app.anonymous().request(Method::POST, "/api/auth/refresh");
    send(cookie.header("cookie", "refreshToken=rhr_not_a_token")).await.refusal(429);
    // A request without a credential is not counted.
    app.anonymous().get("/api/tenant").await.refusal(401);
    assert_eq!(app.anonymous().get("/healthz").await.status, 200);
    app.clock.advance(seconds(60));
    app.bearer(UNKNOWN_TOKEN).get("/api/tenant").await.refusal(401);
}

#[tokio::test]
async fn wrong_credentials_do_not_block_credentials_that_worked_before_from_the_same_address() {
    let app = limited(&[("limits.token_address", "1/2")]).spawn().await;
    app.add_user(UNA, None).await;
    let (_, unseen) = app.add_token(&[Permission::ViewTenants], None, None).await;
    assert_eq!(app.root().get("/api/tenant").await.status, 200);
    for status in [401, 401, 429, 429] {
        app.bearer(UNKNOWN_TOKEN).get("/api/tenant").await.refusal(status);
    }
    assert_eq!(
        app.root().get("/api/tenant").await.status,
        200,
        "the root token was accepted before"
    );
    unseen.get("/api/tenant/mine").await.refusal(429);
    // Tokens that this server issued are known to it.
    let login = log_in(&app, UNA, PASSWORD).await;
    assert_eq!(login.status, 200);
    let caller = app.bearer(login.body["accessToken"].as_str().expect("a token is a text"));
    assert_eq!(caller.get("/api/tenant/mine").await.status, 200);
    let cookie = login.header("set-cookie").expect("there is a cookie");
    let cookie = cookie.split(';').next().expect("it has a value").to_owned();
    let refresh = || app.anonymous().request(Method::POST, "/api/auth/refresh");
    assert_eq!(send(refresh().header("cookie", cookie)).await.status, 200);
    // The unseen token is checked once the limit allows it.
    app.clock.advance(seconds(60));
    assert_eq!(unseen.get("/api/tenant/mine").await.status, 200);
    assert_eq!(unseen.get("/api/tenant/mine").await.status, 200);
}

#[tokio::test]
async fn a_revoked_credential_is_counted_like_any_wrong_one() {
    let app = limited(&[("limits.token_address", "1/2")]).spawn().await;
    let (id, caller) = app.add_token(&[Permission::ViewTenants], None, None).await;
    assert_eq!(caller.get("/api/tenant/mine").await.status, 200);
    app.services.tokens.revoke(&app.operator(), id).await.expect("the operator may revoke it");
    for status in [401, 401, 401, 429] {
        caller.get("/api/tenant/mine").await.refusal(status);
    }
}

#[tokio::test]
async fn too_many_requests_of_one_caller_are_refused_in_each_dialects_form_and_others_are_not() {
    let app = limited(&[("limits.requests_token", "60/4")]).spawn().await;
    let (_, other) = app.add_token(&[Permission::ViewTenants], None, None).await;
    let statuses: Vec<_> =
        call_each_dialect(&app, &app.root_token).await.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 404, 200]);
    assert_all_refused(&call_each_dialect(&app, &app.root_token).await);
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
async fn requests_are_counted_per_tenant_over_all_its_tokens_and_users() {
    let app = limited(&[("limits.requests_tenant", "60/3")])
        .with_routes(std::sync::Arc::new(|config| {
            config.service(inside);
        }))
        .spawn()
        .await;
    let (acme, globex) = (app.set_up("acme").await, app.set_up("globex").await);
    let (ada, gus) = (app.log_in(&acme.admin_email).await, app.log_in(&globex.admin_email).await);
    let (_, token) = app.add_token(&[Permission::ReadProfiles], Some(acme.id), None).await;
    // Requests of callers without access to the tenant are not counted.
    for _ in 0..5 {
        assert_eq!(enter(&gus, acme.id).await, 404);
    }
    assert_eq!(enter(&ada, acme.id).await, 200);
    assert_eq!(enter(&token, acme.id).await, 200);
    assert_eq!(enter(&token, acme.id).await, 200);
    assert_eq!(enter(&ada, acme.id).await, 429);
    assert_eq!(enter(&token, acme.id).await, 429);
    token.get("/api/tenant/mine").await.refusal(429);
    // The other tenant, requests outside any tenant, and root are not affected.
    assert_eq!(enter(&gus, globex.id).await, 200);
    assert_eq!(ada.get("/api/tenant/mine").await.status, 200);
    assert_eq!(enter(&app.root(), acme.id).await, 200);
    app.clock.advance(seconds(1));
    assert_eq!(enter(&ada, acme.id).await, 200);
}

#[tokio::test]
async fn requests_with_a_tenants_xtoken_count_for_that_tenant() {
    let app = limited(&[("limits.requests_tenant", "60/2")]).spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let other = app.bunker_tenant("globex").await;
    for _ in 0..2 {
        tenant.admin.get("absent@example.com").await.error(404);
    }
    tenant.admin.get("absent@example.com").await.error(429);
    other.admin.get("absent@example.com").await.error(404);
}

#[test]
fn every_limit_is_on_by_default_and_zero_turns_it_off() {
    let limits = Settings::from_values(&[]).expect("the defaults are valid").limits;
    let all = [
        ("limits.login_pair", limits.login_pair),
        ("limits.login_account", limits.login_account),
        ("limits.login_address", limits.login_address),
        ("limits.token_address", limits.token_address),
        ("limits.requests_token", limits.requests_token),
        ("limits.requests_tenant", limits.requests_tenant),
        ("limits.exports_tenant", limits.exports_tenant),
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
async fn a_refusal_is_logged_without_the_account_and_the_password() {
    let database = TestDatabase::create().await;
    let program = Program::on(&database).with("ROWHOUSE_LIMITS__LOGIN_PAIR", "1/1");
    let server = program.serve(&[]);
    let caller = Caller::new(&server.address, None);
    let body = json!({ "identifier": UNA, "password": WRONG });
    assert_eq!(caller.post(LOGIN, &body).await.status, 401);
    for _ in 0..3 {
        // On a slow machine the cell may be refilled meanwhile, after a minute.
        assert!([401, 429].contains(&caller.post(LOGIN, &body).await.status));
    }
    drop(server.stderr_with("refused a client that exceeded a limit"));
    let log = server.stop("TERM").stderr;
    let line = log.lines().find(|line| line.contains("refused a client that exceeded a limit"));
    let line = line.expect("the refusal is in the log");
    assert!(line.contains("login_pair") && line.contains("address:127.0.0.1"), "{line}");
    assert!(!log.contains(UNA) && !log.contains(WRONG), "{log}");
}

/// What the headers of an answer tell: the policies, and of each limit what is left and when it is full again.
fn told(answer: &Answer) -> (String, Vec<(String, u64, u64)>) {
    let policy = answer.header("ratelimit-policy").unwrap_or_default().to_owned();
    let left = answer.header("ratelimit").unwrap_or_default().split(", ").map(|limit| {
        let mut parts = limit.split(';');
        let name = parts.next().expect("a limit has a name").trim_matches('"').to_owned();
        let mut number = |key: &str| {
            let part = parts.next().and_then(|part| part.strip_prefix(key)?.strip_prefix('='));
            part.unwrap_or_else(|| panic!("{limit} has no {key}")).parse().expect("a number")
        };
        (name, number("r"), number("t"))
    });
    (policy, left.collect())
}

#[tokio::test]
async fn counted_answers_of_every_dialect_tell_how_their_caller_stands() {
    let limits = [("limits.requests_token", "120/10"), ("limits.requests_tenant", "60/8")];
    let app = limited(&limits).spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let token = app.add_token(&[Permission::ViewTenants], None, None).await.1;
    let anything = json!({});
    for (method, path) in [
        (Method::GET, "/control/v1/tenants"),
        (Method::GET, "/control/v1/tenants/none"),
        (Method::GET, "/api/tenant"),
        (Method::POST, "/api/tenants"),
    ] {
        let token = app.add_token(&[Permission::ViewTenants], None, None).await.1;
        let call = async || send(token.request(method.clone(), path).json(&anything)).await;
        let (first, second) = (told(&call().await), told(&call().await));
        let policy = "\"token\";q=120;w=60".to_owned();
        let left = |r, t| vec![("token".to_owned(), r, t)];
        assert_eq!((first, second), ((policy.clone(), left(9, 1)), (policy, left(8, 1))), "{path}");
    }
    let found = tenant.admin.get("ada@example.com").await;
    let (policy, left) = told(&found);
    assert_eq!(policy, "\"token\";q=120;w=60, \"tenant\";q=60;w=60", "{found:?}");
    assert_eq!(left, [("token".to_owned(), 9, 1), ("tenant".to_owned(), 7, 1)], "{found:?}");

    // Over a limit: the one that was reached has nothing left, and its time is that of `Retry-After`.
    let mut last = token.get("/control/v1/tenants").await;
    for _ in 0..11 {
        last = token.get("/control/v1/tenants").await;
    }
    assert_problem(&last, 429, "too_many");
    let left = told(&last).1;
    assert_eq!(left, [("token".to_owned(), 0, last.retry_after())], "{last:?}");
    let mut last = tenant.admin.get("ada@example.com").await;
    for _ in 0..9 {
        last = tenant.admin.get("ada@example.com").await;
    }
    assert_eq!((last.status, told(&last).1[0].1), (429, 0), "{last:?}");
    assert_eq!(told(&last).1.last().map(|limit| limit.2), Some(last.retry_after()), "{last:?}");
}

#[tokio::test]
async fn an_answer_to_a_request_that_was_not_counted_tells_of_no_limit() {
    let app = limited(&[("limits.requests_token", "120/10")]).spawn().await;
    app.add_user(UNA, None).await;
    for answer in [app.anonymous().get("/healthz").await, log_in(&app, UNA, PASSWORD).await] {
        assert_eq!((answer.status, answer.header("ratelimit")), (200, None), "{answer:?}");
    }
    let app = limited(&[]).spawn().await;
    let answer = app.root().get("/api/tenant").await;
    assert_eq!((answer.status, answer.header("ratelimit-policy")), (200, None), "{answer:?}");
}
