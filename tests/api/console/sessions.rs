//! What ends a session of the console, and what a page of another origin cannot do.

use reqwest::Method;
use rowhouse::domain::Permission;
use serde_json::json;
use time::Duration;

use super::browser::{Browser, send};
use crate::support::{PASSWORD, Snapshot, TestApp};

/// Fails unless the next click leads to the sign-in.
#[track_caller]
fn has_ended(answer: &super::browser::Shown) {
    assert!(answer.leads_to().starts_with("/console/login?next="), "{answer:?}");
    assert!(answer.leads_to().ends_with("&ended=1"), "{answer:?}");
}

#[tokio::test]
async fn a_session_ends_an_hour_after_its_last_use_and_twelve_hours_after_the_sign_in() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    app.set_up("acme").await;
    let browser = Browser::signed_in(&app, "admin@acme.example.com").await;
    app.clock.advance(Duration::minutes(59));
    browser.get("/console").await.page();
    // What the browser asks for by itself is no use.
    app.clock.advance(Duration::minutes(59));
    assert_eq!(browser.get("/console?fragment=live").await.status, 200);
    app.clock.advance(Duration::minutes(2));
    has_ended(&browser.get("/console").await);
    assert_eq!(browser.get("/console?fragment=live").await.status, 401);
    let browser = Browser::signed_in(&app, "admin@acme.example.com").await;
    for _ in 0..14 {
        app.clock.advance(Duration::minutes(50));
        browser.get("/console").await.page();
    }
    app.clock.advance(Duration::minutes(21));
    has_ended(&browser.get("/console").await);
}

#[tokio::test]
async fn a_session_of_root_ends_after_15_minutes_without_use_and_after_an_hour() {
    let app = TestApp::builder().with_stopped_clock().spawn().await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    app.clock.advance(Duration::minutes(16));
    has_ended(&browser.get("/console").await);
    let browser = Browser::with_token(&app, &app.root_token).await;
    for _ in 0..5 {
        app.clock.advance(Duration::minutes(11));
        browser.get("/console").await.page();
    }
    app.clock.advance(Duration::minutes(6));
    has_ended(&browser.get("/console").await);
}

#[tokio::test]
async fn a_session_ends_at_the_next_click_with_what_it_stands_for() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    // Sign-out, which also ends the session of the user.
    let browser = Browser::signed_in(&app, "admin@acme.example.com").await;
    let other = Browser::signed_in(&app, "admin@acme.example.com").await;
    let copy = browser.request(Method::GET, "/console/account");
    browser.post("/console/logout", &[]).await;
    assert_eq!(browser.get("/console").await.leads_to(), "/console/login?next=%2Fconsole");
    assert_eq!(send(copy).await.status, 303);
    // The session is ended elsewhere.
    let page = other.get("/console/account").await.page();
    let id = page.between("data-id=\"", "\"").to_owned();
    let api = app.log_in("admin@acme.example.com").await;
    let ended = api.request(Method::DELETE, &format!("/control/v1/me/sessions/{id}"));
    assert!(crate::support::callers::send(ended).await.status < 300);
    has_ended(&other.get("/console").await);
    // Another caller resets the password.
    let browser = Browser::signed_in(&app, "admin@acme.example.com").await;
    let sql = app.sql().await;
    let user = "SELECT id FROM users WHERE email = 'admin@acme.example.com'";
    let user: uuid::Uuid = sql.query_one(user, &[]).await.unwrap().get(0);
    let reset = json!({ "userId": user, "newPassword": "AnotherPass456!" });
    let request = app.root().request(Method::POST, "/api/auth/reset-user-password");
    let request = request.header("x-tenant-id", acme.id.to_string()).json(&reset);
    assert_eq!(crate::support::callers::send(request).await.status, 200);
    has_ended(&browser.get("/console").await);
    // The token is revoked.
    let (id, token) = app.add_token(&[Permission::ViewTenants], None, None).await;
    let browser = Browser::with_token(&app, token.token()).await;
    browser.get("/console/tenants").await.page();
    app.services.tokens.revoke(&app.operator(), id).await.unwrap();
    has_ended(&browser.get("/console/tenants").await);
    // The user loses the role: the session stays, and the page is refused.
    app.add_user("super@example.com", Some("SUPER_ADMIN")).await;
    let browser = Browser::signed_in(&app, "super@example.com").await;
    browser.get("/console/tenants").await.page().shows("New tenant");
    let demote = "UPDATE users SET platform_role = NULL WHERE email = 'super@example.com'";
    sql.execute(demote, &[]).await.unwrap();
    let refused = browser.get("/console/tenants").await;
    assert_eq!(refused.status, 403);
    refused.shows("Your account lacks the permission VIEW_TENANTS");
    browser.get("/console").await.page().does_not_show(">Tenants</a>");
    // The server gets another root token.
    let browser = Browser::with_token(&app, &app.root_token).await;
    let app = TestApp::builder().on(app.stop().await).spawn().await;
    has_ended(&browser.at(&app).get("/console").await);
}

