//! Sign-in, the frame of every page, the overview and the list of tenants.

use reqwest::Method;

use super::browser::{Browser, send};
use crate::support::{PASSWORD, TestApp};

#[tokio::test]
async fn a_browser_is_led_from_the_address_of_the_server_to_the_sign_in_and_from_there_to_the_page_it_wanted()
 {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let browser = Browser::new(&app);
    let root = browser.request(Method::GET, "/").header("accept", "text/html,*/*;q=0.8");
    assert_eq!(send(root).await.leads_to(), "/console");
    assert_eq!(app.anonymous().get("/").await.status, 404);
    let answer = browser.get("/console/tenants?q=acme").await;
    let login = answer.leads_to().to_owned();
    assert_eq!(login, "/console/login?next=%2Fconsole%2Ftenants%3Fq%3Dacme");
    let page = browser.get(&login).await.page();
    let next = page.hidden("next");
    assert_eq!(next, "/console/tenants?q=acme");
    let wrong =
        [("email", "admin@acme.example.com"), ("password", "WrongPass123!"), ("next", &next)];
    let refused = browser.post("/console/login", &wrong).await;
    assert_eq!(refused.status, 401);
    refused.shows("The e-mail address or the password is wrong");
    refused.shows("value=\"admin@acme.example.com\"");
    refused.does_not_show("WrongPass123!");
    let right = [("email", "admin@acme.example.com"), ("password", PASSWORD), ("next", &next)];
    let answer = browser.post("/console/login", &right).await;
    assert_eq!(answer.leads_to(), next);
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("rowhouse_console=rhc_"), "{cookie}");
    for part in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{part} in {cookie}");
    }
    assert!(!cookie.contains("Secure"), "{cookie}");
    browser.get(&next).await.page().shows("admin@acme.example.com");
}

#[tokio::test]
async fn an_operator_sees_the_state_of_everything_and_the_tenants_newest_first() {
    let app = TestApp::spawn().await;
    app.set_up("older").await;
    app.set_up("newer").await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let page = browser.get("/console").await.page();
    page.shows("You act as root");
    page.shows("tenant.create");
    page.shows("aria-current=\"page\">Overview</a>");
    for area in ["Tenants", "Tokens", "Audit", "Migrations", "Vacancies", "Health", "Server"] {
        page.shows(&format!(">{area}</a>"));
    }
    let part = browser.get("/console?fragment=live").await.page();
    assert!(
        part.text.trim_start().starts_with("<div id=\"live\" data-poll=\"5s\">"),
        "{}",
        part.text
    );
    let tag = part.header("etag").unwrap();
    let again = browser.request(Method::GET, "/console?fragment=live");
    assert_eq!(send(again.header("if-none-match", tag)).await.status, 304);
    let list = browser.get("/console/tenants").await.page();
    let (newer, older) = (list.text.find("/tenants/newer\""), list.text.find("/tenants/older\""));
    assert!(newer.unwrap() < older.unwrap());
    list.shows("The same by API");
    list.shows("curl -H");
    let none = browser.get("/console/tenants?q=nothing").await.page();
    none.shows("No tenant matches");
    assert_eq!(browser.get("/console/tenants?status=odd").await.status, 400);
    assert_eq!(browser.get("/console/nowhere").await.status, 404);
    let out = browser.post("/console/logout", &[]).await;
    assert_eq!(out.leads_to(), "/console/login");
    assert_eq!(browser.get("/console").await.leads_to(), "/console/login?next=%2Fconsole");
}
