//! Unlocks, the bulk lists behind them, and the System operations across tenants.

use serde_json::{Value, json};
use time::Duration;

use crate::support::bunker::redacted;
use crate::support::{Answer, Bunker, BunkerTenant, TestApp};

/// The cross-tenant calls and their actions in the audit log.
const SYSTEM_CALLS: [(&str, &str); 4] = [
    ("SystemGetUserProfiles", "system.get_profiles"),
    ("SystemSearchUserProfiles", "system.search_profiles"),
    ("SystemDeleteUserProfiles", "system.delete_profiles"),
    ("SystemRestoreUserProfile", "system.restore_profile"),
];

const BAD_UNLOCK: &str = "The unlockuuid value was not found or is not valid";
const MAIN_ONLY: &str = "Only the main tenant admin can do this";

#[tokio::test]
async fn an_unlock_is_a_uuid_that_is_valid_for_a_minute_and_any_number_of_calls() {
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
    // Only the digest is stored, and the next unlock deletes the expired one.
    tenant.admin.unlock().await;
    let sql = app.sql().await;
    let row = sql
        .query_one("SELECT count(*), bool_or(octet_length(digest) = 32) FROM unlocks", &[])
        .await;
    assert_eq!(row.map(|row| (row.get::<_, i64>(0), row.get(1))).unwrap(), (1, true));
}

#[tokio::test]
async fn an_unlock_is_valid_for_its_owner_only() {
    let app = TestApp::spawn().await;
    let (a, b) = (app.bunker_tenant("acme").await, app.bunker_tenant("beta").await);
    let root = app.bunker_root();
    let owners = [a.admin.clone(), b.admin.clone(), root.for_tenant("acme")];
    let mut unlocks = Vec::new();
    for owner in &owners {
        unlocks.push(owner.unlock().await);
    }
    for (caller, owner) in owners.iter().enumerate() {
        for (source, unlockuuid) in unlocks.iter().enumerate() {
            let body = json!({ "unlockuuid": unlockuuid });
            let answer = owner.call("BulkListAllUsers", body).await;
            if caller == source {
                answer.ok();
            } else {
                assert_eq!(answer.error(403), BAD_UNLOCK, "{caller} with the unlock of {source}");
            }
        }
    }
    // The unlock of root is valid in every tenant.
    root.for_tenant("beta")
        .call("BulkListAllUsers", json!({ "unlockuuid": unlocks[2] }))
        .await
        .ok();
}

#[tokio::test]
async fn an_invalid_unlock_is_refused_by_every_call_that_needs_one() {
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
        app.bunker_root().call(call, body).await.error(400); // the unlock is accepted, the other parameters are missing
    }
}

