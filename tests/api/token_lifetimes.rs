//! `tokens.max_lifetime` and `tokens.default_lifetime`: off by default, and the same for every kind and dialect.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::support::control::{assert_problem, pointers};
use crate::support::scoped::{make_key, post_in};
use crate::support::tokens::{TOKENS, listed, made, make_token};
use crate::support::{Program, TestApp, TestDatabase};

const KEYS: &str = "/api/api-keys";

fn text(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).expect("a time can be written")
}

/// Asserts that a time in an answer is so far from now, to the second.
#[track_caller]
fn assert_in(app: &TestApp, time: &Value, length: Duration) {
    let time = time.as_str().unwrap_or_else(|| panic!("no time: {time}"));
    let time = OffsetDateTime::parse(time, &Rfc3339).expect("it is a time");
    assert!((time - app.clock.now() - length).abs() < Duration::SECOND, "{time}");
}

#[tokio::test]
async fn a_token_has_no_end_unless_one_is_asked_for_or_set() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let token = make_token(&app, &admin, &["VIEW_USERS"], Some(acme.id)).await;
    assert_eq!(token.body["expires_at"], Value::Null);
    assert_eq!(make_key(&admin, acme.id, &["VIEW_USERS"]).await.body["expiresAt"], Value::Null);
    app.bunker_tenant("globex").await;
    let xtoken = app.root().get(&format!("{TOKENS}?kind=xtoken")).await;
    assert_eq!(xtoken.body["data"][0]["expires_at"], Value::Null);
}

#[tokio::test]
async fn a_lifetime_beyond_the_greatest_is_refused_and_the_limit_is_named() {
    let app =
        TestApp::builder().with_stopped_clock().with("tokens.max_lifetime", "90d").spawn().await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let (limit, beyond) = (Duration::days(90), Duration::days(90) + Duration::SECOND);
    for caller in [&admin, &app.root()] {
        let new = |length: Duration| {
            json!({ "name": "x", "permissions": ["VIEW_USERS"], "tenant_id": acme.id,
                                             "expires_at": text(app.clock.now() + length) })
        };
        let refused = caller.post(TOKENS, &new(beyond)).await;
        assert_problem(&refused, 400, "invalid");
        assert_eq!(pointers(&refused), ["/expires_at: beyond_limit"]);
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("at most 90 days"), "{detail}");
        assert_in(
            &app,
            &made(&app, &caller.post(TOKENS, &new(limit)).await).body["expires_at"],
            limit,
        );
        // One that is asked for without an end gets the limit.
        let token = make_token(&app, caller, &["VIEW_USERS"], Some(acme.id)).await;
        assert_in(&app, &token.body["expires_at"], limit);

        let key = |length| json!({ "name": "x", "permissions": ["VIEW_USERS"], "expiresAt": text(app.clock.now() + length) });
        let refused = post_in(caller, acme.id, KEYS, &key(beyond)).await;
        assert_eq!(refused.refusal(400), "Validation failed");
        assert_eq!(refused.bad_rules(), [("expiresAt", "beyond_limit")]);
        assert!(refused.text.contains("at most 90 days"), "{refused:?}");
        assert_eq!(post_in(caller, acme.id, KEYS, &key(limit)).await.status, 201);
        assert_in(&app, &make_key(caller, acme.id, &["VIEW_USERS"]).await.body["expiresAt"], limit);
    }
}

