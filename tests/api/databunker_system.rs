//! Unlocks, the bulk lists behind them, and the System operations across tenants.

use serde_json::{Value, json};
use time::Duration;

use crate::support::bunker::redacted;
use crate::support::{Bunker, BunkerTenant, TestApp};

/// The cross-tenant calls, and what they are called in the audit trail.
const SYSTEM_CALLS: [(&str, &str); 4] = [
    ("SystemGetUserProfiles", "system.get_profiles"),
    ("SystemSearchUserProfiles", "system.search_profiles"),
    ("SystemDeleteUserProfiles", "system.delete_profiles"),
    ("SystemRestoreUserProfile", "system.restore_profile"),
];

const BAD_UNLOCK: &str = "The unlockuuid value was not found or is not valid";
const MAIN_ONLY: &str = "Only the main tenant admin can do this";

#[tokio::test]
async fn an_unlock_is_a_uuid_that_is_good_for_a_minute_and_as_often_as_needed() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let answer = tenant.admin.call("BulkListUnlock", json!({})).await;
    assert_eq!(redacted(answer.ok()), json!({ "status": "ok", "unlockuuid": "<uuid>" }));
    let unlockuuid = answer.body["unlockuuid"].as_str().unwrap();
    let list = || tenant.admin.call("BulkListAllUsers", json!({ "unlockuuid": unlockuuid }));
    for _ in 0..5 {
        list().await.ok();
    }
    app.clock.advance(Duration::seconds(40));
    list().await.ok();
    app.clock.advance(Duration::seconds(21));
    assert_eq!(list().await.error(403), BAD_UNLOCK);
    // Only its digest was kept, and that goes with the next one.
    tenant.admin.unlock().await;
    let sql = app.sql().await;
    let row = sql
        .query_one("SELECT count(*), bool_or(octet_length(digest) = 32) FROM unlocks", &[])
        .await;
    assert_eq!(row.map(|row| (row.get::<_, i64>(0), row.get(1))).unwrap(), (1, true));
}

#[tokio::test]
async fn an_unlock_opens_for_its_holder_alone() {
    let app = TestApp::spawn().await;
    let (a, b) = (app.bunker_tenant("acme").await, app.bunker_tenant("beta").await);
    let root = app.bunker_root();
    let holders = [a.admin.clone(), b.admin.clone(), root.for_tenant("acme")];
    let mut unlocks = Vec::new();
    for holder in &holders {
        unlocks.push(holder.unlock().await);
    }
    for (who, holder) in holders.iter().enumerate() {
        for (whose, unlockuuid) in unlocks.iter().enumerate() {
            let body = json!({ "unlockuuid": unlockuuid });
            let answer = holder.call("BulkListAllUsers", body).await;
            if who == whose {
                answer.ok();
            } else {
                assert_eq!(answer.error(403), BAD_UNLOCK, "{who} with that of {whose}");
            }
        }
    }
    // In whatever tenant root works.
    root.for_tenant("beta")
        .call("BulkListAllUsers", json!({ "unlockuuid": unlocks[2] }))
        .await
        .ok();
}

#[tokio::test]
async fn what_is_no_good_unlock_opens_nothing() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let person = json!({ "mode": "email", "identity": "ada@example.com", "users": [{ "mode": "login", "identity": "x" }] });
    let good = tenant.admin.unlock().await;
    let roots = app.bunker_root().unlock().await;
    for bad in [
        json!(null),
        json!(""),
        json!("no uuid"),
        json!("00000000-0000-0000-0000-000000000000"),
        json!("' OR 1=1 --"),
        json!("x".repeat(10_240)),
        json!("a\0b"),
        json!(5),
        json!([good]),
        json!({ "uuid": good }),
    ] {
        let mut body = person.clone();
        body["unlockuuid"] = bad.clone();
        for call in ["BulkListUsers", "BulkListAllUsers", "UserSearch"] {
            assert_eq!(
                tenant.admin.call(call, body.clone()).await.error(403),
                BAD_UNLOCK,
                "{call} {bad}"
            );
        }
        for (call, _) in SYSTEM_CALLS {
            assert_eq!(
                app.bunker_root().call(call, body.clone()).await.error(403),
                BAD_UNLOCK,
                "{call} {bad}"
            );
        }
    }
    let nothing = tenant.admin.call("BulkListUsers", json!({})).await;
    assert_eq!(nothing.error(403), BAD_UNLOCK);
    for (call, _) in SYSTEM_CALLS {
        let body = json!({ "unlockuuid": roots });
        app.bunker_root().call(call, body).await.error(400); // passed, and the rest is missing
    }
}

