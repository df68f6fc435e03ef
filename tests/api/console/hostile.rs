//! Names, settings, errors and details full of markup come out as text.

use serde_json::json;

use super::browser::Browser;
use crate::support::TestApp;

const MARKUP: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> \u{202e}evil";

#[tokio::test]
async fn markup_in_names_settings_and_details_is_shown_as_text() {
    let app = TestApp::spawn().await;
    let body = json!({
        "name": MARKUP,
        "slug": "acme",
        "external_id": MARKUP,
        "settings": { MARKUP: MARKUP },
    });
    let made = app.root().post("/control/v1/tenants", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let person = json!({
        "email": "mark@example.com",
        "role": "ADMIN",
        "password": crate::support::PASSWORD,
        "first_name": MARKUP,
        "last_name": MARKUP,
    });
    let added = app.root().post("/control/v1/tenants/acme/members", &person).await;
    assert_eq!(added.status, 201, "{added:?}");
    let token = json!({ "name": MARKUP, "permissions": ["VIEW_TENANTS"] });
    assert_eq!(app.root().post("/control/v1/tokens", &token).await.status, 201);
    let browser = Browser::with_token(&app, &app.root_token).await;
    let renamed = [("revision", "1"), ("slug", MARKUP), ("name", MARKUP)];
    let query: String = url::form_urlencoded::byte_serialize(MARKUP.as_bytes()).collect();
    let mut pages = vec![browser.post("/console/tenants/acme", &renamed).await];
    for path in [
        "/console".to_owned(),
        "/console/tenants".to_owned(),
        format!("/console/tenants?q={query}"),
        format!("/console/tenants?status={query}"),
        "/console/tenants/acme".to_owned(),
        "/console/tenants/acme/settings".to_owned(),
        "/console/tenants/acme/delete".to_owned(),
        "/console/tenants/acme/members".to_owned(),
        "/console/tenants/acme/schema".to_owned(),
        "/console/tokens".to_owned(),
        "/console/audit".to_owned(),
        format!("/console/audit?actor={query}&action={query}&request_id={query}"),
        format!("/console/login?next={query}"),
        format!("/console/{query}"),
    ] {
        pages.push(browser.get(&path).await);
    }
    let mut with_text = 0;
    for page in &pages {
        assert!(page.status < 500, "{page:?}");
        for hostile in ["<script>alert", "<img src=x", "\"'>"] {
            page.does_not_show(hostile);
        }
        with_text += usize::from(page.text.contains("&#60;script&#62;alert(1)"));
    }
    assert!(with_text >= 8, "the text itself is on {with_text} of {} pages", pages.len());
}
