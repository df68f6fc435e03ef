//! Databunker's tenants: `TenantCreate`, `TenantGet`, `TenantUpdate`, `TenantListTenants`, `TenantDelete`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::bunker::{redacted, schemas};
use crate::support::control::{assert_problem, events, send_if_match, transition};
use crate::support::{Bunker, TestApp};

/// The content type that curl sends by default.
const CURL_CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn the_documented_curl_creates_a_tenant() {
    let app = TestApp::spawn().await;
    let body = r#"{"tenantorg":"testorg","tenantname":"testname"}"#;
    let answer = app.bunker_root().send("/v2/TenantCreate", CURL_CONTENT_TYPE, body).await;
    assert_eq!(redacted(answer.ok()), json!({ "status": "ok", "xtoken": "<uuid>", "tenantid": 2 }));
    let sql = app.sql().await;
    let row = sql
        .query_one(
            "SELECT t.id, t.slug, t.name, t.org, t.status, t.migrations_version, count(k.id)
               FROM tenants t
               JOIN tokens k ON k.tenant_id = t.id
              GROUP BY t.id",
            &[],
        )
        .await
        .unwrap();
    let text = |at: usize| row.get::<_, String>(at);
    assert_eq!(
        (text(1), text(2), text(3), text(4)),
        ("testname".to_owned(), "testname".to_owned(), "testorg".to_owned(), "active".to_owned())
    );
    assert_eq!((row.get::<_, i32>(5), row.get::<_, i64>(6)), (5, 1));
    let schema = format!("tenant_{}", row.get::<_, uuid::Uuid>(0).simple());
    assert_eq!(schemas(&sql).await, [schema.as_str()]);
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname = $1";
    assert_eq!(sql.query_one(roles, &[&schema]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn the_token_is_shown_once_and_stored_as_a_digest() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let everything = "SELECT string_agg(t::text, ' ') FROM tokens t";
    let stored: String = app.sql().await.query_one(everything, &[]).await.unwrap().get(0);
    assert!(!stored.contains(&tenant.xtoken), "{stored}");
    let hex = "SELECT sha256(convert_to($1, 'UTF8')) = digest FROM tokens";
    let row = app.sql().await.query_one(hex, &[&tenant.xtoken]).await.unwrap();
    assert!(row.get::<_, bool>(0));
}

#[tokio::test]
async fn a_refused_create_leaves_nothing_behind() {
    let app = TestApp::spawn().await;
    let root = app.bunker_root();
    let long = "a".repeat(64);
    for (name, message) in [
        (json!("my-tenant"), "The tenantname parameter has an incorrect format"),
        (json!("Acme"), "The tenantname parameter has an incorrect format"),
        (json!("my tenant"), "The tenantname parameter has an incorrect format"),
        (json!("acme\n"), "The tenantname parameter has an incorrect format"),
        (json!("acme_1"), "The tenantname parameter has an incorrect format"),
        (json!("аcme"), "The tenantname parameter has an incorrect format"), // Cyrillic
        (json!("a'; DROP SCHEMA public"), "The tenantname parameter has an incorrect format"),
        (json!("a\0"), "The tenantname parameter has an incorrect format"),
        (json!(5), "The tenantname parameter has an incorrect format"),
        (json!(["a"]), "The tenantname parameter has an incorrect format"),
        (json!(""), "Missing API request parameters: tenantname"),
        (json!(null), "Missing API request parameters: tenantname"),
        (json!(long), "The tenantname parameter is longer than 63 characters"),
        (json!("main"), "The tenantname parameter is a reserved word"),
    ] {
        let body = json!({ "tenantname": name, "tenantorg": "testorg" });
        assert_eq!(root.call("TenantCreate", body).await.error(400), message, "{name}");
    }
    for (body, message) in [
        (json!({}), "Missing API request parameters: tenantname, tenantorg"),
        (json!({ "tenantname": "acme" }), "Missing API request parameters: tenantorg"),
        // The parameter names that the vendor's table lists by mistake.
        (
            json!({ "name": "acme", "org": "x" }),
            "Missing API request parameters: tenantname, tenantorg",
        ),
        (
            json!({ "tenantname": "acme", "tenantorg": "x", "email": "nowhere" }),
            "The email parameter has an incorrect format",
        ),
        (
            json!({ "tenantname": "acme", "tenantorg": "x".repeat(256) }),
            "The tenantorg parameter is longer than 255 characters",
        ),
        (
            json!({ "tenantname": "acme", "tenantorg": "a\0b" }),
            "The tenantorg parameter holds characters that cannot be stored",
        ),
    ] {
        assert_eq!(root.call("TenantCreate", body).await.error(400), message);
    }
    let sql = app.sql().await;
    let rows = "SELECT (SELECT count(*) FROM tenants) + (SELECT count(*) FROM tokens)";
    assert_eq!(sql.query_one(rows, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert!(schemas(&sql).await.is_empty());
}

#[tokio::test]
async fn concurrent_creates_of_one_name_leave_exactly_one_tenant() {
    let app = TestApp::spawn().await;
    let root = app.bunker_root();
    let create = || root.call("TenantCreate", json!({ "tenantname": "acme", "tenantorg": "x" }));
    let answers = futures_util::future::join_all([create(), create(), create()]).await;
    let created = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(created, 1, "{answers:?}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(answer.error(409), "Duplicate tenant name");
    }
    assert_eq!(schemas(&app.sql().await).await.len(), 1);
}

#[tokio::test]
async fn a_tenants_token_reads_and_updates_its_own_tenant_only() {
    let app = TestApp::spawn().await;
    let (a, b) = (app.bunker_tenant("acme").await, app.bunker_tenant("beta").await);
    let main_only = "Only the main tenant admin can do this";
    for (call, body) in [
        ("TenantCreate", json!({ "tenantname": "gamma", "tenantorg": "x" })),
        ("TenantDelete", json!({ "tenantid": a.number })),
        ("TenantDelete", json!({ "tenantid": b.number })),
        ("TenantListTenants", json!({})),
    ] {
        assert_eq!(a.admin.call(call, body).await.error(403), main_only, "{call}");
    }
    for call in ["TenantGet", "TenantUpdate"] {
        let body = json!({ "tenantid": b.number, "tenantname": "stolen", "tenantorg": "x" });
        assert_eq!(a.admin.call(call, body).await.error(403), "Access denied", "{call}");
        // The answer is the same for a tenant that does not exist.
        let body = json!({ "tenantid": 999, "tenantname": "stolen", "tenantorg": "x" });
        assert_eq!(a.admin.call(call, body).await.error(403), "Access denied", "{call}");
    }
    let names = "SELECT string_agg(slug, ' ' ORDER BY number) FROM tenants";
    let row = app.sql().await.query_one(names, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "acme beta");
}

#[tokio::test]
async fn a_tenant_is_read_by_its_number_as_a_number_or_as_text() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let expected = json!({ "status": "ok", "tenantname": "acme", "tenantorg": "testorg" });
    for id in [json!(tenant.number), json!(tenant.number.to_string())] {
        let answer = app.bunker_root().call("TenantGet", json!({ "tenantid": id })).await;
        assert_eq!(answer.ok(), &expected);
    }
    assert_eq!(tenant.admin.call("TenantGet", json!({})).await.ok(), &expected);
    let root = app.bunker_root();
    let read = |id: Value| root.call("TenantGet", json!({ "tenantid": id }));
    assert_eq!(read(json!(999)).await.error(404), "The tenant was not found");
    assert_eq!(read(json!(-1)).await.error(404), "The tenant was not found");
    for bad in [json!("acme"), json!(1.5), json!([]), json!("99999999999999999999"), json!(true)] {
        assert_eq!(read(bad).await.error(400), "The tenantid parameter has an incorrect format");
    }
    let missing = "Missing API request parameters: tenantid";
    assert_eq!(root.call("TenantGet", json!({})).await.error(400), missing);
}

#[tokio::test]
async fn the_documented_curl_renames_a_tenant() {
    let app = TestApp::builder().with("base_domain", "databunker-domain.com").spawn().await;
    let tenant = app.bunker_tenant("oldtenant").await;
    let admin = tenant.admin.at_host("oldtenant.databunker-domain.com");
    let body = r#"{"tenantname":"newname"}"#;
    let answer = admin.send("/v2/TenantUpdate", CURL_CONTENT_TYPE, body).await;
    assert_eq!(answer.ok(), &json!({ "status": "ok" }));
    let row =
        app.sql().await.query_one("SELECT slug, name, org, id FROM tenants", &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("newname", "newname"));
    assert_eq!((row.get::<_, &str>(2), row.get::<_, uuid::Uuid>(3)), ("testorg", tenant.id));
}

#[tokio::test]
async fn an_update_changes_only_the_parameters_that_it_names() {
    let app = TestApp::spawn().await;
    let (tenant, other) = (app.bunker_tenant("acme").await, app.bunker_tenant("beta").await);
    let root = app.bunker_root();
    let id = json!(tenant.number.to_string());
    for (caller, body, now) in [
        (&root, json!({ "tenantid": id, "tenantname": "gamma" }), ("gamma", "testorg", "-")),
        (&root, json!({ "tenantid": id, "tenantorg": "org2" }), ("gamma", "org2", "-")),
        (&root, json!({ "tenantid": id, "email": "a@b.co" }), ("gamma", "org2", "a@b.co")),
        (&tenant.admin, json!({ "tenantid": id, "tenantname": null }), ("gamma", "org2", "a@b.co")),
        (&tenant.admin, json!({ "tenantorg": "org3" }), ("gamma", "org3", "a@b.co")),
        (&tenant.admin, json!({ "tenantname": "gamma" }), ("gamma", "org3", "a@b.co")), // its current name
    ] {
        assert_eq!(caller.call("TenantUpdate", body).await.ok(), &json!({ "status": "ok" }));
        assert_eq!(row_of(&app, tenant.number).await, now);
    }
    let refused = |body: Value| tenant.admin.call("TenantUpdate", body);
    let bad = refused(json!({ "tenantname": "new-name" })).await;
    assert_eq!(bad.error(400), "The tenantname parameter has an incorrect format");
    let taken = refused(json!({ "tenantname": "beta", "tenantorg": "org4" })).await;
    assert_eq!(taken.error(409), "Duplicate tenant name");
    assert_eq!(row_of(&app, tenant.number).await, ("gamma", "org3", "a@b.co"));
    let unknown = root.call("TenantUpdate", json!({ "tenantid": 999, "tenantname": "x" })).await;
    assert_eq!(unknown.error(404), "The tenant was not found");
    assert_eq!(row_of(&app, other.number).await, ("beta", "testorg", "-"));
}

async fn row_of(app: &TestApp, number: i64) -> (&'static str, &'static str, &'static str) {
    let sql = "SELECT slug, org, coalesce(contact_email, '-') FROM tenants WHERE number = $1";
    let row = app.sql().await.query_one(sql, &[&number]).await.expect("the tenant has a row");
    let text = |at| -> &'static str { Box::leak(row.get::<_, String>(at).into_boxed_str()) };
    (text(0), text(1), text(2))
}

#[tokio::test]
async fn an_old_name_is_unknown_at_once_in_every_process() {
    let first = TestApp::builder().with("base_domain", "example.com").spawn().await;
    let second = TestApp::builder()
        .with("base_domain", "example.com")
        .on(first.database.clone())
        .spawn()
        .await;
    let tenant = first.bunker_tenant("old").await;
    tenant.add(json!({ "email": "ada@example.com" })).await;
    let everywhere = |token: &str| {
        [first.bunker(token), second.bunker(token)]
            .into_iter()
            .flat_map(|caller| [caller.for_tenant("old"), caller.at_host("old.example.com")])
            .collect::<Vec<Bunker>>()
    };
    let second_root = second.bunker_root();
    for caller in everywhere(&tenant.xtoken) {
        caller.get("ada@example.com").await.ok();
    }
    second_root.for_tenant("old").get("ada@example.com").await.ok();
    tenant.admin.call("TenantUpdate", json!({ "tenantname": "new" })).await.ok();

    for root in [first.bunker_root(), second.bunker_root()] {
        for renamed in [root.for_tenant("old"), root.at_host("old.example.com")] {
            assert_eq!(renamed.get("ada@example.com").await.error(404), "The tenant was not found");
        }
        root.for_tenant("new").get("ada@example.com").await.ok();
        root.at_host("new.example.com").get("ada@example.com").await.ok();
    }
    for app in [&first, &second] {
        let admin = app.bunker(&tenant.xtoken);
        // A header must name the tenant of the token. The host is ignored, because the token names its tenant.
        assert_eq!(
            admin.for_tenant("old").get("ada@example.com").await.error(403),
            "Access denied"
        );
        admin.at_host("old.example.com").get("ada@example.com").await.ok();
        admin.for_tenant("new").get("ada@example.com").await.ok();
    }
}

#[tokio::test]
async fn a_former_name_can_be_taken_and_shows_nothing_of_the_old_tenant() {
    let builder = || TestApp::builder().with("slugs.quarantine", "0");
    let first = builder().spawn().await;
    let second = builder().on(first.database.clone()).spawn().await;
    let old = first.bunker_tenant("shared").await;
    let record = old.add(json!({ "email": "ada@example.com", "secret": "of the old one" })).await;
    for app in [&first, &second] {
        app.bunker(&old.xtoken).for_tenant("shared").get("ada@example.com").await.ok();
    }
    old.admin.call("TenantUpdate", json!({ "tenantname": "moved" })).await.ok();
    let new = first.bunker_tenant("shared").await;
    assert_ne!(new.number, old.number);
    for app in [&first, &second] {
        let newcomer = app.bunker(&new.xtoken).for_tenant("shared");
        for (mode, identity) in [("email", "ada@example.com"), ("token", record.as_str())] {
            let answer = newcomer.about("UserGet", mode, identity).await;
            assert_eq!(answer.error(404), "The user record was not found");
            let root = app.bunker(&first.root_token).for_tenant("shared");
            if app.root_token == first.root_token {
                root.about("UserGet", mode, identity).await.error(404);
            }
        }
        let unlockuuid = newcomer.unlock().await;
        let all = newcomer.call("BulkListAllUsers", json!({ "unlockuuid": unlockuuid })).await;
        assert_eq!(all.ok(), &json!({ "status": "ok", "total": 0, "rows": [] }));
        // The old name is now another tenant's, so the old tenant's token is refused beside it.
        let old_admin = app.bunker(&old.xtoken);
        assert_eq!(
            old_admin.for_tenant("shared").get("ada@example.com").await.error(403),
            "Access denied"
        );
        old_admin.at_host("shared.localhost").get("ada@example.com").await.ok();
        old_admin.get("ada@example.com").await.ok();
    }
    let schemas = first.schemas_with("of the old one").await;
    assert_eq!(schemas, [old.schema()]);
}

#[tokio::test]
async fn tenants_are_listed_by_number_in_pages_with_the_full_count() {
    let app = TestApp::spawn().await;
    for number in 0..12 {
        app.set_up(&format!("t{number:02}")).await;
    }
    let root = app.bunker_root();
    let list = |body: Value| root.call("TenantListTenants", body);
    let first = list(json!({})).await;
    let rows = first.ok()["rows"].as_array().unwrap();
    assert_eq!((first.body["total"].as_i64(), rows.len()), (Some(12), 10));
    // Reten's set-up has no organisation.
    assert_eq!(rows[0], json!({ "tenantid": 2, "tenantname": "t00", "tenantorg": "" }));
    for (body, names) in [
        (json!({ "offset": 10 }), vec!["t10", "t11"]),
        (json!({ "offset": "11", "limit": "5" }), vec!["t11"]),
        (json!({ "offset": 1, "limit": 2 }), vec!["t01", "t02"]),
        (json!({ "offset": 12 }), vec![]),
        (json!({ "offset": i64::MAX }), vec![]),
        (json!({ "offset": null, "limit": 1 }), vec!["t00"]),
        (json!({ "offset": -5, "limit": 1 }), vec!["t00"]),
    ] {
        let answer = list(body).await;
        let found: Vec<&str> = answer.ok()["rows"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|row| row["tenantname"].as_str())
            .collect();
        assert_eq!((found, answer.body["total"].as_i64()), (names, Some(12)));
    }
    for limit in [json!(0), json!(-1), json!(101), json!(1000)] {
        let answer = list(json!({ "limit": limit })).await;
        assert_eq!(answer.ok()["rows"].as_array().map(Vec::len), Some(12), "{limit}");
    }
    let bad = list(json!({ "limit": "many" })).await;
    assert_eq!(bad.error(400), "The limit parameter has an incorrect format");
}

#[tokio::test]
async fn a_deleted_tenant_is_removed_with_its_schema_role_and_tokens() {
    let app = TestApp::spawn().await;
    let (deleted, kept) = (app.bunker_tenant("acme").await, app.bunker_tenant("beta").await);
    deleted.add(json!({ "email": "ada@example.com" })).await;
    kept.add(json!({ "email": "ada@example.com" })).await;
    let root = app.bunker_root();
    let answer = root.call("TenantDelete", json!({ "tenantid": deleted.number.to_string() })).await;
    assert_eq!(answer.ok(), &json!({ "status": "ok" }));
    let again = root.call("TenantDelete", json!({ "tenantid": deleted.number })).await;
    assert_eq!(again.error(404), "The tenant was not found");
    assert_eq!(deleted.admin.get("ada@example.com").await.error(403), "Access denied");
    assert_eq!(
        root.for_tenant("acme").get("ada@example.com").await.error(404),
        "The tenant was not found"
    );
    kept.admin.get("ada@example.com").await.ok();
    let sql = app.sql().await;
    assert_eq!(schemas(&sql).await, [kept.schema()]);
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname = $1";
    assert_eq!(sql.query_one(roles, &[&deleted.schema()]).await.unwrap().get::<_, i64>(0), 0);
    let tokens = "SELECT count(*) FROM tokens WHERE tenant_id = $1";
    assert_eq!(sql.query_one(tokens, &[&deleted.id]).await.unwrap().get::<_, i64>(0), 0);

    assert_eq!(
        root.call("TenantDelete", json!({})).await.error(400),
        "Missing API request parameters: tenantid"
    );
    root.get("absent@example.com").await.error(404); // creates the main tenant
    assert_eq!(
        root.call("TenantDelete", json!({ "tenantid": 1 })).await.error(409),
        "The main tenant cannot be deleted"
    );
    root.call("TenantDelete", json!({ "tenantname": "beta" })).await.ok();
}

#[tokio::test]
async fn digits_are_a_name_in_headers_and_hosts_and_a_number_in_parameters() {
    let app = TestApp::spawn().await;
    let first = app.bunker_tenant("acme").await;
    let digits = app.bunker_tenant(&first.number.to_string()).await;
    digits.add(json!({ "email": "ada@example.com" })).await;
    let root = app.bunker_root();
    root.for_tenant("2").get("ada@example.com").await.ok();
    root.at_host("2.localhost").get("ada@example.com").await.ok();
    // The clients send a value of digits as `tenantid`, where it is a number.
    let by_number = root.call("TenantGet", json!({ "tenantid": "2" })).await;
    assert_eq!(by_number.ok()["tenantname"], "acme");
    let by_number = root.call("TenantGet", json!({ "tenantid": digits.number })).await;
    assert_eq!(by_number.ok()["tenantname"], "2");
}

#[tokio::test]
async fn a_tenant_is_the_same_tenant_in_every_dialect() {
    let app = TestApp::spawn().await;
    let reten_made = app.set_up("reten-made").await;
    let bunker_made = app.bunker_tenant("bunkermade").await;
    let root = app.bunker_root();
    // Reten's slug may contain a hyphen and is a valid tenant name in this dialect.
    let profile = json!({ "profile": { "email": "ada@example.com" } });
    root.for_tenant("reten-made").call("UserCreate", profile).await.ok();
    assert_eq!(app.schemas_with("ada@example.com").await, [reten_made.schema()]);
    let list = root.call("TenantListTenants", json!({})).await;
    let names: Vec<_> =
        list.ok()["rows"].as_array().unwrap().iter().map(|r| &r["tenantname"]).collect();
    assert_eq!(names, ["reten-made", "bunkermade"]);

    let listed = app.root().get("/api/tenant").await;
    let slugs: Vec<_> = listed.body.as_array().unwrap().iter().map(|t| t["slug"].clone()).collect();
    assert_eq!(slugs, ["reten-made", "bunkermade"]);
    let taken = app.root().post("/api/tenant/setup", &TestApp::setup_body("bunkermade")).await;
    assert_eq!(taken.status, 409, "{taken:?}");
    let free = root.call("TenantCreate", json!({ "tenantname": "x", "tenantorg": "x" })).await;
    free.ok();
    let shape = |schema: String| {
        let app = &app;
        async move {
            let sql = "SELECT string_agg(table_name || '.' || column_name || ' ' || data_type, ', '
                                         ORDER BY table_name, ordinal_position)
                         FROM information_schema.columns WHERE table_schema = $1";
            app.sql().await.query_one(sql, &[&schema]).await.unwrap().get::<_, String>(0)
        }
    };
    assert_eq!(shape(reten_made.schema()).await, shape(bunker_made.schema()).await);
}

#[tokio::test]
async fn every_call_to_a_suspended_tenant_is_a_404() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "email": "ada@example.com" })).await;
    let unlockuuid = tenant.admin.unlock().await;
    let sql = app.sql().await;
    sql.execute("UPDATE tenants SET status = 'suspended'", &[]).await.unwrap();
    let root = app.bunker_root().for_tenant("acme");
    for caller in [&tenant.admin, &tenant.admin.for_tenant("acme"), &root] {
        for (call, body) in [
            ("UserGet", json!({ "mode": "email", "identity": "ada@example.com" })),
            ("UserCreate", json!({ "profile": { "email": "bob@example.com" } })),
            ("UserDelete", json!({ "mode": "email", "identity": "ada@example.com" })),
            ("BulkListAllUsers", json!({ "unlockuuid": unlockuuid })),
        ] {
            let answer = caller.call(call, body).await;
            assert_eq!(answer.error(404), "The tenant was not found", "{call}");
        }
    }
    assert_eq!(
        tenant.admin.call("TenantUpdate", json!({ "tenantname": "x" })).await.error(404),
        "The tenant was not found"
    );
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 1);
    sql.execute("UPDATE tenants SET status = 'active'", &[]).await.unwrap();
    tenant.admin.get("ada@example.com").await.ok();
}

