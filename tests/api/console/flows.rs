//! What an operator does with tenants, and that every form says what is wrong and does nothing twice.

use serde_json::json;

use super::browser::Browser;
use crate::support::TestApp;

async fn status(app: &TestApp, tenant: &str) -> String {
    let answer = app.root().get(&format!("/control/v1/tenants/{tenant}")).await;
    answer.body["status"].as_str().unwrap_or("gone").to_owned()
}

#[tokio::test]
async fn a_bad_form_names_each_bad_field_beside_it_and_keeps_what_was_typed_but_the_password() {
    let app = TestApp::spawn().await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let key = browser.get("/console/tenants/new").await.page().hidden("key");
    let form = [
        ("key", key.as_str()),
        ("name", ""),
        ("slug", "Not A Slug"),
        ("settings", "[1]"),
        ("admin", "new"),
        ("admin_email", "no address"),
        ("first_name", "Zoë"),
        ("last_name", "Müller"),
        ("password", "short"),
    ];
    let page = browser.post("/console/tenants/new", &form).await;
    assert_eq!(page.status, 400, "{page:?}");
    for field in ["name", "slug", "settings", "admin_email", "password"] {
        page.shows(&format!("id=\"{field}-error\""));
        page.shows(&format!("aria-describedby=\"{field}-error"));
        page.shows(&format!("<a href=\"#{field}\">"));
    }
    for typed in ["Not A Slug", "no address", "Zoë", "Müller", "[1]"] {
        page.shows(typed);
    }
    page.does_not_show("short\"");
    assert_eq!(page.hidden("key"), key);
    app.set_up("acme").await;
    let taken = [("key", key.as_str()), ("name", "Acme"), ("slug", "acme"), ("admin", "none")];
    let page = browser.post("/console/tenants/new", &taken).await;
    assert_eq!(page.status, 409, "{page:?}");
    page.shows("is taken by another tenant");
    page.shows("value=\"Acme\"");
}

#[tokio::test]
async fn a_form_that_is_sent_twice_makes_one_tenant() {
    let app = TestApp::spawn().await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let key = browser.get("/console/tenants/new").await.page().hidden("key");
    let form = [
        ("key", key.as_str()),
        ("name", "Acme Corp"),
        ("slug", "acme"),
        ("external_id", "crm-7"),
        ("settings", "{\"plan\": \"gold\"}"),
        ("admin", "new"),
        ("admin_email", "ada@acme.example.com"),
        ("first_name", "Ada"),
        ("last_name", "Admin"),
        ("password", crate::support::PASSWORD),
    ];
    let (one, two) = tokio::join!(
        browser.post("/console/tenants/new", &form),
        browser.post("/console/tenants/new", &form)
    );
    // The second waits for the first, or is told that it is still running.
    for answer in [&one, &two] {
        assert!([303, 409].contains(&answer.status), "{answer:?}");
    }
    let page = browser.submit("/console/tenants/new", &form).await.page();
    page.shows("data-status=\"active\"");
    page.shows("The tenant is created.");
    page.shows("crm-7");
    let list = app.root().get("/control/v1/tenants").await;
    assert_eq!(list.body["data"].as_array().unwrap().len(), 1, "{list:?}");
    // What was done is said once.
    browser.get("/console/tenants/acme").await.page().does_not_show("The tenant is created.");
    Browser::signed_in(&app, "ada@acme.example.com").await;
}

#[tokio::test]
async fn a_tenant_goes_through_its_life_and_a_wrong_slug_or_an_old_revision_stops_a_step() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let step = async |verb: &str, slug: &str| {
        let path = format!("/console/tenants/acme/{verb}");
        let revision = browser.get(&path).await.page().hidden("revision");
        browser.post(&path, &[("revision", revision.as_str()), ("slug", slug)]).await
    };
    let page = browser.get("/console/tenants/acme").await.page();
    page.shows("It is active");
    page.shows("Delete it first");
    assert_eq!(step("suspend", "").await.leads_to(), "/console/tenants/acme");
    assert_eq!(status(&app, "acme").await, "suspended");
    browser.get("/console/tenants/acme/suspend").await.page().shows("It is suspended already");
    step("resume", "").await.leads_to();
    assert_eq!(status(&app, "acme").await, "active");
    let wrong = step("delete", "acne").await;
    assert_eq!(wrong.status, 400);
    wrong.shows("is not the slug of this tenant, and nothing was done");
    assert_eq!(status(&app, "acme").await, "active");
    step("delete", "acme").await.leads_to();
    assert_eq!(status(&app, "acme").await, "deleting");
    step("restore", "").await.leads_to();
    let old = browser.get("/console/tenants/acme/delete").await.page().hidden("revision");
    let rename = json!({ "name": "Renamed" });
    let patched = app.root().request(reqwest::Method::PATCH, "/control/v1/tenants/acme");
    let patched = patched.header("if-match", "*").json(&rename);
    assert_eq!(crate::support::callers::send(patched).await.status, 200);
    let form = [("revision", old.as_str()), ("slug", "acme")];
    let stale = browser.post("/console/tenants/acme/delete", &form).await;
    assert_eq!(stale.status, 412);
    stale.shows("The tenant has changed meanwhile");
    stale.shows("Renamed");
    assert_eq!(status(&app, "acme").await, "active");
    step("delete", "acme").await.leads_to();
    assert_eq!(step("purge", "acme").await.leads_to(), "/console/tenants");
    assert_eq!(browser.get("/console/tenants/acme").await.status, 404);
}

