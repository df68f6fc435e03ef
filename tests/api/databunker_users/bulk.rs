//! Calls on many records: `UserCreateBulk`, `UserDeleteBulk` and the entries that they skip, and `UserSearch`.

use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::bunker::redacted;

#[tokio::test]
async fn a_bulk_create_stores_the_valid_records_and_reports_the_others() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant.add(json!({ "email": "taken@example.com", "login": "taken" })).await;
    let profiles = [
        json!({ "email": "one@example.com", "name": "é" }),
        json!({ "email": "Taken@example.com" }),
        json!({ "email": "two@example.com", "login": "twin" }),
        json!({ "email": "three@example.com", "login": "twin" }),
        json!("no object"),
        json!({ "email": ["x"] }),
        json!({ "phone": 4711 }),
        json!({ "a": "b\0" }),
    ];
    let mut records: Vec<Value> =
        profiles.iter().map(|p| json!({ "profile": p, "groupname": "g" })).collect();
    records.push(json!({ "groupid": 1 }));
    records.push(json!("neither"));
    let options = json!({ "records": records, "finaltime": "1y", "slidingtime": "30d" });
    let answer = tenant.admin.call("UserCreateBulk", options).await;
    let created = |at: usize| json!({ "token": "<uuid>", "profile": profiles[at] });
    let error = |at: usize, reason: &str| json!({ "profile": profiles[at], "reason": reason });
    let missing = json!({ "profile": null, "reason": "Missing API request parameters: profile" });
    assert_eq!(
        redacted(answer.ok()),
        json!({
            "status": "ok",
            "created": [created(0), created(2), created(6)],
            "errors": [
                error(1, "Duplicate index: email"),
                error(3, "Duplicate index: login"),
                error(4, "The profile parameter has an incorrect format"),
                error(5, "The email parameter has an incorrect format"),
                error(7, "The profile parameter holds characters that cannot be stored"),
                missing, missing,
            ],
        })
    );
    let stored = tenant.admin.get("one@example.com").await;
    assert_eq!(stored.ok()["token"], answer.body["created"][0]["token"]);
    assert_eq!(
        (&stored.body["finaltime"], &stored.body["slidingtime"]),
        (&json!("1y"), &json!("30d"))
    );
    assert!(stored.body["expirationtime"].is_i64(), "{stored:?}");
    for table in ["profiles", "profile_versions", "profile_events"] {
        assert_eq!(app.count(&tenant.schema(), table).await, 4, "{table}");
    }
    for (records, message) in [
        (json!([]), "Missing API request parameters: records"),
        (json!(null), "Missing API request parameters: records"),
        (json!({}), "The records parameter has an incorrect format"),
    ] {
        let answer = tenant.admin.call("UserCreateBulk", json!({ "records": records })).await;
        assert_eq!(answer.error(400), message);
    }
}

#[tokio::test]
async fn ten_thousand_records_are_stored_listed_and_deleted_in_one_call_each() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let records: Vec<Value> =
        (0..10_000).map(|n| json!({ "profile": { "login": format!("user-{n}") } })).collect();
    let answer = tenant.admin.call("UserCreateBulk", json!({ "records": records })).await;
    assert_eq!(answer.ok()["created"].as_array().map(Vec::len), Some(10_000));
    let users: Vec<Value> =
        (0..10_000).map(|n| json!({ "mode": "login", "identity": format!("user-{n}") })).collect();
    let unlockuuid = tenant.admin.unlock().await;
    let list = json!({ "users": users, "unlockuuid": unlockuuid });
    assert_eq!(tenant.admin.call("BulkListUsers", list).await.ok()["total"], 10_000);
    let answer = tenant.admin.call("UserDeleteBulk", json!({ "users": users })).await;
    assert_eq!(answer.ok(), &json!({ "status": "ok", "deleted_count": 10_000 }));
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 0);
    assert_eq!(app.count(&tenant.schema(), "profile_events").await, 20_000);
}