#[tokio::test]
async fn no_dialect_changes_a_deleted_tenant_until_it_is_restored() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let (control, bunker) = (app.root(), app.bunker_root());
    let rename = |name: &str| {
        let body = json!({ "tenantid": tenant.number, "tenantname": name });
        let bunker = &bunker;
        async move { bunker.call("TenantUpdate", body).await }
    };
    let path = format!("/control/v1/tenants/{}", tenant.id);
    let change = |name: &str| {
        let (control, path, body) = (&control, &path, json!({ "slug": name }));
        async move { send_if_match(control, Method::PATCH, path, "*", Some(&body)).await }
    };
    assert_eq!(transition(&control, "acme", "delete").await.status, 200);
    assert_problem(&change("beta").await, 409, "tenant_not_active");
    assert_eq!(rename("beta").await.error(409), "The tenant is not active");
    assert_eq!(row_of(&app, tenant.number).await, ("acme", "testorg", "-"));
    assert_eq!(events(&app, tenant.id, "tenant.update").await, 0);

    assert_eq!(transition(&control, "acme", "restore").await.status, 200);
    rename("beta").await.ok();
    assert_eq!(change("gamma").await.status, 200);
    assert_eq!(row_of(&app, tenant.number).await, ("gamma", "testorg", "-"));
}

