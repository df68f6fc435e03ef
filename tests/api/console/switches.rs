//! Where the console is served, where it is not, and while the database is away.

use std::time::Duration;

use reqwest::Method;

use super::browser::{Browser, send};
use crate::support::proxy::{Network, Proxy};
use crate::support::{TestApp, TestDatabase};

#[tokio::test]
async fn a_console_that_is_switched_off_answers_as_any_unknown_path() {
    let app = TestApp::builder().with("console.enabled", "false").spawn().await;
    for path in ["/console", "/console/login", "/console/assets/0/console.css"] {
        app.anonymous().get(path).await.refusal(404);
    }
    let browser = Browser::new(&app);
    let start = browser.request(Method::GET, "/").header("accept", "text/html");
    assert_eq!(send(start).await.status, 404);
}

#[tokio::test]
async fn the_console_is_at_its_host_alone_and_at_no_host_of_a_tenant() {
    let app = TestApp::builder().with("console.host", "console.corp.test").spawn().await;
    let browser = Browser::new(&app);
    let at =
        |host: &'static str| browser.request(Method::GET, "/console/login").header("host", host);
    for host in ["console.corp.test", "CONSOLE.corp.test:8080", "console.corp.test."] {
        assert_eq!(send(at(host)).await.status, 200, "{host}");
    }
    for host in ["corp.test", "app.corp.test", "console.corp.test.evil.example", "127.0.0.1"] {
        let answer = send(at(host)).await;
        assert_eq!(answer.status, 404, "{host}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{host}");
    }
    let app = TestApp::builder().with("base_domain", "example.com").spawn().await;
    let browser = Browser::new(&app);
    for (host, status) in [("acme.example.com", 404), ("example.com", 200), ("127.0.0.1", 200)] {
        let request = browser.request(Method::GET, "/console/login").header("host", host);
        assert_eq!(send(request).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn a_wrong_method_and_an_unknown_page_are_answered_as_pages() {
    let app = TestApp::spawn().await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let unknown = browser.get("/console/nowhere").await;
    assert_eq!(unknown.status, 404);
    unknown.shows("There is no such page");
    let put = browser.request(Method::PUT, "/console/tenants");
    let wrong = send(put.header("sec-fetch-site", "same-origin")).await;
    assert_eq!(wrong.status, 405);
    assert_eq!(wrong.header("allow"), Some("GET, HEAD, OPTIONS"));
    wrong.shows("This page cannot be asked for like this");
}

#[tokio::test]
async fn while_the_database_is_away_a_page_says_so_and_a_form_keeps_what_was_typed() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::to(&database.url()).await;
    let app = TestApp::builder()
        .with("database.url", proxy.url.clone())
        .with("database.connect_timeout", "2s")
        .on(database)
        .spawn()
        .await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let key = browser.get("/console/tenants/new").await.page().hidden("key");
    proxy.set(Network::Resets);
    let page = browser.get("/console/tenants").await;
    assert_eq!(page.status, 503, "{page:?}");
    assert!(page.header("retry-after").is_some());
    page.shows("Not available right now");
    page.shows("http-equiv=\"refresh\"");
    let form = [
        ("key", key.as_str()),
        ("name", "Acme <Corp>"),
        ("slug", "acme"),
        ("admin", "none"),
        ("password", "SecretPass123!"),
    ];
    let page = browser.post("/console/tenants/new", &form).await;
    assert_eq!(page.status, 503, "{page:?}");
    assert_eq!(page.hidden("name"), "Acme &#60;Corp&#62;");
    assert_eq!(page.hidden("key"), key);
    page.does_not_show("SecretPass123!");
    page.shows("Try again");
    proxy.set(Network::Works);
    let mut answer = browser.post("/console/tenants/new", &form).await;
    for _ in 0..50 {
        if answer.status != 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer = browser.post("/console/tenants/new", &form).await;
    }
    assert_eq!(answer.leads_to(), "/console/tenants/acme");
}