#[tokio::test]
async fn a_bulk_list_returns_the_record_of_each_criterion_and_omits_unknown_ones() {
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
    users.push(json!({ "mode": "email", "identity": "U3@example.com" })); // the same record again
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
    let unknown = list(json!([{ "mode": "custom", "identity": "absent" }])).await;
    assert_eq!(unknown.ok(), &json!({ "status": "ok", "total": 0, "rows": [] }));
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
async fn all_records_are_listed_in_pages_oldest_first() {
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
    assert_eq!(seen.len(), 26, "each record once");
    for limit in [json!(100), json!(1000), json!(0), json!("100")] {
        let body = json!({ "unlockuuid": unlockuuid, "limit": limit });
        let page = tenant.admin.call("BulkListAllUsers", body).await;
        assert_eq!(page.ok()["rows"].as_array().map(Vec::len), Some(26), "{limit}");
    }
}

/// Makes three tenants; the first two hold a record of Ada.
async fn three_tenants(app: &TestApp) -> (BunkerTenant, BunkerTenant, BunkerTenant) {
    let (a, b) = (app.bunker_tenant("acme").await, app.bunker_tenant("beta").await);
    let c = app.bunker_tenant("gamma").await;
    a.add(json!({ "email": "ada@example.com", "login": "ada", "of": "acme" })).await;
    b.add(json!({ "email": "ADA@example.com", "phone": 555, "of": "beta" })).await;
    c.add(json!({ "email": "bob@example.com" })).await;
    (a, b, c)
}

/// Sends a System call as root, with an unlock.
async fn system(app: &TestApp, call: &str, mut body: Value) -> Answer {
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
    // No Content-Type and no body, as in the first curl of the documentation.
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
    let unknown = json!({ "mode": "custom", "identity": "x" });
    let answer = system(&app, "SystemGetUserProfiles", unknown).await;
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
async fn a_person_is_deleted_in_all_tenants_or_in_the_named_one() {
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
        (json!({ "tenantname": "absent" }), "The tenant was not found"),
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
    // A record token is valid in its own tenant only, so the tenant must be named.
    let token = c.admin.get("bob@example.com").await.body["token"].clone();
    let by_token = json!({ "mode": "token", "identity": token });
    let answer = system(&app, "SystemDeleteUserProfiles", by_token.clone()).await;
    assert_eq!(answer.error(400), "Missing API request parameters: tenantid");
    let mut in_acme = by_token.clone();
    in_acme["tenantname"] = json!("acme");
    assert_eq!(system(&app, "SystemDeleteUserProfiles", in_acme).await.ok()["total"], 0);
    let mut in_gamma = by_token;
    in_gamma["tenantname"] = json!("gamma");
    assert_eq!(system(&app, "SystemDeleteUserProfiles", in_gamma).await.ok()["total"], 1);
    assert_eq!(app.count(&c.schema(), "profiles").await, 0);
}

#[tokio::test]
async fn a_deleted_record_is_restored_in_its_last_version_under_its_old_token() {
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
    // It is restored in its own tenant only.
    let in_beta = restore(json!({ "tenantid": b.number })).await;
    assert_eq!(in_beta.error(404), "The user record was not found");
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
    let successor = a.add(json!({ "email": "ada@example.com" })).await;
    let refused = restore(json!({ "tenantname": "acme" })).await;
    assert_eq!(refused.error(409), "Duplicate index: email");
    a.admin.about("UserDelete", "token", &successor).await.ok();

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
async fn a_restored_record_keeps_its_expiry_and_an_expired_one_is_not_restored() {
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
    // The record ends at its final time, in two days, and not at its sliding time, in three.
    let later = read.body["expirationtime"].as_i64().unwrap() - end;
    assert!((later - 7 * 86_400).abs() < 600, "{later}");
    app.clock.advance(Duration::days(3));
    // An expired record is not restored, whether or not it was deleted before or is still in the table.
    assert_eq!(restore().await.error(404), "The user record was not found");
    assert_eq!(app.count(&tenant.schema(), "profile_versions").await, 0);
}

#[expect(clippy::too_many_lines, reason = "a table of cases, best read whole")]
#[tokio::test]
async fn every_system_call_needs_the_main_tenant_and_an_unlock_and_is_audited_even_if_refused() {
    let app = TestApp::spawn().await;
    let (tenant, _, _) = three_tenants(&app).await;
    let root = app.bunker_root();
    let (tenants_unlock, mut root_unlock) = (tenant.admin.unlock().await, root.unlock().await);
    let mut expected: Vec<(&str, String, bool, Option<&str>)> = Vec::new();
    let audit = "SELECT count(*) FROM audit_events WHERE action LIKE 'system.%'";
    let sql = app.sql().await;
    let mut written: i64 = sql.query_one(audit, &[]).await.unwrap().get(0);
    for (call, action) in SYSTEM_CALLS {
        let with = |unlock: &str| json!({ "mode": "login", "identity": "unlisted", "token": tenant.id, "tenantname": "acme", "unlockuuid": unlock });
        let cases: [(&Bunker, Value, u16, Option<&str>); 5] = [
            // A tenant's token is refused with any unlock.
            (&tenant.admin, with(&tenants_unlock), 403, Some("forbidden")),
            (&tenant.admin, with(&root_unlock), 403, Some("forbidden")),
            (&root, with(&tenants_unlock), 403, Some("unauthenticated")),
            (&root, json!({}), 403, Some("unauthenticated")),
            (
                &root,
                with(&root_unlock),
                if action == "system.restore_profile" { 404 } else { 200 },
                None,
            ),
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
        // Authorization precedes the reading of the body: 403 for an unreadable body, and an audit event.
        for (caller, label) in [(&tenant.admin, MAIN_ONLY), (&root, BAD_UNLOCK)] {
            let answer = caller.send(&format!("/v2/{call}"), "application/json", "{").await;
            assert_eq!(answer.error(403), label);
            written += 1;
            let actor = if label == BAD_UNLOCK { "root" } else { "token" };
            let refusal = if label == BAD_UNLOCK { "unauthenticated" } else { "forbidden" };
            expected.push((action, actor.to_owned(), false, Some(refusal)));
        }
        app.clock.advance(Duration::seconds(61));
        let stale = root.call(call, with(&root_unlock)).await;
        assert_eq!(stale.error(403), BAD_UNLOCK);
        expected.push((action, "root".to_owned(), false, Some("unauthenticated")));
        written += 1;
        root_unlock = root.unlock().await;
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
    let names = "SELECT count(*) FROM audit_events e WHERE e::text LIKE '%unlisted%'";
    assert_eq!(
        sql.query_one(names, &[]).await.unwrap().get::<_, i64>(0),
        0,
        "audit events do not hold the identity"
    );
}

/// Fails unless this is the error of a call across tenants that could not ask all of them.
#[track_caller]
fn assert_incomplete(answer: &Answer) {
    assert_eq!((answer.status, &answer.body["status"]), (503, &json!("error")), "{answer:?}");
    let message = answer.body["message"].as_str().expect("an error has a message");
    assert!(message.contains("could not be asked"), "{answer:?}");
    assert!(answer.retry_after() >= 1, "{answer:?}");
}

#[tokio::test]
async fn an_unavailable_tenant_is_reported_and_the_others_are_served() {
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
        assert_incomplete(&answer);
        assert_eq!(answer.body["errors"], errors, "{call}");
        assert_eq!(answer.body["total"], 1, "{call}");
        assert_eq!(answer.body["rows"][0]["tenantname"], "beta", "{call}");
        assert!(
            !answer.text.contains("profiles\""),
            "the answer reveals nothing of the database: {}",
            answer.text
        );
    }
    let stats = app.bunker_root().call("SystemGetSystemStats", json!({})).await;
    assert_incomplete(&stats);
    assert_eq!(stats.body["errors"], errors);
    // If the call names the unavailable tenant, the whole call fails.
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
    // A tenant that is suspended is left out on purpose, and makes no result incomplete.
    let answer = system(&app, "SystemGetUserProfiles", ada()).await;
    assert_eq!(answer.ok()["errors"], json!([error(&c, "The tenant is not active")]));
}

#[tokio::test]
async fn a_locked_tenant_is_reported_after_the_lock_timeout_and_the_others_are_served() {
    let app = TestApp::builder().with("database.lock_timeout", "300ms").spawn().await;
    let (a, _, _) = three_tenants(&app).await;
    let mut sql = app.sql().await;
    let lock = sql.transaction().await.unwrap();
    lock.batch_execute(&format!("LOCK TABLE {}.profiles IN ACCESS EXCLUSIVE MODE", a.schema()))
        .await
        .unwrap();
    let answer = system(&app, "SystemGetUserProfiles", ada()).await;
    assert_incomplete(&answer);
    assert_eq!((&answer.body["total"], answer.retry_after()), (&json!(1), 1));
    assert_eq!(answer.body["errors"][0]["tenantname"], "acme");
    // A call inside the locked tenant is answered 503, and no connection is lost.
    let update = json!({ "mode": "login", "identity": "ada", "profile": { "n": 1 } });
    let updates = (0..12).map(|_| a.admin.call("UserUpdate", update.clone()));
    for refused in futures_util::future::join_all(updates).await {
        refused.error(503);
    }
    lock.rollback().await.unwrap();
    a.admin.get("ada@example.com").await.ok();
}

#[tokio::test]
async fn the_system_statistics_count_all_tenants() {
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
async fn the_main_tenant_is_found_by_the_name_in_the_answers() {
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