#[tokio::test]
async fn the_second_of_two_people_sees_what_the_first_wrote_beside_what_they_typed() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let revision = browser.get("/console/tenants/acme").await.page().hidden("revision");
    let form = |name: &'static str| [("revision", revision.clone()), ("name", name.to_owned())];
    let send = async |name: &'static str| {
        let [(_, revision), (_, name)] = form(name);
        let fields = [("revision", revision.as_str()), ("name", name.as_str()), ("slug", "acme")];
        browser.post("/console/tenants/acme", &fields).await
    };
    send("First").await.leads_to();
    let second = send("Second").await;
    assert_eq!(second.status, 412);
    second.shows("class=\"before\"><bdi>First</bdi>");
    second.shows("class=\"after\"><bdi>Second</bdi>");
    second.shows("value=\"Second\"");
    let revision = second.hidden("revision");
    let again = [("revision", revision.as_str()), ("name", "Second"), ("slug", "acme-corp")];
    let page = browser.submit("/console/tenants/acme", &again).await.page();
    page.shows("<bdi>Second</bdi>");
    page.shows("/console/tenants/acme-corp");
}

#[tokio::test]
async fn a_change_of_settings_is_shown_as_a_merge_patch_before_it_is_made() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let path = "/console/tenants/acme/settings";
    let change = async |settings: &str, confirm: &str| {
        let revision = browser.get(path).await.page().hidden("revision");
        let fields =
            [("revision", revision.as_str()), ("settings", settings), ("confirm", confirm)];
        browser.post(path, &fields).await
    };
    change("{\"plan\": \"gold\", \"seats\": 5}", "1").await.leads_to();
    let shown = change("{\"seats\": 7}", "").await.page();
    shown.shows("&#34;plan&#34;: null");
    shown.shows("&#34;seats&#34;: 7");
    let settings =
        async || app.root().get("/control/v1/tenants/acme").await.body["settings"].clone();
    assert_eq!(settings().await, json!({ "plan": "gold", "seats": 5 }));
    change("{\"seats\": 7}", "1").await.leads_to();
    assert_eq!(settings().await, json!({ "seats": 7 }));
    let old = [("revision", "1"), ("settings", "{\"plan\": \"silver\"}")];
    let stale = browser.post(path, &old).await;
    assert_eq!(stale.status, 412, "{stale:?}");
    stale.shows("has changed meanwhile");
    stale.shows("&#34;seats&#34;: 7");
    stale.shows("silver");
    for bad in ["{", "[]", "{\"a\": null}"] {
        let page = change(bad, "").await;
        assert_eq!(page.status, 400, "{bad}");
        page.shows("id=\"settings-error\"");
    }
}

