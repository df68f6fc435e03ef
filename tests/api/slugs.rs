//! A slug that a rename or a purge frees: for how long it rests, for whom, and also when several requests want it at
//! once.

use reqwest::Method;
use rowhouse::domain::error::{Conflict, Error};
use serde_json::json;

use crate::support::control::{assert_problem, send_if_match, transition};
use crate::support::{Answer, Caller, Program, TestApp, provision_command};

async fn rename(root: &Caller, tenant: &str, slug: &str) -> Answer {
    let path = format!("/control/v1/tenants/{tenant}");
    send_if_match(root, Method::PATCH, &path, "*", Some(&json!({ "slug": slug }))).await
}

/// Fails unless another tenant is refused the slug in every dialect.
async fn assert_rests(app: &TestApp, slug: &str) {
    let root = app.root();
    let setup = root.post("/api/tenant/setup", &TestApp::setup_body(slug)).await;
    assert_eq!(setup.refusal(409), "Slug was in use until lately");
    assert_problem(&rename(&root, "other", slug).await, 409, "slug_resting");
    let bunker = app.bunker_root();
    let made = bunker.call("TenantCreate", json!({ "tenantname": slug, "tenantorg": "x" })).await;
    assert_eq!(made.error(409), "Duplicate tenant name");
    let subdomain = root.post("/api/tenants", &json!({ "subdomain": slug })).await;
    assert_eq!(subdomain.status, 422, "{subdomain:?}");
    let taken = json!({ "subdomain": ["The subdomain has already been taken."] });
    assert_eq!(subdomain.body["errors"], taken);
    let program = Program::on(&app.database);
    let renamed = program.run(&["tenant", "rename", "other", "--slug", slug]).expect(5);
    assert!(renamed.stderr.contains("cannot be taken yet"), "{renamed:?}");
    let left = "SELECT count(*) FROM tenants WHERE slug = $1";
    let row = app.sql().await.query_one(left, &[&slug]).await.expect("tenants can be counted");
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_slug_freed_by_a_rename_rests_for_the_grace_period() {
    let app = TestApp::builder().with("tenants.purge_interval", "1h").spawn().await;
    app.set_up("acme").await;
    app.set_up("other").await;
    assert_eq!(rename(&app.root(), "acme", "acmeltd").await.status, 200);
    assert_rests(&app, "acme").await;
    app.clock.advance(time::Duration::days(7) - time::Duration::minutes(1));
    let early = app.root().post("/api/tenant/setup", &TestApp::setup_body("acme")).await;
    early.refusal(409);
    app.clock.advance(time::Duration::minutes(2));
    app.set_up("acme").await;
    // From now on it is in use, and not resting.
    let taken = app.root().post("/api/tenant/setup", &TestApp::setup_body("acme")).await;
    assert_eq!(taken.refusal(409), "Slug already exists");
}

#[tokio::test]
async fn the_tenant_that_had_a_slug_may_take_it_back() {
    let app = TestApp::spawn().await;
    let acme = app.bunker_tenant("acme").await;
    app.set_up("other").await;
    for name in ["acmeltd", "acme", "acmeltd", "acme"] {
        acme.admin.call("TenantUpdate", json!({ "tenantname": name })).await.ok();
    }
    // The name that it does not have now rests.
    assert_rests(&app, "acmeltd").await;
}

#[tokio::test]
async fn a_slug_freed_by_a_purge_rests_as_long_as_the_settings_say() {
    let app = TestApp::builder()
        .with("slugs.quarantine", "2h")
        .with("tenants.purge_interval", "20ms")
        .spawn()
        .await;
    app.set_up("acme").await;
    app.set_up("other").await;
    let root = app.root();
    assert_eq!(transition(&root, "acme", "delete").await.status, 200);
    // It is not free yet: the tenant can be restored.
    let deleted = root.post("/api/tenant/setup", &TestApp::setup_body("acme")).await;
    assert_eq!(deleted.refusal(409), "Slug already exists");
    assert_eq!(transition(&root, "acme", "purge").await.status, 204);
    let sql = app.sql().await;
    let kept = "SELECT count(*) FROM slugs WHERE slug = 'acme'";
    assert_eq!(sql.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 1);
    let again = root.post("/api/tenant/setup", &TestApp::setup_body("acme")).await;
    assert_eq!(again.refusal(409), "Slug was in use until lately");
    app.clock.advance(time::Duration::minutes(121));
    // A job forgets what has rested.
    for _ in 0..200 {
        if sql.query_one(kept, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(sql.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 0);
    app.set_up("acme").await;
}

#[tokio::test]
async fn a_quarantine_of_zero_frees_a_slug_at_once() {
    let app = TestApp::builder().with("slugs.quarantine", "0").spawn().await;
    let doomed = app.bunker_tenant("acme").await;
    let root = app.bunker_root();
    root.call("TenantDelete", json!({ "tenantid": doomed.number })).await.ok();
    let acme = app.bunker_tenant("acme").await;
    acme.admin.call("TenantUpdate", json!({ "tenantname": "moved" })).await.ok();
    app.bunker_tenant("acme").await;
}

#[tokio::test]
async fn words_of_the_settings_are_reserved() {
    let app = TestApp::builder().with("slugs.reserved", "billing, status-page").spawn().await;
    app.set_up("acme").await;
    for word in ["billing", "status-page"] {
        let made = app.root().post("/api/tenant/setup", &TestApp::setup_body(word)).await;
        assert_eq!(made.bad_rules(), [("slug", "reserved")], "{made:?}");
        let renamed = rename(&app.root(), "acme", word).await;
        assert_problem(&renamed, 400, "invalid");
    }
    app.set_up("billings").await;
}

/// A set-up that waits while a rename frees its slug must not get it: it began before the slug was freed.
#[tokio::test]
async fn a_set_up_at_the_moment_of_a_rename_does_not_get_the_old_slug() {
    let app = TestApp::spawn().await;
    let mut names = ("acme".to_owned(), "acmeltd".to_owned());
    app.set_up(&names.0).await;
    for round in 0..15 {
        let (root, services) = (app.root(), app.services.clone());
        let ctx = app.operator();
        let takers = (0..6).map(|_| {
            let (services, ctx, slug) = (services.clone(), ctx.clone(), names.0.clone());
            tokio::spawn(async move {
                for _ in 0..8 {
                    let command = provision_command(&slug);
                    match services.provisioning.provision(&ctx, command).await {
                        Err(Error::Conflict(Conflict::SlugTaken | Conflict::SlugResting)) => {}
                        Err(error) if error.is_lost_race() => {}
                        other => return Err(format!("{other:?}")),
                    }
                }
                Ok(())
            })
        });
        let takers: Vec<_> = takers.collect();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        let renamed = rename(&root, &names.0, &names.1).await;
        assert_eq!(renamed.status, 200, "round {round}: {renamed:?}");
        for taker in takers {
            taker.await.expect("no task panics").unwrap_or_else(|got| panic!("{round}: {got}"));
        }
        names = (names.1, names.0);
    }
    let row = app.sql().await.query_one("SELECT count(*) FROM tenants", &[]).await;
    assert_eq!(row.expect("tenants can be counted").get::<_, i64>(0), 1);
}

/// A program of the version before does not write `slugs`. What it did must not block a slug for ever.
#[tokio::test]
async fn a_slug_whose_tenant_was_renamed_behind_the_tables_back_can_be_taken() {
    let app = TestApp::spawn().await;
    app.set_up("acme").await;
    let sql = app.sql().await;
    sql.execute("UPDATE tenants SET slug = 'renamed'", &[]).await.expect("a row can be changed");
    app.set_up("acme").await;
    sql.execute("DELETE FROM slugs", &[]).await.expect("rows can be deleted");
    let taken = app.root().post("/api/tenant/setup", &TestApp::setup_body("acme")).await;
    assert_eq!(taken.refusal(409), "Slug already exists");
    assert_eq!(rename(&app.root(), "acme", "acmeltd").await.status, 200);
    let rests = app.root().post("/api/tenant/setup", &TestApp::setup_body("acme")).await;
    assert_eq!(rests.refusal(409), "Slug was in use until lately");
}