#[tokio::test]
async fn a_change_of_a_tenant_is_audited_alike_in_every_dialect() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let change = json!({
        "tenantname": "beta", "tenantorg": "org2", "email": "ada@example.com",
    });
    tenant.admin.call("TenantUpdate", change.clone()).await.ok();
    tenant.admin.call("TenantUpdate", change).await.ok(); // changes nothing
    let path = format!("/control/v1/tenants/{}", tenant.id);
    let change = json!({ "slug": "gamma", "name": "Gamma" });
    let patched = send_if_match(&app.root(), Method::PATCH, &path, "*", Some(&change)).await;
    assert_eq!(patched.status, 200, "{patched:?}");
    let sql = "SELECT details FROM audit_events
                WHERE tenant_id = $1 AND action = 'tenant.update' ORDER BY at, id";
    let told = app.sql().await.query(sql, &[&tenant.id]).await.expect("the audit can be read");
    let told: Vec<Value> =
        told.iter().map(|row| row.get::<_, Value>(0)["changes"].clone()).collect();
    let expected = [
        json!({
            "slug": { "from": "acme", "to": "beta" },
            "name": { "from": "acme", "to": "beta" },
            "org": { "from": "testorg", "to": "org2" },
            // An address belongs to a person, so the audit trail does not hold it.
            "contact_changed": true,
        }),
        json!({
            "slug": { "from": "beta", "to": "gamma" },
            "name": { "from": "beta", "to": "Gamma" },
        }),
    ];
    assert_eq!(told, expected);
}
