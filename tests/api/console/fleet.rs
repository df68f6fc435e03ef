//! The pages of the fleet: migrations, vacancies, checks, the server.

use serde_json::{Value, json};

use super::browser::{Browser, send};
use crate::support::{Caller, TestApp};

const PAGES: [&str; 4] =
    ["/console/migrations", "/console/vacancies", "/console/health", "/console/server"];

/// Waits until a migration or an examination has ended, and returns its id.
pub async fn ended(root: &Caller, kind: &str) -> String {
    let path = format!("/control/v1/{kind}");
    let started = root.post(&path, &json!({})).await;
    assert_eq!(started.status, 202, "{started:?}");
    let id = started.body["id"].as_str().expect("an id").to_owned();
    for _ in 0..6000 {
        let state = root.get(&format!("{path}/{id}")).await.body["state"].clone();
        if !["planned", "running"].contains(&state.as_str().expect("a state")) {
            return id;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the {kind} do not end")
}

#[tokio::test]
async fn a_caller_without_view_fleet_gets_none_of_the_pages_and_no_link_to_them() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let admin = Browser::signed_in(&app, &acme.admin_email).await;
    let start = admin.get("/console").await.page();
    for path in PAGES {
        start.does_not_show(&format!("href=\"{path}\""));
        assert_eq!(admin.get(path).await.status, 403, "{path}");
        assert_eq!(Browser::new(&app).get(path).await.status, 303, "{path}");
    }
}

#[tokio::test]
async fn an_admin_of_the_platform_reads_the_fleet_and_changes_nothing() {
    let app = TestApp::spawn().await;
    app.add_user("ada@example.com", Some("ADMIN")).await;
    let ada = Browser::signed_in(&app, "ada@example.com").await;
    for path in PAGES {
        ada.get(path).await.page();
    }
    let migrations = ada.get("/console/migrations").await.page();
    migrations.does_not_show("Start the migration");
    migrations.shows("MIGRATE_FLEET");
    for path in [
        "/console/migrations",
        "/console/migrations/rehearse",
        "/console/health",
        "/console/vacancies/drop",
    ] {
        assert_eq!(ada.post(path, &[]).await.status, 403, "{path}");
    }
    let root = app.root();
    for kind in ["migrations", "examinations"] {
        let list = root.get(&format!("/control/v1/{kind}")).await.body;
        assert_eq!(list["data"], json!([]), "{kind}");
    }
}

#[tokio::test]
async fn a_migration_is_started_and_shown_as_the_api_has_it() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let started = browser.post("/console/migrations", &[]).await;
    let path = started.leads_to().to_owned();
    let id = path.rsplit('/').next().expect("a path has a last part").to_owned();
    let page = loop {
        let page = browser.get(&path).await.page();
        if page.text.contains("data-state=\"done\"") {
            break page;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    page.does_not_show("data-poll");
    for name in ["Pause", "Resume", "Cancel", "Retry"] {
        page.shows(&format!(">{name}</button>"));
    }
    let alternates = page.alternates();
    assert_eq!(
        alternates,
        [
            format!("/control/v1/migrations/{id}"),
            format!("/control/v1/migrations/{id}/tenants"),
            format!("/control/v1/migrations/{id}/tenants?order=-took&limit=5"),
        ]
    );
    let answer = app.root().get(&alternates[0]).await.body;
    let count = |field: &str| answer["tenants"][field].as_i64().expect("a count");
    page.shows(&format!("data-done=\"{}\" data-failed=\"{}\"", count("done"), count("failed")));
    let list = browser.get("/console/migrations").await.page();
    list.shows(&format!("data-id=\"{id}\""));
    assert_eq!(browser.post(&format!("{path}/pause"), &[]).await.status, 409);
    assert_eq!(browser.get("/console/migrations/nonsense").await.status, 404);
}

#[tokio::test]
async fn a_part_of_a_page_is_not_sent_again_while_it_is_the_same() {
    let app = TestApp::spawn().await;
    let id = ended(&app.root(), "migrations").await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    let path = format!("/console/migrations/{id}?fragment=live");
    let part = browser.get(&path).await.page();
    part.does_not_show("<html");
    part.shows("id=\"live\"");
    let tag = part.header("etag").expect("a part has a tag");
    let again = browser.request(reqwest::Method::GET, &path).header("if-none-match", tag);
    let again = send(again).await;
    assert_eq!((again.status, again.text.as_str()), (304, ""));
}

#[tokio::test]
async fn a_check_shows_what_the_api_has_and_a_repair_repairs_it() {
    let app = TestApp::spawn().await;
    let acme = app.set_up("acme").await;
    let schema = format!("tenant_{}", acme.id.simple());
    let sql = app.sql().await;
    sql.batch_execute(&format!("REVOKE SELECT ON {schema}.profiles FROM {schema}")).await.unwrap();
    let root = app.root();
    let browser = Browser::with_token(&app, &app.root_token).await;
    let id = ended(&root, "examinations").await;
    let page = browser.get(&format!("/console/health/{id}")).await.page();
    let alternates = page.alternates();
    let findings = root.get(&alternates[1]).await.body["data"].clone();
    let wrong = findings.as_array().unwrap().iter().filter(|one| one["gravity"] == "wrong");
    let wrong: Vec<&Value> = wrong.collect();
    assert!(wrong.iter().any(|one| one["slug"] == "acme"), "{wrong:?}");
    page.shows("href=\"/console/tenants/acme/schema\"");
    let of_acme = browser.get("/console/tenants/acme/schema").await.page();
    of_acme.shows(&format!("href=\"/console/health/{id}\">Last check</a>"));
    let of_tenant = root.get(&of_acme.alternates()[1]).await.body["data"].clone();
    let of_tenant = of_tenant.as_array().unwrap();
    assert!(
        !of_tenant.is_empty() && of_tenant.iter().all(|one| one["slug"] == "acme"),
        "{of_tenant:?}"
    );
    assert_eq!(of_acme.text.matches("class=\"finding\"").count(), of_tenant.len());
    page.shows(">Repair</button>");
    let repair = browser.post("/console/health", &[("repair", "on")]).await;
    let path = repair.leads_to().to_owned();
    let repaired = loop {
        let page = browser.get(&path).await.page();
        if page.text.contains("data-state=\"done\"") {
            break page;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    repaired.shows("data-status=\"repaired\"");
    let select = format!("SELECT has_table_privilege('{schema}', '{schema}.profiles', 'SELECT')");
    assert!(sql.query_one(&select, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn a_bad_form_of_the_fleet_names_each_field_and_keeps_what_was_typed() {
    let app = TestApp::spawn().await;
    let browser = Browser::with_token(&app, &app.root_token).await;
    for (path, fields, field, kept) in [
        (
            "/console/migrations",
            &[("which", "these"), ("tenants", "acme, nowhere")][..],
            "tenants",
            "acme, nowhere",
        ),
        ("/console/migrations", &[("which", "these")][..], "tenants", ""),
        (
            "/console/migrations",
            &[("canary", "count"), ("canary_count", "none")][..],
            "canary_count",
            "none",
        ),
        ("/console/migrations", &[("workers", "0")][..], "workers", "0"),
        (
            "/console/migrations/rehearse",
            &[("on", "tenant"), ("tenant", "nowhere")][..],
            "tenant",
            "nowhere",
        ),
        ("/console/health", &[("tenants", "nowhere")][..], "tenants", "nowhere"),
        ("/console/health", &[("orphan", "public")][..], "orphan", "public"),
    ] {
        let answer = browser.post(path, fields).await;
        assert!([400, 404].contains(&answer.status), "{path} {fields:?}: {answer:?}");
        answer.shows("id=\"errors\"");
        answer.shows(&format!("href=\"#{field}\""));
        answer.shows(kept);
    }
    for kind in ["migrations", "examinations"] {
        let list = app.root().get(&format!("/control/v1/{kind}")).await.body;
        assert_eq!(list["data"], json!([]), "{kind}");
    }
}