#[tokio::test]
async fn the_greatest_lifetime_holds_for_xtokens_too() {
    let app =
        TestApp::builder().with_stopped_clock().with("tokens.max_lifetime", "2h").spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "email": "ada@example.com" })).await;
    let xtoken = app.root().get(&format!("{TOKENS}?kind=xtoken")).await;
    assert_in(&app, &xtoken.body["data"][0]["expires_at"], Duration::hours(2));
    for admin in [&tenant.admin, &app.bunker_root().for_tenant("acme")] {
        let who = json!({ "mode": "email", "identity": "ada@example.com", "finaltime": "3h" });
        let refused = admin.call("XTokenCreateForUser", who).await;
        assert_eq!(refused.error(400), "The finaltime parameter must be at most 2 hours");
        admin.about("XTokenCreateForUser", "email", "ada@example.com").await.ok();
    }
    assert_eq!(listed(&app.root(), "&kind=person").await.len(), 2);
    // A rotation begins anew only as far as it is asked to.
    app.clock.advance(Duration::HOUR);
    let id = listed(&app.root(), "&kind=xtoken").await[0];
    let path = format!("{TOKENS}/{id}/rotate");
    let rotated = app.root().post(&path, &json!({})).await;
    assert_in(&app, &rotated.body["expires_at"], Duration::HOUR);
    let end = text(app.clock.now() + Duration::hours(2));
    let rotated = app.root().post(&path, &json!({ "expires_at": end })).await;
    assert_in(&app, &rotated.body["expires_at"], Duration::hours(2));
    let secret = rotated.body["token"].as_str().unwrap();
    app.clock.advance(Duration::HOUR);
    tenant.admin.with_token(secret).get("ada@example.com").await.ok();
}

#[tokio::test]
async fn a_token_from_before_the_limit_gets_an_end_when_it_is_rotated() {
    let before = TestApp::builder().with_stopped_clock().spawn().await;
    let token = make_token(&before, &before.root(), &["VIEW_TENANTS"], None).await;
    let app = TestApp::builder()
        .with_stopped_clock()
        .with("tokens.max_lifetime", "90d")
        .on(before.database.clone())
        .spawn()
        .await;
    let still = app.bearer(token.caller.token());
    assert_eq!(still.get("/api/tenant").await.status, 200, "the limit ends no existing token");
    let rotated = app.root().post(&token.path("rotate"), &json!({})).await;
    assert_in(&app, &rotated.body["expires_at"], Duration::days(90));
}

#[tokio::test]
async fn a_token_without_an_end_gets_the_default_lifetime() {
    let app = TestApp::builder()
        .with_stopped_clock()
        .with("tokens.default_lifetime", "30d")
        .spawn()
        .await;
    let acme = app.set_up("acme").await;
    let admin = app.log_in(&acme.admin_email).await;
    let token = make_token(&app, &admin, &["MANAGE_API_KEYS"], Some(acme.id)).await;
    assert_in(&app, &token.body["expires_at"], Duration::days(30));
    let key = make_key(&admin, acme.id, &["VIEW_USERS"]).await;
    assert_in(&app, &key.body["expiresAt"], Duration::days(30));
    // A longer one may be asked for, and a tenant's own token has no end, as Databunker documents it.
    let body =
        json!({ "name": "x", "permissions": ["VIEW_USERS"], "expires_at": "2999-01-01T00:00:00Z" });
    assert_eq!(app.root().post(TOKENS, &body).await.body["expires_at"], "2999-01-01T00:00:00Z");
    app.bunker_tenant("globex").await;
    let xtoken = app.root().get(&format!("{TOKENS}?kind=xtoken")).await;
    assert_eq!(xtoken.body["data"][0]["expires_at"], Value::Null);
    // What a token makes gets the default too, and no more than that token has left.
    app.clock.advance(Duration::days(29));
    let child = make_token(&app, &token.caller, &["MANAGE_API_KEYS"], Some(acme.id)).await;
    assert_in(&app, &child.body["expires_at"], Duration::days(1));
}

#[tokio::test]
async fn the_command_line_names_the_limit() {
    let database = TestDatabase::create().await;
    let _app = TestApp::builder().on(database.clone()).spawn().await;
    let program = Program::on(&database).with("ROWHOUSE_TOKENS__MAX_LIFETIME", "90d");
    let create = ["token", "create", "--name", "ci", "--permission", "VIEW_TENANTS"];
    let ran = program.run(&[&create[..], &["--expires", "91d"]].concat()).expect(2);
    assert!(ran.stderr.contains("--expires must be at most 90 days"), "{ran:?}");
    let made = program.run(&[&create[..], &["--json"]].concat()).expect(0).json();
    assert!(made["expires_at"].is_string(), "{made}");
    assert_eq!(program.run(&["token", "list", "--json"]).json().as_array().map(Vec::len), Some(1));
}