#[tokio::test]
async fn a_new_token_is_shown_once_and_a_revoked_one_is_refused() {
    let app = TestApp::spawn().await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let form = browser.get("/console/tokens/new").await.page().hidden("form");
    let bad = browser.post("/console/tokens/new", &[("form", &form), ("name", "ci")]).await;
    assert_eq!(bad.status, 400);
    bad.shows("id=\"permissions-error\"");
    let fields = [("form", form.as_str()), ("name", "ci"), ("permissions", "VIEW_TENANTS")];
    let page = browser.submit("/console/tokens/new", &fields).await.page();
    let token = page.between("id=\"secret\" class=\"secret\" value=\"", "\"").to_owned();
    assert!(token.starts_with("rh_"), "{token}");
    browser.get("/console/tokens").await.page().does_not_show(&token);
    assert_eq!(app.bearer(&token).get("/control/v1/tenants").await.status, 200);
    let again = browser.submit("/console/tokens/new", &fields).await.page();
    again.shows("This form was sent before");
    let list = app.root().get("/control/v1/tokens").await;
    let rows = list.body["data"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{list:?}");
    let path = format!("/console/tokens/{}/revoke", rows[0]["id"].as_str().unwrap());
    browser.get(&path).await.page();
    browser.submit(&path, &[]).await.page().shows("data-status=\"revoked\"");
    assert_eq!(app.bearer(&token).get("/control/v1/tenants").await.status, 401);
}

#[tokio::test]
async fn a_list_shows_which_tenants_are_behind_and_a_purge_shows_what_is_left() {
    let app = TestApp::builder().with("tenants.purge_interval", "1h").spawn().await;
    let acme = app.set_up("acme").await;
    app.set_up("other").await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    browser.get("/console/tenants").await.page().does_not_show("behind");
    let sql = app.sql().await;
    let older = "UPDATE tenants SET migrations_version = 1, migrations_fingerprint = 'older' WHERE slug = 'acme'";
    sql.execute(older, &[]).await.unwrap();
    // The overview counts as the API does.
    let counts = app.root().get("/control/v1/summary").await.body;
    let overview = browser.get("/console").await.page();
    overview.shows(&format!("<dt>All</dt><dd>{}</dd>", counts["tenants"]["total"]));
    overview.shows(&format!("data-status=\"warning\">{}</span>", counts["tenants"]["behind"]));
    overview.shows(&format!(
        "{} of {} ready",
        counts["vacancies"]["ready"], counts["vacancies"]["wanted"]
    ));
    let list = browser.get("/console/tenants").await.page();
    assert_eq!(list.text.matches("data-status=\"warning\">behind").count(), 1, "{}", list.text);
    let answer = app.root().get("/control/v1/tenants/acme").await.body;
    assert_eq!(
        (&answer["migrations_version"], &answer["migrations_fingerprint"]),
        (&json!(1), &json!("older"))
    );
    // As a purge that was interrupted leaves it.
    let begun =
        "UPDATE tenants SET status = 'deleting', restore_to = 'active', purge_after = now(),
                        purge_started_at = now() WHERE slug = 'acme'";
    sql.execute(begun, &[]).await.unwrap();
    let part = "/console/tenants/acme?fragment=purge";
    let left = |page: &super::browser::Shown| page.between("data-left=\"", "\"").to_owned();
    let page = browser.get("/console/tenants/acme").await.page();
    page.shows("Its purge has begun");
    let schema = app.root().get(&page.alternates()[1]).await.body;
    assert_eq!(left(&page), schema["tables"].to_string());
    let table = format!("DROP TABLE tenant_{}.profiles CASCADE", acme.id.simple());
    sql.batch_execute(&table).await.unwrap();
    let fewer = browser.get(part).await.page();
    assert_ne!(left(&fewer), left(&page));
    fewer.shows("data-poll");
    let answer = app.root().get("/control/v1/tenants/acme").await.body;
    assert!(answer["purge_started_at"].is_string(), "{answer}");
    let asked = browser.get("/console/tenants/acme/purge").await.page();
    let form = [("revision", asked.hidden("revision")), ("slug", "acme".to_owned())];
    let form = form.each_ref().map(|(name, value)| (*name, value.as_str()));
    browser.post("/console/tenants/acme/purge", &form).await.leads_to();
    let gone = browser.get(part).await.page();
    gone.shows("The tenant is purged.");
    gone.does_not_show("data-poll");
}

#[tokio::test]
async fn audit_events_are_filtered_by_the_address_and_a_changed_one_is_found() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    app.set_up("other").await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let path = "/console/audit?tenant=acme&action=tenant.create";
    let page = browser.get(path).await.page();
    assert_eq!(page.text.matches("<tr data-id=").count(), 1, "{}", page.text);
    page.shows("<code>acme</code></a>");
    let id = page.between("<tr data-id=\"", "\"").to_owned();
    browser.get(&format!("/console/audit/{id}")).await.page().shows("tenant.create");
    let csv = browser.get("/console/audit/export?tenant=acme&action=tenant.create").await;
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(csv.text.lines().count(), 2, "{}", csv.text);
    let intact = browser.post("/console/audit/verify", &[]).await.page();
    intact.shows("data-status=\"ok\"");
    let sql = app.sql().await;
    let change = "UPDATE audit_events SET actor = 'user:another' WHERE id = $1 RETURNING position";
    let row = sql.query_one(change, &[&id.parse::<uuid::Uuid>().unwrap()]).await.unwrap();
    let position: i64 = row.get(0);
    let broken = browser.post("/console/audit/verify", &[]).await.page();
    broken.shows("data-status=\"wrong\"");
    broken.shows(&format!("The event at position {position} of"));
}