#[tokio::test]
async fn a_bulk_delete_skips_unknown_records_and_refuses_unreadable_criteria() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    let token = tenant.add(json!({ "email": "ada@example.com" })).await;
    tenant.add(json!({ "email": "bob@example.com" })).await;
    tenant.add(json!({ "login": "carol" })).await;
    let delete = |users: Value| tenant.admin.call("UserDeleteBulk", json!({ "users": users }));
    for (bad, message) in [
        (json!([]), "Missing API request parameters: users"),
        (json!(["ada"]), "The users parameter has an incorrect format"),
        (
            json!([{ "mode": "email", "identity": "bob@example.com" }, { "mode": "name", "identity": "x" }]),
            "The mode parameter has an incorrect format",
        ),
    ] {
        assert_eq!(delete(bad).await.error(400), message);
    }
    assert_eq!(app.count(&tenant.schema(), "profiles").await, 3);
    let person = |mode: &str, identity: &str| json!({ "mode": mode, "identity": identity });
    let answer = delete(json!([
        person("token", &token),
        person("email", "ada@example.com"), // the same record
        person("login", "carol"),
        person("phone", "unknown"),
    ]))
    .await;
    assert_eq!(answer.ok()["deleted_count"], 2);
    tenant.admin.get("bob@example.com").await.ok();
    let stale = json!({ "users": [person("email", "bob@example.com")], "unlockuuid": token });
    assert_eq!(
        tenant.admin.call("UserDeleteBulk", stale).await.error(403),
        "The unlockuuid value was not found or is not valid"
    );
}

#[tokio::test]
async fn a_search_matches_the_text_literally_and_returns_the_total() {
    let app = TestApp::spawn().await;
    let tenant = app.bunker_tenant("acme").await;
    tenant
        .add(json!({ "email": "ada@example.com", "login": "Ada%_1", "phone": "+44 20-7946" }))
        .await;
    tenant.add(json!({ "email": "bob@Example.com", "custom": "it's \"him\" \\ ÄÖ" })).await;
    let unlockuuid = tenant.admin.unlock().await;
    let search = |text: &str| {
        // The vendor's page shows a mode, which the search ignores.
        let body = json!({ "mode": "fuzzy", "identity": text, "unlockuuid": unlockuuid });
        tenant.admin.call("UserSearch", body)
    };
    for (text, total) in [
        ("@example.COM", 2),
        ("ada@", 1),
        ("ADA", 1),
        ("%", 1),
        ("_", 1),
        ("a%1", 0),
        ("t's \"h", 1),
        ("\\", 1),
        ("ÄÖ", 1),
        ("20 79", 1),
        ("+44 (20)", 1),
        ("-", 0),
        ("example", 0), // without an @ it is not searched in addresses
    ] {
        let answer = search(text).await;
        assert_eq!(answer.ok()["total"], total, "{text}: {answer:?}");
        assert_eq!(answer.body["rows"].as_array().map(Vec::len), Some(total), "{text}");
    }
    let row = &search("ada@").await.body["rows"][0];
    assert_eq!((&row["profile"]["login"], &row["version"]), (&json!("Ada%_1"), &json!(1)));
    let long = "x".repeat(513);
    for (text, message) in [
        ("", "Missing API request parameters: identity"),
        ("  ", "Missing API request parameters: identity"),
        ("a\0", "The identity parameter holds characters that cannot be stored"),
        (long.as_str(), "The identity parameter is longer than 512 characters"),
    ] {
        assert_eq!(search(text).await.error(400), message);
    }
    let records: Vec<Value> =
        (0..105).map(|n| json!({ "profile": { "login": format!("many{n}") } })).collect();
    tenant.admin.call("UserCreateBulk", json!({ "records": records })).await.ok();
    let answer = search("many").await;
    assert_eq!(
        (&answer.ok()["total"], answer.body["rows"].as_array().map(Vec::len)),
        (&json!(105), Some(100))
    );
}