#[tokio::test]
async fn every_criterion_of_a_bulk_list_is_looked_for_and_who_is_unknown_left_out() {
    let app = TestApp::spawn().await;
    let (tenant, other) = (app.bunker_tenant("acme").await, app.bunker_tenant("beta").await);
    other.add(json!({ "email": "secret@beta.example.com" })).await;
    let mut users = Vec::new();
    for n in 0..12 {
        tenant
            .add(json!({ "custom": format!("legacy-{n}"), "email": format!("u{n}@example.com") }))
            .await;
        users.push(json!({ "mode": "custom", "identity": format!("legacy-{n}") }));
    }
    users.push(json!({ "mode": "email", "identity": "U3@example.com" })); // again
    users.push(json!({ "mode": "email", "identity": "secret@beta.example.com" }));
    users.push(json!({ "mode": "phone", "identity": 4711 }));
    let unlockuuid = tenant.admin.unlock().await;
    let list = |users: Value| {
        tenant
            .admin
            .call("BulkListUsers", json!({ "users": users, "unlockuuid": unlockuuid, "limit": 1 }))
    };
    let answer = list(json!(users)).await;
    assert_eq!(answer.ok()["total"], 12);
    let found: Vec<_> = answer.body["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["profile"]["custom"].clone())
        .collect();
    assert_eq!(found, (0..12).map(|n| json!(format!("legacy-{n}"))).collect::<Vec<_>>());
    assert_eq!(
        redacted(&answer.body["rows"][0]),
        json!({ "token": "<uuid>", "profile": { "custom": "legacy-0", "email": "u0@example.com" }, "version": 1 })
    );
    let nobody = list(json!([{ "mode": "custom", "identity": "absent" }])).await;
    assert_eq!(nobody.ok(), &json!({ "status": "ok", "total": 0, "rows": [] }));
    for (bad, message) in [
        (json!([]), "Missing API request parameters: users"),
        (json!(null), "Missing API request parameters: users"),
        (json!("x"), "The users parameter has an incorrect format"),
        (json!(["x"]), "The users parameter has an incorrect format"),
        (json!([{ "mode": "email" }]), "Missing API request parameters: identity"),
        (
            json!([{ "mode": "token", "identity": uuid::Uuid::new_v4() }]),
            "The mode parameter has an incorrect format",
        ),
        (
            json!([{ "mode": "email", "identity": "a\0" }]),
            "The identity parameter holds characters that cannot be stored",
        ),
    ] {
        assert_eq!(list(bad).await.error(400), message);
    }
}

#[tokio::test]
async fn all_records_are_listed_in_pages_oldest_first_and_past_the_end_none() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let records: Vec<Value> =
        (0..25).map(|n| json!({ "profile": { "login": format!("u{n:02}") } })).collect();
    tenant.admin.call("UserCreateBulk", json!({ "records": records })).await.ok();
    app.clock.advance(Duration::seconds(1));
    tenant.add(json!({ "login": "last" })).await;
    let unlockuuid = tenant.admin.unlock().await;
    let mut seen = Vec::new();
    for (offset, rows) in [(0, 10), (10, 10), (20, 6), (30, 0)] {
        let body = json!({ "unlockuuid": unlockuuid, "offset": offset });
        let page = tenant.admin.call("BulkListAllUsers", body).await;
        assert_eq!(page.ok()["total"], 26);
        let logins = page.body["rows"].as_array().unwrap();
        assert_eq!(logins.len(), rows, "{offset}");
        seen.extend(logins.iter().map(|row| row["profile"]["login"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen.last().map(String::as_str), Some("last"));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 26, "each of them once");
    for limit in [json!(100), json!(1000), json!(0), json!("100")] {
        let body = json!({ "unlockuuid": unlockuuid, "limit": limit });
        let page = tenant.admin.call("BulkListAllUsers", body).await;
        assert_eq!(page.ok()["rows"].as_array().map(Vec::len), Some(26), "{limit}");
    }
}

/// Three tenants; the first two know Ada.
async fn three_tenants(app: &TestApp) -> (BunkerTenant, BunkerTenant, BunkerTenant) {
    let (a, b) = (app.bunker_tenant("acme").await, app.bunker_tenant("beta").await);
    let c = app.bunker_tenant("gamma").await;
    a.add(json!({ "email": "ada@example.com", "login": "ada", "of": "acme" })).await;
    b.add(json!({ "email": "ADA@example.com", "phone": 555, "of": "beta" })).await;
    c.add(json!({ "email": "bob@example.com" })).await;
    (a, b, c)
}

/// A System call as root, with an unlock.
async fn system(app: &TestApp, call: &str, mut body: Value) -> crate::support::Answer {
    let root = app.bunker_root();
    body["unlockuuid"] = json!(root.unlock().await);
    root.call(call, body).await
}

fn ada() -> Value {
    json!({ "mode": "email", "identity": "Ada@Example.com" })
}

#[tokio::test]
async fn a_person_is_found_across_all_tenants_by_the_documented_curls() {
    let app = TestApp::spawn().await;
    let (a, b, _) = three_tenants(&app).await;
    // No Content-Type and no body, as the page's first curl.
    let root = app.bunker_root();
    let unlock =
        crate::support::callers::send(root.request(reqwest::Method::POST, "/v2/BulkListUnlock"))
            .await;
    let body = format!(
        "{{\n    \"mode\": \"email\",\n    \"identity\": \"ada@example.com\",\n    \"unlockuuid\": \"{}\"\n  }}",
        unlock.ok()["unlockuuid"].as_str().unwrap()
    );
    let answer = root.send("/v2/SystemGetUserProfiles", "application/json", body).await;
    let row = |tenant: &BunkerTenant, profile: Value| json!({ "tenantid": tenant.number, "tenantname": tenant.name, "token": "<uuid>", "profile": profile });
    let rows = [
        row(&a, json!({ "email": "ada@example.com", "login": "ada", "of": "acme" })),
        row(&b, json!({ "email": "ADA@example.com", "phone": 555, "of": "beta" })),
    ];
    assert_eq!(redacted(answer.ok()), json!({ "status": "ok", "total": 2, "rows": rows }));
    assert_ne!(answer.body["rows"][0]["token"], answer.body["rows"][1]["token"]);

    let by_phone = json!({ "mode": "phone", "identity": "555" });
    let answer = system(&app, "SystemGetUserProfiles", by_phone).await;
    assert_eq!(redacted(answer.ok()), json!({ "status": "ok", "total": 1, "rows": [rows[1]] }));
    let nobody = json!({ "mode": "custom", "identity": "x" });
    let answer = system(&app, "SystemGetUserProfiles", nobody).await;
    assert_eq!(answer.ok(), &json!({ "status": "ok", "total": 0, "rows": [] }));
    for (text, total) in [("@example.com", 3), ("ADA@", 2), ("55", 1), ("%", 0)] {
        let answer = system(&app, "SystemSearchUserProfiles", json!({ "identity": text })).await;
        assert_eq!(
            (&answer.ok()["total"], answer.body["rows"].as_array().map(Vec::len)),
            (&json!(total), Some(total))
        );
    }
    let answer = system(&app, "SystemSearchUserProfiles", json!({ "identity": "555" })).await;
    assert_eq!(redacted(answer.ok()), json!({ "status": "ok", "total": 1, "rows": [rows[1]] }));
    for (call, body, message) in [
        ("SystemGetUserProfiles", json!({}), "Missing API request parameters: mode"),
        (
            "SystemGetUserProfiles",
            json!({ "mode": "email" }),
            "Missing API request parameters: identity",
        ),
        (
            "SystemGetUserProfiles",
            json!({ "mode": "token", "identity": uuid::Uuid::new_v4() }),
            "The mode parameter has an incorrect format",
        ),
        ("SystemSearchUserProfiles", json!({}), "Missing API request parameters: identity"),
        (
            "SystemSearchUserProfiles",
            json!({ "identity": "a\0" }),
            "The identity parameter holds characters that cannot be stored",
        ),
    ] {
        assert_eq!(system(&app, call, body).await.error(400), message);
    }
}

#[tokio::test]
async fn a_person_is_deleted_everywhere_or_in_the_tenant_that_is_named() {
    let app = TestApp::spawn().await;
    let (a, b, c) = three_tenants(&app).await;
    let with = |extra: Value| {
        let mut body = ada();
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let row = |tenant: &BunkerTenant| json!({ "token": "<uuid>", "tenantid": tenant.number, "tenantname": tenant.name });
    let delete = |extra: Value| system(&app, "SystemDeleteUserProfiles", with(extra));
    for (extra, message) in [
        (json!({ "tenantid": 999 }), "The tenant was not found"),
        (json!({ "tenantname": "nobody" }), "The tenant was not found"),
        (json!({ "tenantname": "No Such" }), "The tenant was not found"),
    ] {
        assert_eq!(delete(extra).await.error(404), message);
    }
    let in_gamma = delete(json!({ "tenantname": "gamma" })).await;
    assert_eq!(in_gamma.ok(), &json!({ "status": "ok", "total": 0, "rows": [] }));
    let in_acme = delete(json!({ "tenantid": a.number.to_string() })).await;
    assert_eq!(redacted(in_acme.ok()), json!({ "status": "ok", "total": 1, "rows": [row(&a)] }));
    a.admin.get("ada@example.com").await.error(404);
    b.admin.get("ada@example.com").await.ok();
    a.add(json!({ "email": "ada@example.com" })).await;
    let everywhere = delete(json!({})).await;
    assert_eq!(
        redacted(everywhere.ok()),
        json!({ "status": "ok", "total": 2, "rows": [row(&a), row(&b)] })
    );
    for (tenant, left) in [(&a, 0), (&b, 0), (&c, 1)] {
        assert_eq!(app.count(&tenant.schema(), "profiles").await, left);
    }
    // By token only where the tenant is named, since it means nothing elsewhere.
    let token = c.admin.get("bob@example.com").await.body["token"].clone();
    let by_token = json!({ "mode": "token", "identity": token });
    let answer = system(&app, "SystemDeleteUserProfiles", by_token.clone()).await;
    assert_eq!(answer.error(400), "Missing API request parameters: tenantid");
    let mut elsewhere = by_token.clone();
    elsewhere["tenantname"] = json!("acme");
    assert_eq!(system(&app, "SystemDeleteUserProfiles", elsewhere).await.ok()["total"], 0);
    let mut there = by_token;
    there["tenantname"] = json!("gamma");
    assert_eq!(system(&app, "SystemDeleteUserProfiles", there).await.ok()["total"], 1);
    assert_eq!(app.count(&c.schema(), "profiles").await, 0);
}

#[tokio::test]
async fn a_deleted_record_is_restored_as_it_last_was_under_the_token_that_it_had() {
    let app = TestApp::spawn().await;
    let (a, b, _) = three_tenants(&app).await;
    let token = a.admin.get("ada@example.com").await.body["token"].clone();
    let update =
        json!({ "mode": "login", "identity": "ada", "profile": { "of": "the second version" } });
    a.admin.call("UserUpdate", update).await.ok();
    let restore = |extra: Value| {
        let mut body = json!({ "token": token });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        system(&app, "SystemRestoreUserProfile", body)
    };
    let not_deleted = restore(json!({ "tenantname": "acme" })).await;
    assert_eq!(not_deleted.error(409), "The user record is not deleted");
    a.admin.about("UserDelete", "login", "ada").await.ok();
    // In the tenant that it was in, and in no other.
    let elsewhere = restore(json!({ "tenantid": b.number })).await;
    assert_eq!(elsewhere.error(404), "The user record was not found");
    for (extra, status, message) in [
        (json!({}), 400, "Missing API request parameters: tenantid"),
        (json!({ "tenantid": 999 }), 404, "The tenant was not found"),
        (json!({ "tenantid": a.number, "token": "x" }), 400, "Bad UUID"),
        (
            json!({ "tenantid": a.number, "token": null }),
            400,
            "Missing API request parameters: token",
        ),
        (
            json!({ "tenantid": a.number, "token": uuid::Uuid::new_v4() }),
            404,
            "The user record was not found",
        ),
    ] {
        assert_eq!(restore(extra).await.error(status), message);
    }
    let usurper = a.add(json!({ "email": "ada@example.com" })).await;
    let refused = restore(json!({ "tenantname": "acme" })).await;
    assert_eq!(refused.error(409), "Duplicate index: email");
    a.admin.about("UserDelete", "token", &usurper).await.ok();

    let profile = json!({ "email": "ada@example.com", "login": "ada", "of": "the second version" });
    let restored = restore(json!({ "tenantid": a.number.to_string() })).await;
    assert_eq!(
        restored.ok(),
        &json!({ "status": "ok", "result": "restored", "token": token, "profile": profile })
    );
    let read = a.admin.get("ada@example.com").await;
    assert_eq!(
        read.ok(),
        &json!({ "status": "ok", "token": token, "profile": profile, "version": 2 })
    );
    let versions = a.admin.about("UserListVersions", "login", "ada").await;
    assert_eq!(versions.ok()["versions"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_restored_record_keeps_its_end_and_one_that_has_run_out_does_not_come_back() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let body = json!({ "profile": { "login": "ada" }, "finaltime": "10d", "slidingtime": "3d" });
    let token = tenant.admin.call("UserCreate", body).await.ok()["token"].clone();
    let end = tenant.admin.about("UserGet", "login", "ada").await.body["expirationtime"]
        .as_i64()
        .unwrap();
    let restore = || {
        let body = json!({ "token": token, "tenantname": "acme" });
        system(&app, "SystemRestoreUserProfile", body)
    };
    tenant.admin.about("UserDelete", "login", "ada").await.ok();
    app.clock.advance(Duration::days(8));
    restore().await.ok();
    let read = tenant.admin.about("UserGet", "login", "ada").await;
    assert_eq!((&read.ok()["finaltime"], &read.body["slidingtime"]), (&json!("10d"), &json!("3d")));
    // The final time, two days from now, and not three.
    let later = read.body["expirationtime"].as_i64().unwrap() - end;
    assert!((later - 7 * 86_400).abs() < 600, "{later}");
    app.clock.advance(Duration::days(3));
    // Run out, whether it is still in the table or not, and whether or not it was deleted before.
    assert_eq!(restore().await.error(404), "The user record was not found");
    assert_eq!(app.count(&tenant.schema(), "profile_versions").await, 0);
}

#[expect(clippy::too_many_lines, reason = "a table of cases, best read whole")]
#[tokio::test]
async fn every_system_call_passes_three_gates_and_is_written_down_also_when_refused() {
    let app = TestApp::spawn().await;
    let (tenant, _, _) = three_tenants(&app).await;
    let root = app.bunker_root();
    let (theirs, mut ours) = (tenant.admin.unlock().await, root.unlock().await);
    let mut expected: Vec<(&str, String, bool, Option<&str>)> = Vec::new();
    let audit = "SELECT count(*) FROM audit_events WHERE action LIKE 'system.%'";
    let sql = app.sql().await;
    let mut written: i64 = sql.query_one(audit, &[]).await.unwrap().get(0);
    for (call, action) in SYSTEM_CALLS {
        let with = |unlock: &str| json!({ "mode": "login", "identity": "nobody", "token": tenant.id, "tenantname": "acme", "unlockuuid": unlock });
        let cases: [(&Bunker, Value, u16, Option<&str>); 5] = [
            // Not even with an unlock of its own, or beside the main tenant's name.
            (&tenant.admin, with(&theirs), 403, Some("forbidden")),
            (&tenant.admin, with(&ours), 403, Some("forbidden")),
            (&root, with(&theirs), 403, Some("unauthenticated")),
            (&root, json!({}), 403, Some("unauthenticated")),
            (&root, with(&ours), if action == "system.restore_profile" { 404 } else { 200 }, None),
        ];
        for (caller, body, status, refusal) in cases {
            let answer = caller.call(call, body).await;
            assert_eq!(answer.status, status, "{call}: {answer:?}");
            let actor = if caller.has_same_token(&root) { "root" } else { "token" };
            expected.push((action, actor.to_owned(), refusal.is_none(), refusal));
            written += 1;
            assert_eq!(
                sql.query_one(audit, &[]).await.unwrap().get::<_, i64>(0),
                written,
                "{call}"
            );
        }
        // What cannot be read is refused for whoever may not, and written down too.
        for (caller, label) in [(&tenant.admin, MAIN_ONLY), (&root, BAD_UNLOCK)] {
            let answer = caller.send(&format!("/v2/{call}"), "application/json", "{").await;
            assert_eq!(answer.error(403), label);
            written += 1;
            let actor = if label == BAD_UNLOCK { "root" } else { "token" };
            let refusal = if label == BAD_UNLOCK { "unauthenticated" } else { "forbidden" };
            expected.push((action, actor.to_owned(), false, Some(refusal)));
        }
        app.clock.advance(Duration::seconds(61));
        let stale = root.call(call, with(&ours)).await;
        assert_eq!(stale.error(403), BAD_UNLOCK);
        expected.push((action, "root".to_owned(), false, Some("unauthenticated")));
        written += 1;
        ours = root.unlock().await;
        tenant.admin.unlock().await;
    }
    let rows = sql
        .query(
            "SELECT action, split_part(actor, ':', 1), (details->>'allowed')::boolean, details->>'refusal', request_id
               FROM audit_events WHERE action LIKE 'system.%' ORDER BY at, id",
            &[],
        )
        .await
        .unwrap();
    let found: Vec<(&str, String, bool, Option<&str>)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    assert_eq!(found, expected);
    assert!(rows.iter().all(|row| !row.get::<_, &str>(4).is_empty()));
    let names = "SELECT count(*) FROM audit_events e WHERE e::text LIKE '%nobody%'";
    assert_eq!(
        sql.query_one(names, &[]).await.unwrap().get::<_, i64>(0),
        0,
        "nobody is named in it"
    );
}

#[tokio::test]
async fn a_tenant_that_cannot_be_asked_is_named_and_the_others_answer() {
    let app = TestApp::spawn().await;
    let (a, b, c) = three_tenants(&app).await;
    let sql = app.sql().await;
    let rename = |from: &str, to: &str| format!("ALTER TABLE {}.{from} RENAME TO {to}", a.schema());
    sql.batch_execute(&rename("profiles", "gone")).await.unwrap();
    sql.execute("UPDATE tenants SET status = 'suspended' WHERE number = $1", &[&c.number])
        .await
        .unwrap();
    let error = |tenant: &BunkerTenant, message: &str| json!({ "tenantid": tenant.number, "tenantname": tenant.name, "message": message });
    let errors =
        json!([error(&a, "The tenant could not be asked"), error(&c, "The tenant is not active")]);
    for (call, body) in [
        ("SystemGetUserProfiles", ada()),
        ("SystemSearchUserProfiles", json!({ "identity": "ada@" })),
        ("SystemDeleteUserProfiles", ada()),
    ] {
        let answer = system(&app, call, body).await;
        assert_eq!(answer.ok()["errors"], errors, "{call}");
        assert_eq!(answer.body["total"], 1, "{call}");
        assert_eq!(answer.body["rows"][0]["tenantname"], "beta", "{call}");
        assert!(!answer.text.contains("profiles\""), "no word of the database: {}", answer.text);
    }
    let stats = app.bunker_root().call("SystemGetSystemStats", json!({})).await;
    assert_eq!(stats.ok()["errors"], errors);
    // Named alone, a tenant that does not answer is an error of the call.
    let mut named = ada();
    named["tenantname"] = json!("gamma");
    let refused = system(&app, "SystemDeleteUserProfiles", named).await;
    assert_eq!(refused.error(409), "The tenant is not active");
    let restore = json!({ "tenantname": "gamma", "token": uuid::Uuid::new_v4() });
    let refused = system(&app, "SystemRestoreUserProfile", restore).await;
    assert_eq!(refused.error(409), "The tenant is not active");
    b.admin.get("ada@example.com").await.error(404);
    sql.batch_execute(&rename("gone", "profiles")).await.unwrap();
    a.admin.get("ada@example.com").await.ok();
    assert_eq!(app.count(&c.schema(), "profiles").await, 1);
}

#[tokio::test]
async fn a_tenant_that_is_locked_does_not_hold_up_the_others_for_ever() {
    let app = TestApp::builder().with("database.lock_timeout", "300ms").spawn().await;
    let (a, _, _) = three_tenants(&app).await;
    let mut sql = app.sql().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute(&format!("LOCK TABLE {}.profiles IN ACCESS EXCLUSIVE MODE", a.schema()))
        .await
        .unwrap();
    let answer = system(&app, "SystemGetUserProfiles", ada()).await;
    assert_eq!(answer.ok()["total"], 1);
    assert_eq!(answer.body["errors"][0]["tenantname"], "acme");
    // Inside the tenant it is a conflict that says to try again, and no connection is lost to it.
    let update = json!({ "mode": "login", "identity": "ada", "profile": { "n": 1 } });
    let updates = (0..12).map(|_| a.admin.call("UserUpdate", update.clone()));
    for refused in futures_util::future::join_all(updates).await {
        refused.error(409);
    }
    lock.rollback().await.unwrap();
    a.admin.get("ada@example.com").await.ok();
}

#[tokio::test]
async fn the_whole_house_is_counted() {
    let app = TestApp::spawn().await;
    let (tenant, ..) = three_tenants(&app).await;
    let stats = app.bunker_root().call("SystemGetSystemStats", json!({})).await;
    assert_eq!(
        stats.ok(),
        &json!({ "status": "ok", "stats": {
            "numusers": 3, "numtenants": 3, "numtokens": 3, "numsessions": 0, "totalnumrecords": 3,
        } })
    );
    assert_eq!(tenant.admin.call("SystemGetSystemStats", json!({})).await.error(403), MAIN_ONLY);
}

#[tokio::test]
async fn the_main_tenant_can_be_named_as_our_answers_name_it() {
    let app = TestApp::spawn().await;
    let root = app.bunker_root();
    let made = root.call("UserCreate", json!({ "profile": { "email": "ada@example.com" } })).await;
    let token = made.ok()["token"].clone();
    let found = system(&app, "SystemGetUserProfiles", ada()).await;
    let name = found.ok()["rows"][0]["tenantname"].clone();
    assert_eq!((&name, &found.body["rows"][0]["tenantid"]), (&json!("main"), &json!(1)));
    root.for_tenant("main").get("ada@example.com").await.ok();
    root.get("ada@example.com").await.ok();
    let mut body = ada();
    body["tenantname"] = name.clone();
    assert_eq!(system(&app, "SystemDeleteUserProfiles", body).await.ok()["total"], 1);
    let restore = json!({ "token": token, "tenantname": name });
    system(&app, "SystemRestoreUserProfile", restore).await.ok();
}