#[tokio::test]
async fn only_a_digest_of_the_secret_is_stored_and_each_sign_in_has_a_new_one() {
    let app = TestApp::spawn().await;
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let form = [("by", "token"), ("token", app.root_token.as_str())];
        let answer = Browser::new(&app).post("/console/login", &form).await;
        let cookie = answer.header("set-cookie").unwrap().to_owned();
        secrets.push(cookie.split(['=', ';']).nth(1).unwrap().to_owned());
    }
    assert_ne!(secrets[0], secrets[1]);
    let rows = app.sql().await.query("SELECT to_jsonb(c)::text FROM console_sessions c", &[]).await;
    for row in rows.unwrap() {
        let text: String = row.get(0);
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{text}");
        assert!(!text.contains(&app.root_token), "{text}");
    }
}

#[tokio::test]
async fn a_server_behind_tls_marks_its_cookie_and_says_where_a_browser_would_not_keep_it() {
    let app = TestApp::builder().with("auth.cookie_secure", "true").spawn().await;
    let browser = Browser::new(&app);
    let form = [("by", "token"), ("token", app.root_token.as_str())];
    let answer = browser.post("/console/login", &form).await;
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-rowhouse_console=rhc_"), "{cookie}");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Secure"] {
        assert!(cookie.contains(part), "{part} in {cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    let plain = browser.form("/console/login", &form).header("host", "console.corp.test");
    let answer = send(plain.header("origin", "http://console.corp.test")).await;
    assert_eq!(answer.status, 400);
    answer.shows("auth.cookie_secure");
    assert_eq!(answer.header("set-cookie"), None);
}

#[tokio::test]
async fn a_form_of_another_origin_changes_nothing() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let before = Snapshot::of(&app).await;
    for (method, pattern) in rowhouse::http::console::ROUTES {
        if *method != "post" {
            continue;
        }
        let path =
            pattern.replace("{tenant}", "acme").replace("{id}", &uuid::Uuid::nil().to_string());
        let form = || browser.form(&path, &[("revision", "1"), ("slug", "acme")]);
        for (what, request) in [
            ("neither header", form()),
            ("a foreign origin", form().header("origin", "https://evil.example")),
            ("no origin", form().header("origin", "null")),
            ("a sibling", form().header("sec-fetch-site", "same-site")),
            ("another site", form().header("sec-fetch-site", "cross-site")),
            ("no site", form().header("sec-fetch-site", "none")),
        ] {
            let answer = send(request).await;
            assert_eq!(answer.status, 403, "{path} with {what}: {answer:?}");
            answer.shows("This was not sent by a page of the console");
        }
    }
    let after = Snapshot::of(&app).await;
    let changed = after.changed_since(&before);
    assert!(changed.iter().all(|table| table == "audit_events"), "{changed:?}");
    // By http on a name that is not localhost a browser sends the origin alone.
    let address = app.address.clone();
    let own = browser.form("/console/logout", &[]).header("origin", address);
    assert_eq!(send(own).await.leads_to(), "/console/login");
}

#[tokio::test]
async fn the_cookie_is_good_for_pages_alone_and_scripts_of_other_origins_read_none() {
    let app = TestApp::builder().with("http.cors_origins", "https://app.example.com").spawn().await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    for path in ["/control/v1/tenants", "/control/v1/me", "/api/tenant"] {
        let answer = send(browser.request(Method::GET, path)).await;
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
    }
    let read = browser.request(Method::GET, "/console").header("origin", "https://app.example.com");
    let read = read.header("sec-fetch-site", "same-site").header("sec-fetch-mode", "cors");
    assert_eq!(send(read).await.status, 403);
    // A link on a page of another site is followed.
    let link = browser.request(Method::GET, "/console").header("sec-fetch-site", "cross-site");
    assert_eq!(send(link.header("sec-fetch-mode", "navigate")).await.status, 200);
}

#[tokio::test]
async fn a_sign_in_leads_to_no_other_server() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    for next in ["//evil.example", "https://evil.example", "/\\evil.example", "/control/v1/me"] {
        let form = [("email", "admin@acme.example.com"), ("password", PASSWORD), ("next", next)];
        let answer = Browser::new(&app).post("/console/login", &form).await;
        assert_eq!(answer.leads_to(), "/console", "{next}");
    }
}
